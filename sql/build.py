"""The in-database half as one script: `python -m domicile.sql.build [--check]` writes (or compares) domicile--0.1.sql.

The same text serves CREATE EXTENSION and the plain install that `domicile init` runs where no extension can be added.
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
VERSION = "0.1"
BUILT = FOLDER / f"domicile--{VERSION}.sql"
_HEAD = "-- Built by `python -m domicile.sql.build` from sql/parts: change those, then build again.\n"


def script() -> str:
    """The script that installs the schema `domicile`: to be run once, whole, in one transaction, in an empty place
    for it (no schema `domicile`), as a superuser or as the database's owner with CREATEROLE."""
    parts = sorted((FOLDER / "parts").glob("*.sql"))
    return _HEAD + "".join(f"\n-- {part.name} {'-' * 90}\n\n{part.read_text()}" for part in parts)


def main(arguments: list[str]) -> int:
    """0 when the built file is (now) what the parts say; 1 when `--check` finds it stale; 2 on a wrong option."""
    text = script()
    if arguments == ["--check"]:
        if not BUILT.exists() or BUILT.read_text() != text:
            print(f"{BUILT.name} is stale: run `python -m domicile.sql.build`", file=sys.stderr)
            return 1
        return 0
    if arguments:
        print("usage: python -m domicile.sql.build [--check]", file=sys.stderr)
        return 2
    BUILT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
