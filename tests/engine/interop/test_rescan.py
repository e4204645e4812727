"""A writer that leaks is caught, wherever and however it leaks."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from engine.interop import rescan
from engine.interop.deidentify import DeidentificationKey, deidentified, write
from tests.workstation import write_film

KEY = DeidentificationKey(b"a key for the tests, 32 bytes ..")
NAME, NUMBER, BORN = "Müllerová^Františka", "7305551", "20160310"


@pytest.fixture
def original(tmp_path: Path) -> Path:
    tags = {"SpecificCharacterSet": "ISO_IR 192", "PatientName": NAME, "PatientID": NUMBER}
    return write_film(tmp_path / "original.dcm", **tags, StudyInstanceUID="1.2.826.0.77", OperatorsName="Li^Wu")


def leaks(
    original: Path, tmp_path: Path, leak: Callable[[Dataset], None], name: str = "P-A/1.dcm"
) -> list[rescan.Leak]:
    new, out = deidentified(original, KEY, "P-7F3K2Q"), tmp_path / "out.dcm"
    leak(new)
    write(new, out)
    return rescan.leaks_in_dicom(out, rescan.identifiers_of(original), name)


def nested(dataset: Dataset) -> Dataset:
    return dataset.DeidentificationMethodCodeSequence[0]


LEAKS: dict[str, Callable[[Dataset], None]] = {
    "the name": lambda new: setattr(new, "PatientName", "Müllerová^Františka"),
    "a part of it in another attribute": lambda new: setattr(new, "PatientID", "xx frantiska yy"),
    "without its accents": lambda new: setattr(new, "AccessionNumber", "MULLEROVA"),
    "nested": lambda new: setattr(nested(new), "CodeMeaning", "Müllerová"),
    "in latin 2": lambda new: new.add_new(0x00282000, "OB", "Františka".encode("iso8859-2") + b" "),
    "in UTF-8": lambda new: new.add_new(0x00282000, "OB", "Františka".encode()),
    "in UTF-16": lambda new: new.add_new(0x00282000, "OB", "Müllerová".encode("utf-16-le")),
    "in base64": lambda new: new.add_new(0x00282000, "OB", base64.b64encode(b"a" + NUMBER.encode() + b"bcd")),
    "in hexadecimal": lambda new: new.add_new(0x00282000, "OB", NUMBER.encode().hex().encode()),
    "the number": lambda new: setattr(new, "StudyID", NUMBER),
    "the number as a number": lambda new: setattr(new, "InstanceNumber", int(NUMBER)),
    "the number in binary": lambda new: new.add_new(0x00089459, "UL", int(NUMBER)),
    "the number within decimals": lambda new: setattr(new, "KVP", f"1.{NUMBER}"),
    "the birth date": lambda new: setattr(new, "StudyDate", BORN),
    "the birth date as people write it": lambda new: setattr(new, "StudyID", "10.03.2016"),
    "a UID": lambda new: setattr(new, "FrameOfReferenceUID", "1.2.826.0.77"),
    "a UID in a text": lambda new: setattr(new, "StudyID", "x1.2.826.0.77"),
    "a short name as a whole": lambda new: setattr(new, "OperatorsName", "Li^Wu"),
    "an institution": lambda new: setattr(new, "InstitutionName", "Site A"),
    "a private attribute": lambda new: new.private_block(0x0009, "ACME", create=True).add_new(1, "LO", "harmless"),
    "an unknown attribute": lambda new: new.add_new(0x00104321, "UN", b"harmless"),
    "an overlay": lambda new: new.add_new(0x60003000, "OW", b"\0\1" * 8),
    "a comment": lambda new: setattr(new, "ImageComments", "whatever"),
    "a time of day": lambda new: setattr(new, "StudyTime", "101112"),
    "no word of the removal": lambda new: delattr(new, "PatientIdentityRemoved"),
    "text in the pixels": lambda new: setattr(new, "BurnedInAnnotation", "YES"),
    "the name among the pixels": lambda new: setattr(
        new, "PixelData", "Müllerová".encode("latin-1").ljust(len(new.PixelData), b"\0")
    ),
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS.keys())
def test_a_leak_is_found_and_described_without_its_text(
    original: Path, tmp_path: Path, leak: Callable[[Dataset], None]
) -> None:
    found = leaks(original, tmp_path, leak)
    assert found
    assert not any(part in repr(found) for part in ("ller", "Frant", NUMBER, BORN, "1.2.826"))


def test_what_does_not_leak_passes(original: Path, tmp_path: Path) -> None:
    assert leaks(original, tmp_path, lambda new: None) == []


def test_a_writer_that_copies_everything_fails(original: Path) -> None:
    found = rescan.leaks_in_dicom(original, rescan.identifiers_of(original), "1.dcm")
    assert {"name", "identifier", "date", "UID", "text"} <= {leak.what for leak in found}


@pytest.mark.parametrize("name", ["7305551.dcm", "P-A/mullerova/1.dcm", "1.2.826.0.77/2.25.1.dcm"])
def test_a_file_name_counts(original: Path, tmp_path: Path, name: str) -> None:
    assert [leak.where for leak in leaks(original, tmp_path, lambda new: None, name)] == ["file name"]


def test_the_preamble_and_what_follows_the_data_set_count(original: Path, tmp_path: Path) -> None:
    leaks(original, tmp_path, lambda new: None)
    out, known = tmp_path / "out.dcm", rescan.identifiers_of(original)
    clean = out.read_bytes()
    for raw in (b"II*\0".ljust(128, b"\0") + clean[128:], clean + b"trailing bytes", clean[:-7], b"not DICOM at all"):
        out.write_bytes(raw)
        assert rescan.leaks_in_dicom(out, known, "1.dcm")


def test_a_child_named_like_a_body_part_is_no_leak(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.dcm", PatientName="Hand^Mary")
    new, out = deidentified(path, KEY, "P-7F3K2Q"), tmp_path / "out.dcm"
    write(new, out)
    assert rescan.leaks_in_dicom(out, rescan.identifiers_of(path), "1.dcm") == []
    new.StudyID = "HAND MARY"
    write(new, out)
    assert rescan.leaks_in_dicom(out, rescan.identifiers_of(path), "1.dcm") != []


@pytest.mark.parametrize(
    "content",
    [{"a": [{"b": "x Müllerová"}]}, {"Františka": 1}, [NUMBER], [int(NUMBER)], {"d": "2016-03-10"}, ["1.2.826.0.77"]],
)
def test_json_beside_it_counts_escaped_or_not(original: Path, tmp_path: Path, content: object) -> None:
    path, known = tmp_path / "a.json", rescan.identifiers_of(original)
    for ascii_only in (True, False):
        path.write_text(json.dumps(content, ensure_ascii=ascii_only), encoding="utf-8")
        assert rescan.leaks_in_json(path, known, "a.json")
    path.write_text(json.dumps({"patient": "P-7F3K2Q", "file": "P-7F3K2Q/2.25.17305551/2.25.2.dcm"}))
    assert rescan.leaks_in_json(path, known, "a.json") == []


def test_what_may_not_be_found_does_not_print_itself(original: Path) -> None:
    assert "ller" not in repr(rescan.identifiers_of(original))
    assert dcmread(original).PatientID == NUMBER
