"""The viewer on a page of its own, without Streamlit: what the tests of the viewer share."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
from playwright.sync_api import Page, Route, expect

import ui.components.viewer as viewer
from engine.imaging.film import Film

HOST = "http://viewer.test"
HTML = (
    "<!doctype html><link rel=stylesheet href=/viewer.css><body style='margin:0'>"
    "<div id=here style='width:900px'></div>"
)
MOUNT = """data => import('/viewer.js').then(module => {
    window.kept = [];
    const setStateValue = (name, value) => window.kept.push(value);
    window.mount = data => module.default({ data, parentElement: document.getElementById('here'), setStateValue });
    window.mount(data);
})"""
READ_CANVAS = """() => {
    const canvas = document.querySelector('canvas.film');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const grey = new Uint8Array(data.buffer);
    let text = '';
    for (let i = 0; i < grey.length; i += 8192) text += String.fromCharCode.apply(null, grey.subarray(i, i + 8192));
    return { width: canvas.width, height: canvas.height, bytes: btoa(text) };
}"""

Show = Callable[..., Page]


def data_of(film: Film, **changes: Any) -> dict[str, Any]:
    return {
        "image": 1,
        "url": "/pixels",
        "prefetch": [],
        "rows": film.pixels.shape[0],
        "cols": film.pixels.shape[1],
        "colour": film.is_colour,
        "vois": [viewer._voi(voi) for voi in film.vois],
        "inverted": film.inverted,
        "background": film.background,
        "slope": film.slope,
        "intercept": film.intercept,
        "spacing": film.spacing_mm,
        "spacing_source": film.spacing_source,
        "fundus": False,
        "side": "L",
        "marker": "L",
        "kept": {},
        "beside": [],
        "user": "reader",
        "label": "Hand, left",
        "keys": [["Enter", "confirm and next"]],
        "height": "700px",
        **changes,
    }


def shower(page: Page) -> Show:
    """`show(film, others={url: film}, **changes of the data)`; any other address is answered as a film that is gone."""

    def open_film(film: Film, others: dict[str, Film] | None = None, **changes: Any) -> Page:
        films = {"/pixels": film, **(others or {})}

        def answer(route: Route) -> None:
            path = route.request.url.removeprefix(HOST)
            if path == "/":
                route.fulfill(body=HTML, content_type="text/html")
            elif path == "/viewer.js":
                route.fulfill(body=viewer.SCRIPT, content_type="text/javascript")
            elif path == "/viewer.css":
                route.fulfill(body=viewer.STYLE, content_type="text/css")
            elif path.startswith("/pixels"):
                route.fulfill(body=stored(films.get(path, film)))
            else:
                message = "image 9 is no longer on disk: restore it from a backup"
                route.fulfill(status=404, json={"error": {"code": "not_found", "message": message}})

        page.route(f"{HOST}/**", answer)
        page.goto(HOST + "/")
        page.evaluate(MOUNT, data_of(film, **changes))
        return page

    return open_film


def stored(film: Film) -> bytes:
    return film.pixels.astype(film.pixels.dtype.newbyteorder("<")).tobytes()


def ready(page: Page) -> Page:
    expect(page.locator(".viewer")).to_have_attribute("data-state", "ready")
    drawn(page)
    return page


def drawn(page: Page) -> None:
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def attribute(page: Page, name: str) -> str:
    return page.locator(".viewer").get_attribute(f"data-{name}")


def canvas(page: Page) -> np.ndarray:
    """(rows, cols, 3) uint8, as drawn."""
    read = page.evaluate(READ_CANVAS)
    return np.frombuffer(base64.b64decode(read["bytes"]), np.uint8).reshape(read["height"], read["width"], 4)[:, :, :3]
