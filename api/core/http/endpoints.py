"""`EndpointBlueprint`: views that are no resource's, with our bodies, our errors, and nothing that is kept.

What they answer holds secrets or one caller's own affairs: no cache keeps it (RFC 9111, section 5.2.2.5), and it is
never stored for an Idempotency-Key, which these views do not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import request
from flask_smorest.blueprint import Blueprint

from api.core.errors import MalformedRequestError, Violation
from api.core.http.body import BodyParser
from api.core.http.query_string import pairs_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask, Response


class DescribingBlueprint(Blueprint):
    """A blueprint whose answers are described, and cost nothing else.

    flask-smorest wraps the view for each of them, looks in each request whether it is a coroutine, and copies all that
    was said of the view before, which took most of the time that the application needs to start.
    """

    def alt_response(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Describe an answer that a view gives besides."""
        return _describing(super().alt_response(*args, **kwargs))

    def made_response(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """As `response`, for a view that makes a `Response` itself."""
        return _describing(super().response(*args, **kwargs))


def _describing(decorator: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A decorator that says of a view what `decorator` says of it, and leaves it as it is."""

    def nothing() -> None:
        """What is described in the place of the view."""

    # Where flask-smorest looks for it.
    said: dict[str, Any] = decorator(nothing)._apidoc  # noqa: SLF001
    answers: dict[int, list[Any]] = said["response"]["responses"]
    successes: list[Any] = said.get("success_status_codes", [])

    def described(view: Any) -> Any:
        known = getattr(view, "_apidoc", {})
        response = known.get("response", {})
        responses = dict(response.get("responses", {}))
        for status, found in answers.items():
            responses[status] = [*responses.get(status, ()), *found]
        view._apidoc = {**known, "response": {**response, "responses": responses}}  # noqa: SLF001
        if successes:
            view._apidoc["success_status_codes"] = [*known.get("success_status_codes", ()), *successes]  # noqa: SLF001
        return view

    return described


class EndpointBlueprint(DescribingBlueprint):
    """A blueprint whose views take no parameters besides those in the path and the body."""

    ARGUMENTS_PARSER = BodyParser()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.before_request(_refuse_parameters)
        self.after_request(_unstored)

    def register_views_in_doc(self, api: Any, app: Flask, spec: Any, **options: Any) -> None:
        """Document the views, each by the name of its function."""
        for endpoint, described in self._docs.items():
            for method, operation in described.items():
                if method != "parameters":
                    operation.setdefault("manual_doc", {})["operationId"] = endpoint
        super().register_views_in_doc(api, app, spec, **options)


def _refuse_parameters() -> None:
    for name, _ in pairs_of(request):
        raise MalformedRequestError(violations=[Violation("This request takes no parameters.", parameter=name)])


def _unstored(response: Response) -> Response:
    response.cache_control.no_store = True
    return response
