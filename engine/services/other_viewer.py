"""The link to the hospital's own viewer (OHIF, say) for the whole DICOM study. PediScreen's viewer is the one that is
reviewed in; this opens what it does not show, other series for one."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from sqlalchemy.orm import Session

from db.repositories.studies import study_with_images
from engine.errors import NotFound
from engine.services import blind_reading
from engine.services.accounts import READERS, Actor, require
from engine.settings import settings

PLACE = "{StudyInstanceUID}"


def viewer_problem(template: str | None) -> str | None:
    """Why PEDISCREEN_VIEWER_URL cannot be used, or None."""
    if template is None:
        return None
    if urlsplit(template).scheme not in ("http", "https") or not urlsplit(template).hostname:
        return "PEDISCREEN_VIEWER_URL has to begin with https:// or http://"
    return None if PLACE in template else f"PEDISCREEN_VIEWER_URL has to hold {PLACE}, where the study's number goes"


def viewer_link(session: Session, actor: Actor, study_id: int) -> str | None:
    """None where no viewer is configured, of a study that is in no PACS, and to whoever must not know what was decided
    about it: the report lies beside the film there. Raises NotFound, NotAllowed."""
    require(actor, *READERS)
    template = settings().viewer_url
    if template is None or viewer_problem(template) is not None:
        return None
    study = study_with_images(session, study_id)
    if study is None:
        raise NotFound(f"there is no study {study_id}")
    in_pacs = all(image.sop_instance_uid is not None for image in study.images)
    if not in_pacs or blind_reading.is_blind_to(session, actor, study_id):
        return None
    return template.replace(PLACE, quote(study.study_instance_uid, safe=""))
