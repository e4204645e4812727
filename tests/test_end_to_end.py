"""The main job in a real browser, with the real web process, worker and model: a DICOM film goes in, is read, the label
is corrected, and the correction comes out as an annotation that training loads."""

import hashlib
import os
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from engine.annotations import SPLITS, annotations_file_name
from engine.phantoms.write import make_phantoms
from tests.pediscreen_up import pediscreen_up
from training import pedirad_loader

LABELS = {"normal": "Normal", "buckle": "Buckle", "distal_radius": "Distal radius"}


@pytest.fixture
def data_folder(tmp_path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def workstation(data_folder, tmp_path):
    """`pediscreen up` without the demo; its address."""
    environment = {**os.environ, "PEDISCREEN_DATA_DIR": str(data_folder)}
    for name in ("PEDISCREEN_DATABASE_URL", "PEDISCREEN_JOBS_URL", "PEDISCREEN_MODEL", "LORA_ADAPTER_PATH"):
        environment.pop(name, None)
    with pediscreen_up(environment) as address:
        yield address


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


@pytest.fixture
def films(tmp_path) -> list[Path]:
    made = make_phantoms(tmp_path / "films", "wrist", 2, seed=5, format="dicom")
    return [phantom.path for phantom in made]


def test_a_film_goes_in_and_its_corrected_label_comes_out(workstation, page: Page, films, data_folder):
    expect.set_options(timeout=60_000)
    upload(page, workstation, films)

    page.locator("tr[data-study]", has_text=films[0].name).click()
    viewer = page.locator("section.viewer")
    expect(viewer).to_have_attribute("data-state", "ready")
    expect(page.get_by_text(re.compile("Read by phantom"))).to_be_visible()
    first_image = viewer.get_attribute("data-image")

    change_the_window(page)

    read = page.locator(".answer").first.inner_text().lower()
    corrected = "buckle" if "buckle" not in read else "distal_radius"
    page.get_by_role("button", name=LABELS[corrected], exact=True).or_(
        page.get_by_role("radio", name=LABELS[corrected], exact=True)
    ).click()
    page.get_by_role("button", name=re.compile("^Correct to .* and next")).click()

    expect(viewer).not_to_have_attribute("data-image", first_image)
    expect(viewer).to_have_attribute("data-state", "ready")
    expect(page.get_by_role("button", name=re.compile("^Confirm and next"))).to_be_visible()

    page.get_by_role("button", name="Demo reader").click()
    page.get_by_role("link", name="Demo admin").click()
    expect(page.get_by_role("button", name="Demo admin")).to_be_visible()
    page.goto(f"{workstation}/export")
    page.get_by_role("button", name="Export 1 study", exact=True).click()
    expect(page.get_by_role("button", name="Download as zip")).to_be_visible()
    expect(page.get_by_text(re.compile("not for diagnostic use")).first).to_be_visible()

    (exported,) = load_everything(data_folder / "exports" / "pedirad-custom")
    assert exported.annotation.answer == {"task": "fracture", "fracture": corrected}
    assert exported.annotation.provenance["verdict"] == "corrected"
    assert exported.annotation.provenance["image_sha256"] == hashlib.sha256(films[0].read_bytes()).hexdigest()
    assert exported.path.is_file()


def upload(page: Page, address: str, films: list[Path]) -> None:
    """By a deep link, the first visit after a start: it has to arrive inside the app all the same."""
    with urllib.request.urlopen(f"{address}/_stcore/health") as answer:
        assert answer.status == 200
    page.goto(f"{address}/upload")
    expect(page.get_by_text("Demo · not for diagnostic use")).to_be_visible()
    page.locator("input[type=file]").set_input_files([str(film) for film in films])
    page.get_by_role("button", name="Add 2 files").click()
    expect(page.locator("tr[data-study]")).to_have_count(2)
    expect(page.get_by_text("On the worklist", exact=True)).to_have_count(2)


def change_the_window(page: Page) -> None:
    """A drag across the film changes window and level, and with them the picture."""
    viewer, canvas = page.locator("section.viewer"), page.locator("canvas.film")
    window, picture = viewer.get_attribute("data-window"), canvas.screenshot()
    box = canvas.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 120, middle[1] + 60, steps=6)
    page.mouse.up()
    expect(viewer).not_to_have_attribute("data-window", window)
    assert canvas.screenshot() != picture


def load_everything(folder: Path) -> list[pedirad_loader.LabelledImage]:
    """A single child's images are all in one split; there is nothing to load from the others."""
    splits = [split for split in SPLITS if list(folder.rglob(annotations_file_name(split)))]
    return [image for split in splits for image in pedirad_loader.load_split(folder, split)]
