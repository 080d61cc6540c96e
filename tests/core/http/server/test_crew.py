"""The threads that answer requests."""

from __future__ import annotations

from queue import SimpleQueue
from threading import Event, current_thread

from api.core.http.server.crew import Crew

SOON = 10
"""Seconds; far more than is needed."""


def test_connections_are_answered_in_the_order_in_which_they_are_handed_over():
    answered = SimpleQueue()
    crew = Crew(1, answered.put)
    for number in range(100):
        crew.hand_over(number)
    assert [answered.get(timeout=SOON) for _ in range(100)] == list(range(100))


def test_as_many_are_answered_at_once_as_there_are_threads():
    begun, end = SimpleQueue(), Event()

    def answer(conn):
        begun.put(conn)
        end.wait(SOON)

    crew = Crew(3, answer)
    for number in range(4):
        crew.hand_over(number)
    assert {begun.get(timeout=SOON) for _ in range(3)} == {0, 1, 2}
    assert begun.empty()
    end.set()
    assert begun.get(timeout=SOON) == 3


def test_the_thread_that_has_rested_least_is_woken():
    threads = SimpleQueue()
    crew = Crew(4, lambda _: threads.put(current_thread().name))
    seen = []
    for number in range(20):
        crew.hand_over(number)
        seen.append(threads.get(timeout=SOON))
    # The first may still be on its way to its bed when the second is handed over.
    assert len(set(seen)) < 4


def test_many_handed_over_at_once_are_all_answered():
    answered = SimpleQueue()
    crew = Crew(8, answered.put)
    for number in range(2000):
        crew.hand_over(number)
    assert sorted(answered.get(timeout=SOON) for _ in range(2000)) == list(range(2000))
