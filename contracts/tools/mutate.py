#!/usr/bin/env python3
"""Mutation testing of the contracts: makes one small fault at a time in src, and looks whether a test fails.

Each mutant is compiled alone, by a compiler that stays warm, and handed to the tests through ESCROW_ARTIFACTS (test/Fixture.sol), so the tests are
compiled once. Tests that link a library directly (Split, Slot) do not see it that way: a mutant of those that
survives is compiled anew with these tests. Not counted: what does not compile or compiles to the same bytecode,
and what test/mutation-equivalent.json lists with a reason. Works in cache/mutation, on a copy of the tree.

Exit status 0 if at least MIN_SCORE of the mutants are killed.
"""

import argparse
import concurrent.futures as futures
import json
import os
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mutate_ops import Mutant, mutants

MIN_SCORE = 95.0
ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "cache" / "mutation"
RESULTS = WORK / "results.json"
# What the tests read beside contracts/.
VECTORS = Path("crates") / "escrow" / "tests" / "vectors"
EQUIVALENT = ROOT / "test" / "mutation-equivalent.json"
# Rules, not code; and the interfaces of others.
UNMUTATED = re.compile(r"^I[A-Z]")
# Where the bytecode is handed in; only these are deployed.
DEPLOYED = ("Escrow", "Lens")
LIBRARY_TESTS = {"Split.sol": "test/Split.t.sol", "Slot.sol": "test/Slot.t.sol", "WalletProbe.sol": "test/WalletProbe.t.sol"}
# These see no mutant (libraries linked into the tests, price lists), or see any change at all (gas).
BLIND = "^(SplitTest|SlotTest|PriceListGasTest|GasTest)$"
SLOW = "|MarketTest|InvariantsTest|StatesTest|BatchCapTest"
COMPILE_LIMIT = 240
COMPILES_PER_SERVER = 150
TEST_LIMIT = 240
PROFILE = """
[profile.mutant]
test = "test/mocks"
out = "mutant/out"
cache_path = "mutant/cache"

[profile.mutation]
fs_permissions = [
    { access = "read", path = "mutant" },
    { access = "read", path = "test/states.json" },
    { access = "read", path = "../crates/escrow/tests/vectors" },
]
no_match_contract = "%s"

[profile.mutation.fuzz]
runs = 32
failure_persist_dir = "mutant/failures"

[profile.mutation.invariant]
runs = 8
depth = 64
fail_on_revert = true
failure_persist_dir = "mutant/failures"
""" % BLIND


def run(command: list[str], folder: Path, limit: int, **env: str) -> tuple[int, str]:
    """Exit status, 124 where it took too long, and output; the process group does not outlive it."""
    process = subprocess.Popen(
        command, cwd=folder, env={**os.environ, **env}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    try:
        output, _ = process.communicate(timeout=limit)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return 124, ""


class Worker:
    """A copy of the tree with the tests compiled, in which mutants are tried one after another."""

    def __init__(self, folder: Path, forge: str):
        self.folder = folder
        self.forge = forge
        self.compiler: subprocess.Popen | None = None
        self.compiled = 0

    def prepare(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for name in ("src", "test", "tools"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__", "symbolic"))
        shutil.copytree(ROOT.parent / VECTORS, self.folder.parent / VECTORS, dirs_exist_ok=True)
        shutil.copy(ROOT / "foundry.toml", self.folder)
        (self.folder / "node_modules").symlink_to(ROOT / "node_modules")
        with open(self.folder / "foundry.toml", "a", encoding="utf-8") as config:
            config.write(PROFILE)

    def compile_tests(self) -> None:
        """All of them: forge compiles anew at each run what a filter left out."""
        status, output = run([self.forge, "build"], self.folder, COMPILE_LIMIT, FOUNDRY_PROFILE="mutation")
        if status != 0:
            raise SystemExit(f"mutate.py: the tests do not compile:\n{output[-3000:]}")

    def warm_compiler(self) -> dict[str, str]:
        """Starts the compiler where it is not running, and anew now and then: its memory only grows. What forge must know."""
        # A socket's path must be short.
        socket = Path(tempfile.gettempdir()) / f"weir-solc-{os.getpid()}-{id(self)}"
        self.compiled += 1
        if self.compiler is None or self.compiled % COMPILES_PER_SERVER == 0:
            self.stop()
            self.compiler = subprocess.Popen([ROOT / "tools" / "solc", "--serve", socket])
            for _ in range(100):
                if socket.exists():
                    break
                time.sleep(0.1)
        return {"SOLC_SERVER": str(socket)}

    def stop(self) -> None:
        if self.compiler is not None:
            self.compiler.terminate()
            self.compiler.wait()
        self.compiler = None
        (Path(tempfile.gettempdir()) / f"weir-solc-{os.getpid()}-{id(self)}").unlink(missing_ok=True)

    def clone(self, folder: Path) -> "Worker":
        shutil.rmtree(folder.parent, ignore_errors=True)
        shutil.copytree(self.folder.parent, folder.parent, symlinks=True)
        return Worker(folder, self.forge)

    def build(self) -> dict[str, str] | None:
        """The bytecode of what is deployed; None if it does not compile."""
        env = {"FOUNDRY_PROFILE": "mutant", **self.warm_compiler()}
        status, output = run([self.forge, "build"], self.folder, COMPILE_LIMIT, **env)
        if status != 0 and "Compiler run failed" not in output:
            # Not the mutant's fault: the compiler itself, perhaps. Once more, with a new one.
            self.stop()
            status, _ = run([self.forge, "build"], self.folder, COMPILE_LIMIT, **{**env, **self.warm_compiler()})
        if status != 0:
            return None
        code = {}
        for name in DEPLOYED:
            artifact = self.folder / "mutant" / "out" / f"{name}.sol" / f"{name}.json"
            if artifact.exists():
                code[name] = json.loads(artifact.read_text())["bytecode"]["object"]
        return code

    def test(self, *args: str) -> bool:
        """Whether all tests pass; one that hangs does not."""
        shutil.rmtree(self.folder / "mutant" / "failures", ignore_errors=True)
        env = {"FOUNDRY_PROFILE": "mutation", "ESCROW_ARTIFACTS": "mutant/out"}
        status, output = run([self.forge, "test", "--fail-fast", *args], self.folder, TEST_LIMIT, **env)
        if status not in (0, 124) and "test suites in" not in output and "FAIL" not in output:
            raise SystemExit(f"mutate.py: the tests did not run:\n{output[-3000:]}")
        return status == 0

    def judge(self, mutant: Mutant, original: dict[str, str]) -> str:
        file = self.folder / "src" / mutant.file
        source = file.read_text()
        # The tests are not to be compiled anew: forge looks at what the file holds, not at its age.
        file.write_text(source[: mutant.start] + mutant.text + source[mutant.end :])
        try:
            code = self.build()
            if code is None:
                return "invalid"
            if code == original and mutant.file not in LIBRARY_TESTS:
                return "same"
            same = code == original
        finally:
            file.write_text(source)
        # Cheap tests first: most mutants die there.
        if not same:
            if not self.test("--no-match-contract", BLIND[:-2] + SLOW + ")$") or not self.test():
                return "killed"
        if mutant.file not in LIBRARY_TESTS:
            return "survived"
        return self.judge_by_library_tests(mutant, same)

    def judge_by_library_tests(self, mutant: Mutant, same: bool) -> str:
        file = self.folder / "src" / mutant.file
        source = file.read_text()
        file.write_text(source[: mutant.start] + mutant.text + source[mutant.end :])
        try:
            # Only this file and what it needs is compiled, out of the way of the other tests' artefacts.
            env = {"FOUNDRY_OUT": "mutant/unit", "FOUNDRY_CACHE_PATH": "mutant/unit-cache"}
            command = [self.forge, "test", "--fail-fast", "--match-path", LIBRARY_TESTS[mutant.file]]
            status, output = run(command, self.folder, COMPILE_LIMIT, **env)
        finally:
            file.write_text(source)
        if "Compiler run failed" in output:
            return "invalid"
        if status != 0:
            return "killed"
        # The probe is in no bytecode that was compared.
        return "same" if same and mutant.file != "WalletProbe.sol" else "survived"


def chosen(options: argparse.Namespace) -> list[Mutant]:
    files = sorted(f for f in (ROOT / "src").rglob("*.sol") if not UNMUTATED.match(f.name))
    if options.files:
        files = [f for f in files if f.name in options.files or f.stem in options.files]
        if not files:
            raise SystemExit("mutate.py: no such file in src")
    found = [m for f in files for m in mutants(str(f.relative_to(ROOT / "src")), f.read_text())]
    if options.sample and options.sample < len(found):
        found = random.Random(options.seed).sample(found, options.sample)
    return found


def equivalents() -> dict[tuple[str, str, str], str]:
    if not EQUIVALENT.exists():
        return {}
    entries = json.loads(EQUIVALENT.read_text())
    for entry in entries:
        if not entry.get("reason"):
            raise SystemExit(f"mutate.py: an entry of {EQUIVALENT.name} has no reason: {entry}")
    return {(e["file"], e["before"], e["after"]): e["reason"] for e in entries}


def report(found: list[Mutant], verdicts: dict[str, str]) -> int:
    known = equivalents()
    count = {"killed": 0, "survived": 0, "invalid": 0, "same": 0, "equivalent": 0}
    survivors = []
    for mutant in found:
        verdict = verdicts[mutant.key]
        if verdict == "survived" and (mutant.file, mutant.before, mutant.after) in known:
            verdict = "equivalent"
        count[verdict] += 1
        if verdict == "survived":
            survivors.append(mutant)
    for mutant in survivors:
        print(f"\nsurvived: src/{mutant.file}:{mutant.line} ({mutant.kind})\n- {mutant.before}\n+ {mutant.after}")
    judged = count["killed"] + count["survived"]
    score = 100.0 * count["killed"] / judged if judged else 0.0
    print(
        f"\nmutation: {score:.1f} % of {judged} killed ({count['survived']} survived, {count['equivalent']} known to be "
        f"equivalent; {count['invalid']} do not compile, {count['same']} compile to the same code)"
    )
    if score < MIN_SCORE:
        print(f"mutation: below {MIN_SCORE:.0f} %")
        return 1
    return 0


def fingerprint() -> str:
    """Of everything that a verdict depends on, so that --resume takes up only what still holds."""
    import hashlib

    digest = hashlib.sha256()
    for folder in ("src", "test"):
        for file in sorted((ROOT / folder).rglob("*.sol")):
            digest.update(file.read_bytes())
    digest.update((ROOT / "foundry.toml").read_bytes())
    return digest.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="+", help="only these files of src, e.g. Split Vault.sol")
    parser.add_argument("--sample", type=int, help="only so many, drawn at random")
    parser.add_argument("--seed", type=int, default=1, help="of --sample")
    parser.add_argument("--list", action="store_true", help="name the mutants and stop")
    parser.add_argument("--resume", action="store_true", help="keep the verdicts of the run before if nothing changed")
    parser.add_argument("--jobs", type=int, default=2, help="mutants tried at a time")
    options = parser.parse_args()
    found = chosen(options)
    if options.list:
        for m in found:
            print(f"src/{m.file}:{m.line} ({m.kind})\n- {m.before}\n+ {m.after}")
        print(f"{len(found)} mutants")
        return 0

    forge = os.environ.get("FORGE") or str(ROOT / "node_modules" / ".bin" / "forge")
    state = {"of": fingerprint(), "verdicts": {}}
    if options.resume and RESULTS.exists():
        kept = json.loads(RESULTS.read_text())
        state = kept if kept["of"] == state["of"] else state
    verdicts = state["verdicts"]
    todo = [m for m in found if m.key not in verdicts]
    if todo:
        base = Worker(WORK / "0" / "contracts", forge)
        base.prepare()
        base.compile_tests()
        original = base.build()
        if not original or not base.test():
            raise SystemExit("mutate.py: the unchanged contracts do not compile or do not pass the tests")
        workers: queue.Queue[Worker] = queue.Queue()
        workers.put(base)
        for index in range(1, max(options.jobs, 1)):
            workers.put(base.clone(WORK / str(index) / "contracts"))

        def judge(mutant: Mutant) -> tuple[Mutant, str]:
            worker = workers.get()
            try:
                return mutant, worker.judge(mutant, original)
            finally:
                workers.put(worker)

        with futures.ThreadPoolExecutor(max(options.jobs, 1)) as pool:
            for done, future in enumerate(futures.as_completed([pool.submit(judge, m) for m in todo]), 1):
                mutant, verdict = future.result()
                verdicts[mutant.key] = verdict
                RESULTS.write_text(json.dumps(state))
                print(f"[{done}/{len(todo)}] {verdict:9} src/{mutant.file}:{mutant.line} ({mutant.kind}) {mutant.after[:90]}", flush=True)
        while not workers.empty():
            workers.get().stop()
    return report(found, verdicts)


if __name__ == "__main__":
    sys.exit(main())
