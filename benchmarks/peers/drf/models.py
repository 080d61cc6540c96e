"""The tables, which are migrated elsewhere."""

from __future__ import annotations

from typing import ClassVar

import uuid_utils.compat
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import models
from django.db.models.functions import Now


class LiveManager(models.Manager[models.Model]):
    """The soft-delete filter."""

    def get_queryset(self) -> models.QuerySet[models.Model]:
        """Rows that are not deleted."""
        return super().get_queryset().filter(deleted_at__isnull=True)


class ProductManager(LiveManager):
    """Products without the column that only a search looks at."""

    def get_queryset(self) -> models.QuerySet[models.Model]:
        """Rows that are not deleted."""
        return super().get_queryset().defer("search_vector")


class Stamps(models.Model):
    """What every row that is shown has."""

    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())
    deleted_at = models.DateTimeField(null=True)
    version = models.IntegerField(db_default=1)

    objects = LiveManager()

    class Meta:
        """Options."""

        abstract = True


class Category(Stamps):
    """A shelf of the shop."""

    name = models.CharField(max_length=100)
    description = models.TextField(null=True)  # noqa: DJ001 - as the table has it

    class Meta:
        """Options."""

        managed = False
        db_table = "categories"


class Tag(Stamps):
    """A word that products are found by."""

    name = models.CharField(max_length=50)

    class Meta:
        """Options."""

        managed = False
        db_table = "tags"


class Product(Stamps):
    """A thing for sale."""

    sku = models.CharField(max_length=64)
    name = models.CharField(max_length=200)
    description = models.TextField(null=True)  # noqa: DJ001 - as the table has it
    price = models.DecimalField(max_digits=10, decimal_places=2)
    stock_quantity = models.IntegerField(default=0)
    category = models.ForeignKey(Category, models.DO_NOTHING)
    metadata = models.JSONField(default=dict)
    tags = models.ManyToManyField(Tag, through="ProductTag")
    search_vector = models.GeneratedField(
        expression=SearchVector("name", weight="A", config="english")
        + SearchVector("description", weight="B", config="english"),
        output_field=SearchVectorField(),
        db_persist=True,
    )

    objects = ProductManager()

    class Meta:
        """Options."""

        managed = False
        db_table = "products"


class ProductTag(models.Model):
    """A tag of a product."""

    pk = models.CompositePrimaryKey("product_id", "tag_id")
    product = models.ForeignKey(Product, models.DO_NOTHING)
    tag = models.ForeignKey(Tag, models.DO_NOTHING)

    class Meta:
        """Options."""

        managed = False
        db_table = "product_tags"


class User(Stamps):
    """Somebody who buys."""

    username = models.CharField(max_length=80)
    email = models.CharField(max_length=120)
    is_active = models.BooleanField()

    class Meta:
        """Options."""

        managed = False
        db_table = "users"


class Order(Stamps):
    """What a user bought."""

    id = models.UUIDField(primary_key=True, default=uuid_utils.compat.uuid7)
    user = models.ForeignKey(User, models.DO_NOTHING)
    status = models.CharField(max_length=20)
    total_amount = models.DecimalField(max_digits=10, decimal_places=2)
    metadata = models.JSONField(default=dict)

    class Meta:
        """Options."""

        managed = False
        db_table = "orders"


class OrderItem(models.Model):
    """One line of an order."""

    order = models.ForeignKey(Order, models.DO_NOTHING, related_name="items")
    product = models.ForeignKey(Product, models.DO_NOTHING)
    quantity = models.IntegerField()
    unit_price = models.DecimalField(max_digits=10, decimal_places=2)

    class Meta:
        """Options."""

        managed = False
        db_table = "order_items"
        ordering: ClassVar[list[str]] = ["id"]
