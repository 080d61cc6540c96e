"""The application factory."""

from __future__ import annotations

import atexit
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy.exc import OperationalError
from werkzeug.middleware.proxy_fix import ProxyFix

from api import cli, registry
from api.config import ConfigurationError, Settings, checked_database_url
from api.core.access.passwords import PASSWORDS, Cost
from api.core.access.predicates import anyone, in_person, role
from api.core.access.tokens import TokenCodec, derived_keys
from api.core.database.embedded import EmbeddedPostgres, EmbeddedPostgresError
from api.core.database.roles import Roles, provision_own, url_as
from api.core.http import (
    allowed_hosts,
    authentication,
    documentation,
    error_handlers,
    health,
    metrics,
    rate_limits,
    request_log,
)
from api.core.http.application import Application
from api.core.http.bearer import TOKENS
from api.core.http.blueprint import LIMITS
from api.core.http.cross_origin import CrossOrigin, Policy
from api.core.http.fields import JSON_DEPTH
from api.core.http.idempotency import IDEMPOTENCY_TTL
from api.core.http.names import ANY
from api.core.http.openapi import create_api
from api.core.http.permissions import check_routes
from api.core.http.security_headers import SecurityHeaders
from api.core.http.views import CURSORS, TRANSFER_LIMITS
from api.core.query.allowlist import Limits
from api.core.query.cost import limit_cost
from api.core.query.cursor import CursorCodec
from api.core.rates.memory import MemoryRates
from api.core.rates.quota import Quota
from api.core.rates.shared import SharedRates
from api.core.resource.transfer.formats import TransferLimits
from api.extensions import Migrations, db

if TYPE_CHECKING:
    from flask import Flask

API_PREFIX = "/api/v1"


def create_app(settings: Settings | None = None) -> Flask:
    """Build the application: extensions, then resources, errors and commands.

    Without `settings` the environment is read. Without a database URL the embedded PostgreSQL is started, and stopped
    again when the last process that uses it ends.

    Raises:
        ConfigurationError: naming the setting that is wrong.
    """
    settings = settings or Settings.from_env()
    app = Application("api", static_folder=None, instance_path=str(settings.instance_path))
    app.config.update(
        SECRET_KEY=settings.secret_key,
        MAX_CONTENT_LENGTH=settings.max_content_length,
        TESTING=settings.app_env == "test",
        PROPAGATE_EXCEPTIONS=False,
    )
    settings = _with_database(app, settings)
    app.extensions["settings"] = settings

    _add_walls(app, settings)
    # Around them, for what they answer is logged, too.
    request_log.init_app(app, settings)
    registry.import_models()
    db.init_app(app, settings)
    with app.app_context():
        limit_cost(db.engines.values(), settings.query_cost_max)
    Migrations(app)
    is_open = not (settings.is_production or settings.metrics_token)
    metrics.init_app(app, db, anyone if is_open else (role("admin") & in_person) | role(metrics.SCRAPER))
    error_handlers.init_app(app)
    _identify(app, settings)
    app.extensions[TOKENS] = TokenCodec(
        settings.auth_keys or derived_keys(settings.secret_key), settings.access_token_ttl
    )
    PASSWORDS.configure(_password_cost(settings))
    app.extensions[CURSORS] = CursorCodec(settings.secret_key)
    app.extensions[LIMITS] = _limits(settings)
    app.extensions[JSON_DEPTH] = settings.json_depth_max
    app.extensions[IDEMPOTENCY_TTL] = settings.idempotency_ttl
    app.extensions[TRANSFER_LIMITS] = TransferLimits(
        settings.transfer_timeout_ms, settings.transfer_silence, settings.import_max_bytes
    )
    api = create_api(app)
    registry.register_blueprints(api, API_PREFIX)
    health.init_app(app, db, api, API_PREFIX)
    documentation.init_app(app, api)
    check_routes(app)
    cli.init_app(app)
    return app


def _identify(app: Flask, settings: Settings) -> None:
    """Find out where each request comes from and who sends it, and limit both."""
    if settings.trusted_proxies:
        app.wsgi_app = ProxyFix(app.wsgi_app, settings.trusted_proxies, settings.trusted_proxies, 0, 0, 0)  # type: ignore[method-assign]
    url = settings.rate_limit_storage_url
    rates = SharedRates(url) if url else MemoryRates()
    if settings.rate_limit_address:
        rate_limits.limit_addresses(app, Quota.parse(settings.rate_limit_address), rates)
    authentication.init_app(app, *([metrics.scraper(settings.metrics_token)] if settings.metrics_token else []))
    if settings.rate_limit_caller:
        rate_limits.limit_callers(app, Quota.parse(settings.rate_limit_caller), rates)


def _password_cost(settings: Settings) -> Cost:
    return Cost(
        settings.password_passes,
        settings.password_memory_kib,
        settings.password_threads,
        settings.password_hashes_at_once,
    )


def _add_walls(app: Flask, settings: Settings) -> None:
    """What is asked of every request, and told with every answer, before Flask and behind it."""
    if settings.cors_origins:
        policy = Policy(settings.cors_origins, settings.cors_credentials, settings.cors_max_age)
        app.wsgi_app = CrossOrigin(app.wsgi_app, policy)  # type: ignore[method-assign]
    allowed_hosts.init_app(app, () if ANY in settings.allowed_hosts else settings.allowed_hosts)
    hsts_max_age = settings.hsts_max_age if settings.is_production else 0
    app.wsgi_app = SecurityHeaders(app.wsgi_app, hsts_max_age)  # type: ignore[method-assign]


def _limits(settings: Settings) -> Limits:
    return Limits(
        page_size=settings.page_size_default,
        page_size_max=settings.page_size_max,
        offset_max=settings.page_offset_max,
        conditions_max=settings.filter_conditions_max,
        depth_max=settings.filter_depth_max,
        list_max=settings.filter_list_max,
        include_depth_max=settings.include_depth_max,
        groups=settings.group_limit_default,
        groups_max=settings.group_limit_max,
        group_keys_max=settings.group_keys_max,
        results_max=settings.group_results_max,
        bulk_items_max=settings.bulk_items_max,
        affected_default=settings.bulk_affected_default,
        affected_max=settings.bulk_affected_max,
    )


def _with_database(app: Flask, settings: Settings) -> Settings:
    """Settings with a database URL; the embedded server's where none is set."""
    app.extensions["embedded_postgres"] = None
    if settings.database_url:
        return settings
    server = EmbeddedPostgres(settings.instance_path / "postgres")
    roles = Roles(settings.api_db_user, settings.reader_db_user)
    try:
        url = checked_database_url(server.start())
        provision_own(url, roles)
    except (EmbeddedPostgresError, OperationalError) as error:
        raise ConfigurationError(str(error)) from error
    # The last process that uses the server stops it, whichever had started it.
    atexit.register(server.stop)
    app.extensions["embedded_postgres"] = server
    return replace(settings, database_url=url_as(url, roles.api), migration_url=url)
