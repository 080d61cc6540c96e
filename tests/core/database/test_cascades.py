"""A deletion takes the rows below along as one batch, and a restore brings exactly these back."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from sqlalchemy import ForeignKey, String, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, configure_mappers, mapped_column, relationship

from api.core.database.mixins import INCLUDE_DELETED, SoftDeleteMixin, Undeletable, VersionMixin
from api.core.database.model import IntIDModel
from api.core.database.session import transaction
from api.core.database.soft_delete import Marked, mark
from api.core.errors import APIError, ConflictError, InvalidError, NotFoundError, UnavailableError
from api.core.resource.repository import Repository
from api.core.resource.service import Service
from api.extensions import db
from api.resources.categories.models import Category
from api.resources.orders.models import Order
from api.resources.orders.service import OrderService
from api.resources.products.models import Product
from api.resources.tags.models import Tag
from api.resources.users.models import User
from tests.factories import CategoryFactory, OrderFactory, ProductFactory, TagFactory, UserFactory

SHOWN = {INCLUDE_DELETED: True}


@pytest.fixture
def category(database):
    """A category with three live products and one that was deleted before."""
    del database
    category = CategoryFactory(name="kitchen")
    for name in ("a", "b", "c", "gone before"):
        ProductFactory(name=name, sku=name, category=category)
    db.session.scalars(select(Product).where(Product.name == "gone before")).one().soft_delete()
    db.session.commit()
    return category


def stored(column):
    """What `column` holds in all rows, by key, as another connection sees it."""
    with db.engine.connect() as connection:
        return connection.scalars(select(column).order_by(column.table.c.id)).all()


def live_products():
    table = Product.__table__
    with db.engine.connect() as connection:
        return connection.scalars(select(table.c.name).where(table.c.deleted_at.is_(None)).order_by(table.c.id)).all()


def pointers(error):
    return [violation.pointer for violation in error.violations]


# -- deleting


def test_children_are_deleted_with_their_parent_at_the_same_time_in_the_same_batch(session, category):
    category.soft_delete()
    session.commit()
    assert live_products() == []
    times, batches = stored(Product.__table__.c.deleted_at), stored(Product.__table__.c.deletion_id)
    assert {*times[:3]} == {category.deleted_at}
    assert {*batches[:3]} == {category.deletion_id}
    assert category.deletion_id is not None


def test_what_was_deleted_before_keeps_its_time_and_its_batch(session, category):
    before = stored(Product.__table__.c.deleted_at)[3], stored(Product.__table__.c.deletion_id)[3]
    category.soft_delete()
    session.commit()
    assert (stored(Product.__table__.c.deleted_at)[3], stored(Product.__table__.c.deletion_id)[3]) == before


def test_children_of_others_stay(session, category):
    ProductFactory(name="elsewhere")
    category.soft_delete()
    session.commit()
    assert live_products() == ["elsewhere"]


@pytest.mark.parametrize("number", [1, 50])
def test_the_number_of_statements_does_not_grow_with_the_children(session, statements, number):
    category = CategoryFactory()
    session.add_all([Product(sku=f"{n}", name="x", price=1, category_id=category.id) for n in range(number)])
    session.commit()
    session.expunge_all()
    category = session.get(Category, category.id)
    with statements() as counted:
        category.soft_delete()
        session.commit()
    assert counted.count == 3
    assert live_products() == []


def test_several_rows_of_one_flush_are_several_batches_in_as_many_statements_as_one(session, statements):
    categories = CategoryFactory.create_batch(3)
    for category in categories:
        ProductFactory(category=category)
    session.expunge_all()
    categories = session.scalars(select(Category)).all()
    with statements() as counted:
        for category in categories:
            category.soft_delete()
        session.flush()
    assert counted.count == 5  # an UPDATE for each row, which has a version to check
    session.commit()
    assert stored(Product.__table__.c.deletion_id) == stored(Category.__table__.c.deletion_id)
    assert len({*stored(Category.__table__.c.deletion_id)}) == 3


def test_a_row_without_cascades_is_deleted_in_one_statement(session, statements):
    tag = TagFactory()
    with statements() as counted:
        tag.soft_delete()
        session.flush()
    assert counted.count == 1


def test_versions_and_times_of_children_move(session, category):
    before = stored(Product.__table__.c.updated_at)
    category.soft_delete()
    session.commit()
    assert stored(Product.__table__.c.version) == [2, 2, 2, 2]
    assert stored(Product.__table__.c.updated_at)[0] > before[0]


def test_loaded_children_know_that_they_were_deleted_and_restored(session, category):
    product = session.scalars(select(Product).where(Product.name == "a")).one()
    category.soft_delete()
    session.flush()
    assert (product.is_deleted, product.deletion_id, product.version) == (True, category.deletion_id, 2)
    category.restore()
    session.flush()
    assert (product.is_deleted, product.deletion_id, product.version) == (False, None, 3)


def test_a_loaded_child_can_be_changed_after_its_parent_was_deleted_and_restored(session, category):
    product = session.scalars(select(Product).where(Product.name == "a")).one()
    category.soft_delete()
    session.flush()
    category.restore()
    session.flush()
    product.name = "renamed"
    session.commit()
    assert live_products() == ["renamed", "b", "c"]


def test_a_change_of_a_child_in_the_same_flush_is_saved(session, category):
    session.scalars(select(Product).where(Product.name == "a")).one().name = "renamed"
    category.soft_delete()
    session.commit()
    assert stored(Product.__table__.c.name)[0] == "renamed"
    assert live_products() == []


def test_a_child_that_is_added_in_the_same_flush_is_deleted_with_the_others(session, category):
    session.add(Product(sku="new", name="new", price=1, category_id=category.id))
    category.soft_delete()
    session.commit()
    assert live_products() == []


def test_a_deletion_that_is_rolled_back_leaves_everything_live(session, category):
    category.soft_delete()
    session.flush()
    session.rollback()
    assert not category.is_deleted
    assert live_products() == ["a", "b", "c"]


def test_a_script_deletes_with_a_plain_session(category):
    with Session(db.engine) as session, transaction(session):
        session.get(Category, category.id).soft_delete()
    assert live_products() == []


def test_a_hard_delete_of_what_has_children_is_a_conflict(session, category):
    with pytest.raises(ConflictError), transaction(session()):
        Repository(Category, session()).delete(category, hard=True)
    assert live_products() == ["a", "b", "c"]


def test_a_hard_delete_removes_what_has_no_children(session):
    Repository(Category, session()).delete(CategoryFactory(), hard=True)
    session.commit()
    assert stored(Category.__table__.c.id) == []


# -- many at once


def test_marking_by_condition_tells_how_many_rows_went_and_what_went_along(session, category, statements):
    other = ProductFactory(name="elsewhere").category
    CategoryFactory(name="other")
    with statements() as counted:
        assert mark(session(), Category, Category.id.in_([category.id, other.id])) == Marked(2, {Product: 4})
    assert counted.count <= 6
    session.commit()
    assert live_products() == []
    assert len({*stored(Category.__table__.c.deletion_id)}) == 2


def test_marking_looks_at_live_rows_only_in_its_conditions_too(session, category):
    assert mark(session(), Category, Category.products.any(Product.name == "gone before")).rows == 0
    assert mark(session(), Product, Product.name == "gone before") == Marked(0, {})
    session.commit()
    assert live_products() == ["a", "b", "c"]
    del category


def test_marked_rows_that_are_loaded_know_it(session, category):
    mark(session(), Category, Category.name == "kitchen")
    assert category.is_deleted


def test_changes_that_are_not_saved_yet_count_when_rows_are_marked(session, category):
    category.name = "renamed"
    assert mark(session(), Category, Category.name == "renamed").rows == 1


def test_restoring_one_of_many_marked_rows_brings_back_it_and_what_went_with_it(session, category):
    other = ProductFactory(name="elsewhere").category
    mark(session(), Category)
    other.restore()
    session.commit()
    assert live_products() == ["elsewhere"]
    assert category.is_deleted


def test_a_repository_deletes_by_condition_with_all_that_is_below(session, category):
    assert Repository(Category, session()).delete_where(Category.id == category.id) == 1
    session.commit()
    assert live_products() == []


# -- restoring


def test_a_restore_brings_back_exactly_what_the_deletion_took_along(session, category):
    category.soft_delete()
    session.commit()
    category.restore()
    session.commit()
    assert live_products() == ["a", "b", "c"]
    assert category.deletion_id is None
    assert stored(Product.__table__.c.deletion_id)[:3] == [None] * 3
    assert stored(Product.__table__.c.deletion_id)[3] is not None


def test_a_second_deletion_is_a_batch_of_its_own(session, category):
    category.soft_delete()
    session.commit()
    first = category.deletion_id
    category.restore()
    session.commit()
    session.scalars(select(Product).where(Product.name == "a")).one().soft_delete()
    session.commit()
    category.soft_delete()
    session.commit()
    assert category.deletion_id != first
    category.restore()
    session.commit()
    assert live_products() == ["b", "c"]


def test_a_restore_takes_a_few_statements(session, category, statements):
    category.soft_delete()
    session.commit()
    session.expunge_all()
    category = session.get(Category, category.id, execution_options=SHOWN)
    with statements() as counted:
        category.restore()
        session.flush()
    assert counted.count == 2


def test_a_row_that_was_deleted_before_batches_were_known_is_restored_alone(session, category):
    with db.engine.begin() as connection:
        connection.execute(text("UPDATE categories SET deleted_at = now()"))
    session.expire_all()
    category.restore()
    session.commit()
    assert live_products() == ["a", "b", "c"]


@pytest.mark.usefixtures("category")
def test_a_child_is_restored_alone_when_its_parent_is_live(session):
    product = session.scalars(select(Product).where(Product.name == "gone before"), execution_options=SHOWN).one()
    product.restore()
    session.commit()
    assert live_products() == ["a", "b", "c", "gone before"]


@pytest.mark.parametrize("name", ["a", "gone before"])
def test_a_child_cannot_be_restored_while_its_parent_is_deleted(session, category, name):
    product = session.scalars(select(Product).where(Product.name == name), execution_options=SHOWN).one()
    category.soft_delete()
    session.commit()
    with pytest.raises(ConflictError) as caught, transaction(session()):
        product.restore()
    assert pointers(caught.value) == ["/category_id"]
    assert caught.value.detail == f"The category {category.id} is deleted; restore it first."
    assert live_products() == []


def test_a_child_is_restored_together_with_its_parent_in_one_flush(session, category):
    product = session.scalars(select(Product).where(Product.name == "gone before"), execution_options=SHOWN).one()
    category.soft_delete()
    session.commit()
    category.restore()
    product.restore()
    session.commit()
    assert live_products() == ["a", "b", "c", "gone before"]


def test_a_restore_onto_a_name_that_was_taken_is_a_conflict_that_names_the_field(session, category):
    category.soft_delete()
    session.commit()
    CategoryFactory(name="KITCHEN")
    with pytest.raises(ConflictError) as caught, transaction(session()):
        category.restore()
    assert pointers(caught.value) == ["/name"]


def test_a_clash_at_a_child_names_the_field_of_the_child_and_restores_nothing(session, category):
    category.soft_delete()
    session.commit()
    ProductFactory(sku="B", name="usurper")
    with pytest.raises(ConflictError) as caught, transaction(session()):
        category.restore()
    assert pointers(caught.value) == ["/products/sku"]
    assert caught.value.detail == "The sku of one of its products is already taken."
    assert live_products() == ["usurper"]
    assert stored(Category.__table__.c.deleted_at)[0] is not None


def test_delete_recreate_and_restore_never_leave_two_live_rows(session, category):
    for _ in range(2):
        session.scalars(select(Product).where(Product.sku == "a")).one().soft_delete()
        session.commit()
        ProductFactory(sku="a", name="a", category=category)
    rows = session.scalars(select(Product).where(Product.sku == "a", Product.is_deleted), execution_options=SHOWN).all()
    for row in rows:
        with pytest.raises(ConflictError), transaction(session()):
            row.restore()
    assert live_products().count("a") == 1


# -- what must not be deleted


@pytest.mark.parametrize(
    "delete",
    [
        pytest.param(lambda s, order: order.soft_delete() or s.flush(), id="a script"),
        pytest.param(lambda s, order: Repository(Order, s).delete(order), id="a repository"),
        pytest.param(lambda s, order: OrderService(Order, s).delete(order), id="a service"),
        pytest.param(lambda s, order: mark(s, Order, Order.id == order.id), id="by condition"),
        pytest.param(lambda s, order: Repository(User, s).delete(order.user), id="with its user"),
        pytest.param(lambda s, order: mark(s, User, User.id == order.user_id), id="with its user, by condition"),
    ],
)
def test_an_open_order_cannot_be_deleted(session, delete):
    order = OrderFactory(status="processing")
    with pytest.raises(ConflictError) as caught, transaction(session()):
        delete(session(), order)
    assert caught.value.detail == f"Order {order.id} is processing and holds stock; cancel it first."
    assert stored(Order.__table__.c.deleted_at) == [None]
    assert stored(User.__table__.c.deleted_at) == [None]


def test_several_rows_that_must_not_be_deleted_are_listed_up_to_a_few(session):
    user = UserFactory()
    OrderFactory.create_batch(7, user=user)
    with pytest.raises(ConflictError) as caught, transaction(session()):
        user.soft_delete()
    assert caught.value.detail == "Several rows keep this from being deleted."
    assert len(caught.value.violations) == 5


def test_a_state_that_is_changed_in_the_same_flush_counts(session):
    order = OrderFactory(status="processing")
    order.status = "cancelled"
    order.soft_delete()
    session.commit()
    assert stored(Order.__table__.c.deleted_at) != [None]


def test_a_refusal_that_the_caller_survives_has_changed_nothing(session):
    order = OrderFactory(status="pending")
    with pytest.raises(ConflictError):
        mark(session(), User, User.id == order.user_id)
    session.commit()
    assert stored(User.__table__.c.deleted_at) == [None]


# -- at the same time


def outcome(work, engine=None):
    """What `work` did in a session and transaction of its own: "done", or the name of what was raised."""
    with Session(engine or db.engine) as session:
        try:
            with transaction(session):
                work(session)
        except APIError as error:
            return type(error).__name__
    return "done"


def race(*works, rounds=15):
    """Run the works at the same time, again and again; what came out, round by round."""
    engine = db.engine
    with ThreadPoolExecutor(len(works)) as pool:
        for _ in range(rounds):
            barrier = threading.Barrier(len(works))

            def run(work, barrier=barrier):
                def begin(session):
                    barrier.wait(10)
                    work(session)

                return outcome(begin, engine)

            yield [future.result() for future in [pool.submit(run, work) for work in works]]


def orphans():
    statement = """
        SELECT count(*) FROM products p JOIN categories c ON c.id = p.category_id
        WHERE p.deleted_at IS NULL AND c.deleted_at IS NOT NULL"""
    with db.engine.connect() as connection:
        return connection.scalar(text(statement))


def _revive():
    with db.engine.begin() as connection:
        connection.execute(text("UPDATE products SET deleted_at = NULL, deletion_id = NULL"))
        connection.execute(text("UPDATE categories SET deleted_at = NULL, deletion_id = NULL"))


def _delete_category(key):
    return lambda session: session.get(Category, key).soft_delete()


def test_no_live_product_is_left_when_one_is_created_while_its_category_is_deleted(category):
    numbers = iter(range(10_000))

    def create(session):
        values = {"sku": f"new {next(numbers)}", "name": "new", "price": 1, "category_id": category.id}
        Service(Product, session).create(values)

    for created, deleted in race(create, _delete_category(category.id)):
        assert (created, deleted) in {("done", "done"), (InvalidError.__name__, "done")}
        assert orphans() == 0
        _revive()


def test_no_live_product_is_left_when_one_is_moved_into_a_category_while_it_is_deleted(category):
    product = ProductFactory()
    key, home = product.id, product.category_id

    def move(session):
        service = Service(Product, session)
        service.lock_references({"category_id": category.id})
        service.update(service.locked(key), {"category_id": category.id})

    for moved, deleted in race(move, _delete_category(category.id)):
        assert (moved, deleted) in {("done", "done"), (InvalidError.__name__, "done")}
        assert orphans() == 0
        _revive()
        with db.engine.begin() as connection:
            connection.execute(text("UPDATE products SET category_id = :home WHERE id = :key"), locals())


def test_a_product_that_is_put_where_it_is_does_not_wait_for_ever_for_the_deletion_of_its_category(session, category):
    product = session.scalars(select(Product.id).where(Product.name == "a")).one()

    def put(session):
        service = Service(Product, session)
        service.lock_references({"category_id": category.id})
        service.update(service.locked(product), {"category_id": category.id, "name": "renamed"})

    for kept, deleted in race(put, _delete_category(category.id)):
        assert deleted == "done"
        assert kept in {"done", NotFoundError.__name__}
        assert live_products() == []
        _revive()


def test_a_product_and_its_category_are_restored_at_the_same_time_without_a_deadlock(session, category):
    category.soft_delete()
    session.commit()
    product = session.scalars(select(Product.id).where(Product.name == "a"), execution_options=SHOWN).one()

    def restore(model, key):
        def work(session):
            service = Service(model, session)
            service.restore(service.locked(key, include_deleted=True))

        return work

    for alone, whole in race(restore(Product, product), restore(Category, category.id)):
        assert whole == "done"
        assert alone in {"done", ConflictError.__name__}
        assert live_products() == ["a", "b", "c"]
        outcome(_delete_category(category.id))


def test_a_category_and_one_of_its_products_are_deleted_at_the_same_time(session, category):
    product = session.scalars(select(Product.id).where(Product.name == "a")).one()

    def delete(session):
        service = Service(Product, session)
        with suppress(APIError):
            service.delete(service.locked(product))

    for results in race(_delete_category(category.id), delete):
        assert results == ["done", "done"]
        assert live_products() == []
        _revive()


def test_no_order_that_is_open_is_deleted_with_its_user_whatever_comes_first(session):
    user, product = UserFactory(), ProductFactory(stock_quantity=1000)
    items = [{"product_id": product.id, "quantity": 1}]

    def order(session):
        OrderService(Order, session).create({"user_id": user.id, "items": items})

    for ordered, deleted in race(order, lambda session: session.get(User, user.id).soft_delete()):
        assert (ordered, deleted) in {("done", ConflictError.__name__), (InvalidError.__name__, "done")}
        session.execute(text("DELETE FROM orders"))
        session.execute(text("UPDATE users SET deleted_at = NULL, deletion_id = NULL"))
        session.commit()


def test_two_deletions_of_the_same_rows_do_not_wait_for_each_other_for_ever(database):
    del database
    for number in range(20):
        ProductFactory(category=CategoryFactory(name=f"{number % 2} {number}"))

    def delete(*conditions):
        return lambda session: mark(session, Category, *conditions)

    upwards, downwards = Category.name.like("%"), Category.name.like("1%")
    for results in race(delete(upwards), delete(downwards)):
        assert results == ["done", "done"]
        assert orphans() == 0
        assert UnavailableError.__name__ not in results
        _revive()


# -- trees


class _Apart(DeclarativeBase):
    """Models whose tables the other tests know nothing of."""


class Node(IntIDModel, SoftDeleteMixin, VersionMixin, _Apart):
    __tablename__ = "cascade_nodes"
    __cascades__ = ("children",)
    __undeletable__ = Undeletable(when=lambda node: node.name == "root of evil", reason="is {name}")

    name: Mapped[str] = mapped_column(String(50))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("cascade_nodes.id"))
    children: Mapped[list[Node]] = relationship(order_by="Node.id")


@pytest.fixture
def tree(database):
    """A session with a root, two branches, a leaf on each; the second branch was deleted before."""
    del database
    _Apart.metadata.create_all(db.owner_engine)
    with Session(db.engine) as session:
        root = Node(name="root", children=[Node(name=n, children=[Node(name=f"{n} leaf")]) for n in ("one", "two")])
        session.add(root)
        session.commit()
        root.children[1].soft_delete()
        session.commit()
        yield session
    _Apart.metadata.drop_all(db.owner_engine)


def _nodes(session):
    return session.scalars(select(Node.name).order_by(Node.id)).all()


def test_a_tree_is_deleted_down_to_its_leaves_and_restored_as_it_was(tree):
    root = tree.scalars(select(Node).where(Node.name == "root")).one()
    assert _nodes(tree) == ["root", "one", "one leaf"]
    root.soft_delete()
    tree.commit()
    assert _nodes(tree) == []
    root.restore()
    tree.commit()
    assert _nodes(tree) == ["root", "one", "one leaf"]


def test_a_branch_comes_back_with_its_own_leaves(tree):
    tree.scalars(select(Node).where(Node.name == "two"), execution_options=SHOWN).one().restore()
    tree.commit()
    assert sorted(_nodes(tree)) == ["one", "one leaf", "root", "two", "two leaf"]


def test_a_row_deep_below_keeps_all_above_it(tree):
    tree.scalars(select(Node).where(Node.name == "one leaf")).one().name = "root of evil"
    tree.commit()
    with pytest.raises(ConflictError, match="Node 4 is root of evil"), transaction(tree):
        mark(tree, Node, Node.name == "root")
    assert len(_nodes(tree)) == 3


# -- declarations


def _declared(cascade, *, live=True):
    class Other(DeclarativeBase):
        pass

    class Child(IntIDModel, *([SoftDeleteMixin] if live else []), Other):
        __tablename__ = "child"
        parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"))
        parent: Mapped[Parent] = relationship("Parent", back_populates="children")

    class Parent(IntIDModel, SoftDeleteMixin, Other):
        __tablename__ = "parent"
        __cascades__ = (cascade,)
        children: Mapped[list[Child]] = relationship("Child", back_populates="parent")

    Other.registry.configure()


@pytest.mark.parametrize(
    ("cascade", "live", "message"),
    [
        ("childs", True, "Parent.__cascades__: 'childs' is no relationship to rows that refer to it"),
        ("id", True, "Parent.__cascades__: 'id' is no relationship to rows that refer to it"),
        ("children", False, "Parent.__cascades__: the rows of 'children' have no SoftDeleteMixin"),
    ],
)
def test_a_declaration_that_cannot_work_stops_the_start(cascade, live, message):
    with pytest.raises(TypeError, match=message):
        _declared(cascade, live=live)


def test_a_declaration_that_works_is_accepted():
    _declared("children")
    configure_mappers()


def test_deletion_ids_are_no_business_of_a_client(client):
    TagFactory()
    assert "deletion_id" not in client.get("/api/v1/tags").json["items"][0]
    assert client.get("/api/v1/tags?fields=deletion_id").status_code == 400
    assert "deletion_id" not in client.get("/openapi.json").text
    assert Tag.__table__.c.deletion_id is not None
