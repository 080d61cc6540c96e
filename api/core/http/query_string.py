"""The query string as pairs, in their order, or a 400 that says what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from api.core.errors import MalformedRequestError

if TYPE_CHECKING:
    from flask import Request

PAIRS_MAX = 100


def pairs_of(request: Request) -> list[tuple[str, str]]:
    """The decoded parameters.

    Raises:
        MalformedRequestError: for bytes that are no UTF-8, or too many parameters.
    """
    return parsed_pairs(request.query_string)


def parsed_pairs(query_string: bytes) -> list[tuple[str, str]]:
    """`pairs_of` a request with this query string."""
    if not query_string:
        return []
    try:
        return parse_qsl(
            query_string.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=PAIRS_MAX,
        )
    except UnicodeError as error:
        detail = "The query string is not percent-encoded UTF-8."
        raise MalformedRequestError(detail) from error
    except ValueError as error:
        detail = f"The query string holds more than {PAIRS_MAX} parameters."
        raise MalformedRequestError(detail) from error
