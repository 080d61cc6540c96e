"""Connections whose writes vanish, for tests that make many examples of rows."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.orm import Session

from api.core.database.session import STRICT_LOADING
from api.core.http.blueprint import ResourceBlueprint
from api.core.query.read import Reader
from api.extensions import db
from tests.core.query.things import Base, things

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from flask import Flask


@pytest.fixture(scope="session")
def resources(app: Flask) -> dict[str, ResourceBlueprint]:
    """Every registered resource by its name."""
    return {item.name: item for item in app.blueprints.values() if isinstance(item, ResourceBlueprint)}


@pytest.fixture(scope="session")
def scratch(app: Flask) -> Callable[[], AbstractContextManager[Session]]:
    """`with scratch() as session:` a session of the owner on an empty database; what it writes is rolled back."""

    @contextmanager
    def begin() -> Iterator[Session]:
        with app.app_context(), db.owner_engine.connect() as connection:
            session = Session(connection, info={STRICT_LOADING: True}, expire_on_commit=False)
            try:
                yield session
            finally:
                session.close()
                connection.rollback()

    return begin


@pytest.fixture(scope="session")
def thing_reader(app: Flask) -> Reader:
    """Reads things."""
    del app
    return Reader(things())


@pytest.fixture(scope="module")
def thing_scratch(app: Flask) -> Iterator[Callable[[], AbstractContextManager[Session]]]:
    """`with thing_scratch() as session:` a session on empty tables of things; what it writes is rolled back."""
    with app.app_context():
        connection = db.owner_engine.connect()
    Base.metadata.create_all(connection)
    connection.commit()

    @contextmanager
    def begin() -> Iterator[Session]:
        session = Session(connection, info={STRICT_LOADING: True}, expire_on_commit=False)
        try:
            yield session
        finally:
            session.close()
            connection.rollback()

    yield begin
    Base.metadata.drop_all(connection)
    connection.commit()
    connection.close()
