"""Every operation of the OpenAPI document, with generated requests: no 5xx, no answer that the document does not know.

`make test` takes a few examples an operation, `make fuzz` many (`FUZZ_EXAMPLES`). Admins, managers, customers and
nobody in particular send them in turns.
"""

from __future__ import annotations

import os
from itertools import cycle

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.config import Settings
from api.core.access.caller import Caller
from api.core.http.authentication import AUTHENTICATORS, Identity
from tests.apps import create_app
from tests.callers import ADMIN
from tests.factories import OrderFactory, OrderItemFactory, ProductFactory, ProfileFactory, TagFactory

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "5"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MANAGER = Caller("user:1000002", 1_000_002, frozenset({"manager"}))
METHODS = ("get", "post", "put", "patch", "delete")


def operations():
    """Method and path of every operation, with right input and, where it takes any, with wrong; needs no database."""
    offline = create_app(Settings(app_env="test", database_url="postgresql+psycopg2://nobody@127.0.0.1:1/nothing"))
    paths = offline.test_client().get("/openapi.json").json["paths"]
    for path, item in paths.items():
        for method in METHODS:
            if method in item:
                yield pytest.param(method, path, GenerationMode.POSITIVE, id=f"{method} {path} right")
            if method in item and (item.get("parameters") or item[method].get("parameters") or "{" in path):
                yield pytest.param(method, path, GenerationMode.NEGATIVE, id=f"{method} {path} wrong")


@pytest.fixture(scope="module")
def read(app):
    """The document, read once: what may be sent is worked out from it, and from the source, as a whole."""
    return schemathesis.openapi.from_wsgi("/openapi.json", app)


@pytest.fixture
def document(database, read):
    """The document of an application whose tables hold a few rows, and whose callers take turns."""
    profile = ProfileFactory()
    product = ProductFactory(tags=[TagFactory()])
    OrderFactory(user=profile.user, items=[OrderItemFactory.build(product=product)])
    customer = Caller(f"user:{profile.user_id}", profile.user_id)
    turns = cycle([ADMIN, None, ADMIN, customer, ADMIN, MANAGER])

    def take_turns(_request):
        caller = next(turns)
        return None if caller is None else Identity(caller)

    # In the place of that which knows the callers of tests; tokens and keys are looked at as ever.
    authenticators = database.extensions[AUTHENTICATORS]
    of_tests, authenticators[0] = authenticators[0], take_turns
    yield read
    authenticators[0] = of_tests


@pytest.mark.parametrize(("method", "path", "mode"), [*operations()])
def test_every_answer_is_in_the_document(document, method, path, mode):
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=document[path][method].as_strategy(generation_mode=mode))
    def exchange(case):
        checks = CHECKS if mode is GenerationMode.POSITIVE else [*CHECKS, negative_data_rejection]
        case.call_and_validate(checks=checks)

    exchange()
