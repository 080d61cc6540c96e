"""Rows of others do not exist for a caller in the database either, whatever the application asks it for."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from psycopg2.extensions import cursor as PlainCursor  # noqa: N812 - a class, whatever its name
from sqlalchemy import ForeignKey, Integer, MetaData, select, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from api.core.database.access import policies
from api.core.database.context import acting_as_service, begin_request, end_request, identify
from api.extensions import db
from api.resources.orders.models import Order
from tests.factories import OrderFactory, OrderItemFactory, ProductFactory, UserFactory

TABLES = ("users", "orders", "order_items")


@contextmanager
def request_of(user_id, unrestricted=""):
    begin_request("r-1")
    if user_id is not None:
        identify(f"user:{user_id}", user_id=user_id, unrestricted=unrestricted)
    try:
        yield
    finally:
        db.session.rollback()
        db.session.expunge_all()
        end_request()


@pytest.fixture
def two(session):
    """Two users with an order each."""
    users = [UserFactory(), UserFactory()]
    product = ProductFactory()
    for user in users:
        OrderFactory(user=user, items=[OrderItemFactory.build(product=product)])
    keys = [user.id for user in users]
    session.expunge_all()
    session.rollback()
    return keys


def counts():
    """How many rows of each table a read sees that asks for all of them."""
    with db.read_connection() as connection:
        return {table: connection.scalar(text(f"SELECT count(*) FROM {table}")) for table in TABLES}  # noqa: S608


def owners(statement="SELECT DISTINCT user_id FROM orders"):
    with db.read_connection() as connection:
        return [*connection.scalars(text(statement))]


def written(statement, **values):
    """How many rows a statement of the caller has written."""
    with db.transaction() as session:
        return session.execute(text(statement), values).rowcount


def test_a_read_without_any_condition_finds_the_caller_s_rows_only(two):
    for key in two:
        with request_of(key):
            assert counts() == dict.fromkeys(TABLES, 1)
            assert owners() == [key]


def test_a_read_that_is_planned_once_finds_the_rows_of_whoever_asks_each_time(two):
    read = "SELECT count(*) AS n, min(user_id) AS owner FROM orders WHERE total_amount >= %(least)s"
    for key, unrestricted, found in 3 * [(two[0], "", 1), (two[1], "", 1), (None, "", 0), (two[0], "orders", 2)]:
        with request_of(key, unrestricted), db.reading() as connection:
            seen = connection.exec_driver_sql(read, {"least": 0}).one()
        assert seen.n == found
        assert unrestricted or seen.owner == (key if found else None)


def test_a_transaction_finds_the_caller_s_rows_only(two):
    with request_of(two[0]), db.transaction() as session:
        assert [order.user_id for order in session.scalars(select(Order))] == [two[0]]


def test_whoever_is_not_known_finds_no_rows(two):
    del two
    with request_of(None):
        assert counts() == dict.fromkeys(TABLES, 0)


def test_whoever_may_see_all_rows_of_a_table_finds_all_of_it_and_of_its_parts(two):
    with request_of(two[0], "orders"):
        assert counts() == {"users": 1, "orders": 2, "order_items": 2}


def test_a_part_alone_opens_nothing(two):
    with request_of(two[0], "order_items"):
        assert counts() == dict.fromkeys(TABLES, 1)


def test_the_service_finds_all_rows_in_the_middle_of_a_request(two):
    with request_of(two[0]):
        with acting_as_service():
            assert counts() == dict.fromkeys(TABLES, 2)
        assert counts() == dict.fromkeys(TABLES, 1)


def test_one_transaction_may_go_from_the_caller_to_the_service_and_back(two):
    with request_of(two[0]), db.transaction() as session:
        seen = [session.scalar(text("SELECT count(*) FROM orders"))]
        with acting_as_service():
            seen.append(session.scalar(text("SELECT count(*) FROM orders")))
        seen.append(session.scalar(text("SELECT count(*) FROM orders")))
    assert seen == [1, 2, 1]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE orders SET metadata = '{\"mine\": true}'",
        "UPDATE orders SET status = 'cancelled' WHERE user_id <> :me",
        "DELETE FROM order_items",
        "DELETE FROM order_items WHERE order_id IN (SELECT id FROM orders WHERE user_id <> :me)",
        "UPDATE users SET is_active = false",
        "DELETE FROM users WHERE id <> :me",
    ],
)
def test_rows_of_others_are_neither_changed_nor_removed(two, statement):
    with request_of(two[0]):
        assert written(statement, me=two[0]) == ("<>" not in statement)


def test_rows_cannot_be_made_or_given_to_others(two):
    new = "INSERT INTO orders (id, user_id, total_amount) VALUES (gen_random_uuid(), :owner, 1)"
    with request_of(two[0]):
        assert written(new, owner=two[0]) == 1
        for statement in (new, "UPDATE orders SET user_id = :owner"):
            with pytest.raises(ProgrammingError, match="row-level security"):
                written(statement, owner=two[1])


def test_a_connection_that_was_told_nothing_finds_no_rows(two):
    del two
    raw = db.engine.raw_connection()
    with raw.cursor() as cursor:
        # As another program with the API's password would ask, and not as the service.
        cursor.execute("SELECT set_config('role', 'none', true), set_config('app.unrestricted', '', true)")
        cursor.execute("SELECT count(*) FROM orders")
        assert cursor.fetchone() == (0,)
    raw.rollback()
    raw.close()


def test_what_one_transaction_was_told_is_forgotten_in_the_next(two):
    with db.engine.connect() as connection:
        raw = connection.connection.driver_connection
        for key in two:
            with request_of(key):
                assert connection.scalar(text("SELECT user_id FROM orders")) == key
                connection.rollback()
        # Below everything that would tell it who is acting.
        with raw.cursor(cursor_factory=PlainCursor) as cursor:
            cursor.execute("SELECT count(*), current_user = session_user FROM orders")
            assert cursor.fetchone() == (0, True)
        raw.rollback()


def test_two_clients_of_one_server_connection_do_not_see_each_other_s_rows(two, engine_with):
    """As PgBouncer hands a connection from transaction to transaction, here from read to read."""
    with engine_with(pool_size=1, max_overflow=0).connect() as connection:
        reading = connection.execution_options(isolation_level="AUTOCOMMIT")
        for key in (*two, *two):
            with request_of(key):
                assert reading.scalars(text("SELECT user_id FROM orders")).all() == [key]
        with request_of(two[0], "orders"):
            assert reading.scalar(text("SELECT count(*) FROM orders")) == 2
        with request_of(two[0]):
            assert reading.scalar(text("SELECT count(*) FROM orders")) == 1


def test_for_all_rows_the_planner_may_use_the_indexes_of_searches(session):
    explained = "EXPLAIN SELECT id FROM orders WHERE metadata @> '{\"a\": 1}'"
    del session
    with db.read_connection() as connection:
        connection.execute(text("SET enable_seqscan = off"))
        plans = []
        for unrestricted in ("orders", ""):
            with request_of(7, unrestricted):
                plans.append("\n".join(connection.scalars(text(explained))))
        connection.execute(text("RESET enable_seqscan"))
    assert "ix_orders_metadata" in plans[0]
    assert "Filter" not in plans[0]
    assert "ix_orders_metadata" not in plans[1]


def test_the_owner_of_the_tables_finds_all_rows(two, owner):
    assert owner.scalar(text("SELECT count(*) FROM orders")) == len(two)


def test_every_table_with_an_owner_has_its_policy_in_the_database(owner):
    found = {*owner.scalars(text("SELECT relname FROM pg_class WHERE relrowsecurity"))}
    assert found == {policy.table for policy in policies(db.metadata)}
    assert found >= {"users", "profiles", "orders", "order_items", "auth_sessions", "auth_refresh_tokens", "api_keys"}


@pytest.mark.parametrize(("attribute", "column"), [("__owner__", "nobody"), ("__part_of__", "number")])
def test_a_declaration_that_names_no_column_stops_the_start(attribute, column):
    class Scratch(DeclarativeBase):
        metadata = MetaData()

    with pytest.raises(ValueError, match=f"Thing.{attribute}: '{column}' is no"):
        type(
            "Thing",
            (Scratch,),
            {
                "__tablename__": "things",
                attribute: column,
                "__annotations__": {"id": Mapped[int], "number": Mapped[int]},
                "id": mapped_column(primary_key=True),
                "number": mapped_column(Integer),
            },
        )


def test_the_policy_of_a_part_asks_for_what_it_is_a_part_of():
    class Scratch(DeclarativeBase):
        metadata = MetaData()

    class Whole(Scratch):
        __tablename__ = "wholes"
        __owner__ = "owner_id"
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[int]

    class Part(Scratch):
        __tablename__ = "parts"
        __part_of__ = "whole_id"
        id: Mapped[int] = mapped_column(primary_key=True)
        whole_id: Mapped[int] = mapped_column(ForeignKey("wholes.id"))

    part, whole = policies(Scratch.metadata)
    assert "'{*,wholes}'" in whole.condition
    assert "'{*,wholes}'" in part.condition
    assert "EXISTS (SELECT FROM wholes whole" in part.condition
