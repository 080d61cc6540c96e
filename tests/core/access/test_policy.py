"""Policies: permissions, fields and scopes as data, and what they let a caller see."""

from __future__ import annotations

from dataclasses import replace

import pytest

from api.core.access.caller import ANONYMOUS, SYSTEM, Caller
from api.core.access.grants import ALL, NONE, Grant
from api.core.access.policy import PERMISSIONS, READING, Policies, Policy
from api.core.access.predicates import anyone, owner, role
from api.core.access.visibility import UNRESTRICTED

manager = role("manager")
ADA = Caller("user:1", 1)
MANAGER = Caller("user:2", 2, frozenset({"manager"}))
POLICY = Policy(
    {"read": owner() | manager, "update": manager, "history": manager, "list_prices": anyone},
    readable={"margin": manager},
    writable={"status": manager},
).of("orders")


class Order:
    pass


class Item:
    pass


class Unknown:
    pass


def key(*scopes, of=MANAGER):
    return replace(of, scopes=frozenset(scopes))


def test_what_is_not_named_is_refused_to_everybody():
    assert POLICY.grant("delete", MANAGER) == NONE
    assert POLICY.grant("no_such_thing", replace(MANAGER, roles=frozenset({"admin"}))) == NONE


def test_the_service_itself_may_do_everything():
    assert POLICY.grant("delete", SYSTEM) == ALL
    assert POLICY.hidden(SYSTEM) == POLICY.protected(SYSTEM) == frozenset()


def test_fields_are_hidden_and_protected_for_whom_their_rule_does_not_hold():
    assert (POLICY.hidden(ADA), POLICY.protected(ADA)) == ({"margin"}, {"status"})
    assert (POLICY.hidden(MANAGER), POLICY.protected(MANAGER)) == (frozenset(), frozenset())
    assert POLICY.hidden(ANONYMOUS) == {"margin"}


@pytest.mark.parametrize("name", ["import", "see_deleted"])
def test_what_is_about_callers_cannot_ask_for_a_row(name):
    with pytest.raises(ValueError, match=f"'{name}': the owner .* depends on the row"):
        Policy({name: owner() | manager})


@pytest.mark.parametrize("rules", ["readable", "writable"])
def test_rules_about_fields_cannot_ask_for_a_row(rules):
    with pytest.raises(ValueError, match="'status': the owner depends on the row"):
        Policy({}, **{rules: {"status": owner()}})


# -- scopes


@pytest.mark.parametrize(
    ("scopes", "read", "update", "history"),
    [
        (("orders:read",), ALL, NONE, ALL),
        (("orders:write",), ALL, ALL, ALL),
        (("products:read", "products:write"), NONE, NONE, NONE),
        ((), NONE, NONE, NONE),
        (("orders",), NONE, NONE, NONE),
    ],
)
def test_an_api_key_needs_the_scope_besides_the_role(scopes, read, update, history):
    found = [POLICY.grant(permission, key(*scopes)) for permission in ("read", "update", "history")]
    assert found == [read, update, history]


def test_a_scope_gives_nothing_that_the_user_may_not_do():
    assert POLICY.grant("update", key("orders:write", of=ADA)) == NONE
    assert POLICY.grant("read", key("orders:write", of=ADA)) == Grant(owners=frozenset({"user_id"}))


def test_what_anyone_may_do_takes_no_scope():
    assert POLICY.grant("list_prices", key()) == ALL


def test_fields_follow_the_scopes_too():
    assert POLICY.hidden(key("orders:read")) == frozenset()
    assert POLICY.protected(key("orders:read")) == {"status"}
    assert POLICY.hidden(key("products:read")) == {"margin"}


def test_all_that_only_reads_is_within_the_scope_for_reading():
    assert {*PERMISSIONS} > READING
    assert not READING & {"create", "update", "delete", "restore", "import"}


# -- all policies together


@pytest.fixture
def policies():
    policies = Policies()
    policies.add(Order, replace(POLICY, parts=(Item,)), frozenset({Item}))
    return policies


def test_who_may_read_sees_these_rows_and_fields(policies):
    seen = policies.visibility_of(ADA)
    assert seen.rows_of(Order) == Grant(owners=frozenset({"user_id"}))
    assert seen.rows_of(Item) == ALL
    assert seen.hidden_of(Order) == {"margin"}
    assert policies.visibility_of(SYSTEM) is UNRESTRICTED


def test_nothing_is_in_sight_of_a_model_that_no_policy_knows(policies):
    assert policies.visibility_of(MANAGER).rows_of(Unknown) == NONE


def test_parts_are_out_of_sight_with_what_they_belong_to(policies):
    assert policies.visibility_of(ANONYMOUS).rows_of(Item) == NONE


def test_a_model_that_is_looked_at_and_that_no_policy_knows_is_told(policies):
    assert [*policies.unsettled()] == []
    policies.add(Order, POLICY, frozenset({Item, Unknown}))
    assert [*policies.unsettled()] == [("orders", Item), ("orders", Unknown)]


def test_callers_of_one_kind_share_what_they_see_and_others_do_not(policies):
    assert policies.visibility_of(ADA) is policies.visibility_of(Caller("user:7", 7))
    assert policies.visibility_of(ADA) != policies.visibility_of(MANAGER)
    assert hash(policies.visibility_of(MANAGER)) == hash(policies.visibility_of(key("orders:read")))


def test_to_see_less_of_one_model_leaves_the_others(policies):
    seen = policies.visibility_of(MANAGER)
    narrowed = seen.narrowed(Order, Grant(owners=frozenset({"user_id"})))
    assert narrowed.rows_of(Order) == Grant(owners=frozenset({"user_id"}))
    assert narrowed.rows_of(Item) == ALL
    assert seen.narrowed(Order, ALL) is seen
    assert UNRESTRICTED.narrowed(Order, NONE).rows_of(Item) == ALL
