"""The files of the demo worklist: phantoms tagged as the examinations of a few dozen children.

Everything is drawn from one seed, so that the same files come out every time and sending them again changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import generate_uid

from engine.findings.answers import View
from engine.phantoms import seeds
from engine.phantoms.draw import DRAW
from engine.phantoms.write import PhantomFile, make_phantoms, patient_for, write_dicom

SEED = 20
LAST_DAY = date(2026, 3, 13)  # of the examinations; not today, or the files would differ from day to day
DAYS_PER_MONTH = 365.2425 / 12
FOLLOW_UP_MONTHS = (8, 26)  # from one bone-age film to the next
FILMS_OF_A_CHILD = 3

# of the past: how many images of each. Bone ages of two age bands, so that each has enough of either sex
PAST = {View.HAND: 48, View.FUNDUS: 42, View.WRIST: 36}
PAST_BONE_AGES = (62, 178)  # months
PAST_CHILD, PAST_STUDY = 2001, 2001  # their numbers begin here

# task, site, how many images
BATCHES = (("hand", "A", 24), ("hand", "B", 6), ("fundus", "A", 26), ("wrist", "A", 16), ("wrist", "B", 6))
NAMES = ("Ada", "Bo", "Cleo", "Dara", "Emil", "Fynn", "Gita", "Hugo", "Ines", "Juno", "Kai", "Lena", "Milo", "Nia")


@dataclass(frozen=True)
class Child:
    number: int
    sex: str
    birth_date: date


@dataclass(frozen=True)
class Examination:
    """One study of one child, as files whose true answers are known."""

    child: Child
    acquired_on: date
    files: tuple[PhantomFile, ...]


def make_demo_files(folder: Path) -> tuple[list[Examination], list[Path]]:
    """The examinations, in the order in which they were sent, and files that must be refused."""
    rng = np.random.default_rng(SEED)
    made = {
        (task, site): make_phantoms(folder / f"{task}-{site}", task, count, seed, site=site)
        for seed, (task, site, count) in enumerate(BATCHES, start=SEED)
    }
    numbers = iter(range(1, 1000))
    examinations = [
        *_follow_ups(rng, numbers, made["hand", "A"] + made["hand", "B"]),
        *_both_eyes(rng, numbers, made["fundus", "A"]),
        *_single_films(rng, numbers, made["wrist", "A"] + made["wrist", "B"]),
    ]
    order = rng.permutation(len(examinations))
    examinations = [examinations[index] for index in order]
    for number, examination in enumerate(examinations, start=1):
        _tag(examination, number)
    _leave_something_out(examinations)
    return examinations, _refused_files(folder / "refused", examinations)


def make_past_files(folder: Path) -> list[Examination]:
    """What has been decided before the demo begins, a child each (of eyes as above), in the order in which it came.
    Half as large as the others in each direction: they are drawn and read in a third of the time."""
    rng = np.random.default_rng([SEED, 1])
    numbers = iter(range(PAST_CHILD, PAST_CHILD + 1000))
    made = {view: [_small_film(folder, rng, view, number) for number in range(count)] for view, count in PAST.items()}
    examinations = [
        *_single_films(rng, numbers, made[View.HAND]),
        *_both_eyes(rng, numbers, made[View.FUNDUS]),
        *_single_films(rng, numbers, made[View.WRIST]),
    ]
    examinations = [examinations[index] for index in rng.permutation(len(examinations))]
    for number, examination in enumerate(examinations, start=PAST_STUDY):
        _tag(examination, number)
    return examinations


def _small_film(folder: Path, rng: np.random.Generator, view: View, number: int) -> PhantomFile:
    folder.mkdir(exist_ok=True)
    site = "B" if number % 5 == 4 else "A"
    asked = {
        View.HAND: {"bone_age_months": int(rng.integers(*PAST_BONE_AGES)), "sex": "MF"[number % 2]},
        View.FUNDUS: {
            "zone": str(rng.choice(["I", "II", "III", "none"], p=(0.3, 0.35, 0.25, 0.1))),
            "stage": str(rng.choice(["0", "1", "2", "3"])),
            "plus_disease": str(rng.choice(["none", "preplus", "plus"], p=(0.4, 0.3, 0.3))),
        },
        View.WRIST: {"fracture": ("distal_radius", "buckle", "normal")[number % 3]},
    }[view]
    seed = seeds.USER + (SEED + len(BATCHES) + list(PAST).index(view)) * seeds.USER_STRIDE + number
    phantom = DRAW[view](seed, site=site, **asked)
    path = folder / f"{view}-{number:03}.dcm"
    write_dicom(phantom, path, patient=patient_for(phantom), acquired_on=LAST_DAY)
    return PhantomFile(path, phantom.answer, phantom.sex, phantom.age_months, phantom.laterality, site, phantom.seed)


def _follow_ups(rng: np.random.Generator, numbers: Iterator[int], films: list[PhantomFile]) -> list[Examination]:
    """Hands: films of the same sex whose ages are a year or so apart become one child's follow-up."""
    left = sorted(films, key=lambda film: (film.sex, film.age_months))
    examinations = []
    while left:
        series = [left.pop(0)]
        while len(series) < FILMS_OF_A_CHILD:
            gaps = [(film.age_months - series[-1].age_months, film) for film in left if film.sex == series[0].sex]
            following = next((film for gap, film in gaps if FOLLOW_UP_MONTHS[0] <= gap <= FOLLOW_UP_MONTHS[1]), None)
            if following is None:
                break
            left.remove(following)
            series.append(following)
        birth_date = _recent_day(rng) - timedelta(days=round(series[-1].age_months * DAYS_PER_MONTH))
        child = Child(next(numbers), series[0].sex, birth_date)
        examinations += [
            Examination(child, birth_date + timedelta(days=round(film.age_months * DAYS_PER_MONTH)), (film,))
            for film in series
        ]
    return examinations


def _both_eyes(rng: np.random.Generator, numbers: Iterator[int], photos: list[PhantomFile]) -> list[Examination]:
    """Fundus images: a right and a left eye become one examination while there are both; every third infant is seen
    again two weeks later."""
    photos = sorted(photos, key=lambda photo: (photo.answer["zone"], photo.answer["stage"]))  # alike, as eyes are
    by_side = {side: [photo for photo in photos if photo.laterality == side] for side in ("R", "L")}
    pairs = list(zip(by_side["R"], by_side["L"], strict=False))
    paired = {id(photo) for pair in pairs for photo in pair}
    visits = [*pairs, *((photo,) for photo in photos if id(photo) not in paired)]
    examinations = []
    while visits:
        seen_on = _recent_day(rng)
        child = Child(next(numbers), str(rng.choice(["M", "F"])), seen_on - timedelta(days=int(rng.integers(35, 84))))
        examinations.append(Examination(child, seen_on, visits.pop(0)))
        if visits and child.number % 3 == 0:
            again_on = min(seen_on + timedelta(days=14), LAST_DAY)
            examinations.append(Examination(child, again_on, visits.pop(0)))
    return examinations


def _single_films(rng: np.random.Generator, numbers: Iterator[int], films: list[PhantomFile]) -> list[Examination]:
    examinations = []
    for film in films:
        acquired_on = _recent_day(rng)
        birth_date = acquired_on - timedelta(days=round(film.age_months * DAYS_PER_MONTH))
        examinations.append(Examination(Child(next(numbers), film.sex, birth_date), acquired_on, (film,)))
    return examinations


def _recent_day(rng: np.random.Generator) -> date:
    return LAST_DAY - timedelta(days=int(rng.integers(0, 60)))


def _tag(examination: Examination, number: int) -> None:
    """Gives the files the child's identity and one study."""
    child, day = examination.child, examination.acquired_on.strftime("%Y%m%d")
    for file in examination.files:
        dataset = pydicom.dcmread(file.path)
        dataset.PatientID = f"DEMO-{child.number:04}"
        dataset.IssuerOfPatientID = "PediScreen demo"
        dataset.PatientName = f"Phantom^{NAMES[child.number % len(NAMES)]}"
        dataset.PatientSex = child.sex
        dataset.PatientBirthDate = child.birth_date.strftime("%Y%m%d")
        dataset.InstitutionName = f"Site {file.site}"
        dataset.StudyDate = dataset.AcquisitionDate = dataset.ContentDate = day
        dataset.AccessionNumber = f"DEMO{number:05}"
        dataset.StudyInstanceUID = generate_uid(entropy_srcs=["demo study", str(number)])
        dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["demo series", str(number)])
        if "PatientAge" in dataset:
            del dataset.PatientAge
        dataset.save_as(file.path)


def _leave_something_out(examinations: list[Examination]) -> None:
    """A few examinations whose files do not say everything: sex, birth date, side, what the film shows."""
    hands = _first_of(examinations, "bone_age", 3)
    wrists = _first_of(examinations, "fracture", 2)
    for examination, keywords in (
        (hands[0], ("PatientSex",)),
        (hands[1], ("PatientBirthDate",)),
        (hands[2], ("ImageLaterality", "Laterality")),
        (wrists[0], ("BodyPartExamined", "AnatomicRegionSequence", "StudyDescription", "SeriesDescription")),
        (wrists[1], ("AccessionNumber",)),
    ):
        (file,) = examination.files
        dataset = pydicom.dcmread(file.path)
        for keyword in keywords:
            if keyword in dataset:
                delattr(dataset, keyword)
        dataset.save_as(file.path)


def _first_of(examinations: list[Examination], task: str, count: int) -> list[Examination]:
    """Examinations of `task` whose child has no other, so that what is left out stays unknown."""
    films_of = {}
    for examination in examinations:
        films_of[examination.child.number] = films_of.get(examination.child.number, 0) + 1
    found = [
        examination
        for examination in examinations
        if examination.files[0].answer["task"] == task and films_of[examination.child.number] == 1
    ]
    return found[:count]


def _refused_files(folder: Path, examinations: list[Examination]) -> list[Path]:
    """Copies of a film with one fault each, and what people drop into an upload by mistake."""
    folder.mkdir()
    source = _first_of(examinations, "fracture", 4)[3].files[0].path

    def copy(name: str, **changes: str) -> Path:
        dataset = pydicom.dcmread(source)
        uid = generate_uid(entropy_srcs=["demo refused", name])
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        dataset.StudyInstanceUID = generate_uid(entropy_srcs=["demo refused study", name])
        dataset.PatientID = f"DEMO-{name.partition('.')[0]}"
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(folder / name)
        return folder / name

    truncated = folder / "wrist_cut_off.dcm"
    whole = copy("wrist_whole.dcm").read_bytes()
    truncated.write_bytes(whole[: len(whole) // 2])
    empty = folder / "empty.dcm"
    empty.write_bytes(b"")
    letter = folder / "letter.dcm"
    letter.write_text("Dear colleague, please find the film of 12 March attached.\n")
    return [
        copy("hand_before_birth.dcm", PatientBirthDate="20300101"),
        copy("wrist_without_id.dcm", PatientID=""),
        copy("wrist_raw.dcm", PresentationIntentType="FOR PROCESSING"),
        copy("knee_mr.dcm", SOPClassUID="1.2.840.10008.5.1.4.1.1.4", Modality="MR"),
        truncated,
        empty,
        letter,
    ]
