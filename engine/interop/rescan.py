"""Does a file that is about to leave still name its patient? Asked of the bytes, without trust in who wrote them.

It shares nothing with engine.interop.deidentify: it reads the result with a parser of its own, which accounts for
every byte, and looks for what the original said, whatever attribute that stood in. A leak is described by where it is
and what kind of thing it is, never by its text."""

from __future__ import annotations

import base64
import json
import re
import struct
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.sr.codedict import codes
from pydicom.uid import UID_dictionary

from engine.errors import Refused

SHORTEST_IN_PIXELS = 6  # shorter ones occur in 15 MB of pixels by chance
SHORTEST_IN_BYTES = 4
SHORTEST_NUMBER = 6  # shorter numbers are looked for as whole texts only; 1024 is also a window width
SMALLEST_NUMBER = 100_000  # in binary
LONGEST_CHANCE_NUMBER = 9  # digits that a made-up UID of 39 may hold by chance
ENCODINGS = (
    "utf-8 latin-1 utf-16-le utf-16-be iso8859-2 iso8859-5 iso8859-6 iso8859-7 iso8859-8 iso8859-9 cp1251 tis-620 "
    "shift_jis iso2022_jp iso2022_jp_2 euc_jp iso2022_kr euc_kr gb18030 utf-7"
)
TEXT_VRS = {"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
LONG_VRS = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}
OTHER_VRS = {"AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS", "ST", "TM"}
KNOWN_VRS = LONG_VRS | OTHER_VRS | {"UI", "UL", "US"}
PIXEL_DATA = 0x7FE00010
UNDEFINED = 0xFFFFFFFF
# Words of the standard, and of ours, that a name may equal; a value that is nothing else is no leak.
WORDS = (
    "ABDOMEN ANKLE ARM BREAST CERVICAL CHEST CLAVICLE COCCYX CSPINE ELBOW EXTREMITY EYE FEMUR FINGER FOOT FOREARM HAND "
    "HEAD HIP HUMERUS JAW KNEE LEG LSPINE MAXILLA NECK ORBIT PATELLA PELVIS RADIUS RIB SCAPULA SHOULDER SKULL SPINE "
    "SSPINE STERNUM THUMB TIBIA TOE TSPINE ULNA WHOLEBODY WRIST ORIGINAL DERIVED PRIMARY SECONDARY COLOR RED REDFREE "
    "BLUE MONTAGE DIRECT SCINTILLATOR STORAGE FILM PHOTO LINEAR LINEAR_EXACT SIGMOID IDENTITY INVERSE MODIFIED "
    "GEOMETRY FIDUCIAL MONOCHROME1 MONOCHROME2 CIRCULAR RECTANGULAR POLYGONAL ISO_10918_1 ISO_14495_1 ISO_15444_1 "
    "ISO_15444_15 ISO_18181_1 SCT DCM phantom"
)
STANDARD_WORDS = set(WORDS.split()) | {
    "PediScreen phantom",
    "made with phantoms or the phantom model: not for diagnostic use",
    "FOR PRESENTATION",
    "FOR PROCESSING",
}
OUR_METHOD = re.compile(
    r"PediScreen [\d.]+( \([0-9a-f]{4,40}\+?\))?|PS3\.15 table E\.1-1 \(2026c\); attributes by allow-list|"
    r"dicom-anonymizer [\d.]+|regions of the pixels set to 0"
)


@dataclass(frozen=True)
class Leak:
    where: str  # a tag, "file name", "bytes 120-128"
    what: str  # "name", "text", "private attribute" ...


@dataclass(frozen=True)
class Identifiers:
    """What may not be found again. Its own repr keeps them out of logs."""

    words: frozenset[tuple[str, str]]  # (kind, text)
    uids: frozenset[str]

    def __or__(self, other: Identifiers) -> Identifiers:
        return Identifiers(self.words | other.words, self.uids | other.uids)

    def __repr__(self) -> str:
        return f"Identifiers({len(self.words)} words, {len(self.uids)} UIDs)"


def identifiers(named: Iterable[tuple[str, str | None]]) -> Identifiers:
    """From (kind, text) pairs; of a name or a text also its parts, of a date (YYYYMMDD) the ways people write it."""
    words: set[tuple[str, str]] = set()
    uids: set[str] = set()
    for kind, text in named:
        text = (text or "").replace("\0", " ").strip(" =^")
        if not text.strip("0."):  # says nothing
            continue
        if kind == "uid":
            uids.add(text)
        elif kind == "date":
            words |= {(kind, form) for form in _date_forms(text)}
        else:
            words.add((kind, text))
            parts = re.split(r"[\^=\\,\s]+", text) if kind == "name" else _telling_parts(text)
            words |= {(kind, part) for part in parts if len(part) > 2 or (kind == "name" and len(part) > 1)}
            if kind == "name" and len(parts) > 1:
                words |= {(kind, " ".join(parts[:2])), (kind, " ".join(parts[1::-1]))}
    plain = {(kind, _without_marks(text)) for kind, text in words}
    return Identifiers(frozenset(words | plain), frozenset(uids))


def identifiers_of(path: Path) -> Identifiers:
    """Everything in a DICOM file that could tell whose it is: each text, name, date and UID at any depth, in private
    attributes and unknown ones too. Raises Refused("malformed") where it cannot be read through."""
    try:
        dataset = dcmread(path, force=True, stop_before_pixels=True)
        found = list(_named_values(dataset))
        found += list(_named_values(getattr(dataset, "file_meta", Dataset())))
        found.append(("text", _printable(getattr(dataset, "preamble", None) or b"")))
    except (
        InvalidDicomError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, LookupError,
        NotImplementedError, EOFError, OSError, struct.error, RecursionError,
    ) as error:  # fmt: skip
        raise Refused(
            "malformed", "The original cannot be read through, so nobody can say what must not leave."
        ) from error
    return identifiers(found)


def leaks_in_dicom(path: Path, known: Identifiers, name: str) -> list[Leak]:
    """`name`: path and name of the file below the export folder. An empty list means that nothing was found."""
    raw = path.read_bytes()
    found = _in_name(name, known)
    try:
        elements = list(_elements(raw))
    except (ValueError, struct.error, IndexError) as error:
        return [*found, Leak(str(error) or "structure", "cannot be read to its last byte")]
    found += _in_structure(raw, elements)
    by_tag = {element.tag: element for element in elements if element.depth == 0}
    for tag, wanted in ((0x00120062, b"YES"), (0x00280301, b"NO")):
        if tag not in by_tag or by_tag[tag].value.strip(b" \0") != wanted:
            found.append(Leak(_words(tag), f"does not say {wanted.decode()}"))
    pixels = by_tag.get(PIXEL_DATA)
    pixel_range = (pixels.start, pixels.end) if pixels else (len(raw), len(raw))
    head = bytearray(raw[: pixel_range[0]] + raw[pixel_range[1] :])
    numbers_free = bytearray(head)
    for element in elements:
        if element.start >= pixel_range[0] or element.vr == "SQ":
            continue
        if all(_is_of_the_standard(part.strip()) for part in _text(element).split("\\")):
            _blank(head, element)
            _blank(numbers_free, element)
        elif element.vr == "UI":
            _blank(numbers_free, element)
    found += _in_bytes(bytes(head), bytes(numbers_free), raw[slice(*pixel_range)], known)
    found += _in_values(elements, known)
    return list(dict.fromkeys(found))


def leaks_in_json(path: Path, known: Identifiers, name: str) -> list[Leak]:
    """Keys and values of a JSON file, escaped characters read, and its bytes."""
    found = _in_name(name, known)
    texts = [text for text in _strings(json.loads(path.read_text(encoding="utf-8"))) if not _is_of_the_standard(text)]
    said = re.sub(r"2\.25\.\d+", "", "\n".join(texts)).lower()
    words_said = set(re.findall(r"\w+", said)) | {text.lower() for text in texts}
    for kind, text in known.words:
        is_long = len(text) >= SHORTEST_NUMBER
        if (is_long and text.lower() in said) or (
            len(text) > 2 and not text.isdecimal() and text.lower() in words_said
        ):
            found.append(Leak(name, kind))
    whole = "\n".join(texts)
    found += [Leak(name, "UID") for uid in known.uids if uid in whole]
    return list(dict.fromkeys(found))


# ------------------------------------------------------------------ what the original says


def _named_values(dataset: Dataset) -> Iterator[tuple[str, str]]:
    for element in dataset:
        if element.tag in (0x00020012, 0x00020013):  # the software that wrote the file
            continue
        if element.VR == "SQ":
            for item in element.value or []:
                yield from _named_values(item)
            continue
        values = element.value if hasattr(element.value, "append") else [element.value]
        for value in values:
            if isinstance(value, bytes):
                yield "text", _printable(value)
                continue
            text = str(value).strip()
            if element.VR == "PN":
                yield "name", text
                for group in ("alphabetic", "ideographic", "phonetic"):
                    yield "name", str(getattr(value, group, "") or "")
            elif element.VR == "UI":
                if text not in UID_dictionary:
                    yield "uid", text
            elif element.VR in ("DA", "DT"):
                yield "date", text[:10].replace(".", "")[:8]
            elif element.tag in (0x00100020, 0x00101000, 0x00080050, 0x00200010, 0x00181000):
                yield "identifier", text
            elif element.VR in TEXT_VRS | {"UN"} or (
                element.VR == "CS" and text not in STANDARD_WORDS and len(text) > 7
            ):
                yield "text", text


def _printable(data: bytes) -> str:
    """Binary that is a text, as that text; nothing otherwise."""
    text = data.strip(b"\0 ").decode("latin-1")
    return text if 3 < len(text) < 1000 and text.isprintable() else ""


def _telling_parts(text: str) -> list[str]:
    """Of a free text the words with several digits (numbers of telephones and files, not measurements), and its
    lines."""
    words = [word.strip(".,;:()") for word in text.split()]
    lines = [line.strip() for line in re.split(r"[\r\n]+", text)]
    numbers = [word for word in words if len(re.findall(r"\d", word)) > 4 and not re.fullmatch(r"\d{1,4}\.\d+", word)]
    return numbers + lines


def _date_forms(day: str) -> set[str]:
    if not re.fullmatch(r"\d{8}", day):
        return set()
    year, month, of_month = day[:4], day[4:6], day[6:]
    return {day} | {
        sign.join(parts)
        for sign in "-./"
        for parts in ((year, month, of_month), (of_month, month, year), (month, of_month, year))
    }


def _without_marks(text: str) -> str:
    return "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))


# ------------------------------------------------------------------ the result, byte by byte


@dataclass(frozen=True)
class _Element:
    tag: int
    vr: str
    start: int  # of the value
    end: int
    depth: int
    value: bytes


def _elements(raw: bytes) -> Iterator[_Element]:
    """Every element of an explicit VR little endian file, those of items too. Raises ValueError for anything else."""
    if raw[128:132] != b"DICM":
        raise ValueError("no DICM prefix")
    position, syntax = 132, b""
    while position < len(raw):
        element = _element_at(raw, position, len(raw), 0)
        if element.tag == 0x00020010:
            syntax = element.value.strip(b"\0")
        if element.tag >> 16 != 0x0002 and syntax != b"1.2.840.10008.1.2.1":
            raise ValueError("transfer syntax is not explicit VR little endian")
        yield element
        if element.vr == "SQ":
            yield from _items(raw, element.start, element.end, 1)
        position = element.end


def _element_at(raw: bytes, position: int, end: int, depth: int) -> _Element:
    group, number = struct.unpack_from("<HH", raw, position)
    vr = raw[position + 4 : position + 6].decode("ascii", "replace")
    if vr not in KNOWN_VRS:
        raise ValueError(f"no VR at byte {position + 4}")
    if vr in LONG_VRS:
        (length,) = struct.unpack_from("<I", raw, position + 8)
        start = position + 12
    else:
        (length,) = struct.unpack_from("<H", raw, position + 6)
        start = position + 8
    if length == UNDEFINED or start + length > end:
        raise ValueError(f"length at byte {position}")
    return _Element(group << 16 | number, vr, start, start + length, depth, raw[start : start + length])


def _items(raw: bytes, position: int, end: int, depth: int) -> Iterator[_Element]:
    while position < end:
        tag, length = struct.unpack_from("<HHI", raw, position)[:2], struct.unpack_from("<I", raw, position + 4)[0]
        if tag != (0xFFFE, 0xE000) or length == UNDEFINED or position + 8 + length > end:
            raise ValueError(f"item at byte {position}")
        position, item_end = position + 8, position + 8 + length
        while position < item_end:
            element = _element_at(raw, position, item_end, depth)
            yield element
            if element.vr == "SQ":
                yield from _items(raw, element.start, element.end, depth + 1)
            position = element.end


def _in_structure(raw: bytes, elements: list[_Element]) -> list[Leak]:
    found = []
    if raw[:128].strip(b"\0"):
        found.append(Leak("preamble", "not empty"))
    last_tag = {}
    for element in elements:
        group = element.tag >> 16
        if group % 2:
            found.append(Leak(_words(element.tag), "private attribute"))
        if element.vr == "UN":
            found.append(Leak(_words(element.tag), "unknown representation"))
        if group & 0xFF00 in (0x5000, 0x6000):
            found.append(Leak(_words(element.tag), "overlay or curve"))
        if element.depth == 0 and element.tag <= last_tag.get(0, -1):
            found.append(Leak(_words(element.tag), "out of order"))
        last_tag[element.depth] = element.tag
        is_long = element.vr in ("AE", "LT", "ST", "UC", "UR", "UT")
        if (is_long and element.value.strip(b" \0")) or (element.vr == "TM" and element.value.strip(b" \0.0")):
            found.append(Leak(_words(element.tag), "free text or time of day"))
    return found


def _in_bytes(head: bytes, numbers_free: bytes, pixels: bytes, known: Identifiers) -> list[Leak]:
    head, numbers_free, pixels = head.lower(), numbers_free.lower(), pixels.lower()
    found = []
    for kind, text in known.words:
        is_number = text.isdecimal()
        if len(text) < (SHORTEST_NUMBER if is_number else SHORTEST_IN_BYTES):
            continue
        where = numbers_free if is_number and len(text) <= LONGEST_CHANCE_NUMBER else head
        for needle in _encoded(text):
            is_no_even_area = len(needle) >= SHORTEST_IN_PIXELS and len(set(needle)) > 2
            if needle in where or (is_no_even_area and needle in pixels):
                found.append(Leak("bytes", kind))
                break
    found += [Leak("bytes", "UID") for uid in known.uids if len(uid) > 5 and uid.encode("utf-8", "replace") in head]
    return found


def _encoded(text: str) -> set[bytes]:
    """The text as bytes in every character set that DICOM knows, and as base64 and hexadecimal digits."""
    forms = set()
    for encoding in ENCODINGS.split():
        with suppress(UnicodeError):
            forms.add(text.encode(encoding))
    plain = text.encode()
    if len(plain) >= SHORTEST_IN_PIXELS:
        forms.add(plain.hex().encode())
        for before in range(3):  # what base64 makes of it depends on where it begins
            coded = base64.b64encode(b"\0" * before + plain)
            forms.add(coded[[0, 2, 3][before] : len(coded) - [0, 3, 2][(before + len(plain)) % 3] or None])
    return {form.lower() for form in forms if len(form) >= SHORTEST_IN_BYTES}


def _in_values(elements: list[_Element], known: Identifiers) -> list[Leak]:
    """Values that are an identifier as a whole, however short, and numbers that are one in binary."""
    whole = {text.lower(): kind for kind, text in known.words}
    numbers = {int(text): kind for kind, text in known.words if text.isdecimal() and int(text) >= SMALLEST_NUMBER}
    found = []
    for element in elements:
        if element.vr in TEXT_VRS | {"CS", "DA", "DT", "TM", "AS"}:
            for part in _text(element).split("\\"):
                kind = whole.get(part.strip().lower())
                is_telling = len(part.strip()) > 2 or (kind == "identifier" and element.vr in TEXT_VRS)
                if kind and is_telling and not _is_of_the_standard(part.strip()):
                    found.append(Leak(_words(element.tag), kind))
        found += [Leak(_words(element.tag), kind) for number, kind in numbers.items() if number in _numbers(element)]
        if element.vr == "UI" and _text(element) in known.uids:
            found.append(Leak(_words(element.tag), "UID"))
    return found


def _numbers(element: _Element) -> set[float]:
    form = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "UV": "Q", "SV": "q"}.get(element.vr)
    if form:
        size = struct.calcsize(form)
        return set(struct.unpack(f"<{len(element.value) // size}{form}", element.value))
    if element.vr in ("DS", "IS"):
        with suppress(ValueError):
            return {float(part) for part in _text(element).split("\\") if part.strip()}
    return set()


def _text(element: _Element) -> str:
    return element.value.decode("latin-1").strip(" \0")


def _blank(raw: bytearray, element: _Element) -> None:
    raw[element.start : element.end] = b"\0" * (element.end - element.start)


def _is_of_the_standard(text: str) -> bool:
    return text in _standard_terms() or OUR_METHOD.fullmatch(text) is not None


@cache
def _standard_terms() -> frozenset[str]:
    """Values that the standard defines, and its codes with their meanings."""
    names = (
        "cid4031",
        "cid4209",
        "cid4010",
        "cid4202",
        "cid4203",
        "cid4204",
        "cid4205",
        "cid4206",
        "cid4207",
        "cid7050",
    )
    members = [getattr(group, name) for group in (getattr(codes, name) for name in names) for name in group.dir()]
    coded = {text for code in members for text in (code.value, code.meaning)}
    return frozenset(STANDARD_WORDS | coded | set(UID_dictionary) | {""})


def _in_name(name: str, known: Identifiers) -> list[Leak]:
    said = re.sub(r"2\.25\.\d+", "", name).lower()
    found = [Leak("file name", kind) for kind, text in known.words if len(text) > 3 and text.lower() in said]
    return found + [Leak("file name", "UID") for uid in known.uids if uid in name]


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield key
            yield from _strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value)
    elif content is not None:
        yield str(content)


def _words(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
