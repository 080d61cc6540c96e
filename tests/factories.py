"""Rows with plausible values; a test names only what it is about."""

from __future__ import annotations

import secrets
from datetime import timedelta
from decimal import Decimal

import factory
from factory.alchemy import SQLAlchemyModelFactory

from api.core.database.mixins import now
from api.extensions import db
from api.resources.auth.models import APIKey, AuthSession, RefreshToken
from api.resources.categories.models import Category
from api.resources.orders.models import Order, OrderItem
from api.resources.products.models import Product
from api.resources.roles.models import Role
from api.resources.tags.models import Tag
from api.resources.users.models import Profile, User


class _Factory(SQLAlchemyModelFactory):
    class Meta:
        abstract = True
        sqlalchemy_session = db.session
        sqlalchemy_session_persistence = "commit"


class RoleFactory(_Factory):
    class Meta:
        model = Role

    name = factory.Sequence(lambda n: f"role-{n}")


class UserFactory(_Factory):
    class Meta:
        model = User

    username = factory.Sequence(lambda n: f"user-{n}")
    email = factory.Sequence(lambda n: f"user-{n}@example.com")


class ProfileFactory(_Factory):
    class Meta:
        model = Profile

    user = factory.SubFactory(UserFactory)
    full_name = "Ada Lovelace"
    country = "France"


class CategoryFactory(_Factory):
    class Meta:
        model = Category

    name = factory.Sequence(lambda n: f"Category {n}")


class TagFactory(_Factory):
    class Meta:
        model = Tag

    name = factory.Sequence(lambda n: f"tag-{n}")


class ProductFactory(_Factory):
    class Meta:
        model = Product

    sku = factory.Sequence(lambda n: f"SKU-{n}")
    name = factory.Sequence(lambda n: f"Product {n}")
    price = Decimal("9.99")
    stock_quantity = 10
    category = factory.SubFactory(CategoryFactory)


class OrderItemFactory(_Factory):
    class Meta:
        model = OrderItem

    product = factory.SubFactory(ProductFactory)
    quantity = 1
    unit_price = Decimal("9.99")


class OrderFactory(_Factory):
    class Meta:
        model = Order

    user = factory.SubFactory(UserFactory)
    total_amount = Decimal("9.99")


class AuthSessionFactory(_Factory):
    class Meta:
        model = AuthSession

    # Its key only: the user may have been made in another session.
    user_id = factory.LazyFunction(lambda: UserFactory().id)
    expires_at = factory.LazyFunction(lambda: now() + timedelta(days=1))


class RefreshTokenFactory(_Factory):
    class Meta:
        model = RefreshToken

    hash = factory.LazyFunction(lambda: secrets.token_bytes(32))
    session_id = factory.LazyFunction(lambda: AuthSessionFactory().id)


class APIKeyFactory(_Factory):
    class Meta:
        model = APIKey

    user_id = factory.LazyFunction(lambda: UserFactory().id)
    name = "a machine"
    prefix = "bk_00000000"
    hash = factory.LazyFunction(lambda: secrets.token_bytes(32))
    scopes = ("orders:read",)
