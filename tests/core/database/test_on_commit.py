"""`on_commit()`: what waits for the end of a transaction runs when it is committed, and only then."""

# ruff: noqa: PT012 - the whole block is what is tested

from __future__ import annotations

import logging

import pytest
from sqlalchemy import select

from api.core.errors import ConflictError
from api.extensions import db
from api.resources.tags.models import Tag

pytestmark = pytest.mark.usefixtures("database")


def stored_tags():
    with db.engine.connect() as connection:
        return connection.scalars(select(Tag.__table__.c.name).order_by(Tag.__table__.c.id)).all()


def test_a_hook_runs_once_the_work_is_there_for_others_to_see():
    seen = []
    with db.transaction() as session:
        session.add(Tag(name="kept"))
        db.on_commit(lambda: seen.append(stored_tags()))
        assert seen == []
    assert seen == [["kept"]]


def test_hooks_run_in_their_order_those_of_inner_transactions_included():
    calls = []
    with db.transaction():
        db.on_commit(lambda: calls.append(1))
        with db.transaction():
            db.on_commit(lambda: calls.append(2))
            with db.transaction():
                db.on_commit(lambda: calls.append(3))
        assert calls == []
        db.on_commit(lambda: calls.append(4))
    assert calls == [1, 2, 3, 4]


def test_no_hook_runs_after_a_rollback_nor_with_the_next_transaction():
    calls = []
    with pytest.raises(ValueError, match="no"), db.transaction():
        db.on_commit(lambda: calls.append(1))
        raise ValueError("no")
    with db.transaction():
        pass
    assert calls == []


def test_no_hook_runs_when_the_commit_itself_fails():
    calls = []
    with pytest.raises(ConflictError), db.transaction() as session:
        db.on_commit(lambda: calls.append(1))
        session.add_all([Tag(name="same"), Tag(name="SAME")])
    assert calls == []


def test_the_hooks_of_a_savepoint_that_is_undone_are_dropped_and_no_others():
    calls = []
    with db.transaction():
        db.on_commit(lambda: calls.append("before"))
        with pytest.raises(ValueError, match="no"), db.transaction():
            db.on_commit(lambda: calls.append("lost"))
            with db.transaction():
                db.on_commit(lambda: calls.append("lost, too"))
            raise ValueError("no")
        db.on_commit(lambda: calls.append("after"))
    assert calls == ["before", "after"]


def test_a_hook_that_fails_is_logged_and_neither_undoes_nor_masks_anything(caplog):
    calls = []

    def fail():
        raise RuntimeError("mail server is down")

    with caplog.at_level(logging.ERROR), db.transaction() as session:
        session.add(Tag(name="kept"))
        db.on_commit(fail)
        db.on_commit(lambda: calls.append("after"))
    assert stored_tags() == ["kept"]
    assert calls == ["after"]
    assert "mail server is down" in caplog.text


def test_a_hook_may_open_a_transaction_with_hooks_of_its_own():
    calls = []

    def again():
        with db.transaction() as session:
            session.add(Tag(name="second"))
            db.on_commit(lambda: calls.append(stored_tags()))

    with db.transaction() as session:
        session.add(Tag(name="first"))
        db.on_commit(again)
    assert calls == [["first", "second"]]


def test_outside_of_a_transaction_there_is_nothing_to_wait_for():
    with pytest.raises(RuntimeError, match=r"with db\.transaction"):
        db.on_commit(print)


def test_a_request_that_is_answered_well_has_run_its_hooks_and_one_that_fails_has_not(client, monkeypatch):
    from api.core.resource.service import Service  # noqa: PLC0415

    calls, create = [], Service.create

    def create_and_tell(self, data):
        db.on_commit(lambda: calls.append(data["name"]))
        return create(self, data)

    monkeypatch.setattr(Service, "create", create_and_tell)
    assert client.post("/api/v1/tags", json={"name": "one"}).status_code == 201
    assert client.post("/api/v1/tags", json={"name": "ONE"}).status_code == 409
    assert calls == ["one"]
