"""Golden cases in files: a directive line, the input, `----`, what is expected; blocks are parted by blank lines.

    # Lines that begin with # before a directive are comments.
    plan expect=route path=sales,public $1=DE
    select * from customers where country = $1
    ----
    READ route
    …

`expect=` names the strategy that must have been taken, `expect-not=` one that must not. `pytest --rewrite` writes what
the planner says into the files: read the diff.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

RULE = "----"


class BadCase(Exception):
    """A block that is not a case; says the file, the line and what is wrong."""


@dataclass
class Case:
    path: Path
    line: int  #: of the directive, from 1
    comments: list[str]
    directive: str
    options: dict[str, str]
    input: str
    expected: str
    verb: str = field(default="plan")

    @property
    def id(self) -> str:
        return f"{self.path.stem}:{self.line}"

    def written(self, expected: str) -> str:
        return "\n".join([*self.comments, self.directive, self.input, RULE, expected])


VERBS = ("plan", "regions", "split-insert", "split")


def read(path: Path) -> list[Case]:
    """The cases of a file. Raises BadCase for a block without input, without `----` or with an unknown directive."""
    cases, lines = [], path.read_text().split("\n")
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        start = at
        while at < len(lines) and lines[at].strip():
            at += 1
        cases.append(_case(path, start + 1, lines[start:at]))
    return cases


def _case(path: Path, line: int, block: list[str]) -> Case:
    comments = []
    while block and block[0].startswith("#"):
        comments.append(block.pop(0))
        line += 1
    where = f"{path.name}:{line}"
    if not block:
        raise BadCase(f"{where}: comments that belong to no case")
    directive, *rest = block
    verb, *words = shlex.split(directive)
    if verb not in VERBS:
        raise BadCase(f"{where}: unknown directive {verb!r}")
    if rest.count(RULE) != 1:
        raise BadCase(f"{where}: a case needs one line of {RULE!r} between input and result")
    rule = rest.index(RULE)
    if rule == 0:
        raise BadCase(f"{where}: no input before {RULE!r}")
    options = {}
    for word in words:
        name, found, value = word.partition("=")
        if not found or not (name in ("expect", "expect-not", "path", "role", "homes") or name[0] == "$"):
            raise BadCase(f"{where}: unknown option {word!r}")
        options[name] = value
    return Case(path, line, comments, directive, options, "\n".join(rest[:rule]), "\n".join(rest[rule + 1 :]), verb)


def rewrite(path: Path, results: dict[int, str]) -> None:
    """Writes the file anew with the results by line of directive; other cases stay as they are."""
    cases = read(path)
    text = "\n\n".join(case.written(results.get(case.line, case.expected)) for case in cases) + "\n"
    path.write_text(text)
