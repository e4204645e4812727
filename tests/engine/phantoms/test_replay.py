from pathlib import Path

import numpy as np
from PIL import Image

from engine.findings.answers import Task, View
from engine.phantoms import replay, seeds
from engine.phantoms.hand import hand
from engine.phantoms.write import FILM_SCALE


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def test_the_same_films_every_time_and_marked(tmp_path: Path) -> None:
    counts = {Task.BONE_AGE: 6, Task.ROP: 1, Task.FRACTURE: 1}
    one, two = ([replay.write(tmp_path / name, *which) for which in replay.numbers(counts)] for name in ("one", "two"))
    assert one == two
    assert files(tmp_path / "one") == files(tmp_path / "two") and len(files(tmp_path / "one")) == 8
    assert [task for task, _, _ in one].count(Task.BONE_AGE) == 6
    assert [split for task, split, _ in one if task is Task.BONE_AGE] == ["val", *["train"] * 4, "val"]
    for task, split, record in one:
        assert record.task is task and record.image_path.startswith(f"{split}/")
        assert record.provenance["replay"] and record.provenance["phantom"] and record.provenance["site"] == "A"
    assert len({record.provenance["patient"] for task, _, record in one if task is Task.BONE_AGE}) == 6


def test_what_is_replayed_is_never_tested_on(tmp_path: Path) -> None:
    """Its seeds lie apart from those of the reference, the tests and the users' phantoms."""
    most = max(replay.COUNTS.values())
    ranges = [seeds.TRAINING, seeds.VALIDATION, seeds.TEST, seeds.REFERENCE, seeds.REPLAY, seeds.USER]
    assert ranges == sorted(ranges)
    assert all(later - earlier > 90_000_000 > most for earlier, later in zip(ranges, ranges[1:], strict=False))
    _, _, record = replay.write(tmp_path, View.HAND, 0)
    drawn = hand(seeds.REPLAY, film_scale=FILM_SCALE)
    assert record.answer == drawn.answer and record.sex == drawn.sex
    kept = np.asarray(Image.open(tmp_path / "bone_age" / record.image_path))
    assert kept.shape == drawn.pixels.shape
