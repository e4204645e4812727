"""The migrations build what the models say, on any database, and the closed sets stay equal to the engine's."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import Session

from db import migrate, models
from db.models import AuditEvent, Base, Patient, Study, Urgency
from db.session import engine_for
from engine.findings import answers, urgency


def test_migrated_schema_equals_the_models(database_url: str) -> None:
    migrate.check(database_url)
    tables = set(inspect(engine_for(database_url)).get_table_names())
    assert tables == {*Base.metadata.tables, "alembic_version"}


def test_upgrade_twice_changes_nothing(database_url: str, session: Session) -> None:
    session.add(Patient(pseudonym="P-AAAAAA", patient_id="1", issuer=""))
    session.commit()
    migrate.upgrade(database_url)
    assert session.scalars(select(Patient.pseudonym)).all() == ["P-AAAAAA"]


def test_closed_sets_equal_the_engines() -> None:
    assert list(models.Task) == list(answers.Task)
    assert list(models.Urgency) == list(urgency.Level)


@pytest.mark.parametrize("level", list(Urgency))
def test_urgency_rank_is_kept_by_the_database(session: Session, level: Urgency) -> None:
    patient = Patient(pseudonym="P-AAAAAA", patient_id="1", issuer="")
    session.add(patient)
    session.flush()
    session.add(Study(study_instance_uid="1.2", patient_fk=patient.id, urgency=level))
    session.flush()
    assert session.scalar(select(Study.urgency_rank)) == models.URGENCY_RANK[level]


def test_times_keep_their_moment(session: Session) -> None:
    at = datetime(2026, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=5)))
    session.add(AuditEvent(at=at, actor="a", action="b", subject="c", detail={}))
    session.commit()
    session.expire_all()
    stored = session.scalars(select(AuditEvent.at)).one()
    assert stored == at and stored.tzinfo == UTC


def test_a_time_without_zone_is_refused(session: Session) -> None:
    session.add(AuditEvent(at=datetime(2026, 1, 2), actor="a", action="b", subject="c", detail={}))
    with pytest.raises(StatementError, match="time zone"):
        session.flush()


def test_values_outside_a_closed_set_are_refused_by_the_database(session: Session) -> None:
    with pytest.raises(IntegrityError):
        session.execute(
            text(
                "INSERT INTO patient (pseudonym, patient_id, issuer, sex, created_at) "
                "VALUES ('P-A', '1', '', 'X', '2026-01-01')"
            )
        )


def test_foreign_keys_are_enforced(session: Session) -> None:
    session.add(Study(study_instance_uid="1.2", patient_fk=999))
    with pytest.raises(IntegrityError):
        session.flush()
