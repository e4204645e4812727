"""The pixels of a stored image: decoded once, at ingest; served from then on as they lie on disk."""

from __future__ import annotations

from sqlalchemy.orm import Session

from engine.imaging.film import Film
from engine.services.accounts import Actor


def film(session: Session, actor: Actor, image_id: int) -> Film:
    """Raises NotFound when there is no such image or its pixels are gone, NotAllowed."""
    raise NotImplementedError


def pixels_gzip(session: Session, actor: Actor, image_id: int) -> bytes:
    """The stored values, gzipped: uint16 little endian (rows, cols) for grey, uint8 (rows, cols, 3) for colour."""
    raise NotImplementedError


def study_image_ids(session: Session, actor: Actor, study_id: int) -> list[int]:
    """The study's images in their order. Raises NotFound, NotAllowed."""
    raise NotImplementedError
