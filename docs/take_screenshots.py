"""The pictures of the README, from a running demo.   python docs/take_screenshots.py [http://localhost:8501]

Start it with `make run` on an empty data folder first. Needs the dev extra and Chromium."""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

OUT = Path(__file__).parent / "screenshots"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def main(address: str) -> None:
    OUT.mkdir(exist_ok=True)
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(address)
        expect(page.locator("tr[data-study]").first).to_be_visible()
        take(page, "worklist")
        for task, name in (("bone_age", "hand"), ("rop", "fundus"), ("fracture", "wrist")):
            queue = page.request.get(f"{address}/api/radiology/queue?status=awaiting_review&task={task}").json()
            plain = [row for row in queue["rows"] if not row["warning_count"] and "no read" not in row["read_words"]]
            page.goto(f"{address}/review?study={plain[0]['study_id']}")
            expect(page.locator("section.viewer")).to_have_attribute("data-state", "ready")
            expect(page.get_by_role("button", name="Confirm and next")).to_be_visible()
            take(page, f"review-{name}")
        page.goto(f"{address}/growth")
        expect(page.get_by_text("Visits: value and z-score")).to_be_visible()
        take(page, "growth")
        browser.close()


def take(page: Page, name: str) -> None:
    page.mouse.move(5, 895)
    page.wait_for_timeout(1500)  # charts and transitions come to rest
    page.screenshot(path=OUT / f"{name}.png")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8501")
