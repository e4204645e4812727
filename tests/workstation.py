"""A filled workstation for tests of what stands on the services: real files go in, reads are recorded by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from sqlalchemy.orm import Session

from engine.findings.answers import (
    ALLOWED,
    Fracture,
    Plus,
    Stage,
    Task,
    Zone,
    bone_age_answer,
    fracture_answer,
    rop_answer,
)
from engine.inference.model_folder import version_name
from engine.inference.read import Read
from engine.services import ingest, reading
from engine.services.accounts import demo_reader, service_actor
from engine.services.ingest import IngestResult
from engine.settings import PHANTOM_MODEL_DIR

WORKER = service_actor("worker")
PHANTOM = version_name(PHANTOM_MODEL_DIR)
SOME_ANSWER = {
    Task.BONE_AGE: bone_age_answer(110),
    Task.ROP: rop_answer("II", "2", "none"),
    Task.FRACTURE: fracture_answer("buckle"),
}
BODY_PART = {Task.BONE_AGE: "HAND", Task.ROP: "EYE", Task.FRACTURE: "WRIST"}

_numbers = itertools.count(1)


def film_pixels(rows: int = 320, cols: int = 260) -> np.ndarray:
    """A smooth 12-bit ramp with a bright block: every grey level, and an edge. (rows, cols) uint16."""
    across = np.linspace(0, 4095, cols)[None, :]
    down = np.linspace(0.4, 1.0, rows)[:, None]
    pixels = (across * down).astype(np.uint16)
    pixels[rows // 4 : rows // 3, cols // 4 : cols // 3] = 4000
    return pixels


def write_film(path: Path, task: Task = Task.BONE_AGE, pixels: np.ndarray | None = None, **tags: Any) -> Path:
    """A valid DICOM file of its own child and study; `tags` by keyword overrides, None leaves a tag out."""
    number = next(_numbers)
    grey = film_pixels() if pixels is None else pixels
    colour = task is Task.ROP
    if colour and grey.ndim == 2:
        grey = np.repeat((grey >> 4).astype(np.uint8)[:, :, None], 3, axis=2)
    ds = Dataset()
    values = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.5.1" if colour else "1.2.840.10008.5.1.4.1.1.1.1",
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "PatientName": "Doe^Jane",
        "PatientID": f"ID{number:05}",
        "AccessionNumber": f"A{number:05}",
        "PatientSex": "F",
        "PatientBirthDate": "20160310",
        "StudyDate": "20250710",
        "AcquisitionDate": "20250710",
        "Modality": "OP" if colour else "DX",
        "ImageType": ["ORIGINAL", "PRIMARY"],
        "BurnedInAnnotation": "NO",
        "InstitutionName": "Site A",
        "ImageLaterality": "L",
        "BodyPartExamined": BODY_PART[task],
        "PresentationIntentType": None if colour else "FOR PRESENTATION",
        "Rows": grey.shape[0],
        "Columns": grey.shape[1],
        "SamplesPerPixel": 3 if colour else 1,
        "PlanarConfiguration": 0 if colour else None,
        "PhotometricInterpretation": "RGB" if colour else "MONOCHROME2",
        "BitsAllocated": 8 if colour else 16,
        "BitsStored": 8 if colour else 12,
        "HighBit": 7 if colour else 11,
        "PixelRepresentation": 0,
        "WindowCenter": None if colour else [2048, 1500],
        "WindowWidth": None if colour else [4096, 1000],
        "WindowCenterWidthExplanation": None if colour else ["NORMAL", "BONE"],
        **tags,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(ds, keyword, value)
    ds.PixelData = grey.tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)
    return path


def read_of(task: Task, answer: dict | None = None, *, reason: str | None = None) -> Read:
    """A read by the phantom model, most of the probability on `answer`; with a `reason` the model abstains."""
    if reason is not None:
        return Read(task, None, {}, None, None, True, reason, PHANTOM, 12.0)
    answer = answer or SOME_ANSWER[task]
    if task is Task.BONE_AGE:
        median = answer["bone_age_months"]
        weights = np.exp(-0.5 * ((np.arange(len(ALLOWED[task])) - median) / 5) ** 2)
        shares = {str(month): float(share) for month, share in enumerate(weights / weights.sum())}
        return Read(task, answer, shares, median, (median - 7, median + 7), False, None, PHANTOM, 12.0)
    if task is Task.FRACTURE:
        return Read(task, answer, _mostly(Fracture, answer["fracture"]), None, None, False, None, PHANTOM, 12.0)
    shares = {
        "zone": _mostly(Zone, answer["zone"]),
        "stage": _mostly(Stage, answer["stage"]),
        "plus_disease": _mostly(Plus, answer["plus_disease"]),
    }
    return Read(task, answer, shares, None, None, False, None, PHANTOM, 12.0)


def _mostly(members: type, chosen: str) -> dict[str, float]:
    rest = 0.1 / (len(members) - 1)
    return {member.value: 0.9 if member.value == chosen else rest for member in members}


AddCase = Callable[..., IngestResult]


def case_adder(session: Session, folder: Path) -> AddCase:
    """`add(task, answer=, reason=, is_read=, **tags)`: one more case on the worklist, read unless said otherwise."""

    def add(
        task: Task = Task.BONE_AGE,
        answer: dict | None = None,
        reason: str | None = None,
        is_read: bool = True,
        pixels: np.ndarray | None = None,
        **tags: Any,
    ) -> IngestResult:
        path = write_film(folder / f"film-{next(_numbers)}.dcm", task, pixels, **tags)
        result = ingest.ingest_file(session, demo_reader(), path, path.name)
        assert result.outcome == "accepted", result.reason
        waiting = {image.image_id for image in reading.images_awaiting_read(session, WORKER)}
        if is_read and result.image_id in waiting:
            read = read_of(task, answer, reason=reason)
            reading.record_reads(session, WORKER, [result.image_id], [read], is_phantom=True)
        return result

    return add
