"""The migrations build what the models say, on any database, and the closed sets stay equal to the engine's."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import Session

from db import migrate, models
from db.models import Base, Image, ModelVersion, Patient, Prediction, RetrainRun, Study, Urgency, Worker
from db.session import engine_for
from engine.annotations import SPLITS
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


def test_a_database_with_reads_gets_the_registry_and_keeps_its_reads(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.sqlite"
    command.upgrade(migrate._config(url), "0001")
    statements = (
        "INSERT INTO model_version (id, name, is_phantom, created_at) VALUES "
        "(1, 'm', 1, '2026-01-01'), (2, 'n', 1, '2026-01-01')",
        "INSERT INTO patient (id, pseudonym, patient_id, issuer, created_at) VALUES (1, 'P-A', '1', '', '2026-01-01')",
        "INSERT INTO study (id, study_instance_uid, patient_fk, received_at, status, urgency, urgency_unverified, "
        "warnings, is_phantom) VALUES (1, '1.2', 1, '2026-01-01', 'awaiting_review', 'none', 0, '[]', 1)",
        "INSERT INTO image (id, study_fk, file_sha256, pixel_sha256, source_format, rows, cols, read_state, "
        "read_round) VALUES (1, 1, 'a', 'b', 'png', 9, 9, 'done', 1)",
        "INSERT INTO prediction (id, image_fk, model_version_fk, read_round, task, probabilities, abstained, "
        "milliseconds, created_at) VALUES (1, 1, 2, 1, 'fracture', '{}', 1, 9, '2026-01-01')",
    )
    with engine_for(url).begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    migrate.upgrade(url)
    migrate.check(url)
    with Session(engine_for(url)) as session:
        assert session.execute(select(Prediction.id, Prediction.model_version_fk)).all() == [(1, 2)]
        in_queue = select(Image.read_first, Image.read_worker, Image.read_starts)
        assert session.execute(in_queue).all() == [(False, None, 0)]
        versions = session.execute(select(ModelVersion.name, ModelVersion.state).order_by(ModelVersion.id)).all()
        assert [tuple(row) for row in versions] == [("m", "retired"), ("n", "in_use")]
        with pytest.raises(IntegrityError):
            session.execute(text("UPDATE model_version SET folder = 'models/x'"))
    engine_for(url).dispose()


def test_only_one_retrain_run_can_be_unfinished(session: Session) -> None:
    states = [*models.RetrainState]
    for state in states[3:] * 2:
        session.add(RetrainRun(state=state, started_by="a"))
    session.add(RetrainRun(started_by="a"))
    session.commit()
    for state in states[:3]:
        session.add(RetrainRun(state=state, started_by="a"))
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()


def test_closed_sets_equal_the_engines() -> None:
    assert list(models.Task) == list(answers.Task)
    assert list(models.Urgency) == list(urgency.Level)
    assert list(models.Split) == list(SPLITS)


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
    session.add(Worker(name="a", at=at))
    session.commit()
    session.expire_all()
    stored = session.scalars(select(Worker.at)).one()
    assert stored == at and stored.tzinfo == UTC


def test_a_time_without_zone_is_refused(session: Session) -> None:
    session.add(Worker(name="a", at=datetime(2026, 1, 2)))
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
