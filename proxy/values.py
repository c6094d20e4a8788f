"""Values of parameters as text, where the planner must compare them: the few types that a residency key may have."""

from __future__ import annotations

import struct
import uuid

from ..catalog.errors import FEATURE_NOT_SUPPORTED, DomicileError

BOOL, INT8, INT2, INT4, TEXT, BPCHAR, VARCHAR, NAME, UUID, UNKNOWN = 16, 20, 21, 23, 25, 1042, 1043, 19, 2950, 705

_INTEGERS = {INT2: "!h", INT4: "!i", INT8: "!q"}
_TEXTS = frozenset({TEXT, BPCHAR, VARCHAR, NAME, UNKNOWN})
_ARRAYS = {
    1000: BOOL, 1016: INT8, 1005: INT2, 1007: INT4, 1009: TEXT, 1014: BPCHAR, 1015: VARCHAR, 1003: NAME, 2951: UUID,
}  # fmt: skip
"""Array types, and the types of their elements."""


def text_of(value: bytes | None, format_code: int, type_oid: int) -> str | None:
    """The value as PostgreSQL would read it. Raises 0A000 for a binary value of a type that is not listed above, and
    for a binary array of several dimensions."""
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
        if type_oid in _ARRAYS:
            return _array_text(value, _ARRAYS[type_oid])
    except (struct.error, ValueError):
        raise DomicileError("22P03", "incorrect binary data format in bind parameter") from None
    raise DomicileError(
        FEATURE_NOT_SUPPORTED,
        f"a residency key was bound in binary format as type {type_oid}",
        hint="Bind it as text, integer, uuid or boolean, or in text format.",
    )


def _array_text(value: bytes, type_oid: int) -> str:
    """A binary array as text (PostgreSQL's array_send: dimensions, a flag for NULLs, the elements' type, sizes)."""
    dimensions, _, _ = struct.unpack_from("!iiI", value)
    if dimensions == 0:
        return "{}"
    if dimensions != 1:
        raise DomicileError(FEATURE_NOT_SUPPORTED, "residency keys were bound as an array of several dimensions")
    (count,) = struct.unpack_from("!i", value, 12)
    offset = 20
    elements: list[bytes | None] = []
    for _ in range(count):
        (size,) = struct.unpack_from("!i", value, offset)
        offset += 4
        element = None if size < 0 else value[offset : offset + size]
        offset += max(size, 0)
        text = text_of(element, 1, type_oid)
        elements.append(None if text is None else text.encode())
    return array_literal(elements).decode()


def array_literal(values: list[bytes | None], delimiter: bytes = b",") -> bytes:
    """An array's text form of elements in text form: every element quoted, so that nothing in it is syntax."""
    return (
        b"{"
        + delimiter.join(
            b"NULL" if v is None else b'"' + v.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"' for v in values
        )
        + b"}"
    )
