"""From the bytes of one line to what it says, or to the reason why it is of no use.

One line is one record: a line break inside quotes is not accepted, so that a stray quote spoils its own line only.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS: Final = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
# Of one line; a file without line breaks must not end up in memory.
BYTES_MAX: Final = 65_536
QUANTITY_MAX: Final = 2_147_483_647
# The largest price, and the largest total of an order, that the database stores.
AMOUNT_MAX: Final = Decimal("99999999.99")
COUNTRY_LENGTH_MAX: Final = 60

_INVOICE: Final = re.compile(r"[A-Z]?\d{1,20}", re.ASCII | re.IGNORECASE)
# Postage, fees, discounts and corrections have codes such as POST, D or C2; a product's holds four digits in a row.
_PRODUCT: Final = re.compile(r"(?=.*\d{4})[\w .-]{1,64}", re.ASCII)
_QUANTITY: Final = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_PRICE: Final = re.compile(r"[+-]?\d{1,18}(\.\d{1,18})?", re.ASCII)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
_CUSTOMER: Final = re.compile(r"\d{1,20}", re.ASCII)


class Reason(StrEnum):
    """Why a line is in no order."""

    LONG = "line too long"
    ENCODING = "not UTF-8"
    NUL = "NUL character"
    QUOTING = "wrong quoting"
    COLUMNS = "wrong number of columns"
    INVOICE = "bad invoice number"
    QUANTITY = "bad quantity"
    PRICE = "bad price"
    DATE = "bad date"
    CANCELLATION = "cancellation"
    NO_CUSTOMER = "no customer"
    CUSTOMER = "bad customer number"
    COUNTRY = "bad country"
    NO_PRODUCT = "not a product"
    NEGATIVE = "quantity not positive"
    FREE = "price not positive"
    FRACTION = "price in fractions of a penny"
    CONTRADICTION = "another customer or country than its invoice"
    LARGE = "invoice too large"
    CHANGED = "invoice already loaded with other lines"


class UnusableLineError(ValueError):
    """A line that cannot be part of an order."""

    def __init__(self, reason: Reason) -> None:
        """Carry the `reason` why."""
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Line:
    """So many of a product on an invoice. `price` is for one, in pounds; `date`, which has no zone there, is in UTC."""

    number: int
    raw: bytes
    invoice: str
    sku: str
    description: str
    quantity: int
    date: datetime
    price: Decimal
    customer: str
    country: str

    @property
    def amount(self) -> Decimal:
        """What the line adds to the order's total."""
        return self.price * self.quantity


def physical_lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of `file`; of one that is longer than `BYTES_MAX` only the beginning, at that length."""
    while line := file.readline(BYTES_MAX):
        yield line
        while len(line) == BYTES_MAX and not line.endswith(b"\n"):
            line = file.readline(BYTES_MAX)


def parse(number: int, raw: bytes) -> Line:
    """Read line `number` of the file; of several reasons against it the first in the order below counts.

    Raises:
        UnusableLineError: saying why the line cannot be part of an order.
    """
    invoice, code, description, quantity, date, price, customer, country = (text.strip() for text in split(raw))
    _require(_INVOICE.fullmatch(invoice), Reason.INVOICE)
    count = _quantity(quantity)
    pounds = _price(price)
    made_at = _date(date)
    _require(not invoice.upper().startswith("C"), Reason.CANCELLATION)
    _require(customer, Reason.NO_CUSTOMER)
    _require(_CUSTOMER.fullmatch(customer), Reason.CUSTOMER)
    _require(0 < len(country) <= COUNTRY_LENGTH_MAX, Reason.COUNTRY)
    _require(_PRODUCT.fullmatch(code), Reason.NO_PRODUCT)
    _require(count > 0, Reason.NEGATIVE)
    _require(pounds > 0, Reason.FREE)
    cents = pounds.quantize(Decimal("0.01"))
    _require(cents == pounds, Reason.FRACTION)
    return Line(number, raw, invoice.upper(), code.upper(), description, count, made_at, cents, customer, country)


def split(raw: bytes) -> list[str]:
    """The columns of a line as they stand there.

    Raises:
        UnusableLineError: for a line that is not `COLUMNS` in CSV and UTF-8.
    """
    _require(len(raw) < BYTES_MAX, Reason.LONG)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise UnusableLineError(Reason.ENCODING) from error
    _require("\x00" not in text, Reason.NUL)
    try:
        columns = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise UnusableLineError(Reason.QUOTING) from error
    _require(len(columns) == len(COLUMNS), Reason.COLUMNS)
    return columns


def _require(condition: object, reason: Reason) -> None:
    if not condition:
        raise UnusableLineError(reason)


def _quantity(text: str) -> int:
    _require(_QUANTITY.fullmatch(text), Reason.QUANTITY)
    value = int(text)
    _require(value <= QUANTITY_MAX, Reason.QUANTITY)
    return value


def _price(text: str) -> Decimal:
    _require(_PRICE.fullmatch(text), Reason.PRICE)
    value = Decimal(text)
    _require(value <= AMOUNT_MAX, Reason.PRICE)
    return value


def _date(text: str) -> datetime:
    _require(_DATE.fullmatch(text), Reason.DATE)
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise UnusableLineError(Reason.DATE) from error


class Rejects:
    """The file of rejected lines: line number, reason, and the columns as they stood in the source.

    A line that is not these columns stands whole in the first of them. Bytes that are not UTF-8 are written in
    hexadecimal, and so are NUL characters.
    """

    def __init__(self, file: IO[str]) -> None:
        """Write the header to `file`, which was opened with `newline=""`."""
        self.counts: Counter[Reason] = Counter()
        self._writer = csv.writer(file)
        self._writer.writerow(("LineNo", "Reason", *COLUMNS))

    def add(self, number: int, raw: bytes, reason: Reason) -> None:
        """Write a line and count it."""
        self.counts[reason] += 1
        self._writer.writerow((number, reason.value, *_printable_columns(raw)))


def _printable_columns(raw: bytes) -> list[str]:
    text = raw.decode(errors="backslashreplace").replace("\x00", "\\x00")
    try:
        return split(text.encode())
    except UnusableLineError:
        return [text.rstrip("\r\n"), *[""] * (len(COLUMNS) - 1)]
