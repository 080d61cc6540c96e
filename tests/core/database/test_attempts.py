"""Attempts are counted in the database, in windows that end by themselves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from api.core.database import attempts
from api.core.database.attempts import Limit
from api.core.database.retention import purgers
from api.core.errors import TooManyRequestsError
from api.extensions import db

LIMIT = Limit("login", "ada", 2, 60)

pytestmark = pytest.mark.usefixtures("database")


def count(*limits):
    with db.transaction() as session:
        return attempts.count(session, limits)


def stored():
    with db.engine.connect() as connection:
        return connection.execute(select(attempts.attempts.c.count)).scalars().all()


def test_so_many_are_let_through_and_then_none():
    assert [count(LIMIT) is None for _ in range(4)] == [True, True, False, False]


def test_one_too_many_is_told_how_long_to_wait():
    for _ in range(2):
        count(LIMIT)
    refusal = count(LIMIT)
    assert isinstance(refusal, TooManyRequestsError)
    assert 58 <= int(refusal.headers["Retry-After"]) <= 60
    assert "ada" not in refusal.detail


@pytest.mark.parametrize("other", [Limit("login", "bob", 2, 60), Limit("register", "ada", 2, 60)])
def test_another_kind_and_another_subject_are_counted_apart(other):
    for _ in range(3):
        count(LIMIT)
    assert count(other) is None


def test_a_new_window_begins_when_the_old_one_is_over():
    for _ in range(3):
        count(LIMIT)
    with db.engine.begin() as connection:
        connection.execute(update(attempts.attempts).values(expires_at=func.now()))
    assert count(LIMIT) is None
    assert stored() == [1]


def test_several_limits_are_counted_at_once_and_the_longest_wait_is_told():
    other = Limit("address", "192.0.2.1", 1, 3600)
    assert count(LIMIT, other) is None
    assert int(count(LIMIT, other).headers["Retry-After"]) > 3500


def test_an_attempt_can_be_taken_back_and_all_be_forgotten():
    for _ in range(3):
        count(LIMIT)
    with db.transaction() as session:
        attempts.take_back(session, LIMIT)
    assert stored() == [2]
    with db.transaction() as session:
        attempts.forget(session, LIMIT)
    assert stored() == []
    with db.transaction() as session:
        attempts.take_back(session, LIMIT)


def test_two_that_count_the_same_in_another_order_do_not_wait_for_each_other(app):
    pairs = [(LIMIT, Limit("address", "x", 500, 60)), (Limit("address", "x", 500, 60), LIMIT)]

    def work(pair):
        with app.app_context():
            for _ in range(20):
                count(*pair)

    with ThreadPoolExecutor(4) as threads:
        [*threads.map(work, pairs * 2)]
    assert sorted(stored()) == [80, 80]


def test_counts_whose_window_is_long_over_are_purged():
    count(LIMIT)
    purge = purgers()["attempts"]
    assert sum(batch.removed for batch in purge(db.session(), timedelta(0), dry_run=False)) == 0
    with db.engine.begin() as connection:
        connection.execute(update(attempts.attempts).values(expires_at=func.now() - timedelta(hours=1)))
    assert sum(batch.removed for batch in purge(db.session(), timedelta(minutes=1), dry_run=False)) == 1
    assert stored() == []
