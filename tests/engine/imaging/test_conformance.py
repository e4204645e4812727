"""164 DICOM files that nobody here wrote, each rendered as dcmtk renders it or refused with a reason."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from engine.imaging.display import display_pixels
from engine.imaging.load import load_film
from tests.engine.imaging.dicom_conformance import (
    KNOWN_DIFFERENCES,
    KNOWN_REFUSALS,
    TEST_DATA,
    Outcome,
    all_outcomes,
    run_dcmtk,
    write_table,
)

pytestmark = [
    pytest.mark.skipif(not TEST_DATA.exists(), reason="the DICOM test data (../shared/testdata/dicom) is not here"),
    pytest.mark.skipif(shutil.which("dcmj2pnm") is None, reason="dcmtk is not installed"),
]

CODES = {
    "no_pixels",
    "truncated",
    "malformed",
    "unsupported_pixels",
    "unsupported_syntax",
    "unknown_format",
    "too_many_pixels",
    "too_much_memory",
}


@pytest.fixture(scope="module")
def outcomes() -> tuple[Outcome, ...]:
    outcomes = all_outcomes()
    write_table(outcomes)
    return outcomes


def test_every_file_is_rendered_or_refused_with_a_reason(outcomes: tuple[Outcome, ...]) -> None:
    """Neither a decoder that crashed nor one that had to be stopped is among the reasons."""
    assert len(outcomes) >= 164
    for row in outcomes:
        assert row.outcome == "rendered" or (row.code in CODES and row.message), row


def test_what_is_rendered_is_what_dcmtk_shows(outcomes: tuple[Outcome, ...]) -> None:
    compared = [row for row in outcomes if row.max_difference is not None]
    assert len(compared) >= 109
    beyond = {row.file: row.pixels_beyond_tolerance for row in compared if row.pixels_beyond_tolerance}
    assert beyond.keys() == KNOWN_DIFFERENCES.keys()
    for file, count in beyond.items():
        allowed, _ = KNOWN_DIFFERENCES[file]
        assert allowed is None or count <= allowed, file


def test_nothing_that_dcmtk_shows_is_refused_without_a_known_reason(outcomes: tuple[Outcome, ...]) -> None:
    refused = {row.file for row in outcomes if row.outcome == "refused" and row.oracle == "decodes it"}
    assert refused == KNOWN_REFUSALS.keys()


def test_every_radiograph_and_fundus_photograph_is_rendered(outcomes: tuple[Outcome, ...]) -> None:
    for row in outcomes:
        if row.file.startswith(("radiograph/", "ophthalmic/", "lut/", "colour/PM5644")):
            assert row.outcome == "rendered", row


def test_the_hostile_sizes_are_refused_by_name(outcomes: tuple[Outcome, ...]) -> None:
    codes = {row.file: row.code for row in outcomes}
    assert codes["broken/3gb-bulk-data-truncated"] == "too_much_memory"
    assert codes["hostile/2026-05-26-oob-monochrome-46341.dcm"] == "too_many_pixels"


def test_with_its_vrs_put_right_the_file_of_unknown_vrs_looks_as_in_dcmtk(tmp_path: Path) -> None:
    path = TEST_DATA / "grey-codec/2021-02-19-MalaterreCP246.dcm"
    dataset = pydicom.dcmread(path)
    for element in dataset:
        _ = element.value  # pydicom looks the VR up
    dataset.PixelData = dataset.pixel_array.tobytes()
    dataset["PixelData"].is_undefined_length = False
    dataset["PixelData"].VR = "OW"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.save_as(tmp_path / "film.dcm")
    theirs = run_dcmtk("dcmj2pnm", tmp_path / "film.dcm", ["+Wi", "1"])
    ours = display_pixels(load_film(path))
    assert np.abs(ours.astype(int) - theirs).max() <= 1
