"""What `pediscreen models` does: each returns its result for --json and the same as text."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from db.models import RetrainState
from db.session import session_scope
from engine.errors import NotFound
from engine.services import lineage, registry, retrain
from engine.services.accounts import command_line

ADMIN = command_line()  # whoever may run commands on this machine


def listed(database_url: str) -> tuple[dict[str, Any], str]:
    with session_scope(database_url) as session:
        now = registry.model_in_use(session, ADMIN)
        rows = lineage.models(session, ADMIN)
    lines = [f"in use: {now.name}" + (f", put in use by {now.by}" if now.by else ", as configured")]
    if now.returns_to:
        lines.append(f"a rollback would bring back {now.returns_to}")
    lines += [f"{row.model_version_id:4}  {row.state:9}  {row.reads:7,} reads  {row.name}" for row in rows]
    return {"in_use": asdict(now), "models": [asdict(row) for row in rows]}, "\n".join(lines)


def promoted(database_url: str, model: str, comment: str | None) -> tuple[dict[str, Any], str]:
    """`model`: its name, or its number in the list. A candidate that a retraining's gate let through is signed for.
    Raises NotFound, and what registry.promote and retrain.sign raise."""
    with session_scope(database_url) as session:
        row = next(
            (one for one in lineage.models(session, ADMIN) if model in (one.name, str(one.model_version_id))), None
        )
        if row is None:
            raise NotFound(f"there is no model {model}: pediscreen models list names them all")
        if row.run_state is RetrainState.AWAITING_SIGNATURE and row.retrain_run_id is not None:
            retrain.sign(session, ADMIN, row.retrain_run_id, comment or "")
        else:
            registry.promote(session, ADMIN, row.model_version_id, comment=comment)
    return _in_use(database_url)


def rolled_back(database_url: str, comment: str | None) -> tuple[dict[str, Any], str]:
    """Raises what registry.roll_back raises."""
    with session_scope(database_url) as session:
        registry.roll_back(session, ADMIN, comment=comment)
    return _in_use(database_url)


def _in_use(database_url: str) -> tuple[dict[str, Any], str]:
    with session_scope(database_url) as session:
        now = registry.model_in_use(session, ADMIN)
    return {"in_use": asdict(now)}, f"in use: {now.name}"
