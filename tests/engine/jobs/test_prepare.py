"""engine.jobs.prepare: a film that harms the process that prepares it costs only itself."""

import os
import time

import numpy as np
import pytest

from engine.errors import NotFound, ReadFailed
from engine.jobs.prepare import PreparingProcess, prepared
from engine.settings import PHANTOM_MODEL_DIR


def work(what: str) -> np.ndarray:
    if what == "die":
        os._exit(3)
    if what == "hang":
        time.sleep(60)
    if what == "refuse":
        raise NotFound("the file is gone: restore it from a backup")
    return np.array([os.getpid()])


@pytest.fixture
def process():
    process = PreparingProcess(work, time_limit_s=1.0)
    yield process
    process.close()


def test_a_process_serves_film_after_film(process):
    first, second = process("film"), process("film")
    assert first == second != os.getpid()


@pytest.mark.parametrize(
    ("harm", "reason"), [("die", r"stop \(exit status 3\)"), ("hang", "longer than 1 s"), ("refuse", "is gone")]
)
def test_the_next_film_is_prepared_after_one_that_failed(process, harm, reason):
    process("film")
    with pytest.raises(ReadFailed, match=reason):
        process(harm)
    assert process("film") != os.getpid()


def test_a_process_prepares_what_a_thread_would(waiting, data_dir):
    from transformers import AutoProcessor  # here, as every process that `work` runs in imports this module

    waiting.add(1)
    (film,) = data_dir.rglob("pixels.gz")
    image_processor = AutoProcessor.from_pretrained(PHANTOM_MODEL_DIR, backend="pil").image_processor
    arguments = film.parent.name, image_processor
    process = PreparingProcess()
    try:
        assert np.array_equal(process(*arguments), prepared(*arguments))
        with pytest.raises(ReadFailed, match="restore it from a backup"):
            process("0" * 64, image_processor)
    finally:
        process.close()


def test_closing_stops_a_process_whatever_it_is_at(process):
    (number,) = process("film")
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
