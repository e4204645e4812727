"""Every dashboard over 100,000 reviewed studies, on SQLite and PostgreSQL.   python -m tests.benchmarks.dashboards

Prints one JSON line a dashboard and database. `figures_ms`: the median and the slowest of 5 askings of the service;
`cpu_ms`: the median of their processor time, which a busy machine changes less. `on_screen_ms`: in a browser, from the
click that chooses the dashboard to its last chart drawn, the best of --rounds; "the first one" is the click in the
worklist that opens the dashboards, in a browser that has drawn no chart yet. `first_ms`: the address typed in a browser
that has never been here, so that the app itself is fetched, too. Generating
takes minutes: --studies says how many, --sqlite FILE keeps and reuses that database, --postgresql URL one of a server's
(else a server of the benchmark's own is started), --only sqlite leaves PostgreSQL out."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from sqlalchemy import select
from sqlalchemy.orm import Session

from db import migrate
from db.models import ModelVersion
from db.session import session_scope
from engine.dashboard_sheet import Sheet
from engine.findings.answers import Task
from engine.services import figures
from engine.services.accounts import demo_admin
from engine.services.figure_filters import FigureFilter
from engine.settings import PROJECT_DIR
from tests.benchmarks.reviewed_studies import IN_USE, NOW, SHADOW, generate
from tests.conftest import CHROMIUM, CHROMIUM_FLAGS
from tests.pediscreen_up import free_port
from tests.postgresql import private_server

TIMES = 5
POLLED_MS = 30  # at every frame, as Playwright does by itself, looking takes part of what is measured
AT_REST_MS = 5000  # what a page fetches ahead is there by then
ADMIN = demo_admin()
Ask = Callable[[Session], Sheet]


def model(task: Task, field: str | None = None, **more) -> Ask:
    return lambda session: figures.model_sheet(session, ADMIN, FigureFilter(task=task, **more), field)


def readers(task: Task) -> Ask:
    return lambda session: figures.reader_sheet(session, ADMIN, FigureFilter(task=task))


QUESTIONS: dict[str, Ask] = {
    "model, bone age": model(Task.BONE_AGE),
    "model, bone age, two versions": model(Task.BONE_AGE, version_id=IN_USE, other_version_id=SHADOW),
    "model, ROP, zone": model(Task.ROP, "zone"),
    "model, ROP, stage": model(Task.ROP, "stage"),
    "model, ROP, plus disease": model(Task.ROP, "plus_disease"),
    "model, ROP, zone, two versions": model(Task.ROP, "zone", version_id=IN_USE, other_version_id=SHADOW),
    "model, fracture": model(Task.FRACTURE),
    "model, bone age, six filters": model(
        Task.BONE_AGE, sites=("North", "South"), sexes=("F",), age_bands=("5-9 y", "10-14 y"), reader_ids=(1, 2, 3)
    ),
    "readers, bone age": readers(Task.BONE_AGE),
    "readers, ROP": readers(Task.ROP),
    "readers, fracture": readers(Task.FRACTURE),
    "operations": lambda session: figures.operation_sheet(session, ADMIN, FigureFilter(all_tasks=True), NOW),
}
# what is clicked, one after the other, and how many charts are there then
CLICKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("model, ROP, zone", ("ROP",)),
    ("model, ROP, stage", ("Stage",)),
    ("model, ROP, plus disease", ("Plus disease",)),
    ("model, fracture", ("Fracture",)),
    ("model, bone age", ("Bone age",)),
    ("readers, bone age", ("Readers",)),
    ("readers, ROP", ("ROP",)),
    ("operations", ("Operations",)),
)
# every chart of the sheet that is shown now has been drawn
DRAWN = """(title) => {
  const heads = [...document.querySelectorAll('.chart-title')];
  const plots = [...document.querySelectorAll('.js-plotly-plot .main-svg')];
  const empty = document.querySelectorAll('.empty.chart').length;
  const of = document.querySelector('.figures-of');
  return of && of.textContent.toLowerCase().includes(title) && heads.length > 3
    && new Set(plots.map(p => p.closest('.js-plotly-plot'))).size + empty >= heads.length
    && document.querySelectorAll('[data-stale="true"]').length === 0;
}"""


def main(studies: int, rounds: int, sqlite_file: Path | None, postgresql: str | None, only: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if only != "postgresql":
            measure("sqlite", f"sqlite:///{sqlite_file or Path(folder) / 'dashboards.sqlite'}", studies, rounds)
        if only != "sqlite":
            with nullcontext(postgresql) if postgresql else private_server() as url:
                measure("postgresql", url, studies, rounds)


def measure(name: str, url: str, studies: int, rounds: int) -> None:
    migrate.upgrade(url)
    with session_scope(url) as session:
        is_filled = session.scalar(select(ModelVersion.id).limit(1)) is not None
    if not is_filled:
        started = time.perf_counter()
        generate(url, studies)
        say(name, "generated", studies=studies, seconds=round(time.perf_counter() - started))
    for question, ask in QUESTIONS.items():
        milliseconds, cpu = [], []
        for _ in range(TIMES):
            with session_scope(url) as session:
                start, used = time.perf_counter(), time.process_time()
                ask(session)
                milliseconds.append(1000 * (time.perf_counter() - start))
                cpu.append(1000 * (time.process_time() - used))
        took = {"median": round(statistics.median(milliseconds)), "slowest": round(max(milliseconds))}
        say(name, question, figures_ms=took, cpu_ms=round(statistics.median(cpu)), load=round(os.getloadavg()[0], 1))
    with server(url) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(CHROMIUM_FLAGS))
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        start = time.perf_counter()
        page.goto(f"{address}/dashboards")
        page.wait_for_function(DRAWN, arg="bone age", timeout=60_000, polling=POLLED_MS)
        say(name, "the page, opened", first_ms=round(1000 * (time.perf_counter() - start)))
        page.close()
        milliseconds: dict[str, list[int]] = {}
        for _ in range(rounds):
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(address)
            page.get_by_text("Dashboards", exact=True).first.wait_for()
            page.wait_for_timeout(AT_REST_MS)
            milliseconds.setdefault("the first one", []).append(on_screen(page, ("Dashboards",), "bone age"))
            for question, clicks in CLICKS:
                page.evaluate("document.querySelectorAll('.figures-of').forEach(e => e.textContent = '')")
                milliseconds.setdefault(question, []).append(on_screen(page, clicks, question.split(", ")[-1]))
            page.close()
        for question, measured in milliseconds.items():
            say(name, question, on_screen_ms={"best": min(measured), "all": measured},
                load=round(os.getloadavg()[0], 1))  # fmt: skip
        browser.close()


def on_screen(page: Page, clicks: tuple[str, ...], shown: str) -> int:
    """Milliseconds from the click until every chart of the sheet is drawn."""
    start = time.perf_counter()
    for name in clicks:
        page.get_by_text(name, exact=True).first.click()
    page.wait_for_function(
        DRAWN, arg={"operations": "task all"}.get(shown, shown).lower(), timeout=60_000, polling=POLLED_MS
    )
    return round(1000 * (time.perf_counter() - start))


@contextmanager
def server(database_url: str) -> Iterator[str]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "PEDISCREEN_DATA_DIR": folder, "PEDISCREEN_DATABASE_URL": database_url, "PEDISCREEN_PORT": str(port),
            "PYTHONPATH": str(PROJECT_DIR),
        }  # fmt: skip
        log = (Path(folder) / "log").open("wb")
        process = subprocess.Popen([sys.executable, "-m", "ui.serve"], env=environment, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
                    break
                except OSError:
                    time.sleep(0.1)
            yield address
        finally:
            process.terminate()
            process.wait(15)
            log.close()


def say(database: str, dashboard: str, **figures_: object) -> None:
    print(json.dumps({"database": database, "dashboard": dashboard, **figures_}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sqlite", type=Path)
    parser.add_argument("--postgresql", metavar="URL")
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    arguments = parser.parse_args()
    main(arguments.studies, arguments.rounds, arguments.sqlite, arguments.postgresql, arguments.only)
