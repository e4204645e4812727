"""Phantoms as files: what a modality would send, and what training reads."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest

from engine.findings.answers import Task
from engine.imaging.admission import check, guess_task
from engine.imaging.display import display_pixels
from engine.imaging.load import load_film
from engine.phantoms import seeds
from engine.phantoms.hand import hand
from engine.phantoms.write import make_phantoms
from training.pedirad_loader import load_split


@pytest.mark.parametrize(
    ("task", "expected"), [("hand", Task.BONE_AGE), ("fundus", Task.ROP), ("wrist", Task.FRACTURE)]
)
@pytest.mark.parametrize("site", ["A", "B"])
def test_dicom_is_admitted_and_routed(tmp_path, task, expected, site):
    (made,) = make_phantoms(tmp_path, task, 1, 3, site=site)
    film = load_film(made.path)
    check(film)
    assert guess_task(film) == expected
    assert film.tags.made_by_phantom
    assert film.tags.laterality == made.laterality
    assert film.tags.patient_sex == made.sex
    assert film.spacing_source == (None if task == "fundus" else "detector")


def test_the_file_shows_what_was_drawn(tmp_path):
    for site in ("A", "B"):
        (made,) = make_phantoms(tmp_path, "hand", 1, 4, site=site)
        drawn = hand(seeds.USER + 4 * seeds.USER_STRIDE, site=site, film_scale=2.0)
        assert np.array_equal(display_pixels(load_film(made.path)), display_pixels(drawn.film()))


def test_site_b_sends_monochrome1(tmp_path):
    (made,) = make_phantoms(tmp_path, "wrist", 1, 0, site="B")
    data = pydicom.dcmread(made.path)
    assert data.Modality == "CR" and data.PhotometricInterpretation == "MONOCHROME1"
    shown = display_pixels(load_film(made.path))
    assert np.median(shown) < 128  # dark ground all the same


def test_dcmtk_reads_the_files(tmp_path):
    if shutil.which("dcmftest") is None:
        pytest.skip("dcmtk is not installed")
    made = [make_phantoms(tmp_path, task, 1, 9)[0] for task in ("hand", "fundus", "wrist")]
    done = subprocess.run(["dcmftest", *[str(m.path) for m in made]], capture_output=True, text=True, check=True)
    assert done.stdout.count("yes:") == 3


def test_the_same_seed_gives_the_same_files_and_another_seed_others(tmp_path):
    first = make_phantoms(tmp_path / "a", "wrist", 2, 1)
    again = make_phantoms(tmp_path / "b", "wrist", 2, 1)
    other = make_phantoms(tmp_path / "c", "wrist", 2, 2)
    assert [f.path.read_bytes() for f in first] == [f.path.read_bytes() for f in again]
    assert first[0].path.read_bytes() != other[0].path.read_bytes()


def test_an_annotated_folder_is_read_back_by_the_training_loader(tmp_path):
    made = make_phantoms(tmp_path, "fundus", 10, 6, format="pedirad-custom")
    found = {item.path: item for split in ("train", "val", "test") for item in load_split(tmp_path, split)}
    assert set(found) == {m.path for m in made}
    assert all(found[m.path].annotation.answer == m.answer for m in made)
    assert all(found[m.path].annotation.provenance["phantom"] for m in made)
    assert load_film(made[0].path).tags.made_by_phantom
