"""Where the figures come from, and how sure that is; shared by the modules that calculate from reference tables.

The tables are in tables/*.csv, every row with the key of its source; tables/sources.csv has the sources."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

TABLES = Path(__file__).parent / "tables"


class Status(StrEnum):
    """FOUND: read in a public transcription or page that names the primary source. FOUND_SECONDARY: read in a page
    about the primary source. UNVERIFIED: general knowledge or a default of this workstation, to be checked against
    the primary source by a clinician; whoever shows the value shows that too."""

    FOUND = "found"
    FOUND_SECONDARY = "found (secondary)"
    UNVERIFIED = "unverified"


@dataclass(frozen=True)
class Source:
    citation: str
    status: Status
    transcription: str | None = None  # where the figures were read

    @property
    def unverified(self) -> bool:
        return self.status is Status.UNVERIFIED


@dataclass(frozen=True)
class Refusal:
    """Why there is no value. `code` is stable and machine readable; `reason` is a sentence for the screen."""

    code: str
    reason: str


def rows(table: str) -> list[dict[str, str]]:
    """The rows of tables/`table`.csv."""
    with (TABLES / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def source(key: str) -> Source:
    """The source that a table's row names. Raises KeyError for one that sources.csv does not have."""
    by_key = {row["source"]: row for row in rows("sources")}
    row = by_key[key]
    return Source(row["citation"], Status(row["status"]), row["transcription"])
