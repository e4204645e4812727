"""engine.inference.wire: nothing of a child goes out that a read does not need, and nothing comes in that cannot be."""

import gzip
import json

import numpy as np
import pytest

from engine.findings.answers import Task, View
from engine.inference import wire
from engine.inference.read import ReadContext
from engine.inference.wire import NotUnderstood
from tests.workstation import PHANTOM, read_of

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 16), dtype=np.uint8)
BYTES = PIXELS.tobytes()


def test_pixels_and_what_the_prompt_says_arrive():
    asked = wire.unpacked(wire.packed(Task.FRACTURE, [ReadContext("F", 112.4), ReadContext()], PIXELS))
    assert (asked.pixels == PIXELS).all()
    assert (asked.task, asked.contexts) == (Task.FRACTURE, [ReadContext("F", 112), ReadContext()])
    grey = np.repeat(PIXELS[:, :1], 3, axis=1)
    assert (wire.unpacked(wire.packed(None, [ReadContext()] * 2, grey)).pixels == grey).all()


@pytest.mark.parametrize("task", [Task.BONE_AGE, Task.ROP, None])
def test_an_age_that_the_prompt_does_not_say_stays_here(task):
    head = json.loads(wire.packed(task, [ReadContext("M", 112.4)] * 2, PIXELS).split(b"\n")[0])
    assert {context["age_months"] for context in head["contexts"]} == {None}
    assert {context["sex"] for context in head["contexts"]} == {"M" if task else None}


def request(pixels: bytes = BYTES, **changes) -> bytes:
    head = {
        "schema": 1,
        "task": "fracture",
        "contexts": [{"sex": "F", "age_months": 9}, {"sex": None, "age_months": None}],
        "shape": [2, 3, 16, 16],
    }
    return json.dumps(head | changes).encode() + b"\n" + gzip.compress(pixels)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not from a PediScreen worker"),
        (b"<html>\nno", "not from a PediScreen worker"),
        (b"[" * 10_000, "not from a PediScreen worker"),
        (b" " * 20_000, "first line has 20000 bytes"),
        (request(schema=2), "schema 2, this one 1"),
        (request(task="knee"), "not one of a read"),
        (request(contexts=[{"sex": "X", "age_months": 9}] * 2), "sex 'X'"),
        (request(contexts=[{"sex": "F", "age_months": -1}] * 2), "age_months -1"),
        (request(contexts=[{"sex": "F", "age_months": "9; DROP"}] * 2), "age_months"),
        (request(contexts=[]), "2 images with 3 channels and 0 contexts"),
        (request(shape=[2, 3, 16, 32]), "16 x 32"),
        (request(shape=[2, 3, 100_000, 100_000]), "100000 x 100000"),
        (request(shape=[1_000_000, 3, 16, 16]), "cannot be read"),
        (request(pixels=b"too few"), "not the 1536 bytes"),
        (request(pixels=bytes(50_000_000)), "not the 1536 bytes"),  # a bomb: no more than is asked for is unpacked
        (request()[:-40], "not the 1536 bytes"),
        (request().split(b"\n")[0] + b"\nno gzip", "not gzip"),
    ],
)
def test_a_request_that_is_none_is_refused(body, said):
    with pytest.raises(NotUnderstood, match=said):
        wire.unpacked(body)


@pytest.mark.parametrize("task", list(Task))
def test_a_read_and_an_abstention_arrive_as_they_were(task):
    for read in (read_of(task), read_of(task, reason="The image is unlike all others.")):
        assert wire.read_from(json.loads(json.dumps(read.as_json())), task, PHANTOM) == read


BONE_AGE, ROP, FRACTURE = (read_of(task) for task in (Task.BONE_AGE, Task.ROP, Task.FRACTURE))


@pytest.mark.parametrize(
    ("read", "changes"),
    [
        (FRACTURE, {"answer": {"task": "fracture", "fracture": "greenstick"}}),
        (FRACTURE, {"answer": {"task": "fracture", "fracture": "normal", "note": "and more"}}),
        (FRACTURE, {"answer": ROP.answer}),
        (FRACTURE, {"answer": None}),
        (FRACTURE, {"reason": "both an answer and none"}),
        (FRACTURE, {"probabilities": {"buckle": 1.0}}),
        (FRACTURE, {"probabilities": {"buckle": 0.5, "distal_radius": 0.9, "normal": 0.6}}),
        (FRACTURE, {"probabilities": {"buckle": 2.0, "distal_radius": -1.0, "normal": 0.0}}),
        (FRACTURE, {"probabilities": {"buckle": float("nan"), "distal_radius": 0.5, "normal": 0.5}}),
        (FRACTURE, {"probabilities": {"buckle": True, "distal_radius": 0.0, "normal": 0.0}}),
        (FRACTURE, {"probabilities": "buckle"}),
        (FRACTURE, {"median_months": 110}),
        (FRACTURE, {"milliseconds": "quick"}),
        (FRACTURE, {"model_version": "another"}),
        (FRACTURE, {"abstained": 1}),
        (FRACTURE, {"abstained": True, "answer": None, "probabilities": {}, "reason": ""}),
        (FRACTURE, {"task": "rop"}),
        (BONE_AGE, {"median_months": 111}),
        (BONE_AGE, {"interval_months": [117, 103]}),
        (BONE_AGE, {"interval_months": [103, 400]}),
        (BONE_AGE, {"interval_months": [103]}),
        (BONE_AGE, {"interval_months": None}),
        (BONE_AGE, {"answer": {"task": "bone_age", "bone_age_months": 400}, "median_months": 400}),
        (BONE_AGE, {"probabilities": {**BONE_AGE.probabilities, "300": 0.0}}),
        (ROP, {"answer": {"task": "rop", "zone": "none", "stage": "3", "plus_disease": "plus"}}),
        (ROP, {"probabilities": {**ROP.probabilities, "zone": {"I": 1.0}}}),
    ],
)
def test_a_read_outside_the_closed_set_or_against_itself_is_refused(read, changes):
    with pytest.raises(NotUnderstood):
        wire.read_from(json.loads(json.dumps(read.as_json() | changes)), read.task, PHANTOM)


@pytest.mark.parametrize(
    "said", [None, [], "buckle", {}, {"task": "fracture"}, {**FRACTURE.as_json(), "answer": "normal"}]
)
def test_what_is_no_read_at_all_is_refused(said):
    with pytest.raises(NotUnderstood):
        wire.read_from(said, Task.FRACTURE, PHANTOM)


def test_views_arrive_and_impossible_ones_are_refused():
    shares = {"hand": 0.7, "fundus": 0.1, "wrist": 0.1, "other": 0.1}
    assert wire.view_from({"view": "hand", "probabilities": shares}) == (View.HAND, shares)
    assert wire.view_from({"view": "other", "probabilities": {}}) == (View.OTHER, {})
    for said in ({"view": "knee", "probabilities": shares}, {"view": "hand", "probabilities": {"hand": 1}}, None, {}):
        with pytest.raises(NotUnderstood):
            wire.view_from(said)


DESCRIBED = {"model_version": PHANTOM, "is_phantom": True, "side": 320, "resample": 2}


@pytest.mark.parametrize(
    "changes",
    [
        {"model_version": ""},
        {"model_version": "x" * 201},
        {"model_version": "a\nb"},
        {"model_version": 3},
        {"is_phantom": "no"},
        {"is_phantom": None},
        {"side": 100_000},
        {"side": 0},
        {"side": 320.5},
        {"resample": 77},
    ],
    ids=str,
)
def test_a_description_that_cannot_be_is_refused(changes):
    assert wire.described(DESCRIBED).side == 320
    with pytest.raises(NotUnderstood):
        wire.described(DESCRIBED | changes)
    with pytest.raises(NotUnderstood):
        wire.described({name: value for name, value in DESCRIBED.items() if name not in changes})
