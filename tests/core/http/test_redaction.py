"""No secret in a log, an error or a repr, wherever one was put."""

from __future__ import annotations

import json
import logging
import os
import secrets
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import structlog
from sqlalchemy import text

from api.config import ConfigurationError, Settings
from api.core.access.predicates import anyone
from api.core.http.permissions import requires
from api.core.http.redaction import SECRET_FIELDS, Redaction
from api.extensions import db
from tests import factories
from tests.apps import create_app

PROJECT = Path(__file__).resolve().parents[3]
FORMATS = ["json", "text"]
RANDOM = secrets.token_urlsafe(32)
HEX = secrets.token_hex(16)
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0." + secrets.token_urlsafe(32)
HASH = "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ$" + HEX

MESSAGES = [
    ("Authorization: Bearer {}", HEX),
    ("headers: {{'Authorization': 'Bearer {}'}}", HEX),
    ("bearer {} was refused", HEX),
    ("Authorization: Basic {}", "dXNlcjpjb3JyZWN0LWhvcnNl"),
    ("got {} from the client", JWT),
    ("hash {} does not match", HASH),
    ("token={}", HEX),
    ("refresh_token: '{}'", HEX),
    ('{{"access_token": "{}"}}', HEX),
    ("api_key={}", HEX),
    ("API-Key: {}", HEX),
    ("X-Api-Key={}", HEX),
    ("client_secret={}", HEX),
    ("SECRET_KEY={}", HEX),
    ("Set-Cookie: {}", HEX),
    ("password={}", "short"),
    ("POSTGRES_PASSWORD={}", "short"),
    ('{{"current_password": "{}"}}', "with blanks in it"),
    ("postgresql://shop:{}@db/shop", "s3cret/@x"),
    ("redis://:{}@cache:6379/0", "s3cret"),
    ("a refresh token such as {}", RANDOM),
    ("-----BEGIN " + "PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----", "MC4CAQAwBQYDK2VwBCIEIA"),
]


@pytest.fixture
def logged(settings, capsys):
    """`logged(**settings)`: configures the logs so, and gives what was written since."""

    def configure(**changes):
        create_app(replace(settings, **({"log_level": "INFO"} | changes)))
        capsys.readouterr()
        return lambda: "".join(capsys.readouterr())

    yield configure
    db.shutdown()


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_secret_in_a_message_a_field_or_an_exception_never_appears(logged, log_format):
    written = logged(log_format=log_format)
    for form, secret in MESSAGES:
        message = form.format(secret)
        logging.getLogger("talker").warning(message)
        logging.getLogger("talker").error("%s", message)
        structlog.get_logger("talker").error("failed", reason=message, nested={"deep": [message]})
        try:
            raise ValueError(message)  # noqa: TRY301 - a traceback is what is looked at
        except ValueError:
            structlog.get_logger("talker").exception("crashed")
            logging.getLogger("talker").exception("crashed")
        output = written()
        assert output.count("crashed") == 2
        if secret is RANDOM:
            # Without a name beside it, it is looked for in messages and exceptions only.
            output = "".join(line for line in output.splitlines(keepends=True) if "failed" not in line)
        assert secret not in output, form


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("value", ["short", 4711, ["a", "short"], {"a": "short"}, None])
def test_a_field_with_a_secret_s_name_is_masked_whatever_it_holds(logged, log_format, value):
    written = logged(log_format=log_format)
    structlog.get_logger("talker").warning("said", note="kept", **dict.fromkeys(SECRET_FIELDS, value))
    output = written()
    assert "short" not in output
    assert "4711" not in output
    assert "kept" in output
    if log_format == "json":
        assert {json.loads(output)[name] for name in SECRET_FIELDS} == {"***"}


def test_what_is_no_secret_stays(logged):
    written = logged(log_format="json")
    for message in (
        "the token has expired",
        "3 tokens, 2 api keys and no cookie",
        "unexpected token: }",
        "GET /api/v1/auth/tokens/019a5b7e-7c1d-7f00-8000-000000000001",
        "postgresql://db.example/shop?sslmode=require",
        "test_a_very_long_name_of_a_function_that_nobody_would_take_for_a_secret",
    ):
        logging.getLogger("talker").warning(message)
        assert json.loads(written())["event"] == message


def test_every_secret_of_the_settings_is_known_word_for_word(settings):
    known = {
        "secret_key": "key-of-the-cursors",
        "database_password": "password-of-libpq",
        "metrics_token": "token-of-the-scraper",
        "database_url": "postgresql+psycopg2://shop:password-in-url@db/shop",
        "databases": {"reporting": "postgresql+psycopg2://shop:password-of-reports@db/shop"},
        "rate_limit_storage_url": "redis://:password-of-redis@cache:6379/0",
        "auth_keys": {"a": "first-key-of-tokens", "b": "second-key-of-tokens"},
    }
    redact = Redaction(replace(settings, **known))
    for words in (
        "key-of-the-cursors",
        "password-of-libpq",
        "token-of-the-scraper",
        "password-in-url",
        "password-of-reports",
        "password-of-redis",
        "first-key-of-tokens",
        "second-key-of-tokens",
    ):
        assert redact(f"it was {words}, wasn't it") == "it was ***, wasn't it"
        assert words not in repr(replace(settings, **known))


def test_a_long_line_is_searched_in_no_time(settings):
    redact = Redaction(settings)
    for part in ("token=", "password: ", "eyJ", "a-", "://a:", "Bearer ", "secret'", '\\"', "Aa0-", "-----BEGIN "):
        line = "token password Bearer eyJ PRIVATE KEY :// " + part * (20_000 // len(part))
        begin = time.perf_counter()
        redact(line)
        assert time.perf_counter() - begin < 1, part


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_crash_in_a_view_shows_no_local_and_no_header(settings, capsys, log_format):
    app = create_app(replace(settings, log_format=log_format, log_level="DEBUG"))

    def crash():
        password_of_somebody = HEX
        raise LookupError(len(password_of_somebody))

    app.add_url_rule("/crash", "crash", requires(anyone)(crash), methods=["POST"])
    response = app.test_client().post(
        f"/crash?token={HEX}",
        json={"password": HEX, "comment": HEX},
        headers={"X-Api-Key": HEX, "Cookie": f"session={HEX}", "Proxy-Authorization": f"Basic {HEX}"},
    )
    output = "".join(capsys.readouterr())
    assert "LookupError: 32" in output
    assert HEX not in output + response.text
    db.shutdown()


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("form", ["Bearer {}", "bearer  {}", "Basic {}", "ApiKey {}", "{}"])
def test_credentials_of_a_request_are_neither_logged_nor_repeated(settings, capsys, log_format, form):
    client = create_app(replace(settings, log_format=log_format, log_level="DEBUG")).test_client()
    client.environ_base.clear()
    for path in ("/api/v1/products", "/metrics", "/nothing", "/readyz"):
        response = client.get(path, headers={"Authorization": form.format(JWT)})
        assert JWT not in response.get_data(as_text=True) + str(response.headers)
    assert JWT not in "".join(capsys.readouterr())
    db.shutdown()


@pytest.mark.parametrize("log_format", FORMATS)
def test_a_database_out_of_reach_does_not_cost_its_password(settings, capsys, log_format):
    url = f"postgresql+psycopg2://shop:{HEX}@127.0.0.1:1/none"
    app = create_app(replace(settings, database_url=url, log_format=log_format, log_level="DEBUG"))
    for path in ("/readyz", "/api/v1/products", "/api/v1/products/export"):
        response = app.test_client().get(path)
        assert response.status_code == 503
        assert HEX not in response.text
    with app.app_context():
        assert HEX not in repr(db.engine) + repr(db.engine.url) + repr(app.extensions["settings"])
    assert HEX not in "".join(capsys.readouterr())
    db.shutdown()


@pytest.mark.parametrize("command", [["db", "current"], ["purge", "--older-than", "1d"], ["history", "partitions"]])
def test_a_command_without_a_database_does_not_tell_its_password(command):
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    url = f"postgresql://shop:{HEX}@127.0.0.1:1/none"
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "api", *command],
        cwd=PROJECT,
        env=environment | {"DATABASE_URL": url, "LOG_LEVEL": "DEBUG"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert done.stderr
    assert HEX not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DATABASE_URL", "postgresql://shop:{}@db:port/shop"),
        ("DATABASE_URL", "mysql://shop:{}@db/shop"),
        ("DATABASE_URL", "{}"),
        ("DATABASE_URL_REPORTING", "mysql://shop:{}@db/shop"),
        ("DATABASE_URL_REPORTING", "{}"),
        ("AUTH_KEYS", "{}"),
        ("AUTH_KEYS", "a b:{}"),
        ("AUTH_KEYS", "a:{0},a:{0}"),
        ("RATE_LIMIT_STORAGE_URL", "http://:{}@cache"),
        ("RATE_LIMIT_STORAGE_URL", "{}"),
    ],
)
def test_a_setting_that_is_wrong_is_named_without_its_value(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value.format(HEX * 2))
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_env()
    assert variable in str(caught.value)
    shown = "".join(str(error) for error in (caught.value, caught.value.__cause__))
    assert HEX not in shown


@pytest.mark.parametrize("log_format", FORMATS)
def test_an_echo_of_every_statement_shows_no_value(settings, database, capsys, log_format):
    del database
    app = create_app(replace(settings, sql_echo=True, log_format=log_format, log_level="DEBUG"))
    with app.app_context():
        db.session.add(factories.UserFactory.build(password_hash=HASH))
        db.session.commit()
        db.session.execute(text("SELECT :value"), {"value": HEX})
        db.session.remove()
        db.engine.dispose()
    output = "".join(capsys.readouterr())
    assert "INSERT INTO users" in output
    assert HEX not in output


def test_the_embedded_server_s_log_shows_neither_statements_nor_rows(server, database):
    del database
    with db.engine.connect() as connection, pytest.raises(Exception, match="roles"):
        connection.execute(text("INSERT INTO roles (name, nothing) VALUES (:name, 1)"), {"name": HEX})
    with db.engine.connect() as connection, pytest.raises(Exception, match="null value"):
        connection.execute(text("INSERT INTO users (username) VALUES (:name)"), {"name": HEX})
    log = server.log_file.read_text()
    assert "null value in column" in log
    assert HEX not in log


def test_the_document_of_the_api_holds_no_setting(settings):
    changed = replace(settings, secret_key=HEX, metrics_token=HEX)
    client = create_app(changed).test_client()
    for path in ("/openapi.json", "/", "/docs"):
        response = client.get(path).get_data(as_text=True)
        assert HEX not in response
        assert "postgresql+psycopg2" not in response
    db.shutdown()
