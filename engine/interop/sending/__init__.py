"""Handing a report to a destination: C-STORE, STOW-RS, FHIR, files. Nothing here knows the database.

Every way of sending may be repeated: UIDs and identifiers are those of the report, so a receiver that has it already
keeps one. Each returns who acknowledged it, in words, and raises one of two errors:"""

from __future__ import annotations

from engine.errors import PediScreenError

DUPLICATE = 0x0111  # duplicate SOP instance (PS3.7 C.5.7): it has the object already, and the UID is of this one alone
TRY_AGAIN = (0x0110, 0x0124, 0x0213)  # processing failure, not authorised, resource limitation (PS3.7 annex C)


def is_passing(status: int) -> bool:
    """Of a DICOM status or failure reason: what it cannot take now it may take later (0xA7xx: out of resources, PS3.4
    table B.2-1)."""
    return status in TRY_AGAIN or 0xA700 <= status <= 0xA7FF


class NotDelivered(PediScreenError):
    """Not this time: the other side is away, full, or does not let us in. Tried again, for ever; nothing identifying
    in the message."""


class Unreachable(NotDelivered):
    """There was no connection: nothing of the report has left."""


class DeliveryRefused(PediScreenError):
    """The other side has seen it and will not have it as it is: somebody has to look. Nothing identifying in the
    message."""
