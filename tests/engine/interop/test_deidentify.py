"""Nothing of a planted child leaves; the film does, unchanged."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tracemalloc
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

from engine.errors import FileRefused, Refused
from engine.imaging.load import load_film
from engine.interop import kept_attributes, rescan
from engine.interop.deidentify import TABLE, DeidentificationKey, Region, deidentified, write
from engine.phantoms.write import make_phantoms
from tests.mutations import BOMBS
from tests.planted import CHARACTER_SETS, Planted, plant
from tests.workstation import film_pixels, write_film

BOMB_DEFLATE = next(bomb for bomb in BOMBS if "deflate" in bomb.__name__)
KEY = DeidentificationKey(b"a key for the tests, 32 bytes ..")
FOREIGN_FILES = Path(__file__).parents[3].parent / "shared" / "testdata" / "dicom"
IN_BYTES = (
    "utf-8",
    "latin-1",
    "utf-16-le",
    "shift_jis",
    "iso2022_jp",
    "gb18030",
    "iso8859-5",
    "iso8859-7",
    "iso8859-8",
)
pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")  # the planted files break the standard


def export(path: Path, out: Path, **options) -> Dataset:
    write(deidentified(path, KEY, "P-7F3K2Q", **options), out)
    return dcmread(out)


def planted_in(out: Path, film: Planted) -> list[str]:
    """By brute force: which of the secrets are among the bytes."""
    raw, found = out.read_bytes().lower(), []
    for secret in film.secrets:
        for encoding in CHARACTER_SETS:
            try:
                if secret.encode(encoding).lower() in raw:
                    found.append(f"{secret} as {encoding}")
            except UnicodeEncodeError:
                continue
    return found


@pytest.mark.parametrize("seed", range(16))
def test_no_planted_identifier_leaves_and_the_pixels_stay(tmp_path: Path, seed: int) -> None:
    film, out = plant(tmp_path, seed), tmp_path / "out.dcm"
    new = export(film.path, out, is_free_of_text=True)
    assert planted_in(film.path, film)
    assert planted_in(out, film) == []
    assert rescan.leaks_in_dicom(out, rescan.identifiers_of(film.path), "P-7F3K2Q/1.dcm") == []
    if film.stored is not None:
        np.testing.assert_array_equal(new.pixel_array, film.stored)
    before, after = load_film(film.path), load_film(out)
    np.testing.assert_array_equal(after.pixels, before.pixels)
    assert after.inverted == before.inverted
    assert after.tags.patient_sex == before.tags.patient_sex


def test_it_says_what_was_done(tmp_path: Path) -> None:
    new = export(write_film(tmp_path / "a.dcm"), tmp_path / "out.dcm")
    assert (new.PatientID, str(new.PatientName)) == ("P-7F3K2Q", "P-7F3K2Q")
    assert new.PatientIdentityRemoved == "YES"
    assert new.LongitudinalTemporalInformationModified == "MODIFIED"
    done = {(item.CodeValue, item.CodeMeaning) for item in new.DeidentificationMethodCodeSequence}
    assert done == {
        ("113100", "Basic Application Confidentiality Profile"),
        ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
        ("113108", "Retain Patient Characteristics Option"),
    }
    assert all(len(line) <= 64 for line in new.DeidentificationMethod)
    assert codes.cid7050.CleanPixelDataOption.value not in {value for value, _ in done}


def test_studies_stay_together_and_the_key_decides_the_uids(tmp_path: Path) -> None:
    first = write_film(tmp_path / "1.dcm", StudyInstanceUID="1.2.3.4", SeriesInstanceUID="1.2.3.4.1")
    second = write_film(tmp_path / "2.dcm", StudyInstanceUID="1.2.3.4", SeriesInstanceUID="1.2.3.4.1")
    one, two = export(first, tmp_path / "o1.dcm"), export(second, tmp_path / "o2.dcm")
    assert one.StudyInstanceUID == two.StudyInstanceUID != "1.2.3.4"
    assert one.SeriesInstanceUID == two.SeriesInstanceUID != one.StudyInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID
    again = deidentified(first, DeidentificationKey(b"a key for the tests, 32 bytes .."), "P-7F3K2Q")
    other = deidentified(first, DeidentificationKey(b"another key for the tests"), "P-7F3K2Q")
    assert again.SOPInstanceUID == one.SOPInstanceUID != other.SOPInstanceUID


def test_dates_move_by_one_number_of_days_a_child(tmp_path: Path) -> None:
    days = {"PatientBirthDate": "20160310", "StudyDate": "20240229", "AcquisitionDate": "20240301"}
    earlier = write_film(tmp_path / "1.dcm", **days)
    later = write_film(tmp_path / "2.dcm", **days | {"StudyDate": "20250710", "AcquisitionDate": "20250710"})
    one, two = export(earlier, tmp_path / "o1.dcm"), export(later, tmp_path / "o2.dcm")
    assert one.PatientBirthDate == two.PatientBirthDate != "20160310"
    assert as_day(two.StudyDate) - as_day(one.StudyDate) == date(2025, 7, 10) - date(2024, 2, 29)
    assert as_day(two.StudyDate) - as_day(two.PatientBirthDate) == date(2025, 7, 10) - date(2016, 3, 10)
    assert as_day(one.StudyDate) < date(2024, 2, 29)
    assert KEY.days_earlier("P-7F3K2Q") != KEY.days_earlier("P-OTHER1")
    shifts = [KEY.days_earlier(f"P-{number}") for number in range(3000)]
    assert min(shifts) >= 1 and max(shifts) <= 3650 and len(set(shifts)) > 1500


def as_day(text: str) -> date:
    return date.fromisoformat(f"{text[:4]}-{text[4:6]}-{text[6:]}")


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned_in_annotation"),
        ({"BurnedInAnnotation": None}, "burned_in_unknown"),
        ({"BurnedInAnnotation": None, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "burned_in_unknown"),
        ({"RecognizableVisualFeatures": "YES"}, "recognizable_features"),
        ({"StudyInstanceUID": "", }, "missing_attribute"),
        ({"SOPClassUID": "1.2.3.4.5"}, "missing_attribute"),
        ({"NumberOfFrames": 2}, "unsupported_pixels"),
    ],
)  # fmt: skip
def test_what_may_name_the_child_in_its_pixels_is_held_back(tmp_path: Path, tags: dict, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        deidentified(write_film(tmp_path / "a.dcm", **tags), KEY, "P-7F3K2Q")
    assert refusal.value.code == code


def test_a_mask_empties_the_stored_pixels_and_nothing_else(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.dcm", pixels=np.maximum(film_pixels(), 1), BurnedInAnnotation="YES")
    new = export(path, tmp_path / "out.dcm", masks=[Region(10, 20, 30, 40), Region(250, 0, 10, 5)])
    expected = np.maximum(film_pixels(), 1)
    expected[20:60, 10:40] = 0
    expected[0:5, 250:260] = 0
    np.testing.assert_array_equal(new.pixel_array, expected)
    assert new.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert "113101" in {item.CodeValue for item in new.DeidentificationMethodCodeSequence}
    assert new.ImageType[0] == "DERIVED"
    assert new.BurnedInAnnotation == "NO"
    with pytest.raises(Refused, match="does not lie within"):
        deidentified(path, KEY, "P-7F3K2Q", masks=[Region(0, 0, 9999, 1)])


def test_a_weak_key_is_refused() -> None:
    with pytest.raises(Refused, match="needs 16"):
        DeidentificationKey(b"short")


def test_every_kept_attribute_is_one_that_the_standard_lets_be_kept() -> None:
    """PS3.15 table E.1-1: what it names is either mapped, moved, a patient's characteristic, or emptied here."""
    from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector
    from pydicom.datadict import keyword_for_tag

    table = dicom_anonymization_database_selector(TABLE)["ALL_TAGS"]
    named = {keyword_for_tag(tag[0] << 16 | tag[1]) for tag in table if len(tag) == 2}
    kept = {*kept_attributes.NUMBERS, *kept_attributes.CODE_STRINGS, *kept_attributes.CODE_SEQUENCES}
    assert kept & named <= set(kept_attributes.PATIENT_CHARACTERISTICS)


@pytest.mark.parametrize("task", ["hand", "fundus", "wrist"])
def test_phantoms_stay_phantoms_and_dicom3tools_finds_nothing_new(tmp_path: Path, task: str) -> None:
    needs("dciodvfy")
    needs("dcmdump")
    [phantom] = make_phantoms(tmp_path, task, 1, 3)  # type: ignore[arg-type]
    out = tmp_path / "out.dcm"
    new = export(phantom.path, out)
    assert new.Manufacturer == "PediScreen phantom"
    assert load_film(out).tags.made_by_phantom
    assert rescan.leaks_in_dicom(out, rescan.identifiers_of(phantom.path), "x.dcm") == []
    subprocess.run(["dcmdump", "-q", str(out)], check=True, capture_output=True)
    assert complaints(out) <= complaints(phantom.path)


def complaints(path: Path) -> set[str]:
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace").stderr
    return {line for line in said.splitlines() if line.startswith("Error")}


def needs(program: str) -> None:
    if shutil.which(program) is None and not os.environ.get("CI"):
        pytest.skip(f"{program} is not installed (make test does it)")


@pytest.mark.skipif(not FOREIGN_FILES.is_dir(), reason="the foreign test files are not on this machine")
def test_foreign_files_leave_without_what_they_say_or_not_at_all(tmp_path: Path) -> None:
    exported, held_back = 0, 0
    for path in sorted(path for path in FOREIGN_FILES.rglob("*") if path.is_file() and path.suffix != ".csv"):
        out = tmp_path / f"{exported}.dcm"
        try:
            write(deidentified(path, KEY, "P-7F3K2Q", is_free_of_text=True), out)
            known = rescan.identifiers_of(path)
        except Refused:
            held_back += 1
            continue
        assert rescan.leaks_in_dicom(out, known, out.name) == [], path.name
        np.testing.assert_array_equal(load_film(out).pixels, load_film(path).pixels, err_msg=path.name)
        exported += 1
    assert exported >= 60, (exported, held_back)


def test_a_deflated_file_is_refused_before_it_is_unfolded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.dcm"
    path.write_bytes(BOMB_DEFLATE(random.Random(2)))
    tracemalloc.start()
    with pytest.raises(Refused, match="deflated"):
        deidentified(path, KEY, "P-7F3K2Q")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6


def test_a_file_cut_off_is_refused_with_a_reason(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(FileRefused, match="cut off"):
        deidentified(path, KEY, "P-7F3K2Q")
