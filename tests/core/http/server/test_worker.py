"""A connection's requests are answered in their order and to their client, however they arrive."""

from __future__ import annotations

import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256

import pytest

from tests.served import read_all, served, statuses

SECONDS = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with served("tests.bare:app", tmp_path_factory.mktemp("worker"), HEAD_TIMEOUT="5") as running:
        yield running


def request(path, body=b"", *, last=False):
    end = "Connection: close\r\n" if last else ""
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{end}Content-Length: {len(body)}\r\n\r\n".encode() + body


def asked(answers):
    """The paths that were answered, in their order."""
    return [part.split(b'"', 1)[0].decode() for part in answers.split(b'"asked": "POST ')[1:]]


def test_the_rest_of_a_request_that_arrives_while_the_one_before_is_answered_is_put_behind_its_beginning(server):
    second = request("/second", b"a" * 100, last=True)
    with server.connect() as sock:
        sock.sendall(request("/sleep?n=0.5") + second[:60])
        time.sleep(0.2)
        sock.sendall(second[60:])
        answers = read_all(sock)
    assert (statuses(answers), asked(answers)) == ([200, 200], ["/sleep", "/second"])


def test_a_request_that_arrives_in_parts_while_the_one_before_is_answered_is_read_as_a_whole(server):
    second = request("/second", b"b" * 300, last=True)
    with server.connect() as sock:
        sock.sendall(request("/sleep?n=0.5"))
        for part in (second[:50], second[50:200], second[200:]):
            time.sleep(0.1)
            sock.sendall(part)
        answers = read_all(sock)
    assert asked(answers) == ["/sleep", "/second"]
    assert answers.endswith(b'"body": "' + b"b" * 300 + b'"}')


def test_a_request_that_arrives_while_a_large_answer_is_taken_slowly_is_answered(server):
    with server.connect(receive_buffer=4096) as sock:
        sock.sendall(request("/big?n=900000"))
        time.sleep(0.3)
        sock.sendall(request("/second", last=True))
        time.sleep(0.3)
        answers = read_all(sock)
    assert statuses(answers) == [200, 200]
    assert asked(answers) == ["/second"]


def test_what_was_sent_behind_a_request_that_breaks_off_reaches_nobody_else(server):
    with server.connect() as first:
        first.sendall(request("/broken?n=0.3"))
        time.sleep(0.1)
        first.sendall(request("/secret"))
        read_all(first)
    for _ in range(5):
        with server.connect() as sock:
            time.sleep(0.05)
            sock.sendall(request("/own", last=True))
            assert asked(read_all(sock)) == ["/own"]


def test_a_connection_behind_one_that_broke_off_can_take_a_large_answer(server):
    for _ in range(3):
        server.exchange(request("/broken"))
        with server.connect(receive_buffer=4096) as sock:
            sock.sendall(request("/big?n=900000", last=True))
            time.sleep(0.2)
            assert len(read_all(sock)) > 900_000


def test_a_view_that_exits_takes_no_thread_with_it(server):
    for _ in range(4):
        with suppress(OSError):
            assert server.exchange(request("/exit", last=True)) == b""
    assert statuses(server.exchange(request("/still-there", last=True))) == [200]


def conversation(server, seed):
    """Requests behind one another in pieces of any size, and the bodies that were read of them."""
    drawn = random.Random(seed)  # noqa: S311 - a test guards nothing
    sent, want = b"", []
    number = drawn.randint(1, 6)
    for place in range(number):
        body = drawn.randbytes(drawn.choice([0, 1, 10, 1000, 70_000])).hex().encode()
        sent += request(drawn.choice(["/echo", "/sleep?n=0.002"]), body, last=place == number - 1)
        want.append(sha256(body).hexdigest())
    with server.connect() as sock, ThreadPoolExecutor(1) as reader:
        got = reader.submit(read_all, sock)
        while sent:
            size = drawn.choice([20, 100, 1000, 65_536, 300_000])
            sock.sendall(sent[:size])
            sent = sent[size:]
            time.sleep(drawn.choice([0, 0, 0.0005, 0.002]))
        bodies = [json.loads(b"{" + part.split(b"}")[0] + b"}")["body"] for part in got.result().split(b"{")[1:]]
    return want, [sha256(body.encode()).hexdigest() for body in bodies]


def test_many_conversations_in_pieces_are_each_answered_in_order_and_as_sent(server):
    end = time.monotonic() + SECONDS

    def talk(first):
        seed = first
        while time.monotonic() < end:
            want, got = conversation(server, seed)
            assert want == got, seed
            seed += 100
        return seed

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(talk, range(8)))
