"""What every row of some tables has been: who changed what, when, and in which request.

Triggers write it, so that nothing goes round it: the ORM, bulk statements, COPY, cascades, TRUNCATE and raw SQL are all
recorded, in the transaction of the change.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Identity,
    Index,
    Integer,
    String,
    Table,
    Text,
    event,
    func,
    inspect,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, mapped_column

from api.core.database.access import written_by_database
from api.core.database.model import Base
from api.core.database.triggers import FUNCTIONS, TRIGGERS, Function, Trigger, run_with_table
from api.core.database.types import UTCDateTime

if TYPE_CHECKING:
    from sqlalchemy.orm import Mapper

OPERATIONS = ("insert", "update", "delete")
MONTHS_AHEAD = 3
"""For how many months to come there is a partition."""

_UNRECORDED = "unrecorded"


class HistoryMixin:
    """Every change of the model's rows is recorded. `__unrecorded__` names columns that never are, such as secrets.

    Neither are columns that the database computes from others.
    """

    __unrecorded__: ClassVar[tuple[str, ...]] = ()


class History(Base):
    """One change of one row.

    `old` and `new` are the whole row before and after it, without what is not recorded: NULL where there was or is
    none. An UPDATE that changes nothing has no entry.
    """

    __tablename__ = "history"
    __table_args__ = (
        Index("ix_history_table_name_row_id_id", "table_name", "row_id", "id"),
        {"postgresql_partition_by": "RANGE (at)"},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=False), primary_key=True)
    at: Mapped[datetime] = mapped_column(UTCDateTime, primary_key=True, server_default=func.now())
    table_name: Mapped[str] = mapped_column(Text)
    row_id: Mapped[str] = mapped_column(Text)
    operation: Mapped[str] = mapped_column(String(6))
    version: Mapped[int | None] = mapped_column(Integer)
    actor: Mapped[str | None] = mapped_column(Text)
    request_id: Mapped[str | None] = mapped_column(Text)
    transaction_id: Mapped[int] = mapped_column(BigInteger)
    old: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    new: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))

    @hybrid_property
    def states(self) -> list[dict[str, Any] | None]:
        """The row before and after the change."""
        return [self.old, self.new]

    @states.inplace.expression
    @classmethod
    def _states_expression(cls) -> ColumnElement[Any]:
        return func.jsonb_build_array(cls.old, cls.new, type_=JSONB())


def unrecorded(table: Table) -> tuple[str, ...]:
    """Names of the columns of `table` that its history leaves out."""
    declared = table.metadata.info.get(_UNRECORDED, {}).get(table.name, ())
    computed = [column.name for column in table.columns if column.computed is not None]
    return tuple(sorted({*declared, *computed}))


def recorded_attributes(model: type) -> dict[str, str]:
    """The attributes of `model` whose columns its history has, and the names of these."""
    mapper: Mapper[Any] = inspect(model)
    left_out = unrecorded(mapper.local_table)  # type: ignore[arg-type]
    return {
        attribute.key: attribute.columns[0].name
        for attribute in mapper.column_attrs
        if isinstance(getattr(attribute.columns[0], "table", None), Table) and attribute.columns[0].name not in left_out
    }


@event.listens_for(HistoryMixin, "instrument_class", propagate=True)
def _note_unrecorded(mapper: Mapper[Any], model: type[HistoryMixin]) -> None:
    table = mapper.local_table
    if not isinstance(table, Table):
        return
    if unknown := set(model.__unrecorded__) - set(table.columns.keys()):
        raise ValueError(
            f"{model.__name__}.__unrecorded__ names {sorted(unknown)}, which are no columns of {table.name}"
        )
    table.metadata.info.setdefault(_UNRECORDED, {})[table.name] = model.__unrecorded__


def _arguments(table: Table) -> tuple[str, ...]:
    """The key's column, then those that are not recorded."""
    (key,) = table.primary_key.columns
    return (key.name, *unrecorded(table))


# It writes as its owner, so that whoever may change a table need not be allowed to write its history.
_RECORD = Function(
    "record_history()",
    "() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path TO 'pg_catalog', 'pg_temp'",
    """
DECLARE
    key text := TG_ARGV[0];
    unrecorded text[] := TG_ARGV[1:];
    request text := nullif(current_setting('app.request_id', true), '');
    acting text := nullif(current_setting('app.actor', true), '');
    before jsonb;
    after jsonb;
BEGIN
    IF acting IS NULL AND request IS NULL THEN
        acting := 'db:' || session_user;
    END IF;
    IF TG_OP = 'TRUNCATE' THEN
        EXECUTE 'INSERT INTO public.history '
            '(table_name, row_id, operation, version, actor, request_id, transaction_id, old) '
            'SELECT $1, gone.row ->> $2, ''delete'', (gone.row ->> ''version'')::integer, $3, $4, '
            'pg_current_xact_id()::text::bigint, gone.row - $5 '
            'FROM (SELECT to_jsonb(t) AS row FROM ' || TG_RELID::regclass || ' t) gone'
            USING TG_TABLE_NAME, key, acting, request, unrecorded;
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD IS NOT DISTINCT FROM NEW THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        before := to_jsonb(OLD) - unrecorded;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        after := to_jsonb(NEW) - unrecorded;
    END IF;
    INSERT INTO public.history
        (table_name, row_id, operation, version, actor, request_id, transaction_id, old, new)
    VALUES (
        TG_TABLE_NAME,
        coalesce(after, before) ->> key,
        lower(TG_OP),
        (coalesce(after, before) ->> 'version')::integer,
        acting,
        request,
        pg_current_xact_id()::text::bigint,
        before,
        after
    );
    RETURN NULL;
END
""",
)
# Attached, not made as a part: that takes a lock which lets others go on writing.
_MAKE_PARTITIONS = Function(
    "make_history_partitions(integer)",
    "(months integer) RETURNS SETOF text LANGUAGE plpgsql",
    """
DECLARE
    month timestamp;
    partition text;
    bounds text;
BEGIN
    PERFORM pg_advisory_xact_lock('public.history'::regclass::oid::bigint);
    FOR month IN
        SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => n)
        FROM generate_series(0, months) n
        UNION
        SELECT date_trunc('month', at AT TIME ZONE 'UTC') FROM public.history_default
        ORDER BY 1
    LOOP
        partition := 'history_' || to_char(month, 'YYYY_MM');
        CONTINUE WHEN to_regclass('public.' || partition) IS NOT NULL;
        bounds := 'FROM (' || quote_literal(to_char(month, 'YYYY-MM-DD') || ' 00:00+00') || ') TO ('
            || quote_literal(to_char(month + interval '1 month', 'YYYY-MM-DD') || ' 00:00+00') || ')';
        EXECUTE 'CREATE TABLE public.' || partition || ' (LIKE public.history INCLUDING DEFAULTS)';
        EXECUTE 'WITH moved AS (DELETE FROM public.history_default WHERE at >= $1 AND at < $2 RETURNING *) '
            'INSERT INTO public.' || partition || ' SELECT * FROM moved'
            USING month AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC';
        EXECUTE 'ALTER TABLE public.history ATTACH PARTITION public.' || partition || ' FOR VALUES ' || bounds;
        RETURN NEXT partition;
    END LOOP;
END
""",
)
written_by_database(History.__tablename__)
FUNCTIONS.append(_MAKE_PARTITIONS)
run_with_table(
    History.__table__,  # type: ignore[arg-type]
    "CREATE TABLE public.history_default PARTITION OF public.history DEFAULT",
    f"SELECT public.make_history_partitions({MONTHS_AHEAD})",
)
TRIGGERS += [
    Trigger("record_history", _RECORD, HistoryMixin, "AFTER INSERT OR DELETE OR UPDATE", _arguments),
    Trigger("record_truncate", _RECORD, HistoryMixin, "BEFORE TRUNCATE", _arguments, level="STATEMENT"),
]
