"""What stands in the workstation in each of four states, and which pages are looked at there (page_states.py)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from playwright.sync_api import Page
from sqlalchemy.orm import Session

from db import migrate
from db.models import RetrainRun, RetrainState, RetrainStep, Role, Verdict
from db.repositories.reviews import latest_reviews
from db.repositories.studies import study_with_images
from db.sending_tables import Delivery, DeliveryKind, DeliveryState, SendingDestination
from db.session import engine_for, session_scope, writing
from db.types import utc_now
from engine.findings.answers import Answer, Task, bone_age_answer, fracture_answer, rop_answer
from engine.services import (
    api_tokens,
    child_growth,
    claims,
    gold_cases,
    handover,
    ingest,
    quality_rules,
    reading,
    registry,
    retrain,
    review,
    saved_filters,
    shadow,
    training_set,
)
from engine.services.accounts import Actor, demo_adjudicator, demo_admin, demo_reader, demo_second_reader
from engine.services.api_tokens import SCOPES_OF
from engine.services.quality_rules import Rule
from engine.services.reading import READY
from engine.services.review import Decision
from engine.services.worklist import WorklistFilter
from engine.settings import settings
from tests.benchmarks import growth_dashboard, reviewed_studies
from tests.fake_retraining import fake_retraining
from tests.model_folders import promote, register
from tests.ui.page_hands import (
    bad_visit,
    choose,
    click,
    contradict,
    half_fill,
    key,
    keymap,
    lose_connection,
    open_first_line,
    photo,
    search_in_vain,
    upload,
    visits_file,
)
from tests.workstation import PHANTOM, WORKER, case_adder, film_pixels, read_of, write_film

READER, SECOND, ADJUDICATOR, ADMIN = demo_reader(), demo_second_reader(), demo_adjudicator(), demo_admin()
PAGES = (
    "upload",
    "quarantine",
    "export",
    "dashboards",
    "growth?view=child",
    "growth?view=file",
    "growth?view=children",
    "growth?view=bone-age",
    "growth?view=supplied",
    "quality",
    "retrain",
    "models",
    "tokens",
)
WANT_A_FILE_FIRST = ("upload", "growth?view=file")  # and ask the database only then
SENTENCE = (
    "The carpal bones are ahead of the phalanges, the distal radial epiphysis is as wide as its metaphysis, and the "
    "ulnar styloid can be seen; compare with the film of the other side, taken on the same day at another hospital. "
)
WORD = "Universitätskinderklinik-Zentralradiologie-Aufnahmeplatz-3-Nachtdienst"


@dataclass(frozen=True)
class Shot:
    """One page in one state: where it is, who looks, what is done first, and which words say that it is all there."""

    name: str
    path: str
    says: str = ""
    actor: Actor = READER
    act: Callable[[Page], object] | None = None


@dataclass(frozen=True)
class Place:
    """A data folder with its database, in use by this process while a state is being made."""

    folder: Path
    session: Session

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"


@contextmanager
def place(folder: Path) -> Iterator[Place]:
    data_dir = folder / "data"
    (folder / "films").mkdir(parents=True)
    data_dir.mkdir()
    before = os.environ.get("PEDISCREEN_DATA_DIR")
    os.environ["PEDISCREEN_DATA_DIR"] = str(data_dir)
    settings.cache_clear()
    try:
        migrate.upgrade(settings().database_url)
        with session_scope(settings().database_url) as session:
            yield Place(folder, session)
    finally:
        engine_for(settings().database_url).dispose()
        os.environ.pop("PEDISCREEN_DATA_DIR")
        if before is not None:
            os.environ["PEDISCREEN_DATA_DIR"] = before
        settings.cache_clear()


def empty(here: Place) -> list[Shot]:
    """A workstation that nobody has used."""
    says = {
        "upload": "Nothing uploaded yet",
        "quarantine": "Nothing in quarantine",
        "export": "Nothing to export yet",
        "dashboards": "Not enough cases",
        "growth?view=child": "Children come with their films",
        "growth?view=file": "No file chosen",
        "quality": "No case is beyond doubt yet",
        "retrain": "No corrections yet",
        "models": "No model has read here yet",
        "tokens": "No program may call the API yet",
    }
    return [
        Shot("worklist", "", "No studies yet"),
        Shot("review", "review", "No case is open"),
        Shot("adjudication", "adjudication", "No disagreement awaits you", ADJUDICATOR),
        Shot("connections", "connections", "Nothing is sent", ADMIN),
        *(Shot(name_of(path), path, says.get(path, "No visits yet")) for path in PAGES),
    ]


def normal(here: Place) -> list[Shot]:
    """A week's work: reads of each kind, decisions, second reads, gold cases, refused files, a model alongside."""
    session, add = here.session, case_adder(here.session, here.folder / "films")
    quality_rules.set_rule(session, ADMIN, Rule(Task.FRACTURE, second_read_share=1.0))
    registry.record_loaded(session, WORKER, PHANTOM, is_phantom=True)
    reading.heartbeat(session, WORKER, "worker-1", PHANTOM, READY)
    for number, months in enumerate((60, 84, 150)):
        add(Task.BONE_AGE, bone_age_answer(months), pixels=film(number))
    hands = [add(Task.BONE_AGE, bone_age_answer(100 + 3 * n), pixels=film(3 + n), **child(n)) for n in range(6)]
    hand = with_history(here, add, Task.BONE_AGE, bone_age_answer(118))
    eye = with_history(here, add, Task.ROP, rop_answer("II", "3", "plus"))
    wrist = with_history(here, add, Task.FRACTURE, fracture_answer("distal_radius"))
    unread = add(Task.BONE_AGE, reason="the image lies outside what the model was trained on", pixels=film(20))
    add(Task.ROP, rop_answer("I", "3", "plus"), StudyDate="20260710", AcquisitionDate="20260710")
    wrists = [add(Task.FRACTURE, pixels=film(30 + n)) for n in range(4)]
    for number, one in enumerate(wrists):
        decide(session, READER, one.study_id, fracture_answer("normal"))
        decide(session, SECOND, one.study_id, fracture_answer("normal" if number else "buckle"))
    for one in hands[:3]:
        decide(session, READER, one.study_id, bone_age_answer(112), comment="carpals ahead")
    candidates = gold_cases.candidates(session, ADMIN)
    gold_cases.make_gold(session, ADMIN, candidates[0].image_id, candidates[0].why)
    handover.leave_note(session, SECOND, hand.study_id, "Ask for the other side.")
    handover.leave_note(session, ADMIN, None, "The monitor at site B is dark.")
    saved_filters.save(session, READER, "Wrists only", WorklistFilter(tasks=(Task.FRACTURE,)))
    refuse(here, "notes.txt", b"no image")
    refuse(here, "empty.dcm", b"")
    for name, role in (("Growth clinic's RIS", Role.READER), ("PACS", Role.SERVICE), ("Night script", Role.SERVICE)):
        api_tokens.make(session, ADMIN, name, role, SCOPES_OF[role], 90)
    api_tokens.revoke(session, ADMIN, 2)
    candidate = register(session, here.data_dir, "phantom 0.4 + 1a2b3c4d")
    shadow.start(session, ADMIN, candidate.model_version_id)
    waiting = shadow.images_to_read(session, WORKER, candidate.model_version_id, 4)
    shadow.record_reads(
        session,
        WORKER,
        candidate.model_version_id,
        waiting,
        [read_of(one.image.task) for one in waiting],
    )
    patient = study_with_images(session, hand.study_id).patient_fk
    return [
        Shot("worklist", "", "To review"),
        Shot("worklist-lists", "", "Keep the list", act=lambda page: click(page, "Most urgent first")),
        Shot("worklist-hand-over", "", "Leave the note", act=lambda page: key(page, "e", "E")),
        Shot("review-hand", f"review?study={hand.study_id}", "Adult height"),
        Shot("review-eye", f"review?study={eye.study_id}", "ETROP type 1"),
        Shot("review-wrist", f"review?study={wrist.study_id}", "see within 7 days"),
        Shot("review-no-read", f"review?study={unread.study_id}", "No read"),
        Shot("review-decided", f"review?study={hands[0].study_id}", "corrected to 9 y 4 m"),
        Shot("review-reject", f"review?study={hand.study_id}", "Not readable", act=lambda page: key(page, "x", "X")),
        Shot("review-keys", f"review?study={hand.study_id}", "Choose a key of the film", act=keymap),
        Shot("review-more", f"review?study={wrist.study_id}", "Film quality", act=lambda page: click(page, "More")),
        Shot(
            "review-words",
            f"review?study={hand.study_id}",
            "Nobody has checked them",
            act=lambda page: click(page, "In words"),
        ),
        Shot("adjudication", "adjudication", "Two readers, names hidden", ADJUDICATOR),
        Shot(
            "upload",
            "upload",
            "1 film on the worklist, 1 refused",
            act=lambda page: upload(page, "film", new_film(here)),
        ),
        Shot("upload-photo", "upload", "a patient ID is needed", act=photo),
        Shot("quarantine", "quarantine", "notes.txt"),
        Shot("quarantine-file", "quarantine", "How was it dealt with?", act=open_first_line),
        Shot("export", "export", "Download as zip", ADMIN, lambda page: click(page, "Export ")),
        Shot("growth-child", f"growth?view=child&child={patient}", "Visits: value and z-score"),
        Shot("growth-file", "growth?view=file", "Import", act=lambda page: visits_file(page, VISITS)),
        Shot("quality", "quality", "Gold cases, 1 in use", ADMIN),
        Shot("retrain", "retrain", "What would be learnt from", ADMIN),
        Shot("models", "models", "unseen by readers", ADMIN),
        Shot("models-origin", "models", "Where this model came from", ADMIN, open_first_line),
        Shot("tokens", "tokens", "Last used", ADMIN),
        Shot("tokens-one", "tokens", "refused from its next request on", ADMIN, open_first_line),
    ]


def figures(here: Place) -> list[Shot]:
    """Enough studies and visits for every chart, as rows without films; shown with the state `normal`."""
    reviewed_studies.generate(settings().database_url, 2000)
    return [
        Shot("dashboards-model", "dashboards", "Lower limit of agreement"),
        Shot("dashboards-readers", "dashboards", "Second reader within", act=lambda page: choose(page, "Readers")),
        Shot("dashboards-operations", "dashboards", "Studies open", act=lambda page: choose(page, "Operations")),
        Shot("quality-figures", "quality", "limits", ADMIN),
    ]


def children(here: Place) -> list[Shot]:
    growth_dashboard.fill(here.session, 300)
    return [
        Shot("growth-children", "growth?view=children", "Each child once"),
        Shot("growth-bone-age", "growth?view=bone-age", "Pearson's r"),
        Shot("growth-supplied", "growth?view=supplied", "met"),
    ]


def verdict(here: Place) -> list[Shot]:
    """A retraining whose candidate awaits a signature."""
    enough = training_set.TrainingSetPreview([], [], {}, [], 0, 40, enough=True, why_not=None, estimate_minutes=6.0)
    real, training_set.preview = training_set.preview, lambda session, actor: enough
    try:
        run_id = retrain.start(here.session, ADMIN)
    finally:
        training_set.preview = real
    retraining = fake_retraining(settings().database_url, threading.Event())
    for step in RetrainStep:
        retraining.perform(run_id, step)
    retraining.tidy(run_id)
    return [Shot("retrain-verdict", "retrain", "Cases that got worse", ADMIN)]


def long(here: Place) -> list[Shot]:
    """Names, notes and reasons as long as they may be; many of everything."""
    session, add = here.session, case_adder(here.session, here.folder / "films")
    quality_rules.set_rule(session, ADMIN, Rule(Task.BONE_AGE, second_read_share=1.0))
    registry.record_loaded(session, WORKER, PHANTOM, is_phantom=True)
    reading.heartbeat(session, WORKER, WORD[:60], PHANTOM, SENTENCE)
    site = {"InstitutionName": WORD[:64]}
    for number in range(22):
        task = (Task.BONE_AGE, Task.ROP, Task.FRACTURE)[number % 3]
        add(task, pixels=film(number), **site, AccessionNumber="A" * 16)
    hand = with_history(here, add, Task.BONE_AGE, bone_age_answer(118), films=7, **site)
    reason = f"the image lies outside what the model was trained on: {SENTENCE}"
    unread = add(Task.ROP, reason=reason, **site)
    disputed = add(Task.BONE_AGE, bone_age_answer(110), pixels=film(50), **site)
    for actor, months in ((READER, 90), (SECOND, 120)):
        decide(session, actor, disputed.study_id, bone_age_answer(months), comment=SENTENCE * 3)
    agreed = add(Task.BONE_AGE, bone_age_answer(110), pixels=film(51), **site)
    for actor in (READER, SECOND):
        decide(session, actor, agreed.study_id, bone_age_answer(100), comment=SENTENCE)
    decided = add(Task.FRACTURE, fracture_answer("buckle"), pixels=film(52), **site)
    for number in range(5):
        answer = fracture_answer("normal" if number % 2 else "distal_radius")
        decide(session, READER, decided.study_id, answer, comment=SENTENCE * 2)
    for about in (hand.study_id, None):
        for _ in range(3):
            handover.leave_note(session, SECOND, about, SENTENCE[:480])
    for number in range(6):
        saved_filters.save(session, READER, f"{WORD[:52]} {number}", WorklistFilter(tasks=(Task.FRACTURE,)))
    for number in range(25):
        refuse(here, f"{WORD}-{number:02}-{WORD}.dcm", f"no image {number}".encode())
    for number in range(25):
        api_tokens.make(session, ADMIN, f"{WORD[:60]} {number:02}", Role.READER, SCOPES_OF[Role.READER])
    new = register(session, here.data_dir, "phantom 0.4 + 1a2b3c4d5e6f708192a3b4c5d6e7f809")
    promote(session, here.data_dir, new)
    session.add(RetrainRun(state=RetrainState.FAILED, started_by="demo-admin", message=SENTENCE * 2))
    session.commit()
    patient = study_with_images(session, hand.study_id).patient_fk
    return [
        Shot("worklist", "", "To review"),
        Shot("worklist-lists", "", "Keep the list", act=lambda page: click(page, "Most urgent first")),
        Shot("review", f"review?study={hand.study_id}", "Adult height"),
        Shot("review-no-read", f"review?study={unread.study_id}", "No read"),
        Shot("review-decided", f"review?study={decided.study_id}", "earlier decisions"),
        Shot("adjudication", "adjudication", "Two readers, names hidden", ADJUDICATOR),
        Shot(
            "upload", "upload", "1 film on the worklist, 1 refused", act=lambda page: upload(page, WORD, new_film(here))
        ),
        Shot("quarantine", "quarantine", WORD),
        Shot("quarantine-file", "quarantine", "How was it dealt with?", act=open_first_line),
        Shot("export", "export", "Not decided yet", ADMIN),
        Shot("dashboards", "dashboards", "Mean absolute error"),
        Shot("growth-child", f"growth?view=child&child={patient}", "Visits: value and z-score"),
        Shot("quality", "quality", "Beyond doubt, and not used yet", ADMIN),
        Shot("retrain", "retrain", "Runs", ADMIN),
        Shot("models", "models", "Way back", ADMIN),
        Shot("tokens", "tokens", "Last used", ADMIN),
    ]


def wrong(here: Place) -> list[Shot]:
    """What a reader meets when something is not as it should be."""
    session, add = here.session, case_adder(here.session, here.folder / "films")
    gone = add()
    for pixels in (here.data_dir / "films").rglob("pixels.gz"):
        pixels.unlink()
    add(Task.BONE_AGE, is_read=False, pixels=film(1))
    taken, eye = add(pixels=film(3)), add(Task.ROP, rop_answer("III", "1", "none"))
    sexless = add(PatientSex=None, pixels=film(4))
    hand = add(Task.BONE_AGE, bone_age_answer(110), pixels=film(2), PatientID="CHILD-7")
    add(pixels=film(5), PatientID="NEWBORN", PatientBirthDate="20250701")
    claims.claim(session, ADMIN, taken.study_id)
    patient = study_with_images(session, hand.study_id).patient_fk
    session.add(
        RetrainRun(state=RetrainState.FAILED, started_by="demo-admin", message="Training stopped: no space left.")
    )
    session.commit()
    reading.heartbeat(session, WORKER, "worker-1", PHANTOM, "phantom 0.4 cannot be used. Its files were changed.")
    return [
        Shot("models-refused", "models", "Its files were changed", ADMIN),  # first: a silent worker counts for 30 s
        Shot("worklist-nothing-matches", "", "Nothing matches", act=search_in_vain),
        Shot("worklist-no-connection", "", "No connection to the workstation", act=lose_connection),
        Shot("review-no-such-study", "review?study=9999", "there is no study 9999"),
        Shot("review-pixels-gone", f"review?study={gone.study_id}", "have been removed from the data folder"),
        Shot("review-taken", f"review?study={taken.study_id}", "Only one reader decides"),
        Shot("review-stage-without-zone", f"review?study={eye.study_id}", "needs a zone: say which", act=contradict),
        Shot("review-sex-missing", f"review?study={sexless.study_id}", "Please enter it"),
        Shot("review-half-filled", f"review?study={hand.study_id}", "Still to say: months", act=half_fill),
        Shot(
            "review-no-connection",
            f"review?study={hand.study_id}",
            "What you entered is still here",
            act=lose_connection,
        ),
        Shot("adjudication-not-allowed", "adjudication", "Ask an administrator"),
        Shot("upload-refused", "upload", "2 refused", act=lambda page: upload(page, "film", b"")),
        Shot("quarantine-nothing-matches", "quarantine", "Nothing matches", act=search_in_vain),
        Shot("export-nothing", "export", "Nothing to export yet"),
        Shot("growth-no-such-child", "growth?view=child&child=9999", "9999"),
        Shot("growth-visit-refused", f"growth?view=child&child={patient}", "A visit needs its date", act=bad_visit),
        Shot("growth-bad-lines", "growth?view=file", "Refused 8", act=lambda page: visits_file(page, FAULTY)),
        Shot("growth-no-table", "growth?view=file", "save it as CSV", act=lambda page: visits_file(page, b"PK\0\3")),
        Shot("quality", "quality", "No case is beyond doubt yet", ADMIN),
        Shot("retrain-failed", "retrain", "no space left", ADMIN),
        Shot("retrain-no-such-run", "retrain?run=9999", "9999", ADMIN),
    ]


def no_tables(here: Place) -> list[Shot]:
    """The database has been taken away; shown with the state `error`."""
    here.session.close()
    engine_for(settings().database_url).dispose()
    for file in here.data_dir.glob("pediscreen.sqlite*"):
        file.unlink()
    says = "The database does not answer, or has no tables yet"
    others = (page for page in PAGES if page not in WANT_A_FILE_FIRST)
    pages = ("", "review?study=1", "adjudication", "connections", *others)
    return [Shot(f"no-database-{name_of(path)}", path, says, ADMIN) for path in pages]


def sent(here: Place) -> list[Shot]:
    """Reports on their way, each in another state."""
    session, add = here.session, case_adder(here.session, here.folder / "films")
    reasons = {DeliveryState.FAILED: "nothing answers at this address", DeliveryState.REFUSED: SENTENCE.lower()}
    for number, state in enumerate(DeliveryState):
        case = add(Task.BONE_AGE, bone_age_answer(100), pixels=film(number))
        decide(session, READER, case.study_id, bone_age_answer(112))
        review_id = latest_reviews(session, [case.image_id])[case.image_id].id
        with writing(session):
            if number == 0:
                session.add(SendingDestination(name="pacs"))
                session.flush()
            columns = {"kind": DeliveryKind.REPORT, "version": 1, "due_at": utc_now(), "attempts": 2}
            columns |= {"state": state, "reason": reasons.get(state), "through_review_id": review_id}
            sent_at = utc_now() if state is DeliveryState.SENT else None
            session.add(Delivery(study_fk=case.study_id, destination="pacs", sent_at=sent_at, **columns))
    refused = "review?study=" + str(list(DeliveryState).index(DeliveryState.REFUSED) + 1)
    return [
        Shot("connections", "connections", "No longer in the settings", ADMIN),
        Shot("connections-report", "connections", "Send again", ADMIN, open_first_line),
        Shot("review-report-refused", refused, "Report refused by PACS"),
    ]


STATES: dict[str, tuple[Callable[[Place], list[Shot]], ...]] = {
    "empty": (empty,),
    "normal": (normal, figures, children, verdict, sent),
    "long": (long,),
    "error": (wrong, no_tables),
}


# ---------------------------------------------------------------- making them


VISITS = (
    b"Patient ID,Date of visit,Height (cm),Weight kg\nCHILD-bone_age,2025-01-15,128,28.5\nID9,2025-01-15,1.10,18.5\n"
)


# A visit as it should be, then every fault.
FAULTY = b"""Patient ID,Date of visit,Height (cm),Weight kg
CHILD-7,2024-03-10,127,26
CHILD-7,2024-09-10,1.30,27
CHILD-7,2025-03-10,52.4,28
CHILD-7,2025-04-10,133,"28,5"
CHILD-7,2031-01-15,133,29
CHILD-7,2025-05-10,29,133.5
CHILD-7,2025-06-10,134,29
CHILD-7,2025-06-10,134,29
NEWBORN,2025-07-02,50,20
CHILD-8,2025-06-10,134,29
"""


def film(number: int) -> np.ndarray:
    """No two alike, as the same picture counts once."""
    return np.roll(film_pixels(), number, axis=1)


def new_film(here: Place) -> bytes:
    return write_film(here.folder / "films" / "upload.dcm", pixels=film(77)).read_bytes()


def child(number: int) -> dict[str, str]:
    sex, site = "FM"[number % 2], "AB"[number % 2]
    return {"PatientSex": sex, "InstitutionName": f"Site {site}", "PatientBirthDate": f"20{10 + number}0310"}


def with_history(here: Place, add, task: Task, answer: Answer, films: int = 2, **tags: str):
    """Earlier examinations of the same child, and a height measured on the day of the film."""
    same = {"PatientID": f"CHILD-{task}", "PatientBirthDate": "20160310", **tags}
    for number in range(films):
        day = f"{2024 - number}0710"
        add(task, StudyDate=day, AcquisitionDate=day, pixels=film(100 + number), **same)
    case = add(task, answer, pixels=film(99), **same)
    study = study_with_images(here.session, case.study_id)
    cells = {"measured_on": str(study.acquired_on), "length_height_cm": "133", "weight_kg": "29"}
    if task is Task.BONE_AGE:
        child_growth.add_visit(here.session, READER, study.patient_fk, cells)
    return case


def decide(session: Session, actor: Actor, study_id: int, answer: Answer, comment: str | None = None) -> None:
    session.rollback()
    image = review.load_study(session, actor, study_id).images[0]
    decision = Decision(
        Verdict.CORRECTED,
        answer,
        comment=comment,
        prediction_id=image.read.prediction_id,
        seen_review_id=image.seen_review_id,
        seconds=14.0,
    )
    review.record_review(session, actor, image.image_id, decision)


def refuse(here: Place, name: str, content: bytes) -> None:
    path = here.folder / "films" / "refused"
    path.write_bytes(content)
    ingest.ingest_file(here.session, READER, path, name)


def name_of(path: str) -> str:
    return path.split("?")[0].replace("/", "") + path.partition("view=")[2].join(("-", "")).rstrip("-") or "worklist"
