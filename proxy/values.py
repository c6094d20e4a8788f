"""Values of parameters as text, where the planner must compare them: the few types that a residency key may have."""

from __future__ import annotations

import struct
import uuid

from ..catalog.errors import FEATURE_NOT_SUPPORTED, DomicileError

BOOL, INT8, INT2, INT4, TEXT, BPCHAR, VARCHAR, NAME, UUID, UNKNOWN = 16, 20, 21, 23, 25, 1042, 1043, 19, 2950, 705

_INTEGERS = {INT2: "!h", INT4: "!i", INT8: "!q"}
_TEXTS = frozenset({TEXT, BPCHAR, VARCHAR, NAME, UNKNOWN})


def text_of(value: bytes | None, format_code: int, type_oid: int) -> str | None:
    """The value as PostgreSQL would print it. Raises 0A000 for a binary value of a type that is not listed above."""
    if value is None:
        return None
    try:
        if format_code == 0 or type_oid in _TEXTS:
            return value.decode()
        if type_oid in _INTEGERS:
            return str(struct.unpack(_INTEGERS[type_oid], value)[0])
        if type_oid == UUID:
            return str(uuid.UUID(bytes=value))
        if type_oid == BOOL:
            return "true" if value != b"\0" else "false"
    except (struct.error, ValueError):
        raise DomicileError("22P03", "incorrect binary data format in bind parameter") from None
    raise DomicileError(
        FEATURE_NOT_SUPPORTED,
        f"a residency key was bound in binary format as type {type_oid}",
        hint="Bind it as text, integer, uuid or boolean, or in text format.",
    )


def array_literal(values: list[bytes | None], delimiter: bytes = b",") -> bytes:
    """An array's text form of elements in text form: every element quoted, so that nothing in it is syntax."""
    return (
        b"{"
        + delimiter.join(
            b"NULL" if v is None else b'"' + v.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"' for v in values
        )
        + b"}"
    )
