"""Base models: keys, names and what a model tells of itself."""

from __future__ import annotations

import time
import uuid
from itertools import pairwise

import pytest
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, PrimaryKeyConstraint, UniqueConstraint, inspect, text

from api.core.database.model import NAMING_CONVENTION, Base, new_uuid
from api.extensions import db
from api.resources.orders.models import Order
from api.resources.tags.models import Tag
from api.resources.users.models import User
from tests.factories import OrderFactory, TagFactory, UserFactory

PREFIXES = {PrimaryKeyConstraint: "pk", UniqueConstraint: "uq", ForeignKeyConstraint: "fk", CheckConstraint: "ck"}


# -- names


def test_every_constraint_of_the_models_is_named_after_its_table():
    constraints = [(table, item) for table in db.metadata.sorted_tables for item in table.constraints]
    assert len(constraints) > 30
    for table, constraint in constraints:
        assert str(constraint.name).startswith(f"{PREFIXES[type(constraint)]}_{table.name}")


def test_every_index_of_the_models_is_named_after_its_table():
    indexes = [(table, item) for table in db.metadata.sorted_tables for item in table.indexes]
    assert len(indexes) > 20
    for table, index in indexes:
        assert str(index.name).startswith(f"{'uq' if index.unique else 'ix'}_{table.name}_")


@pytest.mark.usefixtures("database")
def test_the_database_knows_constraints_and_indexes_by_the_same_names(session):
    checked = (
        "SELECT conname FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid AND NOT relispartition "
        "WHERE connamespace = 'public'::regnamespace AND contype IN ('p','u','f','c')"
    )
    stored = set(session.scalars(text(checked)))
    declared = {str(item.name) for table in db.metadata.sorted_tables for item in table.constraints}
    assert {name for name in stored if not name.startswith("alembic_version")} == declared
    stored_indexes = set(session.scalars(text("SELECT indexname FROM pg_indexes WHERE schemaname = 'public'")))
    assert {str(item.name) for table in db.metadata.sorted_tables for item in table.indexes} <= stored_indexes


def test_no_name_is_longer_than_postgresql_takes():
    for table in db.metadata.sorted_tables:
        for item in (*table.constraints, *table.indexes):
            assert len(str(item.name).encode()) <= 63


def test_the_convention_covers_every_kind():
    assert set(NAMING_CONVENTION) == {"ix", "uq", "ck", "fk", "pk"}
    assert Base.metadata.naming_convention == NAMING_CONVENTION


# -- keys


def test_a_uuid_is_of_version_7_and_tells_the_time():
    made = new_uuid()
    assert isinstance(made, uuid.UUID)
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert abs((made.int >> 80) / 1000 - time.time()) < 2


def test_uuids_ascend_in_the_order_they_are_made_in():
    made = [new_uuid() for _ in range(10_000)]
    assert all(earlier < later for earlier, later in pairwise(made))


@pytest.mark.usefixtures("database")
def test_an_order_gets_its_key_in_python_and_keeps_a_given_one():
    first, second = OrderFactory(), OrderFactory()
    assert first.id.version == 7
    assert first.id < second.id
    given = uuid.UUID(int=5)
    assert OrderFactory(id=given).id == given


@pytest.mark.usefixtures("database")
def test_an_integer_key_is_counted_by_the_database_and_never_given_twice(session):
    first = TagFactory().id
    session.execute(text("DELETE FROM tags"))
    session.commit()
    assert TagFactory().id > first


def test_an_integer_key_has_64_bits():
    assert str(inspect(Tag).primary_key[0].type) == "BIGINT"


# -- what a model tells of itself


def test_a_repr_names_the_class_and_the_key():
    assert repr(Tag(id=7, name="secret")) == "<Tag 7>"
    assert repr(Tag(name="secret")) == "<Tag transient>"


def test_a_repr_shows_no_column():
    assert "secret" not in repr(User(id=1, username="secret", email="secret@example.com", password_hash="secret"))


@pytest.mark.usefixtures("database")
def test_a_repr_works_when_nothing_is_loaded(session, statements):
    user, order = UserFactory(), OrderFactory()
    session.expire_all()
    session.expunge_all()
    with statements() as counted:
        assert repr(user).startswith("<User ")
        assert repr(order).startswith("<Order ")
    assert counted.count == 0


def test_keys_come_first_and_housekeeping_columns_last():
    names = [column.name for column in Order.__table__.columns]
    assert names[0] == "id"
    assert names[-5:] == ["created_at", "updated_at", "deleted_at", "version", "deletion_id"]
