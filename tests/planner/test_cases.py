"""The golden cases of tests/planner/cases, and the tests of their runner."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from domicile.catalog.errors import DomicileError
from domicile.catalog.names import RegionName
from domicile.catalog.snapshot import Catalog
from domicile.planner import explain, plan, split, split_insert
from domicile.planner.plan import Finish, Plan

from . import goldens
from .goldens import Case

CASES = Path(__file__).parent / "cases"
ALL = [case for path in sorted(CASES.glob("*.sql")) for case in goldens.read(path)]
EU = RegionName("eu")


def render(case: Case, catalog: Catalog) -> tuple[str, str]:
    """What the planner says of the case, and the strategy that it took (`error` for a refusal)."""
    path = tuple(case.options.get("path", "$user,public").split(","))
    values = {int(k[1:]): None if v == "NULL" else v for k, v in case.options.items() if k.startswith("$")}
    try:
        if case.verb == "split":
            return "\n".join(repr(s) for s in split(case.input)), "split"
        made = plan(case.input, catalog, path, case.options.get("role", "app"))
        if case.verb == "split-insert":
            homes = [RegionName(h) for h in case.options["homes"].split(",")]
            lines = [f"{f.region} {list(f.parameters or ())} {f.text}" for f in split_insert(made, homes)]
            return "\n".join(lines), "split"
        lines = [f"{made.kind.name}{' rows' if made.returns_rows else ''}"]
        lines += [line for line in explain(made, catalog, values or None) if "Catalog: version" not in line]
        lines += _texts(made)
        taken = lines[1].removeprefix("Domicile: ").split(" ")[0]
    except DomicileError as error:
        return _error(error), "error"
    return "\n".join(lines), taken


def _error(error: DomicileError) -> str:
    lines = [f"ERROR {error.sqlstate}: {error.message}"]
    for label, text in (("DETAIL", error.detail), ("HINT", error.hint), ("POSITION", error.position)):
        lines += [f"{label}: {text}"] if text else []
    return "\n".join(lines)


def _texts(made: Plan) -> list[str]:
    if isinstance(made.gather, Finish):
        finish = made.gather
        lines = [f"here> {finish.fragments[RegionName('us')]}", f"eu> {finish.fragments[EU]}"]
        lines.append(f"final {list(finish.parameters)}> {finish.final}")
        return lines
    lines = []
    if made.texts:
        try:
            lines.append(f"eu> {made.texts[EU]}")
        except DomicileError as error:
            lines.append(f"eu> {error}")
    if is_dataclass(made.detail) and not made.tables:
        shown = [f"{f.name}={getattr(made.detail, f.name)!r}" for f in fields(made.detail)]
        lines.append(f"detail> {type(made.detail).__name__}({', '.join(shown)})")
    if hasattr(made.detail, "sql"):
        lines.append(f"call> {made.detail.sql}")
    return lines


@pytest.mark.parametrize("path", sorted(CASES.glob("*.sql")), ids=lambda p: p.stem)
def test_cases(path: Path, catalog: Catalog, request: pytest.FixtureRequest) -> None:
    cases = goldens.read(path)
    results, wrong = {}, []
    for case in cases:
        result, taken = render(case, catalog)
        results[case.line] = result
        wanted, unwanted = case.options.get("expect"), case.options.get("expect-not")
        if wanted is not None and taken != wanted:
            wrong.append(f"{case.id}: expected {wanted}, taken was {taken}\n{case.input}\n{result}")
        if unwanted is not None and taken == unwanted:
            wrong.append(f"{case.id}: {taken} must not be taken\n{case.input}\n{result}")
        if wanted is None and unwanted is None and case.verb == "plan":
            wrong.append(f"{case.id}: a case of a plan says what it expects")
        if result != case.expected and not request.config.getoption("--rewrite", default=False):
            wrong.append(f"{case.id}:\n{case.input}\n---- expected\n{case.expected}\n---- found\n{result}")
    if request.config.getoption("--rewrite", default=False):
        goldens.rewrite(path, results)
    assert not wrong, "\n\n".join(wrong)


def test_there_are_cases() -> None:
    assert len(ALL) > 50


# --- the runner ---------------------------------------------------------------------------------------------------


def test_runner_reads_what_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "x.sql"
    text = (
        "# why\nplan expect=route $1=DE\nselect 1,\n  2\n----\nREAD\n  more\n\nplan expect=home\nselect 2\n----\nREAD\n"
    )
    path.write_text(text)
    first, second = goldens.read(path)
    assert (first.input, first.expected, first.line) == ("select 1,\n  2", "READ\n  more", 2)
    assert (second.input, second.options) == ("select 2", {"expect": "home"})
    goldens.rewrite(path, {})
    assert path.read_text() == text
    goldens.rewrite(path, {second.line: "NEW"})
    assert path.read_text() == text.removesuffix("READ\n") + "NEW\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plan expect=route\nselect 1\n", "needs one line"),
        ("plan expect=route\n----\nREAD\n", "no input"),
        ("plan\nselect 1\n----\nREAD\n----\nREAD\n", "needs one line"),
        ("plann\nselect 1\n----\nREAD\n", "unknown directive"),
        ("plan expects=route\nselect 1\n----\nREAD\n", "unknown option"),
        ("# alone\n\nplan expect=route\nselect 1\n----\nREAD\n", "belong to no case"),
    ],
)
def test_runner_rejects(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.sql"
    path.write_text(text)
    with pytest.raises(goldens.BadCase, match=message):
        goldens.read(path)
