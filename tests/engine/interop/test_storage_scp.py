"""engine.interop.storage_scp and its loop, with dcmtk and pynetdicom as the systems that send."""

import contextlib
import errno
import gzip
import io
import os
import random
import socket
import struct
import subprocess
import threading
import time

import numpy as np
import pytest
from pydicom import dcmread
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from db.models import AuditEvent, Image
from db.session import session_scope
from engine.errors import PediScreenError
from engine.imaging import film_store
from engine.interop import storage_scp as protocol
from engine.interop.storage_scp import senders_from
from engine.jobs import film_compression, storage_scp
from engine.services import images, incoming, ingest, receiving
from engine.services.accounts import demo_admin
from engine.settings import settings
from tests.engine.interop import certificates
from tests.engine.interop.conftest import dcmtk
from tests.engine.interop.raw_sender import association, store
from tests.engine.interop.waiting import wait_for
from tests.pediscreen_up import free_port

ADMIN = demo_admin()
CT = "1.2.840.10008.5.1.4.1.1.2"
A_NAME = "Phantom^Hand born 20160101"


def test_films_arrive_whole_and_say_where_from(receiver, films, session):
    here = receiver()
    sent = here.send(*films)
    assert sent.returncode == 0, sent.stderr
    assert here.images() == len(films) and not here.quarantined()
    for path in films:
        data = dcmread(path)
        image = session.scalar(select(Image).where(Image.sop_instance_uid == data.SOPInstanceUID))
        kept = dcmread(images.original_path(image.file_sha256))
        assert kept.PixelData == data.PixelData and kept.PatientID == data.PatientID
    event = session.scalars(select(AuditEvent).where(AuditEvent.action == "ingest.accepted")).first()
    assert (event.actor, event.origin) == ("CR1", "127.0.0.1")
    wait_for(lambda: here.senders() == [("CR1", "127.0.0.1", len(films))])
    assert not list((settings().data_dir / "incoming").iterdir())


def test_sent_again_it_stays_one_image_and_is_a_success(receiver, films, session):
    here = receiver()
    here.send(films[0])
    assert here.send(films[0]).returncode == 0
    assert here.send(films[0], calling="DX2").returncode == 0
    assert here.images() == 1 and not here.quarantined()


def test_the_same_film_in_another_transfer_syntax_is_the_same_film(receiver, films, session, tmp_path):
    """dcmtk sends it once as it is and once, by its choice, in implicit VR; and once more run-length coded."""
    coded = tmp_path / "rle.dcm"
    subprocess.run([dcmtk("dcmcrle"), films[0], coded], check=True)
    here = receiver()
    for path, more in ((films[0], ()), (films[0], ("-xi",)), (coded, ("-xr",))):
        sent = here.send(path, more=more)
        assert sent.returncode == 0, sent.stderr
    assert here.images() == 1 and not here.quarantined()


def test_the_same_uid_over_other_pixels_is_quarantined_with_an_alert(receiver, films, tmp_path):
    here = receiver()
    here.send(films[0])
    other = dcmread(films[0])
    other.PixelData = np.flip(other.pixel_array).tobytes()
    other.save_as(tmp_path / "other.dcm")
    assert here.send(tmp_path / "other.dcm").returncode == 0, "it is kept, so it must not come again"
    (row,) = here.quarantined()
    assert row.code == "sop_instance_uid_reused" and row.is_alert and row.received_from == "CR1"
    assert here.images() == 1


def test_the_same_uid_for_another_child_is_quarantined_with_an_alert(receiver, films, tmp_path):
    here = receiver()
    here.send(films[0])
    other = dcmread(films[0])
    other.PatientID = "SOMEBODY-ELSE"
    other.save_as(tmp_path / "other.dcm")
    here.send(tmp_path / "other.dcm")
    assert [row.code for row in here.quarantined()] == ["sop_instance_uid_reused"]


def test_who_may_not_send_is_told_so_and_seen(receiver, films):
    here = receiver(senders="CR1, FAR@10.9.8.0/24")
    for calling, called, code in (
        ("STRANGER", "PEDISCREEN", "calling_ae_title"),
        ("CR1", "ANY-SCP", "called_ae_title"),
        ("FAR", "PEDISCREEN", "address"),
    ):
        sent = here.send(films[0], calling=calling, called=called)
        assert sent.returncode != 0 and "Association Rejected" in sent.stdout + sent.stderr
        row = here.refused_as(code)
        assert (row.sender, row.address, row.times) == (calling, "127.0.0.1", 1)
    assert here.send(films[0], calling="cr1").returncode != 0, "case counts"
    assert here.images() == 0
    assert here.send(films[0]).returncode == 0


def test_an_echo_is_answered(receiver):
    here = receiver()
    echo = [dcmtk("echoscu"), "-aet", "CR1", "-aec", "PEDISCREEN", "127.0.0.1", str(here.port)]
    assert subprocess.run(echo).returncode == 0


def test_an_unknown_sop_class_is_refused_in_negotiation(receiver):
    here = receiver()
    with association(here.port, sop_class=CT) as opened:
        assert not opened.accepted_contexts
    assert "CT Image Storage" in here.refused_as("sop_class").reason


def test_an_unknown_transfer_syntax_is_refused_in_negotiation(receiver):
    here = receiver()
    with association(here.port, syntaxes=("1.2.840.10008.1.2.4.100",)) as opened:  # MPEG2
        assert not opened.accepted_contexts
    row = here.refused_as("transfer_syntax")
    assert "Digital X-Ray Image Storage - For Presentation in MPEG2" in row.reason


def test_a_sender_that_asks_for_everything_is_told_apart_from_one_that_gets_nothing(receiver, films):
    here = receiver()
    here.send(films[0])  # storescu asks for all that it knows
    assert "CT Image Storage" in here.refused_as("sop_class_in_part").reason
    assert "sop_class" not in here.refusals()
    with session_scope(here.database_url) as session:
        assert receiving.refusals(session, ADMIN) == [], "nobody was turned away"


def test_another_sop_class_than_was_agreed_on(receiver, films):
    here = receiver()
    with association(here.port) as opened:
        assert store(opened, "1.2.3", data_set_of(films[0]), sop_class=CT) == 0x0122
    assert here.refused_as("other_sop_class")


def test_more_associations_than_allowed_are_refused_for_now(receiver, films):
    here = receiver(max_associations="2")
    with association(here.port) as first, association(here.port) as second:
        assert first.is_established and second.is_established
        with association(here.port) as third:
            assert third.is_rejected
        assert here.refused_as("too_many_associations").times == 1
    wait_for(lambda: here.send(films[0]).returncode == 0)


def test_connections_that_say_nothing_keep_nobody_out(receiver, films):
    here = receiver(max_associations="2")
    silent = [socket.create_connection(("127.0.0.1", here.port)) for _ in range(20)]
    assert here.send(films[0]).returncode == 0
    assert here.images() == 1
    for connection in silent:
        connection.close()


def test_silent_and_idle_connections_are_ended(receiver, monkeypatch):
    monkeypatch.setattr(protocol, "INTRODUCTION_S", 0.5)
    monkeypatch.setattr(protocol, "IDLE_S", 1.0)
    here = receiver()
    with socket.create_connection(("127.0.0.1", here.port)) as silent, association(here.port) as idle:
        silent.settimeout(10)
        assert silent.recv(1) == b""
        with socket.create_connection(("127.0.0.1", here.port)) as slow:
            slow.sendall(b"\x01\x00\x00\x00\x10\x00half")  # of an A-ASSOCIATE-RQ
            slow.settimeout(10)
            assert slow.recv(100)[:1] in (b"", b"\x07")  # closed, or an abort first
        wait_for(lambda: not idle.is_established)


def test_more_connections_than_the_limit_are_closed_and_counted(receiver, films, monkeypatch):
    monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 5)
    monkeypatch.setattr(protocol, "INTRODUCTION_S", 2.0)
    here = receiver()
    many = [socket.create_connection(("127.0.0.1", here.port)) for _ in range(12)]
    assert here.refused_as("too_many_connections").address == "127.0.0.1"
    for connection in many:
        connection.close()
    wait_for(lambda: here.send(films[0]).returncode == 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nonsense_on_the_wire_ends_its_own_connection_and_no_other(receiver, films, monkeypatch):
    monkeypatch.setattr(protocol, "INTRODUCTION_S", 2.0)
    noise = random.Random(7).randbytes(4000)
    p_data = (
        b"\x04\x00" + struct.pack(">I", 4 + 2 + len(noise)) + struct.pack(">I", 2 + len(noise)) + b"\x01\x03" + noise
    )
    here = receiver()
    for said in (
        noise,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x01\x00\xff\xff\xff\xff" + noise,
        b"\x05\x00\x00\x00\x00\x04abcd",
    ):
        with socket.create_connection(("127.0.0.1", here.port), timeout=20) as stranger:
            stranger.sendall(said)
            with contextlib.suppress(ConnectionResetError):
                while stranger.recv(4096):
                    pass
    with association(here.port) as known:  # a command set that is none
        known.dul.socket.send(p_data)
        wait_for(lambda: not known.is_established)
    assert here.send(films[0]).returncode == 0 and here.images() == 1


def test_an_object_beyond_the_limit_ends_the_connection(receiver, films, monkeypatch):
    monkeypatch.setattr(protocol, "MAX_OBJECT_BYTES", 100_000)
    here = receiver()
    assert here.send(films[0]).returncode != 0
    assert here.refused_as("too_large").sender == "CR1"
    assert here.images() == 0


def data_set_of(path, **changes):
    """The encoded data set of a film, changed; None removes an element."""
    data = dcmread(path)
    for keyword, value in changes.items():
        if value is None:
            del data[keyword]
        else:
            setattr(data, keyword, value)
    buffer = io.BytesIO()
    data.save_as(buffer)
    return buffer.getvalue()[buffer.getvalue().index(b"\x08\x00\x05\x00CS") :]


BAD_OBJECTS = (  # the UID it is sent under, what is changed in it, its length, why it is refused
    ("1.2.3", {"SOPInstanceUID": "../../etc/passwd"}, None, "bad_uid"),
    ("../../../../tmp/x", {"SOPInstanceUID": "../../../../tmp/x"}, None, "bad_uid"),
    ("1.2.3", {"StudyInstanceUID": None}, None, "bad_uid"),
    ("1.2.3", {"SOPInstanceUID": None}, None, "bad_uid"),
    ("1.2.3", {"SeriesInstanceUID": ""}, None, "bad_uid"),
    ("1.2.3", {"SOPInstanceUID": "1.2.4"}, None, "sent_as_another"),
    ("1.2.3", {"SOPInstanceUID": "1.2.3", "SOPClassUID": CT}, None, "not_a_film"),
    ("1.2.3", {"SOPInstanceUID": "1.2.3", "PatientID": None}, None, "no_patient_id"),
    ("1.2.3", {"SOPInstanceUID": "1.2.3"}, 60_000, "truncated"),
    ("1.2.3", {"SOPInstanceUID": "1.2.3"}, 100, "no_pixels"),
)


@pytest.mark.filterwarnings("ignore:.*value:UserWarning", "ignore:.*length:UserWarning")
def test_bad_objects_are_quarantined_with_their_reasons(receiver, films, data_dir):
    here = receiver()
    for sent_as, changes, cut_to, code in BAD_OBJECTS:
        with association(here.port) as opened:
            assert store(opened, sent_as, data_set_of(films[0], **changes)[:cut_to]) == 0x0000
        row = here.quarantined()[-1]
        assert (row.code, row.received_from) == (code, "CR1"), changes
    rows = here.quarantined()
    assert len(rows) == len(BAD_OBJECTS) and here.images() == 0
    kept = [path.name for path in data_dir.rglob("*") if path.is_file() and path.parent.name == "quarantine"]
    assert sorted(kept) == sorted({row.file_sha256 for row in rows}), "under their hash, whatever they call themselves"
    assert here.send(films[1]).returncode == 0


@pytest.mark.filterwarnings("ignore:.*length:UserWarning")
def test_a_name_of_60_kb_stays_a_name(receiver, films):
    here = receiver()
    with association(here.port) as opened:
        content = data_set_of(films[0], PatientName="<script>^" + "X" * 60_000, SOPInstanceUID="1.2.3")
        assert store(opened, "1.2.3", content) == 0x0000
    assert here.images() + len(here.quarantined()) == 1
    assert here.send(films[1]).returncode == 0


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_whatever_others_wrote_is_kept_and_the_receiver_lives_on(receiver, testdata, films, every):
    """Hostile, broken and fuzzed files, each sent as a radiograph: an image or a row in quarantine for every one."""
    folders = [testdata / name for name in ("hostile", "broken", "fuzz", "structure")]
    foreign = [path for folder in folders for path in sorted(folder.iterdir())[::every]]
    here = receiver()
    for number, path in enumerate(foreign):
        content = path.read_bytes()
        if content[128:132] == b"DICM":
            content = content[132:]
        with association(here.port) as opened:
            assert store(opened, f"1.2.3.{number}", content) == 0x0000, path
    assert here.images() + len(here.quarantined()) == len({path.read_bytes() for path in foreign})
    assert len(here.quarantined()) > 0.9 * len(foreign)
    assert here.send(*films).returncode == 0


def test_a_full_disk_is_answered_with_out_of_resources(receiver, films, monkeypatch):
    def full(self, block):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    here = receiver()
    with monkeypatch.context() as patch:
        patch.setattr(incoming.IncomingFile, "write", full)
        sent = here.send(films[0])
        assert "OutOfResources" in sent.stdout + sent.stderr or "0xa700" in (sent.stdout + sent.stderr).lower()
        wait_for(lambda: here.loop().state == "failing")
        assert "the disk" in here.loop().last_error
    assert not list((settings().data_dir / "incoming").iterdir())
    assert here.send(films[0]).returncode == 0 and here.images() == 1
    wait_for(lambda: here.loop().state == "running")


def test_a_database_that_does_not_answer_is_out_of_resources_too(receiver, films, monkeypatch):
    def locked(*arguments, **keywords):
        raise OperationalError("INSERT", {}, Exception("database is locked"))

    here = receiver()
    with monkeypatch.context() as patch:
        patch.setattr(ingest, "_store", locked)
        with association(here.port) as opened:
            uid = dcmread(films[0]).SOPInstanceUID
            assert store(opened, uid, data_set_of(films[0])) == 0xA700
        assert here.images() == 0 and not here.quarantined()
        wait_for(lambda: here.loop().state == "failing")
        assert "the database" in here.loop().last_error
    assert here.send(films[0]).returncode == 0 and here.images() == 1


def test_an_error_of_our_own_is_no_success_and_names_no_child(receiver, films, monkeypatch, caplog):
    def broken(*arguments, **keywords):
        raise ZeroDivisionError(A_NAME)

    here = receiver()
    monkeypatch.setattr(ingest, "_admit", broken)
    with association(here.port) as opened:
        assert store(opened, "1.2.3", data_set_of(films[0], SOPInstanceUID="1.2.3")) == 0x0110
    wait_for(lambda: here.loop().state == "failing")
    assert A_NAME not in caplog.text and A_NAME not in here.loop().last_error


def test_success_is_answered_only_after_the_commit(receiver, films, monkeypatch, database_url):
    """The sender's answer and the row are compared at the moment of the answer."""
    here = receiver()
    take_in, seen = storage_scp.Reception.store, []

    def watched(self, sent):
        status = take_in(self, sent)
        seen.append((status, here.images()))
        return status

    monkeypatch.setattr(storage_scp.Reception, "store", watched)
    here.send(*films)
    assert seen == [(0, number) for number in range(1, len(films) + 1)]


def test_tls_asks_for_the_senders_certificate(receiver, films, tmp_path):
    ours, theirs = certificates.make(tmp_path, "server"), certificates.make(tmp_path, "client")
    stranger = certificates.make(tmp_path / "other", "stranger")
    here = receiver(certificate=str(ours.certificate), key=str(ours.key), client_ca=str(theirs.ca))
    trust = ("+cf", str(ours.ca))
    sent = here.send(films[0], more=("+tls", str(theirs.key), str(theirs.certificate), *trust))
    assert sent.returncode == 0, sent.stderr
    with socket.create_connection(("127.0.0.1", here.port)):  # shakes no hands, and holds nobody up
        again = here.send(films[1], more=("+tls", str(theirs.key), str(theirs.certificate), *trust))
        assert again.returncode == 0, again.stderr
    for more in ((), ("+tla", *trust), ("+tls", str(stranger.key), str(stranger.certificate), *trust)):
        assert here.send(films[2], more=more).returncode != 0
    assert here.images() == 2
    assert here.refused_as("tls", times=2)


def test_films_received_in_bulk_are_compressed_afterwards(receiver, running, films, session, monkeypatch):
    monkeypatch.setattr(film_compression, "LOOK_EVERY_S", 0.05)
    here = receiver()
    here.send(*films)
    folder = images.films_folder()
    loose = {sha: film_store.load(folder, sha) for sha in film_store.loose(folder)}
    assert len(loose) == len(films)
    sizes = {sha: film_store.pixels_gzip_path(folder, sha).stat().st_size for sha in loose}
    running(film_compression.LOOP)
    wait_for(lambda: not film_store.loose(folder))
    for sha, film in loose.items():
        packed = film_store.pixels_gzip_path(folder, sha)
        assert packed.stat().st_size < 0.8 * sizes[sha]
        assert gzip.decompress(packed.read_bytes()) == film.pixels.tobytes()
        np.testing.assert_array_equal(film_store.load(folder, sha).pixels, film.pixels)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names nobody"),
        (" , ", "names nobody"),
        ("CR1@modality.local", "CR1@modality.local"),
        ("THIS-TITLE-IS-FAR-TOO-LONG", "1 to 16"),
        ("A\\B", "backslash"),
    ],
)
def test_senders_that_cannot_be_understood(text, said):
    with pytest.raises(PediScreenError, match=said.replace("\\", ".")):
        senders_from(text)


def test_a_port_that_is_taken_is_said(receiver, database_url, session):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        here = settings()
        scp = protocol.StorageSCP(
            protocol.StorageSCPSettings(taken.getsockname()[1], "127.0.0.1", "X", "CR1", None, None, None, 10), None
        )
        with pytest.raises(PediScreenError, match="PEDISCREEN_DICOM_PORT"):
            scp.start()
    assert here is settings()


def test_what_is_in_hand_at_the_end_is_finished_and_answered(films):
    class SlowDesk:
        begun = threading.Event()

        def store(self, sent):
            self.begun.set()
            time.sleep(1.0)
            return 0x0000

        def refused(self, *arguments):
            raise AssertionError(arguments)

    port, desk, answers = free_port(), SlowDesk(), []
    here = protocol.StorageSCPSettings(port, "127.0.0.1", "PEDISCREEN", "CR1", None, None, None, 10)
    scp = protocol.StorageSCP(here, desk)
    scp.start()

    def send():
        with association(port) as opened:
            answers.append(store(opened, "1.2.3", data_set_of(films[0])))

    sender = threading.Thread(target=send)
    sender.start()
    assert desk.begun.wait(10)
    scp.stop()
    sender.join(20)
    assert answers == [0x0000]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_half_received_files_of_a_killed_process_go_and_fresh_ones_stay(data_dir):
    old, fresh = data_dir / "incoming" / "old", data_dir / "incoming" / "fresh"
    old.parent.mkdir()
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    assert incoming.sweep(3600) == 1
    assert fresh.exists() and not old.exists()
