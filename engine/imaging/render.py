"""`pediscreen render FILE OUT.png`: the display pipeline alone."""

from __future__ import annotations

from pathlib import Path

from engine.imaging.display import save_png
from engine.imaging.film import Film
from engine.imaging.load import load_film


def render(file: Path, out: Path) -> Film:
    """Write what the viewer shows of `file` at its default window to `out` (PNG); the film is returned for its
    warnings. Raises FileRefused where the file cannot be turned into pixels. Admission is not checked."""
    film = load_film(file)
    save_png(film, out)
    return film
