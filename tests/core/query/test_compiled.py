"""Constants are part of a statement's text; the plan's parameters are not."""

from __future__ import annotations

from decimal import Decimal

import pytest
from sqlalchemy import bindparam, literal, select

from api.core.query.compiled import compiled


@pytest.mark.parametrize(
    "constant", ["plain", "it's", "100%", "%s %(x)s", r"^[=+\-@\t]", "\\'", "\t\r\n", "ünïcødé", ""]
)
def test_a_constant_arrives_as_it_was(session, constant):
    connection = session.connection()
    assert connection.exec_driver_sql(compiled(select(literal(constant))), {"unused": 1}).scalar_one() == constant


@pytest.mark.parametrize("constant", [7, -7, 1.5, True, False])
def test_a_number_arrives_as_it_was(session, constant):
    connection = session.connection()
    assert connection.exec_driver_sql(compiled(select(literal(constant))), {"unused": 1}).scalar_one() == constant


def test_parameters_of_the_plan_are_left():
    assert compiled(select(bindparam("key") + 1)) == "SELECT %(key)s + 1 AS anon_1"


def test_a_constant_of_another_type_is_refused():
    with pytest.raises(TypeError, match="is to be a parameter of the plan"):
        compiled(select(literal(Decimal("1.5"))))
