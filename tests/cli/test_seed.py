"""`flask seed`: plausible rows, as many as are asked for, that every rule of the database holds for."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import func, select, text

from api.cli._progress import terminal_bar
from api.cli._seed import fill, rows, words
from api.cli._seed.rows import TOTAL_MAX, Buyer, Maker, Ware, uuid7
from api.cli.seed import DEMO_PASSWORD, Options, seed_demo
from api.core.errors import ConflictError
from api.extensions import db
from api.resources.categories.models import Category
from api.resources.orders.models import Order, OrderItem
from api.resources.orders.service import OrderService
from api.resources.products.models import Product
from api.resources.roles.models import Role
from api.resources.tags.models import Tag
from api.resources.users.models import Profile, User
from tests.accounts import AUTH, bearing, stranger
from tests.factories import CategoryFactory, ProductFactory, UserFactory

if TYPE_CHECKING:
    from click.testing import Result
    from flask import Flask

TABLES = ("users", "profiles", "user_roles", "products", "product_tags", "orders", "order_items")
END = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture
def fresh(database):
    """Empty tables whose keys are counted from 1."""

    del database

    def empty() -> None:
        db.session.rollback()
        with db.owner_transaction() as owner:
            owner.execute(text(f"TRUNCATE {', '.join(TABLES)}, roles, tags, categories RESTART IDENTITY CASCADE"))

    return empty


def seed(database: Flask, *arguments: str) -> Result:
    return database.test_cli_runner().invoke(args=["seed", *arguments])


def count(session, model: type[Any]) -> int:
    return session.scalar(select(func.count()).select_from(model))


def all_rows(session) -> dict[str, list[str]]:
    """All made rows as text, but for the hash, which is salted, and the time when stock was taken, which is now."""
    statement = "SELECT (to_jsonb(t) - 'password_hash' - 'updated_at')::text FROM {} t ORDER BY 1"
    return {table: list(session.scalars(text(statement.format(table)))) for table in TABLES}


def test_it_adds_as_many_rows_as_are_asked_for(database, session):
    result = seed(database, "--users", "7", "--products", "5", "--orders", "11", "--json")
    facts = json.loads(result.stdout)
    assert (facts["users"], facts["products"], facts["orders"]) == (7, 5, 11)
    assert [count(session, model) for model in (User, Profile, Product, Order)] == [7, 7, 5, 11]
    assert count(session, OrderItem) == facts["order_items"] >= 11


def test_without_numbers_it_makes_a_small_shop(database, session):
    assert seed(database).exit_code == 0
    assert [count(session, model) for model in (User, Product, Order)] == [50, 200, 300]


def test_totals_are_those_of_the_items_and_orders_have_one_to_five_of_them(session):
    seed_demo(session, orders=500)
    sums = (
        select(func.sum(OrderItem.quantity * OrderItem.unit_price), func.count(OrderItem.product_id.distinct()))
        .where(OrderItem.order_id == Order.id)
        .lateral()
    )
    assert session.scalars(select(Order).join(sums, sums.c[0] != Order.total_amount)).all() == []
    counts = set(session.scalars(select(sums.c[1]).select_from(Order).join(sums, text("true"))))
    assert counts == {1, 2, 3, 4, 5}


def test_orders_are_of_the_last_two_years_and_of_all_statuses(session):
    seed_demo(session, orders=2000, options=Options(seed=1, until=END))
    first, last = session.execute(select(func.min(Order.created_at), func.max(Order.created_at))).one()
    assert END - timedelta(days=730) <= first < END - timedelta(days=600)
    assert END - timedelta(days=7) < last <= END
    assert set(session.scalars(select(Order.status))) == set(Order.STATUS_CHOICES)
    assert session.scalar(select(func.max(User.created_at))) < first
    assert session.scalar(select(func.min(Order.updated_at - Order.created_at))) >= timedelta(0)


def test_old_orders_have_been_delivered_or_cancelled(session):
    seed_demo(session, options=Options(until=END))
    old = select(Order.status).where(Order.created_at < END - timedelta(days=30))
    assert set(session.scalars(old)) <= {"delivered", "cancelled"}


def test_users_have_profiles_and_roles_and_products_have_categories_tags_and_metadata(session):
    seed_demo(session, users=100, products=100, orders=0)
    assert session.scalar(select(func.count(Profile.id)).where(Profile.country.is_(None))) == 0
    assert session.scalars(select(User).where(~User.roles.any())).all() == []
    assert count(session, Role) == 4
    assert session.scalar(select(func.count(Product.category_id.distinct()))) == count(session, Category) == 10
    assert session.scalar(select(func.count(Product.id)).where(Product.tags.any())) > 50
    assert (
        session.scalar(
            select(func.count(Product.id)).where(Product.metadata_["colour"].as_string().in_(["red", "blue"]))
        )
        > 0
    )


def test_the_country_of_an_order_is_that_of_its_buyer(session):
    seed_demo(session)
    strangers = (
        select(Order)
        .join(Profile, Profile.user_id == Order.user_id)
        .where(Order.metadata_["country"].as_string() != Profile.country)
    )
    assert session.scalars(strangers).all() == []


def test_what_it_makes_is_served_by_the_api(session, client):
    seed_demo(session, users=5, products=5, orders=20)
    for path in ("orders?include=items.product,user", "users?include=profile,roles", "products?include=category,tags"):
        response = client.get(f"/api/v1/{path}&count=exact")
        assert response.status_code == 200
        assert response.json["total"] == (20 if path.startswith("orders") else 5)


def test_all_users_share_the_password_that_is_told(database, session):
    output = seed(database, "--users", "3", "--products", "0", "--orders", "0").stdout
    assert f"Their password is {DEMO_PASSWORD}." in output
    hashes = set(session.scalars(select(User.password_hash)))
    assert len(hashes) == 1
    assert PasswordHasher().verify(hashes.pop(), DEMO_PASSWORD)


def test_somebody_of_each_role_is_there_to_log_in_as(database):
    result = database.test_cli_runner().invoke(args=["seed", "--users", "5", "--products", "0", "--orders", "0"])
    assert "Log in with POST /api/v1/auth/login, as customer, manager, admin." in result.output
    client = stranger(database)
    for name in ("customer", "manager", "admin"):
        tokens = client.post(f"{AUTH}/login", json={"username": name, "password": DEMO_PASSWORD}).json
        me = client.get(f"{AUTH}/me", headers=bearing(tokens["access_token"])).json
        assert (me["username"], me["roles"]) == (name, [name])


def test_a_second_run_makes_no_second_admin(database, session):
    for _ in range(2):
        result = database.test_cli_runner().invoke(args=["seed", "--users", "2", "--products", "0", "--orders", "0"])
        assert result.exit_code == 0, result.output
    assert session.scalar(select(func.count()).where(User.username == "admin")) == 1


def test_in_production_nobody_gets_a_password_that_everybody_knows(database, session, monkeypatch):
    monkeypatch.setattr(type(database.extensions["settings"]), "is_production", True)
    output = seed(database, "--users", "3", "--products", "0", "--orders", "0").stdout
    assert DEMO_PASSWORD not in output
    assert set(session.scalars(select(User.password_hash))) == {None}


def test_the_same_seed_and_end_make_the_same_rows(session, fresh):
    made = []
    for _ in range(2):
        fresh()
        seed_demo(session, 20, 30, 40, options=Options(seed=5, until=END))
        made.append(all_rows(session))
        session.rollback()
    assert made[0] == made[1]
    fresh()
    seed_demo(session, 20, 30, 40, options=Options(seed=6, until=END))
    assert all_rows(session)["orders"] != made[0]["orders"]


def test_the_end_can_be_set_on_the_command_line(database, session):
    result = seed(database, "--until", "2026-01-31")
    assert result.exit_code == 0
    assert session.scalar(select(func.max(Order.created_at))) <= END


def test_the_seed_that_was_drawn_is_told(database):
    assert re.search(r"Made from seed \d+\.", seed(database, "--users", "1", "--orders", "0").stdout)


def test_a_second_run_with_the_same_seed_adds_other_rows(session):
    for _ in range(2):
        seed_demo(session, 20, 30, 40, options=Options(seed=5, until=END))
    assert [count(session, model) for model in (User, Product, Order)] == [40, 60, 80]
    assert session.scalar(select(func.count(Order.id.distinct()))) == 80


def test_roles_tags_and_categories_that_are_there_are_used(session):
    CategoryFactory(name="KITCHEN")
    for _ in range(2):
        seed_demo(session, 1, 1, 0)
    assert [count(session, model) for model in (Role, Tag, Category)] == [4, 16, 10]


def test_names_that_people_have_chosen_are_left_to_them(session, fresh, monkeypatch):
    fresh()
    monkeypatch.setattr(words, "FIRST_NAMES", ("Ada",))
    monkeypatch.setattr(words, "LAST_NAMES", ("Lovelace",))
    monkeypatch.setattr(rows, "_SHELVES", (("Kitchen", words.SHELVES["Kitchen"]),))
    UserFactory(id=1000, username="ADA.lovelace.2")
    UserFactory(id=1001, email="Ada.Lovelace.3@example.com")
    ProductFactory(id=1000, sku="kit-000001")
    # Without a password there are no users to log in as, whose names are easy.
    seed_demo(session, 3, 2, 0, options=Options(password=None))
    made = User.id < 1000
    usernames = ["ada.lovelace.1", "ada.lovelace.4", "ada.lovelace.5"]
    assert session.scalars(select(User.username).where(made).order_by(User.id)).all() == usernames
    skus = session.scalars(select(Product.sku).where(Product.id < 1000).order_by(Product.id)).all()
    assert skus == ["KIT-000002", "KIT-000003"]


def test_orders_refer_to_users_and_products_that_were_there(session):
    user, product = UserFactory(), ProductFactory(price=Decimal("4.20"))
    seed_demo(session, users=0, products=0, orders=5)
    assert set(session.scalars(select(Order.user_id))) == {user.id}
    assert set(session.execute(select(OrderItem.product_id, OrderItem.unit_price))) == {(product.id, Decimal("4.20"))}


def test_deleted_users_and_products_are_not_in_new_orders(session):
    live = UserFactory(), ProductFactory()
    for row in (UserFactory(), ProductFactory()):
        row.soft_delete()
    session.commit()
    seed_demo(session, users=0, products=0, orders=20)
    assert set(session.scalars(select(Order.user_id))) == {live[0].id}
    assert set(session.scalars(select(OrderItem.product_id))) == {live[1].id}


def test_of_many_users_and_products_some_from_everywhere_are_taken(session, monkeypatch):
    monkeypatch.setattr(fill, "_SAMPLE", 20)
    monkeypatch.setattr(fill, "BATCH", 30)
    seed_demo(session, users=200, products=200, orders=300, options=Options(seed=1))
    assert count(session, Order) == 300
    assert session.scalar(select(func.count(Order.user_id.distinct()))) > 60


@pytest.mark.parametrize("missing", ["users", "products"])
def test_orders_without_anybody_or_anything_to_order_are_refused(database, session, missing):
    result = seed(database, "--orders", "5", f"--{missing}", "0")
    assert result.exit_code == 2
    assert f"There are no {missing}" in result.output
    assert [count(session, model) for model in (User, Product)] == [0, 0]


@pytest.mark.parametrize(
    "arguments",
    [("--users", "-1"), ("--orders", "many"), ("--until", "soon"), ("--until", "1969-12-31"), ("--seed", "-1")],
)
def test_a_wrong_number_is_refused(database, arguments):
    result = seed(database, *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.output


def test_a_negative_number_of_rows_cannot_be_made(session):
    with pytest.raises(ValueError, match="negative"):
        seed_demo(session, users=-1)


def test_nothing_can_be_made(database, session):
    assert seed(database, "--users", "0", "--products", "0", "--orders", "0").exit_code == 0
    assert count(session, User) == 0


def test_what_open_orders_hold_has_been_taken_from_the_stock(session):
    product = ProductFactory(stock_quantity=1000, price=Decimal(1))
    UserFactory()
    seed_demo(session, users=0, products=0, orders=2000, options=Options(seed=1))
    held = select(func.sum(OrderItem.quantity)).join(OrderItem.order).where(Order.status.in_(["pending", "processing"]))
    session.refresh(product)
    assert session.scalar(held) > 0
    assert product.stock_quantity == 1000 - session.scalar(held)


def test_open_orders_leave_something_to_buy(session):
    product = ProductFactory(stock_quantity=15)
    UserFactory()
    seed_demo(session, users=0, products=0, orders=3000, options=Options(seed=1))
    session.refresh(product)
    assert 10 <= product.stock_quantity < 15


def test_an_open_order_can_be_cancelled_and_gives_its_items_back(session):
    product = ProductFactory(stock_quantity=1000)
    UserFactory()
    seed_demo(session, users=0, products=0, orders=2000, options=Options(seed=1))
    order = session.scalars(select(Order).where(Order.status == "pending").limit(1)).one()
    session.refresh(product)
    before = product.stock_quantity
    OrderService(Order, session).update(order, {"status": "cancelled"})
    assert product.stock_quantity == before + sum(item.quantity for item in order.items)


def test_what_the_database_refuses_is_told_and_rolled_back(database, session, monkeypatch):
    key = uuid7(END, Random(1))  # noqa: S311
    lost = (key, 0, "lost", 1, "{}", END, END, 1)
    monkeypatch.setattr(Maker, "orders", lambda *_: rows.Orders([lost]))
    result = seed(database)
    assert result.exit_code == 1
    assert "was added before stays" in result.output
    assert [count(session, model) for model in (User, Order)] == [50, 0]


def test_a_refusal_has_the_same_type_as_elsewhere(session, monkeypatch):
    key = uuid7(END, Random(1))  # noqa: S311
    user = UserFactory()
    ProductFactory()
    twice = [(key, user.id, "delivered", 1, "{}", END, END, 1)] * 2
    monkeypatch.setattr(Maker, "orders", lambda *_: rows.Orders(twice))
    with pytest.raises(ConflictError):
        seed_demo(session, 0, 0, 2)


def test_text_with_characters_that_copy_gives_a_meaning_to_arrives_as_it_is(session):
    user = UserFactory()
    session.add(Profile(user_id=user.id, country='a\\b\tc\n"d"\r\\N'))
    session.commit()
    ProductFactory()
    seed_demo(session, 0, 0, 1)
    assert session.scalars(select(Order)).one().metadata_["country"] == 'a\\b\tc\n"d"\r\\N'


def test_a_total_is_never_larger_than_the_database_can_store():
    maker = Maker(Random(1), END)  # noqa: S311 - keeps no secret
    wares = [Ware(number, TOTAL_MAX, 0) for number in range(9)]
    made = maker.orders(range(200), 200, [Buyer(1, None)], wares)
    assert {order[3] for order in made.orders} == {"99999999.99"}


def test_keys_of_orders_are_of_version_7_and_ascend_with_time():
    keys = [uuid7(END + timedelta(seconds=number), Random(number)) for number in range(100)]  # noqa: S311
    assert keys == sorted(keys)
    assert {(key.version, key.variant) for key in keys} == {(7, "specified in RFC 4122")}


def test_a_bar_is_drawn_on_a_terminal_only(capsys, monkeypatch):
    with terminal_bar("Orders", 10) as advance:
        advance(10)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with terminal_bar("Orders", 10) as advance:
        advance(10)
    assert "10/10" in capsys.readouterr().err
