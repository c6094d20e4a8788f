"""Statements as pglast's own trees, for the strategies that write new ones: read, change, print, and read again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pglast.ast
import pglast.enums
from pglast import parse_sql, parser
from pglast.stream import RawStream

from ...catalog.names import RegionName
from ...catalog.snapshot import Catalog
from ..keys import base_type
from ..refusal import Decline
from ..resolve import Facts, Scope, Source, column_of, visible_columns
from ..splice import Name, abroad

# pglast's annotations make every field optional, which no statement that was parsed has: read as untyped here
ast: Any = pglast.ast
enums: Any = pglast.enums
parse_tree: Any = parse_sql

COLUMNS_MAX = 1600
"""PostgreSQL's own bound on the columns of a result (MaxTupleAttributeNumber, rounded down)."""

ROWS = "domicile_rows"


def select(sql: str) -> Any:
    """The SELECT of the text, as a tree that may be changed."""
    (raw,) = parse_tree(sql)
    if not isinstance(raw.stmt, ast.SelectStmt):
        raise Decline("only a SELECT can be put together from several regions")
    return raw.stmt


def printed(node: Any) -> str:
    """The tree as text that parses to the same tree. Raises Decline where the printer or the parser disagree."""
    try:
        text = str(RawStream()(node))
        again = parse_tree(text)
    except (parser.ParseError, NotImplementedError, AttributeError) as error:
        raise Decline(f"the statement can't be written anew ({error})") from None
    if len(again) != 1 or again[0].stmt != node:
        raise Decline("the statement can't be written anew without a change")
    return text


def expression(node: Any) -> str:
    """An expression as text, checked as `printed` does."""
    return printed(ast.SelectStmt(**_BARE, targetList=(ast.ResTarget(val=node),))).removeprefix("SELECT ")


_BARE: dict[str, Any] = {
    "op": enums.SetOperation.SETOP_NONE,
    "limitOption": enums.LimitOption.LIMIT_OPTION_DEFAULT,
    "all": False,
    "groupDistinct": False,
}


def parsed(text: str) -> Any:
    """The tree of an expression that is written here."""
    return parse_tree(f"SELECT {text}")[0].stmt.targetList[0].val


def transform(node: Any, change: Callable[[Any], Any]) -> Any:
    """A copy of the tree; where `change` gives a node, that stands instead and is not looked into."""
    if isinstance(node, tuple | list):
        return tuple(transform(n, change) for n in node)
    if not isinstance(node, ast.Node):
        return node
    new = change(node)
    if new is not None:
        return new
    return type(node)(**{name: transform(getattr(node, name), change) for name in node})


def walk(node: Any) -> Iterator[Any]:
    """Every node of the tree."""
    stack = [node]
    while stack:
        here = stack.pop()
        if isinstance(here, tuple | list):
            stack.extend(here)
        elif isinstance(here, ast.Node):
            yield here
            stack.extend(value for name in here if isinstance(value := getattr(here, name), ast.Node | tuple))


def with_names_abroad(statement: Any, sql: str, found: Sequence[Name], here: RegionName) -> Any:
    """A copy of the statement with managed tables named as this region's roles see them elsewhere.

    This tree's locations count characters, the names' offsets bytes. Raises Decline where a name was not found again.
    """
    source = sql.encode()
    places = {len(source[: name.offset].decode()): name for name in found}
    replaced: set[int] = set()

    def change(node: Any) -> Any:
        if isinstance(node, ast.RangeVar) and node.location in places:
            replaced.add(node.location)
            schema, relation = abroad(places[node.location].table, here)
            copied = {n: getattr(node, n) for n in node}
            return ast.RangeVar(**{**copied, "catalogname": None, "schemaname": schema, "relname": relation})
        if isinstance(node, ast.ColumnRef) and node.location in places and len(node.fields) > 2:
            replaced.add(node.location)
            new = abroad(places[node.location].table, here)
            fields = (*(ast.String(part) for part in new), node.fields[-1])
            return ast.ColumnRef(fields=fields, location=node.location)
        return None

    changed = transform(statement, change)
    for node in walk(changed):
        if isinstance(node, ast.RangeVar) and node.location in places and node.location not in replaced:
            raise Decline(f"the name of {places[node.location].table} can't be replaced")
    if not replaced:
        raise Decline("the names of its tables can't be replaced")
    return changed


def fragments(statement: Any, sql: str, catalog: Catalog, found: Sequence[Name]) -> dict[RegionName, str]:
    """The statement's text for every region."""
    here = printed(statement)
    other = printed(with_names_abroad(statement, sql, found, catalog.here))
    return {catalog.here: here, **dict.fromkeys(catalog.others(), other)}


def rows_from(width: int) -> Any:
    """`SELECT NULL FROM unnest($1, $2) AS domicile_rows(c1, c2)`, to be filled in."""
    if width > COLUMNS_MAX:
        raise Decline(f"it would need {width} columns, more than {COLUMNS_MAX}")
    parameters = ", ".join(f"${i}" for i in range(1, width + 1))
    columns = ", ".join(f"c{i}" for i in range(1, width + 1))
    return parse_tree(f"SELECT NULL FROM unnest({parameters}) AS {ROWS}({columns})")[0].stmt


def row_column(number: int) -> Any:
    """`domicile_rows.c1` for 1: qualified, for the client may have called a column of its result c1."""
    return ast.ColumnRef(fields=(ast.String(ROWS), ast.String(f"c{number}")))


class Parameters:
    """The client's parameters that the final statement needs: they follow those of the rows' columns."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.needed: list[int] = []

    def renumbered(self, node: Any) -> Any:
        """A copy of the tree with the client's parameters numbered as the final statement has them."""

        def change(n: Any) -> Any:
            if isinstance(n, ast.ParamRef):
                if n.number not in self.needed:
                    self.needed.append(n.number)
                return ast.ParamRef(number=self.width + 1 + self.needed.index(n.number))
            return None

        return transform(node, change)


# --- limits -------------------------------------------------------------------------------------------------------

_BIGINT_MAX = 2**63 - 1


def is_constant(node: Any) -> bool:
    """True for an expression of constants and parameters alone, without a function."""
    allowed = (ast.A_Const, ast.ParamRef, ast.TypeCast, ast.TypeName, ast.A_Expr)
    inner = (ast.Integer, ast.Float, ast.String, ast.Boolean)
    return all(isinstance(n, allowed + inner) for n in walk(node))


def check_limits(statement: Any) -> None:
    for what, node in (("LIMIT", statement.limitCount), ("OFFSET", statement.limitOffset)):
        if node is not None and not is_constant(node):
            raise Decline(f"{what} is more than a number or a parameter")


def pushed_limit(statement: Any) -> Any:
    """How many rows each region must give at most: LIMIT and OFFSET together; None for all."""
    limit, offset = statement.limitCount, statement.limitOffset
    if limit is None or (isinstance(limit, ast.A_Const) and limit.isnull):
        return None
    if offset is None or (isinstance(offset, ast.A_Const) and offset.isnull):
        return limit
    numbers: list[Any] = [
        n.val.ival if isinstance(n, ast.A_Const) and isinstance(n.val, ast.Integer) else None for n in (limit, offset)
    ]
    if numbers[0] is not None and numbers[1] is not None and min(numbers) >= 0:
        return ast.A_Const(isnull=False, val=ast.Integer(ival=sum(numbers))) if sum(numbers) < 2**31 else None
    # least() passes over NULL: no limit, or no offset and too many rows, which the final statement cuts
    text = f"least({_as_numeric(limit)} + {_as_numeric(offset)}, {_BIGINT_MAX})::bigint"
    return parsed(text)


def _as_numeric(node: Any) -> str:
    return f"({expression(node)})::bigint::numeric"


def copy_limits(statement: Any, final: Any, parameters: Parameters) -> None:
    """Gives the final statement the client's LIMIT and OFFSET."""
    final.limitOption = statement.limitOption
    if statement.limitCount is not None:
        final.limitCount = parameters.renumbered(statement.limitCount)
    if statement.limitOffset is not None:
        final.limitOffset = parameters.renumbered(statement.limitOffset)


# --- names and types ----------------------------------------------------------------------------------------------


def column_name(target: Any) -> str:
    """The name that PostgreSQL gives to the column of a target (FigureColname of parse_target.c)."""
    return str(target.name) if target.name else (_figured(target.val)[1] or "?column?")


_VALUE_NAMES = {
    "SVFOP_CURRENT_DATE": "current_date",
    "SVFOP_CURRENT_TIME": "current_time",
    "SVFOP_CURRENT_TIME_N": "current_time",
    "SVFOP_CURRENT_TIMESTAMP": "current_timestamp",
    "SVFOP_CURRENT_TIMESTAMP_N": "current_timestamp",
    "SVFOP_LOCALTIME": "localtime",
    "SVFOP_LOCALTIME_N": "localtime",
    "SVFOP_LOCALTIMESTAMP": "localtimestamp",
    "SVFOP_LOCALTIMESTAMP_N": "localtimestamp",
}
_NAMED: tuple[tuple[type, str], ...] = (
    (ast.A_ArrayExpr, "array"),
    (ast.RowExpr, "row"),
    (ast.CoalesceExpr, "coalesce"),
    (ast.GroupingFunc, "grouping"),
    (ast.XmlSerialize, "xmlserialize"),
    (ast.JsonParseExpr, "json"),
    (ast.JsonScalarExpr, "json_scalar"),
    (ast.JsonSerializeExpr, "json_serialize"),
    (ast.JsonObjectConstructor, "json_object"),
    (ast.JsonArrayConstructor, "json_array"),
    (ast.JsonArrayQueryConstructor, "json_array"),
    (ast.JsonObjectAgg, "json_objectagg"),
    (ast.JsonArrayAgg, "json_arrayagg"),
)


def _figured(node: Any) -> tuple[int, str | None]:
    """How strongly the node names its column (0 to 2), and how."""
    if isinstance(node, ast.ColumnRef):
        found = [f.sval for f in node.fields if isinstance(f, ast.String)]
        return (2, found[-1]) if found else (0, None)
    if isinstance(node, ast.A_Indirection):
        found = [f.sval for f in node.indirection if isinstance(f, ast.String)]
        return (2, found[-1]) if found else _figured(node.arg)
    if isinstance(node, ast.FuncCall):
        return 2, node.funcname[-1].sval
    if isinstance(node, ast.A_Expr) and node.kind == enums.A_Expr_Kind.AEXPR_NULLIF:
        return 2, "nullif"
    if isinstance(node, ast.TypeCast):
        strength, name = _figured(node.arg)
        return (strength, name) if strength > 1 else (1, node.typeName.names[-1].sval)
    if isinstance(node, ast.CollateClause):
        return _figured(node.arg)
    if isinstance(node, ast.CaseExpr):
        strength, name = _figured(node.defresult)
        return (strength, name) if strength > 1 else (1, "case")
    if isinstance(node, ast.MinMaxExpr):
        return 2, "greatest" if node.op == enums.MinMaxOp.IS_GREATEST else "least"
    if isinstance(node, ast.SQLValueFunction):
        return 2, _VALUE_NAMES.get(enums.SQLValueFunctionOp(node.op).name)
    if isinstance(node, ast.SubLink):
        return _figured_sublink(node)
    if isinstance(node, ast.XmlExpr):
        name = enums.XmlExprOp(node.op).name.removeprefix("IS_").lower()
        return (0, None) if name == "document" else (2, name)
    if isinstance(node, ast.JsonFuncExpr):
        return 2, enums.JsonExprOp(node.op).name.removesuffix("_OP").lower()
    return next(((2, name) for kind, name in _NAMED if isinstance(node, kind)), (0, None))


def _figured_sublink(node: Any) -> tuple[int, str | None]:
    kind = enums.SubLinkType(node.subLinkType)
    if kind == enums.SubLinkType.EXISTS_SUBLINK:
        return 2, "exists"
    if kind == enums.SubLinkType.ARRAY_SUBLINK:
        return 2, "array"
    targets = getattr(node.subselect, "targetList", None)
    if kind == enums.SubLinkType.EXPR_SUBLINK and targets:
        return (2, targets[0].name) if targets[0].name else _figured(targets[0].val)
    return 0, None


def expanded(statement: Any, facts: Facts) -> list[Any]:
    """The targets with every `*` written out. Raises Decline where the columns behind a `*` are not known."""
    targets = []
    for target in statement.targetList or ():
        fields = target.val.fields if isinstance(target.val, ast.ColumnRef) else ()
        if not fields or not isinstance(fields[-1], ast.A_Star):
            targets.append(target)
            continue
        parts = [f.sval for f in fields[:-1]]
        for qualifier, column in _star(facts.scopes[0], parts):
            reference = ast.ColumnRef(fields=(*(ast.String(q) for q in qualifier), ast.String(column)))
            targets.append(ast.ResTarget(val=reference))
    if not targets:
        raise Decline("it selects no column")
    return targets


def _star(top: Scope, parts: list[str]) -> Iterator[tuple[list[str], str]]:
    hint = "Name the columns."
    if top.using and not parts:
        raise Decline("* over a join with USING", hint)
    sources = [s for s in top.sources if not parts or s.name == parts[-1]]
    if not sources:
        raise Decline(f"the columns of {'.'.join([*parts, '*'])} are not known", hint)
    for source in sources:
        columns = visible_columns(source)
        if source.name is None or columns is None or len(set(columns)) != len(columns):
            raise Decline(f"the columns of {'.'.join([*parts, '*'])} are not known", hint)
        yield from (([source.name], column) for column in columns)


def carried(node: Any, types: Types) -> tuple[Any, str | None]:
    """What a fragment selects for the node, and the type to which the final statement casts that column, if any.

    Arrays travel as text, for unnest would flatten arrays of them. Raises Decline for an array whose type is not known.
    """
    known = types.of(node)
    if known is not None and known.endswith("[]"):
        cast = parsed("NULL::pg_catalog.text")
        cast.arg = node
        return cast, known
    if isinstance(node, ast.A_ArrayExpr):
        raise Decline("an array of a type that is not known", "Cast it: (ARRAY[…])::text[].")
    return node, None


_NUMERIC_ORDER = ("smallint", "integer", "bigint", "numeric", "real", "double precision")
_TYPE_NAMES = {
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "float4": "real",
    "float8": "double precision",
    "varchar": "character varying",
    "bpchar": "character",
    "bool": "boolean",
}


class Types:
    """The types of expressions, as far as they can be told from the catalog: base names, None for unknown."""

    def __init__(self, facts: Facts) -> None:
        self.scope = facts.scopes[0]

    def column(self, node: Any) -> Any:
        """The catalog's column behind a ColumnRef."""
        found = self.owner(node)
        return found[0].table.column(found[1]) if found is not None and found[0].table is not None else None

    def owner(self, node: Any) -> tuple[Source, str] | None:
        """Whose column a ColumnRef is."""
        if not isinstance(node, ast.ColumnRef):
            return None
        fields: list[dict[str, Any]] = [
            {"String": {"sval": f.sval}} if isinstance(f, ast.String) else {"A_Star": {}} for f in node.fields
        ]
        return column_of(self.scope, {"fields": fields})

    def of(self, node: Any) -> str | None:
        if isinstance(node, ast.ColumnRef):
            column = self.column(node)
            return None if column is None else _base(column.type_name)
        if isinstance(node, ast.A_Const):
            return _constant_type(node)
        if isinstance(node, ast.TypeCast):
            parts = [n.sval for n in node.typeName.names]
            if len(parts) > 2 or (len(parts) == 2 and parts[0] != "pg_catalog"):
                return None
            name = _TYPE_NAMES.get(parts[-1], parts[-1])
            return f"{name}[]" if node.typeName.arrayBounds else name
        if isinstance(node, ast.A_Expr):
            return self._of_operator(node)
        if isinstance(node, ast.CollateClause):
            return self.of(node.arg)
        if isinstance(node, ast.CoalesceExpr | ast.MinMaxExpr):
            return self.common(node.args)
        if isinstance(node, ast.CaseExpr):
            results = [when.result for when in node.args]
            return self.common([*results, *([node.defresult] if node.defresult is not None else [])])
        if isinstance(node, ast.FuncCall):
            return self._of_function(node)
        return None

    def common(self, nodes: Sequence[Any]) -> str | None:
        """The type that all resolve to (UNION's and CASE's rule) among numbers, or the one that all have."""
        known = [t for n in nodes if (t := self.of(n)) != "unknown"]
        if not known or None in known:
            return None
        found = [t for t in known if t is not None]
        if all(t in _NUMERIC_ORDER for t in found):
            return max(found, key=_NUMERIC_ORDER.index)
        return found[0] if len(set(found)) == 1 else None

    def _of_operator(self, node: Any) -> str | None:
        operator = node.name[-1].sval
        if node.kind != enums.A_Expr_Kind.AEXPR_OP or len(node.name) > 1:
            return self.of(node.lexpr) if node.kind == enums.A_Expr_Kind.AEXPR_NULLIF else None
        right = self.of(node.rexpr)
        if node.lexpr is None:
            return right if operator in "+-" and right in _NUMERIC_ORDER else None
        left = self.of(node.lexpr)
        if operator not in ("+", "-", "*", "/", "%"):
            return None
        if left == "unknown" or right == "unknown":  # a literal takes the other side's type
            left = right = right if left == "unknown" else left
        if left not in _NUMERIC_ORDER or right not in _NUMERIC_ORDER:
            return None
        assert left is not None
        assert right is not None
        wider = max(left, right, key=_NUMERIC_ORDER.index)
        # real with anything but real is reckoned in double precision
        return "double precision" if wider == "real" and left != right else wider

    def _of_function(self, node: Any) -> str | None:
        name = node.funcname[-1].sval
        arguments = node.args or ()
        if name in ("length", "char_length", "character_length", "octet_length", "ascii", "strpos"):
            return "integer"
        if name in ("extract",):
            return "numeric"
        if name in ("abs", "round", "ceil", "ceiling", "floor", "trunc", "sign") and arguments:
            kind = self.of(arguments[0])
            if name == "abs" or kind in ("numeric", "double precision"):
                return kind if kind in _NUMERIC_ORDER else None
            if kind in _NUMERIC_ORDER:
                return "numeric" if len(arguments) > 1 else "double precision"
        return None


def _base(type_name: str) -> str:
    return type_name if type_name.endswith("[]") else base_type(type_name)


def _constant_type(node: Any) -> str | None:
    if node.isnull or isinstance(node.val, ast.String):
        return "unknown"
    if isinstance(node.val, ast.Integer):
        return "integer"
    if isinstance(node.val, ast.Float):
        text = node.val.fval.lstrip("-")
        return "bigint" if text.isdigit() and int(text) <= _BIGINT_MAX else "numeric"
    return "boolean" if isinstance(node.val, ast.Boolean) else None
