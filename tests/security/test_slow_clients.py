"""Clients that take their time take nobody else's: they hold no thread, little memory, and are given up in the end."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from statistics import quantiles

import pytest

from tests.factories import ProductFactory
from tests.served import PATIENCE, read_all, served, statuses

EACH = 40
SECONDS = 2.5
"""For how long the attack is measured."""

SLOWEST = 0.5
"""Seconds in which 95 of 100 requests must be answered meanwhile; on an idle machine it takes some milliseconds."""

MEMORY = 100_000_000
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST_GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
POST = b"POST /sent HTTP/1.1\r\nHost: localhost\r\n"
TIME = 1.0
"""What an impatient server waits for each part of a request, in seconds; it looks every half a second."""

SOON = 0.7


def seconds_of(server, path="/livez"):
    """How long a client waits for its answer."""
    started = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("GET", path)
    assert connection.getresponse().read()
    connection.close()
    return time.monotonic() - started


def attack(server, stack, path):
    """Open connections of every kind of slow client; those that drip."""
    kinds = {
        "silent": b"",
        "head": b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        "body": b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{" % path,
        "chunks": b"POST %b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n0\r\n\r\n" % path,
        "unreading": b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20,
    }
    opened = {}
    for kind, content in kinds.items():
        opened[kind] = [stack.enter_context(server.connect(2048)) for _ in range(EACH)]
        for sock in opened[kind]:
            sock.sendall(content)
    return opened["head"] + opened["body"]


def drip(socks, stop):
    while not stop.wait(0.5):
        for sock in socks:
            with suppress(OSError):
                sock.send(b"x")


def memory_of(server):
    return sum(worker.memory_info().rss for worker in server.workers)


@pytest.fixture
def product(database):
    del database
    return ProductFactory()


def test_200_slow_clients_at_once_make_nobody_wait(product, settings, tmp_path):
    url = settings.database_url
    with served("tests.wsgi:app", tmp_path, DATABASE_URL=url, WEB_THREADS="4") as server, ExitStack() as stack:
        paths = ["/livez", f"/api/v1/products/{product.id}"]
        for path in paths:
            seconds_of(server, path)
        before, stop = memory_of(server), threading.Event()
        dripping = attack(server, stack, b"/api/v1/products")
        dripper = threading.Thread(target=drip, args=(dripping, stop))
        dripper.start()
        end, taken = time.monotonic() + SECONDS, []
        while time.monotonic() < end:
            taken += [seconds_of(server, path) for path in paths]
        stop.set()
        dripper.join()
        assert quantiles(taken, n=20)[-1] < SLOWEST
        assert memory_of(server) - before < MEMORY


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    """A server with two threads, which waits a second for each part of a request, and for a reader."""
    times = dict.fromkeys(("WEB_HEAD_TIMEOUT", "WEB_BODY_TIMEOUT", "WEB_CLIENT_SILENCE"), str(TIME))
    settings = {"WEB_CONNECTIONS": "32", "WEB_CLIENT_RATE_MIN": "1000000", **times}
    with served("tests.bare:app", tmp_path_factory.mktemp("impatient"), **settings) as running:
        yield running


def given_up(sock, *, dripping=b""):
    """What is answered to who sends `dripping` bit by bit, and after how many seconds."""
    started = time.monotonic()
    sock.settimeout(0.2)
    content = b""
    while True:
        try:
            data = sock.recv(65_536)
        except TimeoutError:
            with suppress(OSError):
                sock.send(dripping[:1])
            continue
        except ConnectionResetError:
            break
        if not data:
            break
        content += data
    return content, time.monotonic() - started


@pytest.mark.parametrize(
    ("sent", "dripping", "status"),
    [
        (b"", b"", None),
        (b"GET / HTTP/1.1\r\n", b"", 408),
        (b"GET / HTTP/1.1\r\nX: ", b"x", 408),
        (POST + b"Content-Length: 10\r\n\r\n", b"", 408),
        (POST + b"Content-Length: 1000\r\n\r\n", b"x", 408),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nff\r\n", b"x", 408),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"0", 408),
    ],
    ids=[
        "nothing",
        "half a head",
        "a dripping head",
        "no body",
        "a dripping body",
        "a dripping chunk",
        "a dripping size",
    ],
)
def test_a_request_that_does_not_arrive_in_time_is_given_up(impatient, sent, dripping, status):
    with impatient.connect() as sock:
        sock.sendall(sent)
        answer, seconds = given_up(sock, dripping=dripping)
    assert statuses(answer) == ([status] if status else [])
    assert TIME - 0.3 < seconds < TIME + 2.0
    if status:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"application/problem+json" in head
        assert json.loads(body)["detail"] == "The request did not arrive in time."


def requests_that_could_hold_a_thread():
    unread = b"POST /unread HTTP/1.1\r\nHost: localhost\r\n"
    return {
        "a body that is not wanted": unread + b"Content-Length: 10000000\r\n\r\n",
        "chunks with an end that is none": POST + b"Transfer-Encoding: chunked\r\n\r\nff\r\n0\r\n\r\n",
        "a head that is longer than any": b"GET / HTTP/1.1\r\n"
        + (b"X: " + b"x" * 8000 + b"\r\n") * 8
        + b"X: "
        + b"x" * 3000,
        "a length with zeros": POST + b"Content-Length: " + b"0" * 40 + b"10\r\n\r\n",
        "trailers without an end": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        "an unread answer": b"GET /big?n=1000000 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "half of a second request": GET + b"GET /",
        "an end that the client does not see": LAST_GET,
    }


@pytest.mark.parametrize(
    "content", requests_that_could_hold_a_thread().values(), ids=requests_that_could_hold_a_thread()
)
def test_no_thread_waits_for(impatient, content):
    with ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(impatient.connect(2048)).sendall(content)
        assert max(seconds_of(impatient) for _ in range(5)) < SOON


def test_who_does_not_take_a_long_answer_holds_a_thread_for_the_time_of_a_pause_only(impatient):
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(impatient.connect(2048)).sendall(
                b"GET /big?n=50000000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
        assert seconds_of(impatient) < TIME + 2 * SOON


def test_who_takes_a_long_answer_slowly_but_steadily_gets_all_of_it(impatient):
    size = 5_000_000
    with impatient.connect(65_536) as sock:
        sock.sendall(b"GET /big?n=%d HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % size)
        received = 0
        while data := sock.recv(200_000):
            received += len(data)
            time.sleep(len(data) / 2_500_000)
    assert received > size


def test_who_sends_a_body_slowly_but_steadily_is_answered(impatient):
    with impatient.connect() as sock:
        sock.sendall(POST + b"Connection: close\r\nContent-Length: 3000000\r\n\r\n")
        for _ in range(15):
            sock.sendall(b"x" * 200_000)
            time.sleep(0.1)
        assert statuses(read_all(sock)) == [200]


def test_a_long_body_that_stops_is_given_up(impatient):
    with impatient.connect() as sock:
        sock.sendall(POST + b"Content-Length: 3000000\r\n\r\n" + b"x" * 2_000_000)
        answer, seconds = given_up(sock)
    assert not set(statuses(answer)) - {400}
    assert seconds < 2 * TIME + 3.0


def test_a_client_that_asks_first_is_told_once_to_go_on(impatient):
    with impatient.connect() as sock:
        sock.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 1\r\nConnection: close\r\n\r\n")
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"a")
        assert statuses(read_all(sock)) == [200]


def test_new_connections_take_the_place_of_those_that_wait(impatient):
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(impatient.connect())
        assert max(seconds_of(impatient) for _ in range(5)) < SOON


def test_kept_connections_are_used_again(impatient):
    connection = http.client.HTTPConnection("127.0.0.1", impatient.port, timeout=PATIENCE)
    for body in (b"a", b"b" * 100_000, b""):
        connection.request("POST", "/sent", body)
        sock = connection.sock
        assert len(json.loads(connection.getresponse().read())["body"]) == len(body)
        assert connection.sock is sock is not None
    connection.close()


@pytest.fixture
def own(tmp_path):
    """A server for one test."""
    with served("tests.bare:app", tmp_path, WEB_TIMEOUT="2") as running:
        yield running


def ask(server, path):
    with server.connect() as sock:
        sock.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
        return read_all(sock)


def test_a_request_that_takes_too_long_is_broken_off_and_its_worker_replaced(own):
    (worker,) = own.workers
    started = time.monotonic()
    with ThreadPoolExecutor() as pool:
        answers = [*pool.map(ask, [own] * 2, [b"/loop"] * 2)]
    assert time.monotonic() - started < 6.0
    assert {tuple(statuses(answer)) for answer in answers} == {(503,)}
    assert b"The request took too long." in answers[0]
    assert seconds_of(own) < 3.0
    assert worker.pid not in {other.pid for other in own.workers}


def test_a_stop_waits_for_requests_and_not_for_idle_or_slow_clients(own):
    with ExitStack() as stack:
        for content in (b"", GET, b"GET / HT", POST + b"Content-Length: 10\r\n\r\n") * 5:
            stack.enter_context(own.connect()).sendall(content)
        with ThreadPoolExecutor() as pool:
            answer = pool.submit(ask, own, b"/sleep?n=1.5")
            time.sleep(0.5)
            started = time.monotonic()
            own.process.terminate()
            assert statuses(answer.result()) == [200]
        own.process.wait(PATIENCE)
    assert time.monotonic() - started < 5.0


def test_a_stop_sends_answers_to_their_end(own):
    with own.connect(4096) as sock:
        sock.sendall(b"GET /big?n=3000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = len(sock.recv(1000))
        own.process.terminate()
        time.sleep(1.5)
        while data := sock.recv(65_536):
            received += len(data)
    assert received > 3_000_000


def test_a_client_that_has_gone_is_no_error(own):
    for content in (
        b"G",
        GET[:-2],
        GET,
        POST + b"Content-Length: 5\r\n\r\nab",
        b"GET /big?n=9000000 HTTP/1.1\r\nHost: l\r\n\r\n",
    ):
        with own.connect() as sock:
            sock.sendall(content)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert seconds_of(own) < SOON
    assert "Traceback" not in own.log.read_text()
