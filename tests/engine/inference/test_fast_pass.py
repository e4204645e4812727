"""The fast pass against the library's modules and against its own graphs."""

import copy

import pytest
import torch
from torch import nn
from transformers import Gemma3ForConditionalGeneration

from engine.findings.answers import ALLOWED, Task
from engine.imaging.preprocess import model_pixels
from engine.inference import fast_pass, four_bit
from engine.inference.answer_tree import AnswerTree, log_probabilities, padded
from engine.inference.fast_pass import PLAIN, PROMPT_MULTIPLE, FastPass
from engine.inference.prompts import TRIAGE, prompt_ids
from engine.inference.read import ReadContext
from engine.phantoms.hand import hand
from engine.settings import PHANTOM_MODEL_DIR
from tests.engine.inference.pictures import library_tokens, picture

KNOWN = [ReadContext("F", 100), ReadContext("M")]


@torch.inference_mode()
def test_image_tokens_are_the_librarys(network, pixels):
    theirs = library_tokens(network, pixels)
    assert torch.allclose(fast_pass.image_tokens(network, pixels), theirs, atol=1e-5 * float(theirs.abs().max()))


@torch.inference_mode()
@pytest.mark.parametrize("window", [512, 12], ids=["window as it is", "window shorter than the prompt"])
@pytest.mark.parametrize("task", [*Task, TRIAGE])
def test_scores_are_the_librarys(network, processor, pixels, task, window, monkeypatch):
    monkeypatch.setattr(network.config.text_config, "sliding_window", window)
    tree = AnswerTree.build(ALLOWED[task], processor.tokenizer)
    prompts = [prompt_ids(processor, task, context) for context in KNOWN]
    tokens = library_tokens(network, pixels)
    theirs, _ = log_probabilities(network, tree, prompts, tokens)
    ours = fast_pass.score(network, tree, PLAIN, *padded(tree, prompts, PROMPT_MULTIPLE), tokens)
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert torch.allclose(ours.double().softmax(-1), theirs.double().softmax(-1), atol=1e-5)


@torch.inference_mode()
def test_a_stored_embedding_gives_what_its_values_give(network, processor, pixels):
    """Int8 rows beside the same numbers multiplied out, in the whole pass and in the library's."""
    multiplied, stored = copy.deepcopy(network), copy.deepcopy(network)
    codes, scale = four_bit.to_int8_rows(network.lm_head.weight)
    weight = nn.Parameter(four_bit.from_int8_rows(codes, scale, torch.float32), requires_grad=False)
    multiplied.lm_head.weight = multiplied.get_input_embeddings().weight = weight
    four_bit.keep_rows(stored, codes, scale, torch.float32)
    tree = AnswerTree.build(ALLOWED[Task.FRACTURE], processor.tokenizer)
    prompts = [prompt_ids(processor, Task.FRACTURE, context) for context in KNOWN]
    tokens = library_tokens(network, pixels)
    expected, _ = log_probabilities(multiplied, tree, prompts, tokens)
    assert torch.allclose(log_probabilities(stored, tree, prompts, tokens)[0], expected, atol=1e-5)
    ours = fast_pass.score(stored, tree, PLAIN, *padded(tree, prompts), tokens)
    assert torch.allclose(ours, expected, atol=1e-4)


def test_the_head_goes_over_the_vocabulary_in_parts(network, processor, pixels, monkeypatch):
    tree = AnswerTree.build(ALLOWED[Task.BONE_AGE], processor.tokenizer)
    ids, pads = padded(tree, [prompt_ids(processor, Task.BONE_AGE, KNOWN[0])])
    with torch.inference_mode():
        tokens = library_tokens(network, pixels[:1])
        whole = fast_pass.score(network, tree, PLAIN, ids, pads, tokens)
        monkeypatch.setattr(fast_pass, "VOCABULARY_PART", 100)
        parts = fast_pass.score(network, tree, PLAIN, ids, pads, tokens)
    assert torch.allclose(parts, whole, atol=1e-5)


def test_without_a_c_compiler_the_pieces_stay_plain(monkeypatch, caplog):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(fast_pass.shutil, "which", lambda name: None)
    assert fast_pass.fused.__wrapped__() is PLAIN
    assert "needs gcc and Python.h" in caplog.text


@pytest.fixture
def on_a_gpu(processor):
    """A float32 copy of the network with its FastPass, and pixels as that takes them."""
    torch.backends.cudnn.allow_tf32 = False
    network = Gemma3ForConditionalGeneration.from_pretrained(PHANTOM_MODEL_DIR, dtype=torch.float32).cuda().eval()
    trees = {task: AnswerTree.build(answers, processor.tokenizer) for task, answers in ALLOWED.items()}
    middle = torch.full((3,), 127.5)
    pixels = torch.as_tensor(model_pixels([picture(hand(k)) for k in range(70, 75)], processor.image_processor))
    return network, FastPass(network, trees, middle, middle), pixels


@pytest.mark.gpu
@torch.inference_mode()
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_graphs_answer_as_the_library_does(on_a_gpu, processor, count):
    network, fast, pixels = on_a_gpu
    pixels = pixels[:count]
    theirs = library_tokens(network, (pixels.cuda() - 127.5) / 127.5)
    for task in (Task.BONE_AGE, Task.FRACTURE):
        prompts = [prompt_ids(processor, task, KNOWN[k % 2]) for k in range(count)]
        expected = log_probabilities(network, fast.trees[task], prompts, theirs)[0].double().softmax(-1)
        for _ in range(4):  # plainly, captured, and replayed
            tokens = fast.image_tokens(pixels)
            found = fast.scores(task, prompts, tokens).double().softmax(-1)
            assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.gpu
@torch.inference_mode()
def test_a_graph_forgets_the_batch_before(on_a_gpu):
    _, fast, pixels = on_a_gpu
    for part in (pixels[:4], pixels[1:], pixels[:3]):
        kept = fast.image_tokens(part)
    first = kept.clone()
    fast.image_tokens(pixels[2:])
    assert torch.equal(kept, first)
    assert torch.equal(fast.image_tokens(pixels[:3]), first)


@pytest.mark.gpu
@torch.inference_mode()
def test_layers_put_on_later_are_read_with_once_the_graphs_are_forgotten(on_a_gpu, processor):
    network, fast, pixels = on_a_gpu
    prompts = [prompt_ids(processor, Task.FRACTURE, KNOWN[0])] * 2
    tokens = fast.image_tokens(pixels[:2])
    before = [fast.scores(Task.FRACTURE, prompts, tokens) for _ in range(3)][-1]
    layer = network.model.language_model.layers[-1].mlp
    kept, layer.down_proj = layer.down_proj, copy.deepcopy(layer.down_proj)
    layer.down_proj.weight.mul_(-3)
    fast.forget_graphs()
    changed = fast.scores(Task.FRACTURE, prompts, tokens)
    expected = log_probabilities(network, fast.trees[Task.FRACTURE], prompts, tokens)[0]
    layer.down_proj = kept
    fast.forget_graphs()
    assert not torch.allclose(changed, before, atol=1e-3)
    assert torch.allclose(changed.softmax(-1), expected.softmax(-1), atol=1e-4)
