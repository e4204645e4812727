"""After the kills: does the database hold what was answered, once, and nothing that nobody asked for? By plain SQL."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from db.session import engine_for
from engine.annotations import SPLITS, TASK_FOLDERS, annotations_file_name
from engine.settings import PROJECT_DIR

if TYPE_CHECKING:
    from tests.benchmarks.kills_clients import Film, Ledger


def rows(url: str, sql: str, **values: Any) -> list[Any]:
    with engine_for(url).connect() as connection:
        return list(connection.execute(text(sql), values))


def violations(url: str, data_dir: Path, ledger: Ledger) -> list[str]:
    return [
        *ledger.problems,
        *films(url, data_dir, ledger.films),
        *reviews(url, ledger),
        *reads(url),
        *retrains(url),
        *audit(),
    ]


def films(url: str, data_dir: Path, sent: list[Film]) -> list[str]:
    """Each on the worklist or in quarantine, exactly once, with its file; and nothing that nobody sent."""
    found = []
    on_worklist: dict[str, list[Any]] = defaultdict(list)
    for row in rows(url, "SELECT id, study_fk, sop_instance_uid, file_sha256 FROM image"):
        on_worklist[row.sop_instance_uid].append(row)
    in_quarantine = Counter(row[0] for row in rows(url, "SELECT file_sha256 FROM quarantine"))
    for film in sent:
        sha256 = hashlib.sha256(film.path.read_bytes()).hexdigest()
        images = on_worklist.pop(film.sop_instance_uid, []) if film.sop_instance_uid else []
        times = len(images) + in_quarantine.pop(sha256, 0)
        if times != 1 and (film.answers or film.by_storescu or times):
            found.append(f"{film.path.name}, {len(film.answers)} answers, is here {times} times")
            continue
        for answer in film.answers:
            if answer["outcome"] != "quarantined" and [answer["image_id"]] != [image.id for image in images]:
                found.append(f"{film.path.name}: answered as image {answer['image_id']}, and is {images}")
            if answer["outcome"] == "quarantined" and images:
                found.append(f"{film.path.name}: answered as quarantined, and is {images}")
        here = images[0].file_sha256 if images else sha256
        place = data_dir / ("files" if images else "quarantine") / (here[:2] if images else "") / here
        if times and (not place.is_file() or hashlib.sha256(place.read_bytes()).hexdigest() != here):
            found.append(f"{film.path.name}: its file {place} is not there, or is another one")
    found += [f"nobody sent image {images}" for images in on_worklist.values()]
    found += [f"nobody sent {sha256}, which is in quarantine" for sha256 in in_quarantine]
    lone = rows(url, "SELECT id FROM study WHERE id NOT IN (SELECT study_fk FROM image)")
    return found + [f"study {row.id} has no image" for row in lone]


def reviews(url: str, ledger: Ledger) -> list[str]:
    """What was answered with success is stored as it was sent, once, with one audit row; nothing else is stored."""
    found = []
    stored = rows(
        url,
        "SELECT review.id, image_fk, revision, supersedes_id, verdict, answer, comment, user_account.username AS reader"
        " FROM review JOIN user_account ON user_account.id = reader_fk ORDER BY image_fk, revision",
    )
    by_mark = defaultdict(list)
    by_superseded = {row.supersedes_id: row for row in stored if row.verdict == "withdrawn"}
    for row in stored:
        if row.verdict != "withdrawn":
            by_mark[row.comment].append(row)
    for wanted in ledger.decisions:
        here = by_mark.pop(wanted.mark, [])
        if wanted.review_id is not None and [row.id for row in here] != [wanted.review_id]:
            found.append(f"review {wanted.review_id} of image {wanted.image_id} was answered; stored: {here}")
        elif len(here) > 1:
            found.append(f"one decision of image {wanted.image_id} was stored as {here}")
        elif here and wanted.review_id is None and not wanted.unanswered:
            found.append(f"a decision of image {wanted.image_id} was refused ({wanted.refused}) and stored: {here}")
        for row in here:
            answer = json.loads(row.answer) if isinstance(row.answer, str) else row.answer
            answer = answer if wanted.verdict == "corrected" else None
            said = (row.image_fk, row.reader, row.verdict, row.supersedes_id, answer)
            asked = (wanted.image_id, wanted.reader, wanted.verdict, wanted.seen_review_id, wanted.answer)
            if said != asked:
                found.append(f"review {row.id} is {said}, and was signed as {asked}")
    found += [f"nobody signed {here}" for here in by_mark.values()]
    for wanted in ledger.withdrawals:
        here = by_superseded.pop(wanted.review_id, None)
        if wanted.withdrawn_by is not None and (here is None or here.id != wanted.withdrawn_by):
            found.append(f"the withdrawal of review {wanted.review_id} was answered; stored: {here}")
        elif here is not None and wanted.withdrawn_by is None and not wanted.unanswered:
            found.append(f"the withdrawal of review {wanted.review_id} was refused and stored")
    found += [f"nobody withdrew a decision as {here}" for here in by_superseded.values()]
    previous: Any = None
    for row in stored:
        follows = previous if previous is not None and previous.image_fk == row.image_fk else None
        if (row.revision, row.supersedes_id) != ((follows.revision + 1, follows.id) if follows else (1, None)):
            found.append(f"review {row.id} of image {row.image_fk} does not follow {follows}")
        previous = row
    events = rows(url, "SELECT action, detail FROM audit_event WHERE action IN ('review.recorded', 'review.withdrawn')")
    audited = Counter()
    for event in events:
        detail = json.loads(event.detail) if isinstance(event.detail, str) else event.detail
        audited[event.action, detail["review"]] += 1
    expected = Counter(
        ("review.withdrawn", row.supersedes_id) if row.verdict == "withdrawn" else ("review.recorded", row.id)
        for row in stored
    )
    if audited != expected:
        found.append(f"audit rows and reviews differ: {audited - expected} and {expected - audited}")
    return found


def reads(url: str) -> list[str]:
    """Each image once in each round that it was read in, and none is left unread."""
    twice = rows(
        url,
        "SELECT image_fk, read_round, count(*) AS times FROM prediction GROUP BY image_fk, read_round"
        " HAVING count(*) > 1",
    )
    unread = rows(
        url,
        "SELECT id, read_state, read_blocked_reason FROM image WHERE read_state <> 'done' OR NOT EXISTS (SELECT 1"
        " FROM prediction WHERE image_fk = image.id AND prediction.read_round = image.read_round)",
    )
    return [f"image {row.image_fk} has {row.times} reads of round {row.read_round}" for row in twice] + [
        f"image {row.id} has no read: {row.read_state}, {row.read_blocked_reason}" for row in unread
    ]


def retrains(url: str) -> list[str]:
    """Every run awaits a signature or is held; each has at most one candidate, and it is the run's."""
    bad = rows(url, "SELECT id, state, message FROM retrain_run WHERE state NOT IN ('awaiting_signature', 'held')")
    runs = rows(url, "SELECT count(*) AS runs, count(candidate_fk) AS candidates FROM retrain_run")[0]
    models = rows(url, "SELECT count(*) FROM model_version WHERE folder IS NOT NULL")[0][0]
    found = [f"retraining {row.id} ended {row.state}: {row.message}" for row in bad]
    if models != runs.candidates:
        found.append(f"{models} candidates of {runs.candidates} runs that have one")
    if not runs.runs:
        found.append("no retraining was started")
    return found


def audit() -> list[str]:
    """`pediscreen audit verify --files`: the chain, the rows it speaks of, and every film that is stored."""
    command = [sys.executable, "-m", "engine.cli", "audit", "verify", "--files", "--json"]
    done = subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True, check=False)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        return [f"audit verify: exit status {done.returncode}: {done.stderr[-1000:]}"]
    return [f"audit: {problem}" for problem in (*said["problems"], *said["file_problems"])]


def integrity(data_dir: Path) -> dict[str, str]:
    """SQLite's own check of every database in the data folder."""
    found = {}
    for path in sorted(data_dir.glob("*.sqlite")):
        connection = sqlite3.connect(path)
        found[path.name] = ", ".join(row[0] for row in connection.execute("PRAGMA integrity_check"))
        connection.close()
    return found


def trouble_with_export(out: Path, *, must_be_there: bool) -> str | None:
    """None where it is whole, or (unless it must be there) not there at all."""
    if not out.exists():
        return "it was answered with success and is not there" if must_be_there else None
    try:
        about = json.loads((out / "export.json").read_text())
        json.loads((out / "reader_reads.json").read_text())
        records = [
            (folder, record)
            for folder in TASK_FOLDERS.values()
            for split in SPLITS
            for record in json.loads((out / folder / annotations_file_name(split)).read_text())
        ]
    except (OSError, ValueError) as error:
        return f"{out.name} is not whole: {error}"
    if len(records) != about["images"]:
        return f"{out.name} says {about['images']} images and has {len(records)}"
    missing = [record for folder, record in records if not _is_whole_png(out / folder / record["image_path"])]
    return f"{out.name}: {len(missing)} images are not whole" if missing else None


def _is_whole_png(path: Path) -> bool:
    return path.is_file() and path.read_bytes().endswith(b"IEND\xaeB`\x82")
