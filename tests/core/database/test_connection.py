"""A transaction begins in the message of its first statement, and is one all the same."""

from __future__ import annotations

from io import StringIO

import psycopg2
import pytest
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from api.core.database.session import transaction
from api.core.database.watchdog import PING, WatchedConnection, WatchedCursor
from api.core.errors import ConflictError

NUMBERS = text("SELECT number FROM numbers ORDER BY number")


@pytest.fixture
def own(engine_with):
    with Session(engine_with(pool_size=1, max_overflow=0)) as session:
        yield session


@pytest.fixture
def driver(own):
    """The driver's connection, the only one of the pool; and a table in its session."""
    own.execute(text("CREATE TEMPORARY TABLE numbers (number integer UNIQUE DEFERRABLE INITIALLY DEFERRED)"))
    own.commit()
    driver = own.connection().connection.dbapi_connection
    own.rollback()
    return driver


def add(session, number):
    session.execute(text("INSERT INTO numbers VALUES (:number)"), {"number": number})


def test_a_transaction_of_one_statement_is_two_messages(own, driver, monkeypatch):
    sent, execute, commit = [], WatchedCursor.execute, WatchedConnection.commit
    monkeypatch.setattr(WatchedCursor, "execute", lambda self, *args: (sent.append(args[0]), execute(self, *args))[1])
    monkeypatch.setattr(WatchedConnection, "commit", lambda self: (sent.append("the driver's"), commit(self))[1])
    with transaction(own):
        add(own, 1)
        assert driver.is_begun
    assert [message for message in sent if message != PING] == [sent[1], b"COMMIT"]
    assert sent[1].startswith("BEGIN;")
    assert (driver.is_begun, driver.autocommit) == (False, False)
    assert driver.get_transaction_status() == TRANSACTION_STATUS_IDLE


def test_a_rollback_undoes_all_of_it(own, driver):
    add(own, 1)
    add(own, 2)
    own.rollback()
    assert driver.get_transaction_status() == TRANSACTION_STATUS_IDLE
    assert own.scalars(NUMBERS).all() == []


def test_a_statement_that_fails_spoils_the_transaction(own, driver):
    del driver
    add(own, 1)
    with pytest.raises(DBAPIError):
        own.execute(text("SELECT 1 / 0"))
    with pytest.raises(DBAPIError, match="aborted"):
        add(own, 2)
    own.rollback()
    assert own.scalars(NUMBERS).all() == []


def test_behind_a_mistake_in_the_grammar_of_the_first_statement_there_still_is_a_transaction(own, driver):
    with pytest.raises(DBAPIError, match="syntax"):
        own.execute(text("SELEC 1"))
    add(own, 1)
    assert driver.get_transaction_status() != TRANSACTION_STATUS_IDLE
    assert own.scalar(text("SELECT current_setting('app.unrestricted')")) == "*"
    own.rollback()
    assert own.scalars(NUMBERS).all() == []


def test_a_commit_that_the_server_refuses_leaves_nothing(own, driver):
    def add_twice():
        with transaction(own):
            add(own, 1)
            add(own, 1)

    with pytest.raises(ConflictError):
        add_twice()
    assert driver.get_transaction_status() == TRANSACTION_STATUS_IDLE
    assert own.scalars(NUMBERS).all() == []


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_cursor_of_the_server_is_part_of_it(own, driver, end):
    del driver
    add(own, 1)
    streamed = own.execute(text("SELECT * FROM generate_series(1, 5)"), execution_options={"stream_results": True})
    assert streamed.fetchmany(2) == [(1,), (2,)]
    streamed.close()
    add(own, 2)
    getattr(own, end)()
    assert own.scalars(NUMBERS).all() == ([1, 2] if end == "commit" else [])


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_cursor_of_the_server_may_begin_it(own, driver, end):
    del driver
    streamed = own.execute(text("SELECT * FROM generate_series(1, 5)"), execution_options={"stream_results": True})
    assert len(streamed.all()) == 5
    add(own, 1)
    getattr(own, end)()
    assert own.scalars(NUMBERS).all() == ([1] if end == "commit" else [])


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_copy_is_part_of_it(own, driver, end):
    add(own, 1)
    with driver.cursor() as cursor:
        cursor.copy_expert("COPY numbers FROM STDIN", StringIO("2\n"))
    getattr(own, end)()
    assert own.scalars(NUMBERS).all() == ([1, 2] if end == "commit" else [])


@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_its_isolation_is_what_was_asked_for_and_the_next_one_s_is_not(own, isolation):
    shown = text("SHOW transaction_isolation")
    with transaction(own, isolation=isolation):
        assert own.scalar(shown) == isolation.lower()
    with transaction(own):
        assert own.scalar(shown) == "read committed"


def test_what_is_set_to_autocommit_is_in_no_transaction(own, driver):
    connection = own.connection()
    assert connection.get_isolation_level() == "READ COMMITTED"
    add(own, 1)
    connection.dialect.set_isolation_level(driver, "AUTOCOMMIT")
    assert driver.autocommit
    assert driver.get_transaction_status() == TRANSACTION_STATUS_IDLE
    connection.dialect.set_isolation_level(driver, "READ COMMITTED")
    own.rollback()
    assert own.scalars(NUMBERS).all() == []


def test_the_driver_s_own_options_hold(own, driver):
    own.connection()
    driver.readonly = True
    with pytest.raises(DBAPIError, match="read-only"):
        own.execute(text("CREATE TABLE never (id integer)"))
    own.rollback()
    driver.readonly = None


def test_autocommit_cannot_be_changed_in_it(own, driver):
    add(own, 1)
    with pytest.raises(psycopg2.ProgrammingError):
        driver.autocommit = True
    own.rollback()


def test_a_unique_value_twice_is_refused_as_always(own, driver):
    del driver
    add(own, 1)
    own.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    with pytest.raises(IntegrityError):
        add(own, 1)
