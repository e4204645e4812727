"""Every file of the DICOM test data through our display pipeline and, where it can decode it, through dcmtk's.

    python tests/engine/imaging/dicom_conformance.py      writes the table and docs/dicom-conformance.md

test_conformance.py runs the same functions and judges the outcome. The oracle is dcmtk's dcmj2pnm (dcml2pnm for
JPEG-LS), without overlays: `+Wl 1` where our first VOI is a VOI LUT, `+Wi n` where it is the file's n-th window, and
`+Ww centre width` with our automatic window where the file has none. dcmtk cannot decode JPEG 2000 and HTJ2K: these
are decoded to an uncompressed copy by pylibjpeg-openjpeg, which the workstation does not use, and shown by dcmtk."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image

PROJECT_DIR = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(PROJECT_DIR))

from engine.errors import FileRefused  # noqa: E402
from engine.imaging.display import display_pixels, to_modality_window  # noqa: E402
from engine.imaging.film import Film  # noqa: E402
from engine.imaging.load import load_film  # noqa: E402

TEST_DATA = PROJECT_DIR.parent / "shared" / "testdata" / "dicom"
TABLE = PROJECT_DIR / "tests" / "artefacts" / "dicom_outcomes.csv"
SUMMARY = PROJECT_DIR / "docs" / "dicom-conformance.md"

JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{last}" for last in (90, 91, 201, 202, 203))
NOT_TRIED = ("too_many_pixels", "too_much_memory")  # dcmtk would fill gigabytes with zeros


@dataclass
class Outcome:
    file: str
    outcome: str  # rendered, refused
    code: str  # of the refusal
    message: str  # of the refusal
    voi: str  # of the display that is compared
    seconds: float
    oracle: str  # the dcmtk command, or why there is none
    max_difference: int | None
    mean_difference: float | None
    warnings: str


def data_files() -> list[Path]:
    return sorted(path for path in TEST_DATA.glob("*/*") if path.is_file()) if TEST_DATA.exists() else []


def outcome(path: Path) -> Outcome:
    started = time.monotonic()
    name = str(path.relative_to(TEST_DATA))
    try:
        film = load_film(path)
    except FileRefused as refusal:
        seconds = time.monotonic() - started
        tried = refusal.code not in NOT_TRIED
        oracle = "not tried" if not tried else "decodes it" if dcmtk_decodes(path) else "refuses it"
        return Outcome(name, "refused", refusal.code, str(refusal), "", seconds, oracle, None, None, "")
    ours = display_pixels(film)
    seconds = time.monotonic() - started
    oracle, theirs = dcmtk_display(path, film)
    largest = mean = None
    if theirs is not None:
        if theirs.shape[:2] != ours.shape[:2] and any("resampled" in warning for warning in film.warnings):
            theirs = np.asarray(Image.fromarray(theirs).resize(ours.shape[1::-1], Image.Resampling.BILINEAR))
            oracle += ", resampled"
        difference = compare(film, ours, theirs)
        if difference is None:
            oracle += f" (other size: {theirs.shape[0]} x {theirs.shape[1]})"
        else:
            largest, mean = int(difference.max()), float(difference.mean())
    voi = film.vois[0].name if film.vois else "colour"
    return Outcome(name, "rendered", "", "", voi, seconds, oracle, largest, mean, " | ".join(film.warnings))


def compare(film: Film, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray | None:
    """Absolute differences in grey levels where the film has image; None where the sizes differ."""
    if ours.ndim == 2 and theirs.ndim == 3:
        ours = np.repeat(ours[..., None], 3, axis=2)
    if ours.shape != theirs.shape:
        return None
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    return difference[film.pixels != film.background] if film.background is not None else difference


def dcmtk_decodes(path: Path) -> bool:
    return run_dcmtk("dcmj2pnm", path, []) is not None


def dcmtk_display(path: Path, film: Film) -> tuple[str, np.ndarray | None]:
    """The oracle's name and picture for the film's first VOI; None where dcmtk cannot show the file."""
    options = voi_options(film)
    syntax = film.tags.transfer_syntax_uid or ""
    tool = "dcml2pnm" if syntax in JPEG_LS else "dcmj2pnm"
    label = " ".join([tool, *options])
    if syntax in JPEG_2000:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "uncompressed.dcm"
            if not uncompressed_copy(path, copy):
                return "pylibjpeg-openjpeg refuses it", None
            picture = run_dcmtk(tool, copy, options)
            label = "pylibjpeg-openjpeg, " + label
    else:
        picture = run_dcmtk(tool, path, options)
        if picture is None and options[:1] == ["+Wi"]:  # a window that dcmtk does not find, as in functional groups
            options = set_window(film)
            label = " ".join([tool, *options])
            picture = run_dcmtk(tool, path, options)
    return (label, picture) if picture is not None else (f"{tool} refuses it", None)


def voi_options(film: Film) -> list[str]:
    if not film.vois:
        return []
    voi = film.vois[0]
    if voi.kind == "lut":
        return ["+Wl", "1"]
    if voi.name == "automatic":
        return set_window(film)
    if voi.name == "as stored":
        return []
    return ["+Wi", str(first_usable_window(film))]


def set_window(film: Film) -> list[str]:
    voi = film.vois[0]
    exact = voi.kind == "linear_exact"
    # dcmtk knows no LINEAR_EXACT: LINEAR with half a value more and one more in width says the same
    center, width = (voi.center + 0.5, voi.width + 1) if exact else (voi.center, voi.width)
    kind = "sigmoid" if voi.kind == "sigmoid" else "linear"
    center, width = to_modality_window(kind, center, width, film.slope, film.intercept)
    return ["+Ww", f"{center:.10g}", f"{width:.10g}", "+Wfs" if kind == "sigmoid" else "+Wfl"]


def first_usable_window(film: Film) -> int:
    left_out = sum("this window is left out" in warning for warning in film.warnings)
    return 1 + left_out


def uncompressed_copy(path: Path, out: Path) -> bool:
    from pydicom.pixels import get_decoder
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = pydicom.dcmread(path, force=True)
    try:
        decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
        pixels, facts = decoder.as_array(dataset, index=0, raw=True, decoding_plugin="pylibjpeg")
    except (ValueError, RuntimeError, AttributeError):
        return False
    dataset.PhotometricInterpretation = facts["photometric_interpretation"]
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].is_undefined_length = False
    dataset["PixelData"].VR = "OW" if pixels.itemsize > 1 else "OB"
    dataset.NumberOfFrames = 1
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(out)
    return True


def run_dcmtk(tool: str, path: Path, options: list[str]) -> np.ndarray | None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.png"
        command = [tool, "-q", "-O", *options, "+on", str(path), str(out)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        except subprocess.TimeoutExpired:
            return None
        if done.returncode != 0 or not out.exists():
            return None
        with Image.open(out) as image:
            return np.asarray(image)


@cache
def all_outcomes() -> tuple[Outcome, ...]:
    return tuple(outcome(path) for path in data_files())
