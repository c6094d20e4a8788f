"""Moves the rows of tables that are being pinned to where they are at home: parents with their children, in
batches.

No row is ever in two homes. A batch is copied to its new home and prepared there (two-phase commit); then
the rows are deleted here, and this commit, which also writes the batch's id, is the decision; then the new
home commits. A run that was stopped at any point is taken up by the next: a prepared batch whose id was
written goes on, any other goes back, and what is still here is moved.

Triggers of the destination's table fire, as for any COPY.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from psycopg import Connection, sql

from domicile.catalog.errors import DomicileError

BATCH_ROWS = 5_000  #: rows of the root table in one batch; what a stop in the middle does again at most
GID_PREFIX = "domicile move "

AnyConnection: TypeAlias = "Connection[Any]"
Report: TypeAlias = Callable[[str, str, int], None]
"""Called after each batch for each table: its name, the new home, how many rows."""


@dataclass(frozen=True, slots=True)
class _Table:
    oid: int
    name: str  #: as regclass prints it: quoted, and qualified where it must be
    schema: str
    relname: str
    columns: tuple[str, ...]  #: all but the generated ones
    key: tuple[str, ...]  #: the primary key
    parent: int | None
    by: tuple[str, ...]  #: for a child: its columns that refer to the parent's
    parent_by: tuple[str, ...]

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.relname)


def move_home(
    here: AnyConnection,
    there: Mapping[str, AnyConnection],
    *,
    batch_rows: int = BATCH_ROWS,
    report: Report = lambda *_: None,
) -> dict[str, dict[str, int]]:
    """Moves what is not at home here, then opens the tables; returns how many rows went where, by table and
    region.

    `here` and `there` (by region) are autocommit connections of roles that may write the tables. Raises
    DomicileError where rows can't be moved: no primary key, a home that is not in `there`, an unmanaged
    table that would cascade.
    """
    resume(here, there)
    tables = _tables_to_move(here)
    moved: dict[str, dict[str, int]] = {}
    for root in [t for t in tables if t.parent is None]:
        family = _family(root, tables)
        _must_be_movable(here, family)
        for home in _homes_elsewhere(here, root):
            if home not in there:
                raise DomicileError(
                    "55000", f"table {root.name} has rows that are at home in {home}, which is not reached"
                )
            while counts := _move_batch(here, there[home], home, family, batch_rows):
                for table, count in counts.items():
                    by_home = moved.setdefault(table, {})
                    by_home[home] = by_home.get(home, 0) + count
                    report(table, home, count)
        for member in family:
            here.execute("select domicile.finish_move(%s::oid)", (member.oid,))
    return moved


def resume(here: AnyConnection, there: Mapping[str, AnyConnection]) -> int:
    """Ends what earlier runs left prepared in other regions; returns how many batches that was."""
    ended = 0
    decided = {gid for (gid,) in here.execute("select gid from domicile.move_batch")}
    for connection in there.values():
        prepared = connection.execute(
            "select gid from pg_prepared_xacts where database = current_database() and starts_with(gid, %s)",
            (GID_PREFIX,),
        ).fetchall()
        for (gid,) in prepared:
            verb = "commit" if gid in decided else "rollback"
            connection.execute(sql.SQL("{} prepared {}").format(sql.SQL(verb), sql.Literal(gid)))
            ended += 1
    here.execute("delete from domicile.move_batch where gid = any (%s)", (list(decided),))
    return ended


def _tables_to_move(here: AnyConnection) -> list[_Table]:
    rows = here.execute(
        """
        select l.rel::oid::bigint, l.rel::text, n.nspname::text, c.relname::text,
               (select array_agg(a.attname::text order by a.attnum) from pg_attribute a
                where a.attrelid = l.rel and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''),
               domicile.primary_key(l.rel), l.parent::oid::bigint, l.columns, l.parent_columns
        from domicile.locality l join pg_class c on c.oid = l.rel
        join pg_namespace n on n.oid = c.relnamespace
        where l.locality = 'pinned' and l.state = 'pinning' order by c.relname
        """
    ).fetchall()
    tables = [
        _Table(oid, name, schema, rel, tuple(cols), tuple(key), parent, tuple(by), tuple(parent_by))
        for oid, name, schema, rel, cols, key, parent, by, parent_by in rows
    ]
    known = {t.oid for t in tables}
    for table in tables:
        if table.parent is not None and table.parent not in known:
            raise DomicileError(
                "55000",
                f"table {table.name} is to be moved with its parent, which is not being moved",
                hint="Pin both with move => true, then move.",
            )
    return tables


def _family(root: _Table, tables: Sequence[_Table]) -> list[_Table]:
    """The root and all below it, parents before children."""
    family = [root]
    for parent in family:
        family += [t for t in tables if t.parent == parent.oid]
    return family


def _must_be_movable(here: AnyConnection, family: Sequence[_Table]) -> None:
    for table in family:
        if not table.key:
            raise DomicileError(
                "42P16",
                f"table {table.name} has no primary key, so its rows can't be moved one by one",
                hint=f"alter table {table.name} add primary key (...);",
            )
    oids = [t.oid for t in family]
    # Such a table would lose its rows in silence when ours are deleted.
    losing = here.execute(
        """
        select conrelid::regclass::text, confrelid::regclass::text from pg_constraint
        where contype = 'f' and confrelid = any (%s::oid[]) and not conrelid = any (%s::oid[])
        and confdeltype in ('c', 'n', 'd')
        """,
        (oids, oids),
    ).fetchall()
    if losing:
        raise DomicileError(
            "55000",
            f"table {losing[0][0]} refers to {losing[0][1]} ON DELETE and is not pinned with it",
            detail="Its rows would be deleted or emptied when the rows that they refer to move.",
            hint="Pin it with its parent: domicile.set_locality(..., parent => ..., move => true).",
        )


def _homes_elsewhere(here: AnyConnection, root: _Table) -> list[str]:
    rows = here.execute(
        "select home from domicile.rows_by_home(%s::oid) where home is distinct from domicile.here()", (root.oid,)
    )
    return [home for (home,) in rows]


def _move_batch(
    here: AnyConnection, there: AnyConnection, home: str, family: Sequence[_Table], batch_rows: int
) -> dict[str, int]:
    """How many rows of each table were moved; empty when none of the root's were left."""
    gid = f"{GID_PREFIX}{uuid.uuid4()}"
    counts: dict[str, int] = {}
    there.execute("begin")
    try:
        with here.transaction():
            for table in family:
                counts[table.name] = _choose(here, table, family, home, batch_rows)
                if not counts[family[0].name]:
                    there.execute("rollback")
                    return {}
            for table in family:
                _copy(here, there, table)
            for table in reversed(family):
                here.execute(
                    sql.SQL("delete from {} t using {} b where {}").format(
                        table.identifier, _batch(table), _equal("t", table.key, "b", table.key)
                    )
                )
            there.execute(sql.SQL("prepare transaction {}").format(sql.Literal(gid)))
            here.execute("insert into domicile.move_batch values (%s, %s, %s)", (gid, home, sum(counts.values())))
    except BaseException:
        # Not prepared: nothing was decided. Prepared: whether our commit arrived is for `resume` to find out.
        if not there.closed and there.info.transaction_status != there.info.transaction_status.IDLE:
            there.execute("rollback")
        raise
    there.execute(sql.SQL("commit prepared {}").format(sql.Literal(gid)))
    here.execute("delete from domicile.move_batch where gid = %s", (gid,))
    return counts


def _batch(table: _Table) -> sql.Identifier:
    return sql.Identifier("pg_temp", f"domicile_batch_{table.oid}")


def _equal(a: str, a_columns: Sequence[str], b: str, b_columns: Sequence[str]) -> sql.Composable:
    return sql.SQL(" and ").join(
        sql.SQL("{} = {}").format(sql.Identifier(a, x), sql.Identifier(b, y))
        for x, y in zip(a_columns, b_columns, strict=True)
    )


def _columns(alias: str, columns: Sequence[str]) -> sql.Composable:
    return sql.SQL(", ").join(sql.Identifier(alias, c) for c in columns)


def _choose(here: AnyConnection, table: _Table, family: Sequence[_Table], home: str, batch_rows: int) -> int:
    """Locks the batch's rows of the table and keeps their keys in a temporary table; returns how many."""
    parent = next((t for t in family if t.oid == table.parent), None)
    if parent is None:
        row = here.execute("select domicile.home_expression(%s::oid, 't')", (table.oid,)).fetchone()
        assert row is not None
        chosen: sql.Composable = sql.SQL("select {} from {} t where {} = {} limit {} for update of t").format(
            _columns("t", table.key), table.identifier, sql.SQL(row[0]), sql.Literal(home), sql.Literal(batch_rows)
        )
    else:
        # The parent's columns that are referred to need not be its primary key: by way of the parent itself.
        chosen = sql.SQL("select {} from {} t join {} p on {} join {} b on {} for update of t").format(
            _columns("t", table.key),
            table.identifier,
            parent.identifier,
            _equal("t", table.by, "p", table.parent_by),
            _batch(parent),
            _equal("p", parent.key, "b", parent.key),
        )
    # INSERT … SELECT … FOR UPDATE locks the rows until the batch is decided.
    here.execute(
        sql.SQL("create temporary table {} on commit drop as select {} from {} t with no data").format(
            sql.Identifier(f"domicile_batch_{table.oid}"), _columns("t", table.key), table.identifier
        )
    )
    count = here.execute(sql.SQL("insert into {} {}").format(_batch(table), chosen)).rowcount
    here.execute(sql.SQL("analyze {}").format(_batch(table)))
    return count


def _copy(here: AnyConnection, there: AnyConnection, table: _Table) -> None:
    out = sql.SQL("copy (select {} from {} t join {} b on {}) to stdout (format binary)").format(
        _columns("t", table.columns), table.identifier, _batch(table), _equal("t", table.key, "b", table.key)
    )
    into = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        table.identifier, sql.SQL(", ").join(map(sql.Identifier, table.columns))
    )
    with here.cursor().copy(out) as source, there.cursor().copy(into) as sink:
        for block in source:
            sink.write(block)
