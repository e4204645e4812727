"""`pediscreen audit`, `backup` and `restore` as people run them."""

import json
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from db.session import engine_for, writing
from engine import cli
from engine.services import audit
from engine.settings import settings
from tests.engine.services.conftest import READER
from tests.tampering import tamper


@pytest.fixture
def five_rows(session: Session) -> str:
    for number in range(5):
        with writing(session):
            audit.record(session, READER, "study.viewed", f"study:{number}")
    session.rollback()
    return settings().database_url


def test_verify_says_what_is_wrong_and_exits_with_1(five_rows: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["audit", "verify"]) == 0
    assert "All 5 rows are as they were recorded, without a key" in capsys.readouterr().out
    tamper(five_rows, "UPDATE audit_event SET subject = 'study:9' WHERE id = 3")
    assert cli.main(["audit", "verify"]) == 1
    assert "row 3 does not say what was recorded" in capsys.readouterr().out
    assert cli.main(["audit", "verify", "--json", "--files"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert [(one["kind"], one["row"]) for one in said["problems"]] == [("changed", 3)]
    assert said["files_checked"] == 0 and said["file_problems"] == []


def test_export_writes_a_new_file_only(five_rows: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "log.csv"
    assert cli.main(["audit", "export", str(out), "--subject", "study:2", "--since", "2020-01-01"]) == 0
    assert len(out.read_text().splitlines()) == 2
    assert cli.main(["audit", "export", str(out)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert cli.main(["audit", "export", "-", "--format", "fhir"]) == 0
    assert json.loads(capsys.readouterr().out)["resourceType"] == "Bundle"


def test_backup_and_restore(
    five_rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    if not five_rows.startswith("sqlite"):
        pytest.skip("the server has one database for the tests")
    assert cli.main(["backup", str(tmp_path / "backup"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["database"] == "sqlite"
    assert cli.main(["restore", str(tmp_path / "backup")]) == 1
    assert "already" in capsys.readouterr().err
    monkeypatch.setenv("PEDISCREEN_DATA_DIR", str(tmp_path / "elsewhere"))
    settings.cache_clear()
    assert cli.main(["restore", str(tmp_path / "backup")]) == 0
    assert cli.main(["audit", "verify"]) == 0


@pytest.mark.parametrize("command", ["worker", "serve", "up --no-demo", "db upgrade", "audit verify"])
def test_a_database_of_a_newer_version_is_refused_with_both_named(
    database_url: str, command: str, capsys: pytest.CaptureFixture
) -> None:
    from db.migrate import newest_revision

    newest = newest_revision()
    with engine_for(database_url).begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    try:
        assert cli.main(command.split()) == 1
        said = capsys.readouterr().err
        assert "schema 9999" in said and str(newest) in said and "newer version" in said
    finally:
        with engine_for(database_url).begin() as connection:
            connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{newest}'")  # noqa: S608
