"""What goes in and out. Read-only serializers are declared as such: they are the faster ones."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from rest_framework import serializers
from rest_framework.exceptions import APIException

from benchmarks.peers.drf.models import Category, Order, OrderItem, Product, Tag, User

STAMPS = ("created_at", "updated_at", "deleted_at", "version")
PRODUCT = ("id", "sku", "name", "description", "price", "stock_quantity", "category_id", "metadata", *STAMPS)
ORDER = ("id", "user_id", "status", "total_amount", "metadata", *STAMPS)


class ConflictError(APIException):
    """There is not enough in stock."""

    status_code = 409


class LiveSerializer(serializers.ModelSerializer):
    """A related row, which is shown as none when it is deleted."""

    def to_representation(self, instance: Any) -> Any:
        """The row as a dict, or None."""
        return None if instance.deleted_at is not None else super().to_representation(instance)


class CategorySerializer(LiveSerializer):
    """A category."""

    class Meta:
        """Options."""

        model = Category
        fields = read_only_fields = ("id", "name", "description", *STAMPS)


class TagSerializer(serializers.ModelSerializer):
    """A tag."""

    class Meta:
        """Options."""

        model = Tag
        fields = read_only_fields = ("id", "name", *STAMPS)


class ProductSerializer(LiveSerializer):
    """A product as it is shown."""

    class Meta:
        """Options."""

        model = Product
        fields = read_only_fields = PRODUCT


class DetailedProductSerializer(ProductSerializer):
    """A product with what belongs to it."""

    category = CategorySerializer(read_only=True)
    tags = TagSerializer(many=True, read_only=True)

    class Meta(ProductSerializer.Meta):
        """Options."""

        fields = read_only_fields = (*PRODUCT, "category", "tags")


class NewProductSerializer(serializers.ModelSerializer):
    """A product as it is sent."""

    category_id = serializers.PrimaryKeyRelatedField(source="category", queryset=Category.objects.all())
    price = serializers.DecimalField(max_digits=10, decimal_places=2, min_value=0)
    stock_quantity = serializers.IntegerField(min_value=0, max_value=2**31 - 1, default=0)

    class Meta:
        """Options."""

        model = Product
        fields = ("sku", "name", "description", "price", "stock_quantity", "category_id", "metadata")

    def to_representation(self, instance: Product) -> Any:
        """The answer shows the whole product."""
        return ProductSerializer(instance).data


class UserSerializer(LiveSerializer):
    """A user."""

    class Meta:
        """Options."""

        model = User
        fields = read_only_fields = ("id", "username", "email", "is_active", *STAMPS)


class OrderItemSerializer(serializers.ModelSerializer):
    """A line of an order."""

    product = ProductSerializer(read_only=True)

    class Meta:
        """Options."""

        model = OrderItem
        fields = read_only_fields = ("id", "product_id", "quantity", "unit_price", "product")


class OrderSerializer(serializers.ModelSerializer):
    """An order as it is shown to who has made it."""

    class Meta:
        """Options."""

        model = Order
        fields = read_only_fields = ORDER


class DetailedOrderSerializer(OrderSerializer):
    """An order with its user and items."""

    user = UserSerializer(read_only=True)
    items = OrderItemSerializer(many=True, read_only=True)

    class Meta(OrderSerializer.Meta):
        """Options."""

        fields = read_only_fields = (*ORDER, "user", "items")


class NewOrderItemSerializer(serializers.Serializer):
    """A line of an order as it is sent."""

    product_id = serializers.IntegerField()
    quantity = serializers.IntegerField(min_value=1, max_value=2**31 - 1)


class NewOrderSerializer(serializers.Serializer):
    """An order as it is sent."""

    user_id = serializers.PrimaryKeyRelatedField(source="user", queryset=User.objects.all())
    items = NewOrderItemSerializer(many=True, min_length=1, max_length=100)
    metadata = serializers.DictField(default=dict)

    @transaction.atomic
    def create(self, validated_data: dict[str, Any]) -> Order:
        """Insert the order; its items are taken from the stock, whose rows are locked in ascending order."""
        lines = validated_data.pop("items")
        keys = {line["product_id"] for line in lines}
        products = {row.pk: row for row in Product.objects.select_for_update().filter(pk__in=keys).order_by("pk")}
        if missing := keys - products.keys():
            raise serializers.ValidationError({"items": f"There is no product {min(missing)}."})
        items = []
        for line in lines:
            product = products[line["product_id"]]
            if product.stock_quantity < line["quantity"]:
                raise ConflictError(f"Only {product.stock_quantity} of product {product.pk} left.")
            product.stock_quantity -= line["quantity"]
            items.append(OrderItem(product=product, quantity=line["quantity"], unit_price=product.price))
        Product.objects.bulk_update(products.values(), ["stock_quantity"])
        total = sum(item.unit_price * item.quantity for item in items)
        order = Order.objects.create(**validated_data, status="pending", total_amount=total)
        for item in items:
            item.order = order
        OrderItem.objects.bulk_create(items)
        return order

    def to_representation(self, instance: Order) -> Any:
        """The answer shows the order."""
        return OrderSerializer(instance).data
