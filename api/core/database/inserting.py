"""Inserts new rows past the unit of work, which spends more time on them than the database does.

What the unit of work promises holds: listeners are called, defaults are filled in, a row is known by its key
afterwards. With a row go those of its lists that belong to it, in one message where Python makes its key. A row is left
to the unit of work that has other related rows to be written, SQL in the place of a value, or a model, a session or a
default of which these modules do not know everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import ClauseElement
from sqlalchemy.orm.attributes import instance_state

from api.core.database import soft_delete
from api.core.database.insertable import KEYS_LEFT, OMITTED, NeedsContextError, fit_arrays, insertable, omitted
from api.core.database.prepared import array
from api.core.database.within import SessionConnection, connection_of, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.orm import Session

    from api.core.database.insertable import Below, Insertable
    from api.core.database.showing import Shown


class _Row(NamedTuple):
    """A row to be inserted, and what of it is to be written."""

    way: Insertable
    state: Any
    values: dict[str, Any]
    left_out: tuple[str, ...]
    """What the database fills in."""


def insert(session: Session, row: Any, shown: Shown | None = None) -> bool:
    """Insert `row` and return true; or return false where that is for the unit of work, and nothing has been done.

    With `shown` it is read in the same message; what else the database fills in then comes when it is asked for.

    Raises:
        InvalidError: what listeners raise.
        DBAPIError: as `Session.flush` does.
    """
    session, state = plain(session), instance_state(row)
    if not _is_new(state) or not _is_unobserved(session):
        return False
    connection = connection_of(session, state.mapper)
    if not isinstance(connection, SessionConnection):
        return False
    way = insertable(state.mapper, connection.dialect)
    lists = None if way is None else _lists(way, state.dict, row)
    if way is None or lists is None:
        return False
    # What waits is written before, as it would be anyway.
    session.flush()
    together = [row, *(child for _, children in lists for child in children)]
    _add(session, together)
    try:
        first = _prepared(connection, way, state)
        others = [[_child(connection, below, first, child) for child in children] for below, children in lists]
        if shown is None or _is_listened_to(first) or not _write_and_show(connection, first, others, shown):
            _write(connection, first, others)
    except NeedsContextError:
        _expunge(session, together)
        return False
    except BaseException:
        _expunge(session, together)
        raise
    written = [first, *(child for children in others for child in children)]
    for one in written:
        one.way.mapper.dispatch.after_insert(one.way.mapper, connection.beneath, one.state)
    # SQLAlchemy's own end of a flush, also for what a rollback has to undo.
    session._register_persistent({one.state for one in written})  # noqa: SLF001
    for one in written:
        if unread := [name for name in one.way.names if name not in one.state.dict]:
            session.expire(one.state.obj(), unread)
    return True


# -- what can be inserted here ----------------------------------------------------------------------------------------


def _is_new(state: Any) -> bool:
    return state.session_id is None and state.key is None


def _is_unobserved(session: Session) -> bool:
    """Whether nobody but those of ours, who look at changes and deletions only, listens to the flushes of `session`."""
    dispatch: Any = session.dispatch
    listeners = (*dispatch.before_flush, *dispatch.after_flush, *dispatch.after_flush_postexec)
    return all(listener in soft_delete.FLUSH_LISTENERS for listener in listeners)


def _lists(way: Insertable, row: dict[str, Any], itself: Any) -> list[tuple[Below, Sequence[Any]]] | None:
    """The rows that go along with `row`, by list; None where it is for the unit of work."""
    if _has_sql(row):
        return None
    lists: list[tuple[Below, Sequence[Any]]] = []
    for name in way.relationships:
        related = row.get(name)
        if not related:
            continue
        below = way.below(name)
        if below is None or not way.makes_key(row) or not all(_goes_along(below, child, itself) for child in related):
            return None
        lists.append((below, related))
    return lists


def _goes_along(below: Below, child: Any, parent: Any) -> bool:
    state = instance_state(child)
    if state.mapper is not below.way.mapper or not _is_new(state) or _has_sql(state.dict):
        return False
    related = {name: state.dict.get(name) for name in below.way.relationships if state.dict.get(name)}
    return all(name == below.back and one is parent for name, one in related.items())


def _has_sql(row: dict[str, Any]) -> bool:
    # A loop, for this runs with every row: any() takes twice as long.
    for value in row.values():  # noqa: SIM110
        if isinstance(value, ClauseElement) or hasattr(value, "__clause_element__"):
            return True
    return False


# -- writing ----------------------------------------------------------------------------------------------------------


def _prepared(connection: SessionConnection, way: Insertable, state: Any) -> _Row:
    way.mapper.dispatch.before_insert(way.mapper, connection.beneath, state)
    values = way.values(state.dict)
    return _Row(way, state, values, omitted(values))


def _child(connection: SessionConnection, below: Below, parent: _Row, child: Any) -> _Row:
    setattr(child, below.foreign_key, parent.values[below.refers_to])
    return _prepared(connection, below.way, instance_state(child))


def _is_listened_to(row: _Row) -> bool:
    """Whether somebody looks at it before it can fetch what the database has filled in."""
    return bool(row.way.mapper.dispatch.after_insert)


def _write(connection: SessionConnection, first: _Row, others: list[list[_Row]]) -> None:
    """Write the row and its lists; with these, what the database fills in of the row comes when it is asked for."""
    text, parameters = first.way.statement(first.left_out), first.way.parameters(first.values)
    if any(others) and not _is_listened_to(first):
        connection.run_later(text, parameters)
        _fill(first, {})
    else:
        description, found = connection.send(text, parameters)
        _fill(first, first.way.read(first.left_out, description, found[0]) if first.left_out else {})
    for rows in others:
        _write_list(connection, rows)


def _write_list(connection: SessionConnection, rows: list[_Row]) -> None:
    way, left_out, columns = rows[0].way, rows[0].left_out, _columns(rows)
    if len(rows) == 1 or columns is None:
        for row in rows:
            _write(connection, row, [])
        return
    description, found = connection.send(way.statement(left_out, many=True), columns)
    filled = [way.read(left_out, description, row) for row in found]
    # The keys were counted in the order of the rows.
    for row, answer in zip(rows, sorted(filled, key=lambda answer: answer[way.key]), strict=True):
        _fill(row, answer)


def _columns(rows: list[_Row]) -> dict[str, Any] | None:
    """The parameters of one INSERT for all rows; None where they need one each."""
    way, left_out = rows[0].way, rows[0].left_out
    parameters = [way.parameters(row.values) for row in rows]
    alike = all(row.left_out == left_out for row in rows) and all(map(fit_arrays, parameters))
    if not alike or way.key not in left_out:
        return None
    return {name: array(one[name] for one in parameters) for name in parameters[0]}


def _write_and_show(connection: SessionConnection, first: _Row, others: list[list[_Row]], shown: Shown) -> bool:
    """Write the row and its lists and read it, in one message; or return false, and nothing has been done."""
    batches = [([first], first.way.parameters(first.values)), *((rows, _columns(rows)) for rows in others)]
    if any(columns is None or rows[0].way.reads_key is None for rows, columns in batches):
        return False
    counted: dict[str, list[_Row]] = {}
    for number, (rows, columns) in enumerate(batches):
        (way, _, _, left_out), setting = rows[0], KEYS_LEFT.format(number)
        connection.run_later(way.statement(left_out, many=number > 0, left_in=setting), columns or {})
        if way.key in left_out:
            counted[setting] = rows
    key = first.values[first.way.key]
    if key is OMITTED:
        texts = shown.read(connection, counted, sql_key=first.way.key_in(KEYS_LEFT.format(0)))
    else:
        texts = shown.read(connection, counted, key=key)
        _fill(first, {})
    for rows, keys in zip(counted.values(), texts, strict=True):
        _fill_keys(rows, keys)
    shown.key = first.state.dict[first.way.key]
    return True


def _fill_keys(rows: list[_Row], keys: str) -> None:
    """Let the objects have their keys, which are the last of those that were left in a setting."""
    way = rows[0].way
    for row, key in zip(rows, keys.split(",")[-len(rows) :], strict=True):
        _fill(row, {way.key: way.reads_key(key) if way.reads_key else key})


def _fill(row: _Row, answer: dict[str, Any]) -> None:
    """Let the object have what was written and what the database has answered."""
    known = row.state.dict
    filled = {key: value for key, value in row.values.items() if value is not known.get(key, OMITTED)}
    made = {key: value for key, value in filled.items() if value is not OMITTED} | answer
    if made:
        known |= made
        # As a flush tells it: documents, for one, follow their changes from now on.
        row.state.manager.dispatch.refresh_flush(row.state, None, [*made])


def _add(session: Session, rows: Iterable[Any]) -> None:
    """Without a search for rows that belong to these, which are among them."""
    for row in rows:
        session._save_or_update_impl(instance_state(row))  # noqa: SLF001 - what is left of `Session.add`


def _expunge(session: Session, rows: Iterable[Any]) -> None:
    for row in rows:
        if row in session:
            session.expunge(row)
