"""Who is acting is told to the database with each transaction, and with each read that depends on it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest
from sqlalchemy import text

from api.core.database import context
from api.core.database.context import Credential, acting_as, acting_as_service, begin_request, end_request, identify
from api.core.database.copying import CopyOut
from api.core.database.reading import ReadConnection
from api.core.errors import UnauthorizedError
from api.extensions import db

ACTING = text("SELECT current_setting('app.actor', true), current_setting('app.request_id', true)")
ROWS = "SELECT current_setting('app.user_id', true), current_setting('app.unrestricted', true)"
OF_SECURED = " FROM (SELECT count(*) FROM pg_class) AS counted"
NOTHING = (None, ""), ("", None), (None, None), ("", "")
NOBODY = (None, ""), ("", None), (None, None), ("", "")


@pytest.fixture
def connection(engine_with):
    """One connection, the only one of its pool."""
    with engine_with(pool_size=1, max_overflow=0).connect() as connection:
        yield connection


def acting(connection):
    return tuple(connection.execute(ACTING).one())


def test_a_transaction_knows_who_acts(connection):
    with acting_as("user:17", "r-1"):
        assert acting(connection) == ("user:17", "r-1")


def test_the_next_transaction_on_the_same_connection_does_not_inherit_it(connection):
    for end in (connection.commit, connection.rollback):
        with acting_as("user:17", "r-1"):
            acting(connection)
            end()
        assert acting(connection) in NOBODY
        connection.rollback()


def test_it_travels_in_front_of_the_first_statement_and_costs_no_round_trip(connection, statements):
    raw = connection.connection
    with acting_as("user:17"), statements() as counted, closing(raw.cursor()) as cursor:
        cursor.execute("SELECT %s", [7])
        assert b"SET LOCAL app.actor = 'user:17'" in cursor.query
        assert cursor.query.endswith(b";\nSELECT 7")
        assert cursor.fetchall() == [(7,)]
        cursor.execute("SELECT 8")
        assert cursor.query == b"SELECT 8"
    assert counted.count == 0


def test_outside_of_requests_all_rows_may_be_touched(connection):
    assert tuple(connection.execute(text(ROWS)).one()) == ("", "*")


@pytest.mark.parametrize("name", ["O'Hara", "50% off", "%s", "a\\b", "%(id)s", "日本", "x'; DROP TABLE users; --"])
@pytest.mark.parametrize("parameters", [None, {"n": 1}])
def test_a_name_is_told_to_the_letter(connection, name, parameters):
    with acting_as(name):
        statement = "SELECT current_setting('app.actor', true)" + (", %(n)s" if parameters else "")
        assert connection.exec_driver_sql(statement, parameters).first()[0] == name


def test_another_one_may_go_on_in_the_same_transaction(connection):
    with acting_as("user:1"):
        acting(connection)
        with acting_as("user:2", "r-2"):
            assert acting(connection) == ("user:2", "r-2")
        assert acting(connection)[0] == "user:1"
    assert acting(connection) in NOBODY


def test_what_was_told_within_a_savepoint_that_is_undone_is_told_again(connection):
    with acting_as("user:1"):
        savepoint = connection.begin_nested()
        with acting_as("user:2"):
            acting(connection)
            savepoint.rollback()
            assert acting(connection)[0] == "user:2"
        assert acting(connection)[0] == "user:1"


def test_a_statement_that_fails_does_not_make_the_next_transaction_forget(connection):
    with acting_as("user:1"):
        with pytest.raises(Exception, match="nonsense"):
            connection.execute(text("nonsense"))
        connection.rollback()
        assert acting(connection)[0] == "user:1"


def test_threads_act_for_themselves(engine_with):
    engine = engine_with()

    def seen(number):
        with acting_as(f"user:{number}"), engine.connect() as connection:
            return acting(connection)[0]

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(seen, range(20))] == [f"user:{number}" for number in range(20)]


def test_the_sender_of_a_request_may_become_known_later(connection):
    begin_request("r-1")
    assert acting(connection) == ("", "r-1")
    identify("user:17")
    assert acting(connection) == ("user:17", "r-1")
    end_request()
    assert acting(connection) in NOBODY


# -- which rows -------------------------------------------------------------------------------------------------------


@pytest.fixture
def request_of_17():
    """A request of user 17, who may see all categories."""
    begin_request("r-1")
    identify("user:17", user_id=17, unrestricted="categories")
    yield
    end_request()


@pytest.fixture
def secured(monkeypatch):
    """A table with row security, as far as reads are concerned."""
    monkeypatch.setattr(context, "_secured_tables", {**context._secured_tables, "pg_class": "pg_class"})
    context._needs_telling.cache_clear()
    yield
    context._needs_telling.cache_clear()


@pytest.fixture
def reading(engine_with):
    """A connection in autocommit, the only one of its pool."""
    with engine_with(pool_size=1, max_overflow=0).connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


def rows(connection, behind=""):
    return tuple(connection.exec_driver_sql(ROWS + behind).one())


@pytest.mark.usefixtures("request_of_17")
def test_a_transaction_is_told_which_rows_its_caller_may_touch(connection):
    assert rows(connection) == ("17", "categories")


def test_before_it_is_known_who_sends_a_request_it_may_touch_no_rows(connection):
    begin_request("r-1")
    assert rows(connection) == ("", "")
    end_request()


def test_the_service_may_touch_all_rows_for_a_moment_in_a_request(connection, request_of_17):
    del request_of_17
    with acting_as_service():
        assert rows(connection) == ("17", "*")
        assert acting(connection) == ("user:17", "r-1")
    assert rows(connection) == ("17", "categories")


def test_acting_as_somebody_opens_no_rows(connection, request_of_17):
    del request_of_17
    with acting_as("cli:seed"):
        assert rows(connection) == ("17", "categories")


@pytest.mark.usefixtures("request_of_17", "secured")
def test_a_read_of_a_table_with_row_security_is_told_in_the_same_message(reading):
    with closing(reading.connection.cursor()) as cursor:
        cursor.execute(f"{ROWS}, %s{OF_SECURED}", [7])
        assert cursor.fetchone() == ("17", "categories", 7)
        assert cursor.query.startswith(b"SET LOCAL ")


@pytest.mark.usefixtures("request_of_17", "secured")
def test_a_read_of_other_tables_is_told_nothing(reading):
    with closing(reading.connection.cursor()) as cursor:
        cursor.execute("SELECT count(*) FROM pg_roles")
        assert cursor.query == b"SELECT count(*) FROM pg_roles"


@pytest.mark.usefixtures("request_of_17", "secured")
def test_what_a_read_is_told_is_over_with_it(reading):
    assert rows(reading, OF_SECURED) == ("17", "categories")
    assert rows(reading) in NOTHING


@pytest.mark.usefixtures("request_of_17", "secured")
def test_what_a_failed_read_was_told_is_over_with_it(reading):
    with pytest.raises(Exception, match="division by zero"):
        reading.exec_driver_sql("SELECT 1 / (count(*) - count(*)) FROM pg_class")
    assert rows(reading) in NOTHING


@pytest.mark.usefixtures("request_of_17", "secured")
@pytest.mark.parametrize(
    "statement", ["ANALYZE no.pg_class", "VACUUM no.pg_class", "CREATE INDEX CONCURRENTLY ON no.pg_class (id)"]
)
def test_what_cannot_run_in_a_transaction_is_sent_alone(reading, statement):
    with closing(reading.connection.cursor()) as cursor:
        with pytest.raises(psycopg2.Error, match="does not exist"):
            cursor.execute(statement)
        assert cursor.query.decode() == statement


@pytest.mark.usefixtures("request_of_17", "secured")
def test_every_statement_of_many_in_autocommit_is_told(reading):
    with closing(reading.connection.cursor()) as cursor:
        cursor.executemany(
            f"SELECT 1 / (current_setting('app.user_id') = %s)::integer{OF_SECURED}",
            [["17"], ["17"]],
        )


@pytest.mark.usefixtures("secured")
def test_two_clients_on_one_server_connection_do_not_inherit_from_each_other(reading):
    """As behind PgBouncer in transaction mode, which gives a connection on after each transaction."""

    def seen_by(number):
        begin_request(f"r-{number}")
        identify(f"user:{number}", user_id=number)
        return rows(reading, OF_SECURED), rows(reading)

    for number in (1, 2, 1):
        told, afterwards = seen_by(number)
        assert told == (str(number), "")
        assert afterwards in NOTHING
    end_request()


@pytest.mark.usefixtures("secured")
def test_each_reader_is_told_for_itself_however_often_one_has_been_told(engine_with):
    engine = engine_with(pool_size=1, max_overflow=0)
    readers = [(1, ""), (2, ""), (1, "pg_class_2"), (2, "50%"), (2, "%s"), (None, ""), (1, "")]
    begin_request("r-1")
    for user_id, unrestricted in 2 * readers:
        identify("user", user_id=user_id, unrestricted=unrestricted)
        with ReadConnection(engine) as connection:
            found = connection.exec_driver_sql(f"{ROWS}, %(number)s::integer{OF_SECURED}", {"number": 7}).one()
            assert tuple(found) == ("" if user_id is None else str(user_id), unrestricted, 7)
            assert tuple(connection.exec_driver_sql(ROWS, {}).one()) in NOTHING
    end_request()


# -- credentials ------------------------------------------------------------------------------------------------------


@pytest.fixture
def check(database):  # noqa: ARG001 - for its application context
    """An SQL expression that raises where its value is not `good`."""
    with db.owner_engine.begin() as owner:
        owner.exec_driver_sql(
            "CREATE FUNCTION public.verify_for_test(credential text) RETURNS void LANGUAGE plpgsql AS "
            "$$ BEGIN IF credential <> 'good' THEN RAISE 'revoked' USING ERRCODE = 'AC401'; END IF; END $$"
        )
    yield "public.verify_for_test(%s)"
    end_request()
    with db.owner_engine.begin() as owner:
        owner.exec_driver_sql("DROP FUNCTION public.verify_for_test")


def send(check, value):
    begin_request("r-1")
    identify("user:17", Credential(check, (value,)), user_id=17)


def test_a_credential_that_holds_lets_reads_and_transactions_through(check):
    send(check, "good")
    with db.read_connection() as connection:
        assert connection.scalar(text("SELECT 7")) == 7
    with db.transaction() as session:
        assert session.scalar(text("SELECT 7")) == 7


def test_a_credential_that_does_not_hold_stops_a_read(check):
    send(check, "bad")
    with pytest.raises(UnauthorizedError), db.read_connection() as connection:
        connection.scalar(text("SELECT 7"))


def test_a_credential_is_checked_in_each_read_however_often_it_has_been(check):
    send(check, "good")
    with db.reading() as connection:
        for _ in range(2):
            assert connection.exec_driver_sql("SELECT %(number)s::integer", {"number": 7}).scalar_one() == 7
    send(check, "bad")
    with pytest.raises(UnauthorizedError), db.reading() as connection:
        connection.exec_driver_sql("SELECT %(number)s::integer", {"number": 7})
    send(check, "good")
    with db.owner_engine.begin() as owner:
        owner.exec_driver_sql(
            "CREATE OR REPLACE FUNCTION public.verify_for_test(credential text) RETURNS void LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE 'revoked' USING ERRCODE = 'AC401'; END $$"
        )
    with pytest.raises(UnauthorizedError), db.reading() as connection:
        connection.exec_driver_sql("SELECT %(number)s::integer", {"number": 7})


def test_a_credential_that_does_not_hold_stops_a_transaction_before_it_writes(check):
    send(check, "bad")
    with pytest.raises(UnauthorizedError), db.transaction() as session:
        session.execute(text("INSERT INTO tags (name) VALUES ('x')"))
    end_request()
    assert db.session.scalar(text("SELECT count(*) FROM tags")) == 0


def test_a_credential_that_does_not_hold_stops_a_stream(check):
    send(check, "bad")
    with pytest.raises(UnauthorizedError):
        CopyOut(db.engine.connect(), "COPY (SELECT 7) TO STDOUT", silence=5)


def test_a_credential_that_does_not_hold_stops_the_driver_s_own_cursor(check):
    send(check, "bad")
    with closing(db.engine.raw_connection()) as raw, closing(raw.cursor()) as cursor:
        for statement in ("SELECT 7", b"SELECT 7"):
            with pytest.raises(psycopg2.Error) as error:
                cursor.execute(statement)
            assert error.value.pgcode == "AC401"
            raw.rollback()


def test_the_value_of_a_credential_is_a_value(check):
    for value in ("%s", "'); DROP TABLE users; --", "50%"):
        send(check, value)
        with pytest.raises(UnauthorizedError), db.read_connection() as connection:
            connection.scalar(text("SELECT :number"), {"number": 7})


def read():
    """A read that is planned once, on whichever connection is idle."""
    with db.reading() as connection:
        return connection.exec_driver_sql("SELECT %(number)s + 1 AS number", {"number": 6}).scalar_one()


def test_each_of_several_reads_on_one_connection_checks_the_credential_of_who_asks(check):
    for value, holds in (("good", True), ("bad", False), ("good", True), ("bad", False), ("goo", False)):
        send(check, value)
        if holds:
            assert read() == 7
        else:
            with pytest.raises(UnauthorizedError):
                read()


def test_a_credential_that_holds_no_more_stops_the_next_read(check):
    send(check, "good")
    assert [read(), read()] == [7, 7]
    with db.owner_engine.begin() as owner:
        owner.exec_driver_sql(
            "CREATE OR REPLACE FUNCTION public.verify_for_test(credential text) RETURNS void LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE 'revoked' USING ERRCODE = 'AC401'; END $$"
        )
    with pytest.raises(UnauthorizedError):
        read()


def test_a_check_that_the_server_has_forgotten_is_made_all_the_same(check):
    send(check, "good")
    read()
    with db.reading() as connection:
        connection.exec_driver_sql("DEALLOCATE ALL")
    assert read() == 7
    with db.reading() as connection:
        connection.exec_driver_sql("DEALLOCATE ALL")
    send(check, "bad")
    with pytest.raises(UnauthorizedError):
        read()


def test_a_check_that_somebody_else_has_prepared_is_used(check):
    send(check, "good")
    read()
    with db.reading() as connection:
        known = connection.connection.prepared
        known.names.clear()
        known.tellings.clear()
    assert read() == 7
    send(check, "bad")
    with pytest.raises(UnauthorizedError):
        read()


def test_a_check_is_planned_once_for_a_connection(check):
    send(check, "good")
    for _ in range(3):
        read()
    with db.reading() as connection:
        planned = "SELECT count(*) FROM pg_prepared_statements WHERE statement ~ 'for_test[(][$]1'"
        assert connection.exec_driver_sql(planned, {}).scalar_one() == 1


@pytest.mark.parametrize("value", ["%s", "%(v0)s", "'); DROP TABLE users; --", "50%", "%%", "\\", "$1"])
def test_the_value_of_a_credential_is_a_value_where_its_check_is_planned_once(check, value):
    send(check, value)
    with pytest.raises(UnauthorizedError):
        read()
