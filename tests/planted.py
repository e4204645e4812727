"""Films with a made-up child's identifiers planted wherever a header can hold them; every place is drawn by a seed."""

from __future__ import annotations

import base64
import io
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset, Sequence
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
PEOPLE = (  # character set, name as DICOM writes it, and its parts as people do
    ("ISO_IR 100", "Müllerová^Françoise", ("Müllerová", "Françoise", "Mullerova", "Francoise")),
    ("ISO_IR 144", "Люкceмбypг^Алексей", ("Люкceмбypг", "Алексей")),
    ("ISO_IR 126", "Διονυσιος^Ελένη", ("Διονυσιος", "Ελένη")),
    ("ISO_IR 192", "Wang^XiaoDong=王^小东", ("XiaoDong", "小东")),
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", ("Yamada", "Tarou", "山田", "太郎")),
    ("GB18030", "Wang^Xiaoming=王^小明", ("Xiaoming", "小明")),
    ("ISO_IR 138", "שרון^דבורה", ("שרון", "דבורה")),
    (None, "Okonkwo^Chidubem", ("Okonkwo", "Chidubem")),
)


CHARACTER_SETS = (
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
TEXTS = (
    "ImageComments StudyDescription SeriesDescription ProtocolName PatientComments RequestingService Manufacturer "
    "AdditionalPatientHistory DerivationDescription DeviceSerialNumber StationName PatientAddress MedicalAlerts "
    "PatientTelephoneNumbers RequestedProcedureDescription ManufacturerModelName SoftwareVersions Occupation Allergies "
    "WindowCenterWidthExplanation CountryOfResidence AcquisitionDeviceProcessingDescription EthnicGroup"
)


@dataclass(frozen=True)
class Planted:
    path: Path
    secrets: tuple[str, ...]  # none of them may be found anywhere in what leaves
    stored: np.ndarray | None  # the stored values, where they are kept without loss
    burned_in: str | None


def plant(folder: Path, seed: int) -> Planted:
    """One file, its name naming the child too. Same seed, same file."""
    rng = random.Random(seed)
    charset, name, parts = PEOPLE[seed % len(PEOPLE)]
    number = f"{rng.randrange(10**8, 10**9)}"
    accession = f"ACC{rng.randrange(10**6, 10**7)}"
    phone, street = f"+44 20 {rng.randrange(10**7, 10**8)}", f"Lindenstrasse {rng.randrange(100, 999)}"
    physician, operator = "Quackenbush^Thaddeus", "Featherstonehaugh^Ottoline"
    hospital, device = "Sankt Hildegardis Kinderklinik", f"SN-{rng.randrange(10**7, 10**8)}"
    born, seen = f"201{rng.randrange(3, 9)}0{rng.randrange(1, 9)}1{rng.randrange(0, 9)}", "20251117"
    uids = [f"1.3.6.1.4.1.{rng.randrange(10**4, 10**5)}.{rng.randrange(10**9)}.{index}" for index in range(5)]

    data = Dataset()
    if charset:
        data.SpecificCharacterSet = charset
    is_fundus = seed % 5 == 4
    data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1" if is_fundus else "1.2.840.10008.5.1.4.1.1.1.1"
    data.SOPInstanceUID, data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = uids[:4]
    data.Modality = "OP" if is_fundus else "DX"
    data.PatientName, data.PatientID, data.AccessionNumber = name, number, accession
    data.IssuerOfPatientID, data.StudyID, data.PatientSex = f"{hospital} MRN", accession, rng.choice("MF")
    data.PatientBirthDate, data.StudyDate, data.AcquisitionDate, data.ContentDate = born, seen, seen, seen
    data.StudyTime = data.ContentTime = "101112.131415"
    data.AcquisitionDateTime = f"{seen}101112.131415+0100"
    data.PatientAge, data.ImageLaterality, data.BodyPartExamined = "009Y", "L", "EYE" if is_fundus else "HAND"
    data.ImageType = ["ORIGINAL", "PRIMARY"]
    data.PresentationIntentType = "FOR PRESENTATION"
    data.ReferringPhysicianName, data.OperatorsName, data.InstitutionName = physician, operator, hospital
    data.PatientMotherBirthName = name
    secrets = [*parts, number, accession, hospital, device, "Quackenbush", "Thaddeus", "Featherstonehaugh", *uids]
    secrets += [born, seen, f"{seen[:4]}-{seen[4:6]}-{seen[6:]}", phone, street]

    _plant_somewhere(data, rng, [name, number, accession, phone, street, physician, device, uids[4]], seen)
    stored = _set_pixels(data, rng, seed, is_fundus, f"{physician} {number}")
    burned_in = "NO" if seed % 7 else rng.choice([None, "YES"])
    if burned_in:
        data.BurnedInAnnotation = burned_in
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{physician.split('^')[0]}-{number}-{seed}.dcm"
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.file_meta.SourceApplicationEntityTitle = "QUACKENBUSH"
    data.file_meta.PrivateInformationCreatorUID = uids[4]
    data.file_meta.PrivateInformation = physician.encode()
    data.preamble = f"II*\0 {physician} {number}".encode().ljust(128, b"\0")
    data.save_as(path, enforce_file_format=True)
    with path.open("ab") as file:
        if seed % 3 == 0 and data.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian:
            file.write(b"\xfc\xff\xfc\xffOB\0\0" + len(number.encode() * 2).to_bytes(4, "little") + number.encode() * 2)
    return Planted(path, tuple(secrets), stored, burned_in)


def _plant_somewhere(data: Dataset, rng: random.Random, texts: list[str], day: str) -> None:
    """In comments, nested sequences, private attributes and representations that no text belongs to."""
    plain = [text for text in texts if text.isascii()]
    for keyword in rng.sample(TEXTS.split(), 10):
        setattr(data, keyword, rng.choice(plain)[:60])
    request, deeper, code = Dataset(), Dataset(), Dataset()
    request.RequestedProcedureID, request.ScheduledProcedureStepStartDate = rng.choice(plain)[:16], day
    request.RequestedProcedureComments = " ".join(plain)
    deeper.PersonName, deeper.TextValue, deeper.UID = plain[-3], " ".join(plain), "1.2.3.4.5.6.7.8.9"
    deeper.OriginalAttributesSequence = Sequence([Dataset()])
    deeper.OriginalAttributesSequence[0].PatientID = texts[1]
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = texts[1][:16], "SCT", plain[-1]
    request.ContentSequence = Sequence([deeper])
    data.RequestAttributesSequence = Sequence([request])
    data.OtherPatientIDsSequence = Sequence([Dataset()])
    data.OtherPatientIDsSequence[0].PatientID = texts[1]
    data.AnatomicRegionSequence = Sequence([code])
    data.ViewCodeSequence = Sequence([code])
    for group in (0x0009, 0x0019, 0x7001):
        block = data.private_block(group, rng.choice(["SIEMENS MED", texts[2]]), create=True)
        block.add_new(1, "LO", rng.choice(plain))
        block.add_new(2, "UN", rng.choice(plain).encode().ljust(64, b" "))
        block.add_new(3, "OB", base64.b64encode(" ".join(plain).encode()) + b"==")
        nested = Dataset()
        nested.PatientName = plain[-3]
        block.add_new(4, "SQ", [nested])
    # where nobody expects a text
    data.add(DataElement(0x00280303, "CS", "MODIFIED"))
    data.add(DataElement(0x00185101, "CS", texts[2]))  # View Position
    data.add(DataElement(0x00080061, "CS", texts[2]))
    data.add(DataElement(0x00200013, "IS", texts[1]))  # Instance Number
    data.add(DataElement(0x00181114, "DS", texts[1]))
    data.add(DataElement(0x00187001, "DS", texts[1]))  # Detector Temperature
    data.add(DataElement(0x00189004, "CS", "PRODUCT"))
    data.add(DataElement(0x00089459, "UL", int(texts[1])))
    data.add(DataElement(0x00221007, "SQ", [request]))
    data.add(DataElement(0x0008103F, "SQ", [code]))
    for index in (0, 3):  # overlays: a label, a description, and pixels that spell a number
        group = 0x6000 + 2 * index
        data.add_new((group, 0x0010), "US", 8)
        data.add_new((group, 0x0011), "US", 64)
        data.add_new((group, 0x0022), "LO", rng.choice(plain)[:60])
        data.add_new((group, 0x1500), "LO", rng.choice(plain)[:60])
        data.add_new((group, 0x4000), "LT", " ".join(plain))
        data.add_new((group, 0x3000), "OW", texts[1].encode().ljust(64, b"\0"))
    data.add_new((0x5000, 0x0022), "LO", rng.choice(plain)[:60])
    data.add_new((0x0008, 0x0001), "UL", int(texts[1]))
    data.add_new((0x0010, 0x4321), "UN", " ".join(plain).encode().ljust(256, b" "))


def _set_pixels(data: Dataset, rng: random.Random, seed: int, is_fundus: bool, comment: str) -> np.ndarray | None:
    rows, cols = 220 + seed % 40, 230
    noise = np.random.default_rng(seed)
    data.file_meta = FileMetaDataset()
    data.Rows, data.Columns, data.SamplesPerPixel, data.PixelRepresentation = rows, cols, 1, 0
    data.PhotometricInterpretation = "MONOCHROME2"
    if is_fundus:
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
        data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
        stored = noise.integers(0, 256, (rows, cols, 3), np.uint8)
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.PixelData = stored.tobytes()
        return stored
    if seed % 6 == 1:
        data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
        data.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        data.PixelData = encapsulate([_jpeg_with_comment(noise, rows, cols, comment)])
        return None
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelRepresentation = int(seed % 6 == 2)
    data.WindowCenter, data.WindowWidth, data.RescaleSlope, data.RescaleIntercept = "2048", "4096", "1", "0"
    data.RescaleType, data.PixelIntensityRelationship, data.PixelIntensityRelationshipSign = "US", "LOG", 1
    stored = noise.integers(0, 4096, (rows, cols)).astype(np.uint16)
    hidden = stored | (noise.integers(0, 16, (rows, cols)).astype(np.uint16) << 12)  # what old overlays used
    data.file_meta.TransferSyntaxUID = SYNTAXES[seed % 3]
    order = ">" if data.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<"
    trailing = comment.encode() * 2 if seed % 6 == 3 else b""
    data.add_new(0x7FE00010, "OW", hidden.astype(f"{order}u2").tobytes() + trailing)
    if data.PixelRepresentation:
        return (stored.astype(np.int32) << 20 >> 20).astype(np.int16)
    return stored


def _jpeg_with_comment(noise: np.random.Generator, rows: int, cols: int, comment: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(noise.integers(0, 256, (rows, cols), np.uint8)).save(out, "JPEG", comment=comment)
    data = out.getvalue()
    return data + b"\0" * (len(data) % 2)
