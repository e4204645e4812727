"""Every code that leaves in a document, in one table: codes.csv, with where it comes from and how sure that is.

    verified    found in the standard itself or in sources that do not depend on each other
    partial     found once, or not in full
    unverified  found nowhere: a terminologist has to look at it before it is used on patients
    private     ours, because no public code was found (or none was looked for): scheme 99PEDXR, always with its text

Release mode (PEDISCREEN_RELEASE=1) refuses what is unverified. Outside of it an unverified code says so in its text."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from engine.errors import DocumentRefused
from engine.settings import settings

TABLE = Path(__file__).parent / "codes.csv"
PRIVATE_SCHEME = "99PEDXR"
PRIVATE_SCHEME_UID = "2.25.181377278087299588874965978141086033213"
UNVERIFIED_MARK = " (unverified code)"

# FHIR's name of each scheme.
SYSTEMS = {
    "LN": "http://loinc.org",
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "UCUM": "http://unitsofmeasure.org",
    PRIVATE_SCHEME: f"urn:oid:{PRIVATE_SCHEME_UID}",
    "observation-category": "http://terminology.hl7.org/CodeSystem/observation-category",
    "v2-0074": "http://terminology.hl7.org/CodeSystem/v2-0074",
    "v2-0203": "http://terminology.hl7.org/CodeSystem/v2-0203",
    "data-absent-reason": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
    "v3-ActReason": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "provenance-participant-type": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
}


class CodeStatus(StrEnum):
    VERIFIED = "verified"
    PARTIAL = "partial"
    UNVERIFIED = "unverified"
    PRIVATE = "private"


@dataclass(frozen=True)
class Coded:
    """One row of the table."""

    concept: str
    scheme: str
    code: str
    meaning: str
    status: CodeStatus
    source: str

    @property
    def system(self) -> str:
        return SYSTEMS[self.scheme]

    @property
    def text(self) -> str:
        """The meaning as it is written, at most 64 characters (PS3.3 8.1)."""
        return self.meaning + (UNVERIFIED_MARK if self.status is CodeStatus.UNVERIFIED else "")


@cache
def table() -> dict[str, Coded]:
    """Concept to code."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = [Coded(**row | {"status": CodeStatus(row["status"])}) for row in csv.DictReader(file)]
    return {row.concept: row for row in rows}


@cache
def _by_code() -> dict[tuple[str, str], Coded]:
    return {(row.scheme, row.code): row for row in table().values()}


def coded(concept: str, *, otherwise: str | None = None) -> Coded:
    """The code of a concept; in release mode that of `otherwise` where it is unverified.

    Raises KeyError for a concept that the table does not have."""
    row = table()[concept]
    if otherwise is not None and settings().release and row.status is CodeStatus.UNVERIFIED:
        return table()[otherwise]
    return row


def check(emitted: Iterable[tuple[str, str]]) -> None:
    """The (scheme, code) pairs of a finished document.

    Raises DocumentRefused for codes outside the table, and in release mode for unverified ones; it names them."""
    pairs = sorted(set(emitted))
    unknown = [f"{scheme} {code}" for scheme, code in pairs if (scheme, code) not in _by_code()]
    if unknown:
        raise DocumentRefused("unknown_codes", f"not in engine/interop/codes.csv: {', '.join(unknown)}")
    rows = [_by_code()[pair] for pair in pairs]
    unverified = [f"{row.scheme} {row.code} ({row.meaning})" for row in rows if row.status is CodeStatus.UNVERIFIED]
    if unverified and settings().release:
        raise DocumentRefused(
            "unverified_codes",
            f"in release mode no document may hold a code that nobody has verified: {', '.join(unverified)}. "
            "Have a terminologist look at engine/interop/codes.csv",
        )
