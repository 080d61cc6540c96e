"""What tests of the HTTP layer share."""

from __future__ import annotations

import logging

import pytest
import structlog

from api.app import API_PREFIX
from api.extensions import db
from tests.apps import create_app
from tests.core.query.conftest import resources as resources


@pytest.fixture(autouse=True)
def logging_as_before():
    """An application configures the logs of the whole process; other tests get theirs back."""
    root, configuration = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.configure(**configuration)


@pytest.fixture
def client_of(settings):
    """`client_of(blueprint)`: a client of an application that has this resource, too."""

    def make(blueprint):
        app = create_app(settings)
        app.extensions["flask-smorest"]["apis"][""]["ext_obj"].register_blueprint(
            blueprint, url_prefix=f"{API_PREFIX}{blueprint.url_prefix}"
        )
        return app.test_client()

    yield make
    db.shutdown()
