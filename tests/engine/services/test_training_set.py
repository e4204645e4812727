import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from db.models import Deployment, DeploymentKind, ModelState, ModelVersion
from db.repositories import retrain
from engine.annotations import SPLITS
from engine.errors import Damaged, NotAllowed, Refused
from engine.findings.answers import Task, bone_age_answer, fracture_answer, rop_answer
from engine.phantoms import replay
from engine.services import ingest, review, training_set
from engine.services.accounts import Actor
from engine.services.ingest import IngestResult
from engine.services.review import Decision, RejectReason, Role, Verdict
from engine.services.training_set import preview, snapshot
from engine.settings import settings
from tests.engine.services.conftest import ADMIN, READER, Arrivals, grey_film, hand_tags
from training.pedirad_loader import LabelledImage, load_split

OTHER_READER = Actor("second", "Second reader", Role.READER)
ADJUDICATOR = Actor("third", "Adjudicator", Role.ADJUDICATOR)

Decide = Callable[..., int]


@pytest.fixture
def decide(session: Session) -> Decide:
    """Confirms, or corrects to `answer`, or rejects; returns the review's id."""

    def decide(case: IngestResult, answer: dict | None = None, actor: Actor = READER, reject: bool = False) -> int:
        image = review.load_study(session, actor, case.study_id).images[0]
        read_id = image.read.prediction_id if image.read else None
        verdict = Verdict.REJECTED if reject else Verdict.CONFIRMED if answer is None else Verdict.CORRECTED
        decision = Decision(
            verdict,
            answer,
            reject_reason=RejectReason.POOR_QUALITY if reject else None,
            prediction_id=read_id,
            seen_review_id=image.seen_review_id,
        )
        return review.record_review(session, actor, image.image_id, decision)

    return decide


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few cases are enough, few phantoms are replayed, and the pseudonyms are the same in every run."""
    numbers = itertools.count(27)  # two of the first ten are in the locked test set
    monkeypatch.setattr(ingest, "random_pseudonym", lambda prefix: f"{prefix}-{next(numbers):04}")
    monkeypatch.setattr(training_set, "MIN_CORRECTIONS", 6)
    monkeypatch.setattr(training_set, "MIN_PATIENTS_BETTER", 1)
    monkeypatch.setattr(replay, "COUNTS", dict.fromkeys(Task, 3))


@pytest.fixture
def hands(new_case: Callable, decide: Decide, small: None) -> list[IngestResult]:
    """10 hands of as many phantom children, each corrected to another age."""
    cases = [new_case(made_by_phantom=True) for _ in range(10)]
    for number, case in enumerate(cases):
        decide(case, bone_age_answer(60 + 7 * number))
    return cases


@pytest.fixture
def for_patients(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    """The configured model is no phantom model."""
    monkeypatch.setenv("PEDISCREEN_MODEL", "google/medgemma-4b-it")
    settings.cache_clear()


def images_of(folder: Path) -> list[LabelledImage]:
    return [image for split in SPLITS for image in load_split(folder, split)]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def codes(found: training_set.TrainingSetPreview) -> list[tuple[int, str]]:
    return [(left.image_id, left.code) for left in found.left_out]


def test_what_would_be_trained_on(session: Session, hands: list, new_case: Callable, decide: Decide) -> None:
    decide(new_case(Task.FRACTURE, institution="Site B", patient_sex="M"))
    decide(new_case(Task.ROP), reject=True)
    new_case()
    found = preview(session, ADMIN)
    by_task = {counts.task: counts for counts in found.tasks}
    hand = by_task[Task.BONE_AGE]
    assert (hand.corrected, hand.confirmed, hand.enough, hand.why_not) == (10, 0, True, None)
    assert hand.by_label == {"10-14 y": 1, "5-9 y": 9} and hand.by_site == {"Site A": 10} and hand.by_sex == {"F": 10}
    assert sum(hand.splits.values()) == 10
    wrist = by_task[Task.FRACTURE]
    assert (wrist.corrected, wrist.confirmed, wrist.enough) == (0, 1, False)
    assert wrist.by_label == {"buckle": 1} and wrist.by_site == {"Site B": 1} and wrist.by_sex == {"M": 1}
    assert "Usable corrections of fracture so far: 0" in wrist.why_not
    assert by_task[Task.ROP].corrected == by_task[Task.ROP].confirmed == 0
    assert [left.code for left in found.left_out] == ["rejected"]
    assert found.not_reviewed == 1 and found.new_decisions == 11
    assert found.enough and found.why_not is None and found.estimate_minutes > 0
    assert found.replay == dict.fromkeys(Task, 3)


def test_the_snapshot_is_what_training_reads(session: Session, hands: list, tmp_path: Path) -> None:
    heard = []
    made = snapshot(session, ADMIN, tmp_path / "set", progress=lambda done, of: heard.append((done, of)))
    loaded = images_of(made.out_dir)
    assert len(loaded) == 10 + 9 and heard[-1] == (19, 19)
    about = json.loads((made.out_dir / "data_set.json").read_text())
    assert about["sha256"] == made.sha256 and about["tasks"] == list(Task) and about["phantom"] is True
    assert "not for diagnostic use" in about["note"] and about["counts"] == made.counts

    replayed = [image for image in loaded if image.annotation.provenance.get("replay")]
    assert {(image.annotation.task, image.annotation.provenance["site"]) for image in replayed} == {
        (task, "A") for task in Task
    }
    assert {image.split for image in replayed} == {"train", "val"}
    decided = {image.annotation.provenance["image_sha256"]: image for image in loaded if image not in replayed}
    in_split = {row.image_id: row.split for row in made.reviews}
    for case in hands:
        assert decided[case.file_sha256].split == in_split[case.image_id]
    assert made.counts["bone_age"] == {split: list(in_split.values()).count(split) for split in SPLITS}
    assert made.counts["corrected"]["bone_age"] == 10 and made.counts["patients"] == 10

    stored = retrain.data_set_by_sha256(session, made.sha256)
    assert stored.id == made.data_set_id and stored.counts == made.counts
    rows = retrain.reviews_of_data_set(session, stored.id)
    assert {(row.review_fk, row.image_fk, row.split) for row in rows} == {
        (row.review_id, row.image_id, row.split) for row in made.reviews
    }


def test_the_same_decisions_give_the_same_hash(
    session: Session, hands: list, new_case: Callable, decide: Decide, tmp_path: Path
) -> None:
    one = snapshot(session, ADMIN, tmp_path / "one")
    two = snapshot(session, ADMIN, tmp_path / "two")
    again = snapshot(session, ADMIN, tmp_path / "one")
    assert one.sha256 == two.sha256 == again.sha256 and one.data_set_id == again.data_set_id
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    decide(new_case(made_by_phantom=True))
    assert snapshot(session, ADMIN, tmp_path / "three").sha256 != one.sha256
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_patient_stays_in_their_split_for_ever(
    session: Session, hands: list, new_case: Callable, decide: Decide, tmp_path: Path
) -> None:
    before = {row.image_id: row.split for row in snapshot(session, ADMIN, tmp_path / "set").reviews}
    assert "test" in before.values()
    for _ in range(3):
        decide(new_case(made_by_phantom=True))
    after = {row.image_id: row.split for row in snapshot(session, ADMIN, tmp_path / "set").reviews}
    assert before.items() < after.items()


def test_a_stop_leaves_nothing_behind(session: Session, hands: list, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, of: int) -> None:
        if done == 5:
            raise Stopped

    with pytest.raises(Stopped):
        snapshot(session, ADMIN, tmp_path / "sets" / "one", progress=stop)
    assert list((tmp_path / "sets").iterdir()) == []


def test_two_readers_who_differ_wait_for_an_adjudicator(session: Session, hands: list, decide: Decide) -> None:
    close, apart, rejected, settled, taken_back = hands[:5]
    decide(close, bone_age_answer(62), OTHER_READER)  # was 60: within what two readings of one film differ by
    decide(apart, bone_age_answer(90), OTHER_READER)  # was 67
    decide(rejected, actor=OTHER_READER, reject=True)
    decide(rejected, bone_age_answer(74))
    decide(settled, bone_age_answer(120), OTHER_READER)
    decide(settled, bone_age_answer(100), ADJUDICATOR)
    wrong = decide(taken_back, bone_age_answer(200), OTHER_READER)
    review.undo_review(session, OTHER_READER, taken_back.image_id, wrong)
    decide(taken_back, bone_age_answer(88))
    found = preview(session, ADMIN)
    assert codes(found) == [(apart.image_id, "readers_differ"), (rejected.image_id, "readers_differ")]
    assert "adjudicator" in found.left_out[0].reason and "rejected" in found.left_out[1].reason
    (agreement,) = found.agreement
    assert (agreement.task, agreement.images, agreement.agreeing) == (Task.BONE_AGE, 3, 1)
    # |60 - 62|, |67 - 90|, and the three of 81, 120, 100
    assert agreement.mean_difference_months == pytest.approx((2 + 23 + (39 + 19 + 20) / 3) / 3, abs=0.05)


def test_a_picture_of_two_patients_is_used_once(
    session: Session, hands: list, arrive: Arrivals, decide: Decide, tmp_path: Path
) -> None:
    """Where one of them is in the locked test set it stays there: it must never be trained on."""
    copies = [arrive(session, grey_film(hand_tags(n, made_by_phantom=True), seed=77)) for n in range(1, 9)]
    for case in copies:
        decide(case, bone_age_answer(99))
    found = preview(session, ADMIN)
    left = {image_id for image_id, code in codes(found) if code == "leak"}
    assert len(left) == 7 and "exactly these pixels" in found.left_out[0].reason
    kept = {row.image_id: row.split for row in snapshot(session, ADMIN, tmp_path / "set").reviews}
    (only,) = {case.image_id for case in copies} - left
    assert kept[only] == "test"  # of eight patients one or more are in the test set


def test_one_picture_with_two_answers_is_not_used(
    session: Session, hands: list, arrive: Arrivals, decide: Decide
) -> None:
    one, two = (arrive(session, grey_film(hand_tags(n, made_by_phantom=True), seed=77)) for n in (1, 2))
    decide(one, bone_age_answer(60))
    decide(two, bone_age_answer(100))
    assert codes(preview(session, ADMIN)) == [(one.image_id, "labels_differ"), (two.image_id, "labels_differ")]


def test_too_few_corrections_are_refused(session: Session, new_case: Callable, decide: Decide, tmp_path: Path) -> None:
    for _ in range(3):
        decide(new_case(), bone_age_answer(90))
    found = preview(session, ADMIN)
    assert not found.enough
    with pytest.raises(Refused, match="Usable corrections of bone age so far: 3. At least 30") as refused:
        snapshot(session, ADMIN, tmp_path / "set")
    assert refused.value.code == "too_few" and str(refused.value) == found.why_not
    assert not (tmp_path / "set").exists()


def test_one_class_only_is_refused(
    session: Session, new_case: Callable, decide: Decide, small: None, tmp_path: Path
) -> None:
    for _ in range(7):
        decide(new_case(Task.FRACTURE), fracture_answer("normal"))
    with pytest.raises(Refused, match="All usable fracture cases have the same answer") as refused:
        snapshot(session, ADMIN, tmp_path / "set")
    assert refused.value.code == "one_class"


def test_a_one_sided_task_is_left_out_beside_a_good_one(
    session: Session, hands: list, new_case: Callable, decide: Decide, tmp_path: Path
) -> None:
    for _ in range(7):
        decide(new_case(Task.FRACTURE, made_by_phantom=True), fracture_answer("normal"))
    made = snapshot(session, ADMIN, tmp_path / "set")
    assert made.counts["fracture"]["train"] == made.counts["fracture"]["val"] == 0
    assert made.left_out == {"one_class": 7 - made.counts["fracture"]["test"]}


def test_too_few_to_test_on_are_refused(
    session: Session, hands: list, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(training_set, "MIN_PATIENTS_BETTER", 20)
    with pytest.raises(Refused, match="fall into the locked test set, and 20 are needed") as refused:
        snapshot(session, ADMIN, tmp_path / "set")
    assert refused.value.code == "too_few_to_test"


def test_nothing_new_since_the_model_in_use_is_refused(
    session: Session, hands: list, new_case: Callable, decide: Decide, tmp_path: Path
) -> None:
    made = snapshot(session, ADMIN, tmp_path / "set")
    version = ModelVersion(
        name="retrained",
        is_phantom=True,
        state=ModelState.IN_USE,
        folder="models/retrained",
        folder_sha256="0" * 64,
        data_set_fk=made.data_set_id,
    )
    session.add(version)
    session.flush()
    session.add(Deployment(id=1, model_version_fk=version.id, kind=DeploymentKind.PROMOTION, deployed_by="demo-admin"))
    session.commit()
    found = preview(session, ADMIN)
    assert (found.enough, found.new_decisions) == (False, 0) and "learnt from every usable decision" in found.why_not
    with pytest.raises(Refused) as refused:
        snapshot(session, ADMIN, tmp_path / "set")
    assert refused.value.code == "nothing_new"
    decide(new_case(made_by_phantom=True), bone_age_answer(33))
    assert preview(session, ADMIN).enough and preview(session, ADMIN).new_decisions == 1


def test_a_model_for_patients_replays_confirmed_cases(
    session: Session, new_case: Callable, decide: Decide, small: None, for_patients: None, tmp_path: Path
) -> None:
    for number in range(10):
        decide(new_case(), bone_age_answer(60 + number))
    confirmed = [new_case(Task.ROP, rop_answer("II", "1", "none")) for _ in range(6)]
    for case in confirmed:
        decide(case)
    drawn = new_case(made_by_phantom=True)
    decide(drawn, bone_age_answer(50))
    found = preview(session, ADMIN)
    assert codes(found) == [(drawn.image_id, "phantom")]
    made = snapshot(session, ADMIN, tmp_path / "set")
    loaded = images_of(made.out_dir)
    assert len(loaded) == 16
    replayed = [image for image in loaded if image.annotation.provenance["replay"]]
    assert {image.annotation.task for image in replayed} == {Task.ROP}
    assert len(replayed) == found.replay[Task.ROP] == sum(made.counts["rop"][split] for split in ("train", "val"))
    about = json.loads((made.out_dir / "data_set.json").read_text())
    assert about["tasks"] == ["bone_age", "rop"]


def test_confirmed_cases_do_not_drown_the_corrections(
    session: Session, hands: list, new_case: Callable, decide: Decide, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_set, "CONFIRMED_PER_CORRECTION", 0)
    for _ in range(6):
        decide(new_case(Task.ROP, made_by_phantom=True))
    found = preview(session, ADMIN)
    counts = next(counts for counts in found.tasks if counts.task is Task.ROP)
    assert counts.splits["train"] == counts.splits["val"] == 0  # what tests is never given up
    assert {code for _, code in codes(found)} == {"enough_confirmed"}


def test_admins_only(session: Session, tmp_path: Path) -> None:
    with pytest.raises(NotAllowed):
        preview(session, READER)
    with pytest.raises(NotAllowed):
        snapshot(session, READER, tmp_path / "set")


def test_a_snapshot_is_checked_when_it_is_opened(session: Session, hands: list, tmp_path: Path) -> None:
    made = snapshot(session, ADMIN, tmp_path / "set")
    training_set.verify(session, ADMIN, made.data_set_id, tmp_path / "set")
    [picture, *_] = (tmp_path / "set").rglob("*.png")
    picture.write_bytes(picture.read_bytes() + b"x")
    with pytest.raises(Damaged, match="is not what was written"):
        training_set.verify(session, ADMIN, made.data_set_id, tmp_path / "set")
