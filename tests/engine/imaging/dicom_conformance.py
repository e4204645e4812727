"""Every file of the DICOM test data through our display pipeline and, where it can decode it, through dcmtk's.

    python tests/engine/imaging/dicom_conformance.py      writes the table and the end of docs/dicom-conformance.md

test_conformance.py runs the same functions and judges the outcome. The oracle is dcmtk's dcmj2pnm (dcml2pnm for
JPEG-LS), without overlays: `+Wl 1` where our first VOI is a VOI LUT, `+Wi n` where it is the file's n-th window, and
`+Ww centre width` with our automatic window where the file has none. dcmtk cannot decode JPEG 2000 and HTJ2K: these
are decoded to an uncompressed copy by pylibjpeg-openjpeg, which the workstation does not use, and shown by dcmtk."""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

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
    max_difference: int | None  # grey levels
    mean_difference: float | None
    pixels_beyond_tolerance: int | None
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
        return Outcome(name, "refused", refusal.code, str(refusal), "", seconds, oracle, None, None, None, "")
    ours = display_pixels(film)
    seconds = time.monotonic() - started
    oracle, theirs = dcmtk_display(path, film)
    largest = mean = beyond = None
    if theirs is not None:
        if theirs.shape[:2] != ours.shape[:2] and any("resampled" in warning for warning in film.warnings):
            theirs = np.asarray(Image.fromarray(theirs).resize(ours.shape[1::-1], Image.Resampling.BILINEAR))
            oracle += ", resampled"
        difference = compare(film, ours, theirs)
        if difference is None:
            oracle += f" (other size: {theirs.shape[0]} x {theirs.shape[1]})"
        else:
            largest, mean = int(difference.max()), float(difference.mean())
            beyond = int((difference > tolerance(is_uncompressed_ybr(path))).sum())
    voi = film.vois[0].name if film.vois else "colour"
    return Outcome(name, "rendered", "", "", voi, seconds, oracle, largest, mean, beyond, " | ".join(film.warnings))


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


# Where we and dcmtk differ, and why. {file: (pixels that may differ by more than the tolerance, reason)}
KNOWN_DIFFERENCES = {
    "grey-codec/2021-02-19-MalaterreCP246.dcm": (
        None,
        "Rescale and window are encoded with VR UN. dcmtk ignores the rescale; with the VRs put right in a copy, "
        "it shows what we show (test_conformance.py checks that).",
    ),
    "radiograph/RG3_JPLY": (
        8,
        "The lossy 12-bit frame overshoots the 10 bits stored in 8 pixels. We limit them to white; dcmtk lets them "
        "wrap around to black.",
    ),
}
# Files that dcmtk shows and we refuse.
KNOWN_REFUSALS = {
    "broken/badVR.dcm": "a dose grid of 32-bit integers, no radiograph",
    "colour/SC_rgb_rle_32bit_2frame.dcm": "32 bits a colour channel, in no radiograph or fundus photograph",
    "fuzz/cat04_TC0285_buf_half.dcm": "half of the pixels are missing; dcmtk makes them up",
    "fuzz/cat19_TC0953_ect_sfg_huge.dcm": "64 of 8,192 bytes of pixels are there; dcmtk makes the rest up",
    "fuzz/cat21_TC0973_px_1024sq_64b.dcm": "64 of 2 million bytes of pixels are there; dcmtk makes the rest up",
}


def tolerance(uncompressed_ybr: bool) -> int:
    """Grey levels. Two for uncompressed YBR: dcmtk truncates in the conversion to RGB, the standard's formula rounds.

    Lossy codecs get no more than lossless ones: no two decoders here differed by more than one level."""
    return 2 if uncompressed_ybr else 1


def is_uncompressed_ybr(path: Path) -> bool:
    dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
    syntax = dataset.get("file_meta", {}).get("TransferSyntaxUID", "")
    plain = syntax == RLELossless or not getattr(syntax, "is_encapsulated", False)
    return plain and str(dataset.get("PhotometricInterpretation", "")).startswith("YBR")


def write_table(outcomes: tuple[Outcome, ...]) -> None:
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Outcome)])
        writer.writeheader()
        for row in outcomes:
            writer.writerow(asdict(row) | {"seconds": f"{row.seconds:.3f}"})


def write_summary(outcomes: tuple[Outcome, ...]) -> None:
    """Replace the generated part of docs/dicom-conformance.md."""
    text = SUMMARY.read_text(encoding="utf-8")
    written_by_hand = text[: text.index(GENERATED)] if GENERATED in text else text
    SUMMARY.write_text(written_by_hand + GENERATED + "\n\n" + summary(outcomes), encoding="utf-8")


GENERATED = "<!-- From here on written by: python tests/engine/imaging/dicom_conformance.py -->"


def summary(outcomes: tuple[Outcome, ...]) -> str:
    rendered = [row for row in outcomes if row.outcome == "rendered"]
    compared = [row for row in rendered if row.max_difference is not None]
    alone = [row for row in rendered if row.max_difference is None]
    refused = [row for row in outcomes if row.outcome == "refused"]
    within = [row for row in compared if row.max_difference <= 1]
    lines = [
        "## Result, file by file",
        "",
        f"{len(outcomes)} files: {len(rendered)} rendered, {len(refused)} refused with a reason, none crashed or hung. "
        f"Of the rendered ones dcmtk can show {len(compared)}: {len(within)} of them equal dcmtk's picture within "
        f"1 grey level. The slowest file took {max(row.seconds for row in outcomes):.1f} s.",
        "",
        "| folder | files | rendered | of these compared | equal within 1 | refused |",
        "|---|---|---|---|---|---|",
    ]
    for folder in sorted({row.file.split("/")[0] for row in outcomes}):
        here = [[row for row in group if row.file.startswith(folder + "/")] for group in (outcomes, rendered, compared)]
        counts = [len(group) for group in here]
        equal = sum(row.max_difference <= 1 for row in here[2])
        lines.append(f"| {folder} | {counts[0]} | {counts[1]} | {counts[2]} | {equal} | {counts[0] - counts[1]} |")
    lines += ["", "### Compared, and more than 1 grey level apart", "", "| file | oracle | largest | mean | why |"]
    lines.append("|---|---|---|---|---|")
    for row in compared:
        if row.max_difference > 1:
            why = KNOWN_DIFFERENCES.get(
                row.file, (None, "YBR to RGB: dcmtk truncates, the standard's formula rounds.")
            )[1]
            lines.append(f"| {row.file} | `{row.oracle}` | {row.max_difference} | {row.mean_difference:.2f} | {why} |")
    lines += [
        "",
        "### Rendered by us, not by dcmtk",
        "",
        "| file | VOI shown | dcmtk | our warnings |",
        "|---|---|---|---|",
    ]
    lines += [f"| {row.file} | {row.voi} | {row.oracle} | {_cell(row.warnings)} |" for row in alone]
    lines += ["", "### Refused by us, shown by dcmtk", "", "| file | our code | why |", "|---|---|---|"]
    shown = [row for row in refused if row.oracle == "decodes it"]
    lines += [f"| {row.file} | {row.code} | {KNOWN_REFUSALS.get(row.file, '')} |" for row in shown]
    lines += ["", "### Refused", "", "| file | code | reason shown | dcmtk |", "|---|---|---|---|"]
    lines += [f"| {row.file} | {row.code} | {_cell(row.message)} | {row.oracle} |" for row in refused]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace(" | ", "; ").replace("|", "/")


if __name__ == "__main__":
    write_table(all_outcomes())
    write_summary(all_outcomes())
    print(f"wrote {TABLE} and {SUMMARY}")
