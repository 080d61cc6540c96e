"""Engine options: what the settings ask for is what a connection really has."""

from __future__ import annotations

import socket
import time

import pytest
from sqlalchemy import bindparam, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from api.core.database.types import JSONDocument


@pytest.mark.parametrize(
    ("setting", "milliseconds", "name", "shown"),
    [
        ("statement_timeout_ms", 1234, "statement_timeout", "1234ms"),
        ("lock_timeout_ms", 321, "lock_timeout", "321ms"),
        ("idle_in_transaction_timeout_ms", 7000, "idle_in_transaction_session_timeout", "7s"),
        ("statement_timeout_ms", 0, "statement_timeout", "0"),
    ],
)
def test_a_session_has_the_timeouts_of_the_settings(engine_with, setting, milliseconds, name, shown):
    with engine_with(**{setting: milliseconds}).connect() as connection:
        assert connection.scalar(text(f"SHOW {name}")) == shown


def test_a_session_is_in_utc_and_names_the_application(engine_with):
    with engine_with(application_name="shop-7").connect() as connection:
        assert connection.scalar(text("SHOW timezone")) == "UTC"
        assert connection.scalar(text("SHOW application_name")) == "shop-7"


def test_a_statement_that_runs_too_long_is_cancelled(engine_with):
    with engine_with(statement_timeout_ms=50).connect() as connection, pytest.raises(OperationalError) as caught:
        connection.execute(text("SELECT pg_sleep(5)"))
    assert caught.value.orig.pgcode == "57014"


def test_a_transaction_that_idles_too_long_loses_its_connection(engine_with):
    with engine_with(idle_in_transaction_timeout_ms=50).connect() as connection:
        connection.execute(text("SELECT 1"))
        time.sleep(0.3)
        with pytest.raises(DBAPIError) as caught:
            connection.execute(text("SELECT 1"))
    assert caught.value.connection_invalidated


def test_the_pool_gives_out_its_size_and_its_overflow_and_then_makes_wait_for_its_timeout(engine_with):
    engine = engine_with(pool_size=1, max_overflow=1, pool_timeout=0.2)
    with engine.connect(), engine.connect():
        begin = time.monotonic()
        with pytest.raises(PoolTimeoutError):
            engine.connect()
        assert 0.2 <= time.monotonic() - begin < 1.5


def test_only_the_pool_s_size_is_kept_open(engine_with):
    engine = engine_with(pool_size=1, max_overflow=2)
    with engine.connect(), engine.connect(), engine.connect():
        assert engine.pool.checkedout() == 3
    assert (engine.pool.checkedin(), engine.pool.checkedout()) == (1, 0)


def test_a_connection_older_than_the_recycle_time_is_replaced(engine_with):
    pid = text("SELECT pg_backend_pid()")
    recycled, kept = engine_with(pool_recycle=0), engine_with(pool_recycle=3600)

    def pids(engine):
        for _ in range(2):
            with engine.connect() as connection:
                yield connection.scalar(pid)

    assert len(set(pids(recycled))) == 2
    assert len(set(pids(kept))) == 1


def _with_its_backend_killed(engine, killer):
    with engine.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
    with killer.connect() as connection:
        connection.execute(text("SET LOCAL ROLE NONE"))
        connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    return engine


def test_with_pre_ping_a_connection_that_died_in_the_pool_goes_unnoticed(engine_with):
    engine = _with_its_backend_killed(engine_with(pool_pre_ping=True), engine_with())
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1


def test_without_pre_ping_it_is_noticed_by_the_first_statement(engine_with):
    engine = _with_its_backend_killed(engine_with(pool_pre_ping=False), engine_with())
    with engine.connect() as connection, pytest.raises(OperationalError):
        connection.scalar(text("SELECT 1"))


def test_a_server_that_does_not_answer_is_given_up_after_the_connect_timeout(engine_with):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg2://nobody@127.0.0.1:{silent.getsockname()[1]}/none"
        begin = time.monotonic()
        with pytest.raises(OperationalError, match="timeout"):
            engine_with(database_url=url, connect_timeout=2).connect()
        assert time.monotonic() - begin < 4


def _failing_insert(engine):
    with engine.connect() as connection, pytest.raises(IntegrityError) as caught:
        connection.execute(text("INSERT INTO roles (name) VALUES (:name)"), {"name": None})
    return str(caught.value)


@pytest.mark.usefixtures("app")
def test_an_error_shows_no_parameters(engine_with):
    assert "parameters hidden" in _failing_insert(engine_with())


@pytest.mark.usefixtures("app")
def test_with_echo_statements_are_logged_without_their_values(engine_with, caplog):
    message = _failing_insert(engine_with(sql_echo=True))
    assert "parameters hidden" in message
    assert "INSERT INTO roles" in caplog.text
    assert "'name': None" not in caplog.text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_json_does_not_have_is_refused_before_the_database_sees_it(engine_with, value):
    statement = text("SELECT :document").bindparams(bindparam("document", type_=JSONDocument))
    with engine_with().connect() as connection, pytest.raises(StatementError, match="not JSON compliant"):
        connection.execute(statement, {"document": {"n": value}})
