"""What was issued of a study."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.report_tables import IssuedReport


def issued_of_study(session: Session, study_id: int) -> list[IssuedReport]:
    """The latest first."""
    query = select(IssuedReport).where(IssuedReport.study_fk == study_id).order_by(IssuedReport.revision.desc())
    return list(session.scalars(query))
