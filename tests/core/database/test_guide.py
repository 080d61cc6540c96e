"""The query examples of the database guides, in Python on these models, each with what it has to find.

Two are written differently here: `metadata` is a name that SQLAlchemy reserves, so the attribute is `metadata_`; and
SQL as plain text has to be marked with `text()`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import and_, func, insert, or_, select, text
from sqlalchemy.exc import ArgumentError, IntegrityError
from sqlalchemy.orm import joinedload, selectinload, subqueryload
from werkzeug.exceptions import NotFound

from api.core.database.session import transaction
from api.core.errors import InvalidError
from api.core.resource.repository import Repository
from api.extensions import db
from api.resources.categories.models import Category
from api.resources.orders.models import Order, OrderItem
from api.resources.products.models import Product
from api.resources.roles.models import Role
from api.resources.tags.models import Tag
from api.resources.users.models import Profile, User
from tests.factories import CategoryFactory, OrderFactory, OrderItemFactory, ProductFactory, RoleFactory, UserFactory

pytestmark = [
    pytest.mark.usefixtures("database"),
    # The guides were written for SQLAlchemy 1: `Query.get()` still works, and says that it is old.
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.LegacyAPIWarning"),
]


@pytest.fixture
def users(session):
    """John, Jane and an inactive Jim; Jack is deleted."""
    made = {name: UserFactory(username=name, email=f"{name}@example.com") for name in ("john", "jane", "jim", "jack")}
    made["jim"].is_active = False
    made["jack"].soft_delete()
    session.commit()
    return made


@pytest.fixture
def shop(database):
    """Electronics with three products and books with one."""
    del database
    electronics, books = CategoryFactory(name="Electronics"), CategoryFactory(name="Books")
    for name, price in (("Laptop", "999.00"), ("Phone", "499.50"), ("Cable", "5.00")):
        ProductFactory(name=name, price=Decimal(price), category=electronics, description=f"A {name.lower()} computer")
    ProductFactory(name="Novel", price=Decimal("12.00"), category=books)


def names(rows):
    return sorted(getattr(row, "username", None) or row.name for row in rows)


# -- basic queries


@pytest.mark.usefixtures("users")
def test_get_all_records():
    assert names(User.query.all()) == ["jane", "jim", "john"]


@pytest.mark.usefixtures("users")
def test_get_the_first_record():
    assert User.query.order_by(User.id).first().username == "john"


def test_get_by_primary_key(users):
    assert User.query.get(users["john"].id).username == "john"
    assert User.query.get_or_404(users["john"].id).username == "john"
    assert User.query.get(0) is None
    with pytest.raises(NotFound):
        User.query.get_or_404(0)


@pytest.mark.usefixtures("users")
def test_count_records():
    assert User.query.count() == 3


@pytest.mark.usefixtures("users")
def test_filter_by_a_value():
    assert names(User.query.filter_by(is_active=True).all()) == ["jane", "john"]
    assert User.query.filter_by(username="john").first().email == "john@example.com"


@pytest.mark.usefixtures("users")
def test_filter_with_and_and_or():
    active = User.query.filter(and_(User.is_active == True, User.created_at > datetime(2025, 1, 1, tzinfo=UTC)))  # noqa: E712
    assert names(active.all()) == ["jane", "john"]
    either = User.query.filter(or_(User.username == "john", User.email == "jane@example.com"))
    assert names(either.all()) == ["jane", "john"]


# -- strings, lists, null


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        (User.username.like("john%"), ["john"]),
        (User.username.like("JOHN%"), []),
        (User.username.ilike("%J%N%"), ["jane", "john"]),
        (User.username.in_(["john", "jim", "jack"]), ["jim", "john"]),
        (~User.username.in_(["john", "jim"]), ["jane"]),
        (User.deleted_at.is_(None), ["jane", "jim", "john"]),
        (User.deleted_at.isnot(None), []),
    ],
)
@pytest.mark.usefixtures("users")
def test_conditions(condition, found):
    assert names(User.query.filter(condition).all()) == found


@pytest.mark.usefixtures("users")
def test_deleted_users_are_found_when_asked_for():
    deleted = User.query.execution_options(include_deleted=True).filter(User.deleted_at.isnot(None))
    assert names(deleted.all()) == ["jack"]


# -- order and pages


@pytest.mark.usefixtures("users")
def test_order_by():
    assert [user.username for user in User.query.order_by(User.username.asc())] == ["jane", "jim", "john"]
    assert [user.username for user in User.query.order_by(User.created_at.desc())] == ["jim", "jane", "john"]
    both = User.query.order_by(User.is_active.desc(), User.created_at.desc())
    assert [user.username for user in both] == ["jane", "john", "jim"]


@pytest.mark.usefixtures("users")
def test_limit_and_offset():
    ordered = User.query.order_by(User.username)
    assert names(ordered.limit(2).all()) == ["jane", "jim"]
    assert names(ordered.offset(2).limit(10).all()) == ["john"]


@pytest.mark.usefixtures("users")
def test_pagination():
    page = User.query.order_by(User.username).paginate(page=2, per_page=2, error_out=False)
    assert (names(page.items), page.total, page.pages, page.has_prev, page.has_next) == (["john"], 3, 2, True, False)
    assert User.query.paginate(page=9, per_page=2, error_out=False).items == []


# -- joins


@pytest.mark.usefixtures("shop")
def test_inner_join():
    found = Product.query.join(Category).filter(Category.name == "Electronics").all()
    assert names(found) == ["Cable", "Laptop", "Phone"]


@pytest.mark.usefixtures("shop")
def test_left_outer_join():
    assert len(Product.query.outerjoin(Category).all()) == 4


def test_multiple_joins(users):
    order = OrderFactory(user=users["john"], items=[OrderItemFactory.build(product=ProductFactory())])
    OrderFactory(user=users["jane"], items=[OrderItemFactory.build(product=ProductFactory())])
    found = Order.query.join(User).join(OrderItem).join(Product).filter(User.username == "john").all()
    assert found == [order]


@pytest.mark.parametrize("load", [db.joinedload, db.selectinload, joinedload, selectinload])
@pytest.mark.usefixtures("shop")
def test_eager_loading_of_a_single_row(statements, load):
    db.session.remove()
    with statements() as counted:
        products = Product.query.options(load(Product.category)).all()
        assert {product.category.name for product in products} == {"Electronics", "Books"}
    assert counted.count <= 2


@pytest.mark.usefixtures("shop")
def test_eager_loading_of_a_collection(statements):
    db.session.remove()
    with statements() as counted:
        categories = Category.query.options(db.subqueryload(Category.products)).order_by(Category.id).all()
        assert [len(category.products) for category in categories] == [3, 1]
    assert counted.count == 2
    assert db.subqueryload is subqueryload


# -- aggregates


@pytest.mark.usefixtures("users")
def test_count_with_a_function():
    assert db.session.query(func.count(User.id)).scalar() == 3


@pytest.mark.usefixtures("shop")
def test_sum_and_average():
    assert db.session.query(func.sum(Product.price)).scalar() == Decimal("1515.50")
    assert db.session.query(func.avg(Product.price)).scalar() == Decimal("378.875")


@pytest.mark.usefixtures("shop")
def test_group_by():
    counts = db.session.query(Category.name, func.count(Product.id)).join(Product).group_by(Category.name).all()
    assert sorted(counts) == [("Books", 1), ("Electronics", 3)]


@pytest.mark.usefixtures("shop")
def test_having():
    popular = (
        db.session.query(Category.name, func.count(Product.id).label("product_count"))
        .join(Product)
        .group_by(Category.name)
        .having(func.count(Product.id) > 2)
        .all()
    )
    assert [(row.name, row.product_count) for row in popular] == [("Electronics", 3)]


@pytest.mark.usefixtures("users")
def test_only_the_needed_columns():
    rows = db.session.query(User.id, User.username).order_by(User.id).all()
    assert [row.username for row in rows] == ["john", "jane", "jim"]
    assert set(rows[0]._mapping) == {"id", "username"}


# -- create


def test_create_one():
    user = User(username="john", email="john@example.com")
    db.session.add(user)
    db.session.commit()
    assert user.id
    assert user.is_active


def test_create_many():
    made = [User(username="john", email="john@example.com"), User(username="jane", email="jane@example.com")]
    db.session.add_all(made)
    db.session.commit()
    assert User.query.count() == 2


def test_bulk_insert():
    rows = [{"username": f"user{n}", "email": f"user{n}@example.com"} for n in range(3)]
    db.session.bulk_insert_mappings(User, rows)
    db.session.commit()
    assert names(User.query.filter_by(is_active=True, version=1)) == ["user0", "user1", "user2"]


def test_bulk_insert_in_one_statement_that_returns_the_keys(statements):
    rows = [{"username": f"user{n}", "email": f"user{n}@example.com"} for n in range(3)]
    with statements() as counted:
        keys = db.session.scalars(insert(User).returning(User.id, sort_by_parameter_order=True), rows).all()
    assert counted.count == 1
    assert keys == sorted(keys)


def test_a_price_may_be_given_as_a_float_as_the_guide_does():
    product = Product(sku="T", name="Test", price=99.99, category_id=CategoryFactory().id)
    db.session.add(product)
    db.session.commit()
    db.session.refresh(product)
    assert product.price == Decimal("99.99")


# -- update


def test_update_one(users):
    user = User.query.get(users["john"].id)
    user.email = "newemail@example.com"
    db.session.commit()
    assert User.query.filter_by(email="newemail@example.com").one().updated_at > user.created_at


def test_update_with_a_query(users):
    changed = User.query.filter_by(id=users["john"].id).update({"email": "new@example.com"})
    db.session.commit()
    assert changed == 1
    assert users["john"].email == "new@example.com"


@pytest.mark.usefixtures("users")
def test_bulk_update():
    changed = User.query.filter(User.is_active == False).update({"is_active": True})  # noqa: E712
    db.session.commit()
    assert changed == 1
    assert User.query.filter_by(is_active=True).count() == 3


# -- delete


def test_delete_one(users):
    db.session.delete(User.query.get(users["john"].id))
    db.session.commit()
    assert names(User.query.all()) == ["jane", "jim"]


def test_delete_with_a_query(users):
    assert User.query.filter_by(id=users["john"].id).delete() == 1
    db.session.commit()
    assert User.query.count() == 2


@pytest.mark.usefixtures("users")
def test_bulk_delete():
    assert User.query.filter(User.is_active == False).delete() == 1  # noqa: E712
    db.session.commit()
    assert names(User.query.all()) == ["jane", "john"]


def test_soft_delete_marks_the_order():
    order = OrderFactory(status="delivered")
    order.soft_delete()
    db.session.commit()
    assert order.is_deleted
    assert abs(datetime.now(UTC) - order.deleted_at) < timedelta(minutes=1)
    assert Order.query.count() == 0


# -- transactions


def test_a_failure_rolls_everything_back():
    db.session.add(User(username="john", email="john@example.com"))
    db.session.add(Product(sku="T", name="Test", price=Decimal("99.99"), category_id=999))
    with pytest.raises(IntegrityError):
        db.session.commit()
    db.session.rollback()
    assert User.query.count() == 0


def test_several_changes_are_committed_together():
    other = ProductFactory()
    with transaction(db.session()):
        db.session.add(Product(sku="N", name="New Product", price=100, category_id=other.category_id))
        db.session.query(Product).filter(Product.id == other.id).first().price = 200
    assert {product.price for product in db.session.query(Product)} == {100, 200}


def test_an_order_its_items_and_the_stock_change_in_one_transaction(users):
    product = ProductFactory(stock_quantity=5)
    with db.transaction() as session:
        order = Order(user_id=users["john"].id, total_amount=product.price * 2)
        order.items.append(OrderItem(product_id=product.id, quantity=2, unit_price=product.price))
        session.add(order)
        product.stock_quantity -= 2
    assert (Order.query.count(), OrderItem.query.count(), product.stock_quantity) == (1, 1, 3)


# -- advanced models


def test_a_status_that_is_no_choice_is_refused_on_insert_and_on_update():
    with pytest.raises(InvalidError, match="Must be one of: pending, processing, shipped"):
        OrderFactory(status="lost")
    db.session.rollback()
    order = OrderFactory()
    order.status = "lost"
    with pytest.raises(InvalidError, match="Must be one of: pending, processing, shipped"):
        db.session.commit()
    db.session.rollback()


def test_the_choices_are_the_guide_s():
    assert list(Order.STATUS_CHOICES) == ["pending", "processing", "shipped", "delivered", "cancelled"]


def test_a_user_has_one_profile_many_orders_and_many_roles():
    roles = [RoleFactory(name="buyer"), RoleFactory(name="manager")]
    user = UserFactory(roles=roles, profile=Profile(full_name="John"))
    OrderFactory.create_batch(2, user=user)
    db.session.remove()
    found = db.session.get(User, user.id)
    assert found.profile.user is found
    assert [order.user for order in found.orders] == [found, found]
    assert [role.name for role in found.roles] == ["buyer", "manager"]
    assert [member.username for member in Role.query.filter_by(name="buyer").one().users] == [found.username]


# -- search, documents, raw SQL


@pytest.mark.usefixtures("shop")
def test_full_text_search():
    found = Product.query.filter(func.to_tsvector("english", Product.description).match("laptop computers")).all()
    assert names(found) == ["Laptop"]


def test_fields_of_a_document():
    completed = OrderFactory(metadata_={"status": "completed", "priority": "high"})
    OrderFactory(metadata_={"status": "open", "priority": "low"})
    assert Order.query.filter(Order.metadata_["status"].astext == "completed").all() == [completed]
    assert Order.query.filter(Order.metadata_.contains({"priority": "high"})).all() == [completed]


def test_raw_sql_with_parameters(users):
    by_id = db.session.execute(text("SELECT * FROM users WHERE id = :id"), {"id": users["john"].id})
    assert [row.username for row in by_id.fetchall()] == ["john"]
    statement = text("SELECT * FROM users WHERE username = :username")
    assert db.session.execute(statement, {"username": "' OR true --"}).fetchall() == []


def test_raw_sql_has_to_be_marked_as_such():
    with pytest.raises(ArgumentError, match=r"text\("):
        db.session.execute("SELECT * FROM users WHERE id = :id", {"id": 1})


# -- the query builder


@pytest.mark.usefixtures("users")
def test_the_builder_s_select():
    found = db.query(User).where(User.is_active == True).order_by(User.username.asc()).limit(10).all()  # noqa: E712
    assert [user.username for user in found] == ["jane", "john"]


def test_the_builder_s_join(users):
    order = OrderFactory(user=users["john"])
    OrderFactory(user=users["jim"])
    rows = (
        db.query(Order)
        .join(User, Order.user_id == User.id)
        .where(User.is_active == True)  # noqa: E712
        .with_entities(Order, User.username)
        .all()
    )
    assert rows == [(order, "john")]


@pytest.mark.usefixtures("shop")
def test_the_builder_s_filters_orders_pages_and_counts():
    dear = db.query(Product).filter(Product.price > 100)
    assert dear.count() == 2
    assert names(dear.all()) == ["Laptop", "Phone"]
    ordered = db.query(Product).order_by(Product.price.desc())
    assert [product.name for product in ordered.offset(1).limit(2)] == ["Phone", "Novel"]
    assert names(db.query(Product).join(Category).filter(Category.name == "Electronics")) == [
        "Cable",
        "Laptop",
        "Phone",
    ]


def test_the_builder_s_insert_update_and_delete():
    db.session.add(Tag(name="new"))
    db.session.flush()
    assert db.query(Tag).where(Tag.name == "new").update({"name": "newer"}) == 1
    assert db.query(Tag).where(Tag.name == "newer").delete() == 1
    assert db.query(Tag).count() == 0


# -- the select() style, and repositories with methods of their own


@pytest.mark.usefixtures("users")
def test_select_one_all_and_a_page():
    session = db.session
    assert session.execute(select(User).where(User.username == "john")).scalar_one_or_none().username == "john"
    assert session.execute(select(User).where(User.username == "nobody")).scalar_one_or_none() is None
    page = select(User).order_by(User.id).limit(2).offset(0)
    assert [user.username for user in session.execute(page).scalars()] == ["john", "jane"]
    assert session.execute(select(func.count(User.id))).scalar() == 3


class UserRepository(Repository[User]):
    """As the guides write one."""

    def find_by_username(self, username):
        return self.session.execute(self.select().where(User.username == username)).scalar_one_or_none()


def test_a_repository_with_a_method_of_its_own(users):
    repository = UserRepository(User, db.session())
    assert repository.find_by_username("john") is users["john"]
    assert repository.find_by_username("jack") is None
    made = repository.add(User(username="new", email="new@example.com"))
    assert made.id
    assert made.created_at.tzinfo is UTC


class ProductController(Repository[Product]):
    """As the guides write one."""

    def get_by_category(self, category_id):
        return self.list(Product.category_id == category_id)


@pytest.mark.usefixtures("shop")
def test_a_controller_with_a_method_of_its_own():
    electronics = Category.query.filter_by(name="Electronics").one()
    assert names(ProductController(Product, db.session()).get_by_category(electronics.id)) == [
        "Cable",
        "Laptop",
        "Phone",
    ]
