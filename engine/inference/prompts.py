"""What the model is asked. Training and reading build their prompts here and nowhere else."""

from __future__ import annotations

from engine.findings.answers import Task
from engine.inference.read import ReadContext

TRIAGE = "triage"
QUESTIONS = {
    Task.BONE_AGE: "Estimate the bone age of this hand radiograph.",
    Task.ROP: "Grade this fundus image for retinopathy of prematurity.",
    Task.FRACTURE: "Is there a fracture on this wrist radiograph?",
    TRIAGE: "Which view is this: hand, fundus, wrist or other?",
}
SEX_WORDS = {"M": "male", "F": "female"}


IN_WORDS = "Describe in a few sentences what in the image speaks for and against your answer."


def prompt_text(task: str, context: ReadContext) -> str:
    """The user's turn without the image. Sex follows where known, and the age for a fracture.

    The age is left out of the bone age prompt on purpose: bone age is held against the child's age, and a reader
    told the age would drift towards it. For ROP the postmenstrual age would count, which no tag carries."""
    parts = [QUESTIONS[task]]
    if task != TRIAGE and context.sex is not None:
        parts.append(f"Sex: {SEX_WORDS[context.sex]}.")
    if task == Task.FRACTURE and context.age_months is not None:
        parts.append(f"Age: {round(context.age_months)} months.")
    return " ".join(parts)


def chat(text: str) -> list[dict]:
    """The conversation for `processor.apply_chat_template`."""
    return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]


def prompt_ids(processor, task: str, context: ReadContext, *, in_words: bool = False) -> list[int]:
    """Token ids up to where the answer begins, the image's soft tokens included. `in_words`: asks for prose."""
    question = prompt_text(task, context) + (f" {IN_WORDS}" if in_words else "")
    text = processor.apply_chat_template(chat(question), tokenize=False, add_generation_prompt=True)
    bos = processor.tokenizer.bos_token
    text = text.removeprefix(bos).replace(processor.boi_token, processor.full_image_sequence)
    return [processor.tokenizer.bos_token_id, *processor.tokenizer(text, add_special_tokens=False)["input_ids"]]
