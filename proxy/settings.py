"""The settings of a session, as the gateway owns them: what a client has SET, carried to whatever backend it uses."""

from __future__ import annotations

from collections.abc import Mapping

from ..catalog.names import quote_identifier

ABROAD = frozenset(
    {
        "application_name",
        "bytea_output",
        "client_min_messages",
        "datestyle",
        "extra_float_digits",
        "intervalstyle",
        "lock_timeout",
        "statement_timeout",
        "timezone",
        "xmloption",
    }
)
"""What changes how values look or how long a statement may take, and can't widen what a role sees. Only these are
carried to other regions; a guard admits no others. Names in lower case."""

LIST_OF_NAMES = frozenset({"search_path", "temp_tablespaces"})
"""Settings whose canonical value is a list of quoted identifiers (GUC_LIST_QUOTE in PostgreSQL's guc_tables.c)."""

REPORTED_AT_LOGIN = (
    "application_name",
    "client_encoding",
    "DateStyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "IntervalStyle",
    "is_superuser",
    "scram_iterations",
    "search_path",
    "server_encoding",
    "server_version",
    "session_authorization",
    "standard_conforming_strings",
    "TimeZone",
)


def set_command(name: str, value: str) -> str:
    """The SET that puts a canonical value (as SHOW prints it) in force."""
    if name in LIST_OF_NAMES and value and value != '""':
        return f"SET {quote_identifier(name)} TO {value}"
    text = "" if name in LIST_OF_NAMES else value
    return f"SET {quote_identifier(name)} TO '" + text.replace("'", "''") + "'"


def difference(applied: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """The commands that lead a backend from the settings applied to it to those wanted."""
    commands = [f"RESET {quote_identifier(name)}" for name in applied if name not in wanted]
    commands += [set_command(name, value) for name, value in wanted.items() if applied.get(name) != value]
    return commands


def abroad(settings: Mapping[str, str]) -> dict[str, str]:
    """Those that go to other regions."""
    return {name: value for name, value in settings.items() if name in ABROAD}


def parse_options(options: str) -> dict[str, str]:
    """The settings of a startup packet's `options` (`-c name=value`, `--name=value`, `\\` escapes a space).

    Raises ValueError for anything else: PostgreSQL's other switches are not for clients of a pool.
    """
    words: list[str] = []
    word = ""
    escaped = quoted = False
    for c in options:
        if escaped:
            word += c
            escaped, quoted = False, True
        elif c == "\\":
            escaped = True
        elif c.isspace():
            if word or quoted:
                words.append(word)
            word, quoted = "", False
        else:
            word += c
    if word or quoted:
        words.append(word)
    settings: dict[str, str] = {}
    i = 0
    while i < len(words):
        text = words[i]
        if text == "-c" and i + 1 < len(words):
            i += 1
            assignment = words[i]
        elif text.startswith("-c"):
            assignment = text[2:]
        elif text.startswith("--"):
            assignment = text[2:].replace("-", "_")
        else:
            raise ValueError(f"unsupported option {text!r}")
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise ValueError(f"{text!r} is not name=value")
        settings[name.lower()] = value
        i += 1
    return settings
