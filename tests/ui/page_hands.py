"""What a hand does on a page before it is looked at (state_data.py)."""

from __future__ import annotations

from playwright.sync_api import Page, expect

RESTS_MS = 700


def click(page: Page, button: str) -> None:
    page.get_by_role("button", name=button).first.click()


def choose(page: Page, name: str) -> None:
    page.get_by_role("radio", name=name).or_(page.get_by_role("button", name=name)).first.click()


def key(page: Page, pressed: str, bound: str) -> None:
    page.wait_for_function(
        "key => (document.documentElement.dataset.keysBound || '').split(' ').includes(key)", arg=bound
    )
    page.keyboard.press(pressed)


def keymap(page: Page) -> None:
    expect(page.locator("section.viewer")).to_have_attribute("data-state", "ready")
    page.keyboard.press("?")


def type_into(page: Page, label: str, text: str) -> None:
    field = page.get_by_label(label).first
    field.fill(text)
    field.press("Enter")


def search_in_vain(page: Page) -> None:
    field = page.get_by_placeholder("Search ")
    field.fill("zzz")
    field.press("Enter")


def open_first_line(page: Page) -> None:
    page.locator("tr[data-study]").first.click()


def upload(page: Page, name: str, film: bytes) -> None:
    """A file that is no image, and beside it one with the content of `film`."""
    text = {"name": f"{name}.txt", "mimeType": "text/plain", "buffer": name.encode()}
    page.locator("input[type=file]").set_input_files(
        [text, {"name": f"{name}.dcm", "mimeType": "application/dicom", "buffer": film}]
    )
    click(page, "Add 2 files")


def photo(page: Page) -> None:
    give(page, "hand.png", b"\x89PNG")


def visits_file(page: Page, content: bytes) -> None:
    give(page, "visits.csv", content)


def give(page: Page, name: str, content: bytes) -> None:
    file = {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    page.locator("input[type=file]").set_input_files([file])


def bad_visit(page: Page) -> None:
    type_into(page, "Length or height (cm)", "1.10")


def contradict(page: Page) -> None:
    for field, said in (("stage", "3"), ("zone", "none")):
        group = page.locator(f"[class*=st-key-finding_{field}]")
        group.get_by_text(said).first.click()
        page.wait_for_timeout(RESTS_MS)


def half_fill(page: Page) -> None:
    key(page, "c", "C")
    expect(page.get_by_label("Years")).to_be_focused()
    page.keyboard.press("Tab")
    for pressed in ("ControlOrMeta+a", "Delete", "Tab"):
        page.get_by_label("Months").press(pressed)


def lose_connection(page: Page) -> None:
    if "review" in page.url:
        expect(page.locator("section.viewer")).to_have_attribute("data-state", "ready")
    page.context.set_offline(True)
    page.evaluate("window.lostSockets?.forEach(socket => socket.close())")
