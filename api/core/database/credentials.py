"""Tables of what proves who somebody is, such as sessions: checked by the database itself, and revoked by triggers.

So a revocation holds from its commit on, in every process, and whatever has written the row that it follows from.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Integer, MetaData, String, Uuid, func, text
from sqlalchemy.orm import Mapped, mapped_column

from api.core.database.model import new_uuid
from api.core.database.triggers import FUNCTIONS, Function, Trigger, add_trigger, no_arguments
from api.core.database.types import UTCDateTime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Table

NOT_ACCEPTED = "AC401"
"""SQLSTATE of a credential that is unknown, revoked or expired, or that says more than its holder may."""
OUTDATED = "40001"
"""SQLSTATE of what only has to be read anew: that of a transaction which will succeed when it is tried again."""
KEPT = "app.kept_credential"
"""The transaction's setting that spares one credential of a user whose password changes; `all` spares them all."""

_HOLDERS_OF_ROLE = "IN (SELECT user_id FROM public.{} WHERE role_id = NEW.id)"


class CredentialMixin:
    """A credential of a user: until when it holds, and whether it has been revoked before that.

    `epoch` counts the changes of what its user may do, so that what was known of that before is outdated.
    """

    id: Mapped[uuid.UUID] = mapped_column(Uuid(as_uuid=True), primary_key=True, default=new_uuid, sort_order=-100)
    epoch: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime, server_default=func.now(), sort_order=900)
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime, sort_order=901)
    revoked_at: Mapped[datetime | None] = mapped_column(UTCDateTime, sort_order=902)
    revoked_because: Mapped[str | None] = mapped_column(String(40), sort_order=903)


@dataclass(frozen=True)
class Holders:
    """Whose the credentials are: a table of users, one of roles, and one between them, with such columns.

    `reasons` tells which change of a user revokes all credentials, in the order in which they are looked for: a
    condition on `OLD` and `NEW`, and the reason to be given.
    """

    users: str
    roles: str
    user_roles: str
    reasons: Sequence[tuple[str, str]]


def declare(table: Table, check: str, holders: Holders, *, outdated: str = NOT_ACCEPTED) -> None:
    """Give the database the function `check(id, epoch)`, which raises, and the triggers that revoke.

    `outdated` is the SQLSTATE for a credential that holds, but whose epoch is another one.
    """
    FUNCTIONS.append(_check(table.name, check, outdated))
    metadata: MetaData = table.metadata
    changed = " OR ".join(f"({condition})" for condition, _ in holders.reasons)
    revoke = Trigger(
        f"revoke_{table.name}",
        _revoke(table.name, holders.reasons),
        None,
        "AFTER UPDATE",
        no_arguments,
        lambda _: changed,
    )
    of_user = Trigger(
        f"renew_{table.name}_of_user",
        _renew(table.name, "user", "IN (OLD.user_id, NEW.user_id)"),
        None,
        "AFTER INSERT OR DELETE OR UPDATE",
        no_arguments,
    )
    of_role = Trigger(
        f"renew_{table.name}_of_role",
        _renew(table.name, "role", _HOLDERS_OF_ROLE.format(holders.user_roles)),
        None,
        "AFTER UPDATE",
        no_arguments,
        lambda _: (
            "(OLD.name)::text IS DISTINCT FROM (NEW.name)::text OR OLD.deleted_at IS DISTINCT FROM NEW.deleted_at"
        ),
    )
    add_trigger(revoke, metadata, holders.users)
    add_trigger(of_user, metadata, holders.user_roles)
    add_trigger(of_role, metadata, holders.roles)


def _check(table: str, name: str, outdated: str) -> Function:
    # As its owner: whom the table's rows are hidden from has to be told of them, too.
    head = (
        "(credential uuid, known_epoch integer) RETURNS void LANGUAGE plpgsql STABLE SECURITY DEFINER "
        "SET search_path TO 'pg_catalog', 'pg_temp'"
    )
    body = f"""
DECLARE
    current_epoch integer;
BEGIN
    SELECT epoch INTO current_epoch FROM public.{table}
    WHERE id = credential AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());
    IF current_epoch IS NULL THEN
        RAISE EXCEPTION 'the credential is unknown, revoked or expired' USING ERRCODE = '{NOT_ACCEPTED}';
    ELSIF current_epoch <> known_epoch THEN
        RAISE EXCEPTION 'what the user of the credential may do has changed' USING ERRCODE = '{outdated}';
    END IF;
END
"""  # noqa: S608 - a table's name
    return Function(f"{name}(uuid, integer)", head, body)


def _trigger_function(name: str, body: str) -> Function:
    head = "() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path TO 'pg_catalog', 'pg_temp'"
    return Function(f"{name}()", head, body)


def _revoke(table: str, reasons: Sequence[tuple[str, str]]) -> Function:
    cases = " ".join(f"WHEN {condition} THEN '{reason}'" for condition, reason in reasons)
    body = f"""
DECLARE
    kept text := current_setting('{KEPT}', true);
BEGIN
    IF kept = 'all' THEN
        RETURN NULL;
    END IF;
    UPDATE public.{table} SET revoked_at = now(), revoked_because = CASE {cases} END
    WHERE user_id = NEW.id AND revoked_at IS NULL AND id::text IS DISTINCT FROM kept;
    RETURN NULL;
END
"""  # noqa: S608 - a table's name
    return _trigger_function(f"revoke_{table}", body)


def _renew(table: str, whose: str, condition: str) -> Function:
    body = f"""
BEGIN
    UPDATE public.{table} SET epoch = epoch + 1 WHERE revoked_at IS NULL AND user_id {condition};
    RETURN NULL;
END
"""  # noqa: S608 - a table's name
    return _trigger_function(f"renew_{table}_of_{whose}", body)
