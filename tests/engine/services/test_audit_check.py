"""Whatever somebody does to the audit log, or to the rows it speaks of, is noticed and named."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from db.session import engine_for, writing
from engine.services import audit, audit_anchor, audit_check, review
from engine.services.audit_check import Verification
from engine.settings import settings
from tests.engine.services.conftest import ADMIN, READER
from tests.tampering import tamper


@pytest.fixture
def ten_rows(session: Session, database_url: str) -> str:
    for number in range(1, 11):
        with writing(session):
            audit.record(session, READER, "study.viewed", f"study:{number}", {"number": number, "words": "ü – 学"})
    audit.keep_anchor(session, now=True)
    session.rollback()
    return database_url


@pytest.fixture
def with_key(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    monkeypatch.setenv("PEDISCREEN_AUDIT_KEY", "an audit key of a hospital, kept apart")
    settings.cache_clear()


def found(session: Session) -> list[tuple[str, int | None]]:
    session.rollback()
    return [(problem.kind, problem.row) for problem in audit_check.verify(session, ADMIN).problems]


def test_an_untouched_log_is_whole(session: Session, ten_rows: str) -> None:
    checked = audit_check.verify(session, ADMIN)
    assert (checked.problems, checked.rows, checked.last_id, checked.is_anchored) == ((), 10, 10, True)
    assert "without a key" in checked.in_words()
    assert audit_check.verify(session, ADMIN).rows == 11  # the verification before is a row of it
    last = audit_check.last_verification(session, ADMIN)
    assert last is not None and (last.by, last.rows, last.problems) == (ADMIN.username, 11, 0)


@pytest.mark.parametrize(
    "change",
    [
        "actor = 'somebody-else'",
        "at = '2020-01-01 00:00:00+00:00'",
        "action = 'study.exported'",
        "subject = 'study:99'",
        'detail = \'{"number": 5, "words": "other"}\'',
        "origin = '192.0.2.1'",
        "hash = 'f' || substr(hash, 2)",
    ],
)
def test_a_changed_row_is_named(session: Session, ten_rows: str, change: str) -> None:
    if session.get_bind().dialect.name == "sqlite":
        change = change.replace("+00:00", ".000000")
    tamper(ten_rows, f"UPDATE audit_event SET {change} WHERE id = 5")  # noqa: S608
    assert found(session) == [("changed", 5)]


def test_a_changed_row_with_its_hash_made_anew_is_named(session: Session, ten_rows: str) -> None:
    from dataclasses import replace

    from db import audit_chain

    fifth = next(link for link in audit_chain.links(session, 4))
    forged = audit_chain.sealed(replace(fifth, actor="somebody-else"), fifth.previous_hash, None)
    tamper(ten_rows, "UPDATE audit_event SET actor = :actor, hash = :hash WHERE id = 5",
           actor=forged.actor, hash=forged.hash)  # fmt: skip
    assert found(session) == [("changed", 5)]


def test_removed_rows_are_named(session: Session, ten_rows: str) -> None:
    tamper(ten_rows, "DELETE FROM audit_event WHERE id IN (4, 5)")
    checked = audit_check.verify(session, ADMIN)
    assert [(problem.kind, problem.row) for problem in checked.problems] == [("removed", 4)]
    assert "rows 4 to 5 were removed" in checked.problems[0].message


def test_the_first_row_removed(session: Session, ten_rows: str) -> None:
    tamper(ten_rows, "DELETE FROM audit_event WHERE id = 1")
    assert found(session) == [("removed", 1)]


def test_exchanged_rows_are_named(session: Session, ten_rows: str) -> None:
    swap = ("UPDATE audit_event SET id = 99 WHERE id = 4", "UPDATE audit_event SET id = 4 WHERE id = 5",
            "UPDATE audit_event SET id = 5 WHERE id = 99")  # fmt: skip
    tamper(ten_rows, *swap)
    assert found(session) == [("reordered", 4), ("reordered", 5)]


def test_a_row_put_in_is_named(session: Session, ten_rows: str) -> None:
    """In a gap made for it: all later rows moved up by one."""
    insert = (
        "INSERT INTO audit_event (id, at, actor, action, subject, detail, origin, seal, previous_hash, hash) "
        "SELECT 11, at, 'nobody', action, subject, detail, origin, seal, 'x', 'y' FROM audit_event WHERE id = 10"
    )
    tamper(ten_rows, insert)
    assert found(session) == [("changed", 11)]


def test_a_row_put_in_between_with_a_hash_that_fits(session: Session, ten_rows: str) -> None:
    from dataclasses import replace

    from db import audit_chain

    tenth = next(link for link in audit_chain.links(session, 9))
    with writing(session):
        audit.record(session, READER, "study.viewed", "study:11")
    session.rollback()
    forged = audit_chain.sealed(replace(tenth, id=11, actor="nobody"), tenth.hash, None)
    tamper(
        ten_rows,
        "UPDATE audit_event SET id = 12 WHERE id = 11",
        "UPDATE audit_event SET previous_hash = 'moved' WHERE id = 12",
        "INSERT INTO audit_event (id, at, actor, action, subject, detail, origin, seal, previous_hash, hash) "
        "SELECT 11, at, 'nobody', action, subject, detail, origin, seal, hash, :hash FROM audit_event WHERE id = 10",
        "UPDATE audit_event SET subject = 'study:10' WHERE id = 11",
        hash=forged.hash,
    )
    assert found(session)[0][1] in (11, 12)


def test_a_cut_end_is_named_and_stays_named(session: Session, ten_rows: str) -> None:
    tamper(ten_rows, "DELETE FROM audit_event WHERE id > 7")
    assert found(session) == [("cut", 10)]
    for number in range(10):  # work goes on, past the number of the row that is gone
        with writing(session):
            audit.record(session, READER, "study.viewed", f"study:{number}")
    audit.keep_anchor(session, now=True)
    assert audit_anchor.read(None).id == 10  # type: ignore[union-attr]
    assert found(session) == [("anchor", 10)]
    assert "made anew" in str(audit_check.end_is_missing(session, ADMIN))


def test_a_missing_anchor_is_noticed(session: Session, ten_rows: str) -> None:
    audit_anchor.path().unlink()
    assert found(session) == [("anchor", None)]


def test_a_changed_anchor_is_noticed_with_a_key(with_key: None, session: Session, ten_rows: str) -> None:
    said = json.loads(audit_anchor.path().read_text())
    audit_anchor.path().write_text(json.dumps(said | {"id": 7}))
    assert found(session) == [("anchor", None)]


def make_anew(session: Session, url: str) -> None:
    """Somebody who has the database but not the key: the fifth row changed, and every hash after it made anew."""
    from dataclasses import replace

    from db import audit_chain

    previous, updates = "", []
    for link in audit_chain.links(session):
        if link.id == 5:
            link = replace(link, actor="somebody-else")
        if link.id >= 5:
            link = audit_chain.sealed(link, previous, None)
            updates.append(link)
        previous = link.hash
    session.rollback()
    change = "UPDATE audit_event SET actor = :actor, seal = :seal, hash = :hash, previous_hash = :before WHERE id = :id"
    for one in updates:
        tamper(url, change, actor=one.actor, seal=one.seal, hash=one.hash, before=one.previous_hash, id=one.id)


def test_a_chain_made_anew_without_the_key_is_noticed(with_key: None, session: Session, ten_rows: str) -> None:
    make_anew(session, ten_rows)
    audit_anchor.path().unlink()
    kinds = {kind for kind, _ in found(session)}
    assert "unsealed" in kinds


def test_a_chain_made_anew_where_there_is_no_key_is_told_by_the_anchor_alone(session: Session, ten_rows: str) -> None:
    make_anew(session, ten_rows)
    assert found(session) == [("anchor", 10)]


def test_a_key_seals_what_was_recorded_before_it(
    session: Session, ten_rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEDISCREEN_AUDIT_KEY", "an audit key of a hospital, kept apart")
    settings.cache_clear()
    with writing(session):
        audit.record(session, READER, "study.viewed", "study:11")
    checked = audit_check.verify(session, ADMIN)
    assert checked.problems == () and checked.keyed_from == 11
    tamper(ten_rows, "UPDATE audit_event SET actor = 'x' WHERE id = 2")
    assert ("changed", 2) in found(session)


def a_decided_case(session: Session, new_case: Callable) -> tuple[int, int]:
    case = new_case()
    [image] = review.load_study(session, READER, case.study_id).images
    decision = review.Decision(review.Verdict.CONFIRMED, prediction_id=image.read.prediction_id, seconds=12)
    return image.read.prediction_id, review.record_review(session, READER, image.image_id, decision)


def checked_after(session: Session, url: str, statement: str) -> Verification:
    session.rollback()
    audit_check.fix_earlier_rows(url)
    tamper(url, statement)
    return audit_check.verify(session, ADMIN)


@pytest.mark.parametrize(
    ("statement", "kind", "table"),
    [
        ('UPDATE review SET answer = \'{"task": "bone_age", "bone_age_months": 12}\'', "row_changed", "review"),
        ("UPDATE review SET verdict = 'corrected'", "row_changed", "review"),
        ("UPDATE review SET created_at = '2020-01-01 00:00:00.000000'", "row_changed", "review"),
        ("UPDATE prediction SET median_months = 12", "row_changed", "prediction"),
        ("UPDATE image SET pixel_sha256 = file_sha256", "row_changed", "image"),
        ("UPDATE model_version SET is_phantom = NOT is_phantom", "row_changed", "model_version"),
        ("DELETE FROM review", "row_removed", "review"),
        (
            "INSERT INTO prediction (id, image_fk, model_version_fk, read_round, task, probabilities, abstained, "
            "milliseconds, created_at) SELECT 900, image_fk, model_version_fk, 9, task, probabilities, abstained, "
            "milliseconds, created_at FROM prediction LIMIT 1",
            "row_inserted",
            "prediction",
        ),
    ],
)
def test_a_row_changed_behind_the_applications_back_is_named(
    session: Session, database_url: str, new_case: Callable, statement: str, kind: str, table: str
) -> None:
    a_decided_case(session, new_case)
    if statement == "DELETE FROM review":
        tamper(database_url, "UPDATE answer_fact SET verdict = NULL", "DELETE FROM claim")
    checked = checked_after(session, database_url, statement)
    assert [(problem.kind, problem.table) for problem in checked.problems] == [(kind, table)]
    assert table in checked.problems[0].message


def test_rows_as_the_application_leaves_them_are_never_suspected(
    session: Session, database_url: str, new_case: Callable
) -> None:
    _, review_id = a_decided_case(session, new_case)
    image_id = session.execute(text("SELECT image_fk FROM review")).scalar_one()
    review.undo_review(session, READER, image_id, review_id)
    checked = audit_check.verify(session, ADMIN)
    assert checked.problems == () and checked.rows_checked >= 5


def test_what_was_there_before_the_hashes_is_fixed_once(session: Session, database_url: str, new_case) -> None:
    a_decided_case(session, new_case)
    assert audit_check.fix_earlier_rows(database_url) == 4
    assert audit_check.fix_earlier_rows(database_url) == 0
    assert audit_check.verify(session, ADMIN).problems == ()


def test_a_log_from_before_the_chain_gets_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import command

    from db import migrate

    url = f"sqlite:///{tmp_path}/old.sqlite"
    monkeypatch.setenv("PEDISCREEN_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("PEDISCREEN_DATABASE_URL", url)
    settings.cache_clear()
    command.upgrade(migrate._config(url), "0013")
    with engine_for(url).begin() as connection:
        for number in (1, 2, 5):  # numbers were given before, and left out
            connection.execute(
                text(
                    "INSERT INTO audit_event (id, at, actor, action, subject, detail) "
                    "VALUES (:n, :at, 'a', 'b', 'c', :d)"
                ),
                {"n": number, "at": f"2026-01-0{number} 10:00:00.123456", "d": '{"x": 0.1, "y": "ü"}'},
            )
    migrate.upgrade(url)
    with Session(engine_for(url)) as session:
        audit_check.fix_earlier_rows(url)
        assert audit_check.verify(session, ADMIN).problems == ()
        session.rollback()
        tamper(url, "UPDATE audit_event SET actor = 'z' WHERE id = 5")
        assert ("changed", 5) in [
            (problem.kind, problem.row) for problem in audit_check.verify(session, ADMIN).problems
        ]
    engine_for(url).dispose()
    settings.cache_clear()
