"""Reads past SQLAlchemy's layers: sent again where that is safe, and planned once for a connection."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, MultipleResultsFound, NoResultFound

from api.core.database import prepared, reading
from api.core.database.reading import ReadConnection
from api.core.errors import UnavailableError
from api.extensions import db

DOUBLED = "SELECT %(number)s * 2 AS doubled"
PREPARED = "SELECT count(*) FROM pg_prepared_statements"


@pytest.fixture
def engine(engine_with):
    """An engine with one connection, so that whatever is asked is asked of the same."""
    return engine_with(pool_size=1, max_overflow=0)


@pytest.fixture
def connection(engine):
    with ReadConnection(engine) as connection:
        yield connection


def kill(connection):
    pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    with db.owner_engine.connect() as killer:
        killer.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})


# -- results ----------------------------------------------------------------------------------------------------------


def test_a_row_has_its_columns_by_name_and_place(connection):
    row = connection.exec_driver_sql("SELECT 1 AS one, 'b' AS two").one()
    assert (row.one, row.two, row[0]) == (1, "b", 1)


def test_no_row_is_none_or_an_error(connection):
    assert connection.exec_driver_sql("SELECT 1 AS one WHERE false").one_or_none() is None
    with pytest.raises(NoResultFound):
        connection.exec_driver_sql("SELECT 1 AS one WHERE false").one()


def test_more_rows_than_one_are_an_error(connection):
    with pytest.raises(MultipleResultsFound):
        connection.exec_driver_sql("VALUES (1), (2)").one_or_none()


def test_a_read_counts_as_one_statement(connection, statements):
    with statements() as counted:
        connection.exec_driver_sql(DOUBLED, {"number": 2})
    assert counted.count == 1


def test_a_read_leaves_the_connection_as_it_was(engine):
    with ReadConnection(engine) as connection:
        connection.exec_driver_sql(DOUBLED, {"number": 2})
    with engine.connect() as other, other.begin():
        assert not other.connection.dbapi_connection.autocommit


# -- connections that are lost ----------------------------------------------------------------------------------------


def test_a_read_on_a_connection_that_was_dropped_is_sent_again(app, connection):
    with app.app_context():
        kill(connection)
    assert connection.exec_driver_sql(DOUBLED, {"number": 2}).scalar_one() == 4


def test_a_read_is_not_sent_again_on_another_connection_that_was_dropped(app, engine_with):
    engine = engine_with(pool_size=1, max_overflow=1)
    with ReadConnection(engine) as one:
        with ReadConnection(engine) as other, app.app_context():
            kill(one)
            kill(other)
        # Back in the pool, where it counts as alive: it has answered a moment ago.
        assert one.exec_driver_sql(DOUBLED, {"number": 2}).scalar_one() == 4


def read_whose_place_is_taken(app, engine):
    """Read on a connection that is dropped, and whose place somebody else has before the read is sent again."""
    with ReadConnection(engine) as connection, ExitStack() as others, app.app_context():
        kill(connection)
        give_back = connection._give_back

        def give_it_to_others():
            connection._give_back = give_back
            give_back()
            others.enter_context(engine.connect())

        connection._give_back = give_it_to_others
        connection.exec_driver_sql(DOUBLED, {"number": 2})


def test_where_there_is_no_connection_to_send_a_read_again_a_client_is_told_so(app, engine_with):
    engine = engine_with(pool_size=1, max_overflow=0, pool_timeout=0.1)
    with pytest.raises(UnavailableError, match="Too many"):
        read_whose_place_is_taken(app, engine)


def test_after_a_read_that_has_taken_long_it_is_not_sent_again(app, connection, monkeypatch):
    monkeypatch.setattr(reading, "_SOON", -1.0)
    with app.app_context():
        kill(connection)
    with pytest.raises(DBAPIError) as caught:
        connection.exec_driver_sql(DOUBLED, {"number": 2})
    assert caught.value.connection_invalidated


def test_what_has_a_meaning_for_a_client_is_told_so(engine):
    with pytest.raises(UnavailableError), ReadConnection(engine) as connection:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 10; SELECT pg_sleep(5)")


def test_a_mistake_of_ours_is_the_driver_s_error(engine):
    with pytest.raises(DBAPIError, match="no_such_table"), ReadConnection(engine) as connection:
        connection.exec_driver_sql("SELECT * FROM no_such_table WHERE id = %(id)s", {"id": 1})


def test_reads_spare_the_ping_that_everybody_else_sends(database, monkeypatch):
    del database
    pings = []
    ping = db.engine.dialect.do_ping
    monkeypatch.setattr(db.engine.dialect, "do_ping", lambda connection: pings.append(ping(connection)) or True)
    asked = []
    with db.reading() as connection:
        connection.exec_driver_sql("SELECT 1 AS one")
        driver = connection.connection
        monkeypatch.setattr(type(driver), "has_answered_lately", property(lambda _: asked.append(1) or True))
    with db.reading():
        assert len(asked) == 1
    with db.engine.connect():
        assert len(asked) == 1


# -- plans that are kept ----------------------------------------------------------------------------------------------


def test_a_statement_is_prepared_once_and_then_executed(connection):
    before = connection.exec_driver_sql(PREPARED).scalar_one()
    assert [connection.exec_driver_sql(DOUBLED, {"number": n}).scalar_one() for n in range(3)] == [0, 2, 4]
    assert connection.exec_driver_sql(PREPARED).scalar_one() == before + 1


def test_nothing_is_prepared_where_it_is_not_wanted(engine_with):
    with ReadConnection(engine_with(prepared_statements=False)) as connection:
        assert connection.exec_driver_sql(DOUBLED, {"number": 2}).scalar_one() == 4
        assert connection.exec_driver_sql(PREPARED).scalar_one() == 0


def test_a_statement_that_the_server_has_forgotten_is_prepared_again(connection):
    connection.exec_driver_sql(DOUBLED, {"number": 1})
    connection.exec_driver_sql("DEALLOCATE ALL")
    assert connection.exec_driver_sql(DOUBLED, {"number": 2}).scalar_one() == 4


def test_a_statement_that_somebody_else_has_prepared_is_used(connection):
    connection.exec_driver_sql(DOUBLED, {"number": 1})
    connection.connection.prepared.names.clear()
    assert connection.exec_driver_sql(DOUBLED, {"number": 2}).scalar_one() == 4


def test_a_statement_whose_result_has_become_another_one_is_answered(app, engine):
    with app.app_context(), db.owner_engine.begin() as owner:
        owner.execute(text("DROP TABLE IF EXISTS changing"))
        owner.execute(text("CREATE TABLE changing AS SELECT 1 AS id"))
    read = "SELECT * FROM changing WHERE id = %(id)s"
    with ReadConnection(engine) as connection:
        connection.exec_driver_sql(read, {"id": 1})
        with app.app_context(), db.owner_engine.begin() as owner:
            owner.execute(text("ALTER TABLE changing ADD COLUMN name text DEFAULT 'a'"))
        assert connection.exec_driver_sql(read, {"id": 1}).one() == (1, "a")
    with app.app_context(), db.owner_engine.begin() as owner:
        owner.execute(text("DROP TABLE changing"))


@pytest.mark.parametrize(
    ("query", "parameters", "answer"),
    [
        ("SELECT json_build_object('a', %(value)s) AS built", {"value": 5}, {"a": 5}),
        ("EXPLAIN (FORMAT JSON, COSTS OFF) SELECT %(value)s", {"value": 5}, None),
        ("SELECT %(value)s + 1, %(value)s || 'a'", {"value": 5}, 6),
    ],
)
def test_what_cannot_be_prepared_is_sent_as_it_is(connection, query, parameters, answer):
    for _ in range(2):
        found = connection.exec_driver_sql(query, parameters).scalar_one()
        assert answer is None or found == answer


def test_the_size_of_a_page_is_part_of_the_plan(connection):
    read = "SELECT count(*) FROM (SELECT generate_series(1, 100) LIMIT %(size)s + 1) AS page"
    assert [connection.exec_driver_sql(read, {"size": size}).scalar_one() for size in (5, 9)] == [6, 10]
    texts = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%LIMIT 5 + 1%'"
    assert connection.exec_driver_sql(texts).scalar_one() == 1


def test_percent_signs_are_sent_as_they_are(connection):
    read = "SELECT 'a%%b' LIKE 'a%%' AND %(number)s %% 2 = 1 AS odd"
    assert connection.exec_driver_sql(read, {"number": 5}).scalar_one() is True


def test_a_connection_keeps_so_many_plans_and_then_begins_anew(connection, monkeypatch):
    monkeypatch.setattr(prepared, "_PREPARED_MAX", 3)
    for number in range(8):
        assert connection.exec_driver_sql(f"SELECT {number} + %(one)s", {"one": 1}).scalar_one() == number + 1
    assert connection.exec_driver_sql(PREPARED).scalar_one() <= 3
