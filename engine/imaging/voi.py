"""The windows and lookup tables of a DICOM file, in pixel units. PS3.3 C.11.1 (modality) and C.11.2 (VOI).

pydicom's own functions are not used: an 8-bit VOI LUT of more than 256 entries gives a wrong picture there without a
word (3.0.2), a negative first value raises, and modality LUTs of 10 to 15 bits are refused."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset

from engine.imaging.display import to_pixel_window
from engine.imaging.film import Voi
from engine.imaging.tag_reader import TagReader

AUTOMATIC_PERCENTILES = (0.5, 99.5)
KIND_OF_FUNCTION = {"LINEAR": "linear", "LINEAR_EXACT": "linear_exact", "SIGMOID": "sigmoid"}


@dataclass(frozen=True)
class LookupTable:
    """Output values for the inputs `first` ... `first + len(values) - 1`; inputs beyond take the end's value."""

    values: np.ndarray  # int64
    first: int
    bits: int  # of the output
    explanation: str | None = None

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        index = np.rint(inputs).astype(np.int64) - self.first
        return self.values[np.clip(index, 0, len(self.values) - 1)]


def is_blank(item: Dataset) -> bool:
    """Whether a LUT item is a template that nobody filled in: it says nothing, so it is as good as absent."""
    tags = TagReader(item)
    return tags.value("LUTDescriptor") is None and tags.value("LUTData") is None


def lookup_table(item: Dataset, name: str, signed_input: bool, warnings: list[str]) -> LookupTable:
    """The table of one item of a Modality or VOI LUT Sequence. Raises ValueError where it is unusable."""
    tags = TagReader(item)
    descriptor = tags.numbers("LUTDescriptor")
    data = tags.value("LUTData")
    if descriptor is None or len(descriptor) != 3 or data is None:
        raise ValueError("(0028,3002) LUT Descriptor or (0028,3006) LUT Data is missing")
    count, first, bits = (int(number) for number in descriptor)
    count = count % 65536 or 65536
    if signed_input and first > 32767:  # the descriptor was read as unsigned, but the input is signed
        first -= 65536
    if not 8 <= bits <= 16:
        raise ValueError(f"(0028,3002) LUT Descriptor gives {bits} bits; 8 to 16 are allowed")
    values = _table_values(data, count, item)
    highest = int(values.max())
    needed = max(8, highest.bit_length())
    if needed < bits:  # some write the storage size there (Agfa CR)
        warnings.append(
            f"The {name} declares {bits}-bit output but reaches {highest} only: it is shown as {needed}-bit."
        )
        bits = needed
    elif needed > bits:
        raise ValueError(f"(0028,3006) LUT Data reaches {highest}, more than its {bits} bits can say")
    return LookupTable(values, first, bits, tags.text("LUTExplanation"))


def _table_values(data: object, count: int, item: Dataset) -> np.ndarray:
    """The entries as int64: 16-bit words, or bytes where the table is packed (8-bit)."""
    if isinstance(data, bytes):
        if len(data) >= 2 * count:
            order = "<" if item.original_encoding[1] in (True, None) else ">"
            values = np.frombuffer(data, f"{order}u2", count)
        else:
            values = np.frombuffer(data, np.uint8)
    else:
        values = np.atleast_1d(np.asarray(data, np.int64)) & 0xFFFF
        if len(values) < count <= 2 * len(values):  # bytes packed in words
            values = values.astype("<u2").view(np.uint8)
    if len(values) < count:
        raise ValueError(f"(0028,3006) LUT Data has {len(values)} entries, its descriptor says {count}")
    return values[:count].astype(np.int64)


def vois_of(
    tags: TagReader, slope: float, intercept: float, highest_pixel: int, warnings: list[str]
) -> tuple[Voi, ...]:
    """VOI LUTs first, then windows, as the file orders them; broken ones are left out with a warning."""
    vois: list[Voi] = []
    for number, item in enumerate(tags.items("VOILUTSequence"), 1):
        if is_blank(item):
            continue
        name = f"VOI LUT {number}"
        try:
            # The input of a VOI LUT is signed when modality values can be (PS3.3 C.11.2.1.1).
            table = lookup_table(item, name, signed_input=intercept < 0, warnings=warnings)
        except ValueError as error:
            warnings.append(f"{name} is not usable and is left out: {error}.")
            continue
        modality = np.arange(highest_pixel + 1) * slope + intercept
        grey = np.floor(255 * table(modality) / (2**table.bits - 1) + 0.5).astype(np.uint8)
        vois.append(Voi(table.explanation or name, "lut", lut=grey))
    return (*vois, *_windows(tags, slope, intercept, warnings))


def _windows(tags: TagReader, slope: float, intercept: float, warnings: list[str]) -> list[Voi]:
    centers, widths = tags.numbers("WindowCenter") or [], tags.numbers("WindowWidth") or []
    names = tags.texts("WindowCenterWidthExplanation")
    function = (tags.text("VOILUTFunction") or "LINEAR").upper()
    kind = KIND_OF_FUNCTION.get(function)
    if kind is None:
        warnings.append(f"(0028,1056) VOI LUT Function {function!r} is not known: LINEAR is used.")
        kind = "linear"
    if len(centers) != len(widths):
        warnings.append(
            f"(0028,1050) Window Center has {len(centers)} values and (0028,1051) Window Width {len(widths)}: "
            "only the pairs are used."
        )
    vois = []
    for index, (center, width) in enumerate(zip(centers, widths, strict=False)):
        least = "at least 1" if kind == "linear" else "more than 0"
        if not (math.isfinite(center) and math.isfinite(width)) or width <= 0 or (kind == "linear" and width < 1):
            warnings.append(f"(0028,1051) Window Width must be {least}, found {width:g}: this window is left out.")
            continue
        name = names[index] if index < len(names) and names[index] else f"window {index + 1}"
        vois.append(Voi(name, kind, *to_pixel_window(kind, center, width, slope, intercept)))
    return vois


def automatic_window(pixels: np.ndarray, outside: np.ndarray | None = None) -> Voi:
    """From the 0.5th to the 99.5th percentile of `pixels` (uint16), those under the mask `outside` left out."""
    counts = np.cumsum(_histogram(pixels, outside))
    if counts[-1] == 0:
        counts = np.cumsum(_histogram(pixels, None))
    low, high = (int(np.searchsorted(counts, counts[-1] * percent / 100)) for percent in AUTOMATIC_PERCENTILES)
    return Voi("automatic", "linear_exact", (low + high) / 2, float(max(high - low, 1)))


def _histogram(pixels: np.ndarray, outside: np.ndarray | None) -> np.ndarray:
    """Counts of the 65,536 values, some rows at a time: bincount makes 8 bytes of every pixel."""
    counts = np.zeros(65536, np.int64)
    for top in range(0, len(pixels), 256):
        rows = slice(top, top + 256)
        inside = pixels[rows] if outside is None else pixels[rows][~outside[rows]]
        counts += np.bincount(inside.ravel(), minlength=65536)
    return counts
