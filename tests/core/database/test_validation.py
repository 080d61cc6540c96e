"""A rule declared on a column holds in the ORM's listeners and, as a CHECK constraint, against all other SQL."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from marshmallow import ValidationError
from marshmallow.validate import Email, Length, OneOf, Range, Regexp
from sqlalchemy import CheckConstraint, Integer, MetaData, Numeric, String, Text, func, insert, text, update
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session

from api.core.database.indexes import unique_among_live
from api.core.database.mixins import SoftDeleteMixin
from api.core.database.model import NAMING_CONVENTION, IntIDModel
from api.core.database.text_rules import Identifier
from api.core.database.types import JSONDocument, column
from api.core.database.validation import problems, validators_of
from api.core.errors import InvalidError
from api.extensions import db
from api.resources.orders.models import Order
from api.resources.products.models import Product
from api.resources.users.models import User
from tests.factories import OrderFactory, ProductFactory, UserFactory


class _Scratch(DeclarativeBase):
    """Models of this file alone, which no migration knows."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


def _even(number):
    if number % 2:
        raise ValidationError({"nested": ["Must be even.", ["Must not be odd."]]})


class Gadget(IntIDModel, SoftDeleteMixin, _Scratch):
    """One column for each kind of rule."""

    __tablename__ = "gadgets"

    colour: Mapped[str | None] = column(String(20), validators=[OneOf(["red", "it's blue"])])
    code: Mapped[str | None] = column(String(10), validators=[Length(min=2, max=5), Regexp("^[a-z]+$")])
    note: Mapped[str | None] = column(Text, validators=[Length(max=3)])
    share: Mapped[Decimal | None] = column(
        Numeric(5, 2), validators=[Range(min=0, max=1, min_inclusive=False, max_inclusive=False)]
    )
    places: Mapped[int | None] = column(Integer, validators=[Range(max=8), _even])
    plain: Mapped[str | None] = column(String(4))
    renamed_: Mapped[int | None] = column("renamed", Integer, validators=[Range(min=1)])
    document: Mapped[dict[str, Any] | None] = column(JSONDocument, validators=[Length(max=1)])
    boundless: Mapped[str | None] = column(Text, validators=[Length(min=0), Range()])


unique_among_live(Gadget.__table__.c.plain)


@pytest.fixture(scope="module")
def engine(app):
    """The test database with the table of gadgets."""
    with app.app_context():
        _Scratch.metadata.create_all(db.owner_engine)
        yield db.engine
        _Scratch.metadata.drop_all(db.owner_engine)


@pytest.fixture
def scratch(engine):
    """A session that keeps nothing."""
    with Session(engine) as session:
        yield session


def said(error: InvalidError) -> dict[str | None, list[str]]:
    found: dict[str | None, list[str]] = {}
    for violation in error.violations:
        found.setdefault(violation.pointer, []).append(violation.detail)
    return found


BROKEN: list[tuple[str, Any, str, str]] = [
    ("colour", "green", "/colour", "Must be one of: red, it's blue."),
    ("code", "a", "/code", "Length must be between 2 and 5."),
    ("code", "abcdef", "/code", "Length must be between 2 and 5."),
    ("code", "ABC", "/code", "String does not match expected pattern."),
    ("note", "long", "/note", "Longer than maximum length 3."),
    ("share", Decimal(0), "/share", "Must be greater than 0 and less than 1."),
    ("share", Decimal(1), "/share", "Must be greater than 0 and less than 1."),
    ("places", 10, "/places", "Must be less than or equal to 8."),
    ("plain", "12345", "/plain", "Longer than maximum length 4."),
    ("plain", "a\0b", "/plain", "Must not contain the NUL character."),
    ("renamed_", 0, "/renamed", "Must be greater than or equal to 1."),
    ("document", {"a": 1, "b": 2}, "/document", "Longer than maximum length 1."),
]


@pytest.mark.parametrize(("attribute", "value", "pointer", "detail"), BROKEN)
def test_an_insert_that_breaks_a_rule_is_refused_at_its_field(scratch, attribute, value, pointer, detail):
    scratch.add(Gadget(**{attribute: value}))
    with pytest.raises(InvalidError) as caught:
        scratch.flush()
    assert said(caught.value) == {pointer: [detail]}


@pytest.mark.parametrize(("attribute", "value", "pointer", "detail"), BROKEN)
def test_an_update_that_breaks_a_rule_is_refused_at_its_field(scratch, attribute, value, pointer, detail):
    gadget = Gadget()
    scratch.add(gadget)
    scratch.flush()
    setattr(gadget, attribute, value)
    with pytest.raises(InvalidError) as caught:
        scratch.flush()
    assert said(caught.value) == {pointer: [detail]}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"colour": "it's blue", "code": "abc", "note": "abc", "share": Decimal("0.5"), "places": 8, "plain": "1234"},
        {"colour": None, "code": None, "share": None, "renamed_": None},
        {"code": "ab", "share": Decimal("0.99"), "places": -2, "note": "", "renamed_": 1},
        {"note": "äöü", "plain": "🛒🛒🛒🛒"},
    ],
)
def test_what_keeps_the_rules_is_stored(scratch, values):
    gadget = Gadget(**values)
    scratch.add(gadget)
    scratch.flush()
    scratch.refresh(gadget)
    assert {name: getattr(gadget, name) for name in values} == values


def test_every_broken_rule_is_told_at_once(scratch):
    scratch.add(Gadget(colour="green", code="A", places=9))
    with pytest.raises(InvalidError) as caught:
        scratch.flush()
    assert said(caught.value) == {
        "/colour": ["Must be one of: red, it's blue."],
        "/code": ["Length must be between 2 and 5.", "String does not match expected pattern."],
        "/places": ["Must be less than or equal to 8."],
        "/places/nested": ["Must be even.", "Must not be odd."],
    }


def test_columns_that_an_update_does_not_change_are_not_judged(scratch):
    gadget = Gadget(code="abc")
    scratch.add(gadget)
    scratch.flush()
    scratch.execute(text("UPDATE gadgets SET code = 'ABC'"))
    scratch.refresh(gadget)
    gadget.places = 4
    scratch.flush()
    assert (gadget.code, gadget.places) == ("ABC", 4)


def test_an_expression_is_left_to_the_database_to_judge(scratch):
    gadget = Gadget(places=2)
    scratch.add(gadget)
    scratch.flush()
    gadget.places = Gadget.places + 2
    scratch.flush()
    assert gadget.places == 4
    gadget.places = func.abs(-100)
    with pytest.raises(IntegrityError, match="ck_gadgets_places_range"):
        scratch.flush()


@pytest.mark.parametrize(
    ("column_name", "value", "constraint"),
    [
        ("colour", "green", "ck_gadgets_colour_oneof"),
        ("code", "a", "ck_gadgets_code_length"),
        ("code", "abcdef", "ck_gadgets_code_length"),
        ("note", "long", "ck_gadgets_note_length"),
        ("share", "0", "ck_gadgets_share_range"),
        ("share", "1", "ck_gadgets_share_range"),
        ("places", 9, "ck_gadgets_places_range"),
        ("renamed", 0, "ck_gadgets_renamed_range"),
        ("document", text("'[]'"), "ck_gadgets_document_object"),
        ("document", text("'null'"), "ck_gadgets_document_object"),
    ],
)
@pytest.mark.parametrize("statement", [insert, update])
def test_the_same_rule_holds_against_raw_sql(scratch, statement, column_name, value, constraint):
    scratch.execute(text("INSERT INTO gadgets DEFAULT VALUES"))
    with pytest.raises(IntegrityError, match=constraint):
        scratch.execute(statement(Gadget.__table__).values({column_name: value}))


def test_the_length_of_a_column_holds_against_raw_sql(scratch):
    with pytest.raises(DataError, match="too long"):
        scratch.execute(text("INSERT INTO gadgets (plain) VALUES ('12345')"))


def test_each_rule_that_sql_can_say_is_one_named_constraint():
    names = {str(item.name) for item in Gadget.__table__.constraints if isinstance(item, CheckConstraint)}
    assert names == {
        "ck_gadgets_colour_oneof",
        "ck_gadgets_code_length",
        "ck_gadgets_note_length",
        "ck_gadgets_share_range",
        "ck_gadgets_places_range",
        "ck_gadgets_renamed_range",
        "ck_gadgets_document_object",
    }


def test_a_column_knows_its_validators():
    assert [type(rule) for rule in validators_of(Gadget.__table__.c.code)] == [Length, Regexp]
    assert validators_of(Gadget.__table__.c.plain) == ()


def test_what_is_wrong_can_be_asked_for_without_a_row():
    assert [*problems(Gadget.__table__.c.places, 9)] == [
        ((), "Must be less than or equal to 8."),
        (("nested",), "Must be even."),
        (("nested",), "Must not be odd."),
    ]
    assert [*problems(Gadget.__table__.c.places, 8)] == []


# -- unique among live rows


def test_a_value_is_unique_among_live_rows_and_its_case_counts_unless_said_otherwise(scratch):
    first = Gadget(plain="same")
    scratch.add_all([first, Gadget(plain="SAME")])
    scratch.flush()
    first.soft_delete()
    scratch.add(Gadget(plain="same"))
    scratch.flush()
    scratch.add(Gadget(plain="same"))
    with pytest.raises(IntegrityError, match="uq_gadgets_plain_live"):
        scratch.flush()


# -- the models' own rules


@pytest.mark.parametrize(
    ("factory", "values", "pointer"),
    [
        (UserFactory, {"username": "ab"}, "/username"),
        (UserFactory, {"username": "x" * 81}, "/username"),
        (UserFactory, {"email": "nobody"}, "/email"),
        (ProductFactory, {"price": Decimal("-0.01")}, "/price"),
        (ProductFactory, {"stock_quantity": -1}, "/stock_quantity"),
        (ProductFactory, {"sku": ""}, "/sku"),
        (OrderFactory, {"status": "lost"}, "/status"),
        (OrderFactory, {"total_amount": Decimal(-1)}, "/total_amount"),
    ],
)
@pytest.mark.usefixtures("database")
def test_the_models_rules_hold(factory, values, pointer):
    with pytest.raises(InvalidError) as caught, db.transaction() as session:
        session.add(factory.build(**values))
    assert [violation.pointer for violation in caught.value.violations] == [pointer]


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE users SET username = 'ab'", "ck_users_username_length"),
        ("UPDATE products SET price = -1", "ck_products_price_range"),
        ("UPDATE products SET stock_quantity = stock_quantity - 11", "ck_products_stock_quantity_range"),
        ("UPDATE orders SET status = 'lost'", "ck_orders_status_oneof"),
        ("UPDATE orders SET total_amount = -0.01", "ck_orders_total_amount_range"),
    ],
)
def test_the_models_rules_hold_against_raw_sql(session, statement, constraint):
    OrderFactory()
    ProductFactory(stock_quantity=10)
    with pytest.raises(IntegrityError, match=constraint):
        session.execute(text(statement))


def test_the_models_declare_their_rules_once():
    assert [type(rule) for rule in validators_of(User.__table__.c.email)] == [Email, Identifier]
    assert [type(rule) for rule in validators_of(Product.__table__.c.price)] == [Range]
    assert [type(rule) for rule in validators_of(Order.__table__.c.status)] == [OneOf]
