"""The model's own words about an image, when a reader asks: shown as they come, and kept nowhere.

They are the likeliest continuation of a question, not a read: no answer is taken from them, and what is stored of them
is that somebody asked. Who may not see the read may not see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.orm import Session

from db.models import Image
from db.repositories import studies as repository
from db.repositories.reads import latest_predictions
from db.session import writing
from engine.errors import NotFound, Refused
from engine.findings.answers import Task
from engine.imaging.display import display_pixels
from engine.imaging.preprocess import model_image, model_pixels
from engine.inference.read import ReadContext
from engine.services import audit, blind_reading, images, worker_door
from engine.services.accounts import READERS, Actor, require


@dataclass(frozen=True)
class Words:
    """`pieces` come as the model writes them, within seconds; iterating raises ReaderUnavailable where it stops, and
    Refused for a model that knows no prose."""

    model_version: str
    is_the_readers: bool  # the model that read the image
    pieces: Iterator[str]


def words(session: Session, actor: Actor, image_id: int) -> Words:
    """Asks this machine's worker. Writes an audit row and commits. Raises Refused where there is no read that the actor
    may see, ModelUnavailable where no worker answers, NotFound, NotAllowed."""
    require(actor, *READERS)
    image = session.get(Image, image_id)
    study = repository.study_with_images(session, image.study_fk) if image else None
    if study is None:
        raise NotFound(f"there is no image {image_id}")
    known = blind_reading.known_to(session, actor, [study])
    if image_id in known.hidden_reads or known.withheld(image_id) is not None:
        raise Refused("blind", "the read of this image is shown after your own answer, and so are the model's words")
    read = latest_predictions(session, [image_id]).get(image_id)
    if read is None or read.abstained:
        raise Refused("no_read", "the model gave no read of this image, so it has nothing to explain")
    reader = worker_door.reader()
    task = Task(study.task)
    context = ReadContext(study.patient.sex.value if study.patient.sex else None, study.age_months)
    is_the_readers = read.model_version.name == reader.model_version
    picture = model_image(display_pixels(images.kept_film(image.file_sha256)))
    with writing(session):
        audit.record(session, actor, "words.asked", f"image:{image_id}", {"model_version": reader.model_version})
    pixels = model_pixels([picture], reader.image_processor)[0]
    return Words(reader.model_version, is_the_readers, reader.words(pixels, task, context))
