"""Ways to ask a server one statement, each keeping all that a client can see of the answer.

Types are told by their names, for a type that a user made has another OID in every database.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg
import psycopg
from psycopg import pq

TYPE_NAMES = "select oid::int8, format_type(oid, null) from pg_type"

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came back. Rows are what the driver gives: bytes, or Python's values as text."""

    columns: tuple[tuple[str, str, int], ...] = ()  #: name, type, modifier
    rows: tuple[Row, ...] = ()
    tag: str = ""
    sqlstate: str = ""
    message: str = ""

    @property
    def refused(self) -> bool:
        return self.sqlstate == "0A000"


class Driver(Protocol):
    """One connection."""

    def ask(self, statement: str, values: Sequence[str | None] = (), data: bytes | None = None) -> Outcome:
        """The statement's outcome; `data` is what COPY FROM STDIN reads."""

    def close(self) -> None: ...


class Libpq:
    """libpq: the simple protocol, or the extended one with results in text or binary."""

    def __init__(self, dsn: str, how: str) -> None:
        self.how = how
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._pgconn = self._connection.pgconn
        self._types: dict[int, str] = dict(self._connection.execute(TYPE_NAMES).fetchall())

    def close(self) -> None:
        self._connection.close()

    def ask(self, statement: str, values: Sequence[str | None] = (), data: bytes | None = None) -> Outcome:
        text = statement.encode()
        given: Any = [None if v is None else v.encode() for v in values]
        if self.how == "simple" and not values:
            result = self._pgconn.exec_(text)
        elif self.how == "prepared":
            made = self._pgconn.prepare(b"", text)
            if made.status != pq.ExecStatus.COMMAND_OK:
                return self._error(made)
            result = self._pgconn.exec_prepared(b"", given)
        else:
            result = self._pgconn.exec_params(text, given, result_format=self.how == "binary")
        if result.status == pq.ExecStatus.COPY_IN:
            if data:
                self._pgconn.put_copy_data(data)
            self._pgconn.put_copy_end()
            return self._last()
        if result.status == pq.ExecStatus.COPY_OUT:
            rows: list[Row] = []
            while (got := self._pgconn.get_copy_data(0))[0] > 0:
                rows.append((bytes(got[1]),))
            ended = self._last()
            return Outcome((), tuple(rows), ended.tag, ended.sqlstate, ended.message)
        return self._outcome(result)

    def _last(self) -> Outcome:
        outcome = Outcome()
        while (result := self._pgconn.get_result()) is not None:
            assert result.status not in (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT), "COPY began twice"
            outcome = self._outcome(result)
        return outcome

    def _outcome(self, result: pq.abc.PGresult) -> Outcome:
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY):
            return self._error(result)
        columns = tuple(
            ((result.fname(i) or b"").decode(), self._types.get(result.ftype(i), str(result.ftype(i))), result.fmod(i))
            for i in range(result.nfields)
        )
        rows = tuple(
            tuple(self._value(result.get_value(r, c), columns[c][1]) for c in range(result.nfields))
            for r in range(result.ntuples)
        )
        return Outcome(columns, rows, (result.command_status or b"").decode())

    def _value(self, value: bytes | None, type_name: str) -> bytes | None:
        """The value; a binary array names the type of its elements by its OID, and here by its name."""
        if value is None or self.how != "binary" or not type_name.endswith("[]"):
            return value
        (oid,) = struct.unpack_from("!I", value, 8)
        return value[:8] + self._types.get(oid, f"type {oid} of another region").encode() + value[12:]

    @staticmethod
    def _error(result: pq.abc.PGresult) -> Outcome:
        sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        message = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode()
        return Outcome(sqlstate=sqlstate, message=message)


class Asyncpg:
    """asyncpg: prepared statements, parameters and results in binary. Its values are compared as Python shows them."""

    def __init__(self, dsn: str) -> None:
        self._runner = asyncio.Runner()
        given = psycopg.conninfo.conninfo_to_dict(dsn)
        self._connection: asyncpg.Connection[Any] = self._runner.run(
            asyncpg.connect(
                host=str(given["host"]),
                port=int(str(given["port"])),
                user=str(given["user"]),
                password=str(given["password"]),
                database=str(given["dbname"]),
            )
        )

    def close(self) -> None:
        self._runner.run(self._connection.close())
        self._runner.close()

    def ask(self, statement: str, values: Sequence[str | None] = (), data: bytes | None = None) -> Outcome:
        return self._runner.run(self._ask(statement, values))

    async def _ask(self, statement: str, values: Sequence[str | None]) -> Outcome:
        try:
            prepared = await self._connection.prepare(statement)
            given = [
                None if text is None else await self._value(text, kind)
                for text, kind in zip(values, prepared.get_parameters(), strict=True)
            ]
            records = await prepared.fetch(*given)
        except asyncpg.PostgresError as error:
            return Outcome(sqlstate=error.sqlstate or "", message=getattr(error, "message", ""))
        except (ValueError, OverflowError):
            return Outcome(message="asyncpg can't read it")  # a date before Christ, the time 24:00
        columns = tuple((a.name, a.type.name, -1) for a in prepared.get_attributes())
        # Python's own equality would take -0.0 for 0.0 and NaN for another than itself.
        rows = tuple(tuple(repr(value) for value in record.values()) for record in records)
        return Outcome(columns, rows, prepared.get_statusmsg() or "")

    async def _value(self, text: str, kind: asyncpg.Type) -> Any:
        """The Python value that asyncpg reads for this text: what it will send in binary."""
        name = "text" if kind.name == "unknown" else kind.name
        if name.endswith("[]"):
            name = f'"{name[:-2]}"[]'
        elif kind.schema != "pg_catalog":
            name = f'"{name}"'
        return await self._connection.fetchval(f"select $1::text::{name}", text)


HOWS = ("simple", "text", "binary", "prepared", "asyncpg")


def connect(dsn: str, how: str) -> Driver:
    """A connection that asks in one of HOWS."""
    return Asyncpg(dsn) if how == "asyncpg" else Libpq(dsn, how)
