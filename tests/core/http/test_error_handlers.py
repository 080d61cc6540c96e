"""Every error is a problem (RFC 9457): ours, the framework's, the database's and those that nobody expected."""

from __future__ import annotations

import logging

import pytest
from flask import Flask, Response, abort, redirect
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import TooManyRequests, Unauthorized
from werkzeug.routing import RequestRedirect

from api.core import errors
from api.core.errors import APIError, Violation, invalid_field, pointer_to
from api.core.http import error_handlers


@pytest.fixture
def answer():
    """`answer(error)`: what a client gets when a view raises `error`."""
    small = Flask("small")
    error_handlers.init_app(small)
    raising = []

    @small.route("/raise")
    def view():
        error = raising.pop()
        if callable(error) and not isinstance(error, BaseException):
            return error()
        raise error

    def ask(error):
        raising.append(error)
        return small.test_client().get("/raise")

    return ask


def is_problem(response, status):
    assert response.status_code == status
    assert response.mimetype == "application/problem+json"
    assert response.json["status"] == status
    assert response.json["instance"] == "/raise"
    return response.json


# -- ours


@pytest.mark.parametrize(
    ("error", "status", "title"),
    [
        (errors.MalformedRequestError, 400, "Bad request"),
        (errors.NotFoundError, 404, "Not found"),
        (errors.ConflictError, 409, "Conflict"),
        (errors.PreconditionFailedError, 412, "Precondition failed"),
        (errors.UnsupportedMediaTypeError, 415, "Unsupported media type"),
        (errors.InvalidError, 422, "Invalid content"),
        (errors.UnavailableError, 503, "Service unavailable"),
        (errors.APIError, 500, "Internal server error"),
    ],
)
def test_an_error_of_ours_knows_its_status_title_and_detail(answer, error, status, title):
    problem = is_problem(answer(error()), status)
    assert problem["title"] == title
    assert problem["detail"] == error.default_detail
    assert "errors" not in problem


def test_an_error_tells_its_own_detail_and_violations(answer):
    violations = [Violation("One.", pointer="/a"), Violation("Two.", parameter="b"), Violation("Three.", header="C")]
    problem = is_problem(answer(errors.InvalidError("No good.", violations=violations)), 422)
    assert problem["detail"] == "No good."
    assert problem["errors"] == [
        {"pointer": "/a", "detail": "One."},
        {"parameter": "b", "detail": "Two."},
        {"header": "C", "detail": "Three."},
    ]


def test_a_single_violation_is_the_detail(answer):
    problem = is_problem(answer(invalid_field("items.0.quantity", "Too many.")), 422)
    assert problem["detail"] == "Too many."
    assert problem["errors"] == [{"pointer": "/items/0/quantity", "detail": "Too many."}]


def test_an_error_s_headers_are_sent(answer):
    assert answer(errors.UnavailableError(retry_after=7)).headers["Retry-After"] == "7"


def test_a_pointer_escapes_what_pointers_escape():
    assert pointer_to(["a/b", "c~d", 0, ""]) == "/a~1b/c~0d/0/"
    assert pointer_to([]) == ""


def test_an_error_is_readable_in_a_script():
    assert str(errors.ConflictError("It clashes.")) == "It clashes."
    assert isinstance(errors.NotFoundError(), APIError)


# -- the framework's


@pytest.mark.parametrize(
    "status", [400, 401, 403, 404, 405, 406, 408, 409, 410, 413, 415, 418, 422, 429, 500, 501, 502, 503]
)
def test_an_error_of_the_framework_is_a_problem(answer, status):
    def view():
        abort(status)

    problem = is_problem(answer(view), status)
    assert problem["title"]
    assert problem["detail"]


def test_a_description_is_the_detail(answer):
    assert is_problem(answer(lambda: abort(409, "Not twice.")), 409)["detail"] == "Not twice."


def test_headers_of_an_error_of_the_framework_are_kept(answer):
    unauthorized = answer(Unauthorized(www_authenticate=WWWAuthenticate("bearer")))
    assert is_problem(unauthorized, 401)
    assert unauthorized.headers["WWW-Authenticate"].lower().startswith("bearer")
    assert answer(TooManyRequests(retry_after=9)).headers["Retry-After"] == "9"


@pytest.mark.parametrize("error", [RequestRedirect("/elsewhere"), lambda: abort(redirect("/elsewhere", 308))])
def test_a_redirect_is_no_error(answer, error):
    response = answer(error)
    assert response.status_code == 308
    assert response.headers["Location"] == "/elsewhere"


def test_a_response_that_a_view_breaks_off_with_is_sent_as_it_is(answer):
    response = answer(lambda: abort(Response("done", 202)))
    assert (response.status_code, response.text) == (202, "done")


# -- the unexpected


@pytest.mark.parametrize(
    "error", [RuntimeError("secret"), KeyError("secret"), AssertionError("secret"), ValueError("secret")]
)
def test_what_nobody_expected_is_logged_and_not_shown(answer, caplog, error):
    with caplog.at_level(logging.ERROR):
        response = answer(error)
    problem = is_problem(response, 500)
    assert problem["detail"] == "Something went wrong on our side."
    assert "secret" not in response.text
    assert "secret" in caplog.text


# -- the database's


def test_a_pool_without_a_connection_is_unavailable(answer):
    response = answer(PoolTimeoutError("QueuePool limit of size 5 overflow 10 reached"))
    assert "QueuePool" not in is_problem(response, 503)["detail"]
    assert response.headers["Retry-After"]


def test_what_escapes_a_transaction_is_translated(answer, session):
    engine = session.get_bind()

    def view():
        with engine.connect() as connection:
            connection.execute(text("INSERT INTO tags (name) VALUES (NULL)"))

    problem = is_problem(answer(view), 422)
    assert problem["errors"] == [{"pointer": "/name", "detail": "Missing data for required field."}]


def test_a_mistake_in_our_sql_is_logged_and_not_shown(answer, session, caplog):
    engine = session.get_bind()

    def view():
        with engine.connect() as connection:
            connection.execute(text("SELECT secret FROM nowhere"))

    with caplog.at_level(logging.ERROR):
        response = answer(view)
    is_problem(response, 500)
    assert "nowhere" not in response.text
    assert ProgrammingError.__name__ in caplog.text
