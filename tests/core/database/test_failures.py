"""What the database refuses, said in terms of the fields concerned; and never in terms of SQL."""

# ruff: noqa: PT012 - the whole block is what is tested

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

from api.core.database.session import transaction, translated_failures
from api.core.errors import (
    ConflictError,
    InvalidError,
    PreconditionFailedError,
    TransactionConflictError,
    UnavailableError,
)
from api.extensions import db
from api.resources.orders.models import Order
from api.resources.products.models import Product
from api.resources.tags.models import Tag
from api.resources.users.models import Profile, User
from tests.factories import (
    CategoryFactory,
    OrderFactory,
    ProductFactory,
    ProfileFactory,
    RoleFactory,
    TagFactory,
    UserFactory,
)

pytestmark = pytest.mark.usefixtures("database")


def refused(statement, error):
    """The error that executing `statement` ends in, which must be an `error`."""
    with pytest.raises(error) as caught, db.transaction() as session:
        session.execute(statement)
    return caught.value


def pointers(error):
    return [violation.pointer for violation in error.violations]


@pytest.mark.parametrize(
    ("factory", "field", "taken", "same"),
    [
        (ProductFactory, "sku", "MUG-1", "mug-1"),
        (CategoryFactory, "name", "Books", "BOOKS"),
        (TagFactory, "name", "straße", "STRAßE"),
        (RoleFactory, "name", "manager", "Manager"),
        (UserFactory, "username", "ada", "Ada"),
        (UserFactory, "email", "ada@example.com", "ADA@example.com"),
    ],
)
def test_a_value_that_is_taken_is_a_conflict_at_its_field_in_whatever_case(factory, field, taken, same):
    factory(**{field: taken})
    with pytest.raises(ConflictError) as caught, db.transaction() as session:
        session.add(factory.build(**{field: same}))
    assert pointers(caught.value) == [f"/{field}"]
    assert caught.value.detail == "This value is already taken."


def test_a_taken_unique_column_is_a_conflict_at_that_column():
    profile = ProfileFactory()
    error = refused(insert(Profile).values(user_id=profile.user_id), ConflictError)
    assert pointers(error) == ["/user_id"]


def test_a_taken_primary_key_is_a_conflict_at_the_key():
    tag = TagFactory()
    assert pointers(refused(insert(Tag).values(id=tag.id, name="other"), ConflictError)) == ["/id"]


def test_a_reference_to_nothing_is_invalid_at_its_field():
    error = refused(insert(Product).values(sku="A", name="A", price=1, category_id=999), InvalidError)
    assert pointers(error) == ["/category_id"]
    assert error.detail == "There is no such resource to refer to."


def test_an_update_to_a_reference_to_nothing_is_invalid_at_its_field():
    product = ProductFactory()
    statement = update(Product).where(Product.id == product.id).values(category_id=999)
    assert pointers(refused(statement, InvalidError)) == ["/category_id"]


@pytest.mark.parametrize("statement", [delete(User), text("  delete from users")])
def test_a_removal_of_what_others_refer_to_is_a_conflict(statement):
    OrderFactory()
    error = refused(statement, ConflictError)
    assert error.detail == "Other data still refers to this resource."


def test_a_missing_value_is_invalid_at_its_field():
    error = refused(insert(Tag).values(name=None), InvalidError)
    assert pointers(error) == ["/name"]
    assert error.detail == "Missing data for required field."


@pytest.mark.parametrize(
    ("column", "value", "detail"),
    [
        ("price", -1, "Must be at least 0."),
        ("stock_quantity", -1, "Must be at least 0."),
        ("name", "", "This value is not allowed."),
    ],
)
def test_a_broken_rule_is_invalid_at_its_field(column, value, detail):
    product = ProductFactory()
    statement = update(Product).where(Product.id == product.id).values({column: value})
    error = refused(statement, InvalidError)
    assert pointers(error) == [f"/{column}"]
    assert error.detail == detail


def test_a_broken_choice_names_the_choices():
    OrderFactory()
    error = refused(text("UPDATE orders SET status = 'lost'"), InvalidError)
    assert pointers(error) == ["/status"]
    assert error.detail == "Must be one of: pending, processing, shipped, delivered, cancelled."


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE products SET price = 100000000",
        "UPDATE products SET stock_quantity = 2147483648",
        "UPDATE products SET sku = repeat('x', 65)",
        "UPDATE products SET description = E'\\x00'",
        "UPDATE products SET created_at = 'yesterday noon'",
        "UPDATE products SET metadata = '{'",
        "SELECT 1 / 0",
    ],
)
def test_a_value_that_does_not_fit_is_invalid(statement):
    ProductFactory()
    error = refused(text(statement), InvalidError)
    assert error.detail == "A value is outside of what the database can store."


def test_a_row_that_somebody_else_has_locked_is_a_503_once_the_lock_timeout_is_over(engine_with):
    tag = TagFactory()
    statement = update(Tag.__table__).values(name="mine")
    with db.transaction() as session, engine_with(lock_timeout_ms=50).connect() as impatient:
        session.execute(select(Tag).where(Tag.id == tag.id).with_for_update())
        with pytest.raises(UnavailableError, match="Others are changing") as caught, translated_failures():
            impatient.execute(statement)
    assert caught.value.headers["Retry-After"] == "1"


def test_a_serialization_failure_is_a_503_to_be_tried_again_soon():
    tag = TagFactory()
    engine = db.engine.execution_options(isolation_level="REPEATABLE READ")
    with (
        Session(engine) as one,
        pytest.raises(UnavailableError, match="Others are changing") as caught,
        transaction(one),
    ):
        one.execute(select(Tag))
        with db.transaction() as session:
            session.execute(update(Tag).values(name="theirs"))
        one.execute(update(Tag).where(Tag.id == tag.id).values(name="mine"))
    assert caught.value.headers["Retry-After"] == "1"


def test_a_deadlock_is_a_503_for_one_and_nothing_for_the_other(engine_with):
    keys = [TagFactory().id, TagFactory().id]
    both_hold_one = Barrier(2)
    engine = engine_with()

    def lock(first, second):
        with Session(engine) as session, transaction(session):
            session.execute(text("SET LOCAL deadlock_timeout = '20ms'"))
            session.execute(select(Tag).where(Tag.id == first).with_for_update())
            both_hold_one.wait(5)
            session.execute(select(Tag).where(Tag.id == second).with_for_update())

    with ThreadPoolExecutor(2) as threads:
        outcomes = [threads.submit(lock, *keys), threads.submit(lock, *reversed(keys))]
    errors = [outcome.exception() for outcome in outcomes if outcome.exception() is not None]
    assert [type(error) for error in errors] == [TransactionConflictError]


def test_a_statement_that_takes_too_long_is_a_503():
    with pytest.raises(UnavailableError, match="took too long"), db.transaction() as session:
        session.execute(text("SET LOCAL statement_timeout = '20ms'"))
        session.execute(text("SELECT pg_sleep(5)"))


def test_a_backend_that_is_ended_is_a_503():
    with pytest.raises(UnavailableError), db.transaction() as session:
        session.execute(text("SET LOCAL ROLE NONE"))
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


def test_a_transaction_ended_for_idling_is_a_503():
    with pytest.raises(UnavailableError), db.transaction() as session:
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '20ms'"))
        with db.engine.connect() as other:
            other.execute(text("SELECT pg_sleep(0.2)"))
        session.execute(select(Tag))


def test_a_server_that_is_not_there_is_a_503(engine_with):
    engine = engine_with(database_url="postgresql+psycopg2://postgres@127.0.0.1:1/none")
    with pytest.raises(UnavailableError), Session(engine) as session, transaction(session):
        session.execute(select(Tag))


def test_a_server_that_takes_no_more_connections_is_a_503(engine_with):
    with db.owner_engine.connect() as connection:
        connection.execute(text("CREATE ROLE lonely LOGIN PASSWORD 'lonely' CONNECTION LIMIT 0"))
        connection.commit()
    url = db.engine.url.set(username="lonely", password="lonely").render_as_string(hide_password=False)
    engine = engine_with(database_url=url)
    try:
        with pytest.raises(UnavailableError), Session(engine) as session, transaction(session):
            session.execute(text("SELECT 1"))
    finally:
        with db.owner_engine.connect() as connection:
            connection.execute(text("DROP ROLE lonely"))
            connection.commit()


def test_a_pool_with_no_connection_left_is_a_503(engine_with):
    engine = engine_with(pool_size=1, max_overflow=0, pool_timeout=0.1)
    with engine.connect(), pytest.raises(UnavailableError, match="Too many requests"), translated_failures():
        engine.connect()


def test_a_row_that_was_changed_meanwhile_is_a_failed_precondition():
    tag = TagFactory()
    with pytest.raises(PreconditionFailedError), db.transaction() as session:
        session.execute(text("UPDATE tags SET version = version + 1"))
        tag.name = "mine"
        session.flush()


@pytest.mark.parametrize("statement", ["SELECT * FROM nowhere", "SELEKT", "SELECT no_such_function()"])
def test_a_mistake_of_ours_is_not_dressed_up_as_the_client_s(statement):
    refused(text(statement), ProgrammingError)


def test_a_value_that_the_driver_cannot_send_is_a_mistake_of_ours(session):
    with pytest.raises(ProgrammingError, match="can't adapt"), db.transaction():
        session.execute(text("SELECT :value"), {"value": object()})


@pytest.mark.parametrize(
    ("constraint", "error"),
    [
        ("UNIQUE (n)", ConflictError),
        ("EXCLUDE (n WITH =)", ConflictError),
        ("CHECK (n < 0)", InvalidError),
    ],
)
def test_a_constraint_that_the_models_do_not_know_points_nowhere(session, constraint, error):
    with pytest.raises(error) as caught, db.transaction():
        session.execute(text(f"CREATE TEMPORARY TABLE unknown (n int, {constraint}) ON COMMIT DROP"))
        session.execute(text("INSERT INTO unknown VALUES (1), (1)"))
    assert set(pointers(caught.value)) <= {None}
    assert "unknown" not in caught.value.detail


def test_no_detail_shows_sql_a_constraint_or_another_s_value():
    UserFactory(username="secret-name", email="secret@example.com")
    statement = insert(User).values(username="SECRET-NAME", email="other@example.com")
    error = refused(statement, ConflictError)
    told = " ".join([error.title, error.detail, *(str(violation.as_dict()) for violation in error.violations)]).lower()
    for word in ("insert", "uq_", "secret", "duplicate", "users", "lower("):
        assert word not in told


def test_an_amount_that_is_too_large_is_refused_through_the_orm_as_well():
    with pytest.raises(InvalidError), db.transaction() as session:
        session.add(Order(user=UserFactory.build(), total_amount=Decimal(10**8)))
