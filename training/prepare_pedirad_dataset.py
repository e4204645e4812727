"""Step 1 of 4: raw films and labels to a data set.

    python -m training.prepare_pedirad_dataset --raw_dir data/raw_xrays --output_dir data/pedirad-8k --stratified_split

Reads DICOM, PNG and JPEG files and their labels (CSV, JSON or class folders); writes normalised images and
annotations/{train,val,test}_annotations.json, config.json and dataset.json (counts). Beside the folder, in
NAME.report.json and NAME.report.txt, it lists every file that was left out and why. The folder appears whole or not at
all; after a kill the same command goes on with what was read. Images of a child, copies and near-duplicates stay in
one split. See docs/prepare-data.md."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from engine.annotations import SPLITS, Annotation, Split, annotations_file_name
from engine.errors import PediScreenError
from engine.findings.answers import Fracture, Plus, Task
from training.annotate_films import annotate, sort_out
from training.label_columns import OWN_FIELDS, Choices
from training.prepare_report import counts, summary, write_report
from training.raw_files import LeftOut, find_files, match
from training.raw_films import IMAGES, read_raw_films
from training.raw_labels import Labels, read_labels

FORMAT = {"format": "pedirad-8k", "format_version": 1}
ABOUT_FILE, CONFIG_FILE = "dataset.json", "config.json"
MAY_CHANGE = {"workers", "output_dir"}  # without making another data set
# Bytes of a PNG for a byte of the source, on the large side: a JPEG grows, 16 bits become 8.
GROWTH = {".jpg": 8.0, ".jpeg": 8.0, ".png": 1.3}


class PrepareRefused(PediScreenError):
    """Why no data set was made."""


@dataclass(frozen=True)
class PrepareConfig:
    raw_dir: Path = field(metadata={"help": "a folder of DICOM, PNG and JPEG files, with label files or class folders"})
    output_dir: Path = field(metadata={"help": "where the data set goes; must not exist or be empty"})
    stratified_split: bool = field(
        default=False, metadata={"help": "shares of task, label and sex equal in all splits; otherwise by a hash"}
    )
    labels: list[str] = field(
        default_factory=list, metadata={"help": "label files; those below raw_dir are found without it"}
    )
    columns: str = field(default="", metadata={"help": "what columns mean: file=Image,bone_age_months=BA,sex=Gender"})
    task: str = field(default="", metadata={"help": "of rows and class folders that leave it open"})
    graz_incomplete_as: str = field(
        default="",
        metadata={"help": "AO 23r-M/2 is buckle or greenstick: leave out (default), buckle or distal_radius"},
    )
    plus_where_unsaid: str = field(
        default="", metadata={"help": "ROP labels without plus disease: leave out (default), none, preplus or plus"}
    )
    ignore_file_patient_ids: bool = field(
        default=False, metadata={"help": "for files whose Patient ID was blanked to one value for all"}
    )
    seed: int = field(default=0, metadata={"help": "of the split"})
    workers: int = field(default=0, metadata={"help": "processes; 0: one for each CPU core"})

    def as_json(self) -> dict[str, Any]:
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}


def main(config: PrepareConfig) -> int:
    again = "the same command goes on where this one stopped"
    try:
        run(config)
    except PediScreenError as refused:
        print(f"prepare_pedirad_dataset: {refused}", file=sys.stderr)
    except BrokenProcessPool:
        why = "a worker process was killed, perhaps for want of memory; with fewer --workers"
        print(f"prepare_pedirad_dataset: {why} {again}.", file=sys.stderr)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = f" Free some: {again}." if full else ""
        place = f" {error.filename}" if error.filename else ""
        print(f"prepare_pedirad_dataset:{place} {error.strerror or error}.{hint}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"\nprepare_pedirad_dataset: stopped; {again}.", file=sys.stderr)
        return 130
    else:
        return 0
    return 1


def run(config: PrepareConfig) -> None:
    choices = check_settings(config)
    raw_dir, out_dir = config.raw_dir.resolve(), config.output_dir.resolve()
    work = out_dir.parent / f".{out_dir.name}.unfinished"
    if is_finished(config, raw_dir, out_dir):
        shutil.rmtree(work, ignore_errors=True)  # a kill came between the last two lines of this function
        print(f"{config.output_dir} is finished already; choose another --output_dir to prepare again.")
        return
    tree = find_files(raw_dir)
    labels = read_labels(tree.label_files, [Path(name).resolve() for name in config.labels], raw_dir, choices)
    cases, left_out = match(tree, labels.labels, raw_dir, choices)
    if not cases:
        raise PrepareRefused(nothing_to_use(config, tree.images, labels, left_out))
    sources = Counter(case.label.dataset for case in cases)
    print(f"{len(tree.images)} images, {len(cases)} with a label: " + ", ".join(f"{n} {d}" for d, n in sources.items()))
    check_space(work, [case.path for case in cases])

    workers = config.workers or os.cpu_count() or 1
    with tqdm(total=len(cases), desc="reading films", unit="film") as bar:
        films = read_raw_films([case.path for case in cases], raw_dir, work, workers, bar.update)
    usable, of_films = sort_out(cases, films, raw_dir)
    left_out = [*tree.left_out, *left_out, *of_films]
    if not usable:
        shutil.rmtree(work)
        raise PrepareRefused(f"none of {len(cases)} labelled images can be used; the first: {of_films[0].reason}")
    images = work / "data" / IMAGES
    found = annotate(
        usable,
        images,
        raw_dir,
        stratified=config.stratified_split,
        seed=config.seed,
        trust_file=not config.ignore_file_patient_ids,
    )
    left_out = sorted([*left_out, *found.repeated], key=lambda one: (one.code, one.file, one.label))
    keep = {a.image_path for of_split in found.annotations.values() for a in of_split}
    if not keep:
        shutil.rmtree(work)
        raise PrepareRefused(f"none of {len(cases)} labelled images can be used; the first: {left_out[0].reason}")
    for path in images.iterdir():
        if f"{IMAGES}/{path.name}" not in keep:
            path.unlink()
    totals = counts(found.annotations)
    write_annotations(config, work / "data", found.annotations, totals)
    report = write_report(out_dir, totals, left_out, found.near, found.warnings, labels.not_labels)
    os.rename(work / "data", out_dir)
    shutil.rmtree(work)
    for line in summary(totals, left_out, found.warnings):
        print(line)
    print(f"{config.output_dir}: finished. Every file that was left out is named in {report}.")


# --- checks at the start ---


def check_settings(config: PrepareConfig) -> Choices:
    if not config.raw_dir.is_dir():
        raise PrepareRefused(f"There is no folder {config.raw_dir}.")
    for name in config.labels:
        if not Path(name).is_file():
            raise PrepareRefused(f"There is no label file {name}.")
    for flag, allowed in (
        ("task", list(Task)),
        ("graz_incomplete_as", [Fracture.BUCKLE, Fracture.DISTAL_RADIUS]),
        ("plus_where_unsaid", list(Plus)),
    ):
        if (value := getattr(config, flag)) and value not in allowed:
            raise PrepareRefused(f"--{flag} must be one of {', '.join(allowed)}, found {value!r}.")
    if config.workers < 0:
        raise PrepareRefused(f"--workers must be 0 or more, found {config.workers}.")
    columns = dict(part.partition("=")[::2] for part in config.columns.split(",") if part)
    for ours, theirs in columns.items():
        if ours not in OWN_FIELDS or not theirs:
            raise PrepareRefused(
                f"--columns takes FIELD=COLUMN with FIELD one of {', '.join(OWN_FIELDS)}; found {ours!r}."
            )
    if columns and "file" not in columns:
        raise PrepareRefused("--columns must say which column names the image: file=COLUMN.")
    return Choices(
        task=Task(config.task) if config.task else None,
        columns=columns,
        graz_incomplete_as=Fracture(config.graz_incomplete_as) if config.graz_incomplete_as else None,
        plus_where_unsaid=config.plus_where_unsaid or None,
    )


def is_finished(config: PrepareConfig, raw_dir: Path, out_dir: Path) -> bool:
    """Whether just this data set is there. Raises PrepareRefused where something else is."""
    if out_dir.is_relative_to(raw_dir):
        raise PrepareRefused(
            f"{config.output_dir} lies in {config.raw_dir}: it would be read as raw data the next time."
        )
    if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return False
    try:
        before = json.loads((out_dir / CONFIG_FILE).read_text(encoding="utf-8"))
        is_ours = json.loads((out_dir / ABOUT_FILE).read_text(encoding="utf-8"))["format"] == FORMAT["format"]
    except (OSError, ValueError, KeyError, TypeError):
        is_ours = False
    if not is_ours:
        raise PrepareRefused(f"{config.output_dir} holds something else: choose an empty or new --output_dir.")
    for name, now in config.as_json().items():
        if name not in MAY_CHANGE and before.get(name) != now:
            raise PrepareRefused(
                f"{config.output_dir} was prepared with other settings ({name} was {before.get(name)!r}, now {now!r}); "
                "choose another --output_dir."
            )
    return True


def nothing_to_use(config: PrepareConfig, images: Sequence[Path], labels: Labels, left_out: Sequence[LeftOut]) -> str:
    if not images:
        return f"There is no DICOM, PNG or JPEG file below {config.raw_dir}."
    of_labels = [one for one in left_out if one.code != "no_label"]
    if of_labels:
        first = of_labels[0]
        where = f" ({first.label or first.file})" if first.label or first.file else ""
        return f"None of {len(images)} images has a label that can be used; the first: {first.reason}{where}."
    read = "; ".join(f"{name} {why}" for name, why in list(labels.not_labels.items())[:2])
    return f"None of {len(images)} images below {config.raw_dir} has a label: " + (
        f"{read}. --columns says what columns mean." if read else "there is no label file and no class folder."
    )


def check_space(work: Path, paths: Sequence[Path]) -> None:
    present = sum(path.stat().st_size for path in work.rglob("*.png")) if work.is_dir() else 0
    sizes = [(GROWTH.get(path.suffix.lower(), 1.0), path) for path in paths if path.is_file()]
    needed = sum(growth * path.stat().st_size for growth, path in sizes) - present
    folder = work
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise PrepareRefused(
            f"{folder} has {free / 1e9:.2f} GB left and the images need about {needed / 1e9:.2f} GB: free some, or "
            "choose an --output_dir on another disk."
        )


# --- the files ---


def write_annotations(
    config: PrepareConfig, folder: Path, annotations: dict[Split, list[Annotation]], totals: dict[str, Any]
) -> None:
    for split in SPLITS:
        records = [a.as_record() for a in annotations[split]]
        _write_json(folder / "annotations" / annotations_file_name(split), records)
    is_phantom = any(a.provenance["phantom"] for of_split in annotations.values() for a in of_split)
    about: dict[str, Any] = {**FORMAT, "phantom": is_phantom, **totals}
    if is_phantom:
        about["note"] = "made with phantoms: not for diagnostic use"
    _write_json(folder / ABOUT_FILE, about)
    _write_json(folder / CONFIG_FILE, config.as_json())


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    from transformers import HfArgumentParser  # not at the top: worker processes import this file too

    (settings,) = HfArgumentParser(PrepareConfig).parse_args_into_dataclasses(look_for_args_file=False)
    sys.exit(main(settings))
