"""Every page as it looks empty, with work in it, with long texts, and when something is wrong; and what axe-core says.

    python -m tests.ui.page_states [OUT] [--state empty|normal|long|error] [--only NAME]

Makes the data of each state, opens each page at 1440 x 900 and 1920 x 1080, and writes OUT/STATE/NAME-WIDTH.png (OUT:
data/page-states). What axe-core finds against WCAG 2.1 A and AA, what is wider than its place and what the keyboard
does not come to is printed; the exit status is 1 when there is any."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from engine.settings import settings
from tests.conftest import CHROMIUM, CHROMIUM_FLAGS
from tests.ui.page_hands import RESTS_MS
from tests.ui.state_data import STATES, Shot, place
from tests.ui.web_process import web_process

OUT = Path("data/page-states")
SIZES = ((1440, 900), (1920, 1080))
PATIENCE_MS = 90_000
AXE = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"], "resultTypes": ["violations"]}
# What sticks out of its place unseen, or pushes the page sideways.
TOO_WIDE = """() => {
    const found = [];
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth > clientWidth) found.push(`the page is ${scrollWidth - clientWidth} pixels too wide`);
    for (const element of document.querySelectorAll('[data-testid=stMainBlockContainer] *')) {
        if (!(element instanceof HTMLElement) || element.scrollWidth <= element.clientWidth + 8) continue;
        if (!element.clientWidth || getComputedStyle(element).overflowX !== 'visible') continue;
        if (element.closest('.js-plotly-plot, svg, .st-key-whoami, [inert]')) continue;
        const said = `${element.scrollWidth - element.clientWidth} pixels too wide: ${element.innerText.slice(0, 60)}`;
        found.push(`${element.tagName}.${element.className} ${said}`);
    }
    return found;
}"""
# Controls that Tab passes by, but for those of a group in which the arrow keys move from one to the next, and the way
# out of a dialog that is there for screen readers, of one pixel.
OUT_OF_REACH = """() => {
    const within = root => [...root.querySelectorAll('*')].flatMap(
        element => element.shadowRoot ? [element, ...within(element.shadowRoot)] : [element]);
    const CONTROL = 'button, a[href], input:not([type=hidden]), select, textarea, [role=button], [role=radio]';
    const GROUP = '[role=radiogroup], [role=toolbar], [role=group], [role=grid], tbody, .stNumberInput';
    return within(document).filter(element => element.matches(CONTROL) && element.tabIndex < 0 && !element.disabled)
        .filter(element => element.checkVisibility({ visibilityProperty: true, opacityProperty: true }))
        .filter(element => element.offsetWidth > 1 && element.style.width !== '1px')
        .filter(element => !element.closest('[inert], [aria-hidden=true]'))
        .filter(element => ![...element.closest(GROUP)?.querySelectorAll('*') || []].some(one => one.tabIndex >= 0))
        .map(element => `Tab never comes to ${element.outerHTML.slice(0, 200)}`);
}"""

WATCH_SOCKETS = """
    window.lostSockets = [];
    const Real = window.WebSocket;
    window.WebSocket = class extends Real { constructor(...all) { super(...all); window.lostSockets.push(this); } };
"""


def open_shot(page: Page, address: str, shot: Shot) -> None:
    page.goto(f"{address}/demo/work-as/{shot.actor.username}")
    page.goto(f"{address}/{shot.path}")
    at_rest(page)
    if shot.act is not None:
        shot.act(page)
    if shot.says:
        expect(page.get_by_text(shot.says).first).to_be_visible()
    if shot.path.startswith("review?") and "9999" not in shot.path and not shot.name.startswith("no-database"):
        expect(page.locator("section.viewer")).to_have_attribute("data-state", re.compile("ready|error"))
    if not shot.name.endswith("no-connection"):
        at_rest(page)
    page.mouse.move(5, 5)
    page.wait_for_timeout(RESTS_MS)


def at_rest(page: Page) -> None:
    rests = "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"
    page.wait_for_function(rests, timeout=PATIENCE_MS)


def picture(page: Page, path: Path) -> None:
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(RESTS_MS)
        page.screenshot(path=f"{path}-{width}.png")
    page.set_viewport_size({"width": SIZES[0][0], "height": SIZES[0][1]})
    page.wait_for_timeout(RESTS_MS)


def faults(page: Page) -> list[str]:
    """What axe-core finds, what is wider than its place, and what the keyboard does not come to."""
    found = Axe().run(page, options=AXE).response["violations"]
    said = [f"{one['id']}: {node['target']} {node['html'][:200]}" for one in found for node in one["nodes"]]
    return said + page.evaluate(TOO_WIDE) + page.evaluate(OUT_OF_REACH)


def look(browser: Browser, state: str, folder: Path, out: Path | None = None, only: str = "") -> dict[str, list[str]]:
    """The faults of each page of the state, by its name; pictures into `out`."""
    found: dict[str, list[str]] = {}
    for number, make in enumerate(STATES[state]):
        own = folder / f"{state}-{number}"
        with place(own) as here:
            shots = [shot for shot in make(here) if only in shot.name]
            url = settings().database_url
        context = browser.new_context(viewport={"width": SIZES[0][0], "height": SIZES[0][1]})
        context.add_init_script(WATCH_SOCKETS)
        with web_process(url, own / "data", own) as address:
            for shot in shots:
                page = context.new_page()
                try:
                    open_shot(page, address, shot)
                except (PlaywrightError, AssertionError) as error:
                    found[f"{state} {shot.name}"] = [f"did not come to what it should show: {str(error)[:300]}"]
                if out is not None:
                    picture(page, out / state / shot.name)
                if now := faults(page):
                    found.setdefault(f"{state} {shot.name}", []).extend(now)
                page.close()
                context.set_offline(False)
        context.close()
    return found


def main() -> int:
    expect.set_options(timeout=PATIENCE_MS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=OUT)
    parser.add_argument("--state", choices=STATES)
    parser.add_argument("--only", default="", help="pages whose name holds this")
    arguments = parser.parse_args()
    found: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(CHROMIUM_FLAGS))
        for state in [arguments.state] if arguments.state else STATES:
            (arguments.out / state).mkdir(parents=True, exist_ok=True)
            found |= look(browser, state, Path(folder), arguments.out, only=arguments.only)
        browser.close()
    for name, faults_ in found.items():
        print(name, *faults_, sep="\n    ")
    print(f"{len(found)} with faults; pictures in {arguments.out}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
