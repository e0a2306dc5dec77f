#!/usr/bin/env python3
"""cvc5 behind the call that halmos makes of a solver: cvc5_smt2.py FILE.smt2.

Words are taken for bounded integers, so that products and quotients of 96 bits are decided at once.
Prints sat with a model, unsat, or unknown.
"""

import sys

import cvc5


def main(path: str) -> int:
    solver = cvc5.Solver(cvc5.TermManager())
    solver.setOption("solve-bv-as-int", "sum")
    solver.setOption("nl-cov", "true")
    solver.setOption("produce-models", "true")
    # Halmos bounds the time too; this ends the process also where halmos was killed.
    solver.setOption("tlimit-per", "120000")
    parser = cvc5.InputParser(solver)
    parser.setFileInput(cvc5.InputLanguage.SMT_LIB_2_6, path)
    symbols = parser.getSymbolManager()
    while True:
        command = parser.nextCommand()
        if command.isNull():
            return 0
        answer = str(command.invoke(solver, symbols) or "").strip()
        if answer:
            print(answer, flush=True)
        if answer in ("unsat", "unknown"):
            return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
