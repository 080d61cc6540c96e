"""`/metrics` for Prometheus: requests, latency by route, statements and pool use, right across gunicorn's workers.

With `PROMETHEUS_MULTIPROC_DIR` set before this module is imported, prometheus-client keeps each process's figures in
that directory, and whichever worker is asked adds them up. Whoever runs the workers calls
`prometheus_client.multiprocess.mark_process_dead(pid)` when one ends; else its pool would be counted for ever.
"""

from __future__ import annotations

import hmac
import os
from threading import Lock
from typing import TYPE_CHECKING

import prometheus_client
from flask import Response, request
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import QueuePool

from api.core.access.caller import Caller
from api.core.access.predicates import anyone
from api.core.database.watchdog import SAMPLED
from api.core.http.authentication import Identity
from api.core.http.permissions import requires
from api.core.http.rate_limits import costs
from api.core.http.request_log import on_finished

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask import Flask, Request
    from sqlalchemy import Engine

    from api.core.access.predicates import Predicate
    from api.core.database.extension import Database
    from api.core.http.authentication import Authenticator
    from api.core.http.request_log import Exchange

PATH = "/metrics"
SCRAPER = "metrics:scraper"
"""The role of whoever sends the token of `scraper()`."""

UNMATCHED_ROUTE = "unmatched"
"""The label of all requests that no route answers: a scanner must not fill the memory with labels."""

OTHER_METHOD = "OTHER"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds."""


def scraper(token: str) -> Authenticator:
    """Recognises who asks for the figures with `Authorization: Bearer <token>`, and does nothing elsewhere."""
    expected = f"Bearer {token}".encode()
    identity = Identity(Caller("operator:metrics", roles=frozenset({SCRAPER})))

    def find(request: Request) -> Identity | None:
        if request.path != PATH:
            return None
        given = request.headers.get("Authorization", "").encode()
        # Whatever it is, it may be another one's to recognise.
        return identity if hmac.compare_digest(given, expected) else None

    return find


def init_app(app: Flask, db: Database, permission: Predicate = anyone) -> None:
    """Measure every request to `app` and its pools, and serve the figures at `/metrics` to whom `permission` says.

    Call it behind `request_log.init_app()` and `db.init_app()`.
    """
    # One registry an application: a second application in the same process registers the same names.
    registry = CollectorRegistry()
    requests = RequestMetrics(registry)
    with app.app_context():
        pools = PoolMetrics(registry, list(db.engines.values()))

    def metrics() -> Response:
        pools.sample()
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        response = Response(encode(_collected(registry)), content_type=content_type)
        response.cache_control.no_store = True
        return response

    on_finished(app, requests.observe)
    app.add_url_rule(PATH, view_func=costs(0)(requires(permission)(metrics)))


_process = os.getpid()


def _remember_process() -> None:
    global _process  # noqa: PLW0603 - one for each process
    _process = os.getpid()


os.register_at_fork(after_in_child=_remember_process)
if values.ValueClass._multiprocess:  # noqa: SLF001 - as below
    # By default each change of each figure asks the system which process this is.
    values.ValueClass = values.MultiProcessValue(lambda: _process)


def _is_multiprocess() -> bool:
    """Whether prometheus-client found `PROMETHEUS_MULTIPROC_DIR` when it was imported."""
    return bool(values.ValueClass._multiprocess)  # noqa: SLF001 - there is no public question for it


def _collected(registry: CollectorRegistry) -> CollectorRegistry:
    """What `/metrics` shows: this process's registry, or the sum over all processes."""
    if not _is_multiprocess():
        return registry
    everything = CollectorRegistry()
    MultiProcessCollector(everything)
    return everything


class RequestMetrics:
    """Counts and times requests. A series is looked up once and then kept, for this runs in every request."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # The moments at which series began are of no use here, and multiprocess mode does not know them.
        prometheus_client.disable_created_metrics()
        self._requests = Counter(
            "http_requests_total", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "Time from the request's arrival in the application to the end of its answer.",
            ["method", "route"],
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self._statements = Counter("db_statements_total", "SQL statements sent by requests.", registry=registry)
        self._retries = Counter(
            "db_transaction_retries_total",
            "Times that a request's transaction was run again because it had lost against another one.",
            registry=registry,
        )
        self._series: dict[tuple[str, str | None, int], tuple[Counter, Histogram]] = {}

    def observe(self, exchange: Exchange) -> None:
        """Add a finished request."""
        method = exchange.method if exchange.method in METHODS else OTHER_METHOD
        key = (method, exchange.route, exchange.status)
        series = self._series.get(key)
        if series is None:
            route = exchange.route or UNMATCHED_ROUTE
            counter = self._requests.labels(method, route, exchange.status)
            series = self._series[key] = (counter, self._seconds.labels(method, route))
        series[0].inc()
        series[1].observe(exchange.seconds)
        if exchange.statements:
            self._statements.inc(exchange.statements)
        if exchange.retries:
            self._retries.inc(exchange.retries)


class PoolMetrics:
    """Pool use, sampled every half second: in each request, it would cost as much as the rest of the figures."""

    def __init__(self, registry: CollectorRegistry, engines: Iterable[Engine]) -> None:
        connections = Gauge(
            "db_pool_connections",
            "Connections by state; those in overflow are in use or idle, too.",
            ["state"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        size = Gauge(
            "db_pool_size",
            "Connections that the pools keep open when idle, over the workers that have served a request.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._gauges = (*(connections.labels(state) for state in ("in_use", "idle", "overflow")), size)
        self._engines = list(engines)
        self._lock = Lock()
        self._writer = 0
        self._written: tuple[int, ...] = ()
        SAMPLED.add(self)

    def sample(self) -> None:
        """Write what the pools look like now."""
        # Within the lock, the last to write is the last to have looked.
        with self._lock:
            # Values go to a file of this very process: a forked worker writes anew what its parent had written.
            if self._writer != os.getpid():
                self._writer, self._written = os.getpid(), (-1,) * len(self._gauges)
            state = self._state()
            for gauge, value, written in zip(self._gauges, state, self._written, strict=True):
                if value != written:
                    gauge.set(value)
            self._written = state

    def _state(self) -> tuple[int, int, int, int]:
        pools = [engine.pool for engine in self._engines if isinstance(engine.pool, QueuePool)]
        return (
            sum(pool.checkedout() for pool in pools),
            sum(pool.checkedin() for pool in pools),
            sum(max(0, pool.overflow()) for pool in pools),
            sum(pool.size() for pool in pools),
        )
