"""Predicates: which rows they open to which caller."""

from __future__ import annotations

import pytest

from api.core.access.caller import ANONYMOUS, Caller
from api.core.access.grants import ALL, NONE, Grant
from api.core.access.predicates import anyone, authenticated, in_person, nobody, owner, role, scope

ADA = Caller("user:1", 1)
MANAGER = Caller("user:2", 2, frozenset({"manager"}))
KEY = Caller("user:2", 2, frozenset({"manager"}), frozenset({"orders:read"}))
OWN = Grant(owners=frozenset({"user_id"}))


@pytest.mark.parametrize(
    ("predicate", "anonymous", "ada", "manager", "key"),
    [
        (anyone, ALL, ALL, ALL, ALL),
        (authenticated, NONE, ALL, ALL, ALL),
        (in_person, NONE, ALL, ALL, NONE),
        (nobody, NONE, NONE, NONE, NONE),
        (role("manager"), NONE, NONE, ALL, ALL),
        (role("admin", "manager"), NONE, NONE, ALL, ALL),
        (role("admin"), NONE, NONE, NONE, NONE),
        (scope("orders:read"), NONE, ALL, ALL, ALL),
        (scope("orders:write"), NONE, ALL, ALL, NONE),
        (owner("user_id"), NONE, OWN, OWN, OWN),
        (owner("user_id") | role("manager"), NONE, OWN, ALL, ALL),
        (owner("user_id") & role("manager"), NONE, NONE, OWN, OWN),
        (owner("user_id") & in_person, NONE, OWN, OWN, NONE),
        (role("manager") & scope("orders:write"), NONE, NONE, ALL, NONE),
        (owner("a") | owner("b"), NONE, Grant(owners=frozenset("ab")), Grant(owners=frozenset("ab")), None),
    ],
    ids=lambda value: None if isinstance(value, Grant) else str(value),
)
def test_a_predicate_opens_these_rows(predicate, anonymous, ada, manager, key):
    found = [predicate.grant(caller) for caller in (ANONYMOUS, ADA, MANAGER)]
    assert found == [anonymous, ada, manager]
    assert key is None or predicate.grant(KEY) == key


def test_a_row_has_one_owner():
    with pytest.raises(TypeError, match="cannot both be asked of a row"):
        owner("user_id") & owner("author_id")


def test_what_it_says_can_be_read():
    assert str(owner("user_id") | role("manager", "admin")) == "the owner or the role manager or admin"
    assert str(role("manager") & scope("orders:write")) == "the role manager and the scope orders:write"
    assert str(anyone) == "anyone"


def test_either_of_two_needs_a_scope_only_where_both_do():
    assert not (anyone | role("admin")).needs_scope
    assert (anyone & role("admin")).needs_scope


# -- grants


class Row:
    user_id = 1
    author_id = 2


@pytest.mark.parametrize(
    ("grant", "user_id", "covered"),
    [
        (ALL, None, True),
        (NONE, 1, False),
        (OWN, 1, True),
        (OWN, 2, False),
        (OWN, None, False),
        (Grant(owners=frozenset({"user_id", "author_id"})), 2, True),
    ],
)
def test_a_grant_covers_these_rows(grant, user_id, covered):
    assert grant.covers(Row(), user_id) is covered


def test_a_row_of_nobody_is_not_covered_by_a_caller_without_an_id():
    row = Row()
    row.user_id = None
    assert not OWN.covers(row, None)


def test_what_two_grants_open_together_and_both():
    other = Grant(owners=frozenset({"author_id"}))
    assert OWN | other == Grant(owners=frozenset({"user_id", "author_id"}))
    assert (OWN | ALL, OWN & ALL, ALL & OWN) == (ALL, OWN, OWN)
    assert OWN & other == NONE
    assert not OWN & other
