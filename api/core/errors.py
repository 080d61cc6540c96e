"""Errors with a meaning: each knows its HTTP status and title, and points at what was wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong: where (a JSON pointer into the body, or a parameter), and what would be right."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None
    header: str | None = None

    def as_dict(self) -> dict[str, str]:
        """The violation as it stands in a problem's `errors`."""
        place = {"pointer": self.pointer, "parameter": self.parameter, "header": self.header}
        return {name: value for name, value in place.items() if value is not None} | {"detail": self.detail}


class APIError(Exception):
    """Base of all errors that a client is told about; `detail` holds no SQL, no secret and no other user's value."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal server error"
    default_detail: ClassVar[str] = "Something went wrong on our side."

    def __init__(
        self,
        detail: str | None = None,
        *,
        violations: Iterable[Violation] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.violations = tuple(violations)
        self.detail = detail or self._summary()
        self.headers = dict(headers or {})
        super().__init__(self.detail)

    def _summary(self) -> str:
        if len(self.violations) == 1:
            return self.violations[0].detail
        return self.default_detail


class MalformedRequestError(APIError):
    """The request cannot be understood: a wrong parameter, malformed JSON."""

    status = 400
    title = "Bad request"
    default_detail = "The request has errors; see the list."


class UnauthorizedError(APIError):
    """It is not known who is asking, or what was sent to prove it does not hold (any more)."""

    status = 401
    title = "Unauthorized"
    default_detail = "Log in, and send the token as Authorization: Bearer <token>."

    def __init__(self, detail: str | None = None, *, violations: Iterable[Violation] = ()) -> None:
        super().__init__(detail, violations=violations, headers={"WWW-Authenticate": 'Bearer realm="api"'})


class ForbiddenError(APIError):
    """It is known who is asking, and that they may not."""

    status = 403
    title = "Forbidden"
    default_detail = "You may not do this."


class NotFoundError(APIError):
    """No such thing, or none that the caller may know of."""

    status = 404
    title = "Not found"
    default_detail = "There is nothing here."


class ConflictError(APIError):
    """The request is right in itself but clashes with what is stored."""

    status = 409
    title = "Conflict"
    default_detail = "The request conflicts with what is stored."


class PreconditionFailedError(APIError):
    """The row has changed since the version that the caller names."""

    status = 412
    title = "Precondition failed"
    default_detail = "The resource has changed since the version you name; fetch it again."


class TooLargeError(APIError):
    """The body is more than is accepted."""

    status = 413
    title = "Content too large"
    default_detail = "The body is too large."


class UnsupportedMediaTypeError(APIError):
    """The body is not JSON by its Content-Type."""

    status = 415
    title = "Unsupported media type"
    default_detail = "Send the body as application/json."


class InvalidError(APIError):
    """The body is well-formed but breaks a rule."""

    status = 422
    title = "Invalid content"
    default_detail = "The content has errors; see the list."


class PreconditionRequiredError(APIError):
    """The resource must not be changed without telling which version of it is meant."""

    status = 428
    title = "Precondition required"
    default_detail = "Name the version to change: send the resource's ETag as If-Match."


class TooManyRequestsError(APIError):
    """More than this caller may ask for in this time."""

    status = 429
    title = "Too many requests"
    default_detail = "These are too many requests; please wait."

    def __init__(self, detail: str | None = None, *, retry_after: int) -> None:
        """`retry_after` is in seconds."""
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class UnavailableError(APIError):
    """The database is out of reach or too busy; the same request may succeed soon."""

    status = 503
    title = "Service unavailable"
    default_detail = "The database is not available at the moment; please try again."

    def __init__(self, detail: str | None = None, *, retry_after: int = 2) -> None:
        """`retry_after` is in seconds."""
        super().__init__(detail, headers={"Retry-After": str(retry_after)})


class TransactionConflictError(UnavailableError):
    """The database has undone the transaction in favour of another one; run again from its start, it may succeed."""

    default_detail = "Others are changing the same data; please try again."

    def __init__(self, detail: str | None = None, *, retry_after: int = 1) -> None:
        """`retry_after` is in seconds."""
        super().__init__(detail, retry_after=retry_after)


def invalid_field(field: str, detail: str) -> InvalidError:
    """An `InvalidError` about one field of the body, named as the API names it; dots go into nested objects."""
    return InvalidError(violations=[Violation(detail, pointer=pointer_to(field.split(".")))])


def pointer_to(path: Iterable[Any]) -> str:
    """A JSON pointer (RFC 6901) to `path`."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)
