#!/usr/bin/env python3
"""The solver that halmos calls: solve.py FILE.smt2. yices, which is quick about bits, and cvc5, which is quick about
sums and products because it takes words for bounded integers, both try; the first that knows is believed.
"""

import subprocess
import sys
import threading
from pathlib import Path

LIMIT = 120
HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent


def main(path: str) -> int:
    commands = [
        [str(BIN / "yices-smt2"), "--smt2-model-format", "--bvconst-in-decimal", path],
        [sys.executable, str(HERE / "cvc5_smt2.py"), path],
    ]
    running = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for c in commands]
    answers: list[str] = []
    known = threading.Semaphore(0)

    def listen(process: subprocess.Popen) -> None:
        output, _ = process.communicate()
        if output.startswith(("sat", "unsat")):
            answers.append(output)
        known.release()

    for process in running:
        threading.Thread(target=listen, args=(process,), daemon=True).start()
    for _ in running:
        if not known.acquire(timeout=LIMIT) or answers:
            break
    for process in running:
        process.kill()
    print(answers[0] if answers else "unknown", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
