"""Every place of a request where a client's text can stand: walked out of the OpenAPI document and the allow-lists.

A place is a function from a payload to a request. Nothing here names a resource: a new one is attacked as it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from api.core.http.views import ALLOW_LISTS
from api.core.query.allowlist import JSON_PATH_OPERATORS
from tests.security.bodies import example, fresh, new_name, placed, resolved, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from flask import Flask

    from api.core.query.allowlist import AllowList

METHODS = ("get", "post", "put", "patch", "delete")
HEADERS = (
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Access-Control-Request-Method",
    "Authorization",
    "Content-Encoding",
    "Content-Type",
    "Cookie",
    "Forwarded",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "Origin",
    "Range",
    "Referer",
    "User-Agent",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Prefix",
    "X-Forwarded-Proto",
    "X-HTTP-Method-Override",
    "X-Request-ID",
)
FILE_TYPES = {"text/csv", "application/x-ndjson"}
INSTEAD = (("/login", "email"), ("/revert", "entry"))
"""Fields in the place of which another one is given, by the end of the path."""


@dataclass(frozen=True)
class Place:
    """Where in which operation a payload stands."""

    operation: str
    kind: str
    where: str
    request: Callable[[str], dict[str, Any]] = field(repr=False, compare=False)

    def __str__(self) -> str:
        """What a failure is reported by."""
        return f"{self.operation}: {self.kind} {self.where}"


@dataclass(frozen=True)
class Operation:
    """One of the OpenAPI document, and what a right request to it consists of."""

    method: str
    path: str
    spec: Mapping[str, Any]
    allowed: AllowList | None
    known: Mapping[str, Any]
    document: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Method and path."""
        return f"{self.method.upper()} {self.path}"

    @property
    def url(self) -> str:
        """The path of a row that there is; one that there is not, where the row would be gone afterwards."""
        gone = {str: "01890000-0000-7000-8000-000000000000", int: 2_000_000_000}[type(self.key)]
        key = gone if self.method == "delete" else self.key
        return self.path.replace("{id}", str(key)).replace("{name}", "start.js")

    @property
    def key(self) -> Any:
        """Of a row that there is."""
        parts = self.path.split("/")
        return self.known.get(parts[3] if len(parts) > 3 else "", 1)

    @property
    def harmless(self) -> list[tuple[str, str]]:
        """Parameters that keep a write of many rows from happening."""
        names = {parameter["name"] for parameter in self.parameters("query")}
        many = self.method == "delete" or self.path.count("/") == 3
        chosen = [("id__in", str(self.key))] if "max_affected" in names else []
        return [*chosen, ("dry_run", "true")] if "dry_run" in names and many else chosen

    def parameters(self, where: str) -> list[Mapping[str, Any]]:
        """The documented parameters that stand there."""
        return [parameter for parameter in self.spec.get("parameters", ()) if parameter.get("in") == where]

    def bodies(self) -> dict[str, Any]:
        """A right body by media type."""
        content = self.spec.get("requestBody", {}).get("content", {})
        known = {**self.known, "id": self.key}
        bodies = {
            media_type: example(item.get("schema", {}), self.document, known)
            for media_type, item in content.items()
            if media_type not in FILE_TYPES
        }
        for body in bodies.values():
            for ending, name in INSTEAD:
                if self.path.endswith(ending):
                    del body[name]
            if self.path.endswith("/bulk") and self.method != "post":
                same = {} if self.method == "delete" else body["items"][0]
                body["items"] = [{**same, "id": self.key}]
        return bodies

    def send(self, pairs: list[tuple[str, str]] | None = None, **options: Any) -> dict[str, Any]:
        """The arguments of a client's `open`, with a right body where none is given."""
        path = options.pop("path", self.url)
        query = urlencode([*self.harmless, *(pairs or [])], errors="surrogatepass")
        if "data" not in options:
            for media_type, body in self.bodies().items():
                options |= {"data": json.dumps(fresh(body)), "content_type": media_type}
                break
            else:
                if FILE_TYPES & self.spec.get("requestBody", {}).get("content", {}).keys():
                    options |= {"data": f"name\n{new_name()}\n", "content_type": "text/csv"}
        return {"path": path, "method": self.method.upper(), "query_string": query, **options}


def operations(app: Flask, known: Mapping[str, Any]) -> list[Operation]:
    """All operations of the document; `known` are ids of rows that there are, by resource and by field."""
    document = app.test_client().get("/openapi.json").json
    found = []
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                shared = [resolved(parameter, document) for parameter in item.get("parameters", ())]
                own = [resolved(parameter, document) for parameter in item[method].get("parameters", ())]
                spec = {**item[method], "parameters": [*shared, *own]}
                resource = path.removeprefix("/api/v1/").split("/")[0]
                allowed = app.extensions[ALLOW_LISTS].get(resource)
                found.append(Operation(method, path, spec, allowed, known, document))
    return found


def places(operation: Operation) -> Iterator[Place]:
    """Every place in this operation."""
    yield from _queries(operation)
    yield from _names(operation)
    yield from _paths(operation)
    yield from _headers(operation)
    yield from _bodies(operation)
    yield from _patches(operation)
    yield from _files(operation)


# -- query strings -----------------------------------------------------------------------------------------------------


def _queries(operation: Operation) -> Iterator[Place]:
    """The value of each parameter; of filters in a group, too."""

    def pair(name: str, form: str) -> Callable[[str], dict[str, Any]]:
        return lambda text: operation.send([(name, form.replace("*", text))])

    for parameter in operation.parameters("query"):
        name = parameter["name"]
        yield Place(operation.name, "value", name, pair(name, "*"))
        if operation.allowed and name in operation.allowed.conditions:
            for group in ("or", "and", "not"):
                yield Place(operation.name, "group", f"{group}=({name}=…)", pair(group, f"({name}=*)"))
                yield Place(operation.name, "group", f'{group}=({name}="…")', pair(group, f'({name}="*")'))
            yield Place(operation.name, "list", name, pair(name, '"*",*'))


def _names(operation: Operation) -> Iterator[Place]:
    """Names of parameters, operators, keys of documents, and the names that values hold."""
    if operation.allowed is None:
        return

    def pair(name: str, value: str) -> Callable[[str], dict[str, Any]]:
        return lambda text: operation.send([(name.replace("*", text), value.replace("*", text))])

    forms = {"name": [("*", "1"), ("*__eq", "1"), ("or", "(*=1)"), ("not", "(*__gte=1)")]}
    forms["operator"] = [(f"{name}__*", "1") for name in operation.allowed.filters]
    forms["path"] = [
        (f"{document}.{path}__{operator}", value)
        for document in operation.allowed.filter_documents
        for path in ("*", "a.*", "*.b")
        for operator in JSON_PATH_OPERATORS
        for value in ("1", "*", '"*"')
    ]
    named = {parameter["name"] for parameter in operation.parameters("query")}
    lists = ("sort", "fields", "include", "group_by", "count", "sum", "avg", "min", "max", "count_distinct", "map")
    for name in (name for name in (*lists, "upsert") if name in named):
        stems = ["*", "-*", *(f"{stem}.*" for stem in sorted(operation.allowed.fields | operation.allowed.includes))]
        forms.setdefault("list of names", []).extend((name, stem) for stem in stems)
    if "having" in named:
        forms["having"] = [("having", form) for form in ("*", "*=1", "count__*=1", "count__gt=*", "(or=(count=*))")]
    if "map" in named:
        forms["map"] = [("map", form) for form in ("*:name", "name:*", "a:*,*:b")]
    for kind, pairs in forms.items():
        for name, value in pairs:
            yield Place(operation.name, kind, f"{name}={value}", pair(name, value))


# -- paths and headers -------------------------------------------------------------------------------------------------


def _paths(operation: Operation) -> Iterator[Place]:
    def into(form: str) -> Callable[[str], dict[str, Any]]:
        return lambda text: operation.send(path=form.replace("*", quote(text, safe="", errors="surrogatepass")))

    if "{" in operation.path:
        head, _, rest = operation.path.partition("{")
        tail = rest.partition("}")[2]
        yield Place(operation.name, "path", "key", into(f"{head}*{tail}"))
        yield Place(operation.name, "path", "behind the key", into(f"{operation.url.removesuffix(tail)}*{tail}"))
    yield Place(operation.name, "path", "below", into(f"{operation.url.rstrip('/')}/*"))
    yield Place(operation.name, "path", "behind a semicolon", into(f"{operation.url};*"))


def _headers(operation: Operation) -> Iterator[Place]:
    def header(name: str, form: str) -> Callable[[str], dict[str, Any]]:
        key = f"HTTP_{name.upper().replace('-', '_')}".replace("HTTP_CONTENT_TYPE", "CONTENT_TYPE")

        def request(text: str) -> dict[str, Any]:
            # As a server hands it over: bytes as latin-1, and never a line's end.
            value = form.replace("*", text).encode(errors="surrogatepass").decode("latin-1")
            clean = value.translate({13: " ", 10: " ", 0: " "})
            return operation.send(environ_overrides={key: clean})

        return request

    for name in HEADERS:
        for form in ("*", '"*"'):
            yield Place(operation.name, "header", f"{name}: {form}", header(name, form))
    yield Place(operation.name, "header", "Bearer", header("Authorization", "Bearer *"))
    yield Place(operation.name, "header", "Bearer with dots", header("Authorization", "Bearer *.*.*"))
    yield Place(operation.name, "header", "key", header("Authorization", "Bearer bk_*"))


# -- bodies ------------------------------------------------------------------------------------------------------------


def _bodies(operation: Operation) -> Iterator[Place]:
    """Each value of a right body, and a key in each of its objects."""

    def at(media_type: str, path: tuple[Any, ...], *, key: bool) -> Callable[[str], dict[str, Any]]:
        def request(text: str) -> dict[str, Any]:
            body = placed(fresh(operation.bodies()[media_type]), path, text, key=key)
            return operation.send(data=json.dumps(body), content_type=media_type)

        return request

    def raw(media_type: str) -> Callable[[str], dict[str, Any]]:
        return lambda text: operation.send(data=text.encode(), content_type=media_type)

    for media_type, body in operation.bodies().items():
        if "json-patch" in media_type:
            continue
        for path, value in walk(body):
            where = "/" + "/".join(map(str, path))
            yield Place(operation.name, "body", where, at(media_type, path, key=False))
            if isinstance(value, dict):
                yield Place(operation.name, "key", where, at(media_type, path, key=True))
        yield Place(operation.name, "body", "raw", raw(media_type))


def _patches(operation: Operation) -> Iterator[Place]:
    """Paths and values of a JSON Patch."""
    media_type = "application/json-patch+json"
    if media_type not in operation.spec.get("requestBody", {}).get("content", {}) or operation.allowed is None:
        return

    def patch(form: dict[str, Any]) -> Callable[[str], dict[str, Any]]:
        def request(text: str) -> dict[str, Any]:
            change = {
                name: value.replace("*", text) if isinstance(value, str) else value for name, value in form.items()
            }
            return operation.send(data=json.dumps([change]), content_type=media_type)

        return request

    fields = sorted(name for name in operation.allowed.fields if "." not in name)
    paths = ["*", "/*", *(f"/{name}" for name in fields), *(f"/{name}/*" for name in fields)]
    for path in paths:
        for op in ("add", "replace", "test", "remove"):
            yield Place(operation.name, "patch", f"{op} {path}", patch({"op": op, "path": path, "value": "*"}))
    for form in (
        {"op": "move", "from": "*", "path": "/*"},
        {"op": "copy", "from": "/metadata/*", "path": "/metadata/*"},
    ):
        yield Place(operation.name, "patch", form["op"], patch(form))
    yield Place(operation.name, "patch", "op", patch({"op": "*", "path": "/name", "value": "*"}))


def _files(operation: Operation) -> Iterator[Place]:
    """Headers, cells and keys of files."""
    content = operation.spec.get("requestBody", {}).get("content", {})
    if not FILE_TYPES & content.keys() or operation.allowed is None:
        return
    row = _row(operation)
    fields = sorted({name for name in operation.allowed.fields if "." not in name} | row.keys())

    def csv(header: list[str], cells: list[str]) -> Callable[[str], dict[str, Any]]:
        def request(text: str) -> dict[str, Any]:
            quoted = '"' + text.replace('"', '""') + '"'
            lines = [",".join(item.replace("*", quoted) for item in row) for row in (header, cells)]
            return operation.send(data="\n".join([*lines, ""]).encode(), content_type="text/csv")

        return request

    def ndjson(line: dict[str, Any]) -> Callable[[str], dict[str, Any]]:
        def request(text: str) -> dict[str, Any]:
            replaced = {key.replace("*", text): text if value == "*" else value for key, value in line.items()}
            return operation.send(data=json.dumps(replaced) + "\n", content_type="application/x-ndjson")

        return request

    yield Place(operation.name, "file", "csv header", csv(["*"], ["1"]))
    yield Place(operation.name, "file", "csv header behind a field", csv(["name", "*"], ["a", "1"]))
    yield Place(operation.name, "file", "ndjson key", ndjson({"*": 1}))
    yield Place(operation.name, "file", "raw", lambda text: operation.send(data=text.encode(), content_type="text/csv"))
    for name in fields:
        cells = {**row, name: "*"}
        header, values = [*cells], [str(value) for value in cells.values()]
        yield Place(operation.name, "file", f"csv cell {name}", csv(header, values))
        yield Place(operation.name, "file", f"ndjson {name}", ndjson(cells))
        yield Place(operation.name, "file", f"csv relation {name}", csv([*header, f"{name}.*"], [*values, "*"]))


def _row(operation: Operation) -> dict[str, Any]:
    """The plain values of a row that can be made, but for a password, which no file has."""
    create = operation.document["paths"][operation.path.removesuffix("/import")]["post"]
    body = example(create["requestBody"]["content"]["application/json"]["schema"], operation.document, operation.known)
    plain = {name: value for name, value in fresh(body).items() if not isinstance(value, (dict, list))}
    plain.pop("password", None)
    return plain
