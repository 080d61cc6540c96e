"""How gunicorn serves the application; what can be set is in `api/config.py`, and its variables are the way to set it.

gunicorn takes every plain name of this file for a setting of its own, and the functions at the end for its hooks.
"""

from __future__ import annotations

import gc
import os
import resource
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

_METRICS = "PROMETHEUS_MULTIPROC_DIR"
_METRICS_PREFIX = "backend-metrics-"


def _metrics_directory() -> str:
    """Make the directory in which the workers of this run add their figures up, below the given one or the system's."""
    given = Path(os.environ.get(_METRICS) or tempfile.gettempdir())
    if given.name.startswith(f"{_METRICS_PREFIX}{os.getpid()}-"):
        # This is a reload, and the workers that are still there write to it.
        return str(given)
    if given.name.startswith(_METRICS_PREFIX):
        given = given.parent
    return tempfile.mkdtemp(prefix=f"{_METRICS_PREFIX}{os.getpid()}-", dir=given)


# Until there is something to collect: the application is made of what stays, and each round through it takes time.
gc.disable()

# What others import wherever it is installed, and no server needs: pages for terminals, and YAML. Until the application
# is made they cannot be imported; whoever asks for them later gets them.
_UNNEEDED = [name for name in ("rich", "yaml") if name not in sys.modules]
for _name in _UNNEEDED:
    sys.modules[_name] = None  # type: ignore[assignment]

# Before the application is imported: prometheus-client decides then where it counts.
os.environ[_METRICS] = _metrics_directory()

from api.cli.serve import end_with_supervisor  # noqa: E402
from api.config import Settings  # noqa: E402
from api.core.http.server.errors import adapt_gunicorn  # noqa: E402
from api.core.http.server.sockets import Patience  # noqa: E402
from api.core.http.server.worker import BufferingWorker  # noqa: E402

_FILES_PER_THREAD = 32
_ENDINGS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})


def _allow_files(number: int) -> None:
    """Let a process open so many files: its connections, and what its threads need besides.

    Raises:
        SystemExit: where it may not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number:
        sys.exit(f"WEB_CONNECTIONS takes {number} open files, and this process may have {hard}; see ulimit -Hn")
    if soft != resource.RLIM_INFINITY and soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))


end_with_supervisor()
_settings = Settings.from_env()
_host = f"[{_settings.bind_host}]" if ":" in _settings.bind_host else _settings.bind_host
bind = [f"{_host}:{_settings.bind_port}"]

# Threads are for requests that have arrived, and not for clients that take their time.
adapt_gunicorn()
BufferingWorker.patience = Patience(
    head=_settings.head_timeout,
    body=_settings.body_timeout,
    body_bytes=_settings.max_content_length,
    silence=_settings.client_silence,
    rate=_settings.client_rate_min,
    answer=_settings.request_timeout,
)
worker_class = BufferingWorker
worker_connections = _settings.connections
_allow_files(_settings.connections + _settings.threads * _FILES_PER_THREAD)
workers = _settings.workers
threads = _settings.threads
# A request that takes longer is broken off. A worker that is silent for so long, since Python itself hangs, is killed.
timeout = _settings.request_timeout
graceful_timeout = _settings.graceful_timeout
keepalive = 5
# Workers are not replaced after a number of requests: that would hide a leak, and costs connections and their pool.
max_requests = 0

# The application is made once, before the workers are forked: a wrong setting is told once, the memory is shared, and
# no worker starts with another one's connections, since the engines are disposed of after the fork. Reloading on a
# change of the code needs the opposite: nothing of the application may be in the master.
preload_app = "--reload" not in [*sys.argv, *os.environ.get("GUNICORN_CMD_ARGS", "").split()]
if not preload_app:
    for _name in [name for name in sys.modules if name.partition(".")[0] == "api"]:
        del sys.modules[_name]

# A heartbeat must not wait for a disk, and there may be none to write to.
if os.access("/dev/shm", os.W_OK):  # noqa: S108 - gunicorn makes a file of an unpredictable name in it
    worker_tmp_dir = "/dev/shm"  # noqa: S108
# It would write below the home directory, which may be read-only.
control_socket_disable = True

# What the service is called from outside is the proxy's business to say in standard headers, not in WSGI's own names.
forwarder_headers = ""
# WSGI makes the same name of X_Y and X-Y; whoever is before this server may not.
header_map = "refuse"

# Long filters are legitimate; 8190 is the most that gunicorn limits.
limit_request_line = 8190
limit_request_fields = 100
limit_request_field_size = 8190

# The application logs requests itself.
accesslog = None
errorlog = "-"
loglevel = _settings.log_level.lower()


def when_ready(server: object) -> None:  # noqa: ARG001 - what gunicorn calls it with
    """Take what the application is made of out of the garbage collector's rounds, before the workers are forked.

    It lives as long as they do, so looking at it only costs: pauses, copies of shared memory, and time at the end.
    """
    for name in _UNNEEDED:
        if name in sys.modules and sys.modules[name] is None:
            del sys.modules[name]
    gc.collect()
    gc.freeze()
    gc.enable()


def pre_fork(server: object, worker: object) -> None:  # noqa: ARG001 - what gunicorn calls it with
    """Keep back what ends a worker until it heeds signals; lost in between, the worker would be waited for in vain."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)


def post_worker_init(worker: object) -> None:  # noqa: ARG001 - what gunicorn calls it with
    """Let through what has been kept back."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDINGS)


os.register_at_fork(after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDINGS))


def on_reload(server: Any) -> None:
    """Take back what gunicorn does to its log on SIGHUP: the application writes that log since the start."""
    if preload_app:
        server.log.error_log.handlers.clear()


def child_exit(server: object, worker: Any) -> None:  # noqa: ARG001 - what gunicorn calls it with
    """Take a worker that has ended out of the figures that count what is alive."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(server: object) -> None:  # noqa: ARG001 - what gunicorn calls it with
    """Remove what this run has counted."""
    shutil.rmtree(os.environ[_METRICS])
