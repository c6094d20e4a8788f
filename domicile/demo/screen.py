"""How the tour looks: rich where the terminal can, plain where it can't, never wider than a page.

Knows nothing of databases. Colour, boxes and bars give way by themselves: to NO_COLOR, to a pipe, to an encoding
without them, to a narrow window.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markdown import Markdown
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.spinner import Spinner
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

WIDTH_MAX = 100
ROWS_MAX = 10
CELL_MAX = 44
BAR_MAX = 40
BAR_MIN = 12  #: shorter ones say little: then notes stand below
NARROW = 70

OURS = "bold green"
NAIVE = "yellow"
QUIET = "dim"


@dataclass(frozen=True, slots=True)
class Bar:
    label: str
    milliseconds: float
    note: str = ""
    ours: bool = False


class Screen:
    def __init__(self, out: TextIO | None = None, *, interactive: bool | None = None) -> None:
        """`interactive` None asks the terminal: keys are waited for only where there are some."""
        out = out or sys.stdout
        if hasattr(out, "reconfigure"):
            # A name that the terminal's encoding has no letters for must not end the tour.
            out.reconfigure(errors="replace")
        self.console = Console(file=out, highlight=False, soft_wrap=False)
        size = int(os.environ.get("COLUMNS") or 0) or (self.console.width if out.isatty() else WIDTH_MAX)
        self.console.width = max(40, min(size, WIDTH_MAX))
        self.unicode = (getattr(out, "encoding", None) or "ascii").lower().replace("-", "") == "utf8"
        self.narrow = self.console.width < NARROW
        self.interactive = (out.isatty() and sys.stdin.isatty()) if interactive is None else interactive
        self._box = box.ROUNDED if self.unicode else box.ASCII

    def print(self, what: RenderableType = "") -> None:
        self.console.print(what)

    # --- while things start

    @contextlib.contextmanager
    def progress(self, first: str) -> Iterator[Progress]:
        """Shows what is being done now, and ticks off what is done with the time that it took."""
        steps = Progress(self, first)
        if self.console.is_terminal:
            with Live(steps, console=self.console, refresh_per_second=12, transient=False):
                yield steps
                steps.done()
        else:
            yield steps
            steps.done()

    # --- the tour's own pieces

    def welcome(self, title: str, text: str) -> None:
        body = Markdown(text)
        self.print()
        self.print(Panel(body, title=Text(title, style="bold"), box=self._box, border_style="cyan", padding=(1, 2)))

    def chapter(self, number: int, total: int, title: str, why: str) -> None:
        self.print()
        self.print(
            Rule(
                Text.assemble((f"{number}/{total}  ", QUIET), (title, "bold cyan")),
                characters="─" if self.unicode else "-",
                align="left",
                style="cyan",
            )
        )
        self.print(Padding(Markdown(why), (0, 1)))

    def say(self, text: str) -> None:
        self.print(Padding(Markdown(text), (0, 1)))

    def statement(self, text: str, who: str) -> None:
        code = Syntax(text.strip(), "postgresql", theme="ansi_dark", word_wrap=True, background_color="default")
        self.print()
        if self.narrow:
            self.print(Text(who, style=QUIET))
            self.print(code)
        else:
            title = Text(f" {who} ", style="blue")
            self.print(Panel(code, title=title, title_align="left", box=self._box, border_style="blue", padding=(0, 1)))

    def rows(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A small table; of many rows the first few. A single row that is too wide stands upright, as psql's \\x."""
        shown = [[_text(value) for value in row] for row in rows[:ROWS_MAX]]
        widths = [max([len(c), *(cell_len(r[n]) for r in shown)]) + 3 for n, c in enumerate(columns)]
        if len(shown) == 1 and sum(widths) > self.console.width - 6:
            upright = Table.grid(padding=(0, 2))
            for column, value in zip(columns, rows[0], strict=True):
                upright.add_row(Text(column, style=QUIET), _cell(value))
            self.print(Padding(upright, (1, 3)))
            return
        table = Table(
            box=box.SIMPLE_HEAD if self.unicode else box.ASCII2, pad_edge=not self.unicode, header_style="bold"
        )
        for n, column in enumerate(columns):
            numbers = bool(shown) and all(r[n].replace(",", "").replace(".", "").isdigit() for r in shown)
            table.add_column(
                column, overflow="ellipsis", no_wrap=True, max_width=CELL_MAX, justify="right" if numbers else "left"
            )
        for row in rows[:ROWS_MAX]:
            table.add_row(*(_cell(value) for value in row))
        parts: list[RenderableType] = [table]
        if (more := len(rows) - ROWS_MAX) > 0:
            parts.append(Text(f"and {more:,} more rows", style=QUIET))
        if not rows:
            parts.append(Text("(no rows)", style=QUIET))
        self.print(Padding(Group(*parts), (0, 2)))

    def status(self, text: str) -> None:
        self.print(Padding(Text(text, style="bold"), (0, 2)))

    def error(self, sqlstate: str, message: str, *more: str) -> None:
        """An error as PostgreSQL words it; `more` are its DETAIL and HINT."""
        lines = Text.assemble(("ERROR ", "bold red"), (f"{sqlstate}  ", "red"), message)
        for line in filter(None, more):
            lines.append(f"\n{line}", style=QUIET)
        self.print(Padding(lines, (0, 2)))

    def went_to(self, regions: Sequence[str], milliseconds: float, note: str) -> None:
        line = Text.assemble(
            ("went to ", QUIET), (", ".join(regions), "bold"), (" in ", QUIET), (f"{milliseconds:.1f} ms", "bold")
        )
        line.append(f"  ({note})", style=QUIET)
        self.print(Padding(line, (0, 2)))

    def bars(self, bars: Sequence[Bar]) -> None:
        """Times beside each other, drawn to one scale."""
        longest = max((b.milliseconds for b in bars), default=0.0) or 1.0
        labels = max(cell_len(b.label) for b in bars)
        notes = max(cell_len(b.note) for b in bars)
        room = self.console.width - labels - 20
        width = max(6, min(BAR_MAX, room - notes if room - notes >= BAR_MIN else room))
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        beside = self.console.width - labels - width - 18
        for bar in bars:
            style = OURS if bar.ours else NAIVE
            drawn = ("█" if self.unicode else "#") * max(1, round(bar.milliseconds / longest * width))
            milliseconds = Text(f"{bar.milliseconds:.1f} ms", style="bold")
            fits = cell_len(bar.note) <= beside
            note = Text(bar.note if fits else "", style=QUIET)
            table.add_row(Text(bar.label, style=style), Text(drawn, style=style), milliseconds, note)
            if bar.note and not fits:
                table.add_row("", Text(bar.note, style=QUIET, overflow="ellipsis"), "", "")
        self.print()
        self.print(Padding(table, (0, 2)))

    def claim(self, text: str, holds: bool) -> None:
        mark = ("✔" if holds else "✘") if self.unicode else ("ok" if holds else "NO")
        style = "green" if holds else "bold red"
        self.print(Padding(Text.assemble((f"{mark} ", style), (text, "" if holds else "red")), (0, 2)))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        table = Table(title=title, box=self._box, header_style="bold", title_style="bold")
        for n, column in enumerate(columns):
            table.add_column(column, justify="left" if n == 0 else "right")
        for row in rows:
            table.add_row(*(_cell(value) for value in row))
        self.print()
        self.print(table)

    def pause(self) -> bool:
        """Waits for a key where somebody can press one. False: they want to leave the tour."""
        if not self.interactive:
            return True
        with _keys() as key:
            self.console.print(Text("  any key goes on, q ends the tour ", style="reverse"), end="")
            pressed = key()
        self.console.print("\r" + " " * 40 + "\r", end="")
        return pressed not in ("q", "Q")


class Progress:
    """A list of what was done and what is being done."""

    def __init__(self, screen: Screen, first: str) -> None:
        self._clock = time.monotonic
        self._screen = screen
        self._done: list[tuple[str, float]] = []
        self._now: str | None = first
        self._since = self._begin = self._clock()
        self._spinner = Spinner("dots" if screen.unicode else "line", style="cyan")
        self._begin_line(first)

    def __call__(self, doing: str) -> None:
        """What is done from now on."""
        if self._now == doing:
            return
        self._finish()
        self._now = doing
        self._begin_line(doing)

    def done(self) -> None:
        self._finish()
        self._now = None

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return self._clock() - self._begin

    def _begin_line(self, doing: str) -> None:
        if not self._screen.console.is_terminal:
            self._screen.console.print(f"  {doing} … " if self._screen.unicode else f"  {doing} ... ", end="")

    def _finish(self) -> None:
        if self._now is not None:
            took = self._clock() - self._since
            self._done.append((self._now, took))
            if not self._screen.console.is_terminal:
                self._screen.print(f"{took:.1f} s")
        self._since = self._clock()

    def __rich__(self) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        mark = Text("✔" if self._screen.unicode else "*", style="green")
        for text, seconds in self._done:
            table.add_row(mark, Text(text), Text(f"{seconds:.1f} s", style=QUIET))
        if self._now is not None:
            table.add_row(self._spinner, Text(self._now, style="bold"), "")
        return Padding(table, (0, 2))


def _text(value: object) -> str:
    """As psql shows it, in little room: whole seconds, t and f."""
    match value:
        case None:
            return "NULL"
        case bool():
            return "t" if value else "f"
        case datetime():
            return value.isoformat(" ", "seconds")
        case _:
            return str(value)


def _cell(value: object) -> Text:
    return Text(_text(value), style=QUIET if value is None else "")


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[], str]]:
    """A function that waits for one key, not for a line; what was typed before is forgotten. Ctrl-C stays Ctrl-C."""
    try:
        import termios
        import tty
    except ImportError:  # no Unix: a line must do
        yield lambda: sys.stdin.readline()[:1]
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield lambda: os.read(descriptor, 8).decode(errors="replace")[:1]
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
