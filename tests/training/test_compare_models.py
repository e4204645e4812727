from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.annotations import TASK_FOLDERS, annotations_file_name
from engine.errors import ModelUnavailable, Refused
from engine.findings.answers import Answer, Task, View, bone_age_answer, fracture_answer
from engine.inference.read import Read
from engine.phantoms.draw import DRAW
from engine.promotion_gate import decide
from training import compare_models
from training.compare_models import ComparisonConfig, main


class FakeReader:
    """Sees the number that each picture was painted with, and answers `answers[number]`; phantoms get `of_phantom`."""

    def __init__(self, name: str, answers: dict[int, Answer | None], is_phantom: bool = False, **of_phantom) -> None:
        self.model_version, self.answers, self.is_phantom, self.of_phantom = name, answers, is_phantom, of_phantom
        self.contexts = []
        self.tower = 0.0  # what this one's vision tower adds
        self.read_images = 0
        self.knows_triage = is_phantom
        self.view = View.HAND  # that every picture is to this one

    def image_tokens(self, images) -> torch.Tensor:
        assert all(image.mode == "RGB" for image in images)
        seen = torch.stack([torch.tensor(np.asarray(image)[:8, :8, 0].astype(float)) for image in images])
        return seen + self.tower

    def read(self, images, task, contexts) -> list[Read]:
        self.read_images += len(images)
        return self.read_tokens(self.image_tokens(images), task, contexts)

    def triage(self, images) -> list[tuple[View, dict]]:
        return [(self.view, {}) for _ in images]

    def read_tokens(self, tokens, task, contexts) -> list[Read]:
        self.contexts += contexts
        return [self._read((of_image - self.tower).numpy(), task) for of_image in tokens]

    def _read(self, pixels: np.ndarray, task: Task) -> Read:
        answer = self.of_phantom[task] if self.of_phantom and pixels[0, 0] not in self.answers else None
        answer = self.answers.get(int(pixels[0, 0]), answer)
        if answer is None:
            return Read(task, None, {}, None, None, True, "unlike", self.model_version, 1.0)
        months = answer.get("bone_age_months")
        interval = None if months is None else (months - 5, months + 5)
        return Read(task, answer, {"a": 0.9, "b": 1e-6}, months, interval, False, None, self.model_version, 1.0)


def add(folder: Path, split: str, number: int, truth: Answer, verdict: str | None = "corrected", **more) -> None:
    place = folder / TASK_FOLDERS[Task(truth["task"])]
    file = place / annotations_file_name(split)
    records = json.loads(file.read_text()) if file.exists() else []
    record = {"image_path": f"{split}/{number}.png", **truth, "sex": "F", "age_months": 90.0, "site": "B"}
    record |= {"patient": f"P-{number}", **({"verdict": verdict} if verdict else {}), **more}
    (place / split).mkdir(parents=True, exist_ok=True)
    Image.new("L", (40, 40), number).save(place / split / f"{number}.png")
    file.write_text(json.dumps([*records, record]))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Hands 1-3 in the locked test set (2 was confirmed), 4-6 in train (5 confirmed, 6 a replay), wrist 7 in val."""
    folder = tmp_path / "set"
    for number, verdict in ((1, "corrected"), (2, "confirmed"), (3, "corrected")):
        add(folder, "test", number, bone_age_answer(100 + number), verdict)
    add(folder, "train", 4, bone_age_answer(104))
    add(folder, "train", 5, bone_age_answer(105), "confirmed")
    add(folder, "train", 6, bone_age_answer(106), None, replay=True)
    add(folder, "val", 7, fracture_answer("buckle"))
    about = {"format": "pedirad-custom", "sha256": "ab" * 32, "tasks": ["bone_age", "fracture"], "phantom": True}
    (folder / "data_set.json").write_text(json.dumps(about))
    return folder


TRUE = {number: bone_age_answer(100 + number) for number in range(1, 7)} | {7: fracture_answer("buckle")}


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch):
    def use(in_use: FakeReader, candidate: FakeReader) -> None:
        readers = {"in use": in_use, "candidate": candidate}
        monkeypatch.setattr(compare_models, "load_reader", lambda model, adapter: readers[model])
        monkeypatch.setattr(compare_models.torch, "set_num_threads", lambda count: None)

    return use


def config(data: Path, out: Path) -> ComparisonConfig:
    return ComparisonConfig(model_in_use="in use", candidate="candidate", data_dir=data, output_dir=out)


def test_both_read_what_tests_and_what_was_corrected(data: Path, tmp_path: Path, use, capsys) -> None:
    old = FakeReader("old", TRUE | {1: bone_age_answer(110), 4: None})
    new = FakeReader("new", TRUE | {3: bone_age_answer(120), 7: fracture_answer("normal")})
    use(old, new)
    result = main(config(data, tmp_path / "comparison"))
    assert json.loads((tmp_path / "comparison" / "comparison.json").read_text()) == json.loads(json.dumps(result))
    assert result["in_use"] == {"model_version": "old"} and result["candidate"] == {"model_version": "new"}
    assert result["data_set_sha256"] == "ab" * 32 and result["tasks"] == ["bone_age", "fracture"] and result["phantom"]

    cases = {case["id"]: case for case in result["cases"]}
    kinds = {key: (case["set"], case["corrected"], case["trained_on"]) for key, case in cases.items()}
    assert kinds == {
        "bone_age/test/1.png": ("locked_test", True, False),
        "bone_age/test/2.png": ("locked_test", False, False),
        "bone_age/test/3.png": ("locked_test", True, False),
        "bone_age/train/4.png": ("replay", True, True),
        "fractures/val/7.png": ("replay", True, True),
    }
    first = cases["bone_age/test/1.png"]
    assert (first["truth"], first["patient"], first["site"], first["sex"], first["age_months"]) == (
        bone_age_answer(101), "P-1", "B", "F", 90.0,
    )  # fmt: skip
    assert first["in_use"]["answer"] == bone_age_answer(110) and first["in_use"]["error"] == 9
    assert first["in_use"]["interval_months"] == (105, 115) and first["in_use"]["probabilities"] == {"a": 0.9}
    silent = cases["bone_age/train/4.png"]["in_use"]
    assert silent["answer"] is None and silent["reason"] == "unlike" and silent["error"] == 12
    assert {context.age_months for context in old.contexts} == {90.0}

    got_worse = {key: case["picture"] for key, case in cases.items() if "picture" in case}
    assert set(got_worse) == {"bone_age/test/3.png", "fractures/val/7.png"}
    for key, picture in got_worse.items():
        kept = np.asarray(Image.open(tmp_path / "comparison" / picture))
        np.testing.assert_array_equal(kept, np.asarray(Image.open(data / key)))

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"done": 0, "of": 5} and lines[-1] == {"done": 5, "of": 5}
    decision = decide(result)
    assert not decision.promote and {case.case_id for case in decision.worse_cases} == set(got_worse)


def test_phantom_models_are_asked_what_they_must_not_forget(
    data: Path, tmp_path: Path, use, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_models, "REFERENCE_COUNTS", {View.HAND: 2, View.WRIST: 1})
    monkeypatch.setattr(compare_models, "TRIAGED", 1)
    of_phantom = {Task.BONE_AGE: bone_age_answer(228), Task.FRACTURE: None}
    old = FakeReader("old", TRUE, True, **{task: DRAW_ANSWER[task] for task in of_phantom})
    new = FakeReader("new", TRUE, True, **of_phantom)
    new.view = View.FUNDUS
    use(old, new)
    result = main(config(data, tmp_path / "comparison"))
    reference = [case for case in result["cases"] if case["set"] == "reference"]
    assert [(case["task"], case["site"], case["image_path"]) for case in reference] == [
        ("bone_age", "A", None),
        ("bone_age", "A", None),
        ("fracture", "A", None),
    ]
    assert reference[0]["truth"] == DRAW[View.HAND](2_500_000_000).answer
    assert [(case["in_use"].get("view"), case["candidate"].get("view")) for case in result["cases"]] == [
        *[(None, None)] * (len(result["cases"]) - 3),
        ("hand", "fundus"),
        (None, None),
        ("hand", "fundus"),
    ]
    assert reference[2]["candidate"]["error"] == 1 and reference[2]["in_use"]["error"] == 0
    drawn = np.asarray(Image.open(tmp_path / "comparison" / reference[2]["picture"]))
    assert drawn.std() > 10


DRAW_ANSWER = {
    Task.BONE_AGE: DRAW[View.HAND](2_500_000_000).answer,
    Task.FRACTURE: DRAW[View.WRIST](2_500_000_000).answer,
}


def test_the_same_models_and_cases_give_the_same_files(data: Path, tmp_path: Path, use) -> None:
    use(FakeReader("old", TRUE), FakeReader("new", TRUE | {1: bone_age_answer(110)}))
    contents = []
    for _ in range(2):
        main(config(data, tmp_path / "comparison"))
        found = (tmp_path / "comparison").rglob("*.*")
        contents.append({path.name: path.read_bytes() for path in found})
    assert contents[0] == contents[1] and len(contents[0]) == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("tower", [0.0, 0.5])
def test_what_one_tower_sees_is_computed_once(data: Path, tmp_path: Path, use, tower: float) -> None:
    """And by each for itself where they are not the same."""
    old, new = FakeReader("old", TRUE), FakeReader("new", TRUE)
    new.tower = tower
    use(old, new)
    result = main(config(data, tmp_path / "comparison"))
    assert all(case["candidate"]["error"] == case["in_use"]["error"] == 0 for case in result["cases"])
    assert (old.read_images, new.read_images) == ((0, 0) if tower == 0 else (5, 5))


def test_a_model_that_cannot_be_loaded_leaves_nothing_behind(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable):
        main(config(data, tmp_path / "comparison"))
    assert not (tmp_path / "comparison").exists()


def test_a_folder_that_is_no_snapshot_is_refused(data: Path, tmp_path: Path, use) -> None:
    use(FakeReader("old", TRUE), FakeReader("new", TRUE))
    (data / "data_set.json").write_text("{}")
    with pytest.raises(Refused, match=r"no usable data_set.json"):
        main(config(data, tmp_path / "comparison"))


def test_another_folder_is_not_replaced(data: Path, tmp_path: Path, use) -> None:
    use(FakeReader("old", TRUE), FakeReader("new", TRUE))
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").write_text("x")
    with pytest.raises(Refused):
        main(config(data, tmp_path / "letters"))
    assert (tmp_path / "letters" / "letter.txt").exists()
