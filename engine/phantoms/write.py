"""Phantoms as files: DICOM (DX, CR, OP), PNG, or a `pedirad-custom` folder."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from engine.annotations import SPLITS, TASK_FOLDERS, Annotation, annotations_file_name
from engine.findings.answers import TASK_OF_VIEW, Answer, View
from engine.imaging.display import display_pixels
from engine.imaging.film import PHANTOM_MANUFACTURER
from engine.imaging.preprocess import FILM_PNG
from engine.phantoms import seeds
from engine.phantoms.draw import DRAW
from engine.phantoms.exposure import SITES
from engine.phantoms.phantom import Phantom

FILM_SCALE = 2.0  # 1280 rows for a radiograph, 1152 for a fundus
FIRST_DAY = date(2026, 1, 5)
SOP_CLASS = {
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray Image Storage - For Presentation
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "OP": "1.2.840.10008.5.1.4.1.1.77.1.5.1",  # Ophthalmic Photography 8 Bit
}
BODY_PART = {View.HAND: "HAND", View.WRIST: "WRIST", View.FUNDUS: "EYE"}
DESCRIPTION = {View.HAND: "Bone age, hand PA", View.WRIST: "Wrist PA", View.FUNDUS: "ROP screening, wide field"}
ANATOMIC_REGION = {  # SNOMED CT, as DICOM CID 4031 and CID 4209 list them
    View.HAND: ("85562004", "Hand"),
    View.WRIST: ("74670003", "Wrist"),
    View.FUNDUS: ("81745001", "Eye"),
}
SPLIT_OF_TEN = ("train",) * 7 + ("val",) + ("test",) * 2


@dataclass(frozen=True)
class PhantomPatient:
    """Who a phantom is said to be. None leaves the tag empty, as careless modalities do."""

    patient_id: str
    name: str
    sex: Literal["M", "F", None]
    birth_date: date | None


@dataclass(frozen=True)
class PhantomFile:
    path: Path
    answer: Answer
    sex: str
    age_months: float
    laterality: str
    site: str
    seed: int


def make_phantoms(
    out_dir: Path,
    task: Literal["hand", "fundus", "wrist"],
    count: int,
    seed: int,
    *,
    site: str = "A",
    format: Literal["dicom", "png", "pedirad-custom"] = "dicom",
) -> list[PhantomFile]:
    """Draw and write `count` phantoms; the same arguments give the same files. Existing files are replaced."""
    view = View(task)
    out_dir.mkdir(parents=True, exist_ok=True)
    first = seeds.USER + seed * seeds.USER_STRIDE
    made = []
    for index in range(count):
        phantom = DRAW[view](first + index, site=site, film_scale=FILM_SCALE)
        name = f"{task}-{site}-{seed}-{index:05d}"
        if format == "dicom":
            path = out_dir / f"{name}.dcm"
            write_dicom(phantom, path, patient=patient_for(phantom), acquired_on=day_for(phantom))
        elif format == "png":
            path = out_dir / f"{name}.png"
            write_png(phantom, path)
        else:
            split = SPLIT_OF_TEN[index % len(SPLIT_OF_TEN)]
            folder = out_dir / TASK_FOLDERS[TASK_OF_VIEW[view]] / split
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{name}.png"
            write_png(phantom, path)
        made.append(
            PhantomFile(path, phantom.answer, phantom.sex, phantom.age_months, phantom.laterality, site, phantom.seed)
        )
    if format == "pedirad-custom":
        _write_annotations(out_dir / TASK_FOLDERS[TASK_OF_VIEW[view]], made)
    return made


def patient_for(phantom: Phantom) -> PhantomPatient:
    """A child of the phantom's sex and age."""
    born = day_for(phantom) - timedelta(days=round(phantom.age_months * 365.25 / 12))
    return PhantomPatient(f"PH-{phantom.seed}", f"Phantom^{phantom.view.value.title()}", phantom.sex, born)


def day_for(phantom: Phantom) -> date:
    return FIRST_DAY + timedelta(days=phantom.seed % 300)


def write_png(phantom: Phantom, path: Path) -> None:
    """8 bit, as the default window shows it; the Software text marks it as a phantom."""
    text = PngInfo()
    text.add_text("Software", PHANTOM_MANUFACTURER)
    Image.fromarray(display_pixels(phantom.film())).save(path, pnginfo=text, **FILM_PNG)


def write_dicom(
    phantom: Phantom,
    path: Path,
    *,
    patient: PhantomPatient,
    acquired_on: date,
    laterality: Literal["L", "R", None] | Literal["as drawn"] = "as drawn",
    study_instance_uid: str | None = None,
    accession_number: str | None = None,
) -> Dataset:
    """One film as its site's modality would send it. UIDs follow from the seed, so a phantom is always itself.

    `laterality` and the patient's fields may be None to leave their tags empty."""
    site = SITES[phantom.site]
    modality = "OP" if phantom.view is View.FUNDUS else site.modality
    identity = f"pediscreen-{phantom.view}-{phantom.site}-{phantom.seed}"
    side = phantom.laterality if laterality == "as drawn" else laterality
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.SOPClassUID = SOP_CLASS[modality]
    data.SOPInstanceUID = generate_uid(entropy_srcs=[identity, "instance"])
    data.StudyInstanceUID = study_instance_uid or generate_uid(entropy_srcs=[identity, "study"])
    data.SeriesInstanceUID = generate_uid(entropy_srcs=[identity, "series"])
    data.StudyID, data.SeriesNumber, data.InstanceNumber = "1", 1, 1
    data.AccessionNumber = accession_number or f"A{phantom.seed % 10**9:09d}"
    data.Modality = modality
    data.Manufacturer = PHANTOM_MANUFACTURER
    data.InstitutionName = site.institution
    data.StationName = f"PHANTOM-{site.name}"
    data.StudyDescription = DESCRIPTION[phantom.view]
    data.ReferringPhysicianName = None
    data.PatientID = patient.patient_id
    data.IssuerOfPatientID = f"PHANTOM-{site.name}"
    data.PatientName = patient.name
    data.PatientSex = patient.sex
    data.PatientBirthDate = patient.birth_date.strftime("%Y%m%d") if patient.birth_date else None
    data.StudyDate = data.ContentDate = data.AcquisitionDate = acquired_on.strftime("%Y%m%d")
    minutes = phantom.seed % 540
    data.StudyTime = data.ContentTime = data.AcquisitionTime = f"{8 + minutes // 60:02d}{minutes % 60:02d}00"
    data.BodyPartExamined = BODY_PART[phantom.view]
    region = Dataset()
    region.CodeValue, region.CodeMeaning = ANATOMIC_REGION[phantom.view]
    region.CodingSchemeDesignator = "SCT"
    data.AnatomicRegionSequence = Sequence([region])
    data.ImageLaterality = side
    data.ImageType = ["ORIGINAL", "PRIMARY"]
    data.BurnedInAnnotation = "NO"
    data.ImageComments = "Synthetic image of a phantom. Not for diagnostic use."
    _set_pixels(data, phantom, site.bits_stored)

    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(path, enforce_file_format=True)
    return data


def _set_pixels(data: Dataset, phantom: Phantom, bits_stored: int) -> None:
    pixels = np.ascontiguousarray(phantom.pixels)
    data.Rows, data.Columns = pixels.shape[:2]
    data.PixelRepresentation = 0
    data.LossyImageCompression = "00"
    if phantom.window is None:
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
        data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
        data.PixelData = pixels.tobytes()
        return
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME1" if phantom.monochrome1 else "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, bits_stored, bits_stored - 1
    data.RescaleSlope, data.RescaleIntercept, data.RescaleType = "1", "0", "US"
    data.WindowCenter, data.WindowWidth = (str(round(v)) for v in phantom.window)
    data.ViewPosition = "PA"
    if data.Modality == "DX":
        data.PresentationIntentType = "FOR PRESENTATION"
        data.PresentationLUTShape = "INVERSE" if phantom.monochrome1 else "IDENTITY"
        data.PixelIntensityRelationship, data.PixelIntensityRelationshipSign = "LOG", 1
    if phantom.spacing_mm is not None:
        data.ImagerPixelSpacing = [f"{phantom.spacing_mm:.5f}"] * 2
    data.PixelData = pixels.astype("<u2").tobytes()


def _write_annotations(folder: Path, made: list[PhantomFile]) -> None:
    records = defaultdict(list)
    for file in made:
        split = file.path.parent.name
        provenance = {"patient": f"PH-{file.seed}", "laterality": file.laterality, "site": file.site, "phantom": True}
        image_path = f"{split}/{file.path.name}"
        annotation = Annotation(image_path, file.answer, file.sex, round(file.age_months, 2), provenance)
        records[split].append(annotation.as_record())
    for split in SPLITS:
        text = json.dumps(records[split], indent=1) + "\n"
        (folder / annotations_file_name(split)).write_text(text, encoding="utf-8")
