"""What tests/benchmarks/kills.py has going on while it kills: users over HTTP, a modality, exports, a retraining.

Each notes in the ledger what it wanted and what it was answered, and asks again where no answer came."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pydicom
from pydicom.uid import generate_uid
from sqlalchemy.exc import SQLAlchemyError

from db.models import RetrainState
from db.session import session_scope
from engine.errors import Conflict, NotFound
from engine.phantoms.write import make_phantoms
from engine.services import retrain, review, training_set
from engine.services.accounts import Actor, demo_admin
from engine.services.retrain_run import ON
from engine.settings import PROJECT_DIR
from tests.benchmarks.exchange_process import storescu
from tests.benchmarks.kills_checks import trouble_with_export
from tests.fake_workstation import preview

ADMIN = demo_admin()
PAUSE_S = 0.3  # before what got no answer is sent again
KEY_GIVEN_UP_AFTER = 4  # answers "is being carried out" under a key whose process has died
PROPER_ENDS = (RetrainState.AWAITING_SIGNATURE, RetrainState.HELD)


@dataclass
class Film:
    """One file of the modality's or a user's. `answers`: what was said of it, with success or as refused."""

    path: Path
    sop_instance_uid: str | None  # None: no DICOM file at all, which is for quarantine
    answers: list[dict[str, Any]] = field(default_factory=list)
    by_storescu: int = 0  # times answered with success


@dataclass
class Decision:
    """`mark` stands in the comment. `review_id`: answered with success. `attempts` counts those without an answer."""

    mark: str
    reader: str
    image_id: int
    verdict: str
    answer: dict[str, Any] | None
    seen_review_id: int | None
    review_id: int | None = None
    refused: str | None = None
    unanswered: int = 0


@dataclass
class Withdrawal:
    reader: str
    image_id: int
    review_id: int  # that is taken back
    withdrawn_by: int | None = None  # the row that says so, answered with success
    refused: str | None = None
    unanswered: int = 0


class Ledger:
    """What was wanted, and what was answered; each answer also a line in `path`, written before anything goes on."""

    def __init__(self, path: Path) -> None:
        self.films: list[Film] = []
        self.decisions: list[Decision] = []
        self.withdrawals: list[Withdrawal] = []
        self.retrain_ends: list[tuple[int, str]] = []
        self.exports: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.problems: list[str] = []
        self.going_on: dict[str, str] = {}
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def note(self, event: str, **said: Any) -> None:
        with self._lock:
            print(json.dumps({"at": time.time(), "event": event, **said}, default=str), file=self._file, flush=True)

    def count(self, counter: Counter[str], name: str) -> None:
        with self._lock:
            counter[name] += 1


class Client(threading.Thread):
    """Does `one_thing` again and again until told to stop; what it is at then, it sees to its answer."""

    def __init__(self, name: str, ledger: Ledger, rng: random.Random) -> None:
        super().__init__(name=name, daemon=True)
        self.ledger, self.rng, self.stopping = ledger, rng, threading.Event()

    def run(self) -> None:
        try:
            while not self.stopping.wait(self.rng.uniform(0, 0.3)):
                self.one_thing()
        except BaseException as error:  # the thread's outermost line: reported with the violations
            self.ledger.problems.append(f"the {self.name} failed: {error!r}")
            raise
        finally:
            self.ledger.going_on.pop(self.name, None)

    def one_thing(self) -> None:
        raise NotImplementedError

    def is_at(self, what: str) -> None:
        self.ledger.going_on[self.name] = what


class ApiClient(Client):
    """A program with a token of its own, at whichever of the web processes answers."""

    def __init__(self, name: str, ledger: Ledger, rng: random.Random, addresses: list[str], secret: str) -> None:
        super().__init__(name, ledger, rng)
        self.addresses, self.headers = addresses, {"Authorization": f"Bearer {secret}"}
        self.http = httpx.Client(timeout=30)

    def ask(self, method: str, path: str, key: str | None = None, **more: Any) -> httpx.Response | None:
        """None: there was no answer, or one that says to try again; whether it was carried out is not known."""
        headers = self.headers | ({"Idempotency-Key": key} if key else {})
        try:
            said = self.http.request(method, self.rng.choice(self.addresses) + path, headers=headers, **more)
        except httpx.TransportError as error:
            self.ledger.count(self.ledger.answers, "none" if method != "GET" else "none to GET")
            self.ledger.note("no answer", method=method, path=path, key=key, error=type(error).__name__)
            return None
        self.ledger.count(self.ledger.answers, str(said.status_code))
        if said.status_code >= 500 or said.status_code == 429:
            self.ledger.note("answer", method=method, path=path, key=key, status=said.status_code, body=said.text)
            return None
        return said

    def get(self, path: str, **more: Any) -> Any:
        """None where it was not found, or nobody answered."""
        said = self.ask("GET", path, **more)
        return said.json() if said is not None and said.status_code == 200 else None

    def until_answered(self, path: str, unanswered: Callable[[], None], **more: Any) -> httpx.Response:
        """Sends the same request under one key until it is answered. A key that its dead process has left as being
        carried out is given up: the request then comes again under a new one."""
        key, in_progress = str(uuid.uuid4()), 0
        while True:
            said = self.ask("POST", path, key, **more)
            if said is None:
                unanswered()
            elif said.status_code == 409 and "Idempotency-Key" in said.text:
                in_progress += 1
                if in_progress >= KEY_GIVEN_UP_AFTER:
                    key, in_progress = str(uuid.uuid4()), 0
                    self.ledger.count(self.ledger.answers, "keys given up")
            else:
                self.ledger.note("answer", path=path, key=key, status=said.status_code, body=said.text)
                return said
            time.sleep(PAUSE_S)


class Stock:
    """Wrist phantoms, each the only film of a child of its own; drawn once, then varied."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.made, self._lock = folder, 0, threading.Lock()
        drawn = make_phantoms(folder / "drawn", "wrist", 4, seed)
        self._drawn = [pydicom.dcmread(one.path) for one in drawn]
        self._pixels = [data_set.pixel_array[::2, ::2] for data_set in self._drawn]

    def new(self) -> Film:
        with self._lock:
            self.made += 1
            number, drawn = self.made, self.made % len(self._drawn)
            data_set, pixels = copy.deepcopy(self._drawn[drawn]), self._pixels[drawn].copy()
            pixels[0, :3] = [number >> shift & 0xFF for shift in (0, 8, 16)]
            data_set.Rows, data_set.Columns = pixels.shape
            data_set.PixelData = pixels.tobytes()
            data_set.SOPInstanceUID = generate_uid()
            data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID
            data_set.StudyInstanceUID, data_set.SeriesInstanceUID = generate_uid(), generate_uid()
            data_set.PatientID = f"KILLS-{number}"
            path = self.folder / f"{number:06d}.dcm"
            data_set.save_as(path, enforce_file_format=True)
            return Film(path, str(data_set.SOPInstanceUID))

    def refused(self) -> Film:
        with self._lock:
            self.made += 1
            path = self.folder / f"{self.made:06d}.txt"
            path.write_text(f"no film, number {self.made}\n" * 50)
            return Film(path, None)


class Uploader(ApiClient):
    """Sends films, now and then one that was sent before, or a file that is none."""

    def __init__(self, *args: Any, stock: Stock) -> None:
        super().__init__(*args)
        self.stock = stock

    def one_thing(self) -> None:
        chance = self.rng.random()
        sent = [film for film in self.ledger.films if film.answers or film.by_storescu]
        if sent and chance < 0.15:
            film = self.rng.choice(sent)
        else:
            film = self.stock.refused() if chance < 0.25 else self.stock.new()
            self.ledger.films.append(film)
        self.is_at(f"upload of {film.path.name}")
        content = film.path.read_bytes()
        files = {"files": (film.path.name, content)}
        said = self.until_answered("/studies", lambda: None, files=files)
        if said.status_code not in (201, 422) or "files" not in said.json():
            self.ledger.problems.append(f"an upload was answered {said.status_code}: {said.text[:300]}")
            return
        film.answers.append(said.json()["files"][0])


class Modality(Client):
    """Sends films by C-STORE with dcmtk's storescu, again until they are taken."""

    def __init__(self, name: str, ledger: Ledger, rng: random.Random, port: int, stock: Stock) -> None:
        super().__init__(name, ledger, rng)
        self.port, self.stock = port, stock

    def one_thing(self) -> None:
        film = self.stock.new()
        self.ledger.films.append(film)
        self.is_at(f"C-STORE of {film.path.name}")
        while True:
            sender = storescu(self.port, [film.path], "-v", "-to", "5", "-ta", "20", "-td", "20")
            said = sender.communicate(timeout=120)[0].decode(errors="replace")
            taken = sender.returncode == 0 and "Received Store Response (Success)" in said
            self.ledger.note("C-STORE", film=film.path.name, taken=taken)
            self.ledger.count(self.ledger.answers, "C-STORE taken" if taken else "C-STORE not taken")
            if taken:
                film.by_storescu += 1
                return
            time.sleep(PAUSE_S)


class Reader(ApiClient):
    """Confirms, corrects, rejects; goes over decided cases again, and takes decisions of their own back."""

    def __init__(self, *args: Any, url: str, actor: Actor) -> None:
        super().__init__(*args)
        self.url, self.actor = url, actor
        self.latest: dict[int, int] = {}  # image -> the decision of this reader that may still stand

    def one_thing(self) -> None:
        if self.latest and self.rng.random() < 0.15:
            self.withdraw()
            return
        status = self.rng.choices(["awaiting_review", "reviewed"], [4, 1])[0]
        page = self.get("/queue", params={"status": status, "page_size": 20})
        if not page or not page["rows"]:
            return
        study = self.get(f"/studies/{self.rng.choice(page['rows'])['study_id']}")
        if study is None:
            return
        image = study["images"][0]
        if image["read"] is not None:
            self.decide(study["study_id"], image)

    def decide(self, study_id: int, image: dict[str, Any]) -> None:
        verdict = self.rng.choices(["confirmed", "corrected", "rejected"], [4, 4, 1])[0]
        fracture = self.rng.choice(["buckle", "distal_radius"])  # the fake reader says "normal"
        answer = {"task": "fracture", "fracture": fracture} if verdict == "corrected" else None
        wanted = Decision(
            str(uuid.uuid4()), self.actor.username, image["image_id"], verdict, answer, image["seen_review_id"]
        )
        self.ledger.decisions.append(wanted)
        self.ledger.note("decides", study=study_id, **asdict(wanted))
        self.is_at(f"{verdict} image {wanted.image_id}")
        body = {
            "image_id": wanted.image_id,
            "verdict": verdict,
            "answer": answer,
            "reject_reason": "poor_quality" if verdict == "rejected" else None,
            "comment": wanted.mark,
            "prediction_id": image["read"]["prediction_id"],
            "seen_review_id": wanted.seen_review_id,
        }

        def unanswered() -> None:
            wanted.unanswered += 1

        said = self.until_answered(f"/studies/{study_id}/review", unanswered, json=body)
        if said.status_code == 201:
            wanted.review_id = said.json()["review_id"]
            self.latest[wanted.image_id] = wanted.review_id
        else:
            wanted.refused = said.json()["error"]["code"]
            self.latest.pop(wanted.image_id, None)
            if said.status_code != 409:
                self.ledger.problems.append(f"a decision was answered {said.status_code}: {said.text[:300]}")

    def withdraw(self) -> None:
        """By the function behind the page's button: the API has no route for it."""
        image_id, review_id = self.latest.popitem()
        wanted = Withdrawal(self.actor.username, image_id, review_id)
        self.ledger.withdrawals.append(wanted)
        self.is_at(f"withdraws review {review_id}")
        while True:
            try:
                with session_scope(self.url) as session:
                    wanted.withdrawn_by = review.undo_review(session, self.actor, image_id, review_id)
            except SQLAlchemyError:
                wanted.unanswered += 1
                time.sleep(PAUSE_S)
                continue
            except (Conflict, NotFound) as refused:
                wanted.refused = str(refused)
            self.ledger.note("withdraws", **asdict(wanted))
            return


class Exporter(Client):
    """`pediscreen export` into a new folder and into one that holds an earlier export, in turn."""

    def __init__(self, name: str, ledger: Ledger, rng: random.Random, folder: Path) -> None:
        super().__init__(name, ledger, rng)
        self.folder, self.number = folder, 0
        self.process: subprocess.Popen | None = None
        self.log = folder / "export.log"
        folder.mkdir()

    def one_thing(self) -> None:
        self.number += 1
        out = self.folder / ("same" if self.number % 2 else f"new-{self.number}")
        self.is_at(f"export to {out.name}")
        status = self.export(out)
        how = {0: "done", -9: "killed"}.get(status, "refused")
        self.ledger.count(self.ledger.exports, how)
        self.ledger.note("export", out=out.name, status=status)
        trouble = trouble_with_export(out, must_be_there=status == 0)
        if trouble:
            self.ledger.problems.append(f"export {self.number} ({how}): {trouble}")

    def export(self, out: Path) -> int:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "engine.cli", "export", str(out)]
            self.process = subprocess.Popen(command, cwd=PROJECT_DIR, stdout=log, stderr=log, start_new_session=True)
        return self.process.wait()


class Retrainer(Client):
    """One retraining after the other: where the gate lets a candidate through, an admin declines it."""

    def __init__(self, name: str, ledger: Ledger, rng: random.Random, url: str) -> None:
        super().__init__(name, ledger, rng)
        self.url = url

    def one_thing(self) -> None:
        try:
            with session_scope(self.url) as session:
                now = retrain.current(session, ADMIN)
                if now is not None and now.state in ON:
                    step = next((one.step.value for one in now.steps if one.state == "running"), "waits")
                    self.is_at(f"retrain {now.run_id}: {step}")
                elif now is not None and now.state is RetrainState.AWAITING_SIGNATURE:
                    self.ends(now.run_id, now.state)
                    retrain.decline(session, ADMIN, now.run_id, "Nobody needs it.")
                else:
                    if now is not None:
                        self.ends(now.run_id, now.state)
                    with patch.object(training_set, "preview", preview):
                        retrain.start(session, ADMIN)
        except (SQLAlchemyError, Conflict):
            self.ledger.count(self.ledger.answers, "none to the retrainer")
        self.stopping.wait(0.7)

    def ends(self, run_id: int, state: RetrainState) -> None:
        if (run_id, state.value) not in self.ledger.retrain_ends:
            self.ledger.retrain_ends.append((run_id, state.value))
