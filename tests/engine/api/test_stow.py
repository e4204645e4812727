"""engine.api.stow: STOW-RS from a test client, and from Orthanc's DICOMweb plugin."""

import errno
import io
import threading

import pytest
import uvicorn
from fastapi.testclient import TestClient
from pydicom import Dataset, dcmread
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from db.models import AuditEvent, Image, Quarantine, Role
from engine.api import stow
from engine.api.app import api
from engine.phantoms.write import make_phantoms
from engine.services import api_tokens, incoming, receiving
from engine.services.accounts import demo_admin, service_actor
from engine.settings import settings
from tests.engine.api.conftest import ActingAs
from tests.engine.interop.orthanc import orthanc
from tests.engine.interop.waiting import wait_for
from tests.pediscreen_up import free_port

SENDER = service_actor("pacs")
BOUNDARY = "film--boundary"
CONTENT_TYPE = f'multipart/related; type="application/dicom"; boundary="{BOUNDARY}"'


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    return [file.path for file in make_phantoms(tmp_path_factory.mktemp("films"), "hand", 3, 11)]


@pytest.fixture
def client(database_url):
    with TestClient(ActingAs(SENDER)) as client:
        yield client


def body_of(*objects: bytes, closed: bool = True) -> bytes:
    parts = [b"--%b\r\nContent-Type: application/dicom\r\n\r\n%b\r\n" % (BOUNDARY.encode(), one) for one in objects]
    return b"".join(parts) + (b"--%b--\r\n" % BOUNDARY.encode() if closed else b"")


def post(client, *objects: bytes, **headers: str):
    return client.post(
        "/dicom-web/studies", content=body_of(*objects), headers={"Content-Type": CONTENT_TYPE, **headers}
    )


def changed(path, **changes) -> bytes:
    data = dcmread(path)
    for keyword, value in changes.items():
        setattr(data, keyword, value)
    if "SOPInstanceUID" in changes:
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    buffer = io.BytesIO()
    data.save_as(buffer)
    return buffer.getvalue()


def images(session):
    session.rollback()
    return session.scalar(select(func.count(Image.id)))


def test_every_film_is_referenced_and_on_the_worklist(client, films, session):
    answer = post(client, *(path.read_bytes() for path in films))
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/dicom+json"
    stored = Dataset.from_json(answer.json()).ReferencedSOPSequence
    assert [item.ReferencedSOPInstanceUID for item in stored] == [dcmread(path).SOPInstanceUID for path in films]
    assert {item.ReferencedSOPClassUID for item in stored} == {"1.2.840.10008.5.1.4.1.1.1.1"}
    assert images(session) == 3
    event = session.scalars(select(AuditEvent).where(AuditEvent.action == "ingest.accepted")).first()
    assert (event.actor, event.origin) == ("pacs", "testclient")
    (row,) = receiving.senders(session, demo_admin())
    assert (row.channel, row.name, row.accepted) == ("stow", "pacs", 3)
    assert not list((settings().data_dir / "incoming").iterdir())


def test_sent_again_it_is_a_success_and_stays_one_image(client, films, session):
    for _ in range(2):
        assert post(client, films[0].read_bytes()).status_code == 200
    assert images(session) == 1


def test_what_is_refused_is_in_the_failed_sequence_and_in_quarantine(client, films, session):
    ct = changed(films[1], SOPInstanceUID="1.2.3", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    answer = post(client, films[0].read_bytes(), ct, b"no DICOM at all", films[2].read_bytes()[:3000])
    assert answer.status_code == 202
    data = Dataset.from_json(answer.json())
    assert len(data.ReferencedSOPSequence) == 1
    failed = {item.ReferencedSOPInstanceUID: item.FailureReason for item in data.FailedSOPSequence}
    assert failed["1.2.3"] in (0x0122, 0xA900) and failed[dcmread(films[2]).SOPInstanceUID] == 0xC000
    assert [item.FailureReason for item in data[0x0008119A].value] == [0xC000]
    assert images(session) == 1
    assert session.scalar(select(func.count(Quarantine.id))) == 3


def test_nothing_stored_is_a_conflict_and_a_reused_uid_says_so(client, films, session):
    post(client, films[0].read_bytes())
    answer = post(client, changed(films[0], PatientID="SOMEBODY-ELSE"))
    assert answer.status_code == 409
    (item,) = Dataset.from_json(answer.json()).FailedSOPSequence
    assert item.FailureReason == 0x0111
    (row,) = session.scalars(select(Quarantine))
    assert row.is_alert and row.received_from == "pacs"


@pytest.mark.parametrize(
    ("content_type", "accept", "status"),
    [
        ("application/dicom", "*/*", 415),
        ('multipart/related; type="application/dicom+json"; boundary=x', "*/*", 415),
        ('multipart/related; type="application/dicom"', "*/*", 415),
        (CONTENT_TYPE, "application/dicom+xml", 406),
    ],
)
def test_other_media_types(client, films, content_type, accept, status):
    headers = {"Content-Type": content_type, "Accept": accept}
    answer = client.post("/dicom-web/studies", content=body_of(films[0].read_bytes()), headers=headers)
    assert answer.status_code == status and answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"nonsense", body_of()])
def test_a_body_that_is_none(client, body, session):
    answer = client.post("/dicom-web/studies", content=body, headers={"Content-Type": CONTENT_TYPE})
    assert answer.status_code == 400
    assert images(session) == 0


def test_a_body_that_breaks_off_keeps_what_was_whole_and_asks_for_all_of_it(client, films, session):
    first, second = films[0].read_bytes(), films[1].read_bytes()
    body = body_of(first, second, closed=False)[:-1000]
    answer = client.post("/dicom-web/studies", content=body, headers={"Content-Type": CONTENT_TYPE})
    assert answer.status_code == 400 and "send all of it again" in answer.json()["error"]["message"]
    assert images(session) == 1
    assert not list((settings().data_dir / "incoming").iterdir())
    assert post(client, first, second).status_code == 200 and images(session) == 2


def test_a_full_disk_asks_to_send_again(client, films, session, monkeypatch):
    def full(self, block):
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(incoming.IncomingFile, "write", full)
        answer = post(client, films[0].read_bytes())
    assert answer.status_code == 503
    assert answer.json()["0008119A"]["Value"][0]["00081197"]["Value"] == [0xA700]
    assert not list((settings().data_dir / "incoming").iterdir())
    assert post(client, films[0].read_bytes()).status_code == 200


def test_a_database_that_is_away_asks_to_send_again(client, films, session, monkeypatch):
    def locked(*arguments, **keywords):
        raise OperationalError("INSERT", {}, Exception("database is locked"))

    with monkeypatch.context() as patch:
        patch.setattr(stow, "ingest_incoming", locked)
        assert post(client, films[0].read_bytes()).status_code == 503
    assert post(client, films[0].read_bytes()).status_code == 200 and images(session) == 1


def test_nobody_sends_without_being_known(database_url, films):
    assert post(TestClient(ActingAs(None)), films[0].read_bytes()).status_code == 401


def test_orthanc_sends_by_stow_with_a_token(database_url, films, session):
    """Orthanc's DICOMweb plugin as the client, set up as docs/receive.md says, against a real server."""
    token = api_tokens.make(session, demo_admin(), "pacs", Role.SERVICE, [api_tokens.Scope.UPLOAD])
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(MountedAt(api), port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_for(lambda: server.started)
        headers = {"Authorization": f"Bearer {token.secret}"}
        known = {"Url": f"http://127.0.0.1:{port}/api/dicom-web/", "HttpHeaders": headers}
        web = {"Enable": True, "Root": "/dicom-web/", "Servers": {"pediscreen": known}}
        with orthanc(DicomWeb=web) as source:
            sent = [source.upload(path) for path in films]
            done = source.post("/dicom-web/servers/pediscreen/stow", json={"Resources": sent, "Synchronous": True})
            assert int(done["InstancesCount"]) == len(films)
    finally:
        server.should_exit = True
        thread.join(10)
    assert images(session) == len(films)
    assert session.scalar(select(func.count(Quarantine.id))) == 0
    event = session.scalars(select(AuditEvent).where(AuditEvent.action == "ingest.accepted")).first()
    assert event.actor.startswith("token:") and event.origin == "127.0.0.1"


class MountedAt:
    """At /api, as ui/serve.py mounts it."""

    def __init__(self, app) -> None:
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope["path"].removeprefix("/api"), "root_path": ""}
        await self.app(scope, receive, send)
