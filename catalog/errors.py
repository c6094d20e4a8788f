"""Errors in PostgreSQL's shape. Whatever a user sees of Domicile's own making is one of these."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class DomicileError(Exception):
    """SQLSTATE, message, DETAIL, HINT and the position in the client's text, as ErrorResponse carries them.

    `position` counts characters from 1 in the statement as the client sent it; None where it points nowhere.
    """

    sqlstate: str
    message: str
    detail: str | None = None
    hint: str | None = None
    position: int | None = None
    severity: str = "ERROR"

    def __str__(self) -> str:
        return f"{self.sqlstate}: {self.message}"

    @property
    def retryable(self) -> bool:
        """True where the same statement may succeed later without any change: never decided by the message."""
        return self.sqlstate in RETRYABLE


FEATURE_NOT_SUPPORTED = "0A000"
CONNECTION_FAILURE = "08006"
CONNECTION_DOES_NOT_EXIST = "08003"
PROTOCOL_VIOLATION = "08P01"
TRANSACTION_RESOLUTION_UNKNOWN = "08007"
NOT_NULL_VIOLATION = "23502"
CHECK_VIOLATION = "23514"
IN_FAILED_TRANSACTION = "25P02"
INVALID_AUTHORIZATION = "28000"
INVALID_PASSWORD = "28P01"
INVALID_CATALOG_NAME = "3D000"
SERIALIZATION_FAILURE = "40001"
INSUFFICIENT_PRIVILEGE = "42501"
SYNTAX_ERROR = "42601"
UNDEFINED_STATEMENT = "26000"
UNDEFINED_PORTAL = "34000"
DUPLICATE_STATEMENT = "42P05"
TOO_MANY_CONNECTIONS = "53300"
PROGRAM_LIMIT_EXCEEDED = "54000"
QUERY_CANCELED = "57014"
ADMIN_SHUTDOWN = "57P01"
CANNOT_CONNECT_NOW = "57P03"
INTERNAL_ERROR = "XX000"

RETRYABLE = frozenset(
    {CONNECTION_FAILURE, SERIALIZATION_FAILURE, "40P01", TOO_MANY_CONNECTIONS, CANNOT_CONNECT_NOW, "53400"}
)
