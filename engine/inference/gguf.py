"""Reading through llama.cpp: a folder that training.export_gguf made, by the same prompts and answer trees.

llama.cpp puts the image block into the prompt without the blank lines that Gemma3Processor has around it, so they are
written beside the image marker here; a prompt whose tokens are not exactly those of `prompt_ids` raises ValueError.
The chat endpoint cannot do that (the template trims the text), so prompts go to /completion.

PEDISCREEN_MODEL=D/gguf has a worker read so. There is no gate, for llama.cpp does not give out image features: an image
of something else gets a read like any other. The phantom model, which must abstain on real films, is therefore never
read so but for checks."""

from __future__ import annotations

import base64
import io
import json
import math
import secrets
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor

from engine.errors import ModelUnavailable, ReaderUnavailable, Refused
from engine.findings.answers import ALLOWED, Task, View
from engine.imaging.preprocess import model_pixels
from engine.inference.answer_tree import AnswerTree
from engine.inference.model_folder import GGUF_FILE, ReadingCard, version_name
from engine.inference.prompts import TRIAGE, chat, prompt_ids, prompt_text
from engine.inference.read import Read, ReadContext
from engine.inference.reader import SEX_UNKNOWN, no_read, read_of

VISION_FILE = "mmproj-f16.gguf"
MOST_LIKELY = 100  # next tokens asked for; one that is not among them counts as impossible
LEAST_REACH = 1e-4  # a branch of the answer tree under this probability is not followed
CONTEXT_TOKENS = 2048


class GgufReader:
    """llama.cpp with a model's two files, on a loopback port of this process, behind a key of its own."""

    def __init__(self, folder: Path, *, text_file: str = GGUF_FILE) -> None:
        """Raises ModelUnavailable where llama.cpp or a file is missing or cannot be loaded."""
        try:
            import xllamacpp
        except ImportError as error:
            raise ModelUnavailable("llama.cpp is not installed: pip install 'pediscreen[gguf]'") from error
        for name in (text_file, VISION_FILE):
            if not (folder / name).is_file():
                raise ModelUnavailable(f"{folder} holds no {name}: run python -m training.export_gguf")
        self.processor = AutoProcessor.from_pretrained(folder, backend="pil")
        self.card = ReadingCard.of(folder, folder.name)
        self.model_version = version_name(folder)
        self.is_phantom = self.card.is_phantom
        self.is_on_gpu = False
        self._trees = {task: AnswerTree.build(answers, self.processor.tokenizer) for task, answers in ALLOWED.items()}
        self._prompts: dict[str, tuple[str, str]] = {}
        self._key = secrets.token_hex(16)
        settings = xllamacpp.CommonParams()
        settings.model.path, settings.mmproj.path = str(folder / text_file), str(folder / VISION_FILE)
        settings.n_ctx, settings.n_parallel, settings.warmup, settings.verbosity = CONTEXT_TOKENS, 1, False, 0
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = torch.get_num_threads()
        settings.api_keys = [self._key]
        try:
            self._server = xllamacpp.Server(settings)
        except RuntimeError as error:
            raise ModelUnavailable(f"llama.cpp cannot load {folder}: {error}") from error
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes by a proxy
        self._marker = self._ask("/props")["media_marker"]

    def check_tokens(self) -> None:
        """Raises ValueError if llama.cpp makes other tokens of a prompt than training did."""
        for task in (*Task, TRIAGE):
            self._prompt(task, ReadContext("F", 90))

    @property
    def image_processor(self):
        return self.processor.image_processor

    def read(self, images: Sequence[Image.Image], task: Task, contexts: Sequence[ReadContext]) -> list[Read]:
        """As `Reader.read`, without the gate."""
        return self.read_pixels(model_pixels(images, self.image_processor), task, contexts)

    def read_pixels(self, pixels: np.ndarray, task: Task, contexts: Sequence[ReadContext]) -> list[Read]:
        """As `Reader.read_pixels`, one by one and without the gate."""
        return [self._read(one, Task(task), context) for one, context in zip(pixels, contexts, strict=True)]

    def triage_pixels(self, pixels: np.ndarray) -> list[tuple[View, dict[str, float]]]:
        """As `Reader.triage_pixels`, without the gate."""
        if not self.card.knows_triage:
            return [(View.OTHER, {})] * len(pixels)
        shares = [self._probabilities(one, TRIAGE, ReadContext()) for one in pixels]
        return [
            (list(View)[int(p.argmax())], {view.value: float(q) for view, q in zip(View, p, strict=True)})
            for p in shares
        ]

    def words(self, pixels: np.ndarray, task: Task, context: ReadContext) -> Iterator[str]:
        raise Refused("no_words", "Read through llama.cpp, this model gives no explanation.")

    def _read(self, pixels: np.ndarray, task: Task, context: ReadContext) -> Read:
        start = time.perf_counter()
        if task is Task.BONE_AGE and context.sex is None:
            return no_read(task, SEX_UNKNOWN, self.model_version, 0.0)
        p = self._probabilities(pixels, task, context)
        milliseconds = (time.perf_counter() - start) * 1000
        return read_of(task, self._trees[task].answers, p, self.model_version, milliseconds)

    def probabilities(self, image: Image.Image, task: str, context: ReadContext) -> torch.Tensor:
        """(n_answers,) float64 over the closed set, summing to 1."""
        return self._probabilities(model_pixels([image], self.image_processor)[0], task, context)

    def _probabilities(self, pixels: np.ndarray, task: str, context: ReadContext) -> torch.Tensor:
        tree = self._trees[task]
        before, after = self._prompt(task, context)
        ids = prompt_ids(self.processor, task, context)
        picture = _png(pixels)
        paths: list[list[int]] = [[]]  # node 0 is the head; node i + 1 the tree's node i
        children = defaultdict(list)
        for node, (token, parent) in enumerate(zip(tree.node_ids, tree.parents, strict=True)):
            paths.append([*paths[parent + 1], token])
            children[parent + 1].append((node + 1, token))
        reach = [0.0] + [-math.inf] * len(tree.node_ids)
        said: dict[int, dict[int, float]] = {}
        for node, path in enumerate(paths):  # parents come first
            if reach[node] < math.log(LEAST_REACH):
                continue
            begun = [*tree.head_ids, *path]
            text = before + self._marker + after + self.processor.tokenizer.decode(begun)
            said[node] = self._next_token(text, picture, len(ids) + len(begun))
            for child, token in children[node]:
                reach[child] = reach[node] + said[node].get(token, -math.inf)
        scores = torch.zeros(len(tree.answers), dtype=torch.float64)
        steps = (tree.step_answers.tolist(), tree.step_nodes.tolist(), tree.step_tokens.tolist())
        for answer, node, token in zip(*steps, strict=True):
            scores[answer] += said.get(node, {}).get(token, -math.inf)
        return scores.softmax(0)

    def _prompt(self, task: str, context: ReadContext) -> tuple[str, str]:
        """The prompt before and after the image. Raises ValueError if llama.cpp makes other tokens of it than we."""
        question = prompt_text(task, context)
        if question not in self._prompts:
            text = self.processor.apply_chat_template(chat(question), tokenize=False, add_generation_prompt=True)
            before, after = text.removeprefix(self.processor.tokenizer.bos_token).split(self.processor.boi_token)
            before, after = before + "\n\n", "\n\n" + after
            ids = prompt_ids(self.processor, task, context)
            begin = ids.index(self.processor.tokenizer.boi_token_id)
            end = ids.index(self.processor.tokenizer.eoi_token_id)
            for part, theirs, ours in (
                ("before", self._tokens(before, add_special=True), ids[:begin]),
                ("after", self._tokens(after, add_special=False), ids[end + 1 :]),
            ):
                if theirs != ours:
                    raise ValueError(f"{part} the image llama.cpp has the tokens {theirs}, training had {ours}")
            self._prompts[question] = before, after
        return self._prompts[question]

    def _tokens(self, text: str, *, add_special: bool) -> list[int]:
        return self._ask("/tokenize", {"content": text, "add_special": add_special, "parse_special": True})["tokens"]

    def _next_token(self, text: str, picture: str, length: int) -> dict[int, float]:
        """Log-probabilities of the most likely next tokens. `length`: of the sequence in tokens, image included."""
        body = {
            "prompt": {"prompt_string": text, "multimodal_data": [picture]},
            "n_predict": 1,
            "n_probs": MOST_LIKELY,
            "temperature": 0,
            "cache_prompt": True,
        }
        answer = self._ask("/completion", body)
        if answer["tokens_evaluated"] != length:
            raise ValueError(f"llama.cpp read {answer['tokens_evaluated']} tokens, training had {length}")
        return {top["id"]: top["logprob"] for top in answer["completion_probabilities"][0]["top_logprobs"]}

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        request = urllib.request.Request(self._server.listening_address + path, data, headers)
        try:
            with self._opener.open(request) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise ModelUnavailable(
                f"llama.cpp refused {path}: {error.read().decode(errors='replace')[:300]}"
            ) from error
        except OSError as error:
            raise ReaderUnavailable(f"llama.cpp does not answer: {error}") from error


def _png(pixels: np.ndarray) -> str:
    """(3, side, side) uint8, as large as the tower takes them so that llama.cpp has nothing to resize, in base64."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(file, "PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode()
