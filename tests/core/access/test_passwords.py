"""Passwords: dear to guess, in the same time for everybody, and not too many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from argon2 import PasswordHasher, extract_parameters

from api.core.access import passwords
from api.core.access.password_rules import is_common, problems
from api.core.access.passwords import Cost, Passwords
from api.core.errors import UnavailableError

PASSWORD = "correct horse battery"
CHEAP = Cost(passes=1, memory_kib=8, threads=1)


@pytest.fixture
def cheap():
    return Passwords(CHEAP)


def test_a_hash_is_argon2id_as_rfc_9106_recommends():
    assert Passwords().hash(PASSWORD).startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_a_password_is_verified_by_its_hash(cheap):
    assert cheap.verify(cheap.hash(PASSWORD), PASSWORD)
    assert not cheap.verify(cheap.hash(PASSWORD), PASSWORD + "!")


def test_the_same_password_has_another_hash_each_time(cheap):
    assert cheap.hash(PASSWORD) != cheap.hash(PASSWORD)


@pytest.mark.parametrize("stored", [None, "", "rubbish", "$argon2id$v=19$m=8,t=1,p=1$", "$2b$12$x"])
def test_what_is_no_hash_is_nobody_s_password(cheap, stored):
    assert not cheap.verify(stored, PASSWORD)
    assert not cheap.verify(stored, "")
    assert not cheap.verify(stored, "nobody's password")


def test_a_password_without_a_hash_costs_one_verification_at_the_same_parameters(cheap, monkeypatch):
    verified = []
    verify = PasswordHasher.verify
    monkeypatch.setattr(PasswordHasher, "verify", lambda self, *a: (verified.append(a[0]), verify(self, *a))[1])
    for stored in (None, "rubbish"):
        cheap.verify(stored, PASSWORD)
    costs = [extract_parameters(stored) for stored in verified if stored != "rubbish"]
    assert len(costs) == 2
    assert {(cost.time_cost, cost.memory_cost, cost.parallelism) for cost in costs} == {(1, 8, 1)}


def test_a_hash_by_other_parameters_is_verified_and_outdated(cheap):
    stored = Passwords(Cost(passes=2, memory_kib=16, threads=1)).hash(PASSWORD)
    assert cheap.verify(stored, PASSWORD)
    assert cheap.is_outdated(stored)
    assert not cheap.is_outdated(cheap.hash(PASSWORD))


def test_the_same_letters_typed_on_another_keyboard_are_the_same_password(cheap):
    assert cheap.verify(cheap.hash("caf\u00e9 au lait bol"), "cafe\u0301 au lait bol")


@pytest.mark.parametrize("password", ["пароль 🔑 \\'\"", "\ud800" * 12, "a\x00b" * 5, "日本語のパスワードです"])
def test_a_password_may_be_of_any_characters(cheap, password):
    assert cheap.verify(cheap.hash(password), password)
    assert not cheap.verify(cheap.hash(password), password + "x")


def test_no_more_hashes_than_that_are_made_at_once_and_who_waits_too_long_is_told(monkeypatch):
    monkeypatch.setattr(passwords, "PATIENCE", 0.05)
    busy = Passwords(Cost(passes=1, memory_kib=8, threads=1, at_once=2))
    with busy._turn(), busy._turn(), pytest.raises(UnavailableError) as caught:
        busy.hash(PASSWORD)
    assert int(caught.value.headers["Retry-After"]) > 0
    assert busy.verify(busy.hash(PASSWORD), PASSWORD)


def test_a_turn_is_given_back_whatever_happens():
    busy = Passwords(Cost(passes=1, memory_kib=8, threads=1, at_once=1))
    start = Barrier(4)

    def fail(_):
        start.wait()
        return [busy.verify(stored, PASSWORD) for stored in (None, "rubbish", busy.hash("another password"))]

    with ThreadPoolExecutor(4) as threads:
        assert [*threads.map(fail, range(4))] == [[False] * 3] * 4


def test_neither_a_password_nor_a_hash_is_in_a_repr(cheap):
    assert PASSWORD not in repr(cheap)
    assert "argon2" not in repr(cheap)


# -- rules


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery",
        "demo-password",
        "Tr0ub4dor&3xyz",
        "пароль моей собаки",
        "kvXw-82mQ-pLz1",
        "purple elephants dance",
        "x" + "y" * 60 + "abcdefg",
    ],
)
def test_a_password_that_is_hard_to_guess_is_taken(password):
    assert [*problems(password, ["ada", "ada@example.com"])] == []


@pytest.mark.parametrize(
    "password",
    [
        "password1234",
        "Password!2026",
        "P@ssw0rd1234",
        "123456789012",
        "210987654321",
        "qwertyuiop123",
        "qwertyuiopas",
        "letmein12345",
        "iloveyou2026!",
        "administrator",
        "aaaaaaaaaaaa",
        "abababababab",
        "abcdefghijkl",
        "passwordpassword",
        "1q2w3e4r5t6y",
        "1qaz2wsx3edc",
        "            ",
    ],
)
def test_one_of_the_commonest_is_refused(password):
    assert is_common(password)
    assert len([*problems(password)]) == 1


@pytest.mark.parametrize("password", ["lovelace-1815", "my LOVELACE pass", "ada.love@home", "xxada.love@example.comxx"])
def test_one_made_of_one_s_own_name_is_refused(password):
    assert "username" in next(problems(password, ["lovelace", "ada.love@example.com"]))


def test_a_name_too_short_to_matter_may_be_in_it():
    assert [*problems("an adamant stand", ["ada"])] == []


@pytest.mark.parametrize("password", ["elevenchars", "x" * 129, ""])
def test_one_of_the_wrong_length_is_refused(password):
    assert [*problems(password)] == ["Length must be between 12 and 128."]


def test_a_refusal_does_not_repeat_the_password():
    assert "iloveyou" not in next(problems("iloveyou2026!"))
