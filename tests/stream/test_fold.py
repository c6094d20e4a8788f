"""Folding a batch leaves each table as doing its changes one by one would."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domicile.replication import wire
from domicile.replication.fold import fold
from domicile.replication.wire import Change, Kind, Row


def row(key: int, value: int) -> Row:
    return (bytes([key]), bytes([value]))


def one_by_one(table: dict[Row, Row], changes: list[Change]) -> None:
    for change in changes:
        if change.kind is Kind.TRUNCATE:
            table.clear()
        if change.old is not None:
            table.pop(change.old, None)
        if change.new is not None:
            table[change.new[:1]] = change.new


keys, values = st.integers(0, 4), st.integers(0, 2)
keyed = st.one_of(
    st.builds(lambda k, v: Change(Kind.INSERT, 0, None, row(k, v)), keys, values),
    st.builds(lambda k, v: Change(Kind.UPDATE, 0, None, row(k, v)), keys, values),
    st.builds(lambda o, k, v: Change(Kind.UPDATE, 0, (bytes([o]),), row(k, v)), keys, keys, values),
    st.builds(lambda k: Change(Kind.DELETE, 0, (bytes([k]),)), keys),
    st.just(Change(Kind.TRUNCATE, 0)),
)


@given(st.lists(keyed, max_size=12), st.dictionaries(keys, values))
def test_with_a_key(changes: list[Change], before: dict[int, int]) -> None:
    start = {(bytes([k]),): row(k, v) for k, v in before.items()}
    expected = dict(start)
    one_by_one(expected, changes)
    net = fold(changes, [(0,)]).get(0)
    if net is not None:
        if net.emptied:
            start.clear()
        for key in net.deleted_keys:
            start.pop(key, None)
        for put in net.puts:
            start[put[:1]] = put
        assert not net.fewer
    assert start == expected


@given(st.lists(st.tuples(st.booleans(), keys, values), max_size=12), st.booleans())
def test_without_a_key_rows_are_counted(steps: list[tuple[bool, int, int]], empty_first: bool) -> None:
    before = Counter({row(k, v): 12 for k in range(5) for v in range(3)})
    expected = Counter() if empty_first else Counter(before)
    changes = [Change(Kind.TRUNCATE, 0)] if empty_first else []
    for adds, k, v in steps:
        image = row(k, v)
        if adds:
            changes.append(Change(Kind.INSERT, 0, None, image))
            expected[image] += 1
        elif expected[image] > 0:
            changes.append(Change(Kind.DELETE, 0, image))
            expected[image] -= 1
    net = fold(changes, [None]).get(0)
    if net is not None:
        if net.emptied:
            before.clear()
        before.subtract(net.fewer)
        before.update(net.puts)
    assert +before == +expected


@pytest.mark.parametrize(
    "change",
    [
        Change(Kind.INSERT, 1, None, row(0, 0)),
        Change(Kind.INSERT, 0),
        Change(Kind.UPDATE, 0, (b"",)),
        Change(Kind.DELETE, 0),
        Change(Kind.DELETE, 0, (b"",), row(0, 0)),
    ],
)
def test_a_change_that_nobody_offered_is_refused(change: Change) -> None:
    with pytest.raises(wire.WireError):
        fold([change], [(0,)])
