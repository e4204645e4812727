"""What a reader has entered about an image and not decided yet. It outlives a claim that ran out, a lost connection and
a closed browser; a decision about the image ends it (engine.services.claims)."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy.orm import Session

from db.repositories import shared_work as repository
from db.repositories.accounts import account_by_username
from db.session import writing
from db.types import utc_now
from db.worklist_tables import Draft
from engine.errors import Refused
from engine.services.accounts import READERS, Actor, account_of, require

MAX_CHARACTERS = 20_000  # as JSON; a form is far below


def keep(session: Session, actor: Actor, image_id: int, fields: dict[str, Any]) -> None:
    """Keep the form's fields, by name, in place of what was kept; no fields: forget them. Commits. No audit row: it is
    no act, and the text may name a child. Raises Refused when they are too long, NotAllowed."""
    require(actor, *READERS)
    if len(json.dumps(fields)) > MAX_CHARACTERS:
        raise Refused("too_long", f"the form may hold at most {MAX_CHARACTERS} characters: shorten the comment")
    with writing(session):
        reader = account_of(session, actor)
        draft = repository.draft_of(session, image_id, reader.id)
        if not fields:
            repository.forget_draft(session, image_id, reader.id)
        elif draft is None:
            session.add(Draft(image_fk=image_id, reader_fk=reader.id, fields=fields))
        else:
            draft.fields, draft.kept_at = fields, utc_now()


def kept(session: Session, actor: Actor, image_id: int) -> dict[str, Any]:
    """The fields kept for this reader; empty when there are none."""
    require(actor, *READERS)
    account = account_by_username(session, actor.username)
    draft = repository.draft_of(session, image_id, account.id) if account else None
    return dict(draft.fields) if draft else {}
