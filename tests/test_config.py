"""Settings: typed, checked at start, from the environment first and the files behind it."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest
from dotenv import load_dotenv
from sqlalchemy import make_url

from api import config
from api.config import ConfigurationError, Settings

SECRET = "x" * 32
URL = "postgresql://shop:s3cret@db.example:5433/shop"
WITH_DRIVER = "postgresql+psycopg2://shop:s3cret@db.example:5433/shop"

VARIABLES = [
    ("APP_ENV", "test", "app_env", "test"),
    ("SECRET_KEY", "another", "secret_key", "another"),
    ("PGPASSWORD", "from libpq", "database_password", "from libpq"),
    ("DATABASE_URL", URL, "database_url", WITH_DRIVER),
    ("DATABASE_MIGRATION_URL", URL, "migration_url", WITH_DRIVER),
    ("API_DB_USER", "shop_api", "api_db_user", "shop_api"),
    ("API_DB_PASSWORD", SECRET, "api_db_password", SECRET),
    ("READER_DB_USER", "shop_reader", "reader_db_user", "shop_reader"),
    ("READER_DB_PASSWORD", SECRET, "reader_db_password", SECRET),
    ("DB_POOL_SIZE", "3", "pool_size", 3),
    ("DB_MAX_OVERFLOW", "0", "max_overflow", 0),
    ("DB_POOL_RECYCLE", "-1", "pool_recycle", -1),
    ("DB_POOL_PRE_PING", "false", "pool_pre_ping", False),
    ("DB_PREPARED_STATEMENTS", "false", "prepared_statements", False),
    ("DB_POOL_TIMEOUT", "0.5", "pool_timeout", 0.5),
    ("DB_CONNECT_TIMEOUT", "9", "connect_timeout", 9),
    ("DB_STATEMENT_TIMEOUT_MS", "0", "statement_timeout_ms", 0),
    ("DB_LOCK_TIMEOUT_MS", "250", "lock_timeout_ms", 250),
    ("DB_IDLE_IN_TRANSACTION_TIMEOUT_MS", "1000", "idle_in_transaction_timeout_ms", 1000),
    ("DB_TRANSACTION_ATTEMPTS", "3", "transaction_attempts", 3),
    ("DB_APPLICATION_NAME", "shop", "application_name", "shop"),
    ("DB_ECHO", "true", "sql_echo", True),
    ("INSTANCE_PATH", "/srv/shop", "instance_path", Path("/srv/shop")),
    ("BIND_HOST", "0.0.0.0", "bind_host", "0.0.0.0"),  # noqa: S104 - a value like any other
    ("PORT", "8080", "bind_port", 8080),
    ("WEB_CONCURRENCY", "4", "workers", 4),
    ("WEB_THREADS", "1", "threads", 1),
    ("WEB_CONNECTIONS", "100", "connections", 100),
    ("WEB_HEAD_TIMEOUT", "5.5", "head_timeout", 5.5),
    ("WEB_BODY_TIMEOUT", "20.5", "body_timeout", 20.5),
    ("WEB_CLIENT_SILENCE", "3.5", "client_silence", 3.5),
    ("WEB_CLIENT_RATE_MIN", "100", "client_rate_min", 100),
    ("WEB_TIMEOUT", "60", "request_timeout", 60),
    ("WEB_GRACEFUL_TIMEOUT", "5", "graceful_timeout", 5),
    ("ALLOWED_HOSTS", "api.example, .shop.example,[::1]", "allowed_hosts", ("api.example", ".shop.example", "[::1]")),
    ("CORS_ORIGINS", "https://a.example, http://b:3000", "cors_origins", ("https://a.example", "http://b:3000")),
    ("CORS_CREDENTIALS", "true", "cors_credentials", True),
    ("CORS_MAX_AGE", "0", "cors_max_age", 0),
    ("HSTS_MAX_AGE", "0", "hsts_max_age", 0),
    ("METRICS_TOKEN", "for the scraper", "metrics_token", "for the scraper"),
    ("LOG_LEVEL", "DEBUG", "log_level", "DEBUG"),
    ("LOG_FORMAT", "json", "log_format", "json"),
    ("IDEMPOTENCY_TTL", "60", "idempotency_ttl", 60),
    ("MAX_CONTENT_LENGTH", "1000", "max_content_length", 1000),
    ("AUTH_KEYS", f"b:{SECRET},a:{SECRET}", "auth_keys", {"b": SECRET, "a": SECRET}),
    ("ACCESS_TOKEN_TTL", "60", "access_token_ttl", 60),
    ("SESSION_TTL", "3600", "session_ttl", 3600),
    ("REGISTRATION_OPEN", "false", "registration_open", False),
    ("LOGIN_WINDOW", "60", "login_window", 60),
    ("LOGIN_ATTEMPTS_PER_ACCOUNT", "3", "login_attempts_per_account", 3),
    ("LOGIN_ATTEMPTS_PER_ADDRESS", "30", "login_attempts_per_address", 30),
    ("REGISTRATIONS_PER_ADDRESS", "2", "registrations_per_address", 2),
    ("API_KEYS_MAX", "5", "api_keys_max", 5),
    ("PASSWORD_PASSES", "4", "password_passes", 4),
    ("PASSWORD_MEMORY_KIB", "1024", "password_memory_kib", 1024),
    ("PASSWORD_THREADS", "1", "password_threads", 1),
    ("PASSWORD_HASHES_AT_ONCE", "1", "password_hashes_at_once", 1),
    ("JSON_DEPTH_MAX", "8", "json_depth_max", 8),
    ("TRANSFER_TIMEOUT_MS", "0", "transfer_timeout_ms", 0),
    ("TRANSFER_SILENCE", "5", "transfer_silence", 5),
    ("IMPORT_MAX_BYTES", "1000", "import_max_bytes", 1000),
    ("RATE_LIMIT_ADDRESS", "10/second", "rate_limit_address", "10/second"),
    ("RATE_LIMIT_CALLER", "", "rate_limit_caller", ""),
    (
        "RATE_LIMIT_STORAGE_URL",
        "redis://:secret@cache:6379/1",
        "rate_limit_storage_url",
        "redis://:secret@cache:6379/1",
    ),
    ("TRUSTED_PROXIES", "1", "trusted_proxies", 1),
    ("PAGE_SIZE_DEFAULT", "5", "page_size_default", 5),
    ("PAGE_SIZE_MAX", "500", "page_size_max", 500),
    ("PAGE_OFFSET_MAX", "0", "page_offset_max", 0),
    ("FILTER_CONDITIONS_MAX", "7", "filter_conditions_max", 7),
    ("QUERY_COST_MAX", "5000", "query_cost_max", 5000),
    ("FILTER_DEPTH_MAX", "2", "filter_depth_max", 2),
    ("FILTER_LIST_MAX", "10", "filter_list_max", 10),
    ("INCLUDE_DEPTH_MAX", "1", "include_depth_max", 1),
    ("GROUP_LIMIT_DEFAULT", "7", "group_limit_default", 7),
    ("GROUP_LIMIT_MAX", "200", "group_limit_max", 200),
    ("GROUP_KEYS_MAX", "2", "group_keys_max", 2),
    ("GROUP_RESULTS_MAX", "3", "group_results_max", 3),
    ("BULK_ITEMS_MAX", "10", "bulk_items_max", 10),
    ("BULK_AFFECTED_DEFAULT", "10", "bulk_affected_default", 10),
    ("BULK_AFFECTED_MAX", "500", "bulk_affected_max", 500),
]


WRONG_HOSTS = ["https://api.example", "api.example:443", "api.example/", "*.example", "a b", "user@a.example", "-a"]
WRONG_ORIGINS = [
    "app.example",
    "https://app.example/",
    "https://app.example:443",
    "http://app.example:80",
    "https://App.example",
    "https://user@app.example",
    "https://*.example",
    "https://",
    "ftp://app.example",
    "null",
    "https://app.example?",
]


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """An empty project directory, and an environment without any of our variables."""
    before = dict(os.environ)
    for name in [*os.environ]:
        if name.startswith("DATABASE_URL_") or any(name == variable for variable, *_ in VARIABLES):
            del os.environ[name]
    monkeypatch.setattr(config, "PROJECT_ROOT", tmp_path)
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)


def settings_with(**variables):
    os.environ.update(variables)
    return Settings.from_env()


def refused(**variables):
    with pytest.raises(ConfigurationError) as caught:
        settings_with(**variables)
    return str(caught.value)


# -- values


def test_without_a_variable_the_defaults_count():
    assert settings_with() == Settings()


def test_the_owner_s_password_may_stand_apart_from_its_url():
    url = settings_with(DATABASE_MIGRATION_URL="postgresql://owner@db/shop", DATABASE_MIGRATION_PASSWORD="p@ss/w:rd")
    assert url.migration_url == "postgresql+psycopg2://owner:p%40ss%2Fw%3Ard@db/shop"


def test_the_pool_s_defaults_are_the_documented_ones():
    settings = Settings()
    assert (settings.pool_size, settings.max_overflow) == (10, 20)
    assert (settings.pool_recycle, settings.pool_pre_ping) == (3600, True)


@pytest.mark.parametrize(("name", "text", "attribute", "value"), VARIABLES)
def test_each_variable_sets_its_setting_and_no_other(name, text, attribute, value):
    settings = settings_with(**{name: text})
    assert getattr(settings, attribute) == value
    assert type(getattr(settings, attribute)) is type(getattr(Settings(), attribute))
    others = [field.name for field in fields(Settings) if field.name != attribute]
    assert all(getattr(settings, other) == getattr(Settings(), other) for other in others)


def test_every_setting_has_a_variable():
    named = {"databases"}
    assert {attribute for _, _, attribute, _ in VARIABLES} | named == {field.name for field in fields(Settings)}


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("APP_ENV", "prod", "Must be one of: development, test, production."),
        ("SECRET_KEY", "", "Shorter than minimum length 1."),
        ("DATABASE_URL", "localhost", "postgresql://user:password@host:5432/database"),
        ("DATABASE_URL", "postgresql://a@b:port/c", "postgresql://user:password@host:5432/database"),
        ("DATABASE_URL", "mysql://a@b/c", "supported is postgresql://"),
        ("DATABASE_URL", "sqlite:///x.db", "supported is postgresql://"),
        ("DATABASE_MIGRATION_URL", "mysql://a@b/c", "supported is postgresql://"),
        ("API_DB_USER", "Shop API", "must be up to 54 letters a-z, digits and _, not beginning with pg_."),
        ("READER_DB_USER", "pg_reader", "must be up to 54 letters a-z, digits and _, not beginning with pg_."),
        ("DB_POOL_SIZE", "ten", "Not a valid integer."),
        ("DB_POOL_SIZE", "0", "Must be greater than or equal to 1."),
        ("DB_MAX_OVERFLOW", "-1", "Must be greater than or equal to 0."),
        ("DB_POOL_RECYCLE", "-2", "Must be greater than or equal to -1."),
        ("DB_POOL_PRE_PING", "perhaps", "Not a valid boolean."),
        ("DB_POOL_TIMEOUT", "0", "Must be greater than or equal to 0.1 and less than or equal to 300."),
        ("DB_POOL_TIMEOUT", "soon", "Not a valid number."),
        ("DB_CONNECT_TIMEOUT", "1", "Must be greater than or equal to 2."),
        ("DB_STATEMENT_TIMEOUT_MS", "-1", "Must be greater than or equal to 0"),
        ("RATE_LIMIT_ADDRESS", "lots", "600/minute"),
        ("RATE_LIMIT_CALLER", "0/minute", "600/minute"),
        ("RATE_LIMIT_CALLER", "600/fortnight", "second, minute, hour or day"),
        ("RATE_LIMIT_STORAGE_URL", "memcached://cache", "redis://:password@host:6379/0"),
        ("TRUSTED_PROXIES", "-1", "Must be greater than or equal to 0."),
        ("DB_STATEMENT_TIMEOUT_MS", "15s", "Not a valid integer."),
        ("DB_STATEMENT_TIMEOUT_MS", "2147483648", "less than or equal to 2147483647."),
        ("DB_LOCK_TIMEOUT_MS", "2147483648", "less than or equal to 2147483647."),
        ("DB_IDLE_IN_TRANSACTION_TIMEOUT_MS", "2147483648", "less than or equal to 2147483647."),
        ("DB_APPLICATION_NAME", "x" * 64, "Length must be between 1 and 63."),
        ("DB_ECHO", "2", "Not a valid boolean."),
        ("PORT", "0", "Must be greater than or equal to 1 and less than or equal to 65535."),
        ("PORT", "65536", "Must be greater than or equal to 1 and less than or equal to 65535."),
        ("WEB_CONCURRENCY", "0", "Must be greater than or equal to 1."),
        *(("ALLOWED_HOSTS", host, "without scheme, port and path") for host in WRONG_HOSTS),
        *(("CORS_ORIGINS", origin, "an origin as browsers send it") for origin in WRONG_ORIGINS),
        ("CORS_MAX_AGE", "-1", "Must be greater than or equal to 0."),
        ("HSTS_MAX_AGE", "a year", "Not a valid integer."),
        ("LOG_LEVEL", "verbose", "Must be one of: DEBUG, INFO, WARNING, ERROR, CRITICAL."),
        ("LOG_FORMAT", "xml", "Must be one of: auto, json, text."),
        ("MAX_CONTENT_LENGTH", "1 MB", "Not a valid integer."),
        ("PAGE_SIZE_MAX", "0", "Must be greater than or equal to 1."),
        ("PAGE_SIZE_DEFAULT", "101", "PAGE_SIZE_MAX (100)"),
        ("GROUP_LIMIT_DEFAULT", "1001", "GROUP_LIMIT_MAX (1000)"),
        ("GROUP_KEYS_MAX", "33", "Must be greater than or equal to 1 and less than or equal to 32."),
        ("GROUP_RESULTS_MAX", "65", "Must be greater than or equal to 1 and less than or equal to 64."),
    ],
)
def test_a_wrong_value_names_its_variable_and_what_is_valid(name, text, valid):
    message = refused(**{name: text})
    assert name in message
    assert valid in message


def test_a_wrong_url_is_not_repeated_because_it_may_hold_a_password():
    assert "s3cret" not in refused(DATABASE_URL="postgresql://shop:s3cret@b:port/c")
    assert "s3cret" not in refused(DATABASE_URL="mysql://shop:s3cret@b/c")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_a_url_may_be_written_as_everybody_writes_it(scheme):
    assert settings_with(DATABASE_URL=URL.replace("postgresql", scheme)).database_url == WITH_DRIVER


def test_a_url_keeps_its_password_and_its_options():
    url = make_url(
        settings_with(DATABASE_URL="postgresql://a%40b:p%2Fw%25@[::1]/shop%20db?sslmode=require").database_url
    )
    assert (url.username, url.password, url.host, url.database) == ("a@b", "p/w%", "::1", "shop db")
    assert url.query == {"sslmode": "require"}


def test_overrides_win_over_the_environment():
    os.environ["PORT"] = "8080"
    assert Settings.from_env({"bind_port": 9}).bind_port == 9


def test_no_repr_shows_a_secret():
    shown = repr(
        settings_with(SECRET_KEY="top-secret", DATABASE_URL=URL, PGPASSWORD="from libpq", METRICS_TOKEN="of metrics")
    )
    for secret in ("top-secret", "s3cret", "from libpq", "of metrics"):
        assert secret not in shown


def test_any_origin_is_refused_together_with_credentials():
    message = refused(CORS_ORIGINS="*", CORS_CREDENTIALS="true")
    assert "CORS_ORIGINS" in message
    assert "CORS_CREDENTIALS" in message
    assert settings_with(CORS_ORIGINS="*", CORS_CREDENTIALS="false").cors_origins == ("*",)


def test_settings_cannot_be_changed():
    with pytest.raises(AttributeError):
        Settings().pool_size = 5


# -- files


def test_the_environment_wins_over_the_local_file_and_that_over_the_committed_one(project):
    (project / ".env").write_text("PORT=1\nWEB_THREADS=1\nWEB_TIMEOUT=1\n")
    (project / ".env.local").write_text("PORT=2\nWEB_THREADS=2\n")
    settings = settings_with(PORT="3")
    assert (settings.bind_port, settings.threads, settings.request_timeout) == (3, 2, 1)


def test_the_local_file_wins_over_the_committed_one_also_when_flask_has_read_that_already(project):
    (project / ".env").write_text("PORT=1\nWEB_THREADS=1\n")
    (project / ".env.local").write_text("PORT=2\n")
    load_dotenv(project / ".env")
    settings = settings_with()
    assert (settings.bind_port, settings.threads) == (2, 1)


def test_a_variable_that_is_set_to_nothing_wins_over_the_files_too(project):
    (project / ".env").write_text(f"DATABASE_URL={URL}\n")
    assert settings_with(DATABASE_URL="").database_url == ""


def test_a_wrong_value_in_a_file_names_its_variable(project):
    (project / ".env.local").write_text("PORT=http\n")
    assert "PORT" in refused()


def test_a_file_of_another_project_above_is_not_read(project, monkeypatch):
    (project / ".env").write_text("PORT=1\n")
    inner = project / "inner"
    inner.mkdir()
    monkeypatch.setattr(config, "PROJECT_ROOT", inner)
    assert settings_with().bind_port == 8000


def test_the_committed_file_holds_valid_local_defaults(project):
    (project / ".env").write_text((Path(__file__).resolve().parents[1] / ".env").read_text())
    settings = settings_with()
    assert settings.app_env == "development"
    assert settings.database_url == ""


# -- production

PRODUCTION = {
    "APP_ENV": "production",
    "SECRET_KEY": SECRET,
    "DATABASE_URL": URL,
    "ALLOWED_HOSTS": "api.example",
}


def test_production_starts_with_secrets_of_its_own():
    settings = settings_with(**PRODUCTION)
    assert settings.is_production
    assert settings.json_logs


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        ({"SECRET_KEY": "development-only-secret-key"}, "SECRET_KEY"),
        ({"SECRET_KEY": "x" * 31}, "SECRET_KEY"),
        ({"DATABASE_URL": ""}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://postgres:postgres@db/shop"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://postgres@db/shop", "PGPASSWORD": "postgres"}, "PGPASSWORD"),
        ({"ALLOWED_HOSTS": ""}, "ALLOWED_HOSTS"),
        ({"METRICS_TOKEN": "x" * 31}, "METRICS_TOKEN"),
    ],
)
def test_production_refuses_a_default_secret_or_an_open_door_and_says_which(changes, variable):
    message = refused(**PRODUCTION | changes)
    assert variable in message
    assert "APP_ENV=production" in message


def test_production_refuses_the_default_of_the_committed_file(project):
    (project / ".env").write_text((Path(__file__).resolve().parents[1] / ".env").read_text())
    assert "SECRET_KEY" in refused(APP_ENV="production", DATABASE_URL=URL)


@pytest.mark.parametrize("environment", ["development", "test"])
def test_elsewhere_the_defaults_are_good_enough(environment):
    assert settings_with(APP_ENV=environment).secret_key == "development-only-secret-key"


@pytest.mark.parametrize(
    ("environment", "log_format", "as_json"),
    [
        ({}, "auto", False),
        (PRODUCTION, "auto", True),
        ({}, "json", True),
        (PRODUCTION, "text", False),
    ],
)
def test_logs_are_json_in_production_unless_said_otherwise(environment, log_format, as_json):
    assert settings_with(**environment, LOG_FORMAT=log_format).json_logs is as_json


# -- named databases


def test_each_database_url_with_a_name_is_a_named_database(project):
    (project / ".env").write_text("DATABASE_URL_ARCHIVE=postgres://db.example/archive\n")
    settings = settings_with(DATABASE_URL_REPORTING=URL, DATABASE_URL_EMPTY="")
    assert dict(settings.databases) == {
        "archive": "postgresql+psycopg2://db.example/archive",
        "reporting": WITH_DRIVER,
    }
    assert settings.database_url == ""


def test_a_named_database_is_checked_as_the_default_one_is():
    assert refused(DATABASE_URL_REPORTING="mysql://x").startswith("DATABASE_URL_REPORTING names the driver 'mysql'")


def test_a_url_that_is_none_is_told_by_its_variable_alone():
    told = refused(DATABASE_URL_REPORTING="s3cret of nobody")
    assert told.startswith("DATABASE_URL_REPORTING is not a database URL")
    assert "s3cret" not in told


@pytest.mark.parametrize("variable", ["DATABASE_URL_", "DATABASE_URL_1", "DATABASE_URL_A-B"])
def test_a_named_database_has_a_proper_name(variable):
    assert refused(**{variable: URL}).startswith(f"{variable} names no database; a valid name")


def test_production_refuses_a_development_password_of_a_named_database():
    told = refused(**PRODUCTION, DATABASE_URL_REPORTING="postgresql://shop:postgres@db.example/x")
    assert told.startswith("DATABASE_URL_REPORTING holds a development default")


def test_settings_never_show_the_password_of_a_named_database():
    assert "s3cret" not in repr(settings_with(DATABASE_URL_REPORTING=URL))


@pytest.mark.parametrize(
    "keys", ["only-a-secret-of-more-than-32-characters", f"a:{SECRET},b:too-short", f"a:{SECRET},a:{SECRET}"]
)
def test_keys_of_tokens_that_are_none_stop_the_start_and_are_not_repeated(monkeypatch, keys):
    monkeypatch.setenv("AUTH_KEYS", keys)
    with pytest.raises(ConfigurationError, match="AUTH_KEYS") as caught:
        Settings.from_env()
    for secret in (SECRET, "too-short", "only-a-secret"):
        assert secret not in caught.value.message
