"""Logins cannot be tried as often as one likes, and take the same time whether there is such an account or not."""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
from sqlalchemy import func, select, update

from api.app import create_app
from api.core.access import passwords
from api.core.access.passwords import PASSWORDS, Cost, Passwords
from api.core.database.attempts import attempts
from api.extensions import db
from api.resources.auth.models import AuthSession
from api.resources.users.models import User
from tests.accounts import AUTH, PASSWORD, log_in, somebody, stranger, try_login

WRONG = "wrong horse battery"


@pytest.fixture
def nobody(database):
    return stranger(database)


@pytest.fixture
def user(session):
    del session
    return somebody(username="Ada", email="ada@example.com")


def login(client, password=WRONG, address="192.0.2.1", **name):
    return client.post(f"{AUTH}/login", json={**name, "password": password}, environ_base={"REMOTE_ADDR": address})


def register(client, number, address="192.0.2.1"):
    body = {"username": f"user-{number}", "email": f"user-{number}@example.com", "password": PASSWORD}
    return client.post(f"{AUTH}/register", json=body, environ_base={"REMOTE_ADDR": address})


def wind_on():
    """Let all windows be over."""
    with db.engine.begin() as connection:
        connection.execute(update(attempts).values(expires_at=func.now()))


# -- per account


@pytest.mark.parametrize("name", ["ada", "nobody at all"])
def test_a_name_can_be_tried_ten_times_whether_it_is_somebody_s_or_not(nobody, user, name):
    del user
    answers = [login(nobody, username=name, address=f"192.0.2.{n}") for n in range(12)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 900
    assert answers[-1].headers["Cache-Control"] == "no-store"
    assert answers[-1].mimetype == "application/problem+json"


def test_an_account_can_be_tried_ten_times_by_whichever_of_its_names(nobody, user):
    by_name = [login(nobody, username="ada").status_code for _ in range(6)]
    by_address = [
        nobody.post(f"{AUTH}/login", json={"email": user.email, "password": "wrong wrong wrong"}).status_code
        for _ in range(6)
    ]
    assert by_name + by_address == [401] * 10 + [429] * 2


def test_one_who_is_throttled_is_refused_with_the_right_password_too(nobody, user):
    for _ in range(10):
        login(nobody, username="ada")
    assert try_login(nobody, user).status_code == 429


def test_spellings_of_a_name_are_counted_together(nobody):
    names = ["ada", "ADA", " ada ", "\uff41da", "Ada"] * 2
    assert {login(nobody, username=name).status_code for name in names} == {401}
    assert login(nobody, username="aDa").status_code == 429


def test_a_window_ends_by_itself_and_is_not_prolonged_by_who_goes_on_trying(nobody, user):
    for _ in range(10):
        login(nobody, username="ada")
    before = login(nobody, username="ada").headers["Retry-After"]
    time.sleep(1.1)
    assert int(login(nobody, username="ada").headers["Retry-After"]) < int(before)
    wind_on()
    assert try_login(nobody, user).status_code == 200


def test_who_gets_it_right_starts_from_zero(nobody, user):
    for _ in range(3):
        assert [login(nobody, username="ada").status_code for _ in range(9)] == [401] * 9
        assert try_login(nobody, user).status_code == 200


def test_a_session_that_was_begun_before_is_not_disturbed(nobody, user):
    tokens = log_in(nobody, user)
    for _ in range(12):
        login(nobody, username="ada")
    assert nobody.post(f"{AUTH}/refresh", json={"refresh_token": tokens["refresh_token"]}).status_code == 200


def test_attempts_made_at_once_are_all_counted(app, nobody, user):
    del user
    start = Barrier(8)

    def guess(number):
        client = stranger(app)
        start.wait()
        return [login(client, username="ada", password=f"{WRONG} {number} {n}").status_code for n in range(3)]

    with ThreadPoolExecutor(8) as threads:
        answers = [status for found in threads.map(guess, range(8)) for status in found]
    assert sorted(answers) == [401] * 10 + [429] * 14
    assert login(nobody, username="ada").status_code == 429


def test_they_are_counted_for_all_workers_together(nobody, settings):
    for _ in range(10):
        login(nobody, username="ada")
    assert login(create_app(settings).test_client(), username="ada").status_code == 429


# -- per address


def test_an_address_can_try_a_hundred_names(nobody):
    answers = [login(nobody, username=f"name-{n}").status_code for n in range(102)]
    assert answers == [401] * 100 + [429] * 2
    assert login(nobody, username="another", address="192.0.2.2").status_code == 401


def test_a_customer_s_whole_network_is_one_address(nobody):
    answers = [login(nobody, username=f"name-{n}", address=f"2001:db8::{n:x}").status_code for n in range(101)]
    assert answers[-1] == 429
    assert login(nobody, username="another", address="2001:db8:1::1").status_code == 401


def test_logins_that_succeed_are_not_counted_against_their_address(nobody, user):
    for _ in range(105):
        assert log_in(nobody, user)


def test_an_address_can_open_twenty_accounts(nobody):
    assert [register(nobody, n).status_code for n in range(21)] == [201] * 20 + [429]
    assert register(nobody, 99, address="192.0.2.2").status_code == 201


def test_neither_names_nor_addresses_are_stored(nobody):
    login(nobody, username="ada")
    with db.engine.connect() as connection:
        rows = [*connection.execute(select(attempts))]
    assert len(rows) == 3
    assert all(len(bytes(row.digest)) == 32 for row in rows)


# -- the same time


def test_a_login_takes_the_same_time_whether_the_account_exists_or_not(nobody, monkeypatch):
    """Hashes that cost so much that nothing else counts; medians, as other things run on this machine."""
    dear = Cost(passes=2, memory_kib=8192, threads=1)
    monkeypatch.setattr(PASSWORDS, "_hasher", Passwords(dear)._hasher)
    monkeypatch.setattr(PASSWORDS, "_dummy", None)
    # One for each attempt, so that none is throttled.
    there = [somebody().username for _ in range(9)]
    login(nobody, username="warm up")
    took = {"there": [], "not there": []}
    for number, name in enumerate(there):
        for kind, tried in (("there", name), ("not there", f"nobody-{number}")):
            began = time.perf_counter()
            assert login(nobody, username=tried).status_code == 401
            took[kind].append(time.perf_counter() - began)
    there_took, not_there_took = (statistics.median(times) for times in took.values())
    assert 0.6 < there_took / not_there_took < 1.6, took


def test_an_account_that_is_there_costs_no_statement_more(nobody, user, statements):
    del user
    counts = []
    for name in ("ada", "nobody at all"):
        with statements() as counted:
            login(nobody, username=name)
        counts.append(counted.count)
    assert counts[0] == counts[1]


def test_too_many_logins_at_once_wait_and_then_are_told_to_come_again(nobody, user, monkeypatch):
    monkeypatch.setattr(passwords, "PATIENCE", 0.05)
    held = [PASSWORDS._turns.acquire() for _ in range(4)]
    answer = try_login(nobody, user)
    for _ in held:
        PASSWORDS._turns.release()
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    with db.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(AuthSession)) == 0
    assert try_login(nobody, user).status_code == 200


def test_no_connection_is_held_while_a_password_is_hashed(nobody, user, monkeypatch):
    held = []
    verify = Passwords.verify
    monkeypatch.setattr(
        Passwords, "verify", lambda *given: (held.append(db.engine.pool.checkedout()), verify(*given))[1]
    )
    before = db.engine.pool.checkedout()
    log_in(nobody, user)
    assert held == [before]


# -- who may register


def test_registration_can_be_closed(settings, database):
    del database
    closed = create_app(replace(settings, registration_open=False)).test_client()
    assert register(closed, 1).status_code == 403
    with db.engine.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(User)) == 0
