"""`flask load-retail`: every line ends in an order or among the rejects, and the money adds up.

The excerpt is of Chen, D. (2015), Online Retail, UCI Machine Learning Repository, DOI 10.24432/C5BW33, CC BY 4.0.
"""

from __future__ import annotations

import csv
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select, text

from api.cli import load_retail
from api.cli._retail import stage
from api.cli._retail.lines import Reason
from api.cli._retail.store import order_key
from api.core.errors import InvalidError
from api.resources.orders.models import Order
from api.resources.orders.service import OrderService
from api.resources.products.models import Product
from api.resources.users.models import User
from tests.cli.retail_lines import HEADER, SALE, sale
from tests.factories import OrderFactory, ProductFactory, UserFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result
    from flask import Flask

EXCERPT = Path(__file__).parents[1] / "data" / "online_retail_excerpt.csv"
TABLES = ("users", "profiles", "categories", "products", "orders", "order_items")


@pytest.fixture
def load(database: Flask, tmp_path: Path) -> Callable[..., Result]:
    """`load()` the excerpt, or a file of the given lines; rejects go to `tmp_path/rejects.csv`."""

    def run(*lines: str, file: Path | None = None, arguments: tuple[str, ...] = ("--json",)) -> Result:
        if lines:
            file = tmp_path / "lines.csv"
            file.write_text("\r\n".join([HEADER, *lines, ""]), encoding="utf-8", newline="")
        rejects = str(tmp_path / "rejects.csv")
        return database.test_cli_runner().invoke(
            args=["load-retail", str(file or EXCERPT), "--rejects", rejects, *arguments]
        )

    return run


@pytest.fixture
def rejected(tmp_path: Path) -> Callable[[], list[dict[str, str]]]:
    """Read the rejects file."""

    def read() -> list[dict[str, str]]:
        with (tmp_path / "rejects.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    return read


def report_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def rows_of(session, *, without: str = "") -> dict[str, list[str]]:
    """All rows of all tables that a load writes, as text."""
    statement = "SELECT (to_jsonb(t) - CAST(:without AS text[]))::text FROM {} t ORDER BY 1"
    rows = {
        table: list(session.scalars(text(statement.format(table)), {"without": without.split()})) for table in TABLES
    }
    session.rollback()
    return rows


def test_each_line_of_the_excerpt_ends_in_an_order_or_among_the_rejects(load, session):
    report = report_of(load())
    del report["seconds"], report["rejects_file"]
    assert report == {
        "lines_read": 54,
        "lines_in_orders": 41,
        "lines_rejected": 13,
        "rejected": {"not a product": 8, "cancellation": 2, "no customer": 2, "price not positive": 1},
        "orders_created": 9,
        "orders_already_there": 0,
        "users_created": 8,
        "products_created": 39,
        "amount_of_lines": "1203.48",
        "amount_in_database": "1203.48",
        "reconciled": True,
    }
    assert session.scalar(select(func.sum(Order.total_amount))) == Decimal("1203.48")


def test_the_orders_of_a_country_with_their_products_and_users_are_one_statement(load, client, statements):
    load()
    path = "/api/v1/orders?metadata.country=France&include=items.product,user&sort=-total_amount"
    client.get(path)
    with statements() as counted:
        response = client.get(path)
    assert counted.count == 1
    orders = response.json["items"]
    assert [(order["metadata"]["invoice"], order["total_amount"]) for order in orders] == [
        ("539435", "162.00"),
        ("536852", "71.14"),
        ("537967", "39.60"),
        ("539113", "4.95"),
    ]
    assert [order["user"]["username"] for order in orders] == [f"customer-{n}" for n in (12691, 12686, 12494, 12494)]
    assert orders[2]["created_at"].startswith("2010-12-09T00:00:00")
    assert {order["status"] for order in orders} == {"delivered"}
    assert [
        (item["product"]["sku"], item["product"]["name"], item["quantity"], item["unit_price"])
        for item in orders[2]["items"]
    ] == [
        ("21843", "RED RETROSPOT CAKE STAND", 2, "10.95"),
        ("22667", "RECIPE BOX RETROSPOT", 6, "2.95"),
    ]


def test_loading_twice_changes_nothing(load, session, rejected):
    load()
    before, rejected_before = rows_of(session), rejected()
    report = report_of(load())
    assert rows_of(session) == before
    assert rejected() == rejected_before
    assert (report["orders_created"], report["orders_already_there"]) == (0, 9)
    assert report["amount_in_database"] == "1203.48"


def test_a_load_that_broke_off_can_be_repeated(load, session, monkeypatch):
    monkeypatch.setattr(load_retail, "BATCH_LINES", 10)
    record, calls = OrderService.record, []

    def broken(self, data):
        calls.append(data)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return record(self, data)

    monkeypatch.setattr(OrderService, "record", broken)
    assert load().exit_code == 1
    loaded = session.scalar(select(func.count(Order.id)))
    assert 0 < loaded < 9
    report = report_of(load())
    assert (report["orders_already_there"], report["orders_created"]) == (loaded, 9 - loaded)
    assert session.scalar(select(func.sum(Order.total_amount))) == Decimal("1203.48")
    assert session.scalar(select(func.count(User.id))) == 8


def test_a_rejected_line_is_written_with_its_number_the_reason_and_its_columns(load, rejected):
    load()
    assert rejected()[0] == {
        "LineNo": "4",
        "Reason": "cancellation",
        "InvoiceNo": "C536379",
        "StockCode": "D",
        "Description": "Discount",
        "Quantity": "-1",
        "InvoiceDate": "2010-12-01 09:41:00",
        "UnitPrice": "27.5",
        "CustomerID": "14527",
        "Country": "United Kingdom",
    }
    assert [int(line["LineNo"]) for line in rejected()] == [4, 5, 6, 7, 14, 15, 16, 31, 33, 41, 42, 54, 55]


def test_a_stray_quote_spoils_its_own_line_only(load, rejected):
    report = report_of(load(sale(Description='"').replace('""""', '"stray'), sale(StockCode="71053")))
    assert report["lines_in_orders"] == 1
    assert rejected()[0]["InvoiceNo"] == '536365,85123A,"stray,6,2010-12-01 08:26:00,2.55,17850,United Kingdom'


def test_bytes_that_are_no_text_can_be_found_among_the_rejects(load, rejected, tmp_path):
    file = tmp_path / "bytes.csv"
    line = SALE.encode()
    file.write_bytes(b"\n".join([HEADER.encode(), line.replace(b"WHITE", b"CAF\xc9"), line.replace(b"WHITE", b"\0")]))
    assert report_of(load(file=file))["rejected"] == {"not UTF-8": 1, "NUL character": 1}
    assert [line["Description"] for line in rejected()] == ["CAF\\xc9 HEART", "\\x00 HEART"]


def test_the_lines_of_an_invoice_may_stand_anywhere_in_the_file(load, session):
    load()
    # What depends on the order of the lines, or on the day.
    free = "id user_id product_id order_id category_id created_at updated_at version"
    before = rows_of(session, without=free)
    for table in reversed(TABLES):
        session.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - our own names
    session.commit()
    lines = EXCERPT.read_text(encoding="utf-8").splitlines()[1:]
    random.Random(1).shuffle(lines)  # noqa: S311 - no secret
    assert report_of(load(*lines))["amount_in_database"] == "1203.48"
    assert rows_of(session, without=free) == before


def test_stock_codes_that_differ_in_case_are_one_product(load, session):
    load(sale(StockCode="85099b"), sale(StockCode="85099B", InvoiceNo="536366"), sale(StockCode="85099b"))
    assert session.scalars(select(Product.sku)).all() == ["85099B"]


@pytest.mark.parametrize("batch", [1, 100])
@pytest.mark.parametrize("turn", [1, -1])
def test_a_product_gets_its_longest_real_description_and_highest_price(load, session, monkeypatch, turn, batch):
    monkeypatch.setattr(load_retail, "BATCH_LINES", batch)
    described = ["", "JAM  JAR", "?", "RED JAM JAR ", "sold to amazon as a set"][::turn]
    lines = [
        sale(InvoiceNo=str(536365 + number), Description=name, UnitPrice=f"{2 + len(name) / 10:.2f}")
        for number, name in enumerate(described)
    ]
    load(*lines)
    assert session.execute(select(Product.name, Product.price)).all() == [("RED JAM JAR", Decimal("4.30"))]


def test_a_product_that_nobody_described_is_called_by_its_stock_code(load, session):
    load(sale(Description=""), sale(Description="?"))
    assert session.scalar(select(Product.name)) == "85123A"


def test_a_product_of_the_shop_s_own_keeps_its_name_price_and_stock(load, session):
    ProductFactory(sku="85123a", name="Heart", price=Decimal("1.00"), stock_quantity=3)
    report_of(load(SALE))
    session.expire_all()
    product = session.scalars(select(Product)).one()
    assert (product.sku, product.name, product.price, product.stock_quantity) == ("85123a", "Heart", Decimal(1), 3)


def test_a_customer_gets_the_country_of_the_first_invoice(load, session):
    load(sale(Country="Cyprus"), sale(InvoiceNo="536366", Country="Austria"))
    assert session.scalars(select(User)).one().profile.country == "Cyprus"
    assert {order.metadata_["country"] for order in session.scalars(select(Order))} == {"Cyprus", "Austria"}


def test_a_line_that_contradicts_its_invoice_is_rejected(load, rejected):
    report = report_of(load(SALE, sale(CustomerID="12345"), sale(Country="France"), sale(Quantity="1")))
    assert (report["lines_in_orders"], report["amount_of_lines"]) == (2, "17.85")
    assert [(line["LineNo"], line["Reason"]) for line in rejected()] == [
        ("3", Reason.CONTRADICTION),
        ("4", Reason.CONTRADICTION),
    ]


def test_a_line_that_makes_an_invoice_too_large_to_store_is_rejected(load):
    report = report_of(load(SALE, sale(UnitPrice="99999990"), sale(UnitPrice="1", Quantity="2147483647")))
    assert (report["lines_in_orders"], report["rejected"]) == (1, {"invoice too large": 2})


def test_an_invoice_without_end_is_cut_off(load, monkeypatch):
    monkeypatch.setattr(stage, "LINES_MAX", 3)
    report = report_of(load(*[SALE] * 5))
    assert (report["lines_in_orders"], report["rejected"]) == (3, {"invoice too large": 2})


def test_an_invoice_that_was_loaded_with_other_lines_is_rejected_and_not_changed(load, session, rejected):
    load(SALE)
    before = rows_of(session)
    report = report_of(load(SALE, sale(StockCode="71053"), sale(InvoiceNo="536366", CustomerID="17850")))
    assert (report["orders_created"], report["rejected"]) == (1, {Reason.CHANGED: 2})
    assert [line["StockCode"] for line in rejected()] == ["85123A", "71053"]
    assert set(before["order_items"]) < set(rows_of(session)["order_items"])


def test_an_order_that_was_deleted_is_not_loaded_again(load, session):
    load(SALE)
    order = session.get(Order, order_key("536365"))
    OrderService(Order, session).delete(order)
    session.commit()
    report = report_of(load(SALE))
    assert (report["orders_created"], report["orders_already_there"], report["reconciled"]) == (0, 1, True)


def test_orders_of_others_are_left_out_of_the_sums(load):
    OrderFactory(total_amount=Decimal("500.00"))
    assert report_of(load(SALE))["amount_in_database"] == "15.30"


def test_past_orders_take_nothing_from_the_stock(load, session):
    load()
    assert session.scalar(select(func.sum(Product.stock_quantity))) == 0


@pytest.mark.parametrize("status", ["pending", "processing"])
def test_an_order_that_would_hold_stock_cannot_be_recorded_as_past(session, status):
    data = {"user_id": UserFactory().id, "status": status, "items": []}
    with pytest.raises(InvalidError):
        OrderService(Order, session).record(data)


def test_what_the_database_refuses_is_told_and_ends_the_load(load):
    UserFactory(email="customer-17850@retail.example")
    result = load(SALE)
    assert result.exit_code == 1
    assert "/email: This value is already taken." in result.output
    assert "run the command again" in result.output


def test_a_sum_that_does_not_agree_fails_the_command(load, monkeypatch):
    record = OrderService.record
    monkeypatch.setattr(OrderService, "record", lambda self, data: record(self, {**data, "items": data["items"][1:]}))
    result = load(SALE, sale(StockCode="71053"))
    assert result.exit_code == 1
    assert "do not agree" in result.output


def test_a_byte_order_mark_before_the_header_is_accepted(load, tmp_path):
    file = tmp_path / "marked.csv"
    file.write_bytes(b"\xef\xbb\xbf" + f"{HEADER}\n{SALE}\n".encode())
    assert report_of(load(file=file))["lines_in_orders"] == 1


def test_a_file_with_a_header_only_loads_nothing(load, tmp_path):
    file = tmp_path / "header.csv"
    file.write_text(HEADER)
    report = report_of(load(file=file))
    assert (report["lines_read"], report["reconciled"]) == (0, True)


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", SALE, HEADER.replace(",", ";")])
def test_a_file_with_another_header_is_refused_and_leaves_the_rejects_file_alone(load, tmp_path, content):
    file = tmp_path / "other.csv"
    file.write_text(content)
    (tmp_path / "rejects.csv").write_text("kept")
    result = load(file=file)
    assert result.exit_code == 2
    assert HEADER in result.output
    assert (tmp_path / "rejects.csv").read_text() == "kept"


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_path_that_is_no_file_is_refused(load, tmp_path, name):
    result = load(file=tmp_path / name)
    assert result.exit_code == 2
    assert "File" in result.output


def test_the_file_itself_cannot_take_the_rejects(database, tmp_path):
    file = tmp_path / "lines.csv"
    file.write_text(f"{HEADER}\n{SALE}\n")
    result = database.test_cli_runner().invoke(args=["load-retail", str(file), "--rejects", str(file)])
    assert result.exit_code == 2
    assert SALE in file.read_text()


def test_a_rejects_file_that_cannot_be_written_is_refused(database, tmp_path):
    rejects = str(tmp_path / "missing" / "rejects.csv")
    result = database.test_cli_runner().invoke(args=["load-retail", str(EXCERPT), "--rejects", rejects])
    assert result.exit_code == 2
    assert "cannot be written" in result.output


def test_rejects_go_to_the_current_directory_by_default(database, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = database.test_cli_runner().invoke(args=["load-retail", str(EXCERPT)])
    assert result.exit_code == 0
    assert (tmp_path / "online_retail_excerpt.rejects.csv").is_file()
    assert "online_retail_excerpt.rejects.csv" in result.output


def test_the_report_for_people_names_counts_reasons_and_amounts(load):
    output = load(arguments=()).stdout
    rows = {line[:50].strip(): line[50:].strip() for line in output.splitlines()}
    assert (rows["Lines read"], rows["in orders"], rows["rejected"], rows["not a product"]) == ("54", "41", "13", "8")
    assert rows["Amount of the lines in orders"] == rows["of these orders in the database"] == "1203.48"


def test_no_bar_is_drawn_where_there_is_no_terminal(load):
    assert load().stderr == ""
