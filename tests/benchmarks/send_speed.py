"""How soon reports leave: many signed studies into a real Orthanc, and what a look at all that was ever sent costs.

    python -m tests.benchmarks.send_speed [--reports 60] [--studies 100000]

Each report is a structured report and a rendered page. The look is what the sending loop does to find what is signed
and not sent (engine.services.sending.note_signed): at all decisions every 30 s, a quick one every 2 s. Prints one JSON
document."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from db import migrate
from db.models import Image, Review, Verdict
from db.sending_tables import Delivery, DeliveryKind, DeliveryState, SendingDestination
from db.session import engine_for, session_scope, writing
from db.types import utc_now
from engine.findings.answers import bone_age_answer
from engine.interop.destinations import Destination, Kind, configured
from engine.jobs import sending as job
from engine.services import review, sending
from engine.services.accounts import demo_reader
from engine.services.review import Decision
from engine.settings import settings
from tests.benchmarks.reviewed_studies import generate
from tests.engine.interop.orthanc import Modality, orthanc
from tests.workstation import case_adder, film_pixels

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
READER = demo_reader()


def main(reports: int, studies: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PEDISCREEN_DATA_DIR"] = folder
        settings.cache_clear()
        url = settings().database_url
        migrate.upgrade(url)
        said = {"processors": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
        said["sending"] = _send(url, reports, Path(folder))
        engine_for(url).dispose()
        said["look"] = _look(f"sqlite:///{folder}/many.sqlite", studies)
        return said


def _send(url: str, reports: int, folder: Path) -> dict[str, dict[str, float]]:
    with orthanc([Modality("PEDISCREEN")]) as server:
        ways = configured(
            {
                "PEDISCREEN_SEND_TO_DICOM": f"dicom://ORTHANC@127.0.0.1:{server.dicom_port}",
                "PEDISCREEN_SEND_TO_WEB": f"dicomweb+{server.dicom_web_url}",
                "PEDISCREEN_SEND_TO_WEB_USER": server.user,
                "PEDISCREEN_SEND_TO_WEB_PASSWORD": server.password,
            }
        )
        with session_scope(url) as session:
            sending.note_signed(session, job.ACTOR, ways, 0)
            add = case_adder(session, folder)
            for number in range(reports):
                study = add(pixels=np.roll(film_pixels(2048, 1600), 7 * number, axis=1)).study_id
                image = review.load_study(session, READER, study).images[0]
                decision = Decision(Verdict.CORRECTED, bone_age_answer(96), prediction_id=image.read.prediction_id)
                review.record_review(session, READER, image.image_id, decision)
            sending.note_signed(session, job.ACTOR, ways, 0)
        return {way.name: _timed(url, way, reports) for way in ways}


def _timed(url: str, way: Destination, reports: int) -> dict[str, float]:
    seconds = []
    for _ in range(reports):
        began = time.perf_counter()
        assert job.send_next(url, way, "benchmark", 0)
        seconds.append(time.perf_counter() - began)
    with session_scope(url) as session:
        states = session.scalars(select(Delivery.state).where(Delivery.destination == way.name)).all()
    assert states == [DeliveryState.SENT] * reports
    return {"median_s": round(statistics.median(seconds), 3), "reports_per_s": round(reports / sum(seconds), 1)}


def _look(url: str, studies: int) -> dict[str, float]:
    migrate.upgrade(url)
    generate(url, studies)
    here = Destination("pacs", Kind.FOLDER)
    with session_scope(url) as session:
        with writing(session):
            session.add(SendingDestination(name="pacs", sends_from=utc_now()))
        fresh = _seconds(session, here)
        with writing(session):
            session.get(SendingDestination, "pacs").sends_from = LONG_AGO
            latest: dict[int, int] = {}
            for review_id, study in session.execute(
                select(Review.id, Image.study_fk).join(Image, Review.image_fk == Image.id).order_by(Review.id)
            ):
                latest[study] = review_id
            common = {"destination": "pacs", "version": 1, "kind": DeliveryKind.REPORT, "state": DeliveryState.SENT}
            common |= {"due_at": utc_now(), "attempts": 1, "may_have_arrived": True, "created_at": utc_now()}
            session.execute(
                insert(Delivery), [common | {"study_fk": s, "through_review_id": r} for s, r in latest.items()]
            )
        everything = _seconds(session, here)
        quick = _seconds(session, here, after_review_id=max(latest.values()) - 50)
    return {"studies_sent": len(latest), "just_connected_s": fresh, "at_all_s": everything, "quick_s": quick}


def _seconds(session: Session, destination: Destination, after_review_id: int = 0) -> float:
    times = []
    for _ in range(5):
        began = time.perf_counter()
        looked = sending.note_signed(session, job.ACTOR, [destination], 120, after_review_id=after_review_id)
        assert looked == 0
        times.append(time.perf_counter() - began)
    return round(statistics.median(times), 3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--reports", type=int, default=60)
    parser.add_argument("--studies", type=int, default=100_000)
    print(json.dumps(main(**vars(parser.parse_args())), indent=2))
