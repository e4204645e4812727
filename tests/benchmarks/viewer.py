"""The viewer in a browser, on 16-bit films of 2048 x 2500.   python -m tests.benchmarks.viewer [FOLDER]

Starts the web process on films and reads made here, opens the first case in Chromium, and prints one JSON line each:
first page; grey levels read back from the canvas against `pediscreen render` and dcmtk; window and level by drag, in
frames a second; and the time from a decision by key to the next film on screen. FOLDER is made on the first run and
used again, so that only the measuring is timed on the next."""

from __future__ import annotations

import base64
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from db import migrate
from db.session import engine_for, session_scope
from engine.settings import PROJECT_DIR, settings
from tests.conftest import CHROMIUM, CHROMIUM_FLAGS
from tests.engine.imaging.dicom_conformance import run_dcmtk
from tests.pediscreen_up import free_port
from tests.workstation import case_adder, film_pixels

ROWS, COLS = 2500, 2048
CASES, DECISIONS = 26, 20
LOOKS_FOR_S = 0.9  # the reader looks at each film for so long at least; the next one is fetched meanwhile
DRAG_FOR_MS = 3000
WIDE = {"BitsStored": 16, "HighBit": 15, "WindowCenter": [30000, 40000], "WindowWidth": [60000, 20000]}

READ_CANVAS = """canvas => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const grey = new Uint8Array(canvas.width * canvas.height);
    for (let i = 0; i < grey.length; i++) grey[i] = data[4 * i];
    let text = '';
    for (let i = 0; i < grey.length; i += 8192) text += String.fromCharCode.apply(null, grey.subarray(i, i + 8192));
    return { width: canvas.width, height: canvas.height, bytes: btoa(text) };
}"""
# A mouse of 250 moves a second, for some seconds: how many pictures the canvas showed.
DRAG = """(stage, milliseconds) => new Promise(done => {
    const { left, top, width, height } = stage.getBoundingClientRect();
    const send = (kind, x, y) => stage.dispatchEvent(new PointerEvent(kind, {
        pointerId: 1, isPrimary: true, bubbles: true, button: kind === 'pointermove' ? -1 : 0, buttons: 1,
        clientX: left + x, clientY: top + y }));
    stage.setPointerCapture = () => {};
    const viewer = stage.closest('.viewer');
    const shown = [];
    const watch = new MutationObserver(() => shown.push(performance.now()));
    watch.observe(viewer, { attributes: true, attributeFilter: ['data-window'] });
    send('pointerdown', width / 2, height / 2);
    const from = performance.now();
    const moving = setInterval(() => {
        const now = performance.now() - from;
        if (now < milliseconds) {
            return send('pointermove', width / 2 + 120 * Math.sin(now / 300), height / 2 + 80 * Math.cos(now / 170));
        }
        clearInterval(moving);
        send('pointerup', width / 2, height / 2);
        watch.disconnect();
        delete stage.setPointerCapture;
        const gaps = shown.slice(1).map((at, index) => at - shown[index]).sort((a, b) => a - b);
        done({ frames: shown.length, seconds: now / 1000, median_gap_ms: gaps[gaps.length >> 1],
               longest_gap_ms: gaps.at(-1) });
    }, 4);
})"""
# From the key that decides to the frame after the next film is drawn; ahead of the page's scripts, which stop the key.
WATCH = """
    window.decided = [];
    let pressed = 0;
    let image = null;
    addEventListener('keydown', event => { if (event.key === 'Enter') pressed = performance.now(); }, true);
    new MutationObserver(() => {
        const now = document.documentElement.dataset.filmReady;
        if (!now || now === image) return;
        image = now;
        const from = pressed;
        if (from) requestAnimationFrame(() => requestAnimationFrame(() => decided.push(performance.now() - from)));
    }).observe(document, { attributes: true, subtree: true, attributeFilter: ['data-film-ready'] });
"""


def large_film(rng: np.random.Generator) -> np.ndarray:
    """16 bit, 2500 x 2048, with noise."""
    smooth = film_pixels(ROWS, COLS).astype(np.float32) * 15
    noise = rng.normal(0, 300, (ROWS, COLS)).astype(np.float32)
    return np.clip(smooth + noise, 0, 65535).astype(np.uint16)


def prepare(folder: Path) -> None:
    """Films, their decoded pixels, and a database with a read of each."""
    data_dir = folder / "data"
    data_dir.mkdir(parents=True)
    os.environ["PEDISCREEN_DATA_DIR"] = str(data_dir)
    settings.cache_clear()
    url = settings().database_url
    migrate.upgrade(url)
    (folder / "films").mkdir()
    rng = np.random.default_rng(6)
    with session_scope(url) as session:
        add = case_adder(session, folder / "films")
        for _ in range(CASES):
            add(pixels=large_film(rng), **WIDE)
    with engine_for(url).connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine_for(url).dispose()
    shutil.copyfile(data_dir / "pediscreen.sqlite", folder / "prepared.sqlite")


def serve(folder: Path) -> tuple[subprocess.Popen, str]:
    """On the database as prepared: nothing is decided yet."""
    for old in (folder / "data").glob("pediscreen.sqlite*"):
        old.unlink()
    shutil.copyfile(folder / "prepared.sqlite", folder / "data" / "pediscreen.sqlite")
    port = free_port()
    environment = {**os.environ, "PEDISCREEN_DATA_DIR": str(folder / "data"), "PEDISCREEN_PORT": str(port)}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ui.serve"], cwd=PROJECT_DIR, env=environment, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    while process.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
            return process, address
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the web process ended: see server.log")


def visible(page: Page) -> None:
    expect(page.locator("section.viewer")).to_have_attribute("data-state", "ready", timeout=60_000)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def canvas(page: Page) -> np.ndarray:
    read = page.locator("canvas.film").evaluate(READ_CANVAS)
    return np.frombuffer(base64.b64decode(read["bytes"]), np.uint8).reshape(read["height"], read["width"])


def film_on_canvas(page: Page) -> tuple[np.ndarray, np.ndarray]:
    """The whole film at 1:1, moved across the canvas piece by piece: its grey levels, and which pixels were seen."""
    film, seen = np.zeros((ROWS, COLS), np.uint8), np.zeros((ROWS, COLS), bool)
    viewer, stage = page.locator("section.viewer"), page.locator(".stage")
    page.keyboard.press("a")
    page.keyboard.press("p")
    box = stage.bounding_box()
    for wanted_y in range(0, ROWS, int(box["height"]) - 40):
        for wanted_x in range(0, COLS, int(box["width"]) - 40):
            for _ in range(8):  # drags of at most the canvas's size, until the piece's corner is at the top left
                left, top = (float(value) for value in viewer.get_attribute("data-origin").split())
                dx, dy = -wanted_x - left, -wanted_y - top
                if abs(dx) < 1 and abs(dy) < 1:
                    break
                drag(page, box, np.clip(dx, -box["width"] + 40, box["width"] - 40),
                     np.clip(dy, -box["height"] + 40, box["height"] - 40))  # fmt: skip
            shown = canvas(page)
            left, top = (round(float(value)) for value in viewer.get_attribute("data-origin").split())
            rows = slice(max(0, -top), min(ROWS, shown.shape[0] - top))
            cols = slice(max(0, -left), min(COLS, shown.shape[1] - left))
            film[rows, cols] = shown[rows.start + top : rows.stop + top, cols.start + left : cols.stop + left]
            seen[rows, cols] = True
    page.keyboard.press("r")
    page.keyboard.press("w")
    return film, seen


def rendered(film: Path, out: Path) -> np.ndarray:
    """What `pediscreen render` writes."""
    subprocess.run(
        [sys.executable, "-m", "engine.cli", "render", str(film), str(out)],
        check=True,
        cwd=PROJECT_DIR,
        stdout=subprocess.DEVNULL,
    )
    return np.asarray(Image.open(out))


def grey_levels(page: Page, film: Path, folder: Path) -> dict:
    """Against `pediscreen render`, and against dcmtk at the file's first window."""
    shown, seen = film_on_canvas(page)
    others = {"render": rendered(film, folder / "rendered.png"), "dcmtk": run_dcmtk("dcmj2pnm", film, ["+Wi", "1"])}
    apart = {name: int(np.abs(shown.astype(int) - other)[seen].max()) for name, other in others.items()}
    return {"largest_difference": apart, "share_of_film_compared": float(seen.mean())}


def drag(page: Page, box: dict, dx: float, dy: float) -> None:
    x = box["x"] + (20 if dx > 0 else box["width"] - 20)
    y = box["y"] + (20 if dy > 0 else box["height"] - 20)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + round(dx), y + round(dy))
    page.mouse.up()
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def window_level(page: Page) -> dict:
    measured = page.locator(".stage").evaluate(DRAG, DRAG_FOR_MS)
    width, height = (page.locator("canvas.film").evaluate(f"canvas => canvas.{side}") for side in ("width", "height"))
    return {
        "frames_per_second": round(measured["frames"] / measured["seconds"], 1),
        "median_gap_ms": round(measured["median_gap_ms"], 1),
        "longest_gap_ms": round(measured["longest_gap_ms"], 1),
        "canvas": f"{width} x {height}",
    }


def decisions(page: Page) -> dict:
    for _ in range(DECISIONS):
        page.wait_for_function("() => document.querySelector('.st-key-primary button:not([disabled])')")
        before = page.evaluate("() => window.decided.length")
        time.sleep(LOOKS_FOR_S)
        page.keyboard.press("Enter")
        # Not expect(): what it writes down of the whole page each time it finds nothing took 26 ms of a decision.
        page.wait_for_function("before => window.decided.length > before", arg=before, polling=100, timeout=60_000)
    took = sorted(page.evaluate("() => window.decided"))
    return {
        "decisions": len(took),
        "median_ms": round(statistics.median(took)),
        "p95_ms": round(took[int(0.95 * (len(took) - 1) + 0.5)]),
        "longest_ms": round(took[-1]),
    }


def main(folder: Path) -> None:
    if not (folder / "prepared.sqlite").exists():
        prepare(folder)
    process, address = serve(folder)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(CHROMIUM_FLAGS))
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.add_init_script(WATCH)
            page.goto(f"{address}/worklist")
            expect(page.locator("tr[data-study]").first).to_be_visible(timeout=60_000)
            first = page.locator("tr[data-study]").first.get_attribute("data-study")
            start = time.perf_counter()
            page.goto(f"{address}/review?study={first}")
            visible(page)
            report("first page, a link to a case", {"ms": round((time.perf_counter() - start) * 1000)})
            name = folder / "films" / file_of(folder, int(first))
            report("canvas against pediscreen render and dcmtk", grey_levels(page, name, folder))
            report("window and level by drag", window_level(page))
            report("from a decision to the next film", decisions(page))
            page.close()
            fine = browser.new_page(viewport={"width": 1440, "height": 900}, device_scale_factor=2)
            fine.goto(f"{address}/review?study={first}")
            visible(fine)
            time.sleep(3 * LOOKS_FOR_S)  # until the charts and the film fetched ahead are done
            report("window and level by drag, two device pixels per CSS pixel", window_level(fine))
            browser.close()
    finally:
        process.terminate()
        process.wait(30)


def file_of(folder: Path, study_id: int) -> Path:
    """The stored original of the study's first image."""
    from db.models import Image as ImageRow

    url = f"sqlite:///{folder}/prepared.sqlite"
    with session_scope(url) as session:
        sha256 = session.query(ImageRow.file_sha256).filter(ImageRow.study_fk == study_id).scalar()
    return (folder / "data" / "files" / sha256[:2] / sha256).absolute()


def report(question: str, figures: dict) -> None:
    print(json.dumps({"question": question, **figures}), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]).absolute())
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
