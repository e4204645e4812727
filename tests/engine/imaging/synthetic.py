"""DICOM files made for one test each: a small radiograph with the tags that the test is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

DX = "1.2.840.10008.5.1.4.1.1.1.1"


def radiograph(pixels: np.ndarray, bits: int | None = None, **tags: Any) -> FileDataset:
    """A DX object of `pixels` (unsigned or signed 8- or 16-bit). A tag given as None is taken out."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DX
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    allocated = 8 * pixels.dtype.itemsize
    defaults = {
        "SOPClassUID": DX,
        "SOPInstanceUID": "1.2.3.4",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.1",
        "Modality": "DX",
        "PatientID": "P1",
        "PatientName": "Doe^Jane",
        "PatientSex": "F",
        "PatientBirthDate": "20150310",
        "StudyDate": "20240611",
        "AccessionNumber": "A1",
        "ImageLaterality": "L",
        "BodyPartExamined": "HAND",
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": allocated,
        "BitsStored": bits or allocated,
        "HighBit": (bits or allocated) - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(),
    }
    for keyword, value in (defaults | tags).items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset["PixelData"].VR = "OB" if allocated == 8 else "OW"
    return dataset


def lut_item(first: int, bits: int, data: np.ndarray, explanation: str | None = None) -> Dataset:
    """An item of a Modality or VOI LUT Sequence, its data as 16-bit words."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(data) % 65536, first, bits])
    item.add_new("LUTData", "OW", np.asarray(data).astype("<u2").tobytes())
    if explanation:
        item.LUTExplanation = explanation
    return item


def saved(dataset: FileDataset, path: Path) -> Path:
    dataset.save_as(path, enforce_file_format=False)
    return path


def ramp(rows: int = 256, cols: int = 256, top: int = 4095) -> np.ndarray:
    """Every value from 0 to `top`, in order."""
    return np.linspace(0, top, rows * cols).round().astype(np.uint16).reshape(rows, cols)
