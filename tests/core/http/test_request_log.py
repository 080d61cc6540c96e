"""What is logged of a request, and what is not."""

from __future__ import annotations

import json
import logging
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest
import structlog
from flask import Flask, Response, request, stream_with_context
from sqlalchemy import create_engine, text

from api.core.database import context
from api.core.errors import NotFoundError, UnavailableError
from api.core.http import error_handlers, request_log

PASSWORD = "correct-horse-battery"


@pytest.fixture
def engine(settings):
    engine = create_engine(settings.database_url, hide_parameters=True)
    yield engine
    engine.dispose()


@pytest.fixture
def make_app(settings, engine):
    def make(**changes):
        app = Flask("api", static_folder=None)
        app.config["PROPAGATE_EXCEPTIONS"] = False
        changes = {"log_format": "json", "log_level": "INFO", "secret_key": "a-key-that-nobody-may-see"} | changes
        request_log.init_app(app, replace(settings, **changes))
        error_handlers.init_app(app)
        add_views(app, engine)
        return app

    return make


@pytest.fixture
def client(make_app):
    return make_app().test_client()


@pytest.fixture
def lines(capsys):
    """The log lines since the last call, as dictionaries."""
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def add_views(app, engine):
    def rows():
        with engine.connect() as connection:
            for number in (1, 2):
                yield f"{connection.scalar(text('SELECT :n'), {'n': number})}\n"

    def break_off():
        yield "first"
        raise RuntimeError("the stream breaks")

    @app.route("/things/<int:number>", methods=["GET", "POST"])
    def thing(number):
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        return str(number)

    @app.get("/talks")
    def talks():
        structlog.get_logger("talker").info("from structlog")
        logging.getLogger("talker").info("from the standard library")
        return context.current_request_id()

    @app.get("/crashes")
    @app.get("/livez", endpoint="livez_crashes")
    def crashes():
        return "alive" if "live" in request.args else crash(PASSWORD)

    app.add_url_rule("/unavailable", view_func=unavailable)
    app.add_url_rule("/missing", view_func=missing)
    app.add_url_rule("/stream", view_func=lambda: Response(stream_with_context(rows())))
    app.add_url_rule("/broken-stream", endpoint="broken", view_func=lambda: Response(break_off()))
    app.add_url_rule("/quotes-a-row", endpoint="quotes", view_func=lambda: quote_a_row(engine))


def crash(password):
    raise LookupError(f"cannot reach postgresql://user:{password}@server/db")


def lose_connection():
    raise ConnectionError("the cable is out")


def unavailable():
    try:
        lose_connection()
    except ConnectionError as error:
        raise UnavailableError from error


def missing():
    raise NotFoundError


def quote_a_row(engine):
    with engine.connect() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE quoted (name text, CONSTRAINT short CHECK (length(name) < 3))"))
        try:
            connection.execute(text("INSERT INTO quoted VALUES (:name)"), {"name": PASSWORD})
        except Exception as error:
            raise RuntimeError from error


def test_a_request_is_one_line_with_everything_that_explains_it(client, lines):
    client.get("/things/7")
    (line,) = lines()
    assert line.pop("duration_ms") > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("timestamp"))
    assert uuid.UUID(line.pop("request_id")).version == 7
    assert line == {
        "event": "request",
        "level": "info",
        "logger": "api.request",
        "method": "GET",
        "path": "/things/7",
        "remote_addr": "127.0.0.1",
        "route": "/things/<int:number>",
        "statements": 1,
        "status": 200,
    }


def test_text_begins_with_what_people_look_for(make_app, capsys):
    make_app(log_format="text").test_client().get("/things/7")
    line = capsys.readouterr().err
    assert re.match(r"\S+Z \[info +\] GET /things/7 200 ", line)
    assert "statements=1" in line


def test_a_path_without_a_route_has_none_in_its_line(client, lines):
    client.get("/nowhere")
    assert lines()[0]["route"] is None


@pytest.mark.parametrize("given", ["a", "A-z.0_9", "x" * 128])
def test_a_well_formed_id_is_taken_and_returned(client, lines, given):
    response = client.get("/things/1", headers={"X-Request-ID": given})
    assert response.headers.getlist("X-Request-ID") == [given]
    assert lines()[0]["request_id"] == given


@pytest.mark.parametrize("given", ["", " ", "a b", "x" * 129, "ü", "a\n", "a\r\nSet-Cookie: b", '"'])
def test_an_ill_formed_id_is_replaced_by_a_uuid7(client, given):
    response = client.get("/things/1", environ_overrides={"HTTP_X_REQUEST_ID": given})
    assert uuid.UUID(response.headers["X-Request-ID"]).version == 7


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("DELETE", "/things/1", 405),
        ("GET", "/crashes", 500),
        ("GET", "/unavailable", 503),
        ("HEAD", "/things/1", 200),
    ],
)
def test_every_answer_bears_the_id(client, method, path, status):
    response = client.open(path, method=method, headers={"X-Request-ID": "mine"})
    assert (response.status_code, response.headers["X-Request-ID"]) == (status, "mine")


def test_whatever_is_logged_within_a_request_bears_its_id(client, lines):
    response = client.get("/talks", headers={"X-Request-ID": "mine"})
    assert response.text == "mine"
    assert [(line["event"], line["request_id"]) for line in lines()] == [
        ("from structlog", "mine"),
        ("from the standard library", "mine"),
        ("request", "mine"),
    ]


def test_what_is_logged_behind_a_request_bears_no_id(client, lines):
    client.get("/things/1")
    lines()
    structlog.get_logger("talker").info("later")
    assert "request_id" not in lines()[0]
    assert context.current_request_id() is None


def test_requests_at_the_same_time_keep_their_ids_and_statements_apart(make_app, engine, lines):
    app, together = make_app(), Barrier(4)

    @app.get("/together/<int:number>")
    def meet(number):
        together.wait(timeout=10)
        with engine.connect() as connection:
            for _ in range(number):
                connection.execute(text("SELECT 1"))
        together.wait(timeout=10)
        return ""

    with ThreadPoolExecutor(4) as pool:
        for number in range(4):
            pool.submit(app.test_client().get, f"/together/{number}", headers={"X-Request-ID": str(number)})
    assert {line["request_id"]: line["statements"] for line in lines()} == {"0": 0, "1": 1, "2": 2, "3": 3}


def test_a_crash_is_logged_at_error_with_its_traceback(client, lines):
    client.get("/crashes")
    (line,) = lines()
    assert line["level"] == "error"
    assert "in crash\n" in line["exception"]
    assert "LookupError: cannot reach" in line["exception"]


def test_the_client_sees_nothing_of_a_crash(client):
    response = client.get("/crashes")
    assert response.content_type == "application/problem+json"
    assert "LookupError" not in response.text
    assert "cannot reach" not in response.text


def test_an_error_that_a_handler_answers_with_503_is_logged_with_what_caused_it(client, lines):
    client.get("/unavailable")
    (line,) = lines()
    assert (line["level"], line["status"]) == ("error", 503)
    assert line["reason"] == "the cable is out"
    assert "exception" not in line


@pytest.mark.parametrize("path", ["/missing", "/nowhere"])
def test_an_error_of_the_client_is_no_error_of_ours(client, lines, path):
    client.get(path)
    (line,) = lines()
    assert (line["level"], line["status"]) == ("info", 404)
    assert "exception" not in line


def test_an_error_handler_that_crashes_is_logged_with_both_tracebacks(make_app, lines):
    app = make_app()

    def fail(_):
        raise KeyError("in the handler")

    app.register_error_handler(LookupError, fail)
    response = app.test_client().get("/crashes")
    (line,) = lines()
    assert response.status_code == 500
    assert "KeyError: 'in the handler'" in line["exception"]
    assert "LookupError: cannot reach" in line["exception"]


def test_a_probe_is_logged_at_debug_only(make_app, lines):
    make_app().test_client().get("/livez?live")
    assert lines() == []
    make_app(log_level="DEBUG").test_client().get("/livez?live")
    assert [(line["level"], line["route"]) for line in lines()] == [("debug", "/livez")]


def test_a_probe_that_crashes_is_an_error(client, lines):
    client.get("/livez")
    assert lines()[0]["level"] == "error"


def test_query_strings_headers_and_bodies_are_not_logged(make_app, capsys):
    client = make_app(log_level="DEBUG").test_client()
    client.post(
        f"/things/1?q={PASSWORD}", json={"q": PASSWORD}, headers={"Authorization": PASSWORD, "Cookie": PASSWORD}
    )
    client.get(f"/unavailable?q={PASSWORD}")
    assert PASSWORD not in capsys.readouterr().err


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize("ending", ["%0A", "%0D", "%0D%0A", "%C2%85", "%E2%80%A8", "%0B", "%1B%5B2K"])
def test_a_path_cannot_forge_a_line(make_app, capsys, log_format, ending):
    make_app(log_format=log_format).test_client().get(f"/x{ending}forged")
    output = capsys.readouterr().err
    assert len(output.splitlines()) == 1
    assert "\x1b" not in output


def test_a_message_cannot_forge_a_line_of_text(make_app, capsys):
    make_app(log_format="text")
    logging.getLogger("talker").warning("first\nforged\r\x1b[2K")
    assert capsys.readouterr().err.splitlines()[1].startswith("    forged\\r\\x1b[2K")


def test_in_text_only_a_record_begins_at_the_margin(make_app, capsys):
    make_app(log_format="text").test_client().get("/crashes")
    first, *others = capsys.readouterr().err.splitlines()
    assert "GET /crashes 500" in first
    assert others
    assert all(line.startswith("    ") for line in others)


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_password_in_a_url_is_masked(make_app, capsys, log_format):
    make_app(log_format=log_format).test_client().get("/crashes")
    output = capsys.readouterr().err
    assert "postgresql://user:***@server/db" in output
    assert PASSWORD not in output


@pytest.mark.parametrize("form", ["password={}", "password='{}'", "PASSWORD: {},", '{{"password": "{}"}}'])
def test_a_password_behind_its_name_is_masked(make_app, capsys, form):
    make_app()
    logging.getLogger("talker").warning(form.format(PASSWORD))
    output = capsys.readouterr().err
    assert "***" in output
    assert PASSWORD not in output


def test_a_masked_field_leaves_the_line_json(make_app, lines):
    make_app()
    structlog.get_logger("talker").warning("new", password=PASSWORD, password_hash="$argon2id$v", note='a "b"')
    (line,) = lines()
    assert (line["password"], line["password_hash"], line["note"]) == ("***", "***", 'a "b"')


def test_the_secret_key_and_the_databases_password_never_appear(make_app, lines):
    make_app(database_url=f"postgresql+psycopg2://user:{PASSWORD}@server/db")
    logging.getLogger("talker").warning("a-key-that-nobody-may-see and %s", PASSWORD)
    assert lines()[0]["event"] == "*** and ***"


def test_what_postgresql_quotes_from_a_row_is_hidden(client, lines):
    client.get("/quotes-a-row")
    (line,) = lines()
    assert "Failing row contains (***)" in line["exception"]
    assert PASSWORD not in line["exception"]


def test_a_streamed_answer_is_logged_when_it_ends_with_its_statements(client, lines):
    response = client.get("/stream", headers={"X-Request-ID": "mine"})
    assert lines() == []
    assert response.text == "1\n2\n"
    (line,) = lines()
    assert (line["statements"], line["request_id"], line["status"]) == (2, "mine", 200)
    response.close()
    assert lines() == []


def test_a_streamed_answer_that_nobody_waits_for_is_logged_when_it_is_closed(client, lines):
    client.get("/stream").close()
    assert len(lines()) == 1


def test_a_stream_that_breaks_off_is_an_error(client, lines):
    with pytest.raises(RuntimeError, match="the stream breaks"):
        client.get("/broken-stream", buffered=True)
    (line,) = lines()
    assert line["level"] == "error"
    assert "RuntimeError: the stream breaks" in line["exception"]


def test_an_application_that_raises_is_logged_and_raises(make_app, lines):
    app = make_app()
    app.config["PROPAGATE_EXCEPTIONS"] = True
    with pytest.raises(LookupError):
        app.test_client().get("/crashes")
    assert [(line["level"], line["status"]) for line in lines()] == [("error", 500)]


def test_observers_get_every_finished_request(make_app):
    app, seen = make_app(), []
    request_log.on_finished(app, lambda exchange: seen.append((exchange.route, exchange.status, exchange.statements)))
    client = app.test_client()
    client.get("/things/1")
    client.get("/nowhere")
    assert seen == [("/things/<int:number>", 200, 1), (None, 404, 0)]


def test_gunicorns_lines_have_the_same_form_and_come_once(make_app, lines):
    gunicorn = logging.getLogger("gunicorn.error")
    gunicorn.propagate = False
    gunicorn.addHandler(logging.StreamHandler())
    make_app()
    gunicorn.warning("Booting %s", "worker")
    assert [(line["event"], line["logger"], line["level"]) for line in lines()] == [
        ("Booting worker", "gunicorn.error", "warning")
    ]


def test_gunicorns_line_of_a_request_that_broke_off_has_no_query_string(make_app, lines):
    make_app()
    logging.getLogger("gunicorn.error").error("Error handling request %s %s", "GET", f"/things?q={PASSWORD}")
    assert lines()[0]["event"] == "Error handling request GET /things"


def test_the_development_servers_own_request_lines_are_dropped(make_app, lines):
    make_app()
    werkzeug = logging.getLogger("werkzeug")
    werkzeug.warning('127.0.0.1 - - [now] "%s" %s %s', f"GET /?q={PASSWORD}", 200, 5)
    werkzeug.warning("Running on %s", "http://127.0.0.1:5000")
    assert [line["event"] for line in lines()] == ["Running on http://127.0.0.1:5000"]


def test_an_echoed_statement_comes_once(make_app, settings, capsys):
    make_app()
    echoing = create_engine(settings.database_url, echo=True)
    with echoing.connect() as connection:
        connection.execute(text("SELECT 4711"))
    echoing.dispose()
    captured = capsys.readouterr()
    assert (captured.out + captured.err).count("SELECT 4711") == 1


@pytest.mark.parametrize("value", ["\ud800", 2**70, {1: 2}, object()])
def test_a_value_that_is_no_json_loses_no_line(make_app, lines, value):
    make_app()
    structlog.get_logger("talker").warning("odd", value=value)
    assert lines()[0]["event"] == "odd"


def test_configuring_again_doubles_no_line(make_app, lines):
    make_app()
    make_app()
    logging.getLogger("talker").warning("once")
    assert len(lines()) == 1
