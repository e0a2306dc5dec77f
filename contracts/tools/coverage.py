#!/usr/bin/env python3
"""Reads an lcov report, prints lines, branches and functions of each file of src, and fails where a branch is untaken.

    tools/coverage.py FILE
"""

import sys
from collections import defaultdict
from pathlib import Path


def read(path: Path) -> dict[str, dict[str, dict[str, int]]]:
    """Hits by file, kind, and what was hit; the same line or branch may be reported several times."""
    hits: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(int)))
    file = ""
    for row in path.read_text().splitlines():
        kind, _, rest = row.partition(":")
        if kind == "SF":
            file = rest
        elif kind == "DA":
            line, count = rest.split(",")[:2]
            hits[file]["lines"][line] += int(count)
        elif kind == "BRDA":
            where, count = rest.rsplit(",", 1)
            hits[file]["branches"][where] += 0 if count == "-" else int(count)
        elif kind == "FNDA":
            count, name = rest.split(",", 1)
            hits[file]["functions"][name] += int(count)
    return hits


def share(found: dict[str, int]) -> str:
    taken = sum(1 for count in found.values() if count)
    return f"{taken}/{len(found)}"


def main(path: str) -> int:
    report = read(Path(path))
    files = sorted(file for file in report if file.startswith("src/"))
    if not files:
        print(f"coverage: {path} says nothing of src")
        return 1
    print(f"{'file':28} {'lines':>11} {'branches':>11} {'functions':>11}")
    untaken = []
    for file in files:
        kinds = report[file]
        print(f"{file:28} {share(kinds['lines']):>11} {share(kinds['branches']):>11} {share(kinds['functions']):>11}")
        untaken += [(file, int(where.split(",")[0])) for where, count in kinds["branches"].items() if not count]
    branches = [count for file in files for count in report[file]["branches"].values()]
    for file, line in sorted(set(untaken)):
        print(f"coverage: a branch is never taken: {file}:{line}")
    taken = sum(1 for count in branches if count)
    print(f"coverage: {taken} of {len(branches)} branches ({100 * taken / len(branches):.2f} %)")
    return 1 if untaken or not branches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
