"""The application factory."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from flask_migrate import Migrate

import api
from api import extensions
from api.app import API_PREFIX, create_app
from api.config import ConfigurationError, Settings
from api.core.database.embedded import EmbeddedPostgres
from api.extensions import db

PROJECT = Path(__file__).resolve().parents[1]


def environment(**variables):
    """Of a process that is started as a user would, without what this process was started with."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    return kept | variables


def test_an_application_is_made_of_settings(settings):
    app = create_app(replace(settings, max_content_length=123))
    assert app.extensions["settings"].max_content_length == 123
    assert app.config["MAX_CONTENT_LENGTH"] == 123
    assert app.testing


def test_making_an_application_needs_no_database():
    app = create_app(Settings(app_env="test", database_url="postgresql+psycopg2://nobody@127.0.0.1:1/none"))
    client = app.test_client()
    assert client.get("/livez").status_code == 200
    assert client.get("/openapi.json").status_code == 200
    assert client.get(f"{API_PREFIX}/products").status_code == 503


def test_applications_of_one_process_do_not_share_their_settings(settings):
    one, other = create_app(replace(settings, pool_size=1)), create_app(replace(settings, pool_size=2))
    sizes = []
    for app in (one, other):
        with app.app_context():
            sizes.append(db.engine.pool.size())
    assert sizes == [1, 2]


def test_a_cursor_of_an_application_with_another_secret_is_refused(settings, client):
    other = create_app(replace(settings, secret_key="another secret")).test_client()
    for number in range(3):
        client.post(f"{API_PREFIX}/tags", json={"name": f"tag {number}"})
    following = client.get(f"{API_PREFIX}/tags?limit=2").json["next"]
    assert client.get(following).status_code == 200
    assert other.get(following).status_code == 400


def test_each_command_is_there(app):
    assert {"db", "serve", "seed", "load-retail"} <= set(app.cli.commands)


def test_flask_migrate_is_bound_when_it_is_asked_for(settings):
    app = create_app(settings)
    assert app.extensions["migrate"].db is db
    assert app.extensions["migrate"].migrate is extensions.migrate
    assert isinstance(extensions.migrate, Migrate)


def test_what_serves_takes_nothing_along_that_only_commands_need():
    script = """
import sys, api.app
api.app.create_app(api.app.Settings(database_url="postgresql+psycopg2://nobody@127.0.0.1:1/none"))
print(*{name.partition(".")[0] for name in sys.modules})
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, check=True, capture_output=True, text=True)
    assert {"api", "sqlalchemy"} <= set(done.stdout.split())
    assert not set(done.stdout.split()) & {"alembic", "flask_migrate", "mako", "jsonschema", "tests", "swagger_ui"}


def test_the_package_exports_the_factory():
    assert api.create_app is create_app


def test_without_a_database_url_the_embedded_server_serves(tmp_path):
    app = create_app(Settings(app_env="test", instance_path=tmp_path))
    server = app.extensions["embedded_postgres"]
    assert isinstance(server, EmbeddedPostgres)
    with app.app_context(), db.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    db.shutdown()
    assert server.stop()
    assert not server.is_running


def test_a_wrong_setting_stops_the_start(monkeypatch):
    monkeypatch.setenv("DB_POOL_SIZE", "ten")
    with pytest.raises(ConfigurationError, match="DB_POOL_SIZE"):
        create_app()


def test_gunicorn_s_entry_point_says_which_setting_is_wrong():
    done = subprocess.run(
        [sys.executable, "-c", "import api.wsgi"],
        cwd=PROJECT,
        env=environment(APP_ENV="production", DATABASE_URL="postgresql://a:b@127.0.0.1:1/c"),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("api.config.ConfigurationError: SECRET_KEY")


def test_flask_works_without_a_variable_to_export_first(settings):
    done = subprocess.run(
        [sys.executable, "-m", "flask", "routes"],
        cwd=PROJECT,
        env=environment(DATABASE_URL=settings.database_url),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "/api/v1/products" in done.stdout


def test_the_shell_has_the_models_and_the_database_at_hand(settings):
    done = subprocess.run(
        [sys.executable, "-m", "flask", "shell"],
        cwd=PROJECT,
        env=environment(DATABASE_URL=settings.database_url),
        input="print(db.session, Product, Order, User)\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "api.resources.products.models.Product" in done.stdout, done.stderr
