"""Settings: typed, checked at start, and the only reader of the environment."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from dotenv import dotenv_values
from environs import Env, EnvError, validate
from marshmallow import ValidationError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from api.core.access.tokens import parse_keys
from api.core.http.names import ANY, parse_hosts, parse_origins
from api.core.rates.quota import Quota

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

PROJECT_ROOT = Path(__file__).resolve().parent.parent
DEVELOPMENT_SECRETS = frozenset({"development-only-secret-key", "postgres", "admin", "backend_api", "backend_reader"})
MINIMUM_SECRET_LENGTH = 32
_NAMED_DATABASE = "DATABASE_URL_"
_REDIS_URL = "Must be a URL such as redis://:password@host:6379/0, or rediss:// for TLS."
_DATABASE_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_role_name = validate.Regexp(
    re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,53}\Z", re.ASCII),
    error="must be up to 54 letters a-z, digits and _, not beginning with pg_.",
)


class ConfigurationError(click.ClickException):
    """A setting is wrong; the message names the variable and what is valid. `flask` shows it in one line."""


@dataclass(frozen=True)
class Settings:
    """Everything that can be set from outside. Times are in seconds unless the name says otherwise.

    `database_url` empty means: run the embedded PostgreSQL below `instance_path`. `migration_url` is of the same
    database, as the role that owns it; empty, the API's role does. `databases` holds the URLs of further databases by
    name.
    """

    app_env: str = "development"
    secret_key: str = field(default="development-only-secret-key", repr=False)
    database_password: str = field(default="", repr=False)
    api_db_user: str = "backend_api"
    api_db_password: str = field(default="", repr=False)
    reader_db_user: str = "backend_reader"
    reader_db_password: str = field(default="", repr=False)

    database_url: str = field(default="", repr=False)
    migration_url: str = field(default="", repr=False)
    databases: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    pool_size: int = 10
    max_overflow: int = 20
    pool_recycle: int = 3600
    pool_pre_ping: bool = True
    prepared_statements: bool = True
    pool_timeout: float = 5.0
    connect_timeout: int = 5
    statement_timeout_ms: int = 15_000
    lock_timeout_ms: int = 5_000
    idle_in_transaction_timeout_ms: int = 30_000
    transaction_attempts: int = 5
    application_name: str = "backend-framework"
    sql_echo: bool = False
    instance_path: Path = PROJECT_ROOT / "instance"

    bind_host: str = "127.0.0.1"
    bind_port: int = 8000
    workers: int = 2
    threads: int = 8
    connections: int = 1000
    head_timeout: float = 10.0
    body_timeout: float = 30.0
    client_silence: float = 20.0
    client_rate_min: int = 1024
    request_timeout: int = 30
    graceful_timeout: int = 30

    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    cors_credentials: bool = False
    cors_max_age: int = 600
    hsts_max_age: int = 31_536_000
    metrics_token: str = field(default="", repr=False)

    log_level: str = "INFO"
    log_format: str = "auto"
    max_content_length: int = 1_048_576
    json_depth_max: int = 32
    idempotency_ttl: int = 86_400

    auth_keys: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    access_token_ttl: int = 900
    session_ttl: int = 2_592_000
    registration_open: bool = True
    login_window: int = 900
    login_attempts_per_account: int = 10
    login_attempts_per_address: int = 100
    registrations_per_address: int = 20
    api_keys_max: int = 50
    password_passes: int = 3
    password_memory_kib: int = 65_536
    password_threads: int = 4
    password_hashes_at_once: int = 4

    transfer_timeout_ms: int = 3_600_000
    transfer_silence: int = 60
    import_max_bytes: int = 2**30

    rate_limit_address: str = "1200/minute"
    rate_limit_caller: str = "600/minute"
    rate_limit_storage_url: str = field(default="", repr=False)
    trusted_proxies: int = 0

    page_size_default: int = 20
    page_size_max: int = 100
    page_offset_max: int = 10_000
    filter_conditions_max: int = 20
    filter_depth_max: int = 4
    query_cost_max: int = 0
    filter_list_max: int = 100
    include_depth_max: int = 3
    group_limit_default: int = 100
    group_limit_max: int = 1000
    group_keys_max: int = 5
    group_results_max: int = 10
    bulk_items_max: int = 1000
    bulk_affected_default: int = 100
    bulk_affected_max: int = 10_000

    @property
    def is_production(self) -> bool:
        """Whether the service faces the world: JSON logs, and no default secret."""
        return self.app_env == "production"

    @property
    def json_logs(self) -> bool:
        """Whether a log line is JSON rather than text for a person."""
        return self.is_production if self.log_format == "auto" else self.log_format == "json"

    @classmethod
    def from_env(cls, overrides: Mapping[str, Any] | None = None) -> Settings:
        """Read the environment, then `.env.local`, then `.env`, then the defaults above; the first one wins.

        Raises:
            ConfigurationError: naming the variable and what is valid.
        """
        try:
            values = _read(_environment())
        except EnvError as error:
            raise ConfigurationError(str(error)) from error
        settings = cls(**{**values, **(overrides or {})})
        _check(settings)
        return settings


def _environment() -> Env:
    """The environment, with `.env.local` and then `.env` behind it."""
    local, committed = PROJECT_ROOT / ".env.local", PROJECT_ROOT / ".env"
    defaults = dotenv_values(committed)
    for name in dotenv_values(local):
        # The `flask` command has put `.env` into the environment by now, and so in front of `.env.local`.
        if name in defaults and os.environ.get(name) == defaults[name]:
            del os.environ[name]
    env = Env()
    for path in (local, committed):
        env.read_env(path, recurse=False)
    return env


def _read(env: Env) -> dict[str, Any]:
    positive = validate.Range(min=1)
    not_negative = validate.Range(min=0)
    seconds = validate.Range(min=0.1, max=3600)
    milliseconds = validate.Range(min=0, max=2**31 - 1)
    return {
        "app_env": env.str("APP_ENV", Settings.app_env, validate=validate.OneOf(["development", "test", "production"])),
        "secret_key": env.str("SECRET_KEY", Settings.secret_key, validate=validate.Length(min=1)),
        "database_url": checked_database_url(env.str("DATABASE_URL", "")),
        "migration_url": _migration_url(env),
        "api_db_user": env.str("API_DB_USER", Settings.api_db_user, validate=_role_name),
        "api_db_password": env.str("API_DB_PASSWORD", ""),
        "reader_db_user": env.str("READER_DB_USER", Settings.reader_db_user, validate=_role_name),
        "reader_db_password": env.str("READER_DB_PASSWORD", ""),
        "databases": _named_databases(env),
        # libpq reads it by itself, where the URL has no password.
        "database_password": env.str("PGPASSWORD", ""),
        "pool_size": env.int("DB_POOL_SIZE", Settings.pool_size, validate=positive),
        "max_overflow": env.int("DB_MAX_OVERFLOW", Settings.max_overflow, validate=not_negative),
        "pool_recycle": env.int("DB_POOL_RECYCLE", Settings.pool_recycle, validate=validate.Range(min=-1)),
        "prepared_statements": env.bool("DB_PREPARED_STATEMENTS", Settings.prepared_statements),
        "pool_pre_ping": env.bool("DB_POOL_PRE_PING", Settings.pool_pre_ping),
        "pool_timeout": env.float("DB_POOL_TIMEOUT", Settings.pool_timeout, validate=validate.Range(min=0.1, max=300)),
        "connect_timeout": env.int("DB_CONNECT_TIMEOUT", Settings.connect_timeout, validate=validate.Range(min=2)),
        "statement_timeout_ms": env.int(
            "DB_STATEMENT_TIMEOUT_MS", Settings.statement_timeout_ms, validate=milliseconds
        ),
        "lock_timeout_ms": env.int("DB_LOCK_TIMEOUT_MS", Settings.lock_timeout_ms, validate=milliseconds),
        "idle_in_transaction_timeout_ms": env.int(
            "DB_IDLE_IN_TRANSACTION_TIMEOUT_MS", Settings.idle_in_transaction_timeout_ms, validate=milliseconds
        ),
        "transaction_attempts": env.int(
            "DB_TRANSACTION_ATTEMPTS", Settings.transaction_attempts, validate=validate.Range(min=1, max=20)
        ),
        "application_name": env.str("DB_APPLICATION_NAME", Settings.application_name, validate=validate.Length(1, 63)),
        "sql_echo": env.bool("DB_ECHO", Settings.sql_echo),
        "instance_path": Path(env.str("INSTANCE_PATH", str(Settings.instance_path))).resolve(),
        "bind_host": env.str("BIND_HOST", Settings.bind_host),
        "bind_port": env.int("PORT", Settings.bind_port, validate=validate.Range(min=1, max=65_535)),
        "workers": env.int("WEB_CONCURRENCY", Settings.workers, validate=positive),
        "threads": env.int("WEB_THREADS", Settings.threads, validate=positive),
        "connections": env.int("WEB_CONNECTIONS", Settings.connections, validate=validate.Range(min=16)),
        "head_timeout": env.float("WEB_HEAD_TIMEOUT", Settings.head_timeout, validate=seconds),
        "body_timeout": env.float("WEB_BODY_TIMEOUT", Settings.body_timeout, validate=seconds),
        "client_silence": env.float("WEB_CLIENT_SILENCE", Settings.client_silence, validate=seconds),
        "client_rate_min": env.int("WEB_CLIENT_RATE_MIN", Settings.client_rate_min, validate=positive),
        "request_timeout": env.int("WEB_TIMEOUT", Settings.request_timeout, validate=positive),
        "graceful_timeout": env.int("WEB_GRACEFUL_TIMEOUT", Settings.graceful_timeout, validate=positive),
        **_read_walls(env),
        "log_level": env.str(
            "LOG_LEVEL", Settings.log_level, validate=validate.OneOf(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
        ),
        "log_format": env.str("LOG_FORMAT", Settings.log_format, validate=validate.OneOf(["auto", "json", "text"])),
        "max_content_length": env.int("MAX_CONTENT_LENGTH", Settings.max_content_length, validate=positive),
        # Python follows no more than a few hundred levels by recursion.
        "json_depth_max": env.int("JSON_DEPTH_MAX", Settings.json_depth_max, validate=validate.Range(1, 200)),
        "idempotency_ttl": env.int("IDEMPOTENCY_TTL", Settings.idempotency_ttl, validate=positive),
        **_read_accounts(env),
        "transfer_timeout_ms": env.int("TRANSFER_TIMEOUT_MS", Settings.transfer_timeout_ms, validate=milliseconds),
        "transfer_silence": env.int("TRANSFER_SILENCE", Settings.transfer_silence, validate=positive),
        "import_max_bytes": env.int("IMPORT_MAX_BYTES", Settings.import_max_bytes, validate=positive),
        "rate_limit_address": env.str("RATE_LIMIT_ADDRESS", Settings.rate_limit_address, validate=_quota),
        "rate_limit_caller": env.str("RATE_LIMIT_CALLER", Settings.rate_limit_caller, validate=_quota),
        "rate_limit_storage_url": env.str(
            "RATE_LIMIT_STORAGE_URL", "", validate=validate.Regexp(r"(rediss?://.+)?\Z", error=_REDIS_URL)
        ),
        "trusted_proxies": env.int("TRUSTED_PROXIES", Settings.trusted_proxies, validate=not_negative),
        "page_size_default": env.int("PAGE_SIZE_DEFAULT", Settings.page_size_default, validate=positive),
        "page_size_max": env.int("PAGE_SIZE_MAX", Settings.page_size_max, validate=positive),
        "page_offset_max": env.int("PAGE_OFFSET_MAX", Settings.page_offset_max, validate=not_negative),
        "filter_conditions_max": env.int("FILTER_CONDITIONS_MAX", Settings.filter_conditions_max, validate=positive),
        "query_cost_max": env.int("QUERY_COST_MAX", Settings.query_cost_max, validate=not_negative),
        "filter_depth_max": env.int("FILTER_DEPTH_MAX", Settings.filter_depth_max, validate=positive),
        "filter_list_max": env.int("FILTER_LIST_MAX", Settings.filter_list_max, validate=positive),
        "include_depth_max": env.int("INCLUDE_DEPTH_MAX", Settings.include_depth_max, validate=positive),
        "group_limit_default": env.int("GROUP_LIMIT_DEFAULT", Settings.group_limit_default, validate=positive),
        "group_limit_max": env.int("GROUP_LIMIT_MAX", Settings.group_limit_max, validate=positive),
        # Keys and results together are arguments of one function, of which PostgreSQL takes at most 100.
        "group_keys_max": env.int("GROUP_KEYS_MAX", Settings.group_keys_max, validate=validate.Range(1, 32)),
        "group_results_max": env.int("GROUP_RESULTS_MAX", Settings.group_results_max, validate=validate.Range(1, 64)),
        "bulk_items_max": env.int("BULK_ITEMS_MAX", Settings.bulk_items_max, validate=positive),
        "bulk_affected_default": env.int("BULK_AFFECTED_DEFAULT", Settings.bulk_affected_default, validate=positive),
        "bulk_affected_max": env.int("BULK_AFFECTED_MAX", Settings.bulk_affected_max, validate=positive),
    }


def _quota(text: str) -> None:
    """Refuse what is no quota; an empty one is no limit."""
    try:
        _ = text and Quota.parse(text)
    except ValueError as error:
        raise ValidationError(str(error)) from error


def _read_accounts(env: Env) -> dict[str, Any]:
    positive, seconds = validate.Range(min=1), validate.Range(1, 2**31 - 1)
    return {
        "auth_keys": _parsed(env, "AUTH_KEYS", parse_keys),
        "access_token_ttl": env.int("ACCESS_TOKEN_TTL", Settings.access_token_ttl, validate=validate.Range(1, 86_400)),
        "session_ttl": env.int("SESSION_TTL", Settings.session_ttl, validate=seconds),
        "registration_open": env.bool("REGISTRATION_OPEN", Settings.registration_open),
        "login_window": env.int("LOGIN_WINDOW", Settings.login_window, validate=seconds),
        "login_attempts_per_account": env.int(
            "LOGIN_ATTEMPTS_PER_ACCOUNT", Settings.login_attempts_per_account, validate=positive
        ),
        "login_attempts_per_address": env.int(
            "LOGIN_ATTEMPTS_PER_ADDRESS", Settings.login_attempts_per_address, validate=positive
        ),
        "registrations_per_address": env.int(
            "REGISTRATIONS_PER_ADDRESS", Settings.registrations_per_address, validate=positive
        ),
        "api_keys_max": env.int("API_KEYS_MAX", Settings.api_keys_max, validate=positive),
        "password_passes": env.int("PASSWORD_PASSES", Settings.password_passes, validate=validate.Range(1, 100)),
        "password_memory_kib": env.int(
            "PASSWORD_MEMORY_KIB", Settings.password_memory_kib, validate=validate.Range(512, 2**22)
        ),
        "password_threads": env.int("PASSWORD_THREADS", Settings.password_threads, validate=validate.Range(1, 64)),
        "password_hashes_at_once": env.int(
            "PASSWORD_HASHES_AT_ONCE", Settings.password_hashes_at_once, validate=positive
        ),
    }


def _read_walls(env: Env) -> dict[str, Any]:
    """What stands between the service and whoever reaches its port."""
    seconds = validate.Range(min=0)
    return {
        "allowed_hosts": _parsed(env, "ALLOWED_HOSTS", parse_hosts),
        "cors_origins": _parsed(env, "CORS_ORIGINS", parse_origins),
        "cors_credentials": env.bool("CORS_CREDENTIALS", Settings.cors_credentials),
        "cors_max_age": env.int("CORS_MAX_AGE", Settings.cors_max_age, validate=seconds),
        "hsts_max_age": env.int("HSTS_MAX_AGE", Settings.hsts_max_age, validate=seconds),
        "metrics_token": env.str("METRICS_TOKEN", Settings.metrics_token),
    }


def _parsed(env: Env, variable: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(env.str(variable, ""))
    except ValueError as error:
        raise ConfigurationError(f"{variable} {error}") from None


def _migration_url(env: Env) -> str:
    """`DATABASE_MIGRATION_URL`, with `DATABASE_MIGRATION_PASSWORD` in it, which need not be encoded."""
    url = checked_database_url(env.str("DATABASE_MIGRATION_URL", ""), "DATABASE_MIGRATION_URL")
    password = env.str("DATABASE_MIGRATION_PASSWORD", "")
    if url and password:
        url = make_url(url).set(password=password).render_as_string(hide_password=False)
    return url


def _named_databases(env: Env) -> dict[str, str]:
    """`DATABASE_URL_REPORTING=…` as the database "reporting"; one without a URL is none."""
    databases = {}
    in_files = (name for path in (PROJECT_ROOT / ".env.local", PROJECT_ROOT / ".env") for name in dotenv_values(path))
    for variable in sorted({*os.environ, *in_files}):
        if not variable.startswith(_NAMED_DATABASE) or not (value := env.str(variable)):
            continue
        name = variable.removeprefix(_NAMED_DATABASE).lower()
        if not _DATABASE_NAME.fullmatch(name):
            message = (
                f"{variable} names no database; a valid name has letters, digits and _, as in DATABASE_URL_REPORTING"
            )
            raise ConfigurationError(message)
        databases[name] = checked_database_url(value, variable)
    return databases


def checked_database_url(value: str, variable: str = "DATABASE_URL") -> str:
    """Accept `postgres://` and `postgresql://` as everybody writes them and name the driver that is installed.

    Raises:
        ConfigurationError: naming `variable`.
    """
    if not value:
        return ""
    try:
        url = make_url(value)
        _ = url.port
    except (ArgumentError, ValueError) as error:
        message = f"{variable} is not a database URL; a valid one reads postgresql://user:password@host:5432/database"
        raise ConfigurationError(message) from error
    if url.drivername in {"postgres", "postgresql"}:
        url = url.set(drivername="postgresql+psycopg2")
    if url.drivername != "postgresql+psycopg2":
        message = f"{variable} names the driver {url.drivername!r}; supported is postgresql:// (PostgreSQL 15 to 18)"
        raise ConfigurationError(message)
    return url.render_as_string(hide_password=False)


def _check(settings: Settings) -> None:
    """Rules that span several settings."""
    for default, most in (
        ("page_size_default", "page_size_max"),
        ("group_limit_default", "group_limit_max"),
        ("bulk_affected_default", "bulk_affected_max"),
    ):
        usual, limit = getattr(settings, default), getattr(settings, most)
        if usual > limit:
            raise ConfigurationError(
                f"{default.upper()} ({usual}) is above {most.upper()} ({limit}); it must be at most that"
            )
    if ANY in settings.cors_origins and settings.cors_credentials:
        raise ConfigurationError("CORS_ORIGINS is * with CORS_CREDENTIALS on; name the origins, or switch that off")
    if settings.is_production:
        _refuse_development_secrets(settings)
        _refuse_open_doors(settings)


def _refuse_development_secrets(settings: Settings) -> None:
    if settings.secret_key in DEVELOPMENT_SECRETS or len(settings.secret_key) < MINIMUM_SECRET_LENGTH:
        message = (
            "SECRET_KEY is a development default or too short; with APP_ENV=production set it to at least "
            f"{MINIMUM_SECRET_LENGTH} random characters: python -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
        raise ConfigurationError(message)
    if not settings.database_url:
        message = "DATABASE_URL is not set; with APP_ENV=production it must name a PostgreSQL server"
        raise ConfigurationError(message)
    named = {f"{_NAMED_DATABASE}{name.upper()}": url for name, url in settings.databases.items()}
    named["DATABASE_URL"] = settings.database_url
    if settings.migration_url:
        named["DATABASE_MIGRATION_URL"] = settings.migration_url
    for variable, url in named.items():
        in_url = make_url(url).password
        if (in_url or settings.database_password) in DEVELOPMENT_SECRETS:
            message = (
                f"{variable if in_url else 'PGPASSWORD'} holds a development default as the database's password; "
                "with APP_ENV=production set another one"
            )
            raise ConfigurationError(message)
    for variable in ("API_DB_PASSWORD", "READER_DB_PASSWORD"):
        if getattr(settings, variable.lower()) in DEVELOPMENT_SECRETS:
            message = f"{variable} is a development default; with APP_ENV=production set another one"
            raise ConfigurationError(message)


def _refuse_open_doors(settings: Settings) -> None:
    if not settings.allowed_hosts:
        raise ConfigurationError(
            "ALLOWED_HOSTS is not set; with APP_ENV=production it must name the hosts that the service answers to, "
            "such as api.example.com,127.0.0.1 (or be * where a proxy lets no other through)"
        )
    if settings.metrics_token and len(settings.metrics_token) < MINIMUM_SECRET_LENGTH:
        raise ConfigurationError(
            f"METRICS_TOKEN is too short; with APP_ENV=production set it to at least {MINIMUM_SECRET_LENGTH} random "
            "characters, or leave it empty to keep /metrics closed"
        )
