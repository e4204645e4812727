"""The figures that a training run is watched by, against what a read says of the same films."""

from dataclasses import replace

import numpy as np
import pytest

from engine.findings.answers import ALLOWED, Task
from engine.imaging.preprocess import stored_model_image
from engine.inference.checkpoint import load_reader
from engine.inference.read import ReadContext
from engine.phantoms import seeds
from engine.phantoms.hand import hand
from engine.phantoms.wrist import wrist
from training.answer_loss import AnswerLoss
from training.radiology_processor import RadiologyProcessor
from training.validation import LEAST_PROBABILITY, Validation


class Tokens:
    def __init__(self, all_of_them):
        self.all = all_of_them

    def stack(self, images, views, device):
        return self.all[list(images)]


def test_the_score_is_the_cross_entropy_of_a_reads_probabilities_averaged_over_tasks():
    reader = load_reader("phantom", None, gated=False)
    processor = RadiologyProcessor(reader.processor)
    loss = AnswerLoss(processor, month_loss="path", month_sd=1.5)
    films = [hand(seeds.VALIDATION + n, site="B") for n in range(3)] + [wrist(seeds.VALIDATION + n) for n in range(2)]
    images = [stored_model_image(film.film()).convert("RGB") for film in films]
    contexts = [ReadContext(film.sex, film.age_months) for film in films]
    examples = [processor.example(n, contexts[n], film.answer) for n, film in enumerate(films)]
    examples = [replace(e, replay=e.task is Task.FRACTURE) for e in examples]
    found = Validation(reader.network, loss, examples, Tokens(reader.image_tokens(images)))()

    hands, wrists = (
        reader.read(images[part], task, contexts[part])
        for task, part in ((Task.BONE_AGE, slice(0, 3)), (Task.FRACTURE, slice(3, 5)))
    )
    apart = [abs(read.median_months - film.answer["bone_age_months"]) for read, film in zip(hands, films, strict=False)]
    assert found["mae_months"] == pytest.approx(np.mean(apart), abs=0.6)  # a read's median lies between two months
    assert found["replay_macro_f1"] == 1.0

    def surprise(task, read, film):
        names = [a["bone_age_months" if task is Task.BONE_AGE else "fracture"] for a in ALLOWED[task]]
        p = np.array([read.probabilities.get(str(n), read.probabilities.get(n, 0.0)) for n in names])
        p = np.maximum(p, LEAST_PROBABILITY)
        if task is Task.FRACTURE:
            return -np.log(p[names.index(film.answer["fracture"])])
        target = np.exp(-0.5 * ((np.array(names) - film.answer["bone_age_months"]) / 1.5) ** 2)
        return -(target / target.sum() * np.log(p)).sum()

    of_hands = np.mean([surprise(Task.BONE_AGE, *each) for each in zip(hands, films[:3], strict=True)])
    of_wrists = np.mean([surprise(Task.FRACTURE, *each) for each in zip(wrists, films[3:], strict=True)])
    assert found["score"] == pytest.approx((of_hands + of_wrists) / 2, abs=0.02)
