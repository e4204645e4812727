"""Reads by the shipped model, in 4 bits, as the worker makes them."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import bitsandbytes as bnb
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from tokenizers.normalizers import Lowercase
from transformers import AutoProcessor, Gemma3Config, Gemma3ForConditionalGeneration

from engine.errors import ModelUnavailable, ReaderLost, ReaderUnavailable, ReadFailed, Refused
from engine.findings.answers import ALLOWED, MAX_BONE_AGE_MONTHS, Task, View, check_answer, rop_answer
from engine.imaging.preprocess import model_pixels
from engine.inference import checkpoint, four_bit, gpu
from engine.inference import reader as reader_module
from engine.inference.checkpoint import load_reader
from engine.inference.prompts import prompt_ids
from engine.inference.read import ReadContext
from engine.inference.reader import read_of
from engine.phantoms import seeds
from engine.phantoms.fundus import fundus
from engine.phantoms.hand import hand
from engine.phantoms.other import other
from engine.phantoms.wrist import wrist
from engine.settings import PHANTOM_MODEL_DIR, PROJECT_DIR
from tests.engine.inference.pictures import picture

DRAW = {Task.BONE_AGE: hand, Task.ROP: fundus, Task.FRACTURE: wrist}
FIRST = seeds.VALIDATION + 900_000


@pytest.fixture(scope="module")
def reader():
    return load_reader("phantom", None)


def contexts(phantoms) -> list[ReadContext]:
    return [ReadContext(p.sex, p.age_months) for p in phantoms]


def test_the_model_is_in_four_bits(reader):
    quantised = [m for m in reader.network.modules() if isinstance(m, bnb.nn.Linear4bit)]
    assert len(quantised) > 70
    assert all(m.weight.quant_type == "nf4" and m.weight.quant_state.nested for m in quantised)
    assert not isinstance(reader.network.lm_head, bnb.nn.Linear4bit)


@pytest.mark.parametrize("task", list(Task))
def test_reads_are_near_the_truth_and_complete(reader, task):
    phantoms = [DRAW[task](FIRST + i) for i in range(12)]
    reads = reader.read([picture(p) for p in phantoms], task, contexts(phantoms))
    assert sum(r.abstained for r in reads) <= 2
    right = 0
    for phantom, read in zip(phantoms, reads, strict=True):
        if read.abstained:
            continue
        check_answer(read.answer)
        groups = read.probabilities.values() if task is Task.ROP else [read.probabilities]
        assert all(sum(g.values()) == pytest.approx(1, abs=1e-6) for g in groups)
        if task is Task.BONE_AGE:
            assert len(read.probabilities) == MAX_BONE_AGE_MONTHS + 1
            low, high = read.interval_months
            assert low <= read.median_months <= high
            assert read.answer["bone_age_months"] == read.median_months
            right += abs(read.median_months - phantom.answer["bone_age_months"]) <= 8
        else:
            right += read.answer == phantom.answer
    assert right >= 8


def test_a_read_leaves_the_layers_as_training_needs_them():
    """bitsandbytes repacks them at the first read on some CPUs, and then passes no gradient on."""
    reader = load_reader("phantom", None)
    phantoms = [hand(FIRST + 60 + i) for i in range(2)]
    pictures, known = [picture(p) for p in phantoms], contexts(phantoms)
    layer = reader.network.model.language_model.layers[0].mlp.gate_proj
    inputs = torch.ones(1, layer.in_features)

    def gradient() -> torch.Tensor:
        asked = inputs.clone().requires_grad_()
        return torch.autograd.grad(layer(asked).sum(), asked)[0]

    before = gradient()
    reader.read(pictures, Task.BONE_AGE, known)
    assert torch.equal(gradient(), before)


def test_known_image_tokens_read_as_their_images(reader):
    phantoms = [hand(FIRST + 70 + i) for i in range(3)]
    pictures, known = [picture(p) for p in phantoms], contexts(phantoms)
    with torch.inference_mode():
        tokens = reader.image_tokens(pictures)
    read = reader.read(pictures, Task.BONE_AGE, known)
    again = reader.read_tokens(tokens, Task.BONE_AGE, known)
    assert [(r.answer, r.abstained, r.probabilities) for r in again] == [
        (r.answer, r.abstained, r.probabilities) for r in read
    ]


def test_pixels_prepared_elsewhere_read_as_their_images(reader):
    phantoms = [hand(FIRST + 60 + i) for i in range(3)]
    pictures, known = [picture(p) for p in phantoms], contexts(phantoms)
    pixels = model_pixels(pictures, reader.image_processor)
    assert pixels.dtype == np.uint8
    for read, again in zip(
        reader.read(pictures, Task.BONE_AGE, known), reader.read_pixels(pixels, Task.BONE_AGE, known), strict=True
    ):
        assert (again.answer, again.abstained) == (read.answer, read.abstained)
        assert again.probabilities == pytest.approx(read.probabilities, abs=1e-5)
    assert [view for view, _ in reader.triage_pixels(pixels)] == [view for view, _ in reader.triage(pictures)]


def test_a_batch_reads_as_each_image_alone(reader):
    phantoms = [wrist(FIRST + 50 + i) for i in range(3)]
    pictures, known = [picture(p) for p in phantoms], [ReadContext(), ReadContext("F"), ReadContext("M", 99)]
    together = reader.read(pictures, Task.FRACTURE, known)
    for image, context, read in zip(pictures, known, together, strict=True):
        (alone,) = reader.read([image], Task.FRACTURE, [context])
        assert alone.probabilities == pytest.approx(read.probabilities, abs=1e-4)


def test_bone_age_without_a_sex_is_no_read(reader):
    (read,) = reader.read([picture(hand(FIRST))], Task.BONE_AGE, [ReadContext()])
    assert read.abstained and read.answer is None and "sex" in read.reason
    assert read.probabilities == {} and read.median_months is None and read.interval_months is None


def test_the_wrong_view_and_noise_are_no_reads(reader):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8))
    for image in (picture(fundus(FIRST)), noise, Image.new("RGB", (300, 300))):
        (read,) = reader.read([image], Task.BONE_AGE, [ReadContext("F")])
        assert read.abstained and read.answer is None


def test_an_image_for_which_the_network_gives_no_numbers_has_no_read(reader, monkeypatch):
    fails_on = {2}

    def broken(network, tree, prompts, tokens):
        p = torch.full((len(prompts), len(tree.answers)), 1 / len(tree.answers), dtype=torch.float64)
        if len(prompts) in fails_on:
            p[-1, 0] = float("nan")
        return p

    monkeypatch.setattr(reader_module, "probabilities", broken)
    pictures, known = [picture(wrist(FIRST + i)) for i in range(2)], [ReadContext()] * 2
    with pytest.raises(ReadFailed, match="not a number for 1 of 2 images"):
        reader.read(pictures, Task.FRACTURE, known)
    with pytest.raises(ReadFailed, match="not a number"):
        reader.triage(pictures)
    fails_on.add(1)  # a black image as well: it is not the images
    with pytest.raises(ReaderUnavailable, match="even for a black image.*phantom 0.4"):
        reader.read(pictures, Task.FRACTURE, known)


GONE = [
    torch.AcceleratorError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("CUDA error: device lost"),
]


@pytest.mark.parametrize("error", GONE, ids=str)
def test_a_gpu_that_is_gone_is_no_images_fault(reader, monkeypatch, error):
    def gone(images):
        raise error

    monkeypatch.setattr(reader, "image_tokens", gone)
    with pytest.raises(ReaderLost, match="GPU does not work any more: ") as lost:
        reader.read([picture(wrist(FIRST))], Task.FRACTURE, [ReadContext()])
    assert "Compile with" not in str(lost.value)


def test_another_fault_of_the_network_stays_what_it_is(reader, monkeypatch):
    def wrong(images):
        raise RuntimeError("The size of tensor a must match the size of tensor b")

    monkeypatch.setattr(reader, "image_tokens", wrong)
    with pytest.raises(RuntimeError, match="size of tensor"):
        reader.read([picture(wrist(FIRST))], Task.FRACTURE, [ReadContext()])


def test_a_batch_that_the_memory_does_not_take_is_halved(reader, monkeypatch):
    """The reads are the same, and in order."""
    pictures, known = [picture(wrist(FIRST + 80 + i)) for i in range(5)], [ReadContext()] * 5
    expected = reader.read(pictures, Task.FRACTURE, known)
    taken, whole = [], reader.image_tokens

    def tokens(images):
        if len(images) > 2:
            raise torch.OutOfMemoryError("no room")
        taken.append(len(images))
        return whole(images)

    monkeypatch.setattr(reader, "image_tokens", tokens)
    monkeypatch.setattr(reader, "_at_once", 8)
    found = reader.read(pictures, Task.FRACTURE, known)
    assert taken == [2, 2, 1]
    for read, alone in zip(found, expected, strict=True):
        assert read.probabilities == pytest.approx(alone.probabilities, abs=1e-5)

    monkeypatch.setattr(reader, "image_tokens", lambda images: tokens([None] * 3))
    with pytest.raises(ReaderUnavailable, match="memory does not take one image"):
        reader.read(pictures, Task.FRACTURE, known)


def test_a_model_larger_than_the_gpu_is_refused_before_it_is_loaded(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (500_000_000, 8_000_000_000))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A small card")
    monkeypatch.setattr(Gemma3ForConditionalGeneration, "from_pretrained", lambda *a, **k: pytest.fail("loaded"))
    with pytest.raises(ModelUnavailable, match=r"needs 0\.6 GB .* A small card has 0\.5 of 8\.0 GB free"):
        load_reader("phantom", None)


def test_a_model_larger_than_the_memory_is_refused_where_there_is_no_gpu(monkeypatch):
    config = Gemma3Config.from_pretrained(PHANTOM_MODEL_DIR)
    network = Gemma3ForConditionalGeneration.from_pretrained(PHANTOM_MODEL_DIR, dtype=torch.float32)
    held = sum(p.numel() * 4 for p in network.parameters())
    assert four_bit.cpu_bytes(config, in_four_bits=False) == held
    held = sum(p.nbytes for p in load_reader("phantom", None).network.parameters())
    assert four_bit.cpu_bytes(config, in_four_bits=True) == pytest.approx(held, rel=0.05)  # and its tables
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1_000_000))
    with pytest.raises(ModelUnavailable, match=r"for its weights, as there is no GPU; 0\.0 GB are available"):
        load_reader("phantom", None)


def test_a_gpu_that_cannot_be_used_is_named_before_anything_is_loaded(monkeypatch, tmp_path):
    """The phantom model is small enough for the processor; another waits until somebody has seen to it."""
    monkeypatch.setattr(gpu, "DEVICE", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    too_old = "The NVIDIA driver on your system is too old (found version 11040)."

    def init():
        raise RuntimeError(too_old)

    monkeypatch.setattr(torch.cuda, "init", init)
    folder = copy_of_the_model(tmp_path, is_phantom=False)
    with pytest.raises(ModelUnavailable, match=r"too old \(found version 11040\)\. Run nvidia-smi"):
        load_reader(str(folder), None)
    assert load_reader("phantom", None).is_phantom
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not load_reader(str(folder), None).is_on_gpu


def copy_of_the_model(tmp_path, **card):
    folder = tmp_path / "model"
    shutil.copytree(PHANTOM_MODEL_DIR, folder)
    (folder / "reading.json").write_text(json.dumps({"name": "copy", **card}))
    return folder


def lower_case(processor):
    """Zone I becomes zone i."""
    processor.tokenizer.backend_tokenizer.normalizer = Lowercase()


def without_the_image(processor):
    processor.full_image_sequence = processor.boi_token


def larger(processor):
    """Of another model: a token has a number that this one's embedding does not reach."""
    processor.tokenizer.add_tokens([*(f"<unused{i}>" for i in range(1000)), "bone_age"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lower_case, "of the answer"),
        (without_the_image, "a prompt holds 0 image tokens, the network takes 100"),
        (larger, "the network only those below"),
    ],
)
def test_a_tokenizer_that_splits_answers_unexpectedly_is_refused_at_the_start(monkeypatch, change, said):
    processor = AutoProcessor.from_pretrained(PHANTOM_MODEL_DIR, backend="pil")
    change(processor)
    monkeypatch.setattr(checkpoint.AutoProcessor, "from_pretrained", lambda *where, **how: processor)
    with pytest.raises(ModelUnavailable, match=f"tokenizer of phantom does not fit it: .*{said}"):
        load_reader("phantom", None)


def test_a_machine_without_bitsandbytes_is_told_so():
    """In a process of its own, where nothing has imported it yet."""
    program = (
        "import sys; sys.modules['bitsandbytes'] = None\n"
        "from engine.errors import ModelUnavailable\n"
        "from engine.jobs.model_in_use import load_reader\n"
        "try: load_reader(None)\n"
        "except ModelUnavailable as refused: print(refused)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], cwd=PROJECT_DIR, capture_output=True, text=True, check=True)
    assert "bitsandbytes" in said.stdout and said.stdout.endswith("Install again: make run\n")


def test_words_are_the_librarys_own_generation_piece_by_piece(monkeypatch):
    """The shipped model has none; what its network would say is held against generate(), while reads go on."""
    reader = load_reader("phantom", None)
    phantom = hand(FIRST + 90)
    (pixels,) = model_pixels([picture(phantom)], reader.image_processor)
    with pytest.raises(Refused, match="phantom model gives no explanation"):
        next(reader.words(pixels, Task.BONE_AGE, ReadContext("F")))
    reader.is_phantom = False
    monkeypatch.setattr(reader_module, "MOST_WORD_TOKENS", 40)
    pieces = []
    for piece in reader.words(pixels, Task.BONE_AGE, ReadContext("F")):
        pieces.append(piece)
        if len(pieces) == 3:  # between two tokens the model is free
            (read,) = reader.read_pixels(pixels[None], Task.BONE_AGE, [ReadContext("F")])
            assert read.answer is not None
    ids = torch.tensor([prompt_ids(reader.processor, Task.BONE_AGE, ReadContext("F"), in_words=True)])
    shown = reader.image_processor([picture(phantom)], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        theirs = reader.network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            token_type_ids=(ids == reader.network.config.image_token_id).long(),
            pixel_values=shown,
            max_new_tokens=40,
            do_sample=False,
        )[0, ids.shape[1] :]
    assert len(pieces) > 10
    assert "".join(pieces) == reader.processor.tokenizer.decode(theirs, skip_special_tokens=True)


def test_words_of_a_network_without_numbers_or_on_a_lost_gpu_end_with_the_reason(monkeypatch):
    reader = load_reader("phantom", None)
    reader.is_phantom = False
    (pixels,) = model_pixels([picture(hand(FIRST))], reader.image_processor)
    words = reader.words(pixels, Task.BONE_AGE, ReadContext("F"))
    assert next(words)
    forward = reader.network.forward

    def none(**inputs):
        out = forward(**inputs)
        out.logits.fill_(float("nan"))
        return out

    monkeypatch.setattr(reader.network, "forward", none)
    with pytest.raises(ReaderUnavailable, match="not a number"):
        list(words)

    def gone(**inputs):
        raise GONE[0]

    monkeypatch.setattr(reader.network, "forward", gone)
    with pytest.raises(ReaderLost):
        list(reader.words(pixels, Task.BONE_AGE, ReadContext("F")))


def test_triage_tells_the_views_apart(reader):
    pictures = [picture(draw(FIRST + i)) for draw in (hand, fundus, wrist) for i in range(4)]
    views = [view for view, _ in reader.triage(pictures)]
    expected = [v for v in (View.HAND, View.FUNDUS, View.WRIST) for _ in range(4)]
    assert sum(a == b for a, b in zip(views, expected, strict=True)) >= 11
    strange = [view for view, _ in reader.triage([Image.fromarray(other(seeds.VALIDATION + i)) for i in range(12)])]
    assert strange.count(View.OTHER) >= 11


def test_an_adapter_changes_the_read_and_the_version(reader, tmp_path):
    network = Gemma3ForConditionalGeneration.from_pretrained(PHANTOM_MODEL_DIR, dtype=torch.float32)
    adapted = get_peft_model(network, LoraConfig(r=4, target_modules=r".*language_model.*\.(q_proj|down_proj)"))
    torch.manual_seed(0)
    for name, p in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(p, std=0.05)
    adapted.save_pretrained(tmp_path / "lora")
    with_adapter = load_reader("phantom", tmp_path / "lora")
    assert with_adapter.model_version != reader.model_version
    image, context = picture(hand(FIRST + 3)), ReadContext("M")
    (base,), (changed,) = (r.read([image], Task.BONE_AGE, [context]) for r in (reader, with_adapter))
    assert not base.abstained
    assert base.probabilities != changed.probabilities


def test_zone_i_is_called_before_it_is_the_likeliest():
    answers = ALLOWED[Task.ROP]
    p = torch.zeros(len(answers), dtype=torch.float64)
    p[answers.index(rop_answer("I", "3", "plus"))] = 0.25
    p[answers.index(rop_answer("II", "2", "none"))] = 0.75
    assert read_of(Task.ROP, answers, p, "m", 0.0).answer["zone"] == "I"
    p[answers.index(rop_answer("I", "3", "plus"))] = 0.15
    p[answers.index(rop_answer("II", "2", "none"))] = 0.85
    assert read_of(Task.ROP, answers, p, "m", 0.0).answer == rop_answer("II", "2", "none")


def test_a_fracture_is_called_before_it_is_the_likeliest():
    answers = ALLOWED[Task.FRACTURE]
    names = [a["fracture"] for a in answers]

    def called(normal: float, buckle: float, distal_radius: float) -> str:
        shares = {"normal": normal, "buckle": buckle, "distal_radius": distal_radius}
        p = torch.tensor([shares[name] for name in names], dtype=torch.float64)
        return read_of(Task.FRACTURE, answers, p, "m", 0.0).answer["fracture"]

    assert called(0.75, 0.15, 0.10) == "buckle"  # one fracture in four, whichever it is
    assert called(0.85, 0.05, 0.10) == "normal"
    assert called(0.30, 0.30, 0.40) == "distal_radius"


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(ModelUnavailable, match="no adapter_config.json"):
        load_reader("phantom", tmp_path)
    with pytest.raises(ModelUnavailable, match="no model folder"):
        load_reader(str(tmp_path / "absent" / "model"), None)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load_reader(str(tmp_path), None)


def test_medgemma_without_access_ends_in_an_explanation(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelUnavailable, match="Health AI Developer Foundations"):
        load_reader("google/medgemma-4b-it", None)
