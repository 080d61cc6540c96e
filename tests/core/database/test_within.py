"""Statements within a transaction, past SQLAlchemy's layers: planned once for a connection, whoever may change it."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from api.core.database import prepared
from api.core.database.session import transaction
from api.core.database.within import connection_of
from api.core.errors import TransactionConflictError, UnavailableError
from api.extensions import db

DOUBLED = "SELECT %(number)s * 2 AS doubled"
PREPARED = text("SELECT count(*) FROM pg_prepared_statements")


@pytest.fixture
def engine(engine_with):
    """An engine with one connection, so that whatever is asked is asked of the same."""
    return engine_with(pool_size=1, max_overflow=0)


@pytest.fixture
def own(engine):
    with Session(engine) as session:
        yield session


def doubled(session, number):
    return connection_of(session).exec_driver_sql(DOUBLED, {"number": number}).scalar_one()


def test_a_statement_is_prepared_once_for_a_connection(own):
    for number in (1, 2):
        with transaction(own):
            assert doubled(own, number) == 2 * number
            assert own.scalar(PREPARED) == 1


def test_it_sees_what_the_transaction_has_written(own):
    with transaction(own):
        own.execute(text("CREATE TEMPORARY TABLE numbers ON COMMIT DROP AS SELECT 7 AS number"))
        found = connection_of(own).exec_driver_sql("SELECT number FROM numbers WHERE number > %(least)s", {"least": 1})
        assert found.all() == [(7,)]


def test_a_statement_that_somebody_else_has_prepared_is_used(own):
    with transaction(own):
        doubled(own, 1)
    own.connection().connection.dbapi_connection.prepared.names.clear()
    with transaction(own):
        own.execute(text("SELECT set_config('test.told', 'still', true)"))
        assert doubled(own, 2) == 4
        assert own.scalar(text("SELECT current_setting('test.told')")) == "still"


def test_a_statement_without_clear_types_is_sent_as_it_is(own):
    unclear = "SELECT %(anything)s IS NULL AS is_null"
    for _ in range(2):
        with transaction(own):
            own.execute(text("SELECT set_config('test.told', 'still', true)"))
            assert not connection_of(own).exec_driver_sql(unclear, {"anything": 1}).one().is_null
            assert own.scalar(text("SELECT current_setting('test.told')")) == "still"


def test_a_statement_that_the_server_has_forgotten_is_a_conflict_once(own):
    with transaction(own):
        doubled(own, 1)
        own.execute(text("DEALLOCATE ALL"))
    with pytest.raises(TransactionConflictError), transaction(own):
        doubled(own, 2)
    with transaction(own):
        assert doubled(own, 2) == 4


def test_a_pooler_s_connection_prepares_nothing(own):
    own.connection().connection.dbapi_connection.is_direct = False
    with transaction(own):
        assert doubled(own, 2) == 4
        assert own.scalar(PREPARED) == 0


def test_a_connection_to_a_server_process_of_its_own_is_direct(own):
    assert own.connection().connection.dbapi_connection.is_direct


def test_a_connection_that_has_prepared_too_much_begins_anew(own, monkeypatch):
    monkeypatch.setattr(prepared, "_PREPARED_MAX", 2)
    with transaction(own):
        for number in range(3):
            connection_of(own).exec_driver_sql(f"SELECT %(number)s + {number} AS added", {"number": 1})
        assert own.scalar(PREPARED) == 1


def test_each_transaction_has_its_own_connection(own):
    with transaction(own):
        first = connection_of(own)
        assert connection_of(own) is first
        own.commit()
        assert connection_of(own) is not first


def test_in_autocommit_it_is_a_read(engine):
    with Session(engine.execution_options(isolation_level="AUTOCOMMIT")) as session:
        assert doubled(session, 2) == 4


def test_echo_tells_of_every_statement(engine_with, caplog):
    with Session(engine_with(sql_echo=True)) as session, transaction(session):
        assert doubled(session, 2) == 4
    assert DOUBLED in caplog.messages


def test_a_mistake_of_ours_is_the_driver_s_error(own):
    with pytest.raises(DBAPIError, match="no_such_table"), transaction(own):
        connection_of(own).exec_driver_sql("SELECT FROM no_such_table WHERE id = %(id)s", {"id": 1})


def doubled_after_a_cut(app, session):
    with transaction(session):
        pid = session.scalar(text("SELECT pg_backend_pid()"))
        with app.app_context(), db.owner_engine.connect() as killer:
            killer.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        doubled(session, 2)


def test_a_connection_that_is_lost_is_told_to_the_pool(app, own):
    with pytest.raises(UnavailableError):
        doubled_after_a_cut(app, own)
    with transaction(own):
        assert doubled(own, 2) == 4
