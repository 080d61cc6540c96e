"""How many requests an address and a caller may send: 429 beyond that, and what is left in a header of each answer.

Addresses are limited before it is asked who is calling, so that tokens cannot be guessed at full speed; callers after.
The headers: draft-ietf-httpapi-ratelimit-headers-11.
"""

from __future__ import annotations

from functools import lru_cache, partial
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, TypeVar

from api.core.access.caller import current_caller
from api.core.errors import TooManyRequestsError
from api.core.http.request import current_request

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask, Request, Response

    from api.core.rates.quota import Quota, Rates

    View = TypeVar("View", bound=Callable[..., Any])

POLICY_HEADER = "RateLimit-Policy"
HEADER = "RateLimit"
ADDRESS = "address"
CALLER = "caller"

_COST = "rate_cost"
_POLICIES = "rate_limit_policies"
_LEFT = "api.rate_limit"
_SITE_BITS = 64
_ADDRESS_LENGTH_MAX = 64


def costs(units: int) -> Callable[[View], View]:
    """Declare that a request to this view counts as so many; 0 is not limited at all."""

    def declare(view: View) -> View:
        setattr(view, _COST, units)
        return view

    return declare


def limit_addresses(app: Flask, quota: Quota, rates: Rates) -> None:
    """Limit what comes from one address; to be called before whatever finds out who the caller is."""
    limit = _Limit(app, ADDRESS, quota, rates)

    @app.before_request
    def limit_address() -> None:
        sent = current_request()
        if address := sent.remote_addr:
            limit.take(sent, network_of(address))


def limit_callers(app: Flask, quota: Quota, rates: Rates) -> None:
    """Limit what one caller asks for, from wherever; to be called behind what finds out who that is."""
    limit = _Limit(app, CALLER, quota, rates)

    @app.before_request
    def limit_caller() -> None:
        caller = current_caller()
        if caller.is_authenticated:
            limit.take(current_request(), caller.name)


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """What is counted as one sender: an IPv4 address, or the /64 network that one site has in IPv6."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        # A proxy may say "unknown", or add a port.
        return address[:_ADDRESS_LENGTH_MAX]
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) >> _SITE_BITS << _SITE_BITS)}/{_SITE_BITS}"


class _Limit:
    """A policy in force: each answer tells what is left of it."""

    def __init__(self, app: Flask, policy: str, quota: Quota, rates: Rates) -> None:
        self._views = app.view_functions
        self._policy = policy
        self._quota = quota
        self._rates = rates
        told = app.extensions.get(_POLICIES)
        item = f'"{policy}";q={quota.amount};w={quota.seconds}'
        app.extensions[_POLICIES] = f"{told}, {item}" if told else item
        if not told:
            app.after_request(partial(_add_headers, app.extensions))

    def take(self, sent: Request, who: str) -> None:
        """Count the request `sent`.

        Raises:
            TooManyRequestsError: naming the policy, and when to come again.
        """
        cost = getattr(self._views.get(sent.endpoint or ""), _COST, 1)
        if not cost:
            return
        policy, quota, environ = self._policy, self._quota, sent.environ
        allowed, remaining, _ = verdict = self._rates.take(f"{policy}:{who}", quota, cost)
        left = f'"{policy}";r={remaining}'
        if not allowed:
            environ[_LEFT] = f"{left};t={verdict.wait}"
            detail = f"These are more requests than {quota.amount} in {quota.seconds} seconds for one {policy}."
            raise TooManyRequestsError(detail, retry_after=verdict.wait)
        environ[_LEFT] = f"{environ[_LEFT]}, {left}" if _LEFT in environ else left


def _add_headers(extensions: dict[str, Any], response: Response) -> Response:
    left = current_request().environ.get(_LEFT)
    if left is not None:
        add = response.headers.add
        add(POLICY_HEADER, extensions[_POLICIES])
        add(HEADER, left)
    return response
