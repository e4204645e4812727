"""engine.cli: exit status, JSON on standard output, messages on standard error."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from db.session import session_scope
from engine import cli, commands
from engine.errors import ModelUnavailable
from engine.inference.read import Read
from engine.settings import PROJECT_DIR, settings
from tests.model_folders import promote, register


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PEDISCREEN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def png(tmp_path):
    path = tmp_path / "film.png"
    Image.fromarray(np.linspace(0, 255, 300 * 400).astype(np.uint8).reshape(400, 300)).save(path)
    return path


class FixedReader:
    model_version = "fixed 1"
    is_phantom = True

    def read(self, images, task, contexts):
        self.contexts = contexts
        answer = {"task": "fracture", "fracture": "buckle"}
        p = {"distal_radius": 0.0, "buckle": 1.0, "normal": 0.0}
        scored = Read(str(task), answer, p, None, None, False, None, self.model_version, 3.21)
        return [scored for _ in images]


def test_help_answers_without_loading_anything_large():
    code = (
        "import sys; from engine import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'dbos', 'streamlit', 'sqlalchemy', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT_DIR, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["read", "no-such-file.dcm", "--task", "rop"],
        ["read", __file__],
        ["phantom", "out", "--task", "knee"],
        ["phantom", "out", "--task", "hand", "--count", "0"],
        ["ingest", "no-such-file.dcm"],
        ["ingest", __file__, "--birth-date", "1.1.2020"],
    ],
)
def test_wrong_usage_is_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().out == ""


def test_a_refused_file_is_status_1_with_its_code(tmp_path, capsys):
    empty = tmp_path / "empty.dcm"
    empty.write_bytes(b"")
    assert cli.main(["render", str(empty), str(tmp_path / "out.png"), "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["error"]["code"] == "empty"
    assert "empty" in captured.err.lower()
    assert not (tmp_path / "out.png").exists()


def test_render_writes_what_the_viewer_shows(png, tmp_path, capsys):
    assert cli.main(["render", str(png), str(tmp_path / "out.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == str(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as shown:
        assert shown.size == (300, 400)


def test_read_prints_the_read_as_scripts_rely_on_it(png, capsys, monkeypatch):
    reader = FixedReader()
    monkeypatch.setattr(commands, "_reader_in_use", lambda: reader)
    arguments = ["read", str(png), "--task", "fracture", "--sex", "F", "--age-months", "97.5", "--json"]
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    read = json.loads(captured.out)
    assert read["answer"] == {"task": "fracture", "fracture": "buckle"}
    assert {"task", "probabilities", "median_months", "interval_months", "abstained", "reason"} <= read.keys()
    assert read["model_version"] == "fixed 1"
    assert read["milliseconds"] == 3.2
    assert (reader.contexts[0].sex, reader.contexts[0].age_months) == ("F", 97.5)
    assert "not for diagnostic use" in captured.err


def test_evaluate_prints_figures_with_intervals(capsys, monkeypatch):
    monkeypatch.setattr(commands, "_reader_in_use", FixedReader)
    assert cli.main(["evaluate", "--task", "fracture", "--count", "12", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["fracture"]["n"] == 12
    assert {"value", "low", "high"} <= result["fracture"]["macro_f1"].keys()
    assert result["model_version"] == "fixed 1"
    assert "bone_age" not in result
    assert "say nothing about real children" in captured.err


def test_read_takes_sex_and_age_from_the_file_where_they_are_not_given(tmp_path, monkeypatch):
    cli.main(["phantom", str(tmp_path), "--task", "wrist", "--count", "1"])
    (film,) = tmp_path.glob("*.dcm")
    reader = FixedReader()
    monkeypatch.setattr(commands, "_reader_in_use", lambda: reader)
    assert cli.main(["read", str(film), "--task", "fracture"]) == 0
    assert reader.contexts[0].sex in ("M", "F")
    assert 12 < reader.contexts[0].age_months < 228


def test_a_model_that_is_not_there_ends_in_an_explanation(png, capsys, monkeypatch):
    def missing():
        raise ModelUnavailable("The licence has not been accepted. Go to ...")

    monkeypatch.setattr(commands, "_reader_in_use", missing)
    assert cli.main(["read", str(png), "--task", "rop"]) == 1
    assert "The licence has not been accepted" in capsys.readouterr().err


def test_commands_that_need_the_database_say_how_to_make_it(tmp_path, capsys):
    assert cli.main(["export", str(tmp_path / "out")]) == 1
    assert "pediscreen db upgrade" in capsys.readouterr().err


def test_db_upgrade_can_be_repeated_and_migrations_match_the_models(capsys):
    assert cli.main(["db", "upgrade"]) == 0
    assert cli.main(["db", "upgrade"]) == 0
    assert cli.main(["db", "check"]) == 0


def test_ingest_reports_each_file_and_fails_when_one_is_refused(png, tmp_path, capsys):
    cli.main(["db", "upgrade"])
    empty = tmp_path / "empty.dcm"
    empty.write_bytes(b"")
    capsys.readouterr()
    assert cli.main(["ingest", str(png), str(empty), "--patient-id", "P1", "--task", "fracture", "--json"]) == 1
    accepted, refused = json.loads(capsys.readouterr().out)
    assert accepted["outcome"] == "accepted" and accepted["study_id"]
    assert refused["outcome"] == "quarantined" and refused["reason_code"] == "empty"
    assert cli.main(["ingest", str(png), "--patient-id", "P1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["outcome"] == "duplicate"


def test_doctor_as_json_fails_where_something_is_missing(capsys):
    assert cli.main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["can_run"] is False


def test_models_are_listed_promoted_and_rolled_back(tmp_path, capsys):
    cli.main(["db", "upgrade"])
    data_dir = tmp_path / "data"
    with session_scope(settings().database_url) as session:
        new = register(session, data_dir, "new")
    capsys.readouterr()
    assert cli.main(["models", "promote", new.name]) == 1
    assert "signing its change record" in capsys.readouterr().err
    with session_scope(settings().database_url) as session:
        promote(session, data_dir, new)
    assert cli.main(["models", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["in_use"]["name"] == new.name and listed["in_use"]["by"] == "demo-admin"
    assert [(row["name"], row["state"]) for row in listed["models"]] == [(new.name, "in_use")]
    assert cli.main(["models", "rollback", "--comment", "too slow", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["in_use"]["name"].startswith("phantom 0.4 (")
    assert cli.main(["models", "rollback"]) == 1
    assert "nothing to return to" in capsys.readouterr().err
    assert cli.main(["models", "promote", "1"]) == 0
    assert capsys.readouterr().out == f"in use: {new.name}\n"
    assert cli.main(["models", "promote", "9", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "NotFound"
    assert cli.main(["models", "list"]) == 0
    said = capsys.readouterr().out
    assert f"in use: {new.name}, put in use by command-line" in said and "would bring back phantom 0.4" in said


def test_what_reads_on_the_command_line_is_the_model_in_use(tmp_path, monkeypatch):
    cli.main(["db", "upgrade"])
    with session_scope(settings().database_url) as session:
        new = register(session, tmp_path / "data", "new")
        promote(session, tmp_path / "data", new)
    monkeypatch.setattr("engine.jobs.model_in_use.load_reader", lambda deployed: deployed)
    assert commands._reader_in_use() == new
