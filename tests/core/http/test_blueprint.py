"""`ResourceBlueprint`: a resource from a few lines, whose views can be left out, changed and added."""

from __future__ import annotations

from dataclasses import replace

import pytest
from flask import Response, jsonify, request
from marshmallow import fields as ma_fields
from sqlalchemy import text

from api.core.access.predicates import anyone
from api.core.errors import ConflictError
from api.core.http.blueprint import ALL_VIEWS, ResourceBlueprint
from api.core.http.permissions import requires
from api.core.http.schema import BaseSchema, auto_field
from api.core.http.views import ResourceViews
from api.core.query.projection import NoSQLFormError
from api.core.resource.service import Service
from api.extensions import db
from api.resources.products.models import Product
from api.resources.tags.models import Tag
from api.resources.users.models import Profile
from tests.apps import create_app
from tests.callers import OPEN
from tests.factories import ProductFactory, ProfileFactory, TagFactory, UserFactory

pytestmark = pytest.mark.usefixtures("database")


class LabelSchema(BaseSchema):
    """A tag under another name."""

    class Meta(BaseSchema.Meta):
        model = Tag

    id = auto_field(dump_only=True)
    name = auto_field()
    version = auto_field(dump_only=True)


class ContactSchema(BaseSchema):
    """A model that can neither be restored nor tells a version."""

    class Meta(BaseSchema.Meta):
        model = Profile

    id = auto_field(dump_only=True)
    user_id = auto_field()
    country = auto_field()


class ProductLabelSchema(BaseSchema):
    """The least that a product needs."""

    class Meta(BaseSchema.Meta):
        model = Product

    id = auto_field(dump_only=True)
    name = auto_field()


def labels(**options):
    return ResourceBlueprint("labels", db, Tag, LabelSchema, permissions=OPEN, **options)


URL = "/api/v1/labels"


# -- the declaration


def test_a_declaration_of_one_line_serves_everything(client_of):
    client = client_of(labels())
    created = client.post(URL, json={"name": "new"})
    assert created.status_code == 201
    url = created.headers["Location"]
    assert client.get(url).json == {"id": created.json["id"], "name": "new", "version": 1}
    assert client.put(url, json={"name": "put"}).json["name"] == "put"
    assert client.patch(url, json={"name": "patched"}).json["name"] == "patched"
    assert client.delete(url).status_code == 204
    assert client.post(f"{url}/restore").json["name"] == "patched"
    assert [item["name"] for item in client.get(URL).json["items"]] == ["patched"]


def test_what_the_schema_leaves_out_cannot_be_seen_filtered_sorted_or_selected(client_of):
    client = client_of(labels())
    TagFactory()
    assert set(client.get(URL).json["items"][0]) == {"id", "name", "version"}
    for query in ("created_at__gt=2020-01-01T00:00:00Z", "sort=created_at", "fields=created_at", "products.id=1"):
        assert client.get(f"{URL}?{query}").status_code == 400


def test_a_model_without_a_version_has_no_etag_and_matches_none(client_of):
    client = client_of(ResourceBlueprint("profiles", db, Profile, ContactSchema, permissions=OPEN))
    url = f"/api/v1/profiles/{ProfileFactory().id}"
    assert "ETag" not in client.get(url).headers
    assert client.patch(url, json={"country": "Spain"}, headers={"If-Match": '"1"'}).status_code == 412
    assert client.patch(url, json={"country": "Spain"}, headers={"If-Match": "*"}).status_code == 200


def test_a_model_that_is_not_soft_deleted_is_removed_and_has_no_restore(client_of):
    client = client_of(ResourceBlueprint("profiles", db, Profile, ContactSchema, permissions=OPEN))
    url = f"/api/v1/profiles/{ProfileFactory().id}"
    assert client.delete(url).status_code == 204
    assert client.post(f"{url}/restore").status_code == 404
    assert client.get("/api/v1/profiles?deleted=include").status_code == 400
    assert db.session.scalar(text("SELECT count(*) FROM profiles")) == 0


def test_a_unique_key_of_another_table_is_a_conflict_at_its_field(client_of):
    client = client_of(ResourceBlueprint("profiles", db, Profile, ContactSchema, permissions=OPEN))
    response = client.post("/api/v1/profiles", json={"user_id": ProfileFactory().user_id})
    assert response.status_code == 409
    assert response.json["errors"][0]["pointer"] == "/user_id"
    assert client.post("/api/v1/profiles", json={"user_id": UserFactory().id}).status_code == 201


@pytest.mark.parametrize(
    "options",
    [
        {"filters": ("nothing.name",)},
        {"sorts": ("nothing",)},
        {"sorts": ("created_at",)},
        {"includes": ("products",)},
        {"default_sort": "-nothing"},
    ],
)
def test_a_declaration_that_does_not_fit_its_schema_stops_the_start(client_of, options):
    with pytest.raises(ValueError, match=r"nothing|created_at|products"):
        client_of(labels(**options))


def test_a_view_that_does_not_exist_cannot_be_left_out():
    with pytest.raises(ValueError, match="restor"):
        labels(without=("restor",))


def test_a_field_that_only_python_can_dump_stops_the_start(client_of):
    class Shouting(LabelSchema):
        name = ma_fields.Function(lambda tag: tag.name.upper())

    with pytest.raises(NoSQLFormError, match=r"Shouting\.name"):
        client_of(ResourceBlueprint("labels", db, Tag, Shouting, permissions=OPEN))


# -- views left out


@pytest.mark.parametrize(
    ("left_out", "method", "path"),
    [
        ("list", "GET", ""),
        ("create", "POST", ""),
        ("get", "GET", "/1"),
        ("replace", "PUT", "/1"),
        ("patch", "PATCH", "/1"),
        ("delete", "DELETE", "/1"),
    ],
)
def test_a_view_that_is_left_out_is_a_method_that_is_not_allowed(client_of, left_out, method, path):
    client = client_of(labels(without=(left_out,)))
    response = client.open(URL + path, method=method)
    assert response.status_code == 405
    assert method not in response.headers["Allow"]
    assert response.mimetype == "application/problem+json"


def test_a_path_whose_views_are_all_left_out_is_not_there(client_of):
    client = client_of(labels(without=("restore", "get", "replace", "patch", "delete")))
    assert client.post(f"{URL}/1/restore").status_code == 404
    assert client.get(f"{URL}/1").status_code == 404
    assert client.get(URL).status_code == 200


def test_without_the_view_of_a_row_a_new_one_is_created_all_the_same(client_of):
    client = client_of(labels(without=("get",)))
    response = client.post(URL, json={"name": "new"})
    assert response.status_code == 201
    assert response.headers["Location"] == f"{URL}/{response.json['id']}"


def test_a_view_that_is_left_out_is_not_documented(client_of):
    client = client_of(labels(without=("delete", "restore")))
    paths = client.get("/openapi.json").json["paths"]
    assert set(paths[URL]) & {"get", "post"} == {"get", "post"}
    assert "delete" not in paths[f"{URL}/{{id}}"]
    assert f"{URL}/{{id}}/restore" not in paths


def test_every_view_has_a_name():
    assert {"list", "create", "get", "replace", "patch", "delete", "restore"} < ALL_VIEWS
    assert all(callable(getattr(ResourceViews, name)) for name in ALL_VIEWS)


# -- views changed


class CarefulViews(ResourceViews):
    """Views with a rule and a header of their own."""

    def delete(self, key):
        """Delete one, unless it is in use."""
        if request.args.get("sure") != "true":
            raise ConflictError("Say ?sure=true.")
        with self.writing() as service:
            service.delete(service.locked(key))
        return Response(status=204, headers={"X-Deleted": str(key)})

    def get(self, key):
        """Fetch one, with a header."""
        response = super().get(key)
        response.headers["X-Seen"] = "yes"
        return response


def test_a_view_is_changed_in_a_subclass(client_of):
    client = client_of(labels(views=CarefulViews))
    url = f"{URL}/{TagFactory().id}"
    assert client.get(url).headers["X-Seen"] == "yes"
    refused = client.delete(url)
    assert (refused.status_code, refused.json["detail"]) == (409, "Say ?sure=true.")
    assert client.delete(f"{url}?sure=true").headers["X-Deleted"]
    assert client.get(url).status_code == 404


class UpperCaseService(Service[Tag]):
    """A rule of its own."""

    def prepared(self, data):
        values = super().prepared(data)
        return values | ({"name": values["name"].upper()} if "name" in values else {})


def test_a_service_of_its_own_is_used_by_every_view_that_writes(client_of):
    client = client_of(labels(service=UpperCaseService))
    created = client.post(URL, json={"name": "new"})
    url = created.headers["Location"]
    assert created.json["name"] == "NEW"
    assert client.put(url, json={"name": "put"}).json["name"] == "PUT"
    assert client.patch(url, json={"name": "patched"}).json["name"] == "PATCHED"


# -- views added


def test_a_view_is_added_as_in_any_blueprint(client_of):
    blueprint = labels()

    @blueprint.route("/count")
    @requires(anyone)
    def count():
        """How many there are."""
        with db.read_connection() as connection:
            return jsonify(count=connection.scalar(text("SELECT count(*) FROM tags")))

    TagFactory.create_batch(2)
    client = client_of(blueprint)
    assert client.get(f"{URL}/count").json == {"count": 2}
    assert "get" in client.get("/openapi.json").json["paths"][f"{URL}/count"]


def test_an_added_view_writes_in_a_transaction_that_commits_or_does_not(client_of):
    blueprint = labels()
    views = ResourceViews(blueprint)

    @blueprint.route("/<int:key>/shout", methods=["POST"])
    @requires(anyone)
    def shout(key):
        """Change it, and then perhaps fail."""
        with views.writing() as service:
            service.update(service.locked(key), {"name": "LOUD"})
            if "fail" in request.args:
                raise ConflictError("No.")
            return views.written(service.session, views.written_plan(), key, 200)

    tag = TagFactory(name="quiet")
    client = client_of(blueprint)
    assert client.post(f"{URL}/{tag.id}/shout?fail=1").status_code == 409
    assert client.get(f"{URL}/{tag.id}").json["name"] == "quiet"
    assert client.post(f"{URL}/{tag.id}/shout").json["name"] == "LOUD"
    assert client.get(f"{URL}/{tag.id}").json["name"] == "LOUD"


def test_a_lazy_load_in_a_request_s_transaction_is_a_mistake_of_ours(client_of):
    blueprint = ResourceBlueprint("things", db, Product, ProductLabelSchema, permissions=OPEN)
    views = ResourceViews(blueprint)

    @blueprint.route("/<int:key>/lazy", methods=["POST"])
    @requires(anyone)
    def lazy(key):
        """Load a relation row by row."""
        with views.writing() as service:
            return jsonify(category=service.locked(key).category.name)

    client = client_of(blueprint)
    response = client.post(f"/api/v1/things/{ProductFactory().id}/lazy")
    assert response.status_code == 500
    assert response.mimetype == "application/problem+json"
    assert response.json["detail"] == "Something went wrong on our side."


# -- several applications


def test_two_applications_have_limits_of_their_own(settings, client):
    strict = create_app(replace(settings, page_size_max=2, page_size_default=1)).test_client()
    TagFactory.create_batch(3)
    assert strict.get("/api/v1/tags?limit=3").status_code == 400
    assert len(strict.get("/api/v1/tags").json["items"]) == 1
    assert len(client.get("/api/v1/tags?limit=3").json["items"]) == 3


# -- where a version has to be named


@pytest.fixture
def strict(client_of):
    """A client of a resource that demands `If-Match`."""
    return client_of(labels(require_if_match=True))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("PUT", "", {"name": "new"}), ("PATCH", "", {"name": "new"}), ("DELETE", "", None), ("POST", "/restore", None)],
)
def test_a_change_that_names_no_version_is_refused_where_one_is_demanded(strict, method, path, body):
    url = f"{URL}/{TagFactory().id}"
    refused = strict.open(url + path, method=method, json=body)
    assert refused.status_code == 428
    assert refused.json["detail"] == "Name the version to change: send the resource's ETag as If-Match."
    tag = strict.get(url).headers["ETag"]
    assert strict.open(url + path, method=method, json=body, headers={"If-Match": tag}).status_code in {200, 204}


def test_that_a_version_is_demanded_is_documented(strict):
    paths = strict.get("/openapi.json").json["paths"]
    for method in ("put", "patch", "delete"):
        operation = paths[f"{URL}/{{id}}"][method]
        assert "428" in operation["responses"]
        assert [item["required"] for item in operation["parameters"] if item["name"] == "If-Match"] == [True]
