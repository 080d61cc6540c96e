"""A transaction that loses against another one is run again: bounded, after a random pause, from its start."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import func, insert, select, text, update

from api.core.database import retry
from api.core.database.retry import pause, retried
from api.core.errors import TransactionConflictError, UnavailableError
from api.extensions import db
from api.resources.products.models import Product
from api.resources.tags.models import Tag
from tests.factories import ProductFactory, TagFactory

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def in_threads(app):
    """`in_threads(*functions)`: run them at once, each in an application context of its own; their results."""

    def run(*functions):
        def one(function):
            with app.app_context():
                return function()

        with ThreadPoolExecutor(len(functions)) as threads:
            return [*threads.map(one, functions)]

    return run


def conflict():
    raise TransactionConflictError


# -- how often, and when


def test_what_succeeds_is_called_once():
    calls = []
    assert retried(lambda: calls.append(1) or "done") == "done"
    assert calls == [1]


def test_what_goes_on_losing_is_given_up_after_the_last_attempt(monkeypatch):
    pauses, calls = [], []
    monkeypatch.setattr(retry.time, "sleep", pauses.append)
    with pytest.raises(TransactionConflictError) as caught:
        retried(lambda: calls.append(1) or conflict(), attempts=4)
    assert (len(calls), len(pauses)) == (4, 3)
    assert caught.value.headers["Retry-After"] == "1"


@pytest.mark.parametrize("error", [UnavailableError(), ValueError("no")])
def test_another_error_is_not_tried_again(error):
    calls = []

    def fail():
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        retried(fail)
    assert calls == [1]


def test_pauses_are_random_and_their_bound_doubles_up_to_a_limit():
    drawn = {attempt: [pause(attempt) for _ in range(300)] for attempt in (1, 2, 3, 30)}
    for attempt, bound in ((1, 0.02), (2, 0.04), (3, 0.08), (30, 0.5)):
        assert 0 <= min(drawn[attempt]) < bound / 4
        assert bound * 3 / 4 < max(drawn[attempt]) <= bound
        assert len(set(drawn[attempt])) > 250


# -- real conflicts


def test_of_two_that_deadlock_both_succeed(in_threads):
    keys = [TagFactory().id, TagFactory().id]
    meet = Barrier(2)
    attempts = []

    def rename(first, second, name):
        first_time = []

        def work(session):
            attempts.append(name)
            session.execute(text("SET LOCAL deadlock_timeout = '20ms'"))
            session.execute(update(Tag).where(Tag.id == first).values(name=f"{name} {first}"))
            if not first_time:
                first_time.append(1)
                meet.wait(5)
            session.execute(update(Tag).where(Tag.id == second).values(name=f"{name} {second}"))
            return name

        return db.retrying(work)

    assert in_threads(lambda: rename(*keys, "a"), lambda: rename(*reversed(keys), "b")) == ["a", "b"]
    assert len(attempts) == 3
    with db.engine.connect() as connection:
        names = connection.scalars(select(Tag.__table__.c.name).order_by(Tag.__table__.c.id)).all()
    assert len({name[0] for name in names}) == 1


def test_of_many_that_write_what_the_others_have_read_none_works_on_outdated_figures(in_threads):
    # At most five tags: each counts, then adds one. Serializable, two cannot both have counted four.
    meet = Barrier(8)

    def add_one():
        first_time = []

        def work(session):
            count = session.scalar(select(func.count()).select_from(Tag))
            if not first_time:
                first_time.append(1)
                meet.wait(5)
            if count >= 5:
                return False
            session.execute(insert(Tag).values(name=f"tag {count}"))
            return True

        while True:
            try:
                return db.retrying(work, isolation="SERIALIZABLE")
            except TransactionConflictError:
                continue

    results = in_threads(*[add_one] * 8)
    assert sorted(results) == [False] * 3 + [True] * 5


def test_no_change_of_a_counter_is_lost_under_repeatable_read(in_threads):
    product = ProductFactory(stock_quantity=100)

    def sell():
        def work(session):
            found = session.get(Product, product.id)
            found.stock_quantity -= 1

        for _ in range(5):
            while True:
                try:
                    db.retrying(work, isolation="REPEATABLE READ")
                    break
                except TransactionConflictError:
                    continue

    in_threads(*[sell] * 4)
    with db.engine.connect() as connection:
        assert connection.scalar(select(Product.__table__.c.stock_quantity)) == 80


# -- db.retrying


def test_it_returns_what_the_function_returns_and_commits():
    assert db.retrying(lambda session: session.add(Tag(name="kept")) or "done") == "done"
    with db.engine.connect() as connection:
        assert connection.scalar(select(Tag.__table__.c.name)) == "kept"


def test_each_attempt_begins_with_nothing_of_the_last_one(monkeypatch):
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.0)
    seen = []

    def work(session):
        seen.append(session.scalar(select(func.count()).select_from(Tag)))
        session.add(Tag(name="new"))
        session.flush()
        if len(seen) < 3:
            conflict()

    db.retrying(work)
    assert seen == [0, 0, 0]


def test_inside_of_another_transaction_the_conflict_is_the_outer_one_s():
    calls = []
    with pytest.raises(TransactionConflictError), db.transaction():
        db.retrying(lambda _: calls.append(1) or conflict())
    assert calls == [1]


# -- isolation


def level(session):
    return session.scalar(text("SHOW transaction_isolation"))


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_a_transaction_has_the_isolation_that_it_asks_for(isolation):
    with db.transaction(isolation=isolation) as session:
        assert level(session) == isolation.lower()


@pytest.mark.parametrize("end", [None, ValueError("no")])
def test_the_next_user_of_the_connection_has_the_usual_isolation_again(end):
    backend = text("SELECT pg_backend_pid()")
    try:
        with db.transaction(isolation="SERIALIZABLE") as session:
            used = session.scalar(backend)
            if end:
                raise end
    except ValueError:
        pass
    with db.transaction() as session:
        assert session.scalar(backend) == used
        assert level(session) == "read committed"
    with db.read_connection() as connection:
        assert level(connection) == "read committed"


def test_an_inner_transaction_may_ask_for_the_isolation_that_there_is():
    with db.transaction(isolation="SERIALIZABLE"), db.transaction(isolation="SERIALIZABLE") as session:
        assert level(session) == "serializable"


def test_an_inner_transaction_cannot_have_another_isolation():
    with (
        pytest.raises(RuntimeError, match="would have to be SERIALIZABLE"),
        db.transaction(),
        db.transaction(isolation="SERIALIZABLE"),
    ):
        pass


def test_a_session_that_has_begun_cannot_get_another_isolation(session):
    session.execute(select(Tag))
    with pytest.raises(RuntimeError, match="begun a transaction already"), db.transaction(isolation="SERIALIZABLE"):
        pass
