"""`ResourceBlueprint`: the views of a resource from a declaration of a few lines."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect

from api.core.access.predicates import anyone
from api.core.http.body import JSON_TYPE, BodyParser
from api.core.http.documented import IF_MATCH, refusals
from api.core.http.endpoints import DescribingBlueprint
from api.core.http.field_rules import FieldRules
from api.core.http.permissions import POLICIES, UnguardedRouteError, guarded, required, requires
from api.core.http.rate_limits import costs
from api.core.http.schema import BaseSchema
from api.core.http.views import ALLOW_LISTS, ROUTES, ResourceViews
from api.core.http.writing import as_write, document_write
from api.core.query.collection import Collection
from api.core.query.read import Reader
from api.core.resource.service import Service
from api.core.resource.transfer.importable import Importable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flask import Flask

    from api.core.access.policy import Policy
    from api.core.database.extension import Database
    from api.core.http.schema import Variant

LIMITS = "query_limits"

ALL_VIEWS = frozenset(route.view for route in ROUTES)


class ResourceBlueprint(DescribingBlueprint):
    """List, aggregate, get, create, replace, patch, delete and restore for one resource.

    `filters`, `sorts` and `includes` allow what goes beyond the schema's own fields; `without` leaves views out;
    `require_if_match` answers 428 to a change that does not name the version that it is meant for. `permissions` says
    who may do what; a view that it gives to nobody by not naming its permission does not get past the start. To change
    a view, override its method in a subclass of `ResourceViews` and give it as `views`; to add one, use
    `@blueprint.route` as in any Flask blueprint, with `@requires(...)` below it.

        blueprint = ResourceBlueprint("tags", db, Tag, TagSchema, permissions=POLICY, sorts=("name",))
    """

    ARGUMENTS_PARSER = BodyParser()

    def __init__(  # noqa: PLR0913 - a declaration, by keyword
        self,
        name: str,
        db: Database,
        model: type[Any],
        schema: type[BaseSchema],
        *,
        permissions: Policy,
        service: type[Service[Any]] = Service,
        views: type[ResourceViews] = ResourceViews,
        filters: Sequence[str] = (),
        sorts: Sequence[str] = (),
        includes: Sequence[str] = (),
        default_sort: str = "id",
        without: Sequence[str] = (),
        imports: Sequence[str] | None = None,
        require_if_match: bool = False,
        example: dict[str, Any] | None = None,
        description: str = "",
    ) -> None:
        if unknown := set(without) - ALL_VIEWS:
            raise ValueError(f"{name}: there is no view {sorted(unknown)} to leave out; there is {sorted(ALL_VIEWS)}")
        super().__init__(name, __name__, url_prefix=f"/{name}", description=description or (model.__doc__ or ""))
        self.db = db
        self.model = model
        self.schema = schema
        self.service_class = service
        self.views_class = views
        self.policy = permissions.of(name)
        self.rules = FieldRules(schema, self.policy)
        self._collection_options: dict[str, Any] = {
            "filters": filters,
            "sorts": sorts,
            "includes": includes,
            "default_sort": default_sort,
        }
        self.example = example
        self.require_if_match = require_if_match
        self._imports = imports
        if imports is None and service is not Service:
            # It has rules of its own, which an import would go round.
            without = (*without, "import_rows")
        self._routes = [
            route for route in ROUTES if not {route.view, route.needs} & set(without) and route.possible(model)
        ]
        self._prepare_doc_cbks.append(document_write)  # type: ignore[arg-type]  # whose type is that of its last one
        self._add_views()

    def body(self, variant: Variant, *media_types: str) -> BaseSchema:
        """A schema of bodies, for the document; what is sent is loaded by the rules for whoever sends it.

        It may be declared as JSON, or as one of `media_types`.
        """
        schema = self.schema(variant=variant)
        schema.media_types = dict.fromkeys((JSON_TYPE, *media_types), partial(self.rules.load, variant))
        return schema

    def has_view(self, name: str) -> bool:
        """Whether the resource has this generic view."""
        return any(route.view == name for route in self._routes)

    def add_url_rule(  # type: ignore[override]  # Flask-smorest's own signature, by keyword
        self, rule: str, endpoint: str | None = None, view_func: Any = None, **options: Any
    ) -> None:
        """Register a view, generic or of one's own; what it writes, it writes as `core.http.writing` says.

        Raises:
            UnguardedRouteError: for a view without a permission.
        """
        if view_func is not None:
            permission = required(view_func)
            if permission is None:
                raise UnguardedRouteError(
                    f"{self.name}{rule} asks for no permission; mark its view with @requires(...)"
                )
            view_func = guarded(as_write(self.db, view_func, options.get("methods")), self.policy, permission)
        super().add_url_rule(rule, endpoint, view_func, **options)

    # -- registration ---------------------------------------------------------------------------------------------

    def register(self, app: Any, options: dict[str, Any]) -> None:
        """Check the declaration against model and schema, then register the routes."""
        self._check_policy()
        if not hasattr(self, "reader"):
            self._read_declaration()
        allowed = self.collection.allow_list(app.extensions[LIMITS], deletable="see_deleted" in self.policy.permissions)
        app.extensions[POLICIES].add(self.model, self.policy, self.collection.related_models)
        app.extensions.setdefault(ALLOW_LISTS, {})[self.name] = allowed
        super().register(app, options)

    def _read_declaration(self) -> None:
        """Make what is the same for every application of the process."""
        self.collection = Collection(self.name, self.model, self.schema, **self._collection_options)
        if self.is_importable:
            self.importable = Importable(self.model, self.schema, self._imports)
        self.reader = Reader(self.collection)

    def _check_policy(self) -> None:
        """Find out at the start what would not hold.

        Raises:
            ValueError: for a rule about a field or an attribute that is not there, and for one that hides what cursors
                and addresses are made of.
        """
        columns = inspect(self.model, raiseerr=True).columns
        fields = self.schema._declared_fields.keys()  # noqa: SLF001 - marshmallow has no public way to them
        for predicate in self.policy.permissions.values():
            if unknown := predicate.owners - {*columns.keys()}:
                raise ValueError(f"{self.name}: {self.model.__name__} has no column {sorted(unknown)} for an owner")
        if absent := {*self.policy.readable, *self.policy.writable} - fields:
            raise ValueError(
                f"{self.name}: there are no fields {sorted(absent)} to have rules; there is {sorted(fields)}"
            )
        order = self._collection_options["default_sort"].removeprefix("-")
        if shown := {"id", order.partition(".")[0]} & self.policy.readable.keys():
            raise ValueError(f"{self.name}: {sorted(shown)} cannot be hidden; lists are sorted by it")

    @property
    def is_importable(self) -> bool:
        """Whether there is a view that imports rows; then there is `importable`, too."""
        return any(route.view == "import_rows" for route in self._routes)

    def register_views_in_doc(self, api: Any, app: Flask, spec: Any, **options: Any) -> None:
        """Add the parameters, which depend on the application's limits, and document the views."""
        allowed = app.extensions[ALLOW_LISTS][self.name]
        for route in self._routes:
            manual = self._docs[route.view][route.method.lower()].setdefault("manual_doc", {})
            manual |= {
                "parameters": [self._described(parameter) for parameter in route.parameters(allowed)],
                "operationId": f"{route.view}_{self.name}",
                "summary": route.heading(self.schema.component_name("response").lower(), self.name),
            }
        super().register_views_in_doc(api, app, spec, **options)

    def _described(self, parameter: dict[str, Any]) -> dict[str, Any]:
        required = parameter is IF_MATCH and self.require_if_match
        return {**parameter, "required": True} if required else parameter

    def _add_views(self) -> None:
        views = self.views_class(self)
        for route in self._routes:
            function = route.document(self, costs(route.cost)(_as_function(getattr(views, route.view))))
            # Writes ask for more in some cases: an upsert of two permissions, one of a row that it is one's own.
            for_all = route.method == "GET" and self.policy.permissions.get(route.permission) is anyone
            function = requires(route.permission)(refusals(self, function, for_all=for_all))
            self.add_url_rule(
                route.path.format(key=self._key_converter()), route.view, function, methods=[route.method]
            )

    def _key_converter(self) -> str:
        key = inspect(self.model, raiseerr=True).local_table.primary_key.columns[0]
        return "<uuid:id>" if key.type.python_type.__name__ == "UUID" else "<key:id>"


def _as_function(method: Callable[..., Any]) -> Callable[..., Any]:
    """A function that decorators can put attributes on, which a bound method does not take."""

    def view(*args: Any, id: Any = None) -> Any:  # noqa: A002 - the name in the URL
        return method(*args) if id is None else method(*args, id)

    view.__doc__ = method.__doc__
    view.__name__ = method.__name__
    return view
