"""Handing a report to a destination: C-STORE, STOW-RS, FHIR, files. Nothing here knows the database.

Every way of sending may be repeated: UIDs and identifiers are those of the report, so a receiver that has it already
keeps one. Each returns who acknowledged it, in words, and raises one of two errors:"""

from __future__ import annotations

from engine.errors import PediScreenError


class NotDelivered(PediScreenError):
    """Not this time: the other side is away, full, or does not let us in. Tried again, for ever; nothing identifying
    in the message."""


class Unreachable(NotDelivered):
    """There was no connection: nothing of the report has left."""


class DeliveryRefused(PediScreenError):
    """The other side has seen it and will not have it as it is: somebody has to look. Nothing identifying in the
    message."""
