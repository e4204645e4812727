"""The film viewer: our own canvas (components v2, no build step), because a general viewer costs a megabyte and is
slower without a GPU; it would pay off for stacks of slices, which these films are not.

Pixels do not pass through Python here: the browser fetches them from the API, compressed once and cacheable.

    viewer.js    the whole: two films, actions, keys           pane.js      one film on its canvas
    tools.js     mouse, fingers, arrow keys                    toolbar.js   the row of tools, icons.js its pictures
    measures.js  length, angle, rectangle, zones               drawing.js   them on the film
    geometry.js  zoom, pan, turn, mirror                       resample.js  film pixels to canvas pixels
    grey.js      windows and grey levels                       films.js     films fetched once, kept, retried
    keys.js      all actions and their keys, changeable"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import streamlit as st

from engine.imaging.film import Voi
from engine.services.review import ImageView
from engine.services.shown_film import ShownFilm

FOLDER = Path(__file__).parent
MODULES = "films grey geometry resample measures drawing icons keys toolbar pane tools viewer"  # after what they import
IMPORT = re.compile(r'^import \{[^}]*\} from "\./[a-z]+\.js";\n', re.MULTILINE)
SCRIPT = "\n".join(IMPORT.sub("", (FOLDER / f"{name}.js").read_text(encoding="utf-8")) for name in MODULES.split())
STYLE = (FOLDER / "viewer.css").read_text(encoding="utf-8")

MAX_REGIONS = 30
KEY = "viewer"

_viewer = st.components.v2.component("film_viewer", js=SCRIPT, css=STYLE)


@st.fragment
def show(
    image: ImageView,
    *,
    label: str,
    is_fundus: bool = False,
    beside: Iterable[tuple[str, ShownFilm]] = (),
    prefetch_urls: Iterable[str] = (),
    keys: Iterable[tuple[str, str]] = (),
    user: str = "",
    height: str = "calc(100dvh - 9.3rem)",
) -> None:
    """The film of `image`. `label` names it for screen readers; `keys` are the page's own keys, which the film's tools
    leave alone; `user` is whose choice of keys holds. `beside`: films of the same child, each with its caption, that
    the reader may lay beside this one. `prefetch_urls` are fetched once this film is drawn, so that the next case
    appears at once.

    A fragment: what the reader marks runs this alone, not the page."""
    data = {
        **film_data(image, label, is_fundus),
        "kept": marks_of(image),
        "beside": [{**film_data(film, caption, is_fundus), "caption": caption} for caption, film in beside],
        "prefetch": list(prefetch_urls),
        "keys": [list(key) for key in keys],
        "user": user,
        "height": height,
    }
    _viewer(key=KEY, data=data, on_kept_change=lambda: None)


def film_data(film: ShownFilm, label: str, is_fundus: bool = False) -> dict[str, Any]:
    """One film for pane.js. `vois` are in stored values; slope and intercept turn them into the file's unit."""
    return {
        "image": film.image_id,
        "url": film.pixels_url,
        "rows": film.rows,
        "cols": film.cols,
        "colour": film.is_colour,
        "fundus": is_fundus,
        "vois": [_voi(voi) for voi in film.vois],
        "inverted": film.inverted,
        "background": film.background,
        "slope": film.slope,
        "intercept": film.intercept,
        "spacing": film.spacing_mm,
        "spacing_source": film.spacing_source,
        "side": film.laterality,
        "marker": film.laterality or "",
        "label": label,
    }


def _voi(voi: Voi) -> dict[str, Any]:
    data = {"name": voi.name, "kind": voi.kind, "center": voi.center, "width": voi.width, "lut_first": voi.lut_first}
    if voi.lut is not None:
        data["lut"] = base64.b64encode(voi.lut.tobytes()).decode("ascii")
    return data


# ---------------------------------------------------------------- what the reader marked, for the review


def marks_of(image: ImageView) -> dict[str, Any]:
    """What the reader marked on `image`, for the `details` of a decision; what was stored before until they mark anew.

    {"regions": [{"x0", "y0", "x1", "y1"}], "landmarks": {"disc": [x, y], "fovea": [x, y], "ora": [x, y]}} in film
    pixels, x1 and y1 outside the region; "ora" is where the reader saw the nasal ora serrata, perhaps beyond the
    photograph. What is not marked is left out."""
    value = (st.session_state.get(KEY) or {}).get("kept")
    if not isinstance(value, dict) or value.get("image") != image.image_id:
        value = _stored(image)
    return checked_marks(value, image.rows, image.cols)


def _stored(image: ImageView) -> dict[str, Any]:
    """Of the decision in force, else of the answer that was given before the read was seen."""
    return image.decision.details if image.decision else image.blind_details


def checked_marks(value: dict[str, Any], rows: int, cols: int) -> dict[str, Any]:
    """The marks in `value` that lie on the film; what a browser should not have sent is left out."""
    marks: dict[str, Any] = {}
    regions = value.get("regions")
    found = [_region(region, rows, cols) for region in regions[:MAX_REGIONS]] if isinstance(regions, list) else []
    if any(found):
        marks["regions"] = [region for region in found if region]
    landmarks = value.get("landmarks")
    if isinstance(landmarks, dict):
        disc, fovea = (_point(landmarks.get(name), rows, cols) for name in ("disc", "fovea"))
        if disc and fovea and disc != fovea:
            ora = _point(landmarks.get("ora"), rows, cols, beyond=2)
            marks["landmarks"] = {"disc": disc, "fovea": fovea} | ({"ora": ora} if ora else {})
    return marks


def _region(value: Any, rows: int, cols: int) -> dict[str, int] | None:
    if not isinstance(value, dict):
        return None
    corners = [value.get(name) for name in ("x0", "y0", "x1", "y1")]
    if not all(type(corner) is int for corner in corners):
        return None
    x0, y0, x1, y1 = corners
    if not (0 <= x0 < x1 <= cols and 0 <= y0 < y1 <= rows):
        return None
    return {"x0": x0, "y0": y0, "x1": x1, "y1": y1}


def _point(value: Any, rows: int, cols: int, beyond: float = 0) -> list[float] | None:
    """A point on the film, or as far outside as `beyond` times its size."""
    if not (isinstance(value, list) and len(value) == 2 and all(type(part) in (int, float) for part in value)):
        return None
    x, y = value
    inside = -beyond * cols <= x <= (1 + beyond) * cols and -beyond * rows <= y <= (1 + beyond) * rows
    return [float(x), float(y)] if inside else None
