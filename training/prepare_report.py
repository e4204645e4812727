"""What a preparation says of itself: how many images are where, and every file that was left out and why.

The counts go into the data set. The list of files names the user's own folders, so it lies beside the data set."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.annotations import SPLITS, Annotation, Split
from training.data_split import strata_of
from training.raw_files import LeftOut

IN_WORDS = {
    "no_label": "no label",
    "label_without_file": "labels without an image",
    "ambiguous_name": "labels whose image is not clear",
    "unclear_label": "label is none of the classes for certain",
    "conflicting_labels": "labels that contradict each other",
    "contradicting_task": "file and label speak of different tasks",
    "contradicting_sex": "file and label speak of different sexes",
    "contradicting_laterality": "file and label speak of different sides",
    "burned_in_annotation": "text is burnt into the pixels",
    "same_image": "the same image again",
    "same_image_other_label": "the same image with different labels",
    "link": "links to folders",
    "folder": "folders that cannot be read",
}


def counts(annotations: dict[Split, list[Annotation]]) -> dict[str, Any]:
    """Images by split, and for every stratum its images in each split."""
    strata: dict[str, Counter[str]] = {}
    for split in SPLITS:
        for annotation in annotations[split]:
            for stratum in strata_of(annotation.answer, annotation.sex):
                strata.setdefault(stratum, Counter())[split] += 1
    return {
        "images": {split: len(annotations[split]) for split in SPLITS},
        "patients": len({a.provenance["patient"] for of_split in annotations.values() for a in of_split} - {None}),
        "groups": len({a.provenance["group"] for of_split in annotations.values() for a in of_split}),
        "strata": {stratum: {split: strata[stratum][split] for split in SPLITS} for stratum in sorted(strata)},
    }


def summary(found: dict[str, Any], left_out: Sequence[LeftOut], warnings: Sequence[str]) -> list[str]:
    """The lines shown at the end: tasks by split, what was left out by reason, warnings."""
    lines = [f"{'':12}" + "".join(f"{split:>8}" for split in SPLITS)]
    for stratum, of_stratum in found["strata"].items():
        if ":" not in stratum:
            lines.append(f"{stratum:12}" + "".join(f"{of_stratum[split]:8}" for split in SPLITS))
    lines.append(f"{found['patients']} known patients, {found['groups']} groups that stay together")
    if left_out:
        lines.append(f"Left out: {len(left_out)}")
        reasons = Counter(one.code for one in left_out)
        lines += [f"{count:8}  {IN_WORDS.get(code, code)}" for code, count in reasons.most_common()]
    return lines + [f"warning: {warning}" for warning in warnings]


def write_report(
    output_dir: Path,
    found: dict[str, Any],
    left_out: Sequence[LeftOut],
    near: Sequence[tuple[str, str, bool]],
    warnings: Sequence[str],
    not_labels: dict[str, str],
) -> Path:
    """NAME.report.json and NAME.report.txt beside the data set; returns the text."""
    report = {
        "note": "for the person who prepared the data: it names their files and must not go with the data set",
        "counts": found,
        "warnings": list(warnings),
        "files_that_are_no_labels": not_labels,
        "one_picture": [{"files": [one, other], "same_label": same} for one, other, same in near],
        "left_out": [asdict(one) for one in left_out],
    }
    text = [*summary(found, left_out, warnings), ""]
    for code in sorted({one.code for one in left_out}):
        text.append(f"{IN_WORDS.get(code, code)} ({code})")
        text += [f"  {one.file or one.label}: {one.reason}" for one in left_out if one.code == code]
    text += [f"one picture: {one} and {other}" + ("" if same else ", different labels") for one, other, same in near]
    text += [f"no label file: {name} {why}" for name, why in not_labels.items()]
    _write(output_dir.with_name(f"{output_dir.name}.report.json"), json.dumps(report, indent=1, ensure_ascii=False))
    return _write(output_dir.with_name(f"{output_dir.name}.report.txt"), "\n".join(text))


def _write(path: Path, text: str) -> Path:
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")  # names may be of any bytes
    unfinished.replace(path)
    return path
