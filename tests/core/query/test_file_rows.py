"""A file's rows are those of a list, byte by byte, however they are written."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import cast, column, func, select, text, values
from sqlalchemy.dialects.postgresql import TIMESTAMP

from api.core.http.fields import Timestamp
from api.core.query.allowlist import Limits
from api.core.query.file_rows import DATE_STYLE, file_form
from api.core.query.plan import Page
from api.core.query.projection import sql_form
from api.core.query.statement import export_statement
from api.extensions import db
from tests.core.query.strategies import examples, pages, store, worlds
from tests.core.query.things import Base, Thing, ThingSchema, things

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from api.core.query.collection import Collection
    from api.core.query.plan import QueryPlan
    from api.core.query.read import Reader

ALL = Page(100)


def exported(session: Session, collection: Collection, plan: QueryPlan, form: Any) -> list[tuple[Any, ...]]:
    session.execute(text(f"SET LOCAL DateStyle = '{DATE_STYLE}'"))
    statement = export_statement(collection, plan, form)
    return session.connection().exec_driver_sql(statement.text, plan.binds).all()


def check_files(session: Session, collection: Collection, reader: Reader, plan: QueryPlan) -> None:
    listed = reader.page(session.connection(), replace(plan, page=ALL)).items
    everything = replace(plan, page=None)
    lines = [line for (line,) in exported(session, collection, everything, "json")]
    assert f"[{','.join(lines)}]" == listed
    names = [name for name, field in collection.schema_for(plan).dump_fields.items() if field.__class__ is Timestamp]
    for row, shown in zip(exported(session, collection, everything, "texts"), json.loads(listed), strict=True):
        assert {name: row._mapping[name] for name in names} == {name: shown[name] for name in names}


def test_the_lines_of_a_file_are_the_list_byte_by_byte(resources, scratch):
    @examples(30)
    @given(data=st.data())
    def check(data):
        world = data.draw(worlds(db.metadata))
        with scratch() as session:
            store(session, db.metadata, world)
            for resource in resources.values():
                plan = data.draw(pages(resource.collection.allow_list(Limits())), label=resource.name)
                check_files(session, resource.collection, resource.reader, plan)

    check()


def test_so_they_are_with_columns_and_relations_of_every_kind(thing_reader, thing_scratch):
    collection = things()

    @examples(60)
    @given(data=st.data())
    def check(data):
        with thing_scratch() as session:
            store(session, Base.metadata, data.draw(worlds(Base.metadata)))
            check_files(session, collection, thing_reader, data.draw(pages(collection.allow_list(Limits()))))

    check()


MOMENTS = (
    "2026-01-31 12:30:00+00",
    "2026-01-31 12:30:00.000001+00",
    "2026-01-31 12:30:00.1+00",
    "2026-01-31 12:30:00.123450+00",
    "2026-01-31 12:30:00.123455+00",
    "2026-01-31 12:30:59.999999+00",
    "2026-01-31 12:30:00.123456+05:30",
    "0001-01-01 00:00:00.123456+00",
    "0999-12-31 23:59:59.123456+00",
    "9999-12-31 23:59:59.123456+00",
    "10000-01-01 00:00:00.123456+00",
    "12345-01-01 00:00:00.12345+00",
    "0044-03-15 10:00:00.123456+00 BC",
    "0044-03-15 10:00:00.123+00 BC",
    "infinity",
    "-infinity",
)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_a_time_is_written_in_files_as_everywhere_else(scratch, zone):
    given_text = values(column("moment"), name="given").data([(moment,) for moment in MOMENTS])
    moment = cast(given_text.c.moment, TIMESTAMP(timezone=True))
    field = Timestamp()
    with scratch() as session:
        session.execute(text(f"SET LOCAL DateStyle = '{DATE_STYLE}'; SET LOCAL TimeZone = '{zone}'"))
        found = session.execute(select(given_text.c.moment, file_form(field, moment), sql_form(field, moment))).all()
    assert len(found) == len(MOMENTS)
    assert [(given, in_file) for given, in_file, _ in found] == [(given, shown) for given, _, shown in found]


def test_a_time_that_is_the_same_as_the_first_one_of_a_row_is_made_a_text_once(resources):
    """In a subquery that the planner leaves as it is."""
    collection = resources["products"].collection
    plan = replace(collection.everything(), page=None, include=())
    whole = export_statement(collection, plan, "texts").text
    assert whole.count("updated_at = anon_1.created_at") == 1
    assert "OFFSET 0" in whole
    assert "OFFSET" not in export_statement(collection, replace(plan, fields=("id", "created_at")), "texts").text


def test_a_row_may_have_more_fields_than_a_function_has_arguments(thing_scratch, monkeypatch):
    monkeypatch.setattr("api.core.query.file_rows._ARGUMENTS_MAX", 6)
    collection = things()
    plan = replace(collection.everything(), page=None)
    with thing_scratch() as session:
        session.add(Thing(id=1, title='a "b"'))
        session.flush()
        ((line,),) = exported(session, collection, plan, "json")
    assert json.loads(line)["title"] == 'a "b"'
    assert json.loads(line).keys() == ThingSchema().dump_fields.keys()


class OwnTime(Timestamp):
    """A time in a form of its own."""


@sql_form.register(OwnTime)
def _own_time(_field, value):
    return func.to_char(value, "HH24:MI")


def test_a_field_with_a_form_of_its_own_keeps_it_in_files():
    moment = column("moment", TIMESTAMP(timezone=True))
    assert str(file_form(OwnTime(), moment)) == str(sql_form(OwnTime(), moment))
