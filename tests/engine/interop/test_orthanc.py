"""engine.jobs.orthanc against a real Orthanc: everything comes once, whatever stops in between."""

import shutil
import subprocess
import threading

import pytest
from pydicom import dcmread
from sqlalchemy import func, select

from db.models import AuditEvent, Image, Quarantine, Study
from db.session import session_scope
from engine.errors import PediScreenError
from engine.interop.documents import DICOM_KINDS, documents_of
from engine.interop.orthanc import OrthancClient, OrthancUnavailable
from engine.jobs import loop
from engine.jobs import orthanc as job
from engine.services import orthanc_inbox, receiving
from engine.services.accounts import demo_admin
from engine.settings import OrthancSettings, settings
from tests.engine.interop import signed
from tests.engine.interop.conftest import dcmtk
from tests.engine.interop.orthanc import AE_TITLE, Modality, orthanc
from tests.engine.interop.waiting import wait_for

ADMIN = demo_admin()


@pytest.fixture(scope="module")
def server():
    with orthanc([Modality("XRAY")], HttpCompressionEnabled=True) as server:
        yield server


@pytest.fixture
def source(server, database_url, monkeypatch):
    """The Orthanc of this module, emptied, and configured here."""
    for study in server.get("/studies"):
        with server.client() as client:
            client.delete(f"/studies/{study}").raise_for_status()
            client.delete("/changes").raise_for_status()
    configure(server, monkeypatch)
    return server


def configure(server, monkeypatch):
    for name, value in (("URL", server.url), ("USER", server.user), ("PASSWORD", server.password)):
        monkeypatch.setenv(f"PEDISCREEN_ORTHANC_{name}", value)
    monkeypatch.setattr(job, "LOOK_EVERY_S", 0.1)
    settings.cache_clear()


def send(server, *films):
    command = [dcmtk("storescu"), "-aet", "XRAY", "-aec", AE_TITLE, "127.0.0.1", str(server.dicom_port)]
    subprocess.run([*command, *map(str, films)], check=True)


def count(of=Image):
    with session_scope(settings().database_url) as session:
        return session.scalar(select(func.count(of.id)))


def overview():
    with session_scope(settings().database_url) as session:
        return orthanc_inbox.overview(session, ADMIN)[0]


def state():
    with session_scope(settings().database_url) as session:
        return next(row for row in receiving.loops(session, ADMIN) if row.name == "orthanc")


def fetched():
    with session_scope(settings().database_url) as session:
        return sum(row.accepted + row.duplicates + row.quarantined for row in receiving.senders(session, ADMIN))


def test_stable_studies_come_in_once_and_say_who_sent_them(source, running, films, session):
    running(job.LOOP)
    send(source, *films)
    wait_for(lambda: count() == len(films))
    wait_for(lambda: overview().done == len(films) and fetched() == len(films))
    event = session.scalars(select(AuditEvent).where(AuditEvent.action == "ingest.accepted")).first()
    assert (event.actor, event.origin) == ("XRAY", "127.0.0.1 by Orthanc")
    for path in films:
        assert session.scalar(select(Image).where(Image.sop_instance_uid == dcmread(path).SOPInstanceUID))
    send(source, films[0])  # Orthanc keeps the first and announces nothing
    client = OrthancClient(settings().orthanc)
    follower = job.Follower(settings(), client)
    for _ in range(3):  # as after a restart
        follower.look(threading.Event())
    client.close()
    assert fetched() == len(films) and not follower.door._tally.senders
    assert all(
        not study.warnings or "more than once" not in str(study.warnings) for study in session.scalars(select(Study))
    )


def test_our_own_reports_that_are_kept_there_stay_there(source, running, films, tmp_path):
    send(source, films[0])
    running(job.LOOP)
    wait_for(lambda: count() == 1)
    for number, document in enumerate(documents_of(signed.bone_age(), DICOM_KINDS)):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(document.content)
        source.upload(path)
    send(source, films[1])
    wait_for(lambda: count() == 2)
    wait_for(lambda: overview().other == 2 and overview().waiting == overview().ready == 0)
    assert count() == 2 and count(Quarantine) == 0
    with session_scope(settings().database_url) as session:
        assert receiving.refusals(session, ADMIN) == []


def test_what_came_while_either_side_was_away_comes_in(source, running, films):
    send(source, films[0])
    running(job.LOOP)
    wait_for(lambda: count() == 1)
    source.kill()
    wait_for(lambda: state().state == "failing")
    assert "does not answer" in state().last_error
    source.start()
    send(source, films[1])
    wait_for(lambda: count() == 2)
    wait_for(lambda: state().state == "running")


@pytest.mark.slow
def test_another_database_behind_the_same_address_is_noticed(source, running, films):
    """Its numbers begin anew, below and then beyond where we were."""
    running(job.LOOP)
    send(source, *films[:2])
    wait_for(lambda: count() == 2)
    source.stop()
    shutil.rmtree(source.folder / "storage")
    source.start()
    send(source, *films[1:])
    wait_for(lambda: count() == len(films))
    wait_for(lambda: state().state == "running")


@pytest.mark.slow
def test_an_emptied_list_of_changes_loses_and_repeats_nothing(source, running, films):
    running(job.LOOP)
    send(source, films[0])
    wait_for(lambda: overview().done == 1 and fetched() == 1)
    with source.client() as client:
        client.delete("/changes").raise_for_status()
    send(source, films[1])
    wait_for(lambda: count() == 2 and fetched() == 2)


def test_a_crash_between_film_and_acknowledgement_makes_no_second_image(source, films, monkeypatch):
    def crash(*arguments):
        raise KeyboardInterrupt

    send(source, films[0])
    client = OrthancClient(settings().orthanc)
    follower = job.Follower(settings(), client)
    with monkeypatch.context() as patch:
        patch.setattr(orthanc_inbox, "close", crash)
        with pytest.raises(KeyboardInterrupt):
            wait_for(lambda: follower.look(threading.Event()))
    assert count() == 1 and overview().ready == 1
    follower.look(threading.Event())
    client.close()
    assert count() == 1 and overview().done == 1 and count(Quarantine) == 0


def test_a_crash_before_the_cursor_moves_loses_nothing(source, films, monkeypatch):
    def crash(*arguments, **keywords):
        raise KeyboardInterrupt

    send(source, films[0])
    client = OrthancClient(settings().orthanc)
    follower = job.Follower(settings(), client)
    with monkeypatch.context() as patch:
        patch.setattr(orthanc_inbox, "note", crash)
        with pytest.raises(KeyboardInterrupt):
            follower.look(threading.Event())
    wait_for(lambda: follower.look(threading.Event()) or count() == 1)
    client.close()


@pytest.mark.slow
def test_a_study_never_said_to_be_complete_is_fetched_all_the_same(source, running, films, monkeypatch):
    """Orthanc forgets to say it when it is restarted before StableAge."""
    monkeypatch.setattr(job, "COMPLETE_AFTER", job.timedelta(seconds=2))
    send(source, films[0])
    source.kill()
    source.start()
    assert not [
        one for one in source.get("/changes?since=0&limit=100")["Changes"] if one["ChangeType"] == "StableStudy"
    ]
    running(job.LOOP)
    wait_for(lambda: count() == 1)


def test_what_is_no_film_stays_in_orthanc_and_is_counted(source, running, films, tmp_path):
    ct = dcmread(films[0])
    ct.SOPClassUID = ct.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ct.save_as(tmp_path / "ct.dcm")
    running(job.LOOP)
    source.upload(tmp_path / "ct.dcm")
    source.upload(films[1])
    wait_for(lambda: count() == 1 and overview().other == 1)
    with session_scope(settings().database_url) as session:
        (refusal,) = wait_for(lambda: session.rollback() or receiving.refusals(session, ADMIN))
    assert refusal.channel == "orthanc" and refusal.code == "sop_class"
    assert len(source.get("/instances")) == 2


@pytest.mark.slow
def test_an_instance_that_orthanc_cannot_give_out_holds_up_no_other(source, running, films, monkeypatch):
    monkeypatch.setattr(loop, "HEARD_EVERY_S", 0.05)
    send(source, *films[:2])
    first = source.get("/instances")[0]
    attached = source.get(f"/instances/{first}/attachments/dicom/info")
    uuid = attached["Uuid"]
    stored = source.folder / "storage" / uuid[:2] / uuid[2:4] / uuid
    source.stop()  # it keeps the latest files in memory
    stored.rename(stored.with_suffix(".away"))
    source.start()
    monkeypatch.setattr(job, "COMPLETE_AFTER", job.timedelta(seconds=1))
    running(job.LOOP)
    wait_for(lambda: count() == 1)
    wait_for(lambda: state().state == "failing")
    assert "1 instances cannot be fetched" in state().last_error
    assert (overview().ready, overview().failing) == (1, 1)
    stored.with_suffix(".away").rename(stored)


def test_what_was_deleted_before_it_was_fetched_is_gone(source, films):
    send(source, films[0])
    client = OrthancClient(settings().orthanc)
    follower = job.Follower(settings(), client)
    with session_scope(settings().database_url) as session:
        follower._follow(session, orthanc_inbox.cursor(session, job.ACTOR, client.url), threading.Event())
    with source.client() as rest:
        rest.delete(f"/studies/{source.get('/studies')[0]}").raise_for_status()
    with session_scope(settings().database_url) as session:
        source_id = orthanc_inbox.cursor(session, job.ACTOR, client.url).source_id
        (instance,) = orthanc_inbox.to_fetch(session, job.ACTOR, source_id, waited=job.timedelta(0), limit=9)
    follower._fetch(source_id, instance)
    client.close()
    assert overview().gone == 1 and count() == 0


def test_a_wrong_password_is_said(source):
    client = OrthancClient(OrthancSettings(source.url, "pediscreen", "wrong", None))
    with pytest.raises(OrthancUnavailable, match="refuses the user"):
        client.changes(0, 10)
    client.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://orthanc.hospital:8042", "in the clear"),
        ("orthanc:8042", "must be like"),
        ("http://a:b@localhost", "user"),
    ],
)
def test_addresses_that_are_not_used(url, said):
    with pytest.raises(PediScreenError, match=said):
        OrthancClient(OrthancSettings(url, "a", "b", None))


def test_a_password_is_asked_for_and_may_lie_in_a_file(tmp_path, monkeypatch, data_dir):
    monkeypatch.setenv("PEDISCREEN_ORTHANC_URL", "http://localhost:8042")
    monkeypatch.setenv("PEDISCREEN_ORTHANC_USER", "pediscreen")
    settings.cache_clear()
    with pytest.raises(PediScreenError, match="PASSWORD_FILE"):
        OrthancClient(settings().orthanc)
    (tmp_path / "secret").write_text("from a file\n")
    monkeypatch.setenv("PEDISCREEN_ORTHANC_PASSWORD_FILE", str(tmp_path / "secret"))
    settings.cache_clear()
    assert settings().orthanc.password == "from a file" and "from a file" not in repr(settings())
