"""The pixels of a stored image: decoded once, at ingest; served from then on as they lie on disk."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.orm import Session

from db.models import Image, Role
from db.repositories import studies as repository
from engine.errors import NotFound
from engine.imaging import film_store
from engine.imaging.film import Film, FilmTags
from engine.imaging.load import load_film
from engine.services.accounts import READERS, Actor, require
from engine.settings import settings


def films_folder() -> Path:
    """Decoded films, see engine.imaging.film_store."""
    return settings().data_dir / "films"


def original_path(file_sha256: str) -> Path:
    """Where the file itself is kept, as it was sent."""
    return settings().data_dir / "files" / file_sha256[:2] / file_sha256


def film(session: Session, actor: Actor, image_id: int) -> Film:
    """The decoded film; decoded again when its entry was lost. Raises NotFound when there is no such image or its
    file is gone too, NotAllowed."""
    return kept_film(_image(session, actor, image_id).file_sha256)


def kept_film(file_sha256: str) -> Film:
    """`film`, for the services that have checked the actor."""
    _decode_again_if_lost(file_sha256)
    return film_store.load(films_folder(), file_sha256)


def pixels_gzip(session: Session, actor: Actor, image_id: int) -> bytes:
    """The stored values, gzipped: uint16 little endian (rows, cols) for grey, uint8 (rows, cols, 3) for colour.
    Raises as `film`."""
    file_sha256 = _image(session, actor, image_id).file_sha256
    _decode_again_if_lost(file_sha256)
    try:
        return film_store.pixels_gzip_path(films_folder(), file_sha256).read_bytes()
    except FileNotFoundError:
        message = f"the decoded pixels of {file_sha256[:12]}... have been removed from the data folder"
        raise NotFound(message) from None


def pixel_sha256(session: Session, actor: Actor, image_id: int) -> str:
    """SHA-256 of the stored values: changes exactly when the pixels do. Raises NotFound, NotAllowed."""
    return _image(session, actor, image_id).pixel_sha256


def is_kept(file_sha256: str) -> bool:
    """Whether `film` can be expected to find it; for the services that have checked the actor."""
    return film_store.exists(films_folder(), file_sha256) or original_path(file_sha256).is_file()


def film_facts(file_sha256: str) -> Film:
    """The film without its pixels, for the services that have checked the actor. Raises NotFound."""
    _decode_again_if_lost(file_sha256)
    return film_store.load_without_pixels(films_folder(), file_sha256)


def tags_if_kept(file_sha256: str) -> FilmTags | None:
    """What the file says of the child and the examination, without decoding it again; None where its decoded film is
    gone. Identifying: for comparing, never for showing. For the services that have checked the actor."""
    try:
        return film_store.load_without_pixels(films_folder(), file_sha256).tags
    except NotFound:
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


def _decode_again_if_lost(file_sha256: str) -> None:
    if film_store.exists(films_folder(), file_sha256):
        return
    original = original_path(file_sha256)
    if not original.is_file():
        raise NotFound(f"the file {file_sha256[:12]}... is gone from the data folder: restore it from a backup")
    film_store.save(films_folder(), file_sha256, load_film(original))
