"""What tests of the HTTP layer share."""

from __future__ import annotations

import logging

import pytest
import structlog

from tests.core.query.conftest import resources as resources


@pytest.fixture(autouse=True)
def logging_as_before():
    """An application configures the logs of the whole process; other tests get theirs back."""
    root, configuration = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.configure(**configuration)
