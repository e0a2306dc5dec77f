"""What tools/mutate.py changes: one small fault at a time, in the code (not the comments) of a Solidity file."""

import re
from dataclasses import dataclass

SKIPPED = re.compile(r"^\s*(import|pragma|event|error|using|library|contract|abstract|interface|struct|enum|mapping)\b")
STATEMENT = re.compile(r"^\s*(?=\S)(?!return\b|\}|for\b|let\b|else\b|assembly\b|switch\b|case\b|default\b)[^{}]*;\s*$")
DECLARATION = re.compile(
    r"^\s*(\(?(u?int\d*|bool|address|bytes\d*|string|[A-Z]\w*(\.\w+)?)(\[\])?( memory| calldata| storage)? \w+\b"
    r"|.*\b(constant|immutable|mapping)\b)"
)
SWAPS = [
    ("t.renter", "t.provider"),
    ("signatures.renter", "signatures.provider"),
    ("RENTER_DISPUTES", "PROVIDER_DISPUTES"),
    ("claimSecs", "creditSecs"),
    ("renterSigned", "providerSigned"),
    ("s.net", "s.fee"),
    ("billedSecs", "clockSecs"),
    ("settled", "billed"),
    ("isRenter", "isProvider"),
    ("DISPUTE_WINDOW", "ARBITRATION"),
]
COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
ARITHMETIC = {"+": "-", "-": "+", "*": "/", "/": "*", "+=": "-=", "-=": "+=", "<<": ">>", ">>": "<<", "&": "|", "|": "&"}
MODIFIERS = ("nonReentrantView", "nonReentrant", "onlyOwner", "onlyOperator", "onlyGuardianOrOwner")
ENUMS = {
    "Status": ["None", "Locked", "Active", "Contested", "Closed"],
    "Outcome": [
        "Cancelled", "Reclaimed", "StoppedByRenter", "StoppedByProvider", "Exhausted", "ClosedByOperator", "Agreed",
        "Conceded", "Resolved", "Undisputed", "Defaulted",
    ],
    "Change": ["ListToken", "AddOperator", "SetTreasury", "SetArbiter", "SetGuardian"],
}


@dataclass(frozen=True)
class Mutant:
    file: str
    start: int
    end: int
    text: str
    kind: str
    line: int
    before: str
    after: str

    @property
    def key(self) -> str:
        return f"{self.file}:{self.start}-{self.end}:{self.kind}:{self.text}"


def blank(source: str) -> str:
    """The source with comments and strings blanked out, every other character where it was."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"[^"\n]*"', re.S)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), source)


def mutants(file: str, source: str) -> list[Mutant]:
    code = blank(source)
    found: dict[tuple[int, int, str], Mutant] = {}

    def add(start: int, end: int, text: str, kind: str) -> None:
        if source[start:end] == text or (start, end, text) in found:
            return
        line = source.count("\n", 0, start) + 1
        first = source.rfind("\n", 0, start) + 1
        last = source.find("\n", end)
        before = " ".join(source[first:last].split())
        after = " ".join((source[first:start] + text + source[end:last]).split())
        found[start, end, text] = Mutant(file, start, end, text, kind, line, before, after)

    at = 0
    for row in code.splitlines(keepends=True):
        if not SKIPPED.match(row):
            _line(row, at, add)
        at += len(row)
    _statements(code, add)
    return sorted(found.values(), key=lambda m: (m.start, m.end, m.text))


def _line(row: str, at: int, add) -> None:
    for match in re.finditer(r"(?<= )(<=|>=|==|!=|<|>)(?= )", row):
        add(at + match.start(), at + match.end(), COMPARISONS[match.group()], "comparison")
        if match.group() in ("<=", ">=", "<", ">"):
            add(at + match.start(), at + match.end(), "==", "comparison")
    for match in re.finditer(r"(?<= )(\+=|-=|<<|>>|\+|-|\*|/|&|\|)(?= )", row):
        add(at + match.start(), at + match.end(), ARITHMETIC[match.group()], "arithmetic")
    for match in re.finditer(r"&&|\|\|", row):
        add(at + match.start(), at + match.end(), "||" if match.group() == "&&" else "&&", "logic")
    # A unit of gas more or less for a foreign call shows in no outcome.
    if "_GAS = " not in row:
        for match in re.finditer(r"(?<![\w.])(0x[0-9a-f]{1,4}|\d[\d_]*)(?![\w.])", row):
            value = int(match.group().replace("_", ""), 0)
            for changed in {value + 1, max(value - 1, 0)}:
                add(at + match.start(), at + match.end(), str(changed), "constant")
    for match in re.finditer(r"\b(true|false)\b", row):
        add(at + match.start(), at + match.end(), "false" if match.group() == "true" else "true", "constant")
    for match in re.finditer(r"\b(Status|Outcome|Change)\.(\w+)", row):
        names = ENUMS[match.group(1)]
        if match.group(2) in names:
            other = names[(names.index(match.group(2)) + 1) % len(names)]
            add(at + match.start(), at + match.end(), f"{match.group(1)}.{other}", "enum")
    for one, other in SWAPS:
        pair = re.compile(rf"(?<![\w.])({re.escape(one)}|{re.escape(other)})\b")
        for match in pair.finditer(row):
            if not DECLARATION.match(row) or "=" in row[: match.start()]:
                add(at + match.start(), at + match.end(), other if match.group() == one else one, "swap")
    for match in re.finditer(r"\b(" + "|".join(MODIFIERS) + r")\b(?!\s*\()", row):
        if "modifier" not in row:
            add(at + match.start(), at + match.end(), "", "modifier")
    for match in re.finditer(r"\? ([^:?]+) : ([^;?:,()]+|[^;?:,]+\))(?=;|\))", row):
        add(at + match.start(), at + match.end(), f"? {match.group(2)} : {match.group(1)}", "ternary")
    for match in re.finditer(r"\bif \(", row):
        end = _closing(row, match.end() - 1)
        if end is not None:
            inner = row[match.end() : end]
            add(at + match.end(), at + end, f"!({inner})", "condition")


def _statements(code: str, add) -> None:
    """Removes whole statements: those of one line, and `emit`s and calls that span several."""
    at = 0
    for row in code.splitlines(keepends=True):
        text = row.rstrip()
        if STATEMENT.match(text) and not SKIPPED.match(text) and not DECLARATION.match(text) and _is_balanced(text):
            begin = at + len(text) - len(text.lstrip())
            add(begin, at + len(text), "", "statement")
        at += len(row)
    for match in re.finditer(r"(?m)^\s*(emit \w+|_\w+)\((?=\s*$)", code):
        end = _closing(code, match.end() - 1)
        if end is not None and code[end + 1 : end + 2] == ";":
            begin = match.start() + len(match.group()) - len(match.group().lstrip())
            add(begin, end + 2, "", "statement")


def _is_balanced(text: str) -> bool:
    return text.count("(") == text.count(")") and not text.lstrip().startswith((")", "?", ":", "&&", "||", "|", "+"))


def _closing(text: str, opening: int) -> int | None:
    depth = 0
    for index in range(opening, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return index
    return None
