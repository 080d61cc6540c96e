"""The registry: a resource is a folder, and needs no entry anywhere."""

from __future__ import annotations

import subprocess
import sys

import pytest
from flask import Flask

from api import registry, resources
from api.app import API_PREFIX
from api.extensions import db

MODELS = """
from sqlalchemy.orm import DeclarativeBase
LOADED = True
"""
ROUTES = """
from flask_smorest.blueprint import Blueprint
blueprint = Blueprint("gadgets", __name__, url_prefix="/gadgets")

@blueprint.route("")
def gadgets():
    return {"items": []}
"""


class _Collected(Flask):
    """Collects blueprints as flask-smorest's Api does."""

    def register_blueprint(self, blueprint, **options):
        super().register_blueprint(blueprint, **options)


@pytest.fixture
def resource(tmp_path, monkeypatch):
    """`resource("gadgets", models=…)`: a folder beside those of the project."""
    monkeypatch.setattr(resources, "__path__", [str(tmp_path)])

    def make(name, **files):
        (tmp_path / name).mkdir()
        for file, content in {"__init__": "", **files}.items():
            (tmp_path / name / f"{file}.py").write_text(content)

    yield make
    for name in [name for name in sys.modules if name.startswith("api.resources.gadgets")]:
        del sys.modules[name]


def test_every_table_s_model_and_every_blueprint_of_the_project_is_found(app):
    assert {"users", "profiles", "roles", "categories", "tags", "products", "orders", "order_items"} <= set(
        db.metadata.tables
    )
    assert {"users", "roles", "categories", "tags", "products", "orders"} <= set(app.blueprints)


def test_a_new_folder_is_found_by_its_presence(resource):
    resource("gadgets", models=MODELS, routes=ROUTES)
    registry.import_models()
    assert sys.modules["api.resources.gadgets.models"].LOADED
    app = _Collected("small")
    registry.register_blueprints(app, API_PREFIX)
    assert app.test_client().get(f"{API_PREFIX}/gadgets").json == {"items": []}


@pytest.mark.parametrize("files", [{}, {"models": MODELS}])
def test_a_folder_may_leave_files_out(resource, files):
    resource("gadgets", **files)
    registry.import_models()
    app = _Collected("small")
    registry.register_blueprints(app, API_PREFIX)
    assert not app.blueprints


def test_a_mistake_in_a_resource_stops_the_start(resource):
    resource("gadgets", models="import no_such_module")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        registry.import_models()


def test_the_application_can_be_imported_anew_in_the_same_process():
    """As gunicorn's reloader does: listeners of the first import must not judge the models of the second."""
    script = """
import sys
for _ in range(2):
    for name in [name for name in sys.modules if name.partition(".")[0] == "api"]:
        del sys.modules[name]
    from api import registry
    registry.import_models()
    from sqlalchemy.orm import configure_mappers
    configure_mappers()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
