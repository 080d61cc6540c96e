"""Statements of transactions that are planned once for each connection, and those that wait for the next one.

In a transaction a mistake about what the server has prepared would undo all that was done before. So a statement is
prepared in a message of its own, once for a connection, and only where the server process is nobody else's: a pooler's
change from transaction to transaction, and what they know could only be found out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg2

from api.core.database.context import AttributedCursor
from api.core.database.prepared import MISTAKEN, SYNTAX, UNDO_PREPARATION, is_preparable, prepared
from api.core.errors import TransactionConflictError

if TYPE_CHECKING:
    from api.core.database.prepared import Prepared


class PreparingCursor(AttributedCursor):
    """A cursor that runs statements which the server has planned before."""

    def run(self, text: str, parameters: dict[str, Any]) -> None:
        """Run a statement in a transaction, planned once for this connection where its parameters have clear types.

        Raises:
            psycopg2.Error: as `execute` does.
            TransactionConflictError: where the plan has become outdated; the transaction can be tried again.
        """
        if self.connection.autocommit:
            self.read(text, parameters)
            return
        statement = prepared(text)
        if not self._is_prepared(statement, text):
            self.execute(text, parameters)
            return
        try:
            self.execute(statement.execute, parameters)
        except psycopg2.Error as error:
            if error.pgcode not in MISTAKEN:
                raise
            self.connection.prepared.doubt(statement, error.pgcode)
            raise TransactionConflictError from error

    def run_later(self, text: str, parameters: dict[str, Any]) -> None:
        """Run a statement in a transaction in front of the next one, in the same message; nobody sees its result.

        Raises:
            psycopg2.Error: where it cannot be prepared. What is wrong with the statement itself, the next one raises.
        """
        if self.connection.autocommit:
            self.read(text, parameters)
            return
        statement = prepared(text)
        query = statement.execute if self._is_prepared(statement, text) else text
        self._wait(self.mogrify(query, parameters))

    def _is_prepared(self, statement: Prepared, text: str) -> bool:
        """Whether the server has planned it, or has done so now: within a savepoint, as a mistake must not end more."""
        connection, known = self.connection, self.connection.prepared
        if statement.name in known.unfit or not (connection.is_preparing and connection.is_direct):
            return False
        if statement.name in known.names:
            return True
        if not is_preparable(text):
            return False
        try:
            self.execute(known.preparation(statement))
        except psycopg2.Error as error:
            if error.pgcode not in MISTAKEN or error.pgcode == SYNTAX:
                raise
            self.execute(UNDO_PREPARATION)
            known.learn(statement, error.pgcode)
        else:
            known.names.add(statement.name)
        return statement.name in known.names
