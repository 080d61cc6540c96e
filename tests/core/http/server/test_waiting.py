"""The connections that no thread has."""

from __future__ import annotations

import socket
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from types import SimpleNamespace

import pytest

from api.core.http.server.sockets import Budget, Patience, PatientListener
from api.core.http.server.waiting import BLOCK, Wait, WaitingRoom

SOON = 10
BUDGET = Budget(1_000_000)


class Room:
    """A waiting room with one connection, whose poller tells how often it is spoken to."""

    def __init__(self, conn, client) -> None:
        self.conn, self.client = conn, client
        self.poller = DefaultSelector()
        self.changes = 0
        for name in ("register", "unregister", "modify"):
            setattr(self.poller, name, self._counted(getattr(self.poller, name)))
        self.waiting = WaitingRoom(self.poller, BUDGET)
        self.received = []

    def _counted(self, method):
        def count(*args):
            self.changes += 1
            return method(*args)

        return count

    def wait(self):
        return Wait(self.conn, self._receive, 0, lambda _: None)

    def _receive(self, _wait, sock):
        self.received.append(sock.take(BLOCK))

    def round(self):
        """One round of the loop."""
        for key, _ in self.poller.select(SOON):
            key.data(key.fileobj)


@pytest.fixture
def room():
    with socket.create_server(("127.0.0.1", 0)) as plain, socket.create_connection(plain.getsockname()) as client:
        sock, _ = PatientListener(plain, Patience(), BUDGET).accept()
        made = Room(SimpleNamespace(sock=sock, client="127.0.0.1"), client)
        yield made
        made.poller.close()
        sock.release()


def test_what_arrives_is_told_to_whoever_waits(room):
    room.waiting.admit(room.wait(), EVENT_READ)
    room.client.sendall(b"one")
    room.round()
    assert room.received == [b"one"]


def test_a_connection_that_is_answered_in_between_costs_the_poller_nothing(room):
    room.waiting.admit(room.wait(), EVENT_READ)
    for _ in range(3):
        room.client.sendall(b"one")
        room.round()
        room.waiting.park(room.conn)
        assert room.waiting.resume(room.wait())
    assert (room.received, room.changes) == ([b"one"] * 3, 1)


def test_what_arrives_while_a_thread_answers_is_kept_for_it(room):
    room.waiting.admit(room.wait(), EVENT_READ)
    room.waiting.park(room.conn)
    room.client.sendall(b"early")
    room.round()
    assert not room.waiting.resume(room.wait())
    assert room.waiting.take_early(room.conn) == b"early"
    assert room.waiting.resume(room.wait())
    assert room.received == []


def test_no_more_than_one_block_is_kept_of_what_arrives_early(room):
    room.waiting.admit(room.wait(), EVENT_READ)
    room.waiting.park(room.conn)
    for part in (b"one", b"two"):
        room.client.sendall(part)
        room.round()
    assert room.poller.select(0) == []
    assert room.waiting.take_early(room.conn) == b"one"
    # The rest is still in the socket.
    assert not room.waiting.resume(room.wait())
    room.waiting.admit(room.wait(), EVENT_READ)
    room.round()
    assert room.received == [b"two"]


def test_a_client_that_leaves_while_a_thread_answers_is_noticed_afterwards(room):
    room.waiting.admit(room.wait(), EVENT_READ)
    room.waiting.park(room.conn)
    room.client.close()
    room.round()
    assert not room.waiting.resume(room.wait())
    assert room.waiting.take_early(room.conn) == b""
    room.waiting.admit(room.wait(), EVENT_READ)
    room.round()
    assert room.received == [b""]


def test_what_is_not_enough_stays_until_it_is_asked_for_on_the_loop(room):
    room.waiting.admit(room.wait(), EVENT_READ)
    room.waiting.park(room.conn)
    room.client.sendall(b"half")
    room.round()
    assert room.waiting.take_early(room.conn, lambda early: early == b"whole") == b""
    room.waiting.dismiss(room.conn)
    assert room.waiting.take_early(room.conn) == b"half"


def test_waiting_to_send_and_then_to_receive_is_one_registration(room):
    told = []
    room.waiting.admit(Wait(room.conn, lambda wait, _sock: told.append(wait), 0, lambda _: None), EVENT_WRITE)
    room.round()
    assert len(told) == 1
    room.waiting.admit(room.wait(), EVENT_READ)
    room.client.sendall(b"next")
    room.round()
    assert room.received == [b"next"]


def test_a_connection_that_has_been_dismissed_is_told_nothing(room):
    room.waiting.admit(room.wait(), EVENT_READ)
    room.waiting.dismiss(room.conn)
    room.client.sendall(b"one")
    assert room.poller.select(0.1) == []
    assert not room.waiting.resume(room.wait())
