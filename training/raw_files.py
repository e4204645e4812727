"""The files of a raw tree, and which label belongs to which image."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.errors import FileRefused
from engine.findings.answers import Answer
from engine.imaging.sniff import sniff
from training.label_columns import Choices, RawLabel
from training.raw_labels import LABEL_SUFFIXES, class_folder_label

# Also what cannot be read: an image that is left out must be named.
IMAGE_SUFFIXES = {".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".jp2", ".gif", ".heic"}
EYE_OR_SIDE = re.compile(r"(?P<child>.+)[_-](?:L|R|OD|OS)", re.IGNORECASE)


@dataclass(frozen=True)
class LeftOut:
    """A file or a label that gives no annotation. `file` is relative to the raw folder; empty where there is none."""

    file: str
    code: str
    reason: str
    label: str = ""  # where the label stands


@dataclass(frozen=True)
class Tree:
    images: list[Path]
    label_files: list[Path]
    others: int  # neither
    left_out: list[LeftOut]


@dataclass(frozen=True)
class Case:
    """An image with its label. `patients` are names of its child, each with the data set and site where it counts,
    whichever label file says it. Files with one `pair` differ in a final _L, _R, _OD or _OS only."""

    path: Path
    label: RawLabel
    patients: tuple[str, ...]
    pair: str | None

    @property
    def answer(self) -> Answer:
        assert self.label.answer is not None  # match() makes no other
        return self.label.answer


def find_files(raw_dir: Path) -> Tree:
    """Everything below `raw_dir`, in the order of the paths. Hidden files are passed over; links to folders are
    reported, not followed."""
    images, label_files, left_out, others = [], [], [], 0

    def unreadable(error: OSError) -> None:
        left_out.append(LeftOut(_shown(Path(error.filename), raw_dir), "folder", f"cannot be read: {error.strerror}"))

    for folder, folders, names in os.walk(raw_dir, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if (path := Path(folder, name)).is_symlink():
                left_out.append(LeftOut(_shown(path, raw_dir), "link", "a link to a folder is not followed"))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(folder, name)
            if path.suffix.lower() in LABEL_SUFFIXES:
                label_files.append(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES or _looks_like_an_image(path):
                images.append(path)
            else:
                others += 1
    return Tree(sorted(images), sorted(label_files), others, left_out)


def match(tree: Tree, labels: Sequence[RawLabel], raw_dir: Path, choices: Choices) -> tuple[list[Case], list[LeftOut]]:
    """Cases in the order of their paths, and what has no partner or no clear label. An image that no file labels gets
    the label of its class folder."""
    places = _Places(tree.images, raw_dir)
    left_out: list[LeftOut] = []
    rows: dict[Path, list[RawLabel]] = defaultdict(list)
    for label in labels:
        found = places.of(label)
        if len(found) == 1:
            rows[found[0]].append(label)
        elif found:
            names = ", ".join(_shown(path, raw_dir) for path in found[:3])
            reason = f"{label.file} may be any of {len(found)} files ({names}); give their paths"
            left_out.append(LeftOut("", "ambiguous_name", reason, label.where))
        else:
            left_out.append(LeftOut("", "label_without_file", f"there is no image {label.file}", label.where))
    cases = []
    for path in tree.images:
        said = rows[path]
        if not said and (of_folder := class_folder_label(path, raw_dir, choices)):
            said = [of_folder]
        shown = _shown(path, raw_dir)
        if not said:
            left_out.append(LeftOut(shown, "no_label", "no label file and no class folder names this image"))
            continue
        label, code, reason = _agreed(said)
        if label is None:
            left_out.append(LeftOut(shown, code, reason, "; ".join(one.where for one in said)))
        else:
            named = [one for one in said if one.patient is not None]
            patients = tuple(f"{one.dataset} {one.site or ''} {one.patient}" for one in named)
            cases.append(Case(path, label, patients, _pair(path)))
    return cases, left_out


class _Places:
    """Images by what a label may call them."""

    def __init__(self, images: Iterable[Path], raw_dir: Path) -> None:
        self.raw_dir = raw_dir
        self.images = set(images)
        self.by_name: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self.images):
            for name in {path.name, _stem(path)}:
                self.by_name[name].append(path)

    def of(self, label: RawLabel) -> list[Path]:
        """The images that may be meant: the one at that path, else those of that name below the label file's folder,
        else those of that name anywhere."""
        for base in (label.folder, self.raw_dir):
            path = Path(os.path.normpath(base / label.file))
            if path in self.images:
                return [path]
        if "/" in label.file:
            return []
        named = self.by_name[label.file]
        return [path for path in named if path.is_relative_to(label.folder)] or named


def _agreed(said: Sequence[RawLabel]) -> tuple[RawLabel | None, str, str]:
    """What the rows of one image say together, or None with a code and the reason."""
    unclear = next((label for label in said if label.answer is None), None)
    if unclear is not None:
        return None, unclear.code, unclear.reason
    first = said[0]
    for name in ("answer", "sex", "laterality"):
        values = [value for label in said if (value := getattr(label, name)) is not None]
        if any(value != values[0] for value in values):
            return None, "conflicting_labels", f"{len(said)} labels, and they differ in {name}"
        first = replace(first, **{name: values[0] if values else None})
    ages = [label.age_months for label in said if label.age_months is not None]
    return replace(first, age_months=ages[0] if ages else None), "", ""


def _pair(path: Path) -> str | None:
    match = EYE_OR_SIDE.fullmatch(_stem(path))
    return f"{path.parent.as_posix()}/{match['child'].lower()}" if match else None


def _stem(path: Path) -> str:
    """The name without an image's suffix; the dots of a UID stay."""
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def _looks_like_an_image(path: Path) -> bool:
    try:
        sniff(path)
    except FileRefused:
        return False
    return True


def _shown(path: Path, raw_dir: Path) -> str:
    return path.relative_to(raw_dir).as_posix()
