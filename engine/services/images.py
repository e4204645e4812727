"""The pixels of a stored image: decoded once, at ingest; served from then on as they lie on disk.

Whatever is opened is checked: a decoded film against the hash that the database has of it, an original against the hash
it is named by. One that was changed is refused by name, never shown."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy.orm import Session

from db.models import Image, Role
from db.repositories import studies as repository
from db.session import session_scope, writing
from engine.errors import Damaged, NotFound
from engine.imaging import film_store
from engine.imaging.film import Film, FilmTags
from engine.imaging.load import load_film
from engine.services import audit
from engine.services.accounts import READERS, Actor, require, service_actor
from engine.settings import settings

log = logging.getLogger(__name__)

DECODER = replace(service_actor("decoder"), origin="this program")


def films_folder() -> Path:
    """Decoded films, see engine.imaging.film_store."""
    return settings().data_dir / "films"


def original_path(file_sha256: str) -> Path:
    """Where the file itself is kept, as it was sent."""
    return settings().data_dir / "files" / file_sha256[:2] / file_sha256


def film(session: Session, actor: Actor, image_id: int) -> Film:
    """The decoded film; decoded again when its entry was lost. Raises NotFound when there is no such image or its
    file is gone too, NotAllowed."""
    image = _image(session, actor, image_id)
    found = kept_film(image.file_sha256)
    _record_view(session, actor, image)
    return found


def kept_film(file_sha256: str) -> Film:
    """`film`, for the services that have checked the actor. Raises Damaged too, as all that opens a film."""
    entry_sha256 = _entry(file_sha256)
    with _named(file_sha256):
        return film_store.load(films_folder(), file_sha256, entry_sha256)


def pixels_gzip(session: Session, actor: Actor, image_id: int) -> bytes:
    """The stored values, gzipped: uint16 little endian (rows, cols) for grey, uint8 (rows, cols, 3) for colour. Who
    looks at them without having opened the study is recorded, and that commits. Raises as `film`."""
    image = _image(session, actor, image_id)
    file_sha256 = image.file_sha256
    entry_sha256 = _entry(file_sha256)
    with _named(file_sha256):
        pixels = film_store.load_gzip(films_folder(), file_sha256, entry_sha256)
    _record_view(session, actor, image)
    return pixels


def _record_view(session: Session, actor: Actor, image: Image) -> None:
    if actor.role is not Role.SERVICE:
        audit.record_view(session, actor, f"study:{image.study_fk}", {"image": image.id})


def checked_original(file_sha256: str) -> Path:
    """The file as it was sent, for the services that have checked the actor. Raises NotFound where it is gone, Damaged
    where it is not what was sent."""
    original = original_path(file_sha256)
    if not original.is_file():
        raise NotFound(f"the file {file_sha256[:12]}... is gone from the data folder: restore it from a backup")
    with original.open("rb") as content, _named(file_sha256):
        if hashlib.file_digest(content, "sha256").hexdigest() != file_sha256:
            raise Damaged("the original is not what was sent")
    return original


def pixel_sha256(session: Session, actor: Actor, image_id: int) -> str:
    """SHA-256 of the stored values: changes exactly when the pixels do. Raises NotFound, NotAllowed."""
    return _image(session, actor, image_id).pixel_sha256


def is_kept(file_sha256: str) -> bool:
    """Whether `film` can be expected to find it; for the services that have checked the actor."""
    return film_store.exists(films_folder(), file_sha256) or original_path(file_sha256).is_file()


def film_facts(file_sha256: str) -> Film:
    """The film without its pixels, for the services that have checked the actor. Raises NotFound, Damaged."""
    entry_sha256 = _entry(file_sha256)
    with _named(file_sha256):
        return film_store.load_without_pixels(films_folder(), file_sha256, entry_sha256)


def tags_if_kept(file_sha256: str) -> FilmTags | None:
    """What the file says of the child and the examination, without decoding it again; None where its decoded film is
    gone or damaged. Identifying: for comparing, never for showing. For the services that have checked the actor."""
    try:
        return film_store.load_without_pixels(films_folder(), file_sha256).tags
    except (NotFound, Damaged):
        return None


def study_image_ids(session: Session, actor: Actor, study_id: int) -> list[int]:
    """The study's images in their order. Raises NotFound, NotAllowed."""
    require(actor, *READERS, Role.SERVICE)
    study = repository.study_with_images(session, study_id)
    if study is None:
        raise NotFound(f"there is no study {study_id}")
    return [image.id for image in study.images]


def _image(session: Session, actor: Actor, image_id: int) -> Image:
    require(actor, *READERS, Role.SERVICE)
    image = session.get(Image, image_id)
    if image is None:
        raise NotFound(f"there is no image {image_id}")
    return image


def _entry(file_sha256: str) -> str | None:
    """The hash of the decoded film, which is made again from the original where it is lost, or from before it had one.
    In a session of its own, as films are opened from threads and processes that have none. None for a film that belongs
    to no image."""
    with session_scope(settings().database_url) as session:
        image = repository.image_by_file(session, file_sha256)
        known = image.film_sha256 if image else None
        if film_store.exists(films_folder(), file_sha256) and (known is not None or image is None):
            return known
        film = load_film(checked_original(file_sha256))
        entry_sha256 = film_store.save(films_folder(), file_sha256, film)
        if image is not None and entry_sha256 != known:
            with writing(session):
                image = session.get_one(Image, image.id)
                image.film_sha256 = entry_sha256
                session.flush()
                audit.record(session, DECODER, "image.decoded", f"image:{image.id}", audit.fixed(image))
        return entry_sha256


@contextmanager
def _named(file_sha256: str) -> Iterator[None]:
    """A damage, with the image it happened to and what to do, in the log and for the screen."""
    try:
        yield
    except Damaged as damage:
        with session_scope(settings().database_url) as session:
            image = repository.image_by_file(session, file_sha256)
        name = f"image {image.id}" if image else "an image"
        folder = film_store.entry_folder(films_folder(), file_sha256)
        remedy = (
            f"restore {original_path(file_sha256)} from a backup"
            if "original" in str(damage)
            else f"remove {folder}, and the film is decoded again from its original"
        )
        message = f"The files of {name} were changed or damaged: {damage}. It is not shown; {remedy}."
        log.error("%s", message)
        raise Damaged(message) from None
