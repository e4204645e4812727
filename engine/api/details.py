"""What stands beside an answer: more of the same finding (engine.findings.additions), and marks on the film.

What was not said is absent, never null. Coming in, only what the workstation knows is taken; going out, whatever was
stored."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, StrictBool, StrictInt, with_config
from typing_extensions import TypedDict

from engine.findings.additions import Bone, Method, Region, Substage
from engine.findings.fracture import FractureClass
from engine.findings.rop import Reactivation, Regression, Treatment
from engine.imaging.admission import MAX_SIDE_PX

MOST_REGIONS = 30
CLOSED = ConfigDict(extra="forbid")

Pixel = Annotated[StrictInt, Field(ge=0, le=MAX_SIDE_PX)]
Coordinate = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=-2 * MAX_SIDE_PX, le=3 * MAX_SIDE_PX)]
Point = Annotated[list[Coordinate], Field(min_length=2, max_length=2, description="x, y in film pixels")]


@with_config(CLOSED)
class MarkedRegion(TypedDict):
    """In film pixels; x1 and y1 lie outside the region."""

    x0: Pixel
    y0: Pixel
    x1: Pixel
    y1: Pixel


class _Disc(TypedDict):
    disc: Point
    fovea: Point


@with_config(CLOSED)
class Landmarks(_Disc, total=False):
    """Of a fundus. `ora`: where the reader saw the nasal ora serrata, perhaps beyond the photograph."""

    ora: Point


@with_config(CLOSED)
class Details(TypedDict, total=False):
    # bone age
    method: Method
    # ROP
    aggressive: StrictBool
    notch: StrictBool
    posterior_zone_ii: StrictBool
    substage: Substage
    regression: Regression
    reactivation: Reactivation
    treatment: Treatment
    # fracture
    fracture_class: FractureClass
    bone: Bone
    region: Region
    displaced: StrictBool
    open_fracture: StrictBool
    neurovascular_deficit: StrictBool
    compartment_syndrome: StrictBool
    galeazzi_or_monteggia: StrictBool
    corner_fracture: StrictBool
    history_inconsistent: StrictBool
    # the film
    quality: Literal["good", "limited"]
    no_burned_in_text: StrictBool
    regions: Annotated[list[MarkedRegion], Field(max_length=MOST_REGIONS)]
    landmarks: Landmarks


StoredDetails = Details | dict[str, JsonValue]
