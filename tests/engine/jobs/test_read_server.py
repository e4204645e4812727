"""Reads by a worker on another machine: a real worker process on the other side, and several that misbehave."""

from __future__ import annotations

import gzip
import json
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2
import numpy as np
import pytest

from db import migrate
from db.models import StudyStatus
from db.session import session_scope
from engine.errors import ModelUnavailable, PediScreenError, ReaderLost, ReaderUnavailable, ReadFailed
from engine.findings.answers import Task
from engine.inference import remote, wire
from engine.inference.checkpoint import load_reader
from engine.inference.read import ReadContext
from engine.inference.remote import RemoteReader
from engine.jobs import model_in_use, read_pending
from engine.jobs.read_pending import PendingReads, read_images
from engine.phantoms.hand import hand
from engine.phantoms.wrist import wrist
from engine.phantoms.write import make_phantoms
from engine.services import worklist
from engine.services.accounts import demo_reader, service_actor
from engine.services.ingest import ingest_file
from engine.services.reading import READY
from engine.settings import PROJECT_DIR, settings
from tests.engine.inference.pictures import picture
from tests.fake_door import TOKEN, WordyReader, door
from tests.pediscreen_up import free_port
from tests.workstation import PHANTOM, read_of


@pytest.fixture(scope="module")
def there(tmp_path_factory) -> Iterator[str]:
    """The address of a worker process with the phantom model and a data folder of its own."""
    folder, port = tmp_path_factory.mktemp("there"), free_port()
    migrate.upgrade(f"sqlite:///{folder}/pediscreen.sqlite")
    worker = worker_process(folder, PEDISCREEN_READS_PORT=str(port))
    url = f"http://127.0.0.1:{port}"
    until_it_answers(url, worker)
    yield url
    worker.terminate()
    assert worker.wait(30) == 0


def worker_process(folder: Path, **environment: str) -> subprocess.Popen:
    environment = os.environ | {"PEDISCREEN_DATA_DIR": str(folder), "PEDISCREEN_READS_TOKEN": TOKEN} | environment
    with (folder / "worker.log").open("ab") as log:
        command = [sys.executable, "-m", "engine.cli", "worker"]
        return subprocess.Popen(command, cwd=PROJECT_DIR, env=environment, stdout=log, stderr=log)


def until_it_answers(url: str, worker: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            RemoteReader(url, TOKEN)
            return
        except ModelUnavailable as not_yet:
            assert worker.poll() is None and time.monotonic() < deadline, not_yet
            time.sleep(0.2)


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch):
    monkeypatch.setattr(remote, "PAUSES_S", (0.05, 0.05))


def test_a_read_from_there_is_the_read_made_here(there):
    here = load_reader("phantom", None)
    away = RemoteReader(there, TOKEN)
    assert (away.model_version, away.is_phantom, away.is_on_gpu) == (here.model_version, True, False)
    phantoms = [hand(4_400_000_000 + n) for n in range(3)]
    pictures = [picture(phantom) for phantom in phantoms]
    for task, contexts in (
        (Task.BONE_AGE, [ReadContext("F", 100.0), ReadContext("M", 100.0), ReadContext()]),
        (Task.FRACTURE, [ReadContext("F", 100.4)] * 3),  # an abstention: a hand is no wrist
    ):
        for mine, theirs in zip(here.read(pictures, task, contexts), away.read(pictures, task, contexts), strict=True):
            assert (theirs.answer, theirs.reason, theirs.median_months) == (
                mine.answer,
                mine.reason,
                mine.median_months,
            )
            assert theirs.probabilities == pytest.approx(mine.probabilities, abs=1e-3)


def test_more_images_than_one_request_takes_come_back_in_order(there):
    away = RemoteReader(there, TOKEN)
    pixels = np.stack([pixels_of(wrist(4_400_000_100 + n), away) for n in range(18)])
    ages = [ReadContext("F", 20.0 + n) for n in range(18)]
    together = away.read_pixels(pixels, Task.FRACTURE, ages)
    alone = [away.read_pixels(pixels[n : n + 1], Task.FRACTURE, ages[n : n + 1])[0] for n in (0, 16, 17)]
    assert [together[n].answer for n in (0, 16, 17)] == [read.answer for read in alone]


def pixels_of(phantom, reader) -> np.ndarray:
    return reader.image_processor([picture(phantom)])["pixel_values"][0]


def test_it_tells_views_apart(there):
    away = RemoteReader(there, TOKEN)
    views = away.triage_pixels(np.stack([pixels_of(hand(4_400_000_200), away), pixels_of(wrist(4_400_000_201), away)]))
    assert [view.value for view, _ in views] == ["hand", "wrist"]


def test_the_image_is_made_as_the_models_own_processor_makes_it(there):
    own, ours = load_reader("phantom", None).image_processor, RemoteReader(there, TOKEN).image_processor
    for image in (picture(hand(4_400_000_300)), picture(wrist(4_400_000_301))):
        theirs = own([image], do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"]
        assert (np.asarray(theirs).astype(np.uint8) == ours([image])["pixel_values"]).all()


def test_the_phantom_model_gives_no_words_and_says_so(there):
    away = RemoteReader(there, TOKEN)
    with pytest.raises(PediScreenError, match="phantom model gives no explanation"):
        next(away.words(pixels_of(hand(4_400_000_400), away), Task.BONE_AGE, ReadContext("F")))


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer another token", TOKEN])
def test_without_the_token_nothing_is_answered(there, given):
    for method, path in (("GET", "/model"), ("POST", "/reads"), ("POST", "/words")):
        answer = httpx2.request(method, there + path, headers={"Authorization": given}, trust_env=False)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "not_allowed")
        assert "model_version" not in answer.text


def test_a_wrong_token_is_named(there):
    with pytest.raises(ModelUnavailable, match="token is not this worker's. Set PEDISCREEN_READS_TOKEN"):
        RemoteReader(there, "another token, just as long")


def test_what_is_no_request_is_refused_and_the_worker_goes_on(there):
    for path in ("/reads", "/views", "/words"):
        for body in (b"", b"nonsense", b'{"schema": 2}\n', os.urandom(5000), gzip.compress(bytes(10_000_000))):
            answer = httpx2.post(
                there + path, content=body, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False
            )
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "not_understood")
    assert RemoteReader(there, TOKEN).model_version


def test_a_worker_reads_through_one_elsewhere(there, waiting, database_url, data_dir, monkeypatch):
    """The whole way: this machine's worker has no model, and what it records carries the other's name."""
    reader = model_in_use_of(there, monkeypatch)
    ids = waiting.add(3)
    assert read_images(database_url, lambda: reader, ids) == 3
    assert waiting.reads_by_image() == dict.fromkeys(ids, 1)


def model_in_use_of(url: str, monkeypatch):
    monkeypatch.setenv("PEDISCREEN_MODEL", url)
    monkeypatch.setenv("PEDISCREEN_READS_TOKEN", TOKEN)
    settings.cache_clear()
    return model_in_use.load_reader(None)


def test_an_adapter_cannot_change_a_model_elsewhere(there, data_dir, monkeypatch, tmp_path):
    monkeypatch.setenv("LORA_ADAPTER_PATH", str(tmp_path))
    with pytest.raises(ModelUnavailable, match="Unset it here"):
        model_in_use_of(there, monkeypatch)


# ---------------------------------------------------------------- the other side misbehaves


DESCRIBED = {"schema": 1, "model_version": PHANTOM, "is_phantom": True, "side": 320, "resample": 2}
READ = read_of(Task.FRACTURE).as_json()
PIXELS = np.zeros((1, 3, 320, 320), np.uint8)


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server that describes a model; to a read it does what `answer` says. Its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply(self, DESCRIBED)

        def do_POST(self) -> None:
            self.body = self.rfile.read(int(self.headers["Content-Length"]))
            self.server.asked += 1
            answer(self)

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.daemon_threads = 0, True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", server
    server.shutdown()
    server.server_close()


def reply(handler: BaseHTTPRequestHandler, said, status: int = 200) -> None:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def read_one(url: str):
    return RemoteReader(url, TOKEN).read_pixels(PIXELS, Task.FRACTURE, [ReadContext("F", 100)])


GARBAGE = {
    "a page of a proxy": b"<html><body>Sign in to the guest network</body></html>",
    "nothing": b"",
    "half an answer": json.dumps(DESCRIBED | {"reads": [READ]}).encode()[:-30],
    "another schema": DESCRIBED | {"schema": 2, "reads": [READ]},
    "no schema": {"reads": [READ]},
    "no reads": DESCRIBED,
    "too few reads": DESCRIBED | {"reads": []},
    "too many reads": DESCRIBED | {"reads": [READ, READ]},
    "reads of another task": DESCRIBED | {"reads": [read_of(Task.ROP).as_json()]},
    "an answer outside the closed set": DESCRIBED
    | {"reads": [READ | {"answer": {"task": "fracture", "fracture": "greenstick"}}]},
    "probabilities that are none": DESCRIBED | {"reads": [READ | {"probabilities": {"buckle": 7}}]},
    "a read by a model that it does not name": DESCRIBED | {"model_version": "another", "reads": [READ]},
    "no word of who reads": {"schema": 1, "reads": [READ]},
    "more than anybody asked for": b'{"schema": 1, "reads": "' + b"x" * 5_000_000,
}


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE)
def test_an_answer_that_cannot_be_a_read_is_not_used(said):
    with answering(lambda handler: reply(handler, said)) as (url, server):
        with pytest.raises(ReaderUnavailable, match=url):
            read_one(url)
        assert server.asked == 1, "asking again would not help"


def test_a_whole_answer_is_used_and_carries_the_models_name():
    newer = DESCRIBED | {"model_version": "phantom 9", "reads": [READ | {"model_version": "phantom 9"}]}
    with answering(lambda handler: reply(handler, newer)) as (url, _):
        reader = RemoteReader(url, TOKEN)
        assert reader.model_version == PHANTOM
        (read,) = reader.read_pixels(PIXELS, Task.FRACTURE, [ReadContext("F", 100)])
        assert (read.answer, read.model_version, reader.model_version) == (READ["answer"], "phantom 9", "phantom 9")


def test_a_failure_that_passes_costs_a_second_attempt():
    def busy_once(handler) -> None:
        if handler.server.asked == 1:
            reply(handler, b"Service Unavailable", 503)
        else:
            reply(handler, DESCRIBED | {"reads": [READ]})

    with answering(busy_once) as (url, server):
        assert read_one(url)[0].answer == READ["answer"]
        assert server.asked == 2


def test_one_that_stays_busy_is_left_alone_after_three_attempts():
    away = {"schema": 1, "error": {"code": "unavailable", "message": "The worker has no model: none"}}
    with answering(lambda handler: reply(handler, away, 503)) as (url, server):
        with pytest.raises(ReaderUnavailable, match="does not read: The worker has no model: none"):
            read_one(url)
        assert server.asked == 3


def test_one_that_hangs_up_and_one_that_is_down():
    with answering(lambda handler: handler.connection.close()) as (url, _):
        with pytest.raises(ReaderUnavailable, match="does not answer"):
            read_one(url)
        reader = RemoteReader(url, TOKEN)
    with pytest.raises(ReaderUnavailable, match="does not answer .ConnectError"):
        reader.read_pixels(PIXELS, Task.FRACTURE, [ReadContext()])
    with pytest.raises(ModelUnavailable, match="does not answer .ConnectError"):
        RemoteReader(url, TOKEN)


def test_one_that_is_slow_or_trickles_is_given_up(monkeypatch):
    monkeypatch.setattr(remote, "TIMEOUT", httpx2.Timeout(0.3))
    monkeypatch.setattr(remote, "GIVE_UP_AFTER_S", 1.0)
    slow = answering(lambda handler: time.sleep(3))
    with slow as (url, _), pytest.raises(ReaderUnavailable, match="does not answer .ReadTimeout"):
        read_one(url)

    def trickle(handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(40):
            handler.wfile.write(b" ")
            time.sleep(0.1)

    with answering(trickle) as (url, _), pytest.raises(ReaderUnavailable, match="ReadTimeout: the answer trickles"):
        read_one(url)


def test_a_film_that_fails_there_is_that_films_failure():
    failed = {"schema": 1, "error": {"code": "read_failed", "message": "The network's output is not a number."}}
    with (
        answering(lambda handler: reply(handler, failed, 422)) as (url, _),
        pytest.raises(ReadFailed, match="not a num"),
    ):
        read_one(url)


def test_words_that_break_off_are_not_taken_for_whole():
    lines = b"".join(json.dumps({"schema": 1, "text": text}).encode() + b"\n" for text in ("The ", "physis "))
    for end, is_whole in ((json.dumps({"schema": 1, "is_end": True}).encode() + b"\n", True), (b"", False)):
        with answering(lambda handler, end=end: reply(handler, lines + end)) as (url, _):
            words, said = RemoteReader(url, TOKEN).words(PIXELS[0], Task.FRACTURE, ReadContext()), []
            try:
                said += words
            except ReaderUnavailable as broken:
                assert "in the middle" in str(broken) and not is_whole
            else:
                assert "".join(said) == "The physis " and is_whole


def test_films_wait_while_the_other_machine_is_down_and_are_read_when_it_is_back(waiting, database_url, monkeypatch):
    monkeypatch.setattr(read_pending, "AWAY_S", 0.3)
    is_back = threading.Event()

    def away_at_first(handler) -> None:
        if is_back.is_set():
            reply(handler, DESCRIBED | {"reads": [READ] * len(wire.unpacked(handler.body).contexts)})
        else:
            reply(handler, b"Bad Gateway", 502)

    ids = waiting.add(3)
    with answering(away_at_first) as (url, _):
        reader = RemoteReader(url, TOKEN)
        reads = PendingReads(
            database_url, "w1", lambda: reader, threading.Event(), silent_after_s=60, on_lost=pytest.fail
        )
        reads.fill()
        reads.start()
        waiting.until(lambda: reads.trouble)
        assert f"{url} does not read: status 502" in reads.trouble
        assert waiting.states() == dict.fromkeys(ids, ("queued", None))
        is_back.set()
        waiting.until(lambda: reads.fill() or waiting.all_done())
        waiting.until(lambda: reads.trouble is None)
        reads.stopping.set()
        reads.stop(within_s=10)
    assert waiting.reads_by_image() == dict.fromkeys(ids, 1)


@pytest.mark.slow
def test_two_workers_of_which_one_has_the_model_and_is_killed(tmp_path, data_dir, database_url):
    """Both as they are started on two machines: what is there waits while the other is away, and says so."""
    there, port = tmp_path / "there", free_port()
    there.mkdir()
    migrate.upgrade(f"sqlite:///{there}/pediscreen.sqlite")
    url = f"http://127.0.0.1:{port}"
    far = worker_process(there, PEDISCREEN_READS_PORT=str(port))
    until_it_answers(url, far)
    near = worker_process(data_dir, PEDISCREEN_MODEL=url)
    films = [file.path for file in make_phantoms(tmp_path / "films", "wrist", 2, 4_500_000_000)]

    def overview():
        with session_scope(database_url) as session:
            return worklist.overview(session, demo_reader())

    def arrive(film: Path) -> None:
        with session_scope(database_url) as session:
            assert ingest_file(session, service_actor("test"), film, film.name).outcome == "accepted"

    def until(condition) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline and near.poll() is None, overview()
            time.sleep(0.2)

    try:
        arrive(films[0])
        until(lambda: overview().by_status[StudyStatus.AWAITING_REVIEW] == 1)
        far.kill()
        far.wait()
        arrive(films[1])
        until(lambda: f"{url} does not answer" in (overview().workers[0].detail or ""))
        assert overview().by_status[StudyStatus.AWAITING_READ] == 1
        far = worker_process(there, PEDISCREEN_READS_PORT=str(port))
        until(lambda: overview().by_status[StudyStatus.AWAITING_REVIEW] == 2)
        until(lambda: overview().workers[0].detail == READY)
        assert overview().workers[0].model_version == RemoteReader(url, TOKEN).model_version
    finally:
        for worker in (near, far):
            worker.kill()
            worker.wait()


# ---------------------------------------------------------------- addresses, certificates, settings


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://gpu.example:8602", "in the clear"),
        ("https://user:secret@gpu.example", "no address of a worker"),
        ("https://", "no address of a worker"),
        ("https://gpu.example/?token=1", "no address of a worker"),
        ("https://gpu.example:port", "no address of a worker"),
    ],
)
def test_an_address_that_would_not_be_safe_is_refused(url, said):
    with pytest.raises(ModelUnavailable, match=said) as refused:
        RemoteReader(url, TOKEN)
    assert "secret" not in str(refused.value)


def test_a_token_is_needed():
    with pytest.raises(ModelUnavailable, match="Set PEDISCREEN_READS_TOKEN"):
        RemoteReader("https://gpu.example", None)


def test_a_gpu_that_goes_while_it_reads_for_another_machine_ends_the_worker_and_stores_nothing(data_dir):
    reader = WordyReader(error=ReaderLost("The GPU does not work any more."))
    with door(reader) as (port, lost), pytest.raises(ReaderUnavailable, match="GPU does not work any more"):
        read_one(f"http://127.0.0.1:{port}")
    assert lost


def test_a_model_that_has_changed_meanwhile_gets_its_images_anew(data_dir):
    reader = WordyReader()
    with door(reader) as (port, _):
        away = RemoteReader(f"http://127.0.0.1:{port}", TOKEN)
        reader.image_processor = type("Larger", (), {"size": {"height": 896}, "resample": 2})
        with pytest.raises(ReaderUnavailable, match="takes images of 896 pixels now"):
            away.read_pixels(PIXELS, Task.FRACTURE, [ReadContext()])
        assert away.image_processor.size["height"] == 896
        larger = np.zeros((1, 3, 896, 896), np.uint8)
        assert away.read_pixels(larger, Task.FRACTURE, [ReadContext()])[0].model_version == "fake 1"


def test_a_worker_whose_model_is_elsewhere_passes_on_what_its_own_door_is_asked(data_dir):
    """As on a laptop, whose review page asks its own worker for words."""
    with door(WordyReader()) as (far, _):
        near_reader = RemoteReader(f"http://127.0.0.1:{far}", TOKEN)
        with door(near_reader) as (near, _):
            away = RemoteReader(f"http://127.0.0.1:{near}", TOKEN)
            assert away.image_processor.size == near_reader.image_processor.size
            assert away.read_pixels(PIXELS, Task.FRACTURE, [ReadContext()])[0].model_version == "fake 1"
            assert "".join(away.words(PIXELS[0], Task.FRACTURE, ReadContext())) == "The physis is open."


def test_words_come_one_by_one(data_dir):
    reader = WordyReader()
    with door(reader) as (port, lost):
        away = RemoteReader(f"http://127.0.0.1:{port}", TOKEN)
        assert list(away.words(PIXELS[0], Task.FRACTURE, ReadContext())) == ["The physis ", "is open."]
        reader.error = ReaderLost("The GPU does not work any more.")
        with pytest.raises(ReaderUnavailable, match="in the middle"):
            list(away.words(PIXELS[0], Task.FRACTURE, ReadContext()))
        assert lost


def test_the_certificate_is_checked(data_dir, tmp_path, monkeypatch):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
        + ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    with door(WordyReader(), reads_certificate=certificate, reads_key=key) as (port, _):
        with pytest.raises(ModelUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            RemoteReader(f"https://localhost:{port}", TOKEN)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert RemoteReader(f"https://localhost:{port}", TOKEN).model_version == "fake 1"
        with pytest.raises(ModelUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            RemoteReader(f"https://127.0.0.1:{port}", TOKEN)  # the certificate is not this name's
    assert ssl.create_default_context().verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reads_token": None}, "PEDISCREEN_READS_TOKEN has not the 16 characters"),
        ({"reads_token": "short"}, "PEDISCREEN_READS_TOKEN has not the 16 characters"),
        ({"reads_host": "0.0.0.0"}, "in the clear"),
    ],
)
def test_a_door_that_would_be_open_to_anybody_stays_shut(data_dir, changes, said):
    with pytest.raises(PediScreenError, match=said), door(WordyReader(), **changes):
        pass


def test_a_port_that_is_taken_is_named(data_dir):
    with door(WordyReader()) as (port, _):
        taken = door(WordyReader(), reads_port=port)
        with pytest.raises(PediScreenError, match=f"PEDISCREEN_READS_PORT={port} cannot be listened on"), taken:
            pass


def test_the_token_is_in_no_text_of_the_settings(data_dir):
    assert TOKEN not in repr(replace(settings(), reads_token=TOKEN))
