"""Moves the rows of tables that are being pinned to where they are at home: parents with their children, in batches.

A batch is copied to its new home and prepared there (two-phase commit); then the rows are deleted here, and this
commit, which also writes the decision, is what counts; then the new home commits. So no row is ever in two homes.
sql/parts/72_moves.sql holds the half of it that runs in the databases.

The mover keeps nothing of its own: it may be killed at any instant and run again. A prepared batch that was decided
goes on, any other goes back, and what is still here is moved. Triggers of the destination's tables fire, as for any
COPY.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
import tenacity
from psycopg import Connection, sql
from psycopg.pq import TransactionStatus

from domicile.catalog.errors import DomicileError

BATCH_ROWS = 5_000
"""Rows of a family's topmost table in one batch: what a stop in the middle does again at most."""

PASSES_MAX = 20
"""How often to look for rows that an application wrote meanwhile, before saying that it must pause."""

GID_PREFIX = "domicile move "

AnyConnection: TypeAlias = "Connection[Any]"
Report: TypeAlias = Callable[[str, str, int], None]
"""Called after each batch for each table: its name, the new home, how many rows."""

# What is copied is text: it must mean the same at both ends.
_SETTINGS = (
    ("datestyle", "ISO, YMD"),
    ("intervalstyle", "postgres"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("client_encoding", "UTF8"),
)


@dataclass(frozen=True, slots=True)
class Progress:
    """What `move` has moved so far: a batch to `region`, whose rows of all tables count."""

    region: str
    rows: int
    total: int


def move(
    rel: str,
    source_dsn: str,
    destinations: Mapping[str, str],
    *,
    batch: int = BATCH_ROWS,
    progress: Callable[[Progress], None] | None = None,
) -> int:
    """Moves one table's family, as `move_home` does, over connections of its own; returns how many rows were moved.

    `rel` names the table as the source region's SQL does; `destinations` are DSNs by region.
    """
    total = 0

    def report(_: str, region: str, rows: int) -> None:
        nonlocal total
        total += rows
        if progress:
            progress(Progress(region, rows, total))

    with ExitStack() as stack:

        def connect(dsn: str) -> AnyConnection:
            return stack.enter_context(psycopg.connect(dsn, autocommit=True))

        there = {region: connect(dsn) for region, dsn in destinations.items()}
        move_home(connect(source_dsn), there, table=rel, batch_rows=batch, report=report)
    return total


def move_home(
    here: AnyConnection,
    there: Mapping[str, AnyConnection],
    *,
    table: str | None = None,
    batch_rows: int = BATCH_ROWS,
    report: Report = lambda *_: None,
    connect_here: Callable[[], AnyConnection] | None = None,
) -> dict[str, dict[str, int]]:
    """Moves what is not at home here, of every table that is being pinned (or of one and its family), then opens the
    tables; returns how many rows went where, by table and region.

    `here` and `there` (by region) are autocommit connections of roles that may write the tables and are members of
    domicile_admin, or installed Domicile. With `connect_here`, which makes further connections like `here`, rows go
    to all regions at once, and `report` is called from several threads. Raises DomicileError where rows can't be
    moved (a home that is not in `there`, another region's database, an unmanaged table that would cascade), and
    psycopg's errors where a server refuses.
    """
    resume(here, there)
    moved: dict[str, dict[str, int]] = {}
    roots = _rows(
        here,
        "select distinct f.member::text from domicile.locality l cross join lateral domicile.family(l.rel) f"
        " where f.depth = 0 and l.state = 'pinning' and (%(table)s::regclass is null or %(table)s::regclass in"
        " (select m.member from domicile.family(l.rel) m)) order by 1",
        {"table": table},
    )
    for (root,) in roots:
        family = [m for (m,) in _rows(here, "select member::text from domicile.family(%s::regclass)", (root,))]
        _must_be_movable(here, there, root)
        _align(family, [here, *there.values()])

        def everything(root: str = root, family: Sequence[str] = family) -> None:
            def all_of(home: str, source: AnyConnection) -> None:
                while counts := _move_batch(source, there[home], home, root, batch_rows):
                    for name, count in counts.items():
                        by_home = moved.setdefault(name, {})
                        by_home[home] = by_home.get(home, 0) + count
                        report(name, home, count)

            if connect_here is None:
                for home in there:
                    all_of(home, here)
            else:
                with ExitStack() as stack:
                    sources = [stack.enter_context(connect_here()) for _ in there]
                    threads = stack.enter_context(ThreadPoolExecutor(max(1, len(there))))
                    list(threads.map(all_of, there, sources))
            with here.transaction():
                for member in family:
                    here.execute(
                        "select domicile.finish_move(rel) from domicile.locality"
                        " where rel = %s::regclass and state = 'pinning'",
                        (member,),
                    )

        # The tables are checked under a lock: rows of elsewhere that came in meanwhile are found, and moved as well.
        tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(psycopg.errors.CheckViolation),
            stop=tenacity.stop_after_attempt(PASSES_MAX),
            reraise=True,
        )(everything)
    return moved


def resume(here: AnyConnection, there: Mapping[str, AnyConnection]) -> int:
    """Ends what earlier runs from here left prepared in other regions, as it was decided; returns how many batches.

    Raises DomicileError where a connection leads to another region than it should.
    """
    source = _value(here, "select domicile.here()")
    ended = 0
    for region, connection in there.items():
        found = _value(connection, "select domicile.here()")
        if found != region:
            raise DomicileError(
                "08006", f'the database given for region "{region}" is region "{found}"', hint="Check its DSN."
            )
        # In this order: what was decided was prepared before, so what is then not prepared any more has arrived.
        decided = _rows(here, "select gid from domicile.move_decision where moved and region = %s", (region,))
        prepared = _rows(
            connection,
            "select gid from pg_prepared_xacts where database = current_database() and starts_with(gid, %s)",
            (f"{GID_PREFIX}{source} ",),
        )
        for (gid,) in prepared:
            verb = "commit" if _value(here, "select domicile.verdict(%s)", (gid,)) else "rollback"
            connection.execute(sql.SQL("{} prepared {}").format(sql.SQL(verb), sql.Literal(gid)))
            ended += 1
        for (gid,) in decided:
            here.execute("select domicile.batch_arrived(%s)", (gid,))
    return ended


def _must_be_movable(here: AnyConnection, there: Mapping[str, AnyConnection], root: str) -> None:
    # Such a table would lose its rows in silence when ours are deleted.
    for referring, referred in _rows(
        here, "select referring::text, referred::text from domicile.move_obstacles(%s::regclass)", (root,)
    ):
        raise DomicileError(
            "55000",
            f"table {referring} refers to {referred} ON DELETE and is not pinned with it",
            detail="Its rows would be deleted or emptied when the rows that they refer to move.",
            hint="Pin it with its parent: domicile.set_locality(..., parent => ..., move => true).",
        )
    homes = _rows(here, "select home from domicile.rows_by_home(%s::regclass) where home <> domicile.here()", (root,))
    for (home,) in homes:
        if home not in there:
            raise DomicileError("55000", f"table {root} has rows that are at home in {home}, which is not reached")


def _move_batch(here: AnyConnection, there: AnyConnection, home: str, root: str, batch_rows: int) -> dict[str, int]:
    """How many rows of each table were moved; empty when none of the root's were left."""
    gid = f"{GID_PREFIX}{_value(here, 'select domicile.here()')} {home} {uuid.uuid4()}"
    claimed: list[tuple[str, int, str, str]] = []
    there.execute("begin")
    try:
        for connection in (here, there):
            for name, value in _SETTINGS:
                connection.execute("select set_config(%s, %s, %s)", (name, value, connection is there))
        with here.transaction():
            claimed = _rows(
                here,
                "select member::text, rows, copy_out, copy_in from domicile.claim_batch(%s::regclass, %s, %s, %s)",
                (root, home, batch_rows, gid),
            )
            claimed = [batch for batch in claimed if batch[1]]
            if claimed:
                for _, _, copy_out, copy_in in claimed:
                    _copy(here, there, copy_out, copy_in)
                there.execute(sql.SQL("prepare transaction {}").format(sql.Literal(gid)))
                here.execute("select domicile.confirm_batch(%s, %s)", (gid, home))
    except BaseException:
        # Not prepared: nothing was decided. Prepared: whether our commit arrived is for `resume` to find out.
        if not there.closed and there.info.transaction_status != TransactionStatus.IDLE:
            there.execute("rollback")
        raise
    if not claimed:
        there.execute("rollback")
        return {}
    there.execute(sql.SQL("commit prepared {}").format(sql.Literal(gid)))
    here.execute("select domicile.batch_arrived(%s)", (gid,))
    return {name: rows for name, rows, _, _ in claimed}


def _copy(here: AnyConnection, there: AnyConnection, copy_out: str, copy_in: str) -> None:
    with here.cursor().copy(copy_out.encode()) as reader, there.cursor().copy(copy_in.encode()) as writer:
        for block in reader:
            writer.write(block)


def _align(family: Sequence[str], regions: Sequence[AnyConnection]) -> None:
    """Puts every region's sequences above the ids of all: rows keep the ids that they have when they move."""
    for member in family:
        key = _value(regions[0], "select domicile.aligned_id(%s::regclass)", (member,))
        if key is None:
            continue
        query = sql.SQL("select coalesce(max({}), 0) from {}").format(sql.Identifier(key), sql.SQL(member))
        above = max(_value(region, query) for region in regions)
        for region in regions:
            region.execute("select domicile.align_ids(%s::regclass, %s)", (member, above))


def _rows(connection: AnyConnection, query: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    return connection.execute(query.encode(), parameters).fetchall()


def _value(connection: AnyConnection, query: str | sql.Composed, parameters: Any = None) -> Any:
    row = connection.execute(query.encode() if isinstance(query, str) else query, parameters).fetchone()
    return row[0] if row else None
