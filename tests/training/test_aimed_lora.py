"""LoRA aimed at what is new: which directions it takes, and that a film without anything new passes them by."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch
from peft import LoraConfig, get_peft_model

from engine.findings.answers import fracture_answer
from engine.inference.checkpoint import load_reader
from engine.inference.read import ReadContext
from training import aimed_lora
from training.language_pass import language_hidden
from training.radiology_processor import RadiologyProcessor
from training.train_radiology import LANGUAGE_LAYERS

SIZE = 24


@pytest.fixture
def moments():
    """Second moments of known inputs, correlated, and of new ones: the same and a mark along one direction."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(SIZE, SIZE))
    mark = rng.normal(size=SIZE)
    known = rng.normal(size=(4000, SIZE)) @ mixing
    new = rng.normal(size=(4000, SIZE)) @ mixing + 30 * mark / np.linalg.norm(mark) * rng.normal(1, 0.2, (4000, 1))
    return [torch.tensor(x.T @ x / len(x)).float() for x in (known, new)], known, new


def test_only_the_direction_that_stands_out_is_taken(moments):
    (known, new), known_inputs, new_inputs = moments
    rows = aimed_lora.new_directions(known, new, 4, least_ratio=12)
    assert rows.shape == (4, SIZE) and rows.any(1).tolist() == [True, False, False, False]
    seen = [np.square(inputs @ rows[0].numpy()).mean() for inputs in (known_inputs, new_inputs)]
    assert seen[1] / seen[0] > 12
    assert seen[1] == pytest.approx(new.trace().item() / 12, rel=0.01)


def test_directions_are_scipys_generalised_eigenvectors(moments):
    (known, new), *_ = moments
    rows = aimed_lora.new_directions(known, new, 3, least_ratio=0.001).double().numpy()
    ridge = aimed_lora.RIDGE * known.trace().item() / SIZE * np.eye(SIZE)
    ratios, vectors = scipy.linalg.eigh(new.double().numpy(), known.double().numpy() + ridge)
    for row, theirs in zip(rows, vectors.T[::-1], strict=False):
        cosine = row @ theirs / np.linalg.norm(row) / np.linalg.norm(theirs)
        assert abs(cosine) == pytest.approx(1, abs=1e-4)


def test_nothing_new_means_no_direction(moments):
    (known, _), *_ = moments
    assert not aimed_lora.new_directions(known, known, 4, least_ratio=2).any()


def adapted(reader):
    lora = LoraConfig(r=4, lora_alpha=4, target_modules=LANGUAGE_LAYERS, task_type="CAUSAL_LM")
    return get_peft_model(reader.network, lora).get_base_model()


def passes(reader, mark: float):
    """Six wrists, of which the last three are new and carry a mark in all of their image tokens."""
    processor = RadiologyProcessor(reader.processor)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(6, processor.image_tokens, 256, generator=generator)
    tokens[3:, :, 7] += mark
    example = processor.example(0, ReadContext("F", 100.0), fracture_answer("normal"))
    examples = [replace(example, replay=k < 3) for k in range(6)]
    return [(processor.collate(examples), tokens)]


def test_layers_that_share_an_input_look_in_the_same_directions_and_are_not_trained():
    reader = load_reader("phantom", None, gated=False)
    base = adapted(reader)
    found = aimed_lora.aim(base, passes(reader, mark=40.0), least_ratio=12)
    assert found > 0
    layer = base.model.language_model.layers[0]
    query, key = (getattr(layer.self_attn, name).lora_A["default"].weight for name in ("q_proj", "k_proj"))
    assert torch.equal(query, key) and query[0].abs().argmax() == 7 and not query.requires_grad
    trained = [n for n, p in base.named_parameters() if p.requires_grad and ".lora_" in n]
    assert trained and all(".lora_B." in n for n in trained)


def test_where_nothing_stands_out_the_adapter_stays_a_plain_one():
    reader = load_reader("phantom", None, gated=False)
    base = adapted(reader)
    before = {n: p.clone() for n, p in base.named_parameters() if ".lora_A." in n}
    assert aimed_lora.aim(base, passes(reader, mark=0.0), least_ratio=1e6) == 0
    assert all(torch.equal(p, before[n]) and p.requires_grad for n, p in base.named_parameters() if ".lora_A." in n)


def test_a_film_without_the_mark_is_read_as_before():
    reader = load_reader("phantom", None, gated=False)
    base = adapted(reader)
    ((batch, tokens),) = passes(reader, mark=40.0)
    with torch.no_grad():
        before = language_hidden(base, batch, tokens)
        aimed_lora.aim(base, [(batch, tokens)], least_ratio=12)
        for name, parameter in base.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.02, generator=torch.Generator().manual_seed(2))
        moved = (language_hidden(base, batch, tokens) - before).square().mean((1, 2))
    assert moved[3:].min() > 5 * moved[:3].max()
