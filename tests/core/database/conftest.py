"""What the tests of the database layer share."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pytest
from sqlalchemy import create_engine

from api.core.database.engine import engine_options


@pytest.fixture
def engine_with(settings):
    """`engine_with(pool_size=1)`: an engine of its own on the test database, with these settings."""
    with ExitStack() as cleanup:

        def make(**changes):
            changed = replace(settings, **changes)
            engine = create_engine(changed.database_url, **engine_options(changed))
            cleanup.callback(engine.dispose)
            return engine

        yield make
