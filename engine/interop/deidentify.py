"""A film without its patient: a new DICOM object that holds what the film needs to be read, and nothing else.

Three lines of defence. Only the attributes of engine.interop.kept_attributes are taken over, each value checked for its
kind. The actions of PS3.15 table E.1-1 (2026c), as dicom-anonymizer has them, are then applied to what was taken over:
UIDs are mapped and dates moved with a key, and whatever the table would remove is removed. The pixels are decoded and
written uncompressed, so that no comment of a codestream, no unused bit and no trailing byte comes along.
engine.interop.rescan looks at the result without knowing any of this."""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from dicomanonymizer.simpledicomanonymizer import anonymize_dataset, initialize_actions, keep
from pydicom import Dataset, dcmread, uid
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.sr.codedict import codes
from pydicom.tag import Tag

from engine.code_version import code_version
from engine.errors import Refused
from engine.imaging.film import PHANTOM_MANUFACTURER
from engine.imaging.load import load_stored_pixels
from engine.imaging.stored_pixels import stored_bits
from engine.imaging.tag_reader import UNREADABLE, TagReader
from engine.interop.kept_attributes import (
    CODE_SEQUENCES,
    CODE_STRINGS,
    COUNTERS,
    DATES,
    EMPTIED,
    LARGEST_NUMBER,
    LUT_SEQUENCES,
    NUMBERS,
    PATIENT_CHARACTERISTICS,
    UIDS,
    meanings,
)

SMALLEST_KEY_BYTES = 16
LONGEST_SHIFT_DAYS = 3650
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
AGE = re.compile(r"\d{3}[DWMY]")
TABLE = "dicomfields_2026c"


class DeidentificationKey:
    """The same key gives the same UIDs and the same days for a patient, so exports made with it belong together.
    Who holds it can tell whether a UID came from a given one, so it is as secret as a crosswalk."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < SMALLEST_KEY_BYTES:
            raise Refused(
                "weak_key", f"The de-identification key has {len(secret)} bytes; it needs {SMALLEST_KEY_BYTES} or more."
            )
        self._secret = secret

    def uid(self, original: str) -> str:
        """Another UID, from which nobody without the key gets back to `original` (PS3.5 B.2, 2.25.*)."""
        return f"2.25.{uuid.UUID(bytes=self._digest('uid', original)[:16], version=4).int}"

    def days_earlier(self, pseudonym: str) -> int:
        """By how much all dates of a patient move into the past: 1 to 3,650 days."""
        return 1 + int.from_bytes(self._digest("days", pseudonym)[:8]) % LONGEST_SHIFT_DAYS

    def _digest(self, purpose: str, value: str) -> bytes:
        return hmac.digest(self._secret, f"{purpose}:{value}".encode(), hashlib.sha256)


@dataclass(frozen=True)
class Region:
    """A rectangle of pixels, counted from 0 at the top left."""

    column: int
    row: int
    width: int
    height: int


def deidentified(
    path: Path,
    key: DeidentificationKey,
    pseudonym: str,
    *,
    masks: Sequence[Region] = (),
    is_free_of_text: bool = False,
) -> Dataset:
    """The film of a DICOM file as a new object of `pseudonym`.

    `masks` are set to 0 in the stored pixels; whoever gives them says that no text is left beside them.
    `is_free_of_text`: somebody looked and found none, whatever (0028,0301) says. Raises Refused: burned_in_annotation,
    burned_in_unknown, recognizable_features, bad_mask, unsupported_pixels, missing_attribute, malformed, and what
    engine.imaging.load raises."""
    original = _header(path)
    tags = TagReader(original)
    _refuse_recognizable(tags, bool(masks) or is_free_of_text)
    new = Dataset()
    for keyword in (*UIDS, "SOPClassUID"):
        if (value := tags.text(keyword)) is not None:
            setattr(new, keyword, value)
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if keyword not in new:
            raise Refused("missing_attribute", f"{keyword} is missing: the object cannot be given a new one.")
    if not new.get("SOPClassUID") or uid.UID(new.SOPClassUID).type != "SOP Class":
        raise Refused("missing_attribute", "(0008,0016) SOP Class UID is missing, or not one of the standard.")
    _take_dates(new, tags)
    _take_values(new, tags)
    _take_codes(new, tags)
    _set_pixels(new, path, tags, masks)
    for sequence in LUT_SEQUENCES:
        _take_luts(new, tags, sequence)
    for keyword in EMPTIED:
        if keyword in original and keyword not in new:
            setattr(new, keyword, [] if dictionary_VR(keyword) == "SQ" else "")
    _apply_table(new, key, pseudonym)
    if "ContentTime" in original:
        new.ContentTime = "000000"  # some information objects require a value
    if tags.text("Manufacturer") == PHANTOM_MANUFACTURER:
        new.Manufacturer = PHANTOM_MANUFACTURER
    _say_what_was_done(new, pseudonym, is_masked=bool(masks))
    return new


def write(dataset: Dataset, path: Path) -> None:
    """Uncompressed, explicit VR little endian, with a preamble of zeros."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.file_meta = meta
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def _header(path: Path) -> Dataset:
    try:
        if _transfer_syntax(path) == uid.DeflatedExplicitVRLittleEndian:  # asked first: it may unfold to gigabytes
            raise Refused(
                "unsupported_syntax",
                "(0002,0010) A deflated file is not exported: send it to the workstation uncompressed.",
            )
        return dcmread(path, force=True, stop_before_pixels=True)
    except (*UNREADABLE, InvalidDicomError) as error:
        raise Refused("malformed", "The header of the file cannot be read.") from error


def _transfer_syntax(path: Path) -> str | None:
    try:
        return read_file_meta_info(path).get("TransferSyntaxUID")
    except InvalidDicomError:  # no preamble
        return None


def _refuse_recognizable(tags: TagReader, is_looked_at: bool) -> None:
    if (tags.text("RecognizableVisualFeatures") or "NO").upper() != "NO":
        raise Refused(
            "recognizable_features", "(0028,0302) Recognizable Visual Features says that the child can be recognised."
        )
    burned_in = tags.text("BurnedInAnnotation")
    if is_looked_at or (burned_in or "").upper() == "NO":
        return
    if burned_in is None:
        raise Refused(
            "burned_in_unknown",
            "(0028,0301) Burned In Annotation is missing: the pixels may name the child. Look at the image and mask "
            "what it says.",
        )
    raise Refused(
        "burned_in_annotation",
        "(0028,0301) Burned In Annotation is not NO: text is in the pixels. Look at the image and mask it.",
    )


def _take_dates(new: Dataset, tags: TagReader) -> None:
    """The days; the time of day stays behind."""
    for keyword in DATES:
        if (day := tags.day(keyword)) is not None:
            setattr(new, keyword, f"{day:%Y%m%d}")
        elif keyword in tags.dataset and dictionary_VR(keyword) == "DA":
            setattr(new, keyword, "")


def _take_values(new: Dataset, tags: TagReader) -> None:
    age = tags.text("PatientAge")
    if age and AGE.fullmatch(age):
        new.PatientAge = age
    for keyword, terms in CODE_STRINGS.items():
        values = tags.texts(keyword)
        if values and all(value in terms for value in values if value):
            setattr(new, keyword, values)
        elif keyword == "ImageType" and len(values) > 2 and set(values[:2]) <= set(terms):
            new.ImageType = values[:2]  # vendors add values of their own behind these
        elif keyword in tags.dataset and keyword in ("PatientSex", "Modality", "Laterality", "PatientOrientation"):
            setattr(new, keyword, "OT" if keyword == "Modality" else "")
    for keyword in NUMBERS:
        if numbers := _numbers(tags, keyword):
            _set_number(new, keyword, numbers, tags)
        elif keyword in tags.dataset and keyword in COUNTERS:
            setattr(new, keyword, None)


def _numbers(tags: TagReader, keyword: str) -> list[str]:
    """As text, empty unless every value is a number of a size that the attribute can have."""
    texts = tags.texts(keyword)
    if not texts or not all(NUMBER.fullmatch(text) and len(text) <= 16 for text in texts):
        return []
    if any(abs(float(text)) > LARGEST_NUMBER for text in texts):
        return []
    return texts


def _set_number(new: Dataset, keyword: str, texts: list[str], tags: TagReader) -> None:
    vr = dictionary_VR(keyword)
    if vr in ("DS", "IS"):
        if vr == "IS" and not all(float(text).is_integer() for text in texts):
            return
        setattr(new, keyword, texts)
        return
    numbers: list[Any] = [float(text) for text in texts]
    if vr not in ("FL", "FD"):
        numbers = [int(number) for number in numbers]
    if " or " in vr:
        vr = "SS" if tags.integer("PixelRepresentation") == 1 else "US"
        if keyword == "LUTDescriptor":
            vr = "SS" if numbers[1:2] and numbers[1] < 0 else "US"
    limits = {"US": (0, 65535), "SS": (-32768, 32767)}.get(vr)
    if limits is None or all(limits[0] <= number <= limits[1] for number in numbers):
        new.add_new(tag_for_keyword(keyword), vr, numbers if len(numbers) > 1 else numbers[0])


def _take_codes(new: Dataset, tags: TagReader) -> None:
    for keyword, groups in CODE_SEQUENCES.items():
        known = {code: meaning for group in groups for code, meaning in meanings(group).items()}
        taken = []
        for item in tags.items(keyword):
            of_item = TagReader(item)
            code = (of_item.text("CodingSchemeDesignator") or "", of_item.text("CodeValue") or "")
            if code in known:
                taken.append(_code_item(code[0], code[1], known[code]))
        if taken:
            setattr(new, keyword, taken)


def _code_item(scheme: str, value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _take_luts(new: Dataset, tags: TagReader, keyword: str) -> None:
    taken = []
    for item in tags.items(keyword):
        of_item = TagReader(item)
        numbers = of_item.numbers("LUTDescriptor")
        data = of_item.value("LUTData")
        if numbers is None or len(numbers) != 3 or data is None:
            continue
        entries, bits = int(numbers[0]) or 65536, int(numbers[2])
        if not isinstance(data, bytes):
            data = np.asarray(data, np.int64).astype("<u2").tobytes()
        if len(data) not in (entries, 2 * entries, entries + 1) or not 8 <= bits <= 16:
            continue
        lut = Dataset()
        _set_number(lut, "LUTDescriptor", [str(int(number)) for number in numbers], tags)
        lut.add_new(tag_for_keyword("LUTData"), "OW", data)
        if keyword == "ModalityLUTSequence":
            lut.ModalityLUTType = "US"
        if "LUTDescriptor" in lut:
            taken.append(lut)
    if taken:
        setattr(new, keyword, taken)


def _set_pixels(new: Dataset, path: Path, tags: TagReader, masks: Sequence[Region]) -> None:
    allocated, photometric = tags.integer("BitsAllocated"), (tags.text("PhotometricInterpretation") or "").upper()
    is_grey = photometric in ("MONOCHROME1", "MONOCHROME2")
    if allocated not in (8, 16) or (allocated == 16 and not is_grey) or (tags.integer("NumberOfFrames") or 1) > 1:
        raise Refused(
            "unsupported_pixels",
            "Exported are single images: grey of 8 or 16 bits allocated, colour of 8. This one has "
            f"{allocated} bits, {tags.integer('NumberOfFrames') or 1} frames, {photometric or 'no photometric'}.",
        )
    values = load_stored_pixels(path)
    bits = stored_bits(tags, allocated, [])[0] if is_grey else 8
    rows, cols = values.shape[:2]
    if masks:
        values = values.copy()
    for mask in masks:
        inside = 0 <= mask.column < cols and 0 <= mask.row < rows and mask.width > 0 and mask.height > 0
        if not inside or mask.column + mask.width > cols or mask.row + mask.height > rows:
            raise Refused("bad_mask", f"The mask {mask} does not lie within the {cols} x {rows} pixels of the image.")
        values[mask.row : mask.row + mask.height, mask.column : mask.column + mask.width] = 0
    new.Rows, new.Columns = rows, cols
    new.SamplesPerPixel = 1 if values.ndim == 2 else 3
    new.PhotometricInterpretation = photometric if is_grey else "RGB"
    if values.ndim == 3:
        new.PlanarConfiguration = 0
    new.BitsAllocated, new.BitsStored, new.HighBit = allocated, bits, bits - 1
    new.PixelRepresentation = int(is_grey and tags.integer("PixelRepresentation") == 1)
    data = values.astype("<u2" if allocated == 16 else "u1").tobytes()
    new.add_new(tag_for_keyword("PixelData"), "OW" if allocated == 16 else "OB", data + b"\0" * (len(data) % 2))


def _apply_table(new: Dataset, key: DeidentificationKey, pseudonym: str) -> None:
    """PS3.15 table E.1-1, at every level."""
    shift = timedelta(days=key.days_earlier(pseudonym))

    def map_uid(dataset: Dataset, tag: tuple[int, int]) -> None:
        if tag in dataset:
            dataset[tag].value = key.uid(str(dataset[tag].value))

    def move_date(dataset: Dataset, tag: tuple[int, int]) -> None:
        text = str(dataset[tag].value) if tag in dataset else ""
        if text:
            day = date(int(text[:4]), int(text[4:6]), int(text[6:8]))
            if day.toordinal() <= shift.days:
                raise Refused("malformed", "A date of the file lies before the first year that can be written.")
            dataset[tag].value = f"{day - shift:%Y%m%d}".zfill(8)

    rules = (
        {_tag(keyword): map_uid for keyword in UIDS}
        | {_tag(keyword): move_date for keyword in DATES}
        | {_tag(keyword): keep for keyword in (*PATIENT_CHARACTERISTICS, *EMPTIED)}
    )
    levels = [new]
    while levels:
        level = levels.pop()
        anonymize_dataset(level, rules, base_rules_gen=lambda: dict(_table()))
        levels += [item for element in level if element.VR == "SQ" for item in element.value]


@cache
def _table() -> dict[tuple[int, ...], Any]:
    return initialize_actions(TABLE)


def _tag(keyword: str) -> tuple[int, int]:
    tag = Tag(tag_for_keyword(keyword))
    return tag.group, tag.element


def _say_what_was_done(new: Dataset, pseudonym: str, *, is_masked: bool) -> None:
    options = codes.cid7050
    done = [
        options.BasicApplicationConfidentialityProfile,
        options.RetainLongitudinalTemporalInformationModifiedDatesOption,
        options.RetainPatientCharacteristicsOption,
    ]
    method = [
        f"PediScreen {code_version()}"[:64],
        "PS3.15 table E.1-1 (2026c); attributes by allow-list",
        f"dicom-anonymizer {version('dicom-anonymizer')}",
    ]
    if is_masked:
        done.insert(1, options.CleanPixelDataOption)
        method.append("regions of the pixels set to 0")
        new.ImageType = ["DERIVED", *list(new.get("ImageType", ("", "PRIMARY")))[1:]]
    new.PatientName, new.PatientID = pseudonym, pseudonym
    new.PatientIdentityRemoved = "YES"
    new.DeidentificationMethod = method
    new.DeidentificationMethodCodeSequence = [
        _code_item(code.scheme_designator, code.value, code.meaning) for code in done
    ]
    new.LongitudinalTemporalInformationModified = "MODIFIED"
    new.BurnedInAnnotation = "NO"
