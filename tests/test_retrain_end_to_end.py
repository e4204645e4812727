"""One click, in a real browser: a demo workstation with 300 corrections of another hospital's films, retrained, signed
for, and reading that hospital's films better. Slow: about a quarter of an hour on two cores.

PEDISCREEN_SCREENSHOTS=docs/screenshots keeps the pictures of the pages."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import func, select

from db import migrate
from db.models import Prediction, RetrainRun, RetrainState, RetrainStep
from db.session import engine_for, session_scope
from engine.annotations import TASK_FOLDERS, annotations_file_name
from engine.errors import Conflict
from engine.findings.answers import TASK_OF_VIEW, Task, View
from engine.imaging.preprocess import stored_model_image
from engine.inference.checkpoint import load_reader
from engine.inference.read import ReadContext
from engine.jobs.retrain import Retraining
from engine.phantoms import seeds
from engine.phantoms.draw import DRAW
from engine.phantoms.write import make_phantoms
from engine.promotion_gate import error_of
from engine.services import ingest, registry, retrain
from engine.services.accounts import demo_admin, service_actor
from engine.services.retrain_run import run_folder
from engine.settings import PROJECT_DIR, settings
from tests.pediscreen_up import pediscreen_up
from tests.site_b import correct_films

CORRECTIONS = 300
NEW_FILMS = 120  # a task, that nothing was trained, chosen or tested on
NEW_SEED = seeds.TEST + 80_000_000
AT_MOST_MINUTES = 12
LESS_ERROR = 0.30

ADMIN = demo_admin()


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """PEDISCREEN_RETRAIN_DATA keeps the folder, and takes one up that was filled before."""
    folder = Path(os.environ.get("PEDISCREEN_RETRAIN_DATA", tmp_path / "data"))
    monkeypatch.setenv("PEDISCREEN_DATA_DIR", str(folder))
    for name in ("PEDISCREEN_DATABASE_URL", "PEDISCREEN_JOBS_URL", "PEDISCREEN_MODEL", "LORA_ADAPTER_PATH"):
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    yield folder
    engine_for(settings().database_url).dispose()
    settings.cache_clear()


@pytest.fixture
def corrected(data_dir: Path, tmp_path: Path) -> None:
    """The demo database, and what a reader corrected on films of site B."""
    done = data_dir / "corrected"
    if done.exists():
        return
    for command in ("db upgrade", "demo"):
        subprocess.run([sys.executable, "-m", "engine.cli", *command.split()], cwd=PROJECT_DIR, check=True)
    reader = load_reader("phantom", None)
    decided = correct_films(settings().database_url, tmp_path / "sent", reader, CORRECTIONS)
    print(decided)
    assert decided.corrected == CORRECTIONS
    done.touch()


@pytest.fixture
def workstation(corrected: None, data_dir: Path) -> Iterator[str]:
    with pediscreen_up(os.environ, ends_within_s=60) as address:
        yield address


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_corrections_of_another_hospital_become_a_better_model(workstation: str, browser: Browser, tmp_path: Path):
    expect.set_options(timeout=60_000)
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page, other_tab = context.new_page(), context.new_page()
    for tab in (page, other_tab):
        tab.goto(f"{workstation}/retrain")
        expect(tab.get_by_text("What would be learnt from")).to_be_visible()
    take(page, "retrain")

    began = time.monotonic()
    for tab in (page, other_tab):
        tab.get_by_role("button", name="Retrain", exact=True).click()
        expect(tab.get_by_role("button", name="Cancel")).to_be_visible()
    assert runs_started() == 1, "two tabs, one job"

    expect(page.get_by_text(re.compile(r"^Train: [1-9]"))).to_be_visible(timeout=1_800_000)
    a_film_is_read_meanwhile(tmp_path)
    page.bring_to_front()
    wait_for_half_the_training(page)
    take(page, "retrain-running")

    sign = page.get_by_role("button", name=re.compile("^Sign and put .* in use$"))
    ended = page.get_by_text(re.compile(r"^Run \d+, (failed|held|cancelled):"))
    expect(sign.or_(ended).first).to_be_visible(timeout=3 * AT_MOST_MINUTES * 60_000)
    minutes = (time.monotonic() - began) / 60
    print(f"from the click to the verdict: {minutes:.1f} min of at most {AT_MOST_MINUTES}")
    assert sign.is_visible(), message_of_the_run()
    take(page, "retrain-verdict")
    page.get_by_label(re.compile("^Why is the change right")).fill("Fewer errors at site B, the others as before.")
    page.get_by_label(re.compile("^Why is the change right")).blur()
    sign.scroll_into_view_if_needed()
    take(page, "retrain-signature")
    sign.click()
    expect(page.get_by_text(re.compile(r"^Run \d+, promoted"))).to_be_visible()
    expect(page.get_by_role("button", name="Change record as PDF")).to_be_visible()
    take(page, "retrain-promoted")

    with session_scope(settings().database_url) as session:
        deployed = registry.in_use(session, ADMIN)
    assert deployed is not None
    a_new_film_is_read_by(deployed.name, tmp_path)
    context.close()

    before, after = load_reader("phantom", None), load_reader(str(deployed.folder), None)
    changes = {}
    for view in (View.HAND, View.WRIST):
        was, now = mean_error(before, view), mean_error(after, view)
        changes[view] = 1 - now / was
        unit = "months" if view is View.HAND else "wrong"
        print(f"new {view} films of site B: {was:.3f} to {now:.3f} {unit}, {changes[view]:.0%} less")
    assert minutes <= AT_MOST_MINUTES
    assert all(change >= LESS_ERROR for change in changes.values()), changes


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_candidate_taught_shuffled_labels_is_held(data_dir: Path, tmp_path: Path):
    """It learns from answers that belong to other films, and is compared on films with their own."""
    migrate.upgrade(settings().database_url)
    correct_films(settings().database_url, tmp_path, load_reader("phantom", None), 130, views=("hand",))
    with session_scope(settings().database_url) as session:
        run_id = retrain.start(session, ADMIN)
    retraining = Retraining(settings().database_url, threading.Event())
    retraining.perform(run_id, RetrainStep.SNAPSHOT)
    with shuffled(run_folder(run_id) / "dataset" / TASK_FOLDERS[Task.BONE_AGE]):
        retraining.perform(run_id, RetrainStep.TRAIN)
    for step in (RetrainStep.MERGE, RetrainStep.EVALUATE, RetrainStep.GATE):
        retraining.perform(run_id, step)
    retraining.tidy(run_id)
    with session_scope(settings().database_url) as session:
        run = retrain.run(session, ADMIN, run_id)
        assert run.state is RetrainState.HELD, run.message
        print(run.message)
        assert re.search("Worse: bone age, [^:]*: the error rose", run.message)
        assert run.change_record is not None and "the error rose" in run.change_record.read_text()
        assert registry.in_use(session, ADMIN) is None
        with pytest.raises(Conflict):
            retrain.sign(session, ADMIN, run_id, "all the same")


@contextmanager
def shuffled(task_folder: Path) -> Iterator[None]:
    """The corrected films of the folder that are trained and chosen on have each other's bone ages meanwhile."""
    rng = random.Random(3)
    files = [task_folder / annotations_file_name(split) for split in ("train", "val")]
    before = [file.read_text() for file in files]
    for file, text in zip(files, before, strict=True):
        records = json.loads(text)
        new = [record for record in records if not record.get("replay")]
        months = [record["bone_age_months"] for record in new]
        rng.shuffle(months)
        for record, other in zip(new, months, strict=True):
            record["bone_age_months"] = other
        file.write_text(json.dumps(records))
    yield
    for file, text in zip(files, before, strict=True):
        file.write_text(text)


def runs_started() -> int:
    with session_scope(settings().database_url) as session:
        return session.scalar(select(func.count(RetrainRun.id)).where(RetrainRun.state != RetrainState.FAILED))


def message_of_the_run() -> str:
    with session_scope(settings().database_url) as session:
        run = retrain.current(session, ADMIN)
        return f"{run.state}: {run.message}\n{run.log_tail}"


def a_film_is_read_meanwhile(folder: Path) -> None:
    reads_within(folder, 61, 120)


def a_new_film_is_read_by(model: str, folder: Path) -> None:
    deadline = time.monotonic() + 60
    while (read_by := reads_within(folder, int(time.monotonic()) % 900 + 62, 120)) != model:
        assert time.monotonic() < deadline, f"read by {read_by}"


def reads_within(folder: Path, seed: int, seconds: float) -> str:
    """A wrist goes in; returns the model that has read it."""
    (made,) = make_phantoms(folder / f"in-{seed}", "wrist", 1, seed, site="B")
    with session_scope(settings().database_url) as session:
        taken = ingest.ingest_file(session, service_actor("test"), made.path, made.path.name)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with session_scope(settings().database_url) as session:
            read = session.scalar(select(Prediction).where(Prediction.image_fk == taken.image_id))
            if read is not None:
                session.refresh(read, ["model_version"])
                return read.model_version.name
        time.sleep(0.3)
    raise AssertionError(f"the film was not read within {seconds} s")


def wait_for_half_the_training(page: Page) -> None:
    """There is a curve to see then; should training end first, so be it."""
    merging = r"Merge into a 4-bit model$|Compare with the model in use:"
    half = page.get_by_text(re.compile(rf"^(Train: (7[5-9]|[89]\d)|{merging})"))
    expect(half.first).to_be_visible(timeout=1_800_000)


def mean_error(reader, view: View) -> float:
    """As the gate counts it: a film without a read is an error too."""
    task = Task(TASK_OF_VIEW[view])
    errors = []
    for start in range(0, NEW_FILMS, 16):
        drawn = [DRAW[view](NEW_SEED + n, site="B") for n in range(start, min(start + 16, NEW_FILMS))]
        shown = [stored_model_image(phantom.film()).convert("RGB") for phantom in drawn]
        contexts = [ReadContext(sex=phantom.sex, age_months=phantom.age_months) for phantom in drawn]
        reads = reader.read(shown, task, contexts)
        errors += [error_of(phantom.answer, read.answer) for phantom, read in zip(drawn, reads, strict=True)]
    return sum(errors) / len(errors)


def take(page: Page, name: str) -> None:
    folder = os.environ.get("PEDISCREEN_SCREENSHOTS")
    if not folder:
        return
    page.mouse.move(5, 895)
    page.wait_for_timeout(2500)  # charts come to rest
    page.screenshot(path=Path(folder) / f"{name}.png")
