"""What a source file says of its examination, and that a broken one says nothing rather than something wrong."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from engine.interop.source_header import SourceHeader, source_header


def written(path: Path, **tags: object) -> Path:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"
    for keyword, value in tags.items():
        setattr(data, keyword, value)
    data.PixelData = b"\0" * 16
    data["PixelData"].VR = "OW"
    data.save_as(path, enforce_file_format=True)
    return path


def test_what_the_file_says(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.dcm",
        SpecificCharacterSet=["", "ISO 2022 IR 87"],
        PatientName="Yamada^Tarou=山田^太郎",
        StudyID="7",
        StudyDate="20260303",
        StudyTime="101500.25",
        ReferringPhysicianName="Referrer^Rita",
        TimezoneOffsetFromUTC="+0100",
        Rows=640,
        Columns=512,
    )
    assert source_header(path) == SourceHeader(
        "Yamada^Tarou=山田^太郎", "7", date(2026, 3, 3), "101500.25", "Referrer^Rita", "+0100", 640, 512
    )


@pytest.mark.parametrize(("time", "offset"), [("25:00", "CET"), ("2500", "+2500"), ("101560", "0100")])
def test_a_time_that_is_none_is_not_known(tmp_path: Path, time: str, offset: str) -> None:
    path = written(tmp_path / "a.dcm", StudyTime=time, TimezoneOffsetFromUTC=offset)
    header = source_header(path)
    assert header.study_time is None and header.timezone_offset is None


def test_a_file_that_is_gone_or_is_no_dicom_says_nothing(tmp_path: Path) -> None:
    assert source_header(tmp_path / "gone.dcm") == SourceHeader()
    for content in (b"", b"not a DICOM file", b"\0" * 128 + b"DICM", bytes(range(256)) * 20):
        (tmp_path / "other").write_bytes(content)
        assert source_header(tmp_path / "other") == SourceHeader()
