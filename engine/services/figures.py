"""The dashboards: a filter in, a sheet of tiles and charts out. Nothing is written."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from db.models import AnswerFact, Study
from db.repositories import figures as repository
from db.types import utc_now
from engine.dashboard_sheet import Sheet, SheetBuilder
from engine.findings.answers import Task
from engine.services import bone_age_figures, class_figures, operation_figures, reader_figures
from engine.services.accounts import READERS, Actor, require
from engine.services.figure_filters import (
    FigureFilter,
    choices,
    decisions,
    in_words,
    judged_reads,
    with_default_version,
)
from engine.services.figure_parts import JUDGED_BY_READERS

DIFFERENCES = "A difference is this version minus the one it is compared with, on the images that both have read."
UTC_NOTE = "Months, weeks and hours are those of UTC."


def model_sheet(session: Session, actor: Actor, filter: FigureFilter, field: str | None = None) -> Sheet:
    """How good the reads of one version are, of two where another is chosen to compare with. `field`: of what the
    task's answers say (class_figures.fields_of), the first where none is given. Raises NotAllowed."""
    require(actor, *READERS)
    found = choices(session, actor)
    filter = with_default_version(filter, found)
    builder = SheetBuilder()
    if filter.task is Task.BONE_AGE:
        bone_age_figures.add_to(builder, session, filter, found)
    else:
        field = _field(filter.task, field)
        class_figures.add_to(builder, session, filter, found, field)
    notes = [JUDGED_BY_READERS, UTC_NOTE]
    if filter.other_version_id:
        notes.insert(1, DIFFERENCES)
    shown = [filter.version_id, filter.other_version_id]
    is_phantom = bool(found.phantom_version_ids & set(shown)) or _has_phantoms(session, judged_reads(filter))
    return _sheet("Model", filter, found, builder, notes, is_phantom, field)


def reader_sheet(session: Session, actor: Actor, filter: FigureFilter, field: str | None = None) -> Sheet:
    """How readers decide. `field` as of model_sheet. Raises NotAllowed."""
    require(actor, *READERS)
    found = choices(session, actor)
    builder = SheetBuilder()
    field = _field(filter.task, field)
    reader_figures.add_to(builder, session, filter, found, field)
    notes = [
        "Each reader's standing decision about an image counts once, also where another one has settled it since.",
        UTC_NOTE,
    ]
    return _sheet("Readers", filter, found, builder, notes, _has_phantoms(session, decisions(filter)), field)


def operation_sheet(session: Session, actor: Actor, filter: FigureFilter, now: datetime | None = None) -> Sheet:
    """How the work goes; the filter's version is left aside. Raises NotAllowed."""
    require(actor, *READERS)
    found = choices(session, actor)
    builder = SheetBuilder()
    alerts = operation_figures.add_to(builder, session, filter, found, now or utc_now())
    is_phantom = repository.is_any_study(session, [Study.is_phantom])
    return _sheet("Operations", filter, found, builder, [UTC_NOTE], is_phantom, None, alerts, with_model=False)


def _field(task: Task, field: str | None) -> str | None:
    fields = class_figures.fields_of(task)
    return field if field in fields else fields[0] if fields else None


def _has_phantoms(session: Session, where) -> bool:
    """Asked of all studies first: where none is a phantom, no case is looked at."""
    is_any = repository.is_any_study(session, [Study.is_phantom])
    return is_any and repository.is_any(session, [*where, AnswerFact.is_phantom])


def _sheet(title, filter, found, builder, notes, is_phantom, field=None, alerts=(), *, with_model=True) -> Sheet:
    said = in_words(filter, found, with_model=with_model)
    if field and len(class_figures.fields_of(filter.task)) > 1:
        said = (said[0], ("Finding", class_figures.FIELD_WORDS[field]), *said[1:])
    return Sheet(
        title, said, tuple(builder.tiles), tuple(builder.charts), tuple(alerts), tuple(notes), is_phantom=is_phantom
    )
