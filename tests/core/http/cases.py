"""Each resource as the contract's tests need it: how to make a row, and bodies that it accepts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from tests.factories import CategoryFactory, OrderFactory, ProductFactory, RoleFactory, TagFactory, UserFactory

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = "/api/v1"
_number = count(1)


@dataclass(frozen=True)
class Case:
    """One resource."""

    name: str
    factory: type
    new: Callable[[], dict[str, Any]]
    """A body that creates a row."""
    replacement: Callable[[], dict[str, Any]]
    """A body that replaces one."""
    change: dict[str, Any]
    """A body that changes one field."""
    required: tuple[str, ...]
    """Pointers of what a new row must have."""
    unique: str | None = None
    """A field that no two live rows may share."""
    deletable: bool = True
    """Whether a new row can be deleted at once."""

    @property
    def path(self) -> str:
        return f"{PREFIX}/{self.name}"

    def row(self) -> Any:
        """A row that can be deleted."""
        return self.factory() if self.deletable else self.factory(status="delivered")

    def url(self, row: Any) -> str:
        return f"{self.path}/{row.id}"

    def absent_url(self) -> str:
        key = "01890a5d-ac96-774b-bcce-b302099a8057" if self.name == "orders" else "4711"
        return f"{self.path}/{key}"


def _named() -> dict[str, Any]:
    return {"name": f"name {next(_number)}"}


def _user() -> dict[str, Any]:
    number = next(_number)
    return {"username": f"user {number}", "email": f"u{number}@example.com", "password": "correct horse battery"}


def _product() -> dict[str, Any]:
    number = next(_number)
    return {"sku": f"sku {number}", "name": "Mug", "price": "9.90", "category_id": CategoryFactory().id}


def _order() -> dict[str, Any]:
    items = [{"product_id": ProductFactory().id, "quantity": 2}]
    return {"user_id": UserFactory().id, "items": items}


CASES = [
    Case("users", UserFactory, _user, _user, {"username": "renamed"}, ("/username", "/email", "/password"), "username"),
    Case("roles", RoleFactory, _named, _named, {"name": "renamed"}, ("/name",), "name"),
    Case("categories", CategoryFactory, _named, _named, {"name": "renamed"}, ("/name",), "name"),
    Case("tags", TagFactory, _named, _named, {"name": "renamed"}, ("/name",), "name"),
    Case(
        "products",
        ProductFactory,
        _product,
        _product,
        {"sku": "renamed"},
        ("/sku", "/name", "/price", "/category_id"),
        "sku",
    ),
    Case(
        "orders",
        OrderFactory,
        _order,
        lambda: {"status": "delivered", "metadata": {"replaced": True}},
        {"metadata": {"changed": True}},
        ("/items",),
        deletable=False,
    ),
]
