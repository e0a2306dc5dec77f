#!/usr/bin/env python3
"""Holds slither's findings against the explanations in slither.md: analyse.py FINDINGS.json SLITHER.md [--list].

A finding is named by its detector and the function it is in, as `detector: Contract.function`, so that an explanation
outlives a change of line numbers and a second finding of the kind elsewhere is new.
"""

import json
import re
import sys
from pathlib import Path

LEVELS = ("High", "Medium")


def place(finding: dict) -> str:
    for element in finding["elements"]:
        if element["type"] in ("function", "variable"):
            parent = element.get("type_specific_fields", {}).get("parent", {})
            if parent.get("type") == "function":
                # A variable within a function.
                return f"{parent['type_specific_fields']['parent']['name']}.{parent['name']}"
            return f"{parent.get('name', '')}.{element['name']}"
    return finding["elements"][0]["name"] if finding["elements"] else "src"


def main(args: list[str]) -> int:
    result = json.loads(Path(args[0]).read_text())
    if not result.get("success"):
        print(f"slither: {result.get('error')}")
        return 1
    explained = set(re.findall(r"^### `(.+)`$", Path(args[1]).read_text(), re.M))
    found: dict[str, dict] = {}
    for finding in result["results"].get("detectors", []):
        if finding["impact"] in LEVELS:
            found[f"{finding['check']}: {place(finding)}"] = finding
    for key in sorted(found):
        if "--list" in args:
            print(f"{found[key]['impact']:7} {key}\n{found[key]['description']}")
        elif key not in explained:
            print(f"slither: new finding ({found[key]['impact']}): {key}\n{found[key]['description']}")
    for key in sorted(explained - found.keys()):
        print(f"slither: slither.md explains what is no longer found: {key}")
    new = found.keys() - explained
    stale = explained - found.keys()
    print(f"slither: {len(found)} findings of high or medium impact, {len(new)} unexplained")
    return 1 if (new or stale) and "--list" not in args else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
