"""The sampled month loss against the exact one, and the fast pass against the library's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoProcessor, Gemma3ForConditionalGeneration

from engine.findings.answers import ALLOWED, Task, bone_age_answer, fracture_answer, rop_answer
from engine.inference.checkpoint import load_reader
from engine.inference.read import ReadContext
from engine.settings import PHANTOM_MODEL_DIR
from training.answer_loss import AnswerLoss, soft_cross_entropy
from training.language_pass import (
    answer_gradients,
    answer_logits,
    differs_from_library,
    lean_lora,
    lora_layers,
    prepare_layers,
    unpack,
)
from training.radiology_processor import RadiologyProcessor
from training.train_radiology import LANGUAGE_LAYERS

ANSWERS = [bone_age_answer(9), bone_age_answer(126), rop_answer("II", "2", "none"), fracture_answer("buckle")]


@pytest.fixture(scope="module")
def processor():
    return RadiologyProcessor(AutoProcessor.from_pretrained(PHANTOM_MODEL_DIR, backend="pil"))


@pytest.fixture(scope="module")
def network():
    return Gemma3ForConditionalGeneration.from_pretrained(PHANTOM_MODEL_DIR, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def examples(processor):
    return [processor.example(i, ReadContext("F", 100.0), a) for i, a in enumerate(ANSWERS)]


def features(rows: int) -> torch.Tensor:
    return torch.randn(rows, 100, 256, generator=torch.Generator().manual_seed(0))


def test_the_pass_without_masks_equals_the_librarys(network, processor, examples):
    batch = processor.collate(examples)  # rows of several lengths, so padding is tried too
    assert len({len(e) for e in examples}) > 1
    assert differs_from_library(network, batch, features(len(examples))) < 1e-4


@torch.no_grad()
def test_the_drawn_months_loss_is_the_exact_one_on_average(network, processor, examples):
    """Over all 229 months weighted by the target, `path` gives what `tree` gives."""
    age = examples[1]
    path = AnswerLoss(processor, month_loss="path", month_sd=1.5)
    tree = AnswerLoss(processor, month_loss="tree", month_sd=1.5)
    tokens = features(1)
    target = path.target(age)
    total = 0.0
    for month in np.flatnonzero(target > 1e-9):
        fed = processor.example(0, age.context, ALLOWED[Task.BONE_AGE][month])
        logits = answer_logits(network, processor.collate([fed]), tokens)
        rows = path.soft_labels(fed, target)[:-1]  # <end_of_turn> is not in the tree
        total += target[month] * soft_cross_entropy(logits[:-1], rows).item()
    exact = tree(network, processor.collate([age]), [target], tokens).item()
    assert total == pytest.approx(exact, rel=1e-4)


def test_hard_labels_are_plain_cross_entropy(network, processor, examples):
    loss = AnswerLoss(processor, month_loss="hard", month_sd=1.5)
    e = examples[1]
    batch = processor.collate([e])
    ours = loss(network, batch, [loss.target(e)], features(1)).item()
    logits = answer_logits(network, batch, features(1))
    each = torch.nn.functional.cross_entropy(logits, torch.tensor(e.answer_ids), reduction="none")
    head = len(loss.trees[Task.BONE_AGE].head_ids)
    weights = torch.tensor([0.05] * head + [1.0] * (len(each) - head - 1) + [0.05])
    assert ours == pytest.approx((weights * each).sum().item(), rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["hard", "tree"])
def test_a_replayed_film_counts_as_often_as_asked(network, processor, examples, kind):
    known = replace(examples[0], replay=True)

    def value(weight, *some):
        loss = AnswerLoss(processor, month_loss=kind, month_sd=1.5, replay_weight=weight)
        return loss(network, processor.collate(some), [loss.target(e) for e in some], features(len(some))).item()

    alone, other = value(1.0, known), 2 * value(1.0, known, examples[1]) - value(1.0, known)
    assert value(3.0, known, examples[1]) == pytest.approx((3 * alone + other) / 2, rel=1e-4)


def test_logsumexps_gradient_is_the_softmax():
    logits = torch.randn(300, 50, dtype=torch.float64).float().requires_grad_()
    rows = [(1.0, [3, 7], [0.25, 0.75])] * 300
    soft_cross_entropy(logits, rows).backward()
    target = torch.zeros(300, 50)
    target[:, 3], target[:, 7] = 0.25, 0.75
    assert torch.allclose(logits.grad, logits.detach().softmax(-1) - target, atol=1e-6)


def test_the_lean_pass_over_4_bit_weights_has_pefts_gradients(processor, examples):
    """Layers unpacked or not, checkpointed or not: what training on a GPU computes, here without torch.compile."""
    batch, tokens = processor.collate(examples), features(len(examples))

    def adapted():
        torch.manual_seed(0)
        reader = load_reader("phantom", None, gated=False)
        reader.network.requires_grad_(False)
        network = get_peft_model(reader.network, LoraConfig(r=4, target_modules=LANGUAGE_LAYERS)).get_base_model()
        for layer in lora_layers(network):
            torch.nn.init.normal_(layer.lora_B["default"].weight, std=0.02)
        return network

    network = adapted()
    theirs = answer_gradients(network, batch, tokens)
    assert theirs.norm() > 0
    lean_lora(network)
    prepare_layers(network, compiled=False, checkpointed=True)
    assert torch.allclose(answer_gradients(network, batch, tokens), theirs, atol=1e-5)
    assert unpack(network) > 0
    prepare_layers(network, compiled=False, checkpointed=False)
    assert torch.allclose(answer_gradients(network, batch, tokens), theirs, atol=1e-5)
