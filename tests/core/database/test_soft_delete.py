"""Soft delete: a deleted row is out of sight on every way that the ORM knows to it, and comes back when asked for.

Out of reach, and so visible: what a Core statement on the table or a `text()` selects, and objects that the session had
loaded into a collection before one of them was deleted.
"""

from __future__ import annotations

import pytest
from sqlalchemy import ForeignKey, delete, exists, func, insert, select, text, union_all, update
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    contains_eager,
    immediateload,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
    subqueryload,
)

from api.core.database.mixins import INCLUDE_DELETED, SoftDeleteMixin
from api.core.database.model import IntIDModel
from api.core.errors import ConflictError
from api.extensions import db
from api.resources.categories.models import Category
from api.resources.orders.models import OrderItem
from api.resources.products.models import Product
from api.resources.tags.models import Tag
from api.resources.users.models import User
from tests.factories import (
    CategoryFactory,
    OrderFactory,
    OrderItemFactory,
    ProductFactory,
    RoleFactory,
    TagFactory,
    UserFactory,
)

pytestmark = pytest.mark.usefixtures("database")

SHOWN = {INCLUDE_DELETED: True}


@pytest.fixture
def tags(session):
    """Names of two tags, of which the second is deleted; nothing is loaded."""
    TagFactory(name="live")
    TagFactory(name="gone").soft_delete()
    session.commit()
    session.remove()
    return ["live", "gone"]


@pytest.fixture
def shop(session):
    """A live and a deleted category, with a live and a deleted product each; tags likewise; nothing is loaded."""
    tags = [TagFactory(name="live"), TagFactory(name="gone")]
    for name in ("live", "gone"):
        category = CategoryFactory(name=name)
        for state in ("live", "gone"):
            product = ProductFactory(name=f"{state} in {name}", category=category, tags=tags)
            if state == "gone":
                product.soft_delete()
    tags[1].soft_delete()
    session.commit()
    # By SQL, as a deletion would take the live product along, and this is about what a SELECT of it shows.
    session.execute(text("UPDATE categories SET deleted_at = now() WHERE name = 'gone'"))
    session.commit()
    session.remove()


# -- selects


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda s: s.scalars(select(Tag.name)).all(), id="a column"),
        pytest.param(lambda s: [tag.name for tag in s.scalars(select(Tag))], id="an entity"),
        pytest.param(lambda s: s.scalars(select(aliased(Tag).name)).all(), id="an alias"),
        pytest.param(lambda s: [tag.name for tag in s.query(Tag)], id="a legacy query"),
        pytest.param(lambda _: [tag.name for tag in db.query(Tag).order_by(Tag.id)], id="the query builder"),
        pytest.param(lambda _: [tag.name for tag in Tag.query.all()], id="Model.query"),
        pytest.param(lambda _: [Tag.query.filter_by(name="live").first().name], id="Model.query.filter_by"),
        pytest.param(lambda _: [tag.name for tag in Tag.query.paginate(per_page=5).items], id="Model.query.paginate"),
        pytest.param(lambda s: s.scalars(select(select(Tag.name).subquery().c.name)).all(), id="a subquery"),
        pytest.param(lambda s: s.scalars(select(select(Tag.name).cte().c.name)).all(), id="a CTE"),
        pytest.param(
            lambda s: s.scalars(union_all(select(Tag.name), select(Tag.name).where(False))).all(), id="a union"
        ),
        pytest.param(
            lambda s: s.scalars(select(Tag.name).where(Tag.id.in_(select(Tag.id)))).all(), id="IN with a subquery"
        ),
        pytest.param(
            lambda s: [s.scalar(select(select(Tag.name).order_by(Tag.id.desc()).limit(1).scalar_subquery()))],
            id="a scalar subquery",
        ),
        pytest.param(
            lambda s: [tag.name for tag in s.scalars(select(aliased(Tag, select(Tag).subquery())))],
            id="an entity of a subquery",
        ),
        pytest.param(lambda s: s.scalars(select(Tag.name).execution_options(yield_per=1)).all(), id="a stream"),
        pytest.param(lambda s: [s.scalars(select(Tag).with_for_update()).one().name], id="a lock"),
    ],
)
@pytest.mark.usefixtures("tags")
def test_a_deleted_row_is_out_of_sight(session, read):
    assert read(session) == ["live"]


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(lambda s: s.scalar(select(func.count(Tag.id))), id="of a column"),
        pytest.param(lambda s: s.scalar(select(func.count()).select_from(Tag)), id="of rows"),
        pytest.param(lambda s: s.scalar(select(func.count()).select_from(select(Tag).subquery())), id="of a subquery"),
        pytest.param(lambda _: Tag.query.count(), id="of Model.query"),
        pytest.param(lambda _: db.query(func.count(Tag.id)).scalar(), id="of the query builder"),
    ],
)
@pytest.mark.usefixtures("tags")
def test_a_deleted_row_does_not_count(session, count):
    assert count(session) == 1


def _key_of_the_deleted():
    with db.engine.connect() as connection:
        return connection.scalar(text("SELECT id FROM tags WHERE name = 'gone'"))


@pytest.mark.parametrize(
    "get",
    [
        pytest.param(lambda s, key: s.get(Tag, key), id="Session.get"),
        pytest.param(lambda _, key: Tag.query.get(key), id="Model.query.get"),
        pytest.param(lambda _, key: db.session.get(Tag, key, populate_existing=True), id="a get that reads again"),
        pytest.param(lambda _, key: db.session.get(Tag, key, with_for_update=True), id="a get that locks"),
    ],
)
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.LegacyAPIWarning")
@pytest.mark.usefixtures("tags")
def test_a_deleted_row_cannot_be_got_by_its_key(session, get):
    assert get(session, _key_of_the_deleted()) is None


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.LegacyAPIWarning")
def test_a_row_deleted_in_this_session_cannot_be_got_by_its_key_either(session):
    tag = TagFactory()
    tag.soft_delete()
    session.commit()
    assert session.get(Tag, tag.id) is None
    assert Tag.query.get(tag.id) is None
    assert session.get(Tag, tag.id, execution_options=SHOWN) is tag


@pytest.mark.usefixtures("tags")
def test_a_deleted_row_does_not_exist(session):
    assert not session.scalar(select(exists().where(Tag.name == "gone")))
    assert not session.scalar(select(select(Tag).where(Tag.name == "gone").exists()))


@pytest.mark.usefixtures("tags")
def test_a_refresh_of_a_row_that_was_just_deleted_works(session):
    tag = session.scalars(select(Tag)).one()
    tag.soft_delete()
    session.commit()
    session.refresh(tag)
    assert tag.is_deleted
    session.expire(tag)
    assert tag.name == "live"


# -- with the execution option


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda s: s.scalars(select(Tag.name), execution_options=SHOWN).all(), id="for one execution"),
        pytest.param(lambda s: s.scalars(select(Tag.name).execution_options(**SHOWN)).all(), id="on a statement"),
        pytest.param(lambda _: [t.name for t in Tag.query.execution_options(**SHOWN)], id="on Model.query"),
        pytest.param(
            lambda s: s.scalars(select(select(Tag.name).subquery().c.name).execution_options(**SHOWN)).all(),
            id="on a statement around a subquery",
        ),
    ],
)
@pytest.mark.usefixtures("tags")
def test_a_deleted_row_is_shown_to_who_asks(session, read):
    assert sorted(read(session)) == ["gone", "live"]


@pytest.mark.usefixtures("tags")
def test_a_deleted_row_can_be_got_by_its_key_by_who_asks(session):
    assert session.get(Tag, _key_of_the_deleted(), execution_options=SHOWN).name == "gone"


@pytest.mark.usefixtures("tags")
def test_asking_once_shows_nothing_to_the_next_statement(session):
    for _ in range(2):
        assert len(session.scalars(select(Tag.name), execution_options=SHOWN).all()) == 2
        assert len(session.scalars(select(Tag.name)).all()) == 1


@pytest.mark.usefixtures("tags")
def test_core_statements_and_texts_show_everything(session):
    assert len(session.execute(select(Tag.__table__)).all()) == 2
    assert len(session.execute(text("SELECT * FROM tags")).all()) == 2


# -- joins


@pytest.mark.usefixtures("shop")
def test_an_inner_join_finds_live_rows_on_both_sides(session):
    statement = select(Product.name, Category.name).join(Category)
    assert session.execute(statement).all() == [("live in live", "live")]


@pytest.mark.usefixtures("shop")
def test_an_inner_join_along_a_relationship_does_as_well(session):
    assert session.scalars(select(Product.name).join(Product.category)).all() == ["live in live"]
    assert session.scalars(select(Category.name).join(Category.products)).all() == ["live"]


@pytest.mark.usefixtures("shop")
def test_an_outer_join_shows_a_deleted_row_as_no_row(session):
    statement = select(Product.name, Category.name).outerjoin(Category).order_by(Product.id)
    assert session.execute(statement).all() == [("live in live", "live"), ("live in gone", None)]


@pytest.mark.usefixtures("shop")
def test_a_join_with_an_alias_finds_live_rows_only(session):
    shelf = aliased(Category)
    assert session.execute(select(Product.name, shelf.name).join(shelf, Product.category)).all() == [
        ("live in live", "live")
    ]
    statement = select(Product.name, shelf.name).outerjoin(Product.category.of_type(shelf)).order_by(Product.id)
    assert session.execute(statement).all() == [("live in live", "live"), ("live in gone", None)]


@pytest.mark.usefixtures("shop")
def test_a_join_through_an_association_finds_live_rows_only(session):
    statement = select(Tag.name).join(Product.tags).where(Product.name == "live in live")
    assert session.scalars(statement).all() == ["live"]


@pytest.mark.usefixtures("shop")
def test_a_join_of_a_table_with_itself_finds_live_rows_only(session):
    other = aliased(Product)
    pairs = session.execute(
        select(Product.name, other.name).join(other, Product.category_id == other.category_id)
    ).all()
    assert sorted(map(tuple, pairs)) == [("live in gone",) * 2, ("live in live",) * 2]


# -- relationships


@pytest.mark.parametrize("load", [None, selectinload, joinedload, subqueryload])
@pytest.mark.usefixtures("shop")
def test_a_relationship_to_many_holds_live_rows_only(session, load):
    statement = select(Category).options(*([load(Category.products)] if load else []))
    category = session.scalars(statement).unique().one()
    assert [product.name for product in category.products] == ["live in live"]


@pytest.mark.parametrize("load", [None, selectinload, joinedload, subqueryload])
@pytest.mark.usefixtures("shop")
def test_a_relationship_to_a_deleted_row_is_none(session, load):
    statement = select(Product).options(*([load(Product.category)] if load else [])).order_by(Product.id)
    products = session.scalars(statement).all()
    assert [product.category and product.category.name for product in products] == ["live", None]


@pytest.mark.parametrize("load", [None, selectinload, joinedload, subqueryload])
@pytest.mark.usefixtures("shop")
def test_a_many_to_many_relationship_holds_live_rows_only(session, load):
    statement = select(Product).options(*([load(Product.tags)] if load else [])).order_by(Product.id)
    products = session.scalars(statement).unique().all()
    assert [[tag.name for tag in product.tags] for product in products] == [["live"], ["live"]]


@pytest.mark.parametrize("load", [None, selectinload, joinedload, subqueryload])
@pytest.mark.usefixtures("shop")
def test_the_other_side_of_a_many_to_many_relationship_holds_live_rows_only(session, load):
    statement = select(Tag).options(*([load(Tag.products)] if load else []))
    tag = session.scalars(statement).unique().one()
    assert [product.name for product in tag.products] == ["live in live", "live in gone"]


@pytest.mark.usefixtures("shop")
def test_relationships_at_the_end_of_a_chain_hold_live_rows_only(session):
    chain = selectinload(Category.products).joinedload(Product.tags)
    category = session.scalars(select(Category).options(chain)).one()
    assert [[tag.name for tag in product.tags] for product in category.products] == [["live"]]


@pytest.mark.usefixtures("shop")
def test_a_join_that_fills_a_relationship_holds_live_rows_only(session):
    statement = select(Category).join(Category.products).options(contains_eager(Category.products))
    category = session.scalars(statement).unique().one()
    assert [product.name for product in category.products] == ["live in live"]


def test_a_relationship_to_a_row_that_this_session_deleted_is_none(session):
    item = OrderItemFactory(order=OrderFactory())
    item.product.soft_delete()
    session.commit()
    session.expire(item)
    assert item.product is None


@pytest.mark.parametrize("load", [selectinload, joinedload, subqueryload])
@pytest.mark.usefixtures("shop")
def test_who_asks_for_deleted_rows_gets_them_in_loaded_relationships_too(session, load):
    statement = select(Category).options(load(Category.products)).order_by(Category.id)
    categories = session.scalars(statement, execution_options=SHOWN).unique().all()
    assert [len(category.products) for category in categories] == [2, 2]


@pytest.mark.usefixtures("shop")
def test_a_refreshed_collection_loses_what_was_deleted_meanwhile(session):
    category = session.scalars(select(Category).options(selectinload(Category.products))).one()
    category.products[0].soft_delete()
    session.commit()
    assert len(category.products) == 1
    session.expire(category, ["products"])
    assert category.products == []


# -- conditions on relationships


@pytest.mark.usefixtures("shop")
def test_has_looks_at_live_rows_only(session):
    statement = select(Product.name).where(Product.category.has())
    assert session.scalars(statement).all() == ["live in live"]
    assert session.scalars(select(Product.name).where(Product.category.has(Category.name == "gone"))).all() == []


@pytest.mark.usefixtures("shop")
def test_any_looks_at_live_rows_only(session):
    assert session.scalars(select(Category.name).where(Category.products.any(Product.name.like("gone%")))).all() == []
    assert session.scalars(select(Category.name).where(Category.products.any())).all() == ["live"]


@pytest.mark.usefixtures("shop")
def test_any_through_an_association_looks_at_live_rows_only(session):
    assert session.scalars(select(Product.name).where(Product.tags.any(Tag.name == "gone"))).all() == []
    assert len(session.scalars(select(Product.name).where(Product.tags.any(Tag.name == "live"))).all()) == 2


def test_not_has_finds_what_refers_to_a_deleted_row(session):
    item = OrderItemFactory(order=OrderFactory())
    assert session.scalars(select(OrderItem.id).where(~OrderItem.product.has())).all() == []
    item.product.soft_delete()
    session.commit()
    assert session.scalars(select(OrderItem.id).where(~OrderItem.product.has())).all() == [item.id]


@pytest.mark.usefixtures("shop")
def test_any_from_the_other_side_of_an_association_looks_at_live_rows_only(session):
    assert session.scalars(select(Tag.name).where(Tag.products.any(Product.name.like("gone%")))).all() == []
    assert session.scalars(select(Tag.name).where(Tag.products.any(Product.name == "live in live"))).all() == ["live"]
    assert session.scalars(select(Tag.name).where(~Tag.products.any(Product.name.like("gone%")))).all() == ["live"]


@pytest.mark.usefixtures("shop")
def test_any_within_has_looks_at_live_rows_only(session):
    tagged = Product.category.has(Category.products.any(Product.tags.any(Tag.name == "gone")))
    assert session.scalars(select(Product.name).where(tagged)).all() == []
    tagged = Product.category.has(Category.products.any(Product.tags.any(Tag.name == "live")))
    assert session.scalars(select(Product.name).where(tagged)).all() == ["live in live"]


# -- reading again


@pytest.mark.parametrize("load", [joinedload, selectinload, subqueryload, immediateload])
@pytest.mark.parametrize(
    "again",
    [
        pytest.param(lambda s, row, _: s.refresh(row), id="refresh"),
        pytest.param(lambda s, row, _: s.refresh(row, ["products"]), id="refresh of the collection"),
        pytest.param(lambda s, row, _: s.refresh(row, with_for_update={"of": Category}), id="refresh that locks"),
        pytest.param(lambda s, row, _: s.expire(row), id="expire"),
        pytest.param(lambda s, _, __: s.expire_all(), id="expire all"),
        pytest.param(
            lambda s, _, q: s.scalars(q, execution_options={"populate_existing": True}).unique().all(), id="a query"
        ),
        pytest.param(
            lambda s, row, _: s.get(
                Category, row.id, populate_existing=True, options=[selectinload(Category.products)]
            ),
            id="get",
        ),
    ],
)
@pytest.mark.usefixtures("shop")
def test_what_is_read_again_holds_live_rows_only(session, load, again):
    statement = select(Category).options(load(Category.products).options(load(Product.tags)))
    category = session.scalars(statement).unique().one()
    again(session(), category, statement)
    assert [product.name for product in category.products] == ["live in live"]
    assert [tag.name for tag in category.products[0].tags] == ["live"]


class _Apart(DeclarativeBase):
    """Models whose tables the other tests know nothing of."""


class Child(IntIDModel, SoftDeleteMixin, _Apart):
    __tablename__ = "joined_children"
    parent_id: Mapped[int] = mapped_column(ForeignKey("joined_parents.id"))


class Parent(IntIDModel, SoftDeleteMixin, _Apart):
    __tablename__ = "joined_parents"
    children: Mapped[list[Child]] = relationship(Child, lazy="joined", order_by=Child.id)


@pytest.mark.parametrize("again", [Session.refresh, Session.expire])
def test_a_refresh_of_a_row_that_was_made_here_joins_live_rows_only(database, again):
    del database
    _Apart.metadata.create_all(db.owner_engine)
    try:
        with Session(db.engine) as session, Session(db.engine) as other:
            parent = Parent(children=[Child(), Child()])
            session.add(parent)
            session.commit()
            other.get(Child, 2).soft_delete()
            other.get(Parent, 1).soft_delete()
            other.commit()
            again(session, parent)
            assert parent.is_deleted
            assert [child.id for child in parent.children] == [1]
    finally:
        _Apart.metadata.drop_all(db.owner_engine)


# -- bulk statements


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda s: s.execute(update(Tag).values(name="renamed")), id="update()"),
        pytest.param(lambda _: Tag.query.update({"name": "renamed"}), id="Model.query.update"),
        pytest.param(lambda _: Tag.query.filter(Tag.id > 0).update({"name": "renamed"}), id="filtered"),
    ],
)
@pytest.mark.usefixtures("tags")
def test_a_bulk_update_leaves_deleted_rows_alone(session, run):
    run(session)
    session.commit()
    assert session.scalars(select(Tag.name).order_by(Tag.id), execution_options=SHOWN).all() == ["renamed", "gone"]


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda s: s.execute(delete(Tag)), id="delete()"),
        pytest.param(lambda _: Tag.query.delete(), id="Model.query.delete"),
        pytest.param(lambda _: Tag.query.filter(Tag.id > 0).delete(), id="filtered"),
    ],
)
@pytest.mark.usefixtures("tags")
def test_a_bulk_delete_leaves_deleted_rows_alone(session, run):
    run(session)
    session.commit()
    assert session.scalars(select(Tag.name), execution_options=SHOWN).all() == ["gone"]


@pytest.mark.usefixtures("tags")
def test_a_bulk_update_reaches_deleted_rows_when_asked(session):
    session.execute(update(Tag).where(Tag.name == "gone").values(deleted_at=None), execution_options=SHOWN)
    session.commit()
    assert Tag.query.count() == 2


@pytest.mark.usefixtures("tags")
def test_a_bulk_update_by_key_finds_its_rows(session):
    tag = session.scalars(select(Tag)).one()
    session.execute(update(Tag), [{"id": tag.id, "version": tag.version, "name": "renamed"}])
    session.commit()
    assert session.scalars(select(Tag.name)).all() == ["renamed"]


def test_bulk_inserts_are_not_touched(session):
    assert session.scalars(insert(Tag).returning(Tag.name), [{"name": "a"}, {"name": "b"}]).all() == ["a", "b"]


# -- the mark itself


def test_is_deleted_says_so_in_python():
    tag = Tag(name="a")
    assert not tag.is_deleted
    tag.soft_delete()
    assert tag.is_deleted
    tag.restore()
    assert not tag.is_deleted


@pytest.mark.usefixtures("tags")
def test_is_deleted_says_so_in_sql(session):
    assert session.scalars(select(Tag.name).where(Tag.is_deleted), execution_options=SHOWN).all() == ["gone"]
    assert session.scalars(select(Tag.name).where(~Tag.is_deleted), execution_options=SHOWN).all() == ["live"]
    alias = aliased(Tag)
    assert session.scalars(select(alias.name).where(alias.is_deleted), execution_options=SHOWN).all() == ["gone"]


def test_deleting_twice_keeps_the_first_time(session):
    tag = TagFactory()
    tag.soft_delete()
    first = tag.deleted_at
    session.commit()
    tag.soft_delete()
    assert tag.deleted_at == first
    assert not session.is_modified(tag)


def test_soft_delete_does_not_commit(session):
    tag = TagFactory()
    tag.soft_delete()
    session.rollback()
    session.refresh(tag)
    assert not tag.is_deleted


# -- uniqueness among live rows

UNIQUE = [
    (TagFactory, {"name": "same"}),
    (RoleFactory, {"name": "same"}),
    (CategoryFactory, {"name": "same"}),
    (ProductFactory, {"sku": "same"}),
    (UserFactory, {"username": "same"}),
    (UserFactory, {"email": "same@example.com"}),
]


@pytest.mark.parametrize(("factory", "values"), UNIQUE)
def test_a_unique_value_is_free_again_once_its_row_is_deleted(session, factory, values):
    for _ in range(3):
        factory(**values).soft_delete()
        session.commit()
    assert factory(**values).version == 1


@pytest.mark.parametrize(("factory", "values"), UNIQUE)
def test_a_restore_is_a_conflict_when_the_value_has_been_taken_meanwhile(session, factory, values):
    first = factory(**values)
    first.soft_delete()
    session.commit()
    factory(**values)
    with pytest.raises(ConflictError) as caught, db.transaction():
        first.restore()
    assert [violation.pointer for violation in caught.value.violations] == [f"/{next(iter(values))}"]


def test_a_hard_delete_removes_the_row_and_what_hangs_on_it(session):
    user = UserFactory(roles=[RoleFactory()])
    session.delete(user)
    session.commit()
    assert session.scalar(text("SELECT count(*) FROM users")) == 0
    assert session.scalar(text("SELECT count(*) FROM user_roles")) == 0
    assert session.get(User, user.id) is None
