"""The phantom model must not read real films: it has never seen one."""

import csv

import pytest

from engine.findings.answers import Task
from engine.imaging.display import display_pixels
from engine.imaging.load import load_film
from engine.imaging.preprocess import model_image
from engine.inference.checkpoint import load_reader
from engine.inference.read import ReadContext
from engine.settings import PROJECT_DIR

FILMS = PROJECT_DIR.parent / "shared" / "testdata" / "images"
TASK_OF_KIND = {
    "hand_boneage": Task.BONE_AGE,
    "wrist_graz": Task.FRACTURE,
    "wrist_other": Task.FRACTURE,
    "rop_ridge": Task.ROP,
    "fundus_adult": Task.ROP,
}


@pytest.mark.skipif(not FILMS.is_dir(), reason="the real films are not beside this checkout")
def test_at_least_95_percent_of_real_films_get_no_read():
    reader = load_reader("phantom", None)
    with (FILMS / "manifest.csv").open(encoding="utf-8") as file:
        films = [(FILMS / row["file"], TASK_OF_KIND[row["kind"]], row["sex"] or "F") for row in csv.DictReader(file)]
    assert len(films) > 40
    read = []
    for task in Task:
        group = [(path, sex) for path, of, sex in films if of is task]
        images = [model_image(display_pixels(load_film(path))) for path, _ in group]
        reads = reader.read(images, task, [ReadContext(sex) for _, sex in group])
        read += [path.name for (path, _), r in zip(group, reads, strict=True) if not r.abstained]
        assert all(r.reason for r in reads if r.abstained)
    assert len(read) <= 0.05 * len(films), f"read: {read}"
