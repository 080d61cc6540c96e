"""The purge of soft-deleted rows: what is deleted for long goes for good, unless something that stays needs it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import ForeignKey, func, select, text
from sqlalchemy import table as sql_table
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from api.core.database.mixins import SoftDeleteMixin
from api.core.database.model import IntIDModel
from api.core.database.purge_deleted import purge_deleted, soft_deleting_tables
from api.core.database.retention import Purged
from api.extensions import db
from tests.factories import (
    CategoryFactory,
    OrderFactory,
    OrderItemFactory,
    ProductFactory,
    ProfileFactory,
    RoleFactory,
    TagFactory,
    UserFactory,
)

pytestmark = pytest.mark.usefixtures("database")

LONG_AGO = datetime.now(UTC) - timedelta(days=100)
QUARTER = timedelta(days=90)


def purge(*names, dry_run=False, size=1000):
    """What is purged of the tables with these `names`, or of all, by name; nothing where there is nothing to tell."""
    tables = [table for table in soft_deleting_tables() if table.name in names or not names]
    totals = {}
    for table, purged in purge_deleted(db.session(), tables, QUARTER, dry_run=dry_run, size=size):
        totals[table.name] = totals.get(table.name, Purged()) + purged
    return {name: total for name, total in totals.items() if total != Purged()}


def left(table):
    with db.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(sql_table(table)))


def test_rows_that_refer_come_before_those_that_are_referred_to():
    names = [table.name for table in soft_deleting_tables()]
    assert names.index("products") < names.index("categories")
    assert names.index("orders") < names.index("users")


def test_a_row_that_was_deleted_for_longer_is_removed():
    TagFactory(deleted_at=LONG_AGO)
    assert purge() == {"tags": Purged(1)}
    assert left("tags") == 0


def test_live_rows_and_those_that_were_deleted_lately_stay():
    TagFactory()
    TagFactory(deleted_at=datetime.now(UTC) - timedelta(days=89))
    assert purge() == {}
    assert left("tags") == 2


def test_rows_are_removed_in_batches_each_in_a_transaction_of_its_own(session):
    TagFactory.create_batch(5, deleted_at=LONG_AGO)
    batches = purge_deleted(session(), soft_deleting_tables(), QUARTER, dry_run=False, size=2)
    next(batches)
    session.rollback()
    assert left("tags") == 3
    assert [purged.removed for table, purged in batches if purged.removed] == [2, 1]


def test_only_the_named_tables_are_purged():
    TagFactory(deleted_at=LONG_AGO)
    RoleFactory(deleted_at=LONG_AGO)
    assert purge("tags") == {"tags": Purged(1)}
    assert left("roles") == 1


def test_children_are_removed_before_their_parent():
    category = CategoryFactory(deleted_at=LONG_AGO)
    ProductFactory.create_batch(2, category=category, deleted_at=LONG_AGO)
    assert purge() == {"products": Purged(2), "categories": Purged(1)}


def test_what_a_row_consists_of_goes_with_it():
    user = ProfileFactory().user
    user.roles = [RoleFactory()]
    user.deleted_at = LONG_AGO
    db.session.commit()
    assert purge() == {"users": Purged(1)}
    assert (left("profiles"), left("user_roles"), left("roles")) == (0, 0, 1)


def test_a_row_that_a_live_one_refers_to_is_kept_and_counted_with_the_reason():
    ProductFactory(category=CategoryFactory(deleted_at=LONG_AGO))
    assert purge() == {"categories": Purged(0, {"products": 1})}
    assert left("categories") == 1


def test_a_product_is_kept_for_the_order_that_it_is_a_part_of():
    OrderItemFactory(order=OrderFactory(), product=ProductFactory(deleted_at=LONG_AGO))
    assert purge() == {"products": Purged(0, {"order_items": 1})}


def test_a_product_goes_when_the_last_order_of_it_has_gone():
    order = OrderFactory(deleted_at=LONG_AGO, status="delivered")
    OrderItemFactory(order=order, product=ProductFactory(deleted_at=LONG_AGO))
    assert purge() == {"orders": Purged(1), "products": Purged(1)}


def test_what_stays_for_a_reason_keeps_what_it_refers_to():
    category = CategoryFactory(deleted_at=LONG_AGO)
    product = ProductFactory(category=category, deleted_at=LONG_AGO)
    OrderItemFactory(order=OrderFactory(), product=product)
    assert purge() == {
        "products": Purged(0, {"order_items": 1}),
        "categories": Purged(0, {"products": 1}),
    }


def _everything():
    category = CategoryFactory(deleted_at=LONG_AGO)
    sold = ProductFactory(category=category, deleted_at=LONG_AGO)
    ProductFactory(category=category, deleted_at=LONG_AGO)
    ProductFactory(category=CategoryFactory(deleted_at=LONG_AGO), deleted_at=LONG_AGO)
    OrderItemFactory(order=OrderFactory(), product=sold)
    gone = OrderFactory(deleted_at=LONG_AGO, status="delivered", user=UserFactory(deleted_at=LONG_AGO))
    OrderItemFactory(order=gone, product=ProductFactory(deleted_at=LONG_AGO))
    OrderItemFactory(order=OrderFactory(user=UserFactory(deleted_at=LONG_AGO)), product=ProductFactory())


@pytest.mark.parametrize("names", [(), ("categories", "users"), ("products",), ("orders", "users")])
def test_a_dry_run_foretells_what_the_purge_then_does(names):
    _everything()
    before = [left(table.name) for table in soft_deleting_tables()]
    foretold = purge(*names, dry_run=True)
    assert [left(table.name) for table in soft_deleting_tables()] == before
    assert purge(*names) == foretold
    assert purge(*names, dry_run=True) == purge(*names)


def test_a_row_that_is_in_use_at_the_moment_is_left_for_the_next_purge():
    tags = TagFactory.create_batch(2, deleted_at=LONG_AGO)
    with db.engine.connect() as other:
        other.execute(text("SELECT * FROM tags WHERE id = :id FOR UPDATE"), {"id": tags[0].id})
        assert purge() == {"tags": Purged(1)}
    assert purge() == {"tags": Purged(1)}


def test_the_service_may_go_on_beside_a_purge():
    """What is about to be referred to is not removed: the reference holds its key."""
    category = CategoryFactory(deleted_at=LONG_AGO)
    with db.engine.begin() as other:
        other.execute(
            text("INSERT INTO products (sku, name, price, category_id) VALUES ('a', 'a', 1, :id)"), {"id": category.id}
        )
        assert purge() == {}
    assert purge() == {"categories": Purged(0, {"products": 1})}


# -- trees


class _Apart(DeclarativeBase):
    """Models whose tables the other tests know nothing of."""


class Leaf(IntIDModel, SoftDeleteMixin, _Apart):
    __tablename__ = "purged_leaves"
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("purged_leaves.id"))


@pytest.fixture
def tree(database):
    """A deleted row that refers to a deleted row, four deep."""
    del database
    Leaf.metadata.create_all(db.owner_engine)
    with Session(db.engine) as session:
        for parent in (None, 1, 2, 3):
            session.add(Leaf(deleted_at=LONG_AGO, parent_id=parent))
            session.commit()
        yield session
    Leaf.metadata.drop_all(db.owner_engine)


@pytest.mark.parametrize("size", [1, 100])
def test_a_tree_is_removed_from_its_leaves_to_its_root(tree, size):
    for dry_run in (True, False):
        purged = purge_deleted(tree, [Leaf.__table__], QUARTER, dry_run=dry_run, size=size)
        assert sum(batch.removed for _, batch in purged) == 4
    assert left("purged_leaves") == 0
