"""The one place that knows Flask-SQLAlchemy: engines per application, sessions per request, clean disposal."""

from __future__ import annotations

import atexit
import logging
import os
import warnings
import weakref
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flask import current_app
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.session import Session as FlaskSession
from sqlalchemy import create_engine, event
from sqlalchemy.orm import Session as SQLAlchemySession

# Imported for their tables and listeners: what models declare comes to life with the models.
import api.core.database.access
import api.core.database.attempts
import api.core.database.history
import api.core.database.idempotency
import api.core.database.indexes
import api.core.database.outbox
import api.core.database.soft_delete
import api.core.database.triggers
import api.core.database.validation  # noqa: F401
from api.core.database.engine import engine_options, patience, spare_next_ping, spare_pings
from api.core.database.mixins import INCLUDE_DELETED, SoftDeleteMixin
from api.core.database.model import Base
from api.core.database.reading import ReadConnection
from api.core.database.retry import ATTEMPTS, retried
from api.core.database.roles import Roles
from api.core.database.session import Isolation, in_transaction, on_commit, transaction, translated_failures
from api.core.database.watchdog import ENDLESS, PATIENCE, Patience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask
    from sqlalchemy import Connection, Engine
    from sqlalchemy.orm import Query, Session, scoped_session

    from api.config import Settings
    from api.core.database.connection import AttributedConnection


R = TypeVar("R")

_logger = logging.getLogger(__name__)

_ATTEMPTS = "DB_TRANSACTION_ATTEMPTS"


class _Session(FlaskSession):
    """Hides deleted rows also where the identity map answers and no query runs: `get()` and many-to-one loads.

    With `database`, everything goes to the database of this name, whichever the model's own is.
    """

    def __init__(self, db: SQLAlchemy, *, database: str | None = None, **options: Any) -> None:
        super().__init__(db, **options)
        self._database = database

    def get_bind(
        self,
        mapper: Any | None = None,
        clause: Any | None = None,
        bind: Engine | Connection | None = None,
        **kwargs: Any,
    ) -> Engine | Connection:
        """The engine of the named database, or what Flask-SQLAlchemy takes."""
        if bind is None and self._database is not None:
            return self._db.engines[self._database]
        return super().get_bind(mapper, clause, bind, **kwargs)

    def _identity_lookup(self, *args: Any, **kwargs: Any) -> Any:
        # SQLAlchemy's hook for subclasses, as its own sharded session uses it.
        found = super()._identity_lookup(*args, **kwargs)
        hidden = isinstance(found, SoftDeleteMixin) and found.is_deleted
        return None if hidden and not kwargs.get("execution_options", {}).get(INCLUDE_DELETED) else found


class Database(SQLAlchemy):
    """One pool per database and process; a session per database and application context; reads in autocommit.

    `db.session`, `db.Model`, `db.select` and `db.engine` are Flask-SQLAlchemy's.
    """

    def __init__(self) -> None:
        super().__init__(model_class=Base, session_options={"expire_on_commit": False, "class_": _Session})
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        self._named_sessions: dict[str, scoped_session[Any]] = {}
        self._owner_engines: weakref.WeakKeyDictionary[Flask, Engine] = weakref.WeakKeyDictionary()
        self._roles: weakref.WeakKeyDictionary[Flask, Roles] = weakref.WeakKeyDictionary()
        # A forked worker must never share a socket with its parent; its own pool starts empty.
        os.register_at_fork(after_in_child=self._forget_connections)
        atexit.register(self.shutdown)

    def init_app(self, app: Flask, settings: Settings | None = None) -> None:
        """Create the engines of `app`. With `settings`, its pool and timeouts; else what `app.config` says."""
        if settings is not None:
            app.config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
            app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options(settings)
            app.config["SQLALCHEMY_BINDS"] = {
                name: {"url": url, **engine_options(settings)} for name, url in settings.databases.items()
            }
            app.config[_ATTEMPTS] = settings.transaction_attempts
            self._set_owner(app, settings)
            _limit_waiting(app, patience(settings))
        super().init_app(app)
        if settings is not None and settings.is_production:
            with app.app_context():
                _warn_of_owner(self.engine)
        self._apps.add(app)

    def _set_owner(self, app: Flask, settings: Settings) -> None:
        url = settings.migration_url
        self._roles[app] = Roles(settings.api_db_user, settings.reader_db_user)
        if url and url != settings.database_url:
            # It connects when it is used, which is seldom.
            self._owner_engines[app] = create_engine(url, **{**engine_options(settings), "pool_size": 1})

    @property
    def owner_engine(self) -> Engine:
        """The engine of the role that owns the tables, for what changes them; the API's own where it is this role."""
        return self._owner_engines.get(_current_app(), self.engine)

    @property
    def roles(self) -> Roles:
        """The names of the roles beside the one that owns the tables."""
        return self._roles.get(_current_app(), Roles())

    @contextmanager
    def owner_transaction(self) -> Iterator[Session]:
        """A transaction of the role that owns the tables, in a session of its own."""
        with SQLAlchemySession(self.owner_engine, expire_on_commit=False) as session, transaction(session):
            yield session

    def _make_engine(self, bind_key: str | None, options: dict[str, Any], app: Flask) -> Engine:
        # Flask-SQLAlchemy takes options for text out of a file, and cuts `pool_timeout` down to whole seconds.
        del bind_key, app
        return spare_pings(create_engine(options.pop("url"), **options))

    def session_for(self, bind: str | None = None) -> Session:
        """The session of this application context; with `bind`, its session with the database of that name.

        Raises:
            LookupError: when there is no such database.
        """
        if bind is None:
            return self.session()
        self._engine_for(bind)
        if bind not in self._named_sessions:
            options = {"expire_on_commit": False, "class_": _Session, "database": bind}
            self._named_sessions.setdefault(bind, self._make_scoped_session(options))
        session: Session = self._named_sessions[bind]()
        return session

    def transaction(
        self, bind: str | None = None, *, isolation: Isolation | None = None
    ) -> AbstractContextManager[Session]:
        """`core.database.session.transaction` over `session_for(bind)`."""
        return transaction(self.session_for(bind), isolation=isolation)

    @property
    def attempts(self) -> int:
        """How often a transaction is tried that loses against another one."""
        attempts: int = current_app.config.get(_ATTEMPTS, ATTEMPTS)
        return attempts

    def retrying(
        self, function: Callable[[Session], R], bind: str | None = None, *, isolation: Isolation | None = None
    ) -> R:
        """The result of `function(session)`, run in a transaction, and again in a new one when it loses a conflict.

        Inside another transaction it is a savepoint and not run again: all that the other one has seen may be outdated.

        Raises:
            TransactionConflictError: when the last attempt has lost, too.
        """

        def attempt() -> R:
            with self.transaction(bind, isolation=isolation) as session:
                return function(session)

        return attempt() if in_transaction(self.session_for(bind)) else retried(attempt, attempts=self.attempts)

    def on_commit(self, function: Callable[[], object], bind: str | None = None) -> None:
        """`core.database.session.on_commit` over `session_for(bind)`."""
        on_commit(self.session_for(bind), function)

    @contextmanager
    def read_connection(self, bind: str | None = None) -> Iterator[Connection]:
        """A pooled connection in autocommit: a read is one round trip, with no BEGIN and no ROLLBACK around it."""
        # What is sent in autocommit cannot be undone and sent again.
        spare_next_ping(spare=False)
        with translated_failures(), self._engine_for(bind).connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def reading(self, bind: str | None = None) -> AbstractContextManager[ReadConnection | Connection]:
        """A connection as `read_connection` gives it, for statements that are ready for the driver, and faster."""
        engine = self._engine_for(bind)
        # Past SQLAlchemy's layers, its echo would not tell of them.
        return self.read_connection(bind) if engine.echo else ReadConnection(engine)

    def query(self, *entities: Any) -> Query[Any]:
        """Build a query over the session: `db.query(Order).join(User).filter(User.is_active).all()`."""
        query: Query[Any] = self.session.query(*entities)
        return query

    def create_all(self, bind_key: str | list[str | None] | None = "__all__") -> None:
        """Make the tables that are missing, as a quick start; where there are migrations, these should make them."""
        if _has_migrations(current_app):
            message = (
                "create_all() makes tables that migrations do not know of. Run `flask db upgrade` instead, "
                "or afterwards `flask db stamp head`."
            )
            warnings.warn(message, stacklevel=2)
        if bind_key == "__all__":
            # Another application in this process may have databases of other names.
            bind_key = [name for name in self.metadatas if name in self.engines]
        for name in bind_key if isinstance(bind_key, list) else [bind_key]:
            self.metadatas[name].create_all(self.owner_engine if name is None else self._engine_for(name))

    def shutdown(self) -> None:
        """Close every pooled connection of this process; the next use opens new ones."""
        self._dispose(close=True)

    def _engine_for(self, bind: str | None) -> Engine:
        engines = self.engines
        if bind not in engines:
            names = ", ".join(sorted(filter(None, engines))) or "none"
            message = f"There is no database {bind!r}; named ones: {names}. DATABASE_URL_{str(bind).upper()} makes one."
            raise LookupError(message)
        return engines[bind]

    def _teardown_session(self, exc: BaseException | None) -> None:
        # Flask-SQLAlchemy calls it when an application context ends.
        # Most requests read, and have no session.
        if self.session.registry.registry:
            super()._teardown_session(exc)
        for session in [*self._named_sessions.values()]:
            session.remove()

    def _forget_connections(self) -> None:
        self._dispose(close=False)

    def _dispose(self, *, close: bool) -> None:
        for app in list(self._apps):
            for engine in [*self._app_engines.get(app, {}).values(), *filter(None, [self._owner_engines.get(app)])]:
                engine.dispose(close=close)


def _warn_of_owner(engine: Engine) -> None:
    """Tell once where requests are served as the role that owns the tables, which the second wall lets through."""

    @event.listens_for(engine, "connect", once=True)
    def _warn(connection: AttributedConnection, _record: object) -> None:
        if connection.is_owner:
            _logger.warning(
                "DATABASE_URL names a role that owns the tables: nothing in the database keeps it from any row or from "
                "changing the schema. `flask database provision` makes one that owns nothing."
            )


def _current_app() -> Flask:
    """The application itself and not the proxy, of which there is one for all."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - Flask's way to ask for it
    return app


def _limit_waiting(app: Flask, patience: Patience) -> None:
    """Let a request wait for the database no longer than that."""

    @app.before_request
    def begin() -> None:
        PATIENCE.set(patience)

    @app.teardown_request
    def end(_error: BaseException | None) -> None:
        PATIENCE.set(ENDLESS)


def _has_migrations(app: Flask) -> bool:
    migrate = app.extensions.get("migrate")
    # Relative to the project, not to wherever the process was started.
    return migrate is not None and any((Path(app.root_path).parent / migrate.directory / "versions").glob("*.py"))
