"""Integer keys in URLs."""

from werkzeug.routing import IntegerConverter

LARGEST_KEY = 10**18 - 1


class KeyConverter(IntegerConverter):
    """A positive integer that fits a `bigint`; anything else is no key, so there is nothing at that URL.

    The bound is in the pattern, because werkzeug answers 405, not 404, where a converter refuses a match afterwards.
    """

    regex = r"[1-9][0-9]{0,17}"


def key_schema(_converter: KeyConverter) -> dict[str, object]:
    """The key in JSON Schema."""
    return {"type": "integer", "minimum": 1, "maximum": LARGEST_KEY}
