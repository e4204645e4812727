"""How long the WHO dashboard takes with the visits of 100,000 children.

    python -m tests.benchmarks.growth_dashboard [DATABASE_URL]
    python -m tests.benchmarks.growth_dashboard --on-screen DATABASE_URL     after the first: in a browser

Children of both sexes from birth to 19 years with one to four visits each, and decided bone-age films for every third.
Prints one JSON line a question: median and slowest milliseconds of ten, each with a session of its own. Without a URL
on a fresh SQLite file; a database that is named must be empty or hold an earlier run's children. On screen: from the
click on a view to its last chart or table drawn, in Chromium, median and slowest of five, and the first time of a
browser, whose code of the view is loaded then."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import sync_playwright
from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from db import migrate
from db.models import (
    GrowthVisit,
    Image,
    Patient,
    Review,
    Role,
    Sex,
    Study,
    StudyStatus,
    Task,
    TaskSource,
    UserAccount,
    Verdict,
    VisitSource,
)
from db.session import session_scope
from db.types import utc_now
from engine.findings import who_tables
from engine.findings.growth import DAYS_PER_MONTH, Indicator, growth_scores, measurement_at, median_for_age
from engine.services import growth_population
from engine.services.accounts import demo_reader
from engine.services.growth_population import PopulationFilter
from engine.settings import PROJECT_DIR
from tests.conftest import CHROMIUM, CHROMIUM_FLAGS
from tests.pediscreen_up import free_port

CHILDREN, TIMES = 100_000, 10
READER = demo_reader()
CLICKS = 5
# the last thing that each view draws
DRAWN = {
    "All children": ".js-plotly-plot .main-svg .barlayer path",
    "Bone age and height": ".js-plotly-plot .main-svg .scatterlayer path.js-line",
    "Supplied z-scores": "table.outcomes td",
}
GIRLS = PopulationFilter(sex="F", age_months=(60, 120), sites=("A", "B"))
QUESTIONS: dict[str, Callable[[Session], object]] = {
    "what is here": lambda session: growth_population.what_is_here(session, READER),
    "distributions": lambda session: growth_population.distributions(session, READER, PopulationFilter()),
    "distributions, three filters": lambda session: growth_population.distributions(session, READER, GIRLS),
    "bone age and height": lambda session: growth_population.bone_age_and_height(session, READER, PopulationFilter()),
    "supplied z-scores": lambda session: growth_population.supplied_agreement(session, READER, PopulationFilter()),
}
LAST_DAY = date(2026, 6, 30)
SITES = ("A", "B", "C", None)
AT_ONCE = 20_000


def fill(session: Session, children: int = CHILDREN, seed: int = 7) -> None:
    """Every child has a height z of its own, about which its visits scatter; bone age follows height a little."""
    rng = np.random.default_rng(seed)
    sexes = rng.choice(["M", "F"], children)
    last_age_days = rng.integers(1, 6900, children)
    own_z = rng.normal(-0.1, 1.05, children)
    _insert(
        session,
        Patient,
        (
            {
                "id": number + 1,
                "pseudonym": f"P-{number:06}",
                "patient_id": f"BENCH-{number:06}",
                "issuer": "",
                "sex": Sex(sexes[number]),
                "birth_date": LAST_DAY - timedelta(days=int(last_age_days[number])),
                "created_at": utc_now(),
            }
            for number in range(children)
        ),
    )
    visits_each = rng.integers(1, 5, children)
    child = np.repeat(np.arange(children), visits_each)
    age_days = np.floor(last_age_days[child] * rng.uniform(0.05, 1.0, len(child))).astype(int)
    child, age_days = np.unique(np.stack([child, age_days]), axis=1)
    sex = sexes[child]
    z = own_z[child] + rng.normal(0, 0.25, len(child))
    height = _height(sex, age_days, z)
    median_weight = median_for_age(Indicator.BMI, sex, age_days=age_days) * (height / 100) ** 2
    weight = np.round(median_weight * np.exp(rng.normal(0, 0.12, len(child))), 2)
    head = np.where(
        rng.random(len(child)) < 0.5, median_for_age(Indicator.HEAD, sex, age_days=age_days), np.nan
    ) * np.exp(rng.normal(0, 0.03, len(child)))
    scores = growth_scores(
        sex, age_days=age_days, weight_kg=weight, length_height_cm=height, head_circumference_cm=head
    )
    stored = {i: scores.z[i].tolist() for i in (Indicator.HEIGHT, Indicator.WEIGHT, Indicator.BMI, Indicator.HEAD)}
    site = rng.integers(0, len(SITES), children)
    ages, heads = age_days.tolist(), head.tolist()
    _insert(
        session,
        GrowthVisit,
        (
            {
                "patient_fk": number + 1,
                "measured_on": LAST_DAY - timedelta(days=int(last_age_days[number]) - ages[row]),
                "length_height_cm": float(height[row]),
                "weight_kg": float(weight[row]),
                "head_circumference_cm": _known(heads[row]),
                "oedema": False,
                "site": SITES[site[number]],
                "age_months": ages[row] / DAYS_PER_MONTH,
                **{f"{indicator}_z": _known(values[row]) for indicator, values in stored.items()},
                **{
                    f"supplied_{indicator}_z": None if row % 2 else _rounded(values[row])
                    for indicator, values in stored.items()
                },
                "doubts": [],
                "source": VisitSource.FILE,
                "is_phantom": False,
                "entered_by": "bench",
                "entered_at": utc_now(),
            }
            for row, number in enumerate(child.tolist())
        ),
    )
    _films(session, rng, child, ages, sexes, last_age_days, own_z)
    session.commit()


def _films(session, rng, child, ages, sexes, last_age_days, own_z) -> None:
    """A decided bone-age film within two months of the last visit of every third child from two years on."""
    last_row = {number: row for row, number in enumerate(child.tolist())}
    chosen = [(number, ages[row]) for number, row in last_row.items() if number % 3 == 0 and ages[row] > 730]
    session.add(UserAccount(id=1, username="bench", display_name="bench", role=Role.READER, pseudonym="R-BENCH"))
    session.flush()
    studies, images, reviews = [], [], []
    for key, (number, days) in enumerate(chosen, start=1):
        age_months = days / DAYS_PER_MONTH
        bone_age = int(np.clip(age_months + 4 * own_z[number] + rng.normal(0, 9), 12, 216))
        studies.append(
            {
                "id": key,
                "study_instance_uid": f"1.2.{key}",
                "patient_fk": number + 1,
                "acquired_on": LAST_DAY - timedelta(days=int(last_age_days[number]) - days),
                "received_at": utc_now(),
                "task": Task.BONE_AGE,
                "task_source": TaskSource.TAGS,
                "status": StudyStatus.REVIEWED,
                "age_months": age_months,
                "warnings": [],
                "is_phantom": False,
            }
        )
        images.append(
            {
                "id": key,
                "study_fk": key,
                "file_sha256": f"{key:064}",
                "pixel_sha256": f"{key:064}",
                "source_format": "png",
                "rows": 9,
                "cols": 9,
            }
        )
        reviews.append(
            {
                "id": key,
                "image_fk": key,
                "revision": 1,
                "reader_fk": 1,
                "verdict": Verdict.CONFIRMED,
                "answer": {"task": "bone_age", "bone_age_months": bone_age},
                "details": {},
                "created_at": utc_now(),
            }
        )
    for model, rows in ((Study, studies), (Image, images), (Review, reviews)):
        _insert(session, model, rows)


def _height(sex: np.ndarray, age_days: np.ndarray, z: np.ndarray) -> np.ndarray:
    months = age_days / DAYS_PER_MONTH
    row = np.where(sex == "M", 0, 1)
    lms = np.empty((len(sex), 3))
    young = months < who_tables.FIRST_MONTH
    lms[young] = who_tables.by_day("height_for_age")[row[young], age_days[young]]
    month = np.clip(np.round(months[~young]).astype(int), 60, 228) - who_tables.FIRST_MONTH
    lms[~young] = who_tables.by_month("height_for_age")[row[~young], month]
    return np.array(
        [round(float(measurement_at(one, lms[i : i + 1], restricted=False)[0]), 1) for i, one in enumerate(z)]
    )


def _insert(session: Session, model: type, rows) -> None:
    batch = []
    for row in rows:
        batch.append(row)
        if len(batch) == AT_ONCE:
            session.execute(insert(model), batch)
            batch = []
    if batch:
        session.execute(insert(model), batch)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(value, 2)


def main(url: str) -> None:
    migrate.upgrade(url)
    with session_scope(url) as session:
        if not growth_population.what_is_here(session, READER).sites:
            fill(session)
            session.execute(text("ANALYZE"))
            session.commit()
    for question, ask in QUESTIONS.items():
        milliseconds = []
        for _ in range(TIMES):
            with session_scope(url) as session:
                start = time.perf_counter()
                ask(session)
                milliseconds.append((time.perf_counter() - start) * 1000)
        _print(question, milliseconds)


def on_screen(url: str) -> None:
    address = f"http://127.0.0.1:{(port := free_port())}"
    environment = os.environ | {"PEDISCREEN_DATABASE_URL": url, "PEDISCREEN_PORT": str(port)}
    server = subprocess.Popen([sys.executable, "-m", "ui.serve"], cwd=PROJECT_DIR, env=environment)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(CHROMIUM_FLAGS))
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(30_000)
            while True:
                try:
                    page.goto(f"{address}/growth?view=file")
                    break
                except PlaywrightError:  # not started yet
                    time.sleep(0.2)
            milliseconds: dict[str, list[float]] = {view: [] for view in DRAWN}
            for _ in range(CLICKS + 1):
                for view, drawn in DRAWN.items():
                    page.get_by_role("radio", name="From a file").click()
                    page.locator("[data-testid=stFileUploaderDropzone]").wait_for()
                    start = time.perf_counter()
                    page.get_by_role("radio", name=view, exact=True).click()
                    page.locator(drawn).last.wait_for(state="attached")
                    milliseconds[view].append((time.perf_counter() - start) * 1000)
            for view, measured in milliseconds.items():
                _print(f"on screen: {view}", measured[1:], first_ms=round(measured[0]))
            browser.close()
    finally:
        server.terminate()
        server.wait(15)


def _print(question: str, milliseconds: list[float], **more: int) -> None:
    figures = {"median_ms": round(statistics.median(milliseconds)), "max_ms": round(max(milliseconds))}
    load = round(os.getloadavg()[0], 1)
    print(json.dumps({"question": question, **figures, **more, "load": load}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--on-screen"]:
        on_screen(sys.argv[2])
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{folder}/growth.sqlite")
