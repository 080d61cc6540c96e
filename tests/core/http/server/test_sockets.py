"""Connections whose threads do not wait for clients."""

from __future__ import annotations

import socket

import pytest

from api.core.http.server.sockets import Budget, Patience, PatientListener


@pytest.fixture
def pair():
    """A connection, and its client's end."""
    with socket.create_server(("127.0.0.1", 0)) as plain, socket.create_connection(plain.getsockname()) as client:
        client.settimeout(0.2)
        sock, _ = PatientListener(plain, Patience(silence=1.0), Budget(1_000_000)).accept()
        yield sock, client
        sock.release()


def test_the_head_of_an_answer_goes_with_its_body_in_one_message(pair):
    sock, client = pair
    sock.begin_answer()
    sock.sendall(b"head ")
    with pytest.raises(TimeoutError):
        client.recv(100)
    sock.sendall(b"body")
    assert client.recv(100) == b"head body"
    sock.sendall(b", more")
    assert client.recv(100) == b", more"


def test_a_head_without_a_body_goes_at_the_end_of_the_answer(pair):
    sock, client = pair
    sock.begin_answer()
    sock.sendall(b"head")
    assert not sock.has_answered
    sock.end_answer()
    assert (client.recv(100), sock.has_answered) == (b"head", True)


def test_a_head_that_is_dropped_is_never_sent(pair):
    sock, client = pair
    sock.begin_answer()
    sock.sendall(b"head")
    sock.drop_answer()
    sock.sendall(b"last words")
    assert client.recv(100) == b"last words"


def test_a_head_goes_before_the_file_behind_it(pair, tmp_path):
    sock, client = pair
    (tmp_path / "file").write_bytes(b"content")
    sock.begin_answer()
    sock.sendall(b"head ")
    with (tmp_path / "file").open("rb") as file:
        sock.sendfile(file)
    got = b""
    while len(got) < 12:
        got += client.recv(100)
    assert got == b"head content"


def test_the_number_of_a_connection_that_is_closed_is_free_only_when_it_is_released(pair):
    sock, client = pair
    number = sock.fileno()
    sock.close()
    assert client.recv(100) == b""
    assert sock.fileno() == number
    sock.release()
    assert sock.fileno() == -1


def test_what_has_not_arrived_is_not_waited_for(pair):
    sock, client = pair
    with pytest.raises(BlockingIOError):
        sock.take(100)
    client.sendall(b"one")
    assert sock.recv(100) == b"one"
