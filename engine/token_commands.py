"""What `pediscreen token` does: each returns its result for --json and the same as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from db.models import Role
from db.session import session_scope
from engine.errors import NotFound
from engine.services import api_tokens
from engine.services.accounts import command_line
from engine.services.api_tokens import SCOPES_OF, Scope, TokenRow

ADMIN = command_line()  # whoever may run commands on this machine


def listed(database_url: str) -> tuple[dict[str, Any], str]:
    with session_scope(database_url) as session:
        rows = api_tokens.tokens(session, ADMIN)
    return {"tokens": [asdict(row) for row in rows]}, "\n".join(map(_line, rows)) or "No token has been made yet."


def added(
    database_url: str, name: str, role: str, scopes: Sequence[str] | None, days: int
) -> tuple[dict[str, Any], str]:
    """`scopes` None: all that the role may have. Raises what api_tokens.make raises."""
    chosen = SCOPES_OF[Role(role)] if scopes is None else tuple(map(Scope, scopes))
    with session_scope(database_url) as session:
        made = api_tokens.make(session, ADMIN, name, Role(role), chosen, days)
    result = {**asdict(made.row), "secret": made.secret}
    return result, f"{made.secret}\nThis is shown once: keep it where the program finds it."


def revoked(database_url: str, token: str) -> tuple[dict[str, Any], str]:
    """`token`: its name, or its number in the list. Raises NotFound."""
    with session_scope(database_url) as session:
        rows = api_tokens.tokens(session, ADMIN)
        row = next((one for one in rows if token in (one.name, str(one.token_id))), None)
        if row is None:
            raise NotFound(f"there is no token {token}: pediscreen token list names them all")
        row = api_tokens.revoke(session, ADMIN, row.token_id)
    return asdict(row), f"{row.name} is refused from now on."


def _line(row: TokenRow) -> str:
    if row.revoked_at is not None:
        state = f"revoked by {row.revoked_by} on {row.revoked_at:%Y-%m-%d}"
    else:
        state = f"{'valid until' if row.is_valid else 'expired on'} {row.expires_at:%Y-%m-%d}"
    used = f"last used {row.last_used_at:%Y-%m-%d %H:%M} UTC" if row.last_used_at else "never used"
    return f"{row.token_id:4}  {row.starts_with}...  {row.name}  {row.role}: {', '.join(row.scopes)}  {state}, {used}"
