"""gunicorn as `gunicorn.conf.py` has it."""

from __future__ import annotations

import os
import signal
import time

from tests.served import PATIENCE, served, statuses

LATER = """
import sys

assert not sys.modules.get("rich") and not sys.modules.get("yaml")

def app(environ, start_response):
    import rich, yaml
    start_response("200 OK", [])
    return [b"there"]
"""
LATE = """
import os, time

os.register_at_fork(after_in_child=lambda: time.sleep(0.5))

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"there"]
"""


def test_what_is_kept_out_of_the_start_is_missed_by_no_page(tmp_path):
    with served("api.wsgi:app", tmp_path, DATABASE_URL="postgresql://nobody@127.0.0.1:1/none") as server:
        for path in ("/docs", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/openapi.json", "/"):
            head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            assert statuses(server.exchange(head.encode())[:20]) == [200], path


def test_what_is_kept_out_of_the_start_can_be_imported_later(tmp_path):
    (tmp_path / "later.py").write_text(LATER)
    with served("later:app", tmp_path, PYTHONPATH=str(tmp_path)) as server:
        assert statuses(server.exchange(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")) == [200]


def test_a_worker_that_is_told_to_stop_before_it_listens_to_signals_stops_all_the_same(tmp_path):
    (tmp_path / "late.py").write_text(LATE)
    with served("late:app", tmp_path, PYTHONPATH=str(tmp_path), WEB_GRACEFUL_TIMEOUT=str(int(PATIENCE))) as server:
        (worker,) = server.workers
        os.kill(worker.pid, signal.SIGKILL)
        until_forked(server, worker)
        server.process.terminate()
        # Without waiting for it in vain until it is killed.
        assert server.process.wait(PATIENCE / 2) == 0


def until_forked(server, killed):
    """Wait for the worker that comes in the place of the killed one."""
    deadline = time.monotonic() + PATIENCE
    while {worker.pid for worker in server.workers} <= {killed.pid}:
        assert time.monotonic() < deadline
        time.sleep(0.01)
