"""How long the database takes for the worklist of 10,000 studies.   python -m tests.benchmarks.worklist [DATABASE_URL]

Prints one JSON line a question: median and slowest milliseconds of 20, each with a session of its own. Without a URL
on a fresh SQLite file; a database that is named must be empty or hold an earlier run's studies."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

from sqlalchemy.orm import Session

from db import migrate
from db.models import StudyStatus
from db.session import session_scope
from engine.findings.answers import Task
from engine.services import worklist
from engine.services.accounts import demo_reader
from engine.services.worklist import Sort, WorklistFilter
from tests.engine.services.test_worklist import fill

STUDIES, TIMES = 10_000, 20
OPEN = (StudyStatus.AWAITING_REVIEW,)
READER = demo_reader()


def page(filter: WorklistFilter, number: int = 1) -> Callable[[Session], object]:
    return lambda session: worklist.worklist_page(session, READER, filter, number)


QUESTIONS: dict[str, Callable[[Session], object]] = {
    **{f"first page by {sort}": page(WorklistFilter(sort=sort)) for sort in Sort},
    "first page, awaiting review": page(WorklistFilter(statuses=OPEN)),
    "page 100": page(WorklistFilter(), 100),
    "four filters": page(WorklistFilter(statuses=OPEN, tasks=(Task.ROP,), sites=("A",), age_months_range=(20, 100))),
    "search by patient ID": page(WorklistFilter(search="ID01234")),
    "next case": lambda session: worklist.next_study(session, READER, WorklistFilter(statuses=OPEN), STUDIES // 2),
    "overview": lambda session: worklist.overview(session, READER),
}


def main(url: str) -> None:
    migrate.upgrade(url)
    with session_scope(url) as session:
        if worklist.overview(session, READER).total == 0:
            fill(session, STUDIES)
    for question, ask in QUESTIONS.items():
        milliseconds = []
        for _ in range(TIMES):
            with session_scope(url) as session:
                start = time.perf_counter()
                ask(session)
                milliseconds.append((time.perf_counter() - start) * 1000)
        figures = {"median_ms": round(statistics.median(milliseconds), 1), "max_ms": round(max(milliseconds), 1)}
        print(json.dumps({"question": question, **figures}))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/worklist.sqlite")
