"""How large an image may be, asked before anything is decoded."""

from __future__ import annotations

from engine.errors import FileRefused

MAX_PIXELS = 64_000_000


def check_size(rows: int, cols: int, where: str) -> None:
    """Raise FileRefused where an image of this size cannot be or must not be decoded. `where` names the source."""
    if rows < 1 or cols < 1:
        raise FileRefused("no_pixels", f"{where} gives an image of {rows} x {cols} pixels: nothing to show.")
    if rows * cols > MAX_PIXELS:
        raise FileRefused(
            "too_many_pixels",
            f"{where} gives an image of {rows} x {cols} pixels ({rows * cols / 1e6:.0f} megapixels); "
            f"the limit is {MAX_PIXELS / 1e6:.0f}.",
        )
