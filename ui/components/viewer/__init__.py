"""The film viewer: our own canvas (components v2, no build step), because a general viewer costs a megabyte and is
slower without a GPU; it would pay off for stacks of slices, which these films are not.

Pixels do not pass through Python here: the browser fetches them from the API, compressed once and cacheable."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import streamlit as st

from engine.imaging.film import Voi
from engine.services.review import ImageView

FOLDER = Path(__file__).parent
SCRIPT = "\n".join((FOLDER / name).read_text(encoding="utf-8") for name in ("pixels.js", "viewer.js"))
STYLE = (FOLDER / "viewer.css").read_text(encoding="utf-8")

_viewer = st.components.v2.component("film_viewer", js=SCRIPT, css=STYLE)


def show(
    image: ImageView,
    *,
    label: str,
    prefetch_url: str | None = None,
    keys: list[tuple[str, str]] = (),
    height: str = "calc(100dvh - 9.3rem)",
) -> None:
    """The film of `image`. `label` names it for screen readers; `keys` are the page's own keys, for the key map.

    `prefetch_url` is fetched once this film is drawn, so that the next case appears at once."""
    _viewer(key="viewer", data=viewer_data(image, label, prefetch_url, list(keys), height))


def viewer_data(
    image: ImageView, label: str, prefetch_url: str | None, keys: list[tuple[str, str]], height: str
) -> dict[str, Any]:
    """What viewer.js needs. `window` values are stored values; slope and intercept turn them into the file's unit."""
    return {
        "image": image.image_id,
        "url": image.pixels_url,
        "prefetch": prefetch_url,
        "rows": image.rows,
        "cols": image.cols,
        "colour": image.is_colour,
        "vois": [_voi(voi) for voi in image.vois],
        "inverted": image.inverted,
        "background": image.background,
        "slope": image.slope,
        "intercept": image.intercept,
        "marker": image.laterality or "",
        "label": label,
        "keys": keys,
        "height": height,
    }


def _voi(voi: Voi) -> dict[str, Any]:
    data = {"name": voi.name, "kind": voi.kind, "center": voi.center, "width": voi.width, "lut_first": voi.lut_first}
    if voi.lut is not None:
        data["lut"] = base64.b64encode(voi.lut.tobytes()).decode("ascii")
    return data
