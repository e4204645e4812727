"""Who belongs together, and what contradicts itself. Films are made up here; no file is opened."""

import hashlib
import random
from collections import defaultdict
from pathlib import Path

import pytest

from engine.findings.answers import Answer, Task, bone_age_answer, fracture_answer, rop_answer
from training.annotate_films import Annotated, Usable, annotate, contradiction, people_of
from training.label_columns import RawLabel
from training.raw_files import Case
from training.raw_films import RawFilm

RAW = Path("/raw")
BUCKLE = fracture_answer("buckle")


def usable(name: str, answer: Answer = BUCKLE, *, patients=(), pair=None, sex=None, **film) -> Usable:
    sha = hashlib.sha256(name.encode()).hexdigest()
    label = RawLabel(where="labels.csv", folder=RAW, file=name, dataset="own", answer=answer, sex=sex)
    hashes = dict.fromkeys(("image_sha256", "pixel_sha256", "shown_sha256", "perceptual_hash"), sha)
    return Usable(Case(RAW / f"{name}.png", label, tuple(patients), pair), RawFilm(**{**hashes, **film}))


def annotated(*cases: Usable, trust_file: bool = True) -> Annotated:
    return annotate(cases, Path("/none"), RAW, stratified=True, seed=0, trust_file=trust_file)


def groups(found: Annotated) -> list[set[str]]:
    by_group = defaultdict(set)
    for of_split in found.annotations.values():
        for one in of_split:
            by_group[one.provenance["group"]].add(one.provenance["image_sha256"])
    return list(by_group.values())


def test_whoever_is_linked_by_any_name_stays_on_one_side() -> None:
    """Against a search of the graph of shared names, on random names."""
    chance = random.Random(0)
    cases = []
    for i in range(200):
        names = {"patients": [f"p{chance.randrange(150)}"]} if chance.random() < 0.5 else {}
        film = {"file_patient": f"f{chance.randrange(150)}"} if chance.random() < 0.5 else {}
        study = {"file_study": f"s{chance.randrange(300)}"} if chance.random() < 0.3 else {}
        cases.append(usable(str(i), **names, **film, **study))
    found = annotated(*cases)
    side = {one.provenance["image_sha256"]: s for s, of_split in found.annotations.items() for one in of_split}
    assert len(side) == 200 and len(set(side.values())) == 3
    for i, one in enumerate(cases):
        for other in cases[:i]:
            if set(people_of(one, True)) & set(people_of(other, True)):
                assert side[one.film.image_sha256] == side[other.film.image_sha256]


def test_two_eyes_are_one_child_unless_somebody_says_whose_they_are() -> None:
    assert len(groups(annotated(usable("a", pair="x"), usable("b", pair="x")))) == 1
    found = annotated(usable("a", pair="x", patients=["1"]), usable("b", pair="x", file_patient="2"))
    assert len(groups(found)) == 2


def test_an_unknown_child_has_no_pseudonym() -> None:
    found = annotated(usable("a"), usable("b", patients=["1"]))
    names = [one.provenance["patient"] for of_split in found.annotations.values() for one in of_split]
    assert set(names) == {None, "P00001"}


def test_a_patient_id_that_was_blanked_to_one_value_is_noticed() -> None:
    cases = [usable(str(i), file_patient="ANON") for i in range(24)]
    found = annotated(*cases)
    assert len(groups(found)) == 1
    assert any("24 of 24 images hang together" in warning for warning in found.warnings)
    found = annotated(*cases, trust_file=False)
    assert len(groups(found)) == 24 and not any("hang together" in warning for warning in found.warnings)


def test_the_same_image_joins_its_children_and_is_kept_once() -> None:
    shown = {"shown_sha256": "one"}
    cases = [
        usable("a", patients=["1"], **shown),
        usable("b", patients=["2"], **shown),
        usable("c", patients=["1"]),
        usable("d", patients=["2"]),
    ]
    found = annotated(*cases)
    assert len(groups(found)) == 1 and [(one.file, one.code) for one in found.repeated] == [("b.png", "same_image")]


@pytest.mark.parametrize("other", [{"answer": fracture_answer("normal")}, {"sex": "F"}])
def test_the_same_image_with_two_labels_is_left_out(other: dict) -> None:
    shown = {"shown_sha256": "one"}
    found = annotated(usable("a", sex="M", **shown), usable("b", **{"sex": "M", **shown, **other}), usable("c"))
    assert {(one.file, one.code) for one in found.repeated} == {
        ("a.png", "same_image_other_label"),
        ("b.png", "same_image_other_label"),
    }


@pytest.mark.parametrize(
    ("answer", "film", "code"),
    [
        (bone_age_answer(100), {"task": Task.BONE_AGE}, ""),
        (bone_age_answer(100), {"task": Task.FRACTURE}, "contradicting_task"),
        (bone_age_answer(100), {"is_colour": True}, "contradicting_task"),
        (rop_answer("II", "2", "none"), {"is_colour": True}, ""),
        (rop_answer("II", "2", "none"), {}, ""),
        (fracture_answer("buckle"), {"sex": "F"}, "contradicting_sex"),
        (fracture_answer("buckle"), {"burned_in": "yes"}, "burned_in_annotation"),
    ],
)
def test_contradictions(answer: Answer, film: dict, code: str) -> None:
    label = usable("a", answer, sex="M").case
    assert contradiction(label, RawFilm(**film))[0] == code
