"""What a viewer must know of a film to draw it, whether it is under review or lies beside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from db.models import Image, Study
from engine.imaging.film import Voi
from engine.services import images


@dataclass(frozen=True, kw_only=True)
class ShownFilm:
    """For the fields from `is_colour` to `spacing_source` see engine.imaging.film.Film."""

    image_id: int
    laterality: Literal["L", "R", None]
    rows: int
    cols: int
    is_colour: bool
    vois: tuple[Voi, ...]
    inverted: bool
    background: int | None
    slope: float
    intercept: float
    spacing_mm: tuple[float, float] | None
    spacing_source: Literal["calibrated", "detector", None]
    pixels_url: str


def film_fields(study: Study, image: Image) -> dict[str, Any]:
    """The values of a ShownFilm. Raises NotFound when the film is gone from the data folder."""
    film = images.film_facts(image.file_sha256)
    return {
        "image_id": image.id,
        "laterality": image.laterality.value if image.laterality else None,
        "rows": image.rows,
        "cols": image.cols,
        "is_colour": film.is_colour,
        "vois": film.vois,
        "inverted": film.inverted,
        "background": film.background,
        "slope": film.slope,
        "intercept": film.intercept,
        "spacing_mm": film.spacing_mm,
        "spacing_source": film.spacing_source,
        "pixels_url": f"/api/radiology/studies/{study.id}/pixels?image={image.id}",
    }
