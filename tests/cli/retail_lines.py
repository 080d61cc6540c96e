"""Lines of the shop's file, good but for what a test is about."""

from __future__ import annotations

import csv
import io

from api.cli._retail.lines import COLUMNS

HEADER = ",".join(COLUMNS)
SALE = "536365,85123A,WHITE HEART,6,2010-12-01 08:26:00,2.55,17850,United Kingdom"


def sale(**changes: str) -> str:
    """A good line with some columns changed."""
    columns = dict(zip(COLUMNS, SALE.split(","), strict=True)) | changes
    output = io.StringIO()
    csv.writer(output, lineterminator="").writerow(columns.values())
    return output.getvalue()
