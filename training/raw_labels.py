"""The labels of a raw tree: CSV and JSON files, and folders named by the class of the images in them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.annotations import ANSWER_FIELDS, TASK_FOLDERS
from engine.errors import PediScreenError
from engine.findings.answers import Task
from training.label_columns import Choices, RawLabel, checked, columns_of, label_of
from training.pedirad_loader import Unusable, class_label

LABEL_SUFFIXES = {".csv", ".tsv", ".json"}
csv.field_size_limit(2**24)


class LabelsRefused(PediScreenError):
    """A label file that cannot be read, or holds a value that cannot be true."""


@dataclass(frozen=True)
class Labels:
    labels: list[RawLabel]
    not_labels: dict[str, str]  # file -> why it was taken for none


def read_labels(files: Sequence[Path], named: Sequence[Path], raw_dir: Path, choices: Choices) -> Labels:
    """`files` were found in the tree and may be something else; `named` were given by the user and must be labels.

    Raises LabelsRefused, in one line, at the first file that is unreadable or holds values outside the closed sets."""
    labels: list[RawLabel] = []
    not_labels: dict[str, str] = {}
    for file in [*named, *(file for file in files if file not in named)]:
        shown = _shown(file, raw_dir)
        rows = list(_rows(file, must_be_labels=file in named))
        header = list(dict.fromkeys(name for _, row in rows for name in row))
        columns = columns_of(header, choices)
        if columns is None:
            has = f"has the columns {', '.join(header[:12])}" if header else "has no rows"
            if file in named:
                raise LabelsRefused(f"{file} {has}; --columns says which of them is what: file=...,bone_age_months=...")
            not_labels[shown] = has
            continue
        wrong: list[str] = []
        for place, row in rows:
            where = f"{shown}, {place}"
            try:
                label = label_of(row, columns, choices, where=where, folder=file.parent)
            except Unusable as unusable:
                column = columns.of.get(unusable.field, unusable.field)
                wrong.append(f"{where}, {column}: {unusable}")
                continue
            if label is not None:
                labels.append(label)
        if wrong:
            more = f" (and {len(wrong) - 1} more rows)" if len(wrong) > 1 else ""
            raise LabelsRefused(f"{wrong[0]}{more}")
    return Labels(labels, not_labels)


def class_folder_label(image: Path, raw_dir: Path, choices: Choices) -> RawLabel | None:
    """The label that the folder of an image gives it by its name; None where it is no class.

    A task's folder above it decides which task's classes are meant."""
    parents = image.relative_to(raw_dir).parts[:-1]
    if not parents:
        return None
    of_tree = [task for task, name in TASK_FOLDERS.items() if name in parents]
    tasks = of_tree or ([choices.task] if choices.task else list(Task))
    found = {task: label for task in tasks if (label := class_label(task, parents[-1]))}
    if len(found) != 1:
        return None
    ((task, said),) = found.items()
    source = "/".join(parents)
    label = {
        "where": f"folder {source}",
        "folder": image.parent,
        "file": image.name,
        "dataset": "class_folders",
    }
    if task is Task.ROP and choices.plus_where_unsaid:
        said.setdefault("plus_disease", choices.plus_where_unsaid)
    missing = [name for name in ANSWER_FIELDS[task] if name not in said]
    if missing:
        reason = f"the folder {parents[-1]} gives no {', '.join(missing)}; --plus_where_unsaid says which it is"
        return RawLabel(**label, code="unclear_label", reason=reason)
    try:
        return RawLabel(**label, answer=checked(task, said))
    except Unusable as unusable:
        raise LabelsRefused(f"folder {source}: {unusable}") from None


def _rows(file: Path, *, must_be_labels: bool) -> Iterator[tuple[str, dict[str, str]]]:
    """(place in the file, column -> text)."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise LabelsRefused(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise LabelsRefused(f"{file} is not UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    yield from _json_rows(file, text, must_be_labels) if file.suffix.lower() == ".json" else _csv_rows(file, text)


def _csv_rows(file: Path, text: str) -> Iterator[tuple[str, dict[str, str]]]:
    lines = text.splitlines(keepends=True)
    first = lines[0] if lines else ""
    reader = csv.DictReader(lines, delimiter=max(",;\t", key=first.count), strict=True)
    try:
        for row in reader:
            if None in row:
                raise LabelsRefused(f"{file}, line {reader.line_num}: more cells than the header has columns.")
            yield f"line {reader.line_num}", {name: value or "" for name, value in row.items()}
    except csv.Error as error:
        raise LabelsRefused(f"{file}, line {reader.line_num}: not CSV ({error}).") from error


def _json_rows(file: Path, text: str, must_be_labels: bool) -> Iterator[tuple[str, dict[str, str]]]:
    """A list of records, or an object of records by image. What is neither gives no rows."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise LabelsRefused(f"{file} is not JSON: {error}.") from error
    if isinstance(content, dict) and content and all(isinstance(record, dict) for record in content.values()):
        content = [{"file": image, **record} for image, record in content.items()]
    if isinstance(content, list) and all(isinstance(record, dict) for record in content):
        for index, record in enumerate(content):
            yield f"record {index}", {name: _text(value) for name, value in record.items()}
    elif must_be_labels:
        raise LabelsRefused(f"{file} must hold a list of records, or an object of records by image.")


def _text(value: Any) -> str:
    if value is None or isinstance(value, dict | list):
        return ""
    return str(value)


def _shown(file: Path, raw_dir: Path) -> str:
    return file.relative_to(raw_dir).as_posix() if file.is_relative_to(raw_dir) else str(file)
