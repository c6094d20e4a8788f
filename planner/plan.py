"""What a plan is: the planner's answer, and all that the gateway needs to run a statement without reading SQL again.

A plan is made once for (text, search_path, catalog version) and kept; what depends on a value that the client binds
later is a `KeySource` in it, resolved by `route.regions` when the values are there. Offsets are byte offsets into the
client's text in UTF-8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

from ..catalog.errors import DomicileError
from ..catalog.names import QualifiedName, RegionName
from ..catalog.snapshot import KeyKind


class Kind(Enum):
    """What a statement is, as far as the gateway must know."""

    READ = auto()  #: SELECT, VALUES, TABLE, EXPLAIN without ANALYZE, SHOW of a PostgreSQL setting
    WRITE = auto()  #: INSERT, UPDATE, DELETE, MERGE, SELECT with a writing CTE
    COPY_IN = auto()
    COPY_OUT = auto()
    DDL = auto()  #: and every other utility statement that runs in one region's server
    BEGIN = auto()
    COMMIT = auto()
    ROLLBACK = auto()
    SAVEPOINT = auto()  #: SAVEPOINT, RELEASE, ROLLBACK TO
    SET = auto()  #: SET, SET LOCAL, RESET, SET TRANSACTION, SET CONSTRAINTS
    SHOW = auto()
    PREPARE = auto()
    EXECUTE = auto()
    DEALLOCATE = auto()
    DISCARD = auto()
    CURSOR = auto()  #: DECLARE, FETCH, MOVE, CLOSE
    LISTEN = auto()  #: LISTEN, UNLISTEN, NOTIFY
    EXPLAIN = auto()  #: EXPLAIN of a statement that touches a managed table: the gateway answers it
    DOMICILE = auto()  #: Domicile's own DDL (CREATE REGION, CREATE RESIDENCY POLICY, …)
    EMPTY = auto()


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant of the text. `text` is its value (unquoted); None is NULL. `is_string` tells '1' from 1."""

    text: str | None
    is_string: bool = True


@dataclass(frozen=True, slots=True)
class Parameter:
    number: int  #: 1 for $1
    array: bool = False  #: its value is an array's text, any element of which may be the key: `= ANY ($1)`


KeySource = Literal | Parameter


@dataclass(frozen=True, slots=True)
class Key:
    """A residency key found in the statement: any of `sources`, each equal to `column` of `table`."""

    table: QualifiedName
    column: str
    kind: KeyKind  #: REGION, MAPPED or ID: how a value names a region
    mapping: str | None
    type_name: str
    sources: tuple[KeySource, ...]
    shown: str  #: for EXPLAIN, as the client wrote it: `country = 'DE'`


# --- where a statement runs -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Home:
    """In the gateway's own region, the client's bytes untouched."""

    reason: str


@dataclass(frozen=True, slots=True)
class At:
    """In one region that the catalog names, whatever the values: a regional table."""

    region: RegionName
    reason: str


@dataclass(frozen=True, slots=True)
class Keyed:
    """In the regions that the key's values name: one, or several for an IN list. All keys must agree (the
    intersection of their regions is taken).

    Where tables are not shown to live together, `groups` holds the keys of each by itself, and the statement runs only
    if all groups name the same single region; `route.regions` raises where they don't."""

    keys: tuple[Key, ...]
    groups: tuple[tuple[Key, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class LookUp:
    """By a key unique over the federation: the local region first; no row there, then the others at once."""

    table: QualifiedName
    columns: tuple[str, ...]
    shown: str


@dataclass(frozen=True, slots=True)
class Everywhere:
    """In every region."""

    reason: str


@dataclass(frozen=True, slots=True)
class Probe:
    """The home of a child row whose parent's home must be looked up: in each region, `text` with the parent's key
    as its parameters answers one row where the parent lives."""

    parent: QualifiedName
    texts: Mapping[RegionName, str]
    sources: tuple[KeySource, ...]  #: the values of $1… of `texts`
    shown: str


@dataclass(frozen=True, slots=True)
class RowHomes:
    """INSERT … VALUES into a pinned table: each row goes to its own home. `rows[i]` is what names row i's."""

    rows: tuple[Key | Probe, ...]


Placement = Home | At | Keyed | LookUp | Everywhere | RowHomes


# --- how the answers of several regions become one ---------------------------------------------------------------


class StrategyName(StrEnum):
    ROUTE = "route"
    APPEND = "append"
    MERGE = "merge"
    COMBINE = "combine"


@dataclass(frozen=True, slots=True)
class Append:
    """Rows pass as they come, regions in any order; command tags are added up."""


@dataclass(frozen=True, slots=True)
class Finish:
    """`merge` and `combine`: each region runs its fragment; the home region's PostgreSQL runs `final` over the rows.

    `fragments[region]` takes the client's parameters as they are. Its result has `width` columns. `final` reads them
    as `unnest($1, …, $width) AS domicile_rows(c1, …, c<width>)`: parameter i is an array of column i's type (the
    gateway gives the array types in Parse). Client parameters that `final` needs follow: $width+1 is the client's
    parameter `parameters[0]`, and so on. The result of `final` has the client's columns, names and types (types
    without their modifier: `varchar`, not `varchar(20)`; the client is told what Describe at home says).

    Parse must give the types of the client's parameters, as Describe at home found them: a fragment may not use all.
    A column that is an array can't travel this way (unnest flattens it): the gateway refuses it by its type.
    """

    strategy: StrategyName
    fragments: Mapping[RegionName, str]
    width: int
    final: str
    parameters: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """Over several regions this can't be answered yet, or can't be right."""

    error: DomicileError


Gather = Append | Finish | Refused


@dataclass(frozen=True, slots=True)
class Declined:
    """Why a cheaper strategy was not taken; EXPLAIN shows it."""

    strategy: StrategyName
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A statement's plan. `texts` holds, for each region where it may run other than at home, the client's text with
    the names of managed tables replaced by those of the border schema; the home region gets the client's text
    (`text`, or `texts[here]` where names had to be replaced there too)."""

    kind: Kind
    text: str
    placement: Placement
    gather: Gather
    texts: Mapping[RegionName, str] = field(default_factory=dict)
    tables: tuple[QualifiedName, ...] = ()  #: the managed tables touched
    writes: tuple[QualifiedName, ...] = ()  #: the managed tables written
    returns_rows: bool = False
    declined: tuple[Declined, ...] = ()
    parameters_max: int = 0  #: the highest $n in the text
    detail: object = (
        None  #: for session kinds, what `session.py` says: names, values, options; for INSERT, `InsertText`
    )
    here_only: DomicileError | None = None
    """Why the statement can't run in another region (a table or function of this region alone): `route.regions` raises
    it where the keys name another."""
    calls: tuple[str, ...] = ()
    """Functions (and words such as current_user) that may answer differently in another region, or write."""
    pins: str | None = None
    """Why the session must keep its backend after this statement: a temporary table, a session's advisory lock, LISTEN,
    a cursor WITH HOLD, set_config, LOAD; None where a pool may take it back."""
    role: str = ""  #: of whom it was planned
    catalog_version: int = 0


@dataclass(frozen=True, slots=True)
class Fragment:
    """What one region gets. `parameters` are the client's parameter numbers behind $1, $2 …; None: all, as sent."""

    region: RegionName
    text: str
    parameters: tuple[int, ...] | None = None
