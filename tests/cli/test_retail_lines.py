"""One line of the shop's file: what it says, or why it is of no use."""

from __future__ import annotations

import io
from decimal import Decimal

import pytest

from api.cli._retail.lines import BYTES_MAX, Reason, Rejects, UnusableLineError, parse, physical_lines
from api.cli._retail.stage import Stage
from tests.cli.retail_lines import SALE, sale


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (sale(CustomerID=""), Reason.NO_CUSTOMER),
        (sale(CustomerID="Ada"), Reason.CUSTOMER),
        (sale(InvoiceNo="C536365", Quantity="-6"), Reason.CANCELLATION),
        (sale(InvoiceNo=""), Reason.INVOICE),
        (sale(InvoiceNo="total"), Reason.INVOICE),
        (sale(Quantity="-6"), Reason.NEGATIVE),
        (sale(Quantity="0"), Reason.NEGATIVE),
        (sale(Quantity="6.5"), Reason.QUANTITY),
        (sale(Quantity="٣"), Reason.QUANTITY),
        (sale(Quantity="1_000"), Reason.QUANTITY),
        (sale(Quantity="2147483648"), Reason.QUANTITY),
        (sale(UnitPrice="0"), Reason.FREE),
        (sale(UnitPrice="-11062.06"), Reason.FREE),
        (sale(UnitPrice="0.001"), Reason.FRACTION),
        (sale(UnitPrice="NaN"), Reason.PRICE),
        (sale(UnitPrice="1e3"), Reason.PRICE),
        (sale(UnitPrice="100000000"), Reason.PRICE),
        (sale(InvoiceDate="12/1/2010 8:26"), Reason.DATE),
        (sale(InvoiceDate="2010-02-30 08:26:00"), Reason.DATE),
        (sale(Country=""), Reason.COUNTRY),
        (sale(Country="x" * 61), Reason.COUNTRY),
        *[(sale(StockCode=code), Reason.NO_PRODUCT) for code in ("POST", "BANK CHARGES", "D", "M", "C2", "DOT", "")],
        (SALE + ",more", Reason.COLUMNS),
        (SALE.rpartition(",")[0], Reason.COLUMNS),
        ("", Reason.COLUMNS),
        (SALE.replace("WHITE", '"WHITE'), Reason.QUOTING),
        (SALE.replace("WHITE", "WH\rITE"), Reason.QUOTING),
        (SALE.replace("WHITE", "WH\x00ITE"), Reason.NUL),
        (SALE.replace("WHITE", "W" * BYTES_MAX)[:BYTES_MAX], Reason.LONG),
    ],
)
def test_a_line_that_is_no_sale_is_refused_with_the_reason(raw, reason):
    with pytest.raises(UnusableLineError) as refused:
        parse(2, raw.encode())
    assert refused.value.reason is reason


def test_a_line_that_is_not_utf_8_is_refused():
    with pytest.raises(UnusableLineError) as refused:
        parse(2, SALE.encode().replace(b"WHITE", b"CAF\xc9"))
    assert refused.value.reason is Reason.ENCODING


def test_blanks_around_values_and_zeros_behind_a_price_do_not_matter():
    line = parse(2, sale(StockCode=" 85123a ", UnitPrice="2.5500", Quantity=" 6").encode())
    assert (line.sku, line.price, line.quantity, line.amount) == ("85123A", Decimal("2.55"), 6, Decimal("15.30"))


def test_a_line_without_end_is_never_read_as_a_whole():
    file = io.BytesIO(b"x" * (3 * BYTES_MAX) + b"\r\nnext\r\n" + b"y" * (BYTES_MAX + 5))
    assert [(line[:4], len(line)) for line in physical_lines(file)] == [
        (b"xxxx", BYTES_MAX),
        (b"next", 6),
        (b"yyyy", BYTES_MAX),
    ]


def test_lines_wait_on_disk_and_come_back_by_invoice(tmp_path):
    with (tmp_path / "rejects.csv").open("w", newline="") as output, Stage() as lines:
        for number, invoice in enumerate(["3", "1", "2", "1"]):
            lines.add(parse(number, sale(InvoiceNo=invoice).encode()))
        invoices = [(item.number, [line.number for line in item.lines]) for item in lines.invoices(Rejects(output))]
    assert invoices == [("1", [1, 3]), ("2", [2]), ("3", [0])]
