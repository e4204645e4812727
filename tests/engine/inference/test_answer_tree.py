"""The one-pass scores against brute force: each whole sequence through the model by itself."""

import pytest
import torch

from engine.findings.answers import ALLOWED, Task, answer_json
from engine.inference.answer_tree import AnswerTree, log_probabilities, probabilities
from engine.inference.prompts import TRIAGE, prompt_ids
from engine.inference.read import ReadContext
from engine.phantoms.hand import hand
from tests.engine.inference.pictures import library_tokens, picture


def brute_force(network, processor, prompt, pixels, answers) -> torch.Tensor:
    """Log-probability of each whole answer, by the library's own forward pass and masks."""
    image_token = network.config.image_token_id
    scores = []
    for answer in answers:
        ids = processor.tokenizer(answer_json(answer), add_special_tokens=False)["input_ids"]
        row = torch.tensor([prompt + ids])
        logits = network(
            input_ids=row,
            attention_mask=torch.ones_like(row),
            token_type_ids=(row == image_token).long(),
            pixel_values=pixels,
        ).logits[0, len(prompt) - 1 : -1]
        scores.append(logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum())
    return torch.stack(scores)


@torch.inference_mode()
@pytest.mark.parametrize("task", [*Task, TRIAGE])
def test_equals_scoring_whole_sequences(network, processor, pixels, task):
    tree = AnswerTree.build(ALLOWED[task], processor.tokenizer)
    prompt = prompt_ids(processor, task, ReadContext("F", 100))
    ours = probabilities(network, tree, [prompt], library_tokens(network, pixels[:1]))[0]
    assert ours.sum().item() == pytest.approx(1, abs=1e-9)
    some = list(range(0, len(tree.answers), max(1, len(tree.answers) // 18)))
    theirs = brute_force(network, processor, prompt, pixels[:1], [tree.answers[i] for i in some])
    answers, head = log_probabilities(network, tree, [prompt], library_tokens(network, pixels[:1]))
    assert torch.allclose(answers[0, some] + head[0].sum(), theirs, atol=1e-3)
    renormalised = ours[some] / ours[some].sum()
    assert torch.allclose(renormalised.float(), theirs.softmax(0), atol=1e-4)


@torch.inference_mode()
def test_a_sliding_window_shorter_than_the_prompt(network, processor, pixels):
    kept = network.config.text_config.sliding_window
    tree = AnswerTree.build(ALLOWED[Task.ROP], processor.tokenizer)
    prompt = prompt_ids(processor, Task.ROP, ReadContext())
    try:
        network.config.text_config.sliding_window = 12
        for layer in network.model.language_model.layers:
            if layer.self_attn.sliding_window:
                layer.self_attn.sliding_window = 12
        ours = probabilities(network, tree, [prompt], library_tokens(network, pixels[:1]))[0]
        theirs = brute_force(network, processor, prompt, pixels[:1], tree.answers[::4]).softmax(0)
    finally:
        network.config.text_config.sliding_window = kept
        for layer in network.model.language_model.layers:
            if layer.self_attn.sliding_window:
                layer.self_attn.sliding_window = kept
    some = ours[::4] / ours[::4].sum()
    assert torch.allclose(some.float(), theirs, atol=1e-4)


@torch.inference_mode()
def test_prompts_of_different_length_share_a_batch(network, processor, pixels):
    tree = AnswerTree.build(ALLOWED[Task.FRACTURE], processor.tokenizer)
    prompts = [prompt_ids(processor, Task.FRACTURE, c) for c in (ReadContext(), ReadContext("M", 104))]
    tokens = library_tokens(network, pixels)
    together = probabilities(network, tree, prompts, tokens)
    alone = torch.cat([probabilities(network, tree, [p], t[None]) for p, t in zip(prompts, tokens, strict=True)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_the_trie_holds_every_answer_once(processor):
    tree = AnswerTree.build(ALLOWED[Task.BONE_AGE], processor.tokenizer)
    assert len(tree.answers) == 229
    assert len(tree.node_ids) == 229  # one node a number: each is a last digit; the closing brace needs none
    assert processor.tokenizer.decode(tree.head_ids) == '{"task":"bone_age","bone_age_months":'


@pytest.mark.parametrize("lost", ["0123456789", "}", '"'])
def test_a_tokenizer_that_loses_something_of_an_answer_is_refused(lost):
    """Without digits all bone ages are one; without the brace one month begins another."""

    class Letters:
        def __call__(self, text, add_special_tokens):
            return {"input_ids": [ord(c) for c in text if c not in lost]}

        def decode(self, ids, clean_up_tokenization_spaces):
            return "".join(map(chr, ids))

    with pytest.raises(ValueError, match="of the answer"):
        AnswerTree.build(ALLOWED[Task.BONE_AGE], Letters())


def test_prompt_ids_are_the_processors_own(processor):
    """The ids that training and reading use equal what Gemma3Processor makes of the same conversation."""
    from engine.inference.prompts import chat, prompt_text

    for task in (*Task, TRIAGE):
        context = ReadContext("M", 60)
        text = processor.apply_chat_template(
            chat(prompt_text(task, context)), tokenize=False, add_generation_prompt=True
        ).removeprefix("<bos>")
        theirs = processor(text=text, images=[picture(hand(1))], return_tensors="pt")["input_ids"][0].tolist()
        assert prompt_ids(processor, task, context) == theirs
