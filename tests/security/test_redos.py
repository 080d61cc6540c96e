"""Regular expressions take linear time, whatever a client sends (ReDoS).

The patterns are found by walking the modules, the schemas and the URL map: a new one is tried by itself. The texts are
made of the characters of each pattern, repeated, with an end that does not match.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from itertools import product
from pathlib import Path
from time import perf_counter, thread_time

import pytest
from marshmallow import fields as ma_fields
from marshmallow import validate
from sqlalchemy import text

import api
from api.app import create_app
from api.config import Settings
from api.core.database.json_schema import JSONSchema
from api.core.database.model import Base
from api.core.database.validation import validators_of
from api.core.http.schema import BaseSchema
from tests.factories import ProductFactory

SMALL, LARGE = 4_000, 16_000
UNSUSPICIOUS = 0.02
"""Seconds for a text of `LARGE` characters that nobody has to look at."""


def modules():
    for found in pkgutil.walk_packages(api.__path__, "api."):
        if found.name != "api.wsgi":
            yield importlib.import_module(found.name)


def patterns():
    """Every pattern that is compiled in our code, or that a schema, a column or a URL holds, by where it is."""
    found = {(pattern.pattern, pattern.flags): place for place, pattern in (*in_modules(), *in_rules(), *in_urls())}
    return {place: re.compile(*pattern) for pattern, place in found.items()}


def in_modules():
    for module in modules():
        for holder in (module, *(value for value in vars(module).values() if isinstance(value, type))):
            for name, value in vars(holder).items():
                if isinstance(value, re.Pattern):
                    yield f"{holder.__name__}.{name}", value


def in_rules():
    for schema in subclasses(BaseSchema):
        for name, field in schema._declared_fields.items():
            for rule in rules_of(field):
                yield from ((f"{schema.__name__}.{name}", pattern) for pattern in of_validator(rule))
    for table in Base.metadata.tables.values():
        for column in table.columns:
            for rule in validators_of(column):
                yield from ((str(column), pattern) for pattern in of_validator(rule))


def in_urls():
    app = create_app(Settings(app_env="test", database_url="postgresql+psycopg2://nobody@127.0.0.1:1/nothing"))
    for rule in app.url_map.iter_rules():
        for name, converter in rule._converters.items():
            yield f"{rule.rule} {name}", re.compile(converter.regex)


def subclasses(base):
    for found in base.__subclasses__():
        yield found
        yield from subclasses(found)


def rules_of(field):
    inner = rules_of(field.inner) if isinstance(field, ma_fields.List) else []
    return [*field.validators, *inner]


def of_validator(rule):
    if isinstance(rule, validate.Regexp):
        yield rule.regex
    if isinstance(rule, validate.Email):
        yield from (rule.USER_REGEX, rule.DOMAIN_REGEX)
    if isinstance(rule, validate.URL):
        yield rule._regex(rule.relative, rule.absolute, rule.require_tld)
    if isinstance(rule, JSONSchema):
        yield from (re.compile(found) for found in schema_patterns(rule.schema))
    yield from (value for value in vars(rule).values() if isinstance(value, re.Pattern))


def schema_patterns(schema):
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        yield from (found for inner in schema.values() for found in schema_patterns(inner))
    elif isinstance(schema, list):
        yield from (found for inner in schema for found in schema_patterns(inner))


PATTERNS = patterns()
SOURCES = [path.read_text() for path in Path(api.__path__[0]).rglob("*.py")]


def alphabet(pattern):
    """Characters that mean something to the pattern, at most a dozen, and one that does not."""
    source = pattern.pattern.decode("latin-1") if isinstance(pattern.pattern, bytes) else pattern.pattern
    special = set(".\\[{()*+?^$|") - set(".+")
    literal = [character for character in dict.fromkeys(source) if character not in special]
    return [*literal[:9], "a", "0", " ", '"', ","]


def attacks(pattern, size):
    """Texts of `size` characters: one or two characters again and again, behind a beginning and before a wrong end."""
    characters = alphabet(pattern)
    for one, other in product(characters, repeat=2):
        unit = one if one == other else one + other
        for begin, end in (("", "\x00"), ("", ""), (one, "!\n")):
            yield begin + unit * (size // len(unit)) + end


def seconds(pattern, value, method):
    given = value.encode("latin-1", "replace") if isinstance(pattern.pattern, bytes) else value
    # This thread's own time, whatever else the machine does.
    started = thread_time()
    getattr(pattern, method)(given)
    return thread_time() - started


def test_the_patterns_are_found():
    assert len(PATTERNS) > 30
    assert any("body" in place or "conditional" in place for place in PATTERNS)
    assert any("email" in place for place in PATTERNS)


def methods(place):
    """How our code uses the pattern: one that is meant for whole texts would be slow in a search."""
    name = place.rpartition(".")[2]
    used = {found[1] for source in SOURCES for found in re.finditer(rf"\b{re.escape(name)}\.([a-z]+)\(", source)}
    return {"search" if method not in {"match", "fullmatch"} else method for method in used} or {"match"}


@pytest.mark.parametrize("place", PATTERNS)
def test_a_pattern_takes_linear_time(place):
    pattern, used = PATTERNS[place], methods(place)
    for small, large in zip(attacks(pattern, SMALL), attacks(pattern, LARGE), strict=True):
        for method in used:
            if seconds(pattern, large, method) > UNSUSPICIOUS:
                # Linear is 4, quadratic 16.
                least = [min(seconds(pattern, text, method) for _ in range(3)) for text in (large, small)]
                ratio = least[0] / least[1]
                assert ratio < 10, (method, small[:20])


# -- in the database


@pytest.mark.parametrize("operator", ["like", "ilike", "icontains", "startswith"])
@pytest.mark.parametrize("unit", ["%", "%a", "%a_", "_%", "\\%%"])
def test_a_pattern_of_many_wildcards_is_no_load(client, operator, unit):
    ProductFactory(name="a" * 200, description="a" * 10_000)

    def elapsed(number):
        started = perf_counter()
        wildcards = unit * number + "b"
        response = client.get("/api/v1/products", query_string={f"description__{operator}": wildcards, "fields": "id"})
        assert response.status_code in {200, 400}
        return perf_counter() - started

    elapsed(1)
    assert elapsed(1_000) < 1


def test_like_in_postgresql_is_no_worse_than_linear_in_text_and_pattern(session):
    def elapsed(size):
        started = perf_counter()
        query = text("SELECT repeat('a', :size) LIKE repeat('%a', 1000) || 'b'")
        assert session.scalar(query, {"size": size}) is False
        return perf_counter() - started

    elapsed(1_000)
    assert elapsed(400_000) < 12 * max(elapsed(100_000), 0.005)
