"""What is saved in each request must not be missed: the same requests to Flask itself and to our application."""

from __future__ import annotations

from contextlib import ExitStack

import flask
import pytest
from flask import Blueprint, Flask, after_this_request, request, url_for

from api.core.http.application import Application, MadeResponse, Response


def described(kind):
    """An application with hooks everywhere, which write down that they ran, and views of many kinds."""
    app = kind("described")
    app.ran = []
    outer, inner = Blueprint("outer", "outer", url_prefix="/outer"), Blueprint("inner", "inner", url_prefix="/inner")

    def hooks_of(place, name, *, application=False):
        for number in (1, 2):
            text = f"{name}{number}"
            place.before_request(lambda text=text: app.ran.append(f"before {text}"))
            place.after_request(lambda response, text=text: app.ran.append(f"after {text}") or response)
            place.teardown_request(lambda _error, text=text: app.ran.append(f"teardown {text}"))
        if application:
            place.before_request(lambda: ("stopped", 418) if "stop" in request.args else None)

    def view():
        app.ran.append("view")
        if "later" in request.args:
            after_this_request(lambda response: app.ran.append("after this") or response)
        if "fail" in request.args:
            raise RuntimeError("of the view")
        return "seen"

    hooks_of(app, "app", application=True)
    hooks_of(outer, "outer")
    hooks_of(inner, "inner")
    for place in (app, outer, inner):
        place.add_url_rule("/view", "view", view)
        place.add_url_rule("/folder/", "folder", view)
    app.add_url_rule("/where", "where", lambda: url_for("outer.inner.view", _external=True))
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    return app


REQUESTS = [
    ("GET", "/view", {}),
    ("GET", "/outer/view", {}),
    ("GET", "/outer/inner/view", {}),
    ("GET", "/outer/inner/view?stop=1", {}),
    ("GET", "/outer/view?later=1", {}),
    ("GET", "/outer/view?fail=1", {}),
    ("GET", "/outer/folder", {}),
    ("GET", "/absent", {}),
    ("POST", "/outer/view", {}),
    ("OPTIONS", "/outer/view", {}),
    ("HEAD", "/outer/view", {}),
    ("GET", "//outer//view", {}),
    ("GET", "/outer/folder?a=%C3%A9&b=%FF", {}),
    ("GET", "/where", {"Host": "Example.ORG:8080"}),
    ("GET", "/where", {"Host": "example.org:80"}),
    ("GET", "/where", {"Host": "[::1]:5000"}),
    ("GET", "/where", {"Host": "büro.example".encode().decode("latin-1")}),
    ("GET", "/where", {"Host": "a b"}),
    ("GET", "/where", {"Host": ""}),
    ("GET", "/where", {"Host": f"{'a' * 70}.example"}),
]


@pytest.mark.parametrize(("method", "path", "headers"), REQUESTS)
def test_requests_are_answered_and_hooks_run_as_flask_does_it(method, path, headers):
    answers = []
    for kind in (Flask, Application):
        app = described(kind)
        # Twice: what is put together for the first is used for the second.
        for _ in range(2):
            answer = app.test_client().open(path, method=method, headers=headers)
        answers.append((answer.status, answer.headers.to_wsgi_list(), answer.data, app.ran))
    assert answers[0] == answers[1]


def test_signals_are_sent_to_those_who_listen():
    told = []
    for kind in (Flask, Application):
        app, heard = described(kind), []
        signals = {name: signal for name, signal in vars(flask.signals).items() if hasattr(signal, "receivers")}
        with ExitStack() as stack:
            for name, signal in sorted(signals.items()):
                stack.enter_context(
                    signal.connected_to(lambda *_, name=name, heard=heard, **__: heard.append(name), app)
                )
            for path in ("/view", "/view?fail=1", "/absent"):
                app.test_client().get(path)
        told.append(heard)
    assert told[0] == told[1]
    assert {"request_started", "request_finished", "request_tearing_down"} <= {*told[0]}


def test_a_service_below_a_path_makes_links_below_it():
    answers = [
        described(kind).test_client().get("/where", environ_overrides={"SCRIPT_NAME": "/below"}).text
        for kind in (Flask, Application)
    ]
    assert answers == ["http://localhost/below/outer/inner/view"] * 2


def test_a_rule_may_be_added_after_urls_have_been_asked_for():
    app = Application("bare", static_folder=None)
    app.add_url_rule("/rows/<int:key>", "row", lambda key: f"row {key}")
    with app.test_request_context("/rows/7"):
        assert url_for("row", key=7) == "/rows/7"
    app.add_url_rule("/rows/7", "seventh", lambda: "the seventh")
    assert app.test_client().get("/rows/7").text == "the seventh"


def closing(kind):
    response = kind("text")
    response.call_on_close(lambda: None)
    return response


RESPONSES = {
    "text": lambda kind: kind("text"),
    "bytes": lambda kind: kind(b"bytes", 201, {"X-Some": "1"}),
    "nothing": lambda kind: kind(),
    "no content": lambda kind: kind(status=204),
    "not modified": lambda kind: kind(status=304, headers={"ETag": '"1"'}),
    "a status of its own": lambda kind: kind("text", "299 Fine"),
    "a place": lambda kind: kind("text", 201, {"Location": "/büro"}),
    "a plain place": lambda kind: kind("text", 201, {"Location": "/api/v1/products/7", "Content-Location": "/a b"}),
    "only plain places": lambda kind: kind("text", 201, {"Location": "/api/v1/products/7"}),
    "a list of texts": lambda kind: kind(["one", "two"]),
    "a list of its own length": lambda kind: kind(["one", "two"], headers={"Content-Length": "6"}),
    "a stream": lambda kind: kind(iter(["one", "two"])),
    "something to close": closing,
}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", RESPONSES)
def test_an_answer_is_sent_as_flask_sends_it(name, method):
    sent = []
    for kind in (flask.Response, Response):
        told = []
        environ = {"REQUEST_METHOD": method, "wsgi.url_scheme": "http", "SERVER_NAME": "x", "SERVER_PORT": "80"}
        body = RESPONSES[name](kind)(environ, lambda status, headers, told=told: told.append((status, sorted(headers))))
        sent.append((told, b"".join(body)))
    assert sent[0] == sent[1]


@pytest.mark.parametrize(("status", "body"), [(200, b"{}"), (201, b"[]"), (304, b"")])
def test_an_answer_that_is_made_here_is_one_that_werkzeug_would_have_made(status, body):
    headers = [("Content-Type", "application/json"), ("ETag", '"1-1"')]
    made = MadeResponse(status, headers, *[body][: len(body)])
    plain = Response([body] if body else [], status, headers)
    assert {**vars(made), "headers": [*made.headers]} == {**vars(plain), "headers": [*plain.headers]}


def test_nobody_has_a_session():
    app = Application("bare", static_folder=None)
    app.add_url_rule("/", "keep", lambda: flask.session.update(name="me") or "kept")
    app.testing = True
    with pytest.raises(RuntimeError, match="session is unavailable"):
        app.test_client().get("/")
