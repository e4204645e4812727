"""engine.doctor: what it finds is found by trying, and every fault names its remedy."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from db import migrate
from db.models import Worker
from engine import doctor
from engine.doctor import State
from engine.inference import gpu
from engine.interop.destinations import configured
from engine.services import reading
from engine.services.accounts import service_actor
from engine.settings import OrthancSettings, Settings, StorageSCPSettings, settings
from tests.engine.interop.sending.counterparts import pacs, web_server
from tests.fake_door import TOKEN, WordyReader, door
from tests.model_folders import promote, register
from tests.pediscreen_up import free_port


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def here(tmp_path):
    data_dir = tmp_path / "data"
    return Settings(
        data_dir=data_dir,
        database_url=f"sqlite:///{data_dir}/pediscreen.sqlite",
        jobs_url=f"sqlite:///{data_dir}/jobs.sqlite",
        model="phantom",
        lora_adapter_path=None,
        port=8501,
    )


def check(report, name):
    return next(check for check in report.checks if check.name == name)


def test_an_unmigrated_machine_is_told_the_command_and_nothing_is_created(here):
    report = doctor.examine(here)
    assert check(report, "database").state is State.MISSING
    assert check(report, "database").remedy == "pediscreen db upgrade"
    assert not report.can_run
    assert not here.data_dir.exists()


def test_a_migrated_database_without_a_worker(here):
    migrate.upgrade(here.database_url)
    report = doctor.examine(here)
    assert check(report, "database").state is State.OK
    assert check(report, "studies").found.startswith("0 (0 await a read)")
    assert "none has ever started" in check(report, "worker").found


def test_four_bit_is_really_computed(here):
    found = check(doctor.examine(here), "4-bit (NF4)")
    assert found.state is State.OK
    assert "rounding error of a product" in found.found  # not zero: it was quantised


def test_every_transfer_syntax_the_imaging_code_knows_has_a_decoder(here):
    report = doctor.examine(here)
    assert "21 of 21 transfer syntaxes" in check(report, "decoders").found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "google/medgemma-4b-it"}, "google/medgemma-4b-it lacks: token"),
        ({"model": "/nowhere/model"}, "neither a hub name nor a folder with config.json"),
        ({"lora_adapter_path": Path("/nowhere/lora")}, "holds no adapter_config.json"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_missing(here, changes, said):
    report = doctor.examine(replace(here, **changes))
    assert check(report, "in use").state is State.MISSING
    assert said in check(report, "in use").found
    assert not report.can_run


def test_a_password_in_the_database_address_is_not_shown(here):
    report = doctor.examine(replace(here, database_url="sqlite://somebody:verysecret@/nowhere.sqlite"))
    assert "verysecret" not in report.as_text()


def test_the_screen_and_the_json_say_the_same(here):
    report = doctor.examine(here)
    text, data = report.as_text(), json.loads(json.dumps(report.as_json()))
    assert all(len(line) <= 120 for line in text.splitlines() if str(here.data_dir) not in line)  # paths stay whole
    assert len(text.splitlines()) < 60
    for found in data["checks"]:
        assert found["name"] in text
    assert data["real_model"]["model"] == "google/medgemma-4b-it"
    assert "https://huggingface.co/google/medgemma-4b-it" in text


def test_the_model_that_was_put_in_use_is_named_and_its_files_are_checked(data_dir, database_url, session):
    new = register(session, data_dir, "new")
    promote(session, data_dir, new)
    found = check(doctor.examine(settings()), "in use")
    assert found.state is State.OK and found.found.startswith(new.name)
    (new.folder / "model.safetensors").write_bytes(b"other weights")
    found = check(doctor.examine(settings()), "in use")
    assert found.state is State.MISSING and "changed or damaged" in found.found
    assert "pediscreen models rollback" in found.remedy


def test_a_gpu_that_cannot_be_used_is_named_with_what_to_do(here, monkeypatch, tmp_path):
    """Only the phantom model, which the processor reads as well, can do without."""

    def init():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).")

    monkeypatch.setattr(gpu, "DEVICE", tmp_path)
    monkeypatch.setattr("torch.cuda.init", init)
    found = check(doctor.examine(here), "GPU")
    assert (found.state, "too old (found version 11040)" in found.found) == (State.NOTE, True)
    assert "CUDA_VISIBLE_DEVICES=" in found.remedy
    assert check(doctor.examine(replace(here, model="google/medgemma-4b-it")), "GPU").state is State.MISSING


def test_a_worker_that_lost_its_gpu_says_so_as_long_as_no_other_has_started(data_dir, database_url, session):
    reading.heartbeat(session, service_actor("worker"), "w1", None, f"{reading.LOST}The GPU does not work any more.")
    session.get(Worker, "w1").at -= timedelta(minutes=5)
    session.commit()
    found = check(doctor.examine(settings()), "worker")
    assert found.state is State.NOTE
    assert "silent for 5 min" in found.found and found.found.endswith("The GPU does not work any more.")


def test_reads_elsewhere_and_for_others_are_asked_for(data_dir, database_url):
    reader = WordyReader()
    with door(reader) as (port, _):
        url = f"http://127.0.0.1:{port}"
        here = replace(settings(), model=url, reads_port=port, reads_token=TOKEN)
        report = doctor.examine(here)
        assert check(report, "in use").found == f"fake 1 at {url}"
        assert check(report, "reads").found == f"{url} reads for other machines, with fake 1"
    report = doctor.examine(here)
    assert check(report, "in use").state is State.MISSING and f"{url} does not answer" in check(report, "in use").found
    assert check(report, "reads").state is State.NOTE
    assert not report.can_run and TOKEN not in report.as_text()


def test_what_comes_in_from_a_hospital_is_tried(here, tmp_path):
    def scp(host, senders):
        return StorageSCPSettings(11112, host, "PEDISCREEN", senders, None, None, None, 10)

    migrate.upgrade(here.database_url)
    assert not [check for check in doctor.examine(here).checks if check.section == "Receives"]
    known, nobody = scp("127.0.0.1", "CR1"), scp("0.0.0.0", "")
    assert check(doctor.examine(replace(here, storage_scp=known)), "DICOM").state is State.OK
    for_nobody = doctor.examine(replace(here, storage_scp=nobody, watched_folder=tmp_path / "missing"))
    assert "PEDISCREEN_DICOM_SENDERS names nobody" in check(for_nobody, "DICOM").remedy
    assert check(for_nobody, "folder").state is State.MISSING and not for_nobody.can_run
    everywhere = doctor.examine(replace(here, storage_scp=scp("0.0.0.0", "CR1"), watched_folder=tmp_path))
    assert check(everywhere, "DICOM").state is State.NOTE and "forged" in check(everywhere, "DICOM").remedy
    assert check(everywhere, "folder").state is State.OK
    away = replace(here, orthanc=OrthancSettings(f"http://127.0.0.1:{free_port()}", "a", "b", None))
    assert "does not answer" in check(doctor.examine(away), "Orthanc").remedy


def test_where_results_go_is_tried(here, tmp_path):
    migrate.upgrade(here.database_url)
    assert not [check for check in doctor.examine(here).checks if check.section == "Sends"]
    with pacs() as node, web_server() as server:
        said = {
            "PACS": f"dicom://PACS@127.0.0.1:{node.port}",
            "STRANGE": f"dicom://OTHER@127.0.0.1:{node.port}",
            "AWAY": f"dicom://PACS@127.0.0.1:{free_port()}",
            "WEB": f"dicomweb+http://127.0.0.1:{server.port}/dicom-web",
            "EHR": f"fhir+http://127.0.0.1:{free_port()}/fhir",
            "DROP": f"folder://{tmp_path}",
            "GONE": f"folder://{tmp_path}/gone",
        }
        going = configured({f"PEDISCREEN_SEND_TO_{name}": value for name, value in said.items()})
        report = doctor.examine(replace(here, destinations=going))
        assert not server.asked and not node.received, "nothing is sent"
    states = {one.name: one.state for one in report.checks if one.section == "Sends"}
    assert states == {name: State.OK if name in ("PACS", "WEB", "DROP") else State.NOTE for name in said}
    assert "its AE title is not OTHER" in check(report, "STRANGE").remedy
    assert "connection refused" in check(report, "AWAY").remedy and "connection refused" in check(report, "EHR").remedy
    wrong = configured({"PEDISCREEN_SEND_TO_PACS": "dicom://nowhere"})
    report = doctor.examine(replace(here, destinations=wrong, viewer_url="javascript:alert(1)"))
    assert check(report, "PACS").state is check(report, "viewer").state is State.MISSING and not report.can_run
