"""Search declared on a model: the stored vector, its indexes, and questions asked from Python."""

from __future__ import annotations

import pytest
from sqlalchemy import String, event, insert, inspect, select, text, update
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from api.core.database.search import VECTOR, Search, matching, search_of, similar
from api.resources.orders.models import Order
from api.resources.products.models import Product
from api.resources.users.models import User
from tests.factories import CategoryFactory, ProductFactory


def names(session, statement):
    return [product.name for product in session.scalars(statement)]


# -- the declaration


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ((), {}, "a weight from A to D"),
        (("a", "b"), {"weights": "A"}, "a weight from A to D"),
        (("a",), {"weights": "E"}, "a weight from A to D"),
        (("a", "b", "c", "d", "e"), {}, "a weight from A to D"),
        (("a",), {"language": "english'; DROP TABLE"}, "no text search configuration"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(fields, options, message):
    with pytest.raises(ValueError, match=message):
        Search(*fields, **options)


@pytest.mark.parametrize("field", ["missing", "size"])
def test_only_columns_of_text_are_searched(field):
    class Base(DeclarativeBase):
        pass

    with pytest.raises(TypeError, match=f"Box cannot be searched by '{field}', which is no column of text"):

        class Box(Base):
            __tablename__ = "boxes"
            __search__ = Search(field)

            id: Mapped[int] = mapped_column(primary_key=True)
            size: Mapped[int]
            name: Mapped[str] = mapped_column(String(20))


def test_the_vector_is_a_column_of_the_table_and_no_attribute_of_the_model():
    assert VECTOR in Product.__table__.c
    assert VECTOR not in inspect(Product).columns
    assert VECTOR not in str(select(Product))


@pytest.mark.parametrize(
    "statement",
    [select(Product), insert(Product).returning(Product), update(Product).values(name="x").returning(Product)],
)
def test_orm_statements_leave_the_vector_alone(session, statement):
    given = {"sku": "x", "name": "x", "price": 1, "category_id": CategoryFactory().id}
    executed = []

    def note(_connection, _cursor, sql, *_):
        executed.append(sql)

    event.listen(session.get_bind(), "before_cursor_execute", note)
    try:
        session.scalars(statement, [given] if statement.is_insert else {}).all()
    finally:
        event.remove(session.get_bind(), "before_cursor_execute", note)
    assert executed
    assert VECTOR not in " ".join(executed)


def test_a_model_without_a_declaration_cannot_be_searched():
    with pytest.raises(TypeError, match="Order declares no __search__"):
        matching(Order, "x")


# -- the stored vector


def test_the_vector_follows_every_change_even_by_raw_sql(session):
    product = ProductFactory(name="Blue mugs", description=None)
    vector = select(search_of(Product).vector(Product)).where(Product.id == product.id)
    assert session.scalar(vector) == "'blue':1A 'mug':2A"
    session.execute(text("UPDATE products SET description = 'For tea'"))
    assert session.scalar(vector) == "'blue':1A 'mug':2A 'tea':4B"


def test_words_of_a_simple_language_are_kept_as_they_are(session):
    session.add(User(username="walking", email="the@example.com"))
    session.commit()
    assert session.scalar(select(search_of(User).vector(User))) == "'the@example.com':2B 'walking':1A"


@pytest.mark.parametrize("times", [1, 2])
def test_an_update_that_changes_nothing_moves_neither_version_nor_time(session, times):
    product = ProductFactory(name="Mug")
    before = (product.version, product.updated_at)
    for _ in range(times):
        session.execute(text("UPDATE products SET name = name, description = description"))
        session.commit()
    session.refresh(product)
    assert (product.version, product.updated_at) == before


def test_an_update_by_raw_sql_counts_the_version_and_moves_the_time_of_a_searched_table(session):
    product = ProductFactory(name="Mug")
    before = product.updated_at
    session.execute(text("UPDATE products SET name = 'Cup'"))
    session.commit()
    session.refresh(product)
    assert product.version == 2
    assert product.updated_at > before


def test_an_update_by_query_keeps_the_version_that_it_sets(session):
    product = ProductFactory(name="Mug")
    session.execute(update(Product).values(name="Cup", version=7))
    session.commit()
    session.refresh(product)
    assert product.version == 7


# -- in Python


@pytest.fixture
def shelf(session):
    category = CategoryFactory()
    for name, description in (
        ("Keyboard", "For a computer."),
        ("Computer", "With a keyboard and a mouse."),
        ("Mouse mat", "Blue."),
        ("Blue mug", None),
    ):
        ProductFactory(name=name, description=description, category=category)
    return session


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("keyboards", ["Keyboard", "Computer"]),
        ("computer", ["Computer", "Keyboard"]),
        ("keyboard -mouse", ["Keyboard"]),
        ('"blue mug" or mat', ["Blue mug", "Mouse mat"]),
        ("nothing", []),
        ("the", []),
        ("", []),
    ],
)
def test_words_are_found_in_any_form_the_best_row_first(shelf, asked, found):
    assert names(shelf, matching(Product, asked)) == found


def test_a_search_goes_on_as_any_other_select(shelf):
    statement = matching(Product, "keyboard").where(Product.description.contains("mouse")).limit(1)
    assert names(shelf, statement) == ["Computer"]


def test_a_deleted_row_is_not_found(shelf):
    shelf.scalars(select(Product).where(Product.name == "Keyboard")).one().soft_delete()
    shelf.commit()
    assert names(shelf, matching(Product, "keyboard")) == ["Computer"]
    assert names(shelf, similar(Product, "keyboard")) == []


def test_similar_names_are_found_despite_of_typing_errors(shelf):
    assert names(shelf, similar(Product, "Keybord")) == ["Keyboard"]


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (matching(Product, "keyboard"), "ix_products_search_vector"),
        (similar(Product, "keybord"), "ix_products_name_trigrams"),
    ],
)
def test_both_are_answered_by_an_index(session, statement, index):
    session.execute(text("SET LOCAL enable_seqscan = off"))
    sql = statement.compile(session.connection(), compile_kwargs={"literal_binds": True})
    plan = session.connection().exec_driver_sql(f"EXPLAIN {sql}".replace("%%", "%").replace("%", "%%"), ())
    assert index in "\n".join(plan.scalars())
