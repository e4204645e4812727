"""From films that were read to annotations: contradictions are left out, what belongs together stays together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from tqdm import tqdm

from engine.annotations import SPLITS, Annotation, Split
from engine.errors import PediScreenError
from engine.findings.answers import Task, answer_json
from training.data_split import connected, hash_split, strata_of, stratified_split
from training.near_duplicates import near_duplicates
from training.raw_files import Case, LeftOut
from training.raw_films import IMAGES, RawFilm, image_name

LARGE_GROUP = 0.25  # of all images: worth a warning, when there are
ENOUGH_FOR_SHARES = 20


class ImageLost(PediScreenError):
    """A normalised image that cannot be read back."""


@dataclass(frozen=True)
class Usable:
    """A case whose film can be read and contradicts nothing."""

    case: Case
    film: RawFilm

    @property
    def sex(self) -> Literal["M", "F", None]:
        return self.case.label.sex or self.film.sex


def sort_out(cases: Sequence[Case], films: dict[Path, RawFilm], raw_dir: Path) -> tuple[list[Usable], list[LeftOut]]:
    usable, left_out = [], []
    for case in cases:
        film = films[case.path]
        code, reason = (film.code, film.reason) if film.code else contradiction(case, film)
        if code:
            left_out.append(LeftOut(case.path.relative_to(raw_dir).as_posix(), code, reason, case.label.where))
        else:
            usable.append(Usable(case, film))
    return usable, left_out


def contradiction(case: Case, film: RawFilm) -> tuple[str, str]:
    """A code and a reason, or two empty strings."""
    task = Task(case.answer["task"])
    if film.burned_in == "yes":
        return "burned_in_annotation", "(0028,0301) Burned In Annotation is YES: the pixels may name the child"
    if film.task is not None and film.task != task:
        return "contradicting_task", f"the file's tags speak of {film.task}, its label of {task.value}"
    if film.is_colour and task is not Task.ROP:
        return "contradicting_task", f"the image is in colour, and its label is of {task.value}: a radiograph is grey"
    for name in ("sex", "laterality"):
        of_file, of_label = getattr(film, name), getattr(case.label, name)
        if of_file and of_label and of_file != of_label:
            return f"contradicting_{name}", f"{name} is {of_file} in the file, {of_label} in its label"
    return "", ""


@dataclass(frozen=True)
class Annotated:
    """`near`: pairs of kept files that are one picture, and whether their labels are equal."""

    annotations: dict[Split, list[Annotation]]
    repeated: list[LeftOut]
    near: list[tuple[str, str, bool]]
    warnings: list[str]


def annotate(
    usable: Sequence[Usable], images: Path, raw_dir: Path, *, stratified: bool, seed: int, trust_file: bool
) -> Annotated:
    """`usable` is in the order of the paths, so the first of two equal images stays. `trust_file`: the files' own
    Patient ID says whose film it is."""
    shown = [one.case.path.relative_to(raw_dir).as_posix() for one in usable]
    with tqdm(total=len(usable), desc="near-duplicates", unit="film") as bar:
        pairs = near_duplicates(
            [one.film.perceptual_hash for one in usable],
            lambda i: _picture(images / image_name(usable[i].film.image_sha256)),
            bar.update,
        )
    people = [people_of(one, trust_file) for one in usable]
    pixels = [[one.film.pixel_sha256, one.film.shown_sha256] for one in usable]
    repeated = repeats(usable, shown)

    def kept(groups: Sequence[Sequence[int]]) -> list[list[int]]:
        """Without repeats, in the order of each group's first image hash: nothing depends on the files' names."""
        left = [[i for i in group if i not in repeated] for group in groups]
        return sorted((group for group in left if group), key=lambda group: _first(usable, group))

    groups = kept(connected([[*p, *q] for p, q in zip(people, pixels, strict=True)], pairs))
    children = kept([child for child in connected(people) if people[child[0]]])
    child_of = {i: f"P{number:05d}" for number, child in enumerate(children, 1) for i in child}

    names = [_first(usable, group) for group in groups]
    strata = [[strata_of(usable[i].case.answer, usable[i].sex) for i in group] for group in groups]
    splits = stratified_split(strata, names, seed) if stratified else hash_split(names, seed)
    annotations: dict[Split, list[Annotation]] = {split: [] for split in SPLITS}
    for number, (group, split) in enumerate(zip(groups, splits, strict=True), 1):
        annotations[split] += [annotation(usable[i], child_of.get(i), f"G{number:05d}") for i in group]
    for of_split in annotations.values():
        of_split.sort(key=lambda a: a.image_path)
    near = [
        (shown[i], shown[j], usable[i].case.answer == usable[j].case.answer)
        for i, j in pairs
        if i not in repeated and j not in repeated
    ]
    films = [usable[i].film for group in groups for i in group]
    warnings = [*warn_of_splits(annotations, groups), *warn_of_films(films), *warn_of_near(near)]
    return Annotated(annotations, list(repeated.values()), near, warnings)


def people_of(one: Usable, trust_file: bool) -> list[tuple[str, str]]:
    """Every name of the image's child: in its labels and in the file; else what it has in common with the other eye
    or hand."""
    names = [("label", patient) for patient in one.case.patients]
    if trust_file and one.film.file_patient:
        names.append(("file", one.film.file_patient))
    if not names and one.case.pair:
        names.append(("pair", one.case.pair))
    if one.film.file_study:
        names.append(("study", one.film.file_study))
    return names


def repeats(usable: Sequence[Usable], shown: Sequence[str]) -> dict[int, LeftOut]:
    """By index: of images alike to the last pixel all but the first, and every one where their labels differ."""
    alike: dict[str, list[int]] = defaultdict(list)
    for i, one in enumerate(usable):
        alike[one.film.shown_sha256].append(i)
    repeated = {}
    for same in alike.values():
        answers = {answer_json(usable[i].case.answer) for i in same}
        differ = len(answers) > 1 or len({usable[i].sex for i in same} - {None}) > 1
        for i in same:
            where = usable[i].case.label.where
            if differ:
                others = ", ".join(shown[j] for j in same if j != i)
                reason = f"the same image as {others}, and their labels differ"
                repeated[i] = LeftOut(shown[i], "same_image_other_label", reason, where)
            elif i != same[0]:
                reason = f"the same image as {shown[same[0]]}, which was kept"
                repeated[i] = LeftOut(shown[i], "same_image", reason, where)
    return repeated


def annotation(one: Usable, child: str | None, group: str) -> Annotation:
    label, film = one.case.label, one.film
    return Annotation(
        image_path=f"{IMAGES}/{image_name(film.image_sha256)}",
        answer=one.case.answer,
        sex=one.sex,
        age_months=film.age_months if label.age_months is None else label.age_months,
        provenance={
            "patient": child,
            "group": group,
            "laterality": label.laterality or film.laterality,
            "site": label.site,
            "data_set": label.dataset,
            "image_sha256": film.image_sha256,
            "pixel_sha256": film.pixel_sha256,
            "phantom": film.phantom,
        },
    )


def warn_of_splits(annotations: dict[Split, list[Annotation]], groups: Sequence[Sequence[int]]) -> list[str]:
    warnings = []
    tasks = {a.task for of_split in annotations.values() for a in of_split}
    for split in SPLITS:
        for task in sorted(tasks - {a.task for a in annotations[split]}):
            warnings.append(f"{split} has no {task} images: there are too few groups")
    total, largest = sum(map(len, groups)), max(map(len, groups), default=0)
    if total >= ENOUGH_FOR_SHARES and largest > LARGE_GROUP * total:
        warnings.append(
            f"{largest} of {total} images hang together and are in one split; if the files' Patient ID is the same for "
            "all children, give --ignore_file_patient_ids"
        )
    return warnings


def warn_of_films(films: Sequence[RawFilm]) -> list[str]:
    unknown = sum(film.burned_in == "unknown" for film in films)
    if not unknown:
        return []
    return [f"{unknown} files do not say whether text is burned in: look at them before the data set leaves"]


def warn_of_near(near: Sequence[tuple[str, str, bool]]) -> list[str]:
    differ = sum(not equal for _, _, equal in near)
    if not near:
        return []
    lines = [f"{len(near)} pairs of files show one picture; they stay in one split and are named in the report"]
    return lines + ([f"{differ} of these pairs have different labels: look at them"] if differ else [])


def _picture(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise ImageLost(f"{path} cannot be read any more; remove the folder it lies in and start again.")
    return picture


def _first(usable: Sequence[Usable], items: Sequence[int]) -> str:
    return min(usable[i].film.image_sha256 for i in items)
