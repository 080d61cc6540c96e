"""Statements within a transaction, past SQLAlchemy's layers: planned once for a connection, whoever may change it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from api.core.database import prepared
from api.core.database.context import Credential, acting_as, end_request, identify, is_credential_unchecked
from api.core.database.prepared import array
from api.core.database.session import transaction
from api.core.database.watchdog import WatchedCursor
from api.core.database.within import connection_of, run_later
from api.core.errors import ConflictError, InvalidError, TransactionConflictError, UnavailableError
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


def test_the_size_of_a_page_is_a_value_as_any_other(own):
    sized = "SELECT %(size)s::integer, %(number)s::integer"
    for size in (1, 2):
        with transaction(own):
            assert connection_of(own).exec_driver_sql(sized, {"size": size, "number": 7}).one() == (size, 7)
            assert own.scalar(PREPARED) == 1


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


def test_a_savepoint_undoes_what_was_sent_within_it(own):
    create = "CREATE TEMPORARY TABLE made ON COMMIT DROP AS SELECT %(number)s AS number"
    with transaction(own):
        doubled(own, 1)
        with own.begin_nested() as savepoint:
            connection_of(own).exec_driver_sql(create, {"number": 1})
            savepoint.rollback()
        assert own.scalar(text("SELECT to_regclass('made')")) is None
        with pytest.raises(DBAPIError), own.begin_nested():
            connection_of(own).exec_driver_sql("SELECT 1 / %(number)s", {"number": 0})
        assert doubled(own, 2) == 4


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


# -- statements that wait for the next one ----------------------------------------------------------------------------


@pytest.fixture
def numbers(own):
    own.execute(text("CREATE TEMPORARY TABLE numbers (number integer UNIQUE)"))
    own.commit()
    return lambda: own.scalars(text("SELECT number FROM numbers ORDER BY number")).all()


def add_later(session, number):
    run_later(session, "INSERT INTO numbers VALUES (%(number)s)", {"number": number})


@pytest.fixture
def sent(monkeypatch):
    """The messages that go to the database."""
    messages, plain = [], WatchedCursor.execute
    monkeypatch.setattr(WatchedCursor, "execute", lambda self, *args: (messages.append(args[0]), plain(self, *args))[1])
    return messages


def test_it_goes_in_one_message_with_the_next_statement(own, numbers, sent):
    for number in (1, 2):
        with transaction(own):
            add_later(own, 10 * number)
            sent.clear()
            add_later(own, number)
            assert doubled(own, 2) == 4
    assert len([message for message in sent if message != b"COMMIT"]) == 1
    assert numbers() == [1, 2, 10, 20]


def test_it_goes_in_front_of_what_sqlalchemy_sends(own, numbers):
    with transaction(own):
        add_later(own, 1)
        assert numbers() == [1]


def test_it_goes_before_the_commit(own, numbers):
    with transaction(own):
        add_later(own, 1)
    assert numbers() == [1]


ACTOR = "INSERT INTO actors SELECT current_setting('app.actor', true), current_setting('app.user_id', true)"


@pytest.fixture
def actors(own):
    own.execute(text("CREATE TEMPORARY TABLE actors (actor text, user_id text)"))
    own.commit()
    yield lambda: own.execute(text("SELECT actor, user_id FROM actors")).all()
    end_request()


def test_in_front_of_a_commit_it_is_told_who_acts(own, actors):
    identify("user:17", user_id=17, unrestricted="*")
    for _ in range(2):
        with transaction(own):
            run_later(own, ACTOR, {})
    assert actors() == [("user:17", "17")] * 2


def test_it_is_attributed_to_who_acted_when_it_was_given(own, actors):
    for _ in range(2):
        with transaction(own):
            for number in (1, 2):
                with acting_as(f"user:{number}"):
                    run_later(own, ACTOR, {})
            assert own.scalar(text("SELECT current_setting('app.actor', true)")) == ""
    assert [actor for actor, _ in actors()] == ["user:1", "user:2"] * 2


@pytest.mark.parametrize("follow", [lambda session: doubled(session, 1), lambda _: None])
def test_nothing_is_done_with_a_credential_that_does_not_hold(own, actors, follow):
    def add():
        with transaction(own):
            run_later(own, ACTOR, {})
            follow(own)

    add()
    assert len(actors()) == 1
    own.commit()
    identify("user:17", Credential("1 / %s", (0,)), user_id=17, unrestricted="*")
    with pytest.raises(InvalidError):
        add()
    end_request()
    assert len(actors()) == 1


def test_a_credential_has_been_checked_when_it_has_been_sent(own, actors):
    with transaction(own):
        run_later(own, ACTOR, {})
    identify("user:17", Credential("%s", (1,)), user_id=17, unrestricted="*")
    with transaction(own):
        run_later(own, ACTOR, {})
        assert is_credential_unchecked()
        actors()
        assert not is_credential_unchecked()


def test_it_belongs_to_the_savepoint_in_which_it_was_given(own, numbers):
    with transaction(own):
        add_later(own, 1)
        with own.begin_nested() as savepoint:
            add_later(own, 2)
            add_later(own, 2)
            savepoint.rollback()
        assert numbers() == [1]


@pytest.mark.parametrize("follow", [lambda session: doubled(session, 1), lambda _: None])
def test_a_mistake_in_the_grammar_of_the_first_message_does_not_lose_it(own, numbers, follow):
    with transaction(own):
        add_later(own, 1)
    with transaction(own):
        add_later(own, 2)
        with pytest.raises(DBAPIError):
            own.execute(text("SELEKT 1"))
        follow(own)
    assert numbers() == [1, 2]


def test_a_rollback_forgets_it(own, numbers):
    with transaction(own):
        own.execute(text("SELECT 1"))
        add_later(own, 1)
        own.rollback()
    assert numbers() == []


@pytest.mark.parametrize("follow", [lambda session: doubled(session, 1), lambda _: None])
def test_what_is_wrong_with_it_is_told_by_what_follows_or_by_the_commit(own, numbers, follow):
    def add_twice():
        with transaction(own):
            add_later(own, 1)
            add_later(own, 1)
            follow(own)

    with pytest.raises(ConflictError):
        add_twice()
    assert numbers() == []


def test_a_percent_sign_in_a_value_stays_one(own):
    with transaction(own):
        own.execute(text("CREATE TEMPORARY TABLE words (word text) ON COMMIT DROP"))
        run_later(own, "INSERT INTO words VALUES (%(word)s)", {"word": "100 %(number)s %% %s"})
        assert doubled(own, 2) == 4
        assert own.scalar(text("SELECT word FROM words")) == "100 %(number)s %% %s"


def test_it_counts_as_a_statement(own, numbers, statements):
    del numbers
    with transaction(own), statements() as counted:
        add_later(own, 1)
    assert counted.count == 1


def test_one_that_the_server_has_forgotten_is_a_conflict_once(own, numbers):
    with transaction(own):
        add_later(own, 1)
        doubled(own, 1)
        own.execute(text("DEALLOCATE ALL"))

    def add():
        with transaction(own):
            add_later(own, 2)
            doubled(own, 1)

    with pytest.raises(TransactionConflictError):
        add()
    add()
    assert numbers() == [1, 2]


@pytest.mark.parametrize("values", [[], [1, None, Decimal("2.50")], ['a"b', "c\\d", "{}", "NULL", "e,f"]])
def test_an_array_is_read_as_it_was(own, values):
    type_ = "text" if "NULL" in values else "numeric"
    found = own.execute(text(f"SELECT CAST(:given AS {type_}[])"), {"given": array(values)}).scalar_one()
    assert found == values
