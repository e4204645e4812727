"""All files that the database speaks of, opened and held against their hashes (`pediscreen audit verify --files`)."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.orm import Session

from db.repositories import registry as models_repository
from db.repositories import studies as repository
from engine.errors import Damaged, FileRefused, ModelUnavailable, NotFound
from engine.inference import model_folder
from engine.services import images, registry
from engine.services.accounts import Actor, require


def check(session: Session, actor: Actor, progress: Callable[[int], None] = lambda done: None) -> tuple[int, list[str]]:
    """How many files and folders were looked at, and a sentence for each that is gone or not what was stored. Admins
    only."""
    require(actor)
    troubles: list[str] = []
    done = 0
    for image_id, file_sha256 in repository.files_of_images(session):
        done += 1
        progress(done)
        try:
            images.checked_original(file_sha256)
            images.kept_film(file_sha256)
        except NotFound as missing:
            troubles.append(f"image {image_id}: {missing}")
        except (Damaged, FileRefused) as damage:
            troubles.append(str(damage))
    for version in models_repository.registered_versions(session):
        done += 1
        try:
            model_folder.verify(registry.folder_of(version), version.folder_sha256 or "")
        except ModelUnavailable as damage:
            troubles.append(f"{version.name}: {damage}")
    return done, troubles
