"""Many readers at once: does every decision arrive, how long does one take, and does the web process keep its size?

    python -m tests.benchmarks.reviewers [--reviewers 50] [--minutes 10] [--postgresql]

Each reviewer has a token and a session of their own over HTTP: they fetch the queue, open a case, fetch its film, look
at it for some seconds, and confirm, correct or reject; at times they change a decision of theirs. Several may pick the
same case: one of them wins, the others are told. One web process serves them, from SQLite or its own PostgreSQL.
Prints one JSON document; exit status 1 when a decision was lost or doubled, a request failed, or the audit chain
is broken."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from sqlalchemy import func, select

from db import migrate
from db.models import Image, Prediction, Review, Role, Verdict
from db.session import session_scope
from engine.findings.answers import Task, bone_age_answer, fracture_answer, rop_answer
from engine.inference.read import Read
from engine.services import api_tokens, reading
from engine.services.accounts import demo_admin, service_actor
from engine.settings import PROJECT_DIR, settings
from tests.benchmarks.backlog import all_arrive, films_in, say
from tests.pediscreen_up import free_port
from tests.postgresql import private_server

LOOKING_S = (4.0, 12.0)  # at a film, evenly
DISTINCT_FILMS = 30
DECISIONS_A_MINUTE = 60 / (sum(LOOKING_S) / 2)  # of one reviewer, at most
SETTLED_S = 120.0  # caches are filled by then: what is used more later has leaked
ANSWERS = {
    Task.BONE_AGE: bone_age_answer(100),
    Task.ROP: rop_answer("II", "1", "none"),
    Task.FRACTURE: fracture_answer("normal"),
}
OTHER_ANSWERS = {
    Task.BONE_AGE: bone_age_answer(90),
    Task.ROP: rop_answer("II", "2", "preplus"),
    Task.FRACTURE: fracture_answer("buckle"),
}


@dataclass
class Tally:
    """What the reviewers were told, together."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    statuses: Counter = field(default_factory=Counter)  # "POST review 201" -> times
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    decisions: dict[int, tuple[int, str]] = field(default_factory=dict)  # review id -> image id, verdict
    failures: list[str] = field(default_factory=list)


def main(reviewers: int, minutes: float, on_postgresql: bool) -> dict:
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="pediscreen-reviewers-"))
        os.environ["PEDISCREEN_DATA_DIR"] = str(Path(scratch) / "data")
        if on_postgresql:
            os.environ["PEDISCREEN_DATABASE_URL"] = stack.enter_context(private_server())
        settings.cache_clear()
        migrate.upgrade(settings().database_url)
        count = int(reviewers * minutes * DECISIONS_A_MINUTE * 1.1) + reviewers
        tasks = read_cases(Path(scratch), count)
        with session_scope(settings().database_url) as session:
            secrets = [
                api_tokens.make(session, demo_admin(), f"reviewer {n}", Role.READER, [*api_tokens.Scope]).secret
                for n in range(reviewers)
            ]
        log = Path(scratch) / "web.log"
        url, web = stack.enter_context(web_process(log))
        say(f"{reviewers} reviewers, {minutes:g} minutes, {count} cases")
        tally = Tally()
        sizes = review_for(minutes * 60, url, secrets, tasks, tally, web)
        return verdict(reviewers, minutes, on_postgresql, tally, sizes, log)


def read_cases(scratch: Path, count: int) -> dict[int, Task]:
    """That many studies with a read each; image id -> task."""
    image_ids = all_arrive(films_in(scratch / "films", DISTINCT_FILMS), count)
    worker = service_actor("worker")
    tasks = {}
    with session_scope(settings().database_url) as session:
        for start in range(0, len(image_ids), 200):
            some = image_ids[start : start + 200]
            cases = reading.images_awaiting_read(session, worker, len(some), some)
            tasks |= {case.image_id: case.task for case in cases}
            reads = [
                Read(str(case.task), ANSWERS[case.task], {"made up": 1.0}, None, None, False, None, "made up", 30.0)
                for case in cases
            ]
            reading.record_reads(session, worker, [case.image_id for case in cases], reads, is_phantom=True)
            session.expunge_all()
    return tasks


@contextlib.contextmanager
def web_process(log: Path):
    port = free_port()
    command = [sys.executable, "-m", "engine.cli", "serve", "--port", str(port)]
    with log.open("w") as target:
        process = subprocess.Popen(command, cwd=PROJECT_DIR, stdout=target, stderr=target)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/api/health").status_code == 200:
                    break
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"the web process did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def review_for(
    seconds: float, url: str, secrets: list[str], tasks: dict[int, Task], tally: Tally, web: psutil.Process
) -> list[tuple[float, float]]:
    """Lets them work; returns the web process's memory over time, (s, MB)."""
    begun = time.monotonic()
    threads = [
        threading.Thread(target=Reviewer(url, secret, tasks, tally, number).work_until, args=(begun + seconds,))
        for number, secret in enumerate(secrets)
    ]
    for thread in threads:
        thread.start()
    sizes = []
    while any(thread.is_alive() for thread in threads):
        sizes.append((time.monotonic() - begun, web.memory_info().rss / 1e6))
        time.sleep(5)
    return sizes


class Reviewer:
    def __init__(self, url: str, secret: str, tasks: dict[int, Task], tally: Tally, number: int) -> None:
        headers = {"Authorization": f"Bearer {secret}"}
        self.client = httpx.Client(base_url=f"{url}/api/radiology", headers=headers, timeout=30)
        self.tasks, self.tally, self.number = tasks, tally, number
        self.random = random.Random(number)

    def work_until(self, end: float) -> None:
        time.sleep(self.random.uniform(0, LOOKING_S[1]))  # they do not come in step
        while time.monotonic() < end:
            try:
                self._review_one()
            except (httpx.HTTPError, KeyError, ValueError) as error:  # counted: the run has failed
                with self.tally.lock:
                    self.tally.failures.append(f"{type(error).__name__}: {error}")
                time.sleep(1)

    def _review_one(self) -> None:
        queue = self._get("queue", "/queue", status="awaiting_review", page_size=50, sort="received")
        rows = queue.json()["rows"]
        if not rows:
            raise ValueError("the queue is empty: more cases are needed")
        study_id = self.random.choice(rows)["study_id"]
        image = self._get("study", f"/studies/{study_id}").json()["images"][0]
        self._get("pixels", f"/studies/{study_id}/pixels")
        time.sleep(self.random.uniform(*LOOKING_S))
        task, chance = self.tasks[image["image_id"]], self.random.random()
        said: dict = {"verdict": "confirmed"}
        if chance > 0.95:
            said = {"verdict": "rejected", "reject_reason": "poor_quality"}
        elif chance > 0.8:
            said = {"verdict": "corrected", "answer": OTHER_ANSWERS[task]}
        review_id = self._decide(study_id, image, said, image["seen_review_id"])
        if review_id is not None and chance < 0.05:  # a second thought
            self._decide(study_id, image, {"verdict": "corrected", "answer": OTHER_ANSWERS[task]}, review_id)

    def _decide(self, study_id: int, image: dict, said: dict, seen: int | None) -> int | None:
        read = image["read"]
        body = said | {
            "image_id": image["image_id"],
            "prediction_id": read["prediction_id"] if read else None,
            "seen_review_id": seen,
        }
        headers = {"Idempotency-Key": f"{self.number}-{self.random.getrandbits(64)}"}
        path = f"/studies/{study_id}/review"
        answer = self._timed("review", lambda: self.client.post(path, json=body, headers=headers))
        if answer.status_code != 201:
            return None
        review_id = answer.json()["review_id"]
        with self.tally.lock:
            self.tally.decisions[review_id] = (image["image_id"], said["verdict"])
        return review_id

    def _get(self, name: str, path: str, **parameters) -> httpx.Response:
        answer = self._timed(name, lambda: self.client.get(path, params=parameters))
        answer.raise_for_status()
        return answer

    def _timed(self, name: str, ask) -> httpx.Response:
        begun = time.perf_counter()
        answer = ask()
        seconds = time.perf_counter() - begun
        with self.tally.lock:
            self.tally.seconds[name].append(seconds)
            self.tally.statuses[f"{name} {answer.status_code}"] += 1
            if answer.status_code not in (200, 201, 409):
                self.tally.failures.append(f"{name} {answer.status_code}: {answer.text[:200]}")
        return answer


def verdict(
    reviewers: int, minutes: float, on_postgresql: bool, tally: Tally, sizes: list[tuple[float, float]], log: Path
) -> dict:
    """What was told beside what is stored."""
    with session_scope(settings().database_url) as session:
        stored = {
            review_id: (image, verdict.value)
            for review_id, image, verdict in session.execute(select(Review.id, Review.image_fk, Review.verdict))
        }
        uneven = session.scalars(
            select(Review.image_fk).group_by(Review.image_fk).having(func.max(Review.revision) != func.count(Review.id))
        ).all()
        unread = session.scalar(select(func.count(Image.id)).where(Image.id.not_in(select(Prediction.image_fk))))
    verify = [sys.executable, "-m", "engine.cli", "audit", "verify", "--json"]
    chain = subprocess.run(verify, cwd=PROJECT_DIR, capture_output=True, text=True)
    settled = [size for at, size in sizes if at >= min(SETTLED_S, sizes[-1][0] / 3)]
    tenth = max(1, len(settled) // 10)
    locked = log.read_text(errors="replace").count("database is locked")
    result = {
        "reviewers": reviewers,
        "minutes": minutes,
        "database": "postgresql" if on_postgresql else "sqlite",
        "processors": os.cpu_count(),
        "answers": dict(sorted(tally.statuses.items())),
        "seconds": {name: quantiles(times) for name, times in sorted(tally.seconds.items())},
        "decisions_told": len(tally.decisions),
        "decisions_stored": len(stored),
        "lost_or_changed": sum(stored.get(review) != told for review, told in tally.decisions.items()),
        "not_told": len(set(stored) - set(tally.decisions)),
        "images_with_a_gap": len(uneven),
        "unread": unread,
        "failures": Counter(failure[:160] for failure in tally.failures).most_common(5),
        "database_is_locked_in_log": locked,
        "audit_chain": json.loads(chain.stdout) if chain.returncode == 0 else chain.stdout[-500:] + chain.stderr[-500:],
        "memory_mb": {
            "settled": round(sum(settled[:tenth]) / tenth),
            "end": round(sum(settled[-tenth:]) / tenth),
            "every_minute": [round(size) for _, size in sizes[::12]],
        },
    }
    result["is_well"] = (
        result["lost_or_changed"] == result["not_told"] == result["images_with_a_gap"] == locked == 0
        and not tally.failures
        and chain.returncode == 0
        and Verdict.CONFIRMED.value in {told for _, told in tally.decisions.values()}
    )
    return result


def quantiles(times: list[float]) -> dict[str, float]:
    times = sorted(times)
    return {
        "median": round(times[len(times) // 2], 3),
        "p95": round(times[int(0.95 * (len(times) - 1))], 3),
        "longest": round(times[-1], 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviewers", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--postgresql", action="store_true")
    given = parser.parse_args()
    found = main(given.reviewers, given.minutes, given.postgresql)
    print(json.dumps(found, indent=2))
    sys.exit(0 if found["is_well"] else 1)
