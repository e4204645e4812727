import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from sqlalchemy.orm import Session

from engine.annotations import TASK_FOLDERS
from engine.errors import NotAllowed, Refused
from engine.findings.answers import ALLOWED, Task, bone_age_answer, fracture_answer, rop_answer
from engine.imaging.display import display_pixels
from engine.imaging.preprocess import model_image
from engine.services import export, images, review
from engine.services.accounts import Actor, Role
from engine.services.export import split_of
from engine.services.ingest import IngestResult, PatientEntry
from engine.services.review import Decision, RejectReason, Verdict
from tests.engine.services.conftest import ADMIN, READER, Arrivals, grey_film, hand_tags
from training import pedirad_loader

SPLITS = ("train", "val", "test")


def decide(session: Session, case: IngestResult, answer: dict | None = None, **details: object) -> None:
    image = review.load_study(session, READER, case.study_id).images[0]
    verdict = Verdict.CONFIRMED if answer is None else Verdict.CORRECTED
    read_id = image.read.prediction_id if image.read else None
    review.record_review(
        session, READER, image.image_id, Decision(verdict, answer, details=details, prediction_id=read_id)
    )


def read_back(folder: Path) -> list[pedirad_loader.LabelledImage]:
    return [image for split in SPLITS for image in pedirad_loader.load_split(folder, split)]


def test_what_is_exported_is_read_back(session: Session, new_case: Callable, tmp_path: Path) -> None:
    cases = [new_case(task) for task in [*Task] * 4]
    for number, case in enumerate(cases):
        corrected = bone_age_answer(100 + number) if case.task is Task.BONE_AGE else None
        decide(session, case, corrected)
    new_case()  # never decided
    summary = export.export_annotations(session, ADMIN, tmp_path / "out", seed=5)
    assert (summary.images, summary.patients, summary.not_reviewed, summary.left_out) == (12, 12, 1, [])
    assert summary.is_phantom

    loaded = read_back(tmp_path / "out")
    by_hash = {image.annotation.provenance["image_sha256"]: image for image in loaded}
    assert len(by_hash) == 12
    for case in cases:
        image = by_hash[case.file_sha256]
        study = review.load_study(session, READER, case.study_id)
        decision, read = study.images[0].decision, study.images[0].read
        annotation = image.annotation
        assert annotation.task == case.task and annotation.answer == decision.answer
        assert (annotation.sex, annotation.age_months) == ("F", study.age_months)
        provenance = annotation.provenance
        assert provenance["verdict"] == decision.verdict and provenance["model_answer"] == read.answer
        assert provenance["model_version"] == "phantom 0.3" and provenance["phantom"] is True
        assert provenance["patient"] == study.pseudonym and provenance["reader"].startswith("R-")
        assert provenance["reviewed_at"] == decision.created_at.isoformat()
        assert image.split == split_of(study.pseudonym, 5)
        record = next(
            record
            for record in json.loads(
                (tmp_path / "out" / TASK_FOLDERS[case.task] / f"{image.split}_annotations.json").read_text()
            )
            if record["image_sha256"] == case.file_sha256
        )
        assert annotation.as_record() == record
        seen_by_model = model_image(display_pixels(images.film(session, READER, case.image_id)))
        np.testing.assert_array_equal(Pillow.open(image.path).convert("RGB"), seen_by_model)
    counted = {task: {split: 0 for split in SPLITS} for task in Task}
    for image in loaded:
        counted[image.annotation.task][image.split] += 1
    assert counted == summary.counts


ADDED = {
    Task.BONE_AGE: (bone_age_answer(131), {"method": "atlas_bone_by_bone"}),
    Task.ROP: (
        rop_answer("II", "4", "plus"),
        {"aggressive": True, "notch": True, "substage": "b", "regression": "incomplete", "treatment": "anti_vegf"},
    ),
    Task.FRACTURE: (
        fracture_answer("distal_radius"),
        {"fracture_class": "sh2", "bone": "both", "region": "physis", "displaced": False, "open_fracture": True},
    ),
}


@pytest.mark.parametrize("task", Task)
def test_what_was_added_to_an_answer_leaves_unchanged_and_the_answer_stays_in_its_set(
    session: Session, new_case: Callable, tmp_path: Path, task: Task
) -> None:
    answer, added = ADDED[task]
    decide(session, new_case(task), answer, **added, note="Jane", quality="limited")
    export.export_annotations(session, ADMIN, tmp_path / "out")
    (image,) = read_back(tmp_path / "out")
    assert image.annotation.answer == answer and answer in ALLOWED[task]
    assert image.annotation.provenance["details"] == {**added, "quality": "limited"}
    [read] = json.loads((tmp_path / "out" / export.READER_READS_FILE).read_text())
    assert (read["answer"], read["details"]) == (answer, {**added, "quality": "limited"})


def test_nothing_that_names_the_child_leaves(session: Session, new_case: Callable, tmp_path: Path) -> None:
    decide(session, new_case(), quality="good", note="Jane, seen on the ward", no_burned_in_text=True)
    export.export_annotations(session, ADMIN, tmp_path / "out")
    (image,) = read_back(tmp_path / "out")
    assert image.annotation.provenance["details"] == {"quality": "good", "no_burned_in_text": True}
    text = " ".join(
        str(path) + (path.read_text() if path.suffix == ".json" else "") for path in (tmp_path / "out").rglob("*")
    )
    for secret in ("ID01000", "Doe", "Jane", "A01000", "2016-03-10", "1.2.3.1000", READER.username):
        assert secret not in text


def test_the_same_data_and_seed_give_the_same_folder(session: Session, new_case: Callable, tmp_path: Path) -> None:
    for _ in range(5):
        decide(session, new_case())
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        export.export_annotations(session, ADMIN, folder, seed=1)
    one, two = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    )
    assert one == two
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith(".")} == set()


def test_no_patient_on_two_sides() -> None:
    for seed in range(5):
        sides = [split_of(f"P-{number}", seed) for number in range(4000)]
        assert sides == [split_of(f"P-{number}", seed) for number in range(4000)]
        for split, share in (("train", 0.70), ("val", 0.15), ("test", 0.15)):
            assert abs(sides.count(split) / 4000 - share) < 0.03


def test_a_childs_films_stay_together(session: Session, new_case: Callable, tmp_path: Path) -> None:
    for child in range(12):
        for task in (Task.BONE_AGE, Task.FRACTURE, Task.BONE_AGE):
            decide(session, new_case(task, patient_id=f"child {child}"))
    summary = export.export_annotations(session, ADMIN, tmp_path / "out")
    assert summary.patients == 12 and summary.images == 36
    splits: dict[str, set[str]] = {}
    for image in read_back(tmp_path / "out"):
        splits.setdefault(image.annotation.provenance["patient"], set()).add(image.split)
    assert len(splits) == 12 and all(len(where) == 1 for where in splits.values())


@pytest.mark.parametrize(
    ("tags", "details", "code"),
    [
        ({"burned_in_annotation": "YES"}, {}, "burned_in_annotation"),
        ({"burned_in_annotation": None}, {}, "burned_in_unknown"),
        ({"burned_in_annotation": None, "made_by_phantom": True}, {}, None),
        ({"burned_in_annotation": None}, {"no_burned_in_text": True}, None),
        ({"burned_in_annotation": "NO"}, {}, None),
    ],
)
def test_burned_in_text(
    session: Session, new_case: Callable, tmp_path: Path, tags: dict, details: dict, code: str | None
) -> None:
    case = new_case(**tags)
    decide(session, case, **details)
    summary = export.export_annotations(session, ADMIN, tmp_path / "out")
    assert summary.images == (1 if code is None else 0)
    assert [(left.code, left.image_id) for left in summary.left_out] == ([(code, case.image_id)] if code else [])


def test_what_is_left_out_is_said(session: Session, new_case: Callable, arrive: Arrivals, tmp_path: Path) -> None:
    rejected = new_case()
    review.record_review(
        session, READER, rejected.image_id, Decision(Verdict.REJECTED, reject_reason=RejectReason.WRONG_SIDE)
    )
    gone = new_case()
    decide(session, gone)
    for kept in sorted(images.films_folder().rglob("*"), reverse=True):
        if gone.file_sha256 in str(kept):
            kept.rmdir() if kept.is_dir() else kept.unlink()
    images.original_path(gone.file_sha256).unlink()
    photo = arrive(session, grey_film(hand_tags(1).__class__(), 8, "png"), entry=PatientEntry("K", "M"), task=Task.ROP)
    review.set_facts(session, READER, photo.image_id, laterality="L")
    decide_photo = Decision(Verdict.CORRECTED, {"task": "rop", "zone": "II", "stage": "1", "plus_disease": "none"})
    review.record_review(session, READER, photo.image_id, decide_photo)
    withdrawn = new_case()
    decide(session, withdrawn)
    last = review.load_study(session, READER, withdrawn.study_id).images[0].decision
    review.undo_review(session, READER, withdrawn.image_id, last.review_id)

    summary = export.export_annotations(session, ADMIN, tmp_path / "out")
    assert {(left.image_id, left.code) for left in summary.left_out} == {
        (rejected.image_id, "rejected"),
        (gone.image_id, "film_missing"),
    }
    assert summary.images == 1 and summary.not_reviewed == 1
    assert summary.left_out[0].reason == "rejected: wrong side"
    assert any("PNG and JPEG" in warning for warning in summary.warnings)
    (image,) = read_back(tmp_path / "out")
    assert image.annotation.provenance["model_answer"] is None and image.annotation.provenance["phantom"] is False


def test_the_same_pixels_go_out_once(session: Session, arrive: Arrivals, tmp_path: Path) -> None:
    """Otherwise one picture could be trained on and tested on, under two patients."""
    for number in (1, 2):
        case = arrive(session, grey_film(hand_tags(number), seed=4))
        decide(session, case, bone_age_answer(100))
    summary = export.export_annotations(session, ADMIN, tmp_path / "out")
    assert summary.images == 1 and [left.code for left in summary.left_out] == ["same_pixels"]


def test_every_read_of_every_reader_goes_out_by_pseudonym(session: Session, new_case: Callable, tmp_path: Path) -> None:
    second = Actor("dr-jane-doe", "Jane Doe", Role.READER)
    twice, rejected = new_case(), new_case()
    decide(session, twice, bone_age_answer(100), quality="good", note="Jane, seen on the ward")
    image = review.load_study(session, second, twice.study_id).images[0]
    review.record_review(
        session,
        second,
        image.image_id,
        Decision(
            Verdict.CORRECTED,
            bone_age_answer(120),
            comment="Jane is older",
            prediction_id=image.read.prediction_id,
            seen_review_id=image.seen_review_id,
            seconds=12.5,
        ),
    )
    last = review.load_study(session, second, twice.study_id).images[0].decision
    review.undo_review(session, second, twice.image_id, last.review_id)
    reject = Decision(Verdict.REJECTED, reject_reason=RejectReason.WRONG_SIDE)
    review.record_review(session, READER, rejected.image_id, reject)

    summary = export.export_annotations(session, ADMIN, tmp_path / "out")
    assert summary.images == 0  # one was taken back, the other rejected
    text = (tmp_path / "out" / export.READER_READS_FILE).read_text()
    reads = json.loads(text)
    assert summary.reader_reads == len(reads) == 4
    assert "Jane" not in text and second.username not in text and READER.username not in text
    first, other, withdrawn, no_answer = reads
    assert [(r["image_sha256"], r["revision"], r["verdict"]) for r in reads] == [
        (twice.file_sha256, 1, "corrected"),
        (twice.file_sha256, 2, "corrected"),
        (twice.file_sha256, 3, "withdrawn"),
        (rejected.file_sha256, 1, "rejected"),
    ]
    assert first["answer"] == bone_age_answer(100) and other["answer"] == bone_age_answer(120)
    assert first["reader"] != other["reader"] and other["supersedes_reader"] == first["reader"]
    assert first["details"] == {"quality": "good"} and other["seconds"] == 12.5
    assert withdrawn["answer"] is None and no_answer["reject_reason"] == "wrong_side"
    assert first["model_answer"] == bone_age_answer(110) and first["model_version"] == "phantom 0.3"


def test_an_earlier_export_is_replaced_and_nothing_else(session: Session, new_case: Callable, tmp_path: Path) -> None:
    decide(session, new_case())
    out = tmp_path / "out"
    export.export_annotations(session, ADMIN, out)
    (out / "bone_age" / "stale.txt").write_text("x")
    export.export_annotations(session, ADMIN, out)
    assert not (out / "bone_age" / "stale.txt").exists() and len(read_back(out)) == 1
    other = tmp_path / "letters"
    other.mkdir()
    (other / "letter.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for place in (other, tmp_path / "file"):
        with pytest.raises(Refused, match="other than an export"):
            export.export_annotations(session, ADMIN, place)
    assert (other / "letter.txt").exists()


def test_nothing_decided_gives_an_empty_export(session: Session, tmp_path: Path) -> None:
    summary = export.export_annotations(session, ADMIN, tmp_path / "out")
    assert summary.images == 0 and not summary.is_phantom and read_back(tmp_path / "out") == []


def test_admins_only(session: Session, tmp_path: Path) -> None:
    with pytest.raises(NotAllowed):
        export.export_annotations(session, READER, tmp_path / "out")
    assert not (tmp_path / "out").exists()
