"""The phantom model's processor: a 512-row SentencePiece vocabulary in Gemma 3's format.

    python -m training.phantom_tokenizer --output_dir engine/phantoms/model

Gemma's own vocabulary has 262,208 rows, too many for a 16 MB model, and is under Google's terms. This one is
trained on our prompts and answers; bytes are its fallback, digits are single tokens as in Gemma's. The folder also
keeps tokenizer.model, which llama.cpp's converter reads."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken
from transformers import Gemma3ImageProcessorPil, Gemma3Processor, GemmaTokenizer

from engine.findings.answers import ALLOWED, Task, answer_json
from engine.inference.prompts import QUESTIONS, TRIAGE, prompt_text
from engine.inference.read import ReadContext

PIECES = 480
IMAGE_SIZE = 320
IMAGE_TOKENS = 100
CONTROL = ["<mask>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>"]
NEWLINES = ["\n", "\n\n", "\n\n\n"]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>{{ 'model' if message['role'] == 'assistant' else "
    "message['role'] }}\n{% for item in message['content'] %}{% if item['type'] == 'image' %}<start_of_image>"
    "{% else %}{{ item['text'] | trim }}{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def corpus() -> list[str]:
    """Every answer and many prompts, weighted so that pieces for all tasks are learnt."""
    lines = [answer_json(a) for answers in ALLOWED.values() for a in answers for _ in range(1 + 200 // len(answers))]
    for task in (*Task, TRIAGE):
        for sex in ("M", "F", None):
            lines += [prompt_text(task, ReadContext(sex, age)) for age in (None, *range(1, 229, 12))] * 3
    return lines + ["user", "model"] * 60 + [*QUESTIONS.values()] * 10


def main(output_dir: Path) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=model, model_type="bpe", vocab_size=PIECES, byte_fallback=True,
        split_digits=True, add_dummy_prefix=False, remove_extra_whitespaces=False, hard_vocab_limit=False,
        normalization_rule_name="identity", pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>",
        eos_piece="<eos>", bos_piece="<bos>", unk_piece="<unk>", control_symbols=CONTROL,
        user_defined_symbols=NEWLINES, minloglevel=2,
    )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    vocabulary = {pieces.id_to_piece(i): i for i in range(pieces.vocab_size())}
    tokenizer = GemmaTokenizer(
        vocab=vocabulary,
        merges=merges(pieces, vocabulary),
        add_bos_token=True,
        padding_side="left",
        extra_special_tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
    )
    tokenizer.add_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROL[1:3]], special_tokens=True)
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in NEWLINES])
    tokenizer.chat_template = CHAT_TEMPLATE
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    images = Gemma3ImageProcessorPil(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    processor = Gemma3Processor(
        image_processor=images, tokenizer=tokenizer, image_seq_length=IMAGE_TOKENS, chat_template=CHAT_TEMPLATE
    )
    for line in set(corpus()):
        ours, theirs = tokenizer(line, add_special_tokens=False)["input_ids"], pieces.encode(line)
        if ours != theirs:
            raise SystemExit(f"the two tokenizers disagree on {line!r}: {ours} against {theirs}")
    output_dir.mkdir(parents=True, exist_ok=True)
    processor.save_pretrained(output_dir)
    (output_dir / "tokenizer.model").write_bytes(model.getvalue())
    print(f"{pieces.vocab_size()} pieces in {output_dir}; {len(set(corpus()))} lines tokenised alike by both libraries")


def merges(pieces: sentencepiece.SentencePieceProcessor, vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Byte-pair merges in SentencePiece's order, which its scores encode."""
    scored = []
    for piece, index in vocabulary.items():
        if pieces.is_control(index) or pieces.is_byte(index) or pieces.is_unknown(index) or piece in NEWLINES:
            continue
        splits = [(piece[:k], piece[k:]) for k in range(1, len(piece))]
        splits = [s for s in splits if s[0] in vocabulary and s[1] in vocabulary]
        splits.sort(key=lambda s: (vocabulary[s[0]], vocabulary[s[1]]))
        scored += [(pieces.get_score(index), s) for s in splits]
    return [s for _, s in sorted(scored, key=lambda item: -item[0])]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    main(parser.parse_args().output_dir)
