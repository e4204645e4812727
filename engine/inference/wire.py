"""How a read goes from one machine to another: what is sent, what may come back, and how large either may be.

A request is one line of JSON, then the pixels, gzipped:

    {"schema": 1, "task": "fracture", "contexts": [{"sex": "M", "age_months": 9}], "shape": [1, 1, 896, 896]}

No name, number or date of a child is in it, and of sex and age only what the prompt says. An answer is JSON with the
same `schema`; its reads are Read.as_json. Whoever receives either trusts nothing in it. Knows no torch."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.errors import PediScreenError
from engine.findings.answers import ALLOWED, MAX_BONE_AGE_MONTHS, Fracture, Plus, Stage, Task, View, Zone, check_answer
from engine.inference.read import Read, ReadContext

SCHEMA = 1
MOST_IMAGES = 16
LARGEST_SIDE = 2048
LARGEST_HEAD_BYTES = 16_384
LARGEST_REQUEST_BYTES = 64_000_000  # 16 images of MedGemma's size are 39 MB before they are compressed
LARGEST_ANSWER_BYTES = 4_000_000  # 16 distributions of bone age are 0.2 MB
OLDEST_MONTHS = 12 * 130
SUM_TOLERANCE = 1e-3


class NotUnderstood(PediScreenError):
    """What came is not what the other side should have sent."""


@dataclass(frozen=True)
class Asked:
    """`task` None: which view it is. `pixels`: (n, 3, side, side) uint8."""

    task: Task | None
    contexts: list[ReadContext]
    pixels: np.ndarray


@dataclass(frozen=True)
class Described:
    """The model that reads there, and how large it wants its images."""

    model_version: str
    is_phantom: bool
    side: int
    resample: int  # PIL's number of the filter

    def as_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **vars(self)}


def packed(task: Task | None, contexts: Sequence[ReadContext], pixels: np.ndarray) -> bytes:
    """`pixels`: (n, 3, side, side) uint8; of grey images one channel is sent."""
    if (pixels == pixels[:, :1]).all():
        pixels = pixels[:, :1]
    head = {
        "schema": SCHEMA,
        "task": task,
        "contexts": [_context(task, context) for context in contexts],
        "shape": pixels.shape,
    }
    return json.dumps(head).encode() + b"\n" + gzip.compress(np.ascontiguousarray(pixels).tobytes(), compresslevel=1)


def _context(task: Task | None, context: ReadContext) -> dict[str, Any]:
    """What engine.inference.prompts.prompt_text makes use of."""
    age = context.age_months
    return {
        "sex": context.sex if task is not None else None,
        "age_months": round(age) if task is Task.FRACTURE and age is not None else None,
    }


def unpacked(body: bytes) -> Asked:
    """Raises NotUnderstood."""
    line, _, rest = body.partition(b"\n")
    if len(line) > LARGEST_HEAD_BYTES:
        raise NotUnderstood(f"the request's first line has {len(line)} bytes; at most {LARGEST_HEAD_BYTES} are read")
    head = parsed(line)
    try:
        task = None if head["task"] is None else Task(head["task"])
        contexts = [_context_of(one) for one in head["contexts"]]
        count, channels, rows, cols = (int(number) for number in head["shape"])
    except (KeyError, TypeError, ValueError) as wrong:
        raise NotUnderstood(f"the request's first line is not one of a read: {wrong!r}") from wrong
    if not (1 <= count <= MOST_IMAGES and count == len(contexts) and channels in (1, 3)):
        raise NotUnderstood(f"{count} images with {channels} channels and {len(contexts)} contexts cannot be read")
    if not 1 <= rows == cols <= LARGEST_SIDE:
        raise NotUnderstood(f"images of {rows} x {cols} pixels cannot be read")
    expected = count * channels * rows * cols
    try:
        content = zlib.decompressobj(wbits=31).decompress(rest, expected + 1)
    except zlib.error as wrong:
        raise NotUnderstood(f"the pixels are not gzip: {wrong}") from wrong
    if len(content) != expected:
        raise NotUnderstood(f"the pixels are not the {expected} bytes that the first line says")
    pixels = np.frombuffer(content, np.uint8).reshape(count, channels, rows, cols)
    return Asked(task, contexts, np.broadcast_to(pixels, (count, 3, rows, cols)).copy())


def _context_of(said: dict[str, Any]) -> ReadContext:
    sex, age = said["sex"], said["age_months"]
    if sex not in ("M", "F", None):
        raise ValueError(f"sex {sex!r}")
    if age is not None and not (_is_number(age) and 0 <= age <= OLDEST_MONTHS):
        raise ValueError(f"age_months {age!r}")
    return ReadContext(sex, age)


def parsed(content: bytes) -> dict[str, Any]:
    """JSON of this schema. Raises NotUnderstood."""
    try:
        said = json.loads(content)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or "schema" not in said:
        raise NotUnderstood("this is not from a PediScreen worker")
    if said["schema"] != SCHEMA:
        raise NotUnderstood(
            f"the other side speaks schema {str(said['schema'])[:20]}, this one {SCHEMA}: they need the same version"
        )
    return said


def described(said: dict[str, Any]) -> Described:
    """Raises NotUnderstood."""
    try:
        found = Described(said["model_version"], said["is_phantom"], said["side"], said["resample"])
    except KeyError as missing:
        raise NotUnderstood(f"the model is described without {missing}") from missing
    named = isinstance(found.model_version, str) and 0 < len(found.model_version) <= 200
    numbers = type(found.side) is int and type(found.resample) is int
    if not (named and found.model_version.isprintable() and isinstance(found.is_phantom, bool) and numbers):
        raise NotUnderstood("the model's description has fields that are not what they should be")
    if not (16 <= found.side <= LARGEST_SIDE and 0 <= found.resample <= 5):
        raise NotUnderstood(f"the model wants images of {found.side} pixels, resampled by filter {found.resample}")
    return found


def read_from(said: Any, task: Task, model_version: str) -> Read:
    """Raises NotUnderstood unless it is a whole read of `task` by that model, from the closed answer set."""
    try:
        read = Read(
            task=said["task"],
            answer=None if said["answer"] is None else check_answer(said["answer"]),
            probabilities=said["probabilities"],
            median_months=said["median_months"],
            interval_months=tuple(said["interval_months"]) if said["interval_months"] is not None else None,
            abstained=said["abstained"],
            reason=said["reason"],
            model_version=said["model_version"],
            milliseconds=said["milliseconds"],
        )
        is_whole = (
            read.task == task
            and read.model_version == model_version
            and _is_number(read.milliseconds)
            and (_is_no_read(read) if read.abstained is True else read.abstained is False and _is_answered(read, task))
        )
    except (KeyError, TypeError, ValueError, AttributeError, PediScreenError) as wrong:
        raise NotUnderstood(f"a read is not one of the allowed answers: {wrong}") from wrong
    if not is_whole:
        raise NotUnderstood(f"a read of {task} contradicts itself, or is of another task or model")
    return read


def _is_no_read(read: Read) -> bool:
    no_numbers = read.probabilities == {} and read.median_months is None and read.interval_months is None
    return read.answer is None and no_numbers and isinstance(read.reason, str) and 0 < len(read.reason) <= 500


def _is_answered(read: Read, task: Task) -> bool:
    if read.answer is None or read.answer["task"] != task or read.reason is not None:
        return False
    p, median, interval = read.probabilities, read.median_months, read.interval_months
    if task is Task.BONE_AGE:
        months = [str(answer["bone_age_months"]) for answer in ALLOWED[Task.BONE_AGE]]
        low, high = interval
        in_order = all(type(n) is int for n in (low, median, high)) and 0 <= low <= median <= high
        return (
            high <= MAX_BONE_AGE_MONTHS and in_order and median == read.answer["bone_age_months"] and _sums(p, months)
        )
    if median is not None or interval is not None:
        return False
    if task is Task.FRACTURE:
        return _sums(p, Fracture)
    fields = {"zone": Zone, "stage": Stage, "plus_disease": Plus}
    return set(p) == set(fields) and all(_sums(p[field], values) for field, values in fields.items())


def view_from(said: Any) -> tuple[View, dict[str, float]]:
    """What an image shows, with the probability of every view, or none by a model that cannot tell. Raises
    NotUnderstood."""
    try:
        view, p = View(said["view"]), said["probabilities"]
        if p == {} or _sums(p, View):
            return view, p
    except (KeyError, TypeError, ValueError, AttributeError) as wrong:
        raise NotUnderstood(f"this is no view of an image: {wrong}") from wrong
    raise NotUnderstood("the probabilities of an image's views do not add up")


def _sums(p: dict[str, Any], names: Any) -> bool:
    """Probabilities of exactly these names."""
    values = list(p.values())
    return (
        set(p) == set(names)
        and all(_is_number(value) and 0 <= value <= 1 + SUM_TOLERANCE for value in values)
        and abs(sum(values) - 1) < SUM_TOLERANCE
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
