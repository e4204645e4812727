"""Reading through llama.cpp: a folder that training.export_gguf made, by the same prompts and answer trees.

llama.cpp puts the image block into the prompt without the blank lines that Gemma3Processor has around it, so they are
written beside the image marker here; a prompt whose tokens are not exactly those of `prompt_ids` raises ValueError.
The chat endpoint cannot do that (the template trims the text), so prompts go to /completion.

There is no gate, for llama.cpp does not give out image features: this reader checks an export and is not for the
worklist."""

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor

from engine.errors import ModelUnavailable
from engine.findings.answers import ALLOWED, Task
from engine.inference.answer_tree import AnswerTree
from engine.inference.checkpoint import ReadingCard
from engine.inference.prompts import chat, prompt_ids, prompt_text
from engine.inference.read import Read, ReadContext
from engine.inference.reader import SEX_UNKNOWN, no_read, read_of

TEXT_FILE, VISION_FILE = "model-Q4_K_M.gguf", "mmproj-f16.gguf"
MOST_LIKELY = 100  # next tokens asked for; one that is not among them counts as impossible
LEAST_REACH = 1e-4  # a branch of the answer tree under this probability is not followed
CONTEXT_TOKENS = 2048


class GgufReader:
    """llama.cpp with a model's two files, on a loopback port of this process, behind a key of its own."""

    def __init__(self, folder: Path, *, text_file: str = TEXT_FILE) -> None:
        """Raises ModelUnavailable where llama.cpp or a file is missing or cannot be loaded."""
        try:
            import xllamacpp
        except ImportError as error:
            raise ModelUnavailable("llama.cpp is not installed: pip install 'pediscreen[gguf]'") from error
        for name in (text_file, VISION_FILE):
            if not (folder / name).is_file():
                raise ModelUnavailable(f"{folder} holds no {name}: run python -m training.export_gguf")
        self.processor = AutoProcessor.from_pretrained(folder, backend="pil")
        self.card = ReadingCard(**json.loads((folder / "reading.json").read_text(encoding="utf-8")))
        self.model_version = f"{self.card.name} gguf"
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

    def read(self, images: Sequence[Image.Image], task: Task, contexts: Sequence[ReadContext]) -> list[Read]:
        """As `Reader.read`, without the gate."""
        return [self._read(image, Task(task), context) for image, context in zip(images, contexts, strict=True)]

    def _read(self, image: Image.Image, task: Task, context: ReadContext) -> Read:
        start = time.perf_counter()
        if task is Task.BONE_AGE and context.sex is None:
            return no_read(task, SEX_UNKNOWN, self.model_version, 0.0)
        p = self.probabilities(image, task, context)
        milliseconds = (time.perf_counter() - start) * 1000
        return read_of(task, self._trees[task].answers, p, self.model_version, milliseconds)

    def probabilities(self, image: Image.Image, task: str, context: ReadContext) -> torch.Tensor:
        """(n_answers,) float64 over the closed set, summing to 1."""
        tree = self._trees[task]
        before, after = self._prompt(task, context)
        ids = prompt_ids(self.processor, task, context)
        picture = self._picture(image)
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

    def _picture(self, image: Image.Image) -> str:
        """The image as the processor resizes it, so that llama.cpp has nothing to resize; PNG in base64."""
        processor = self.processor.image_processor
        pixels = processor([image], return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        grey = (pixels * np.array(processor.image_std) + np.array(processor.image_mean)) * 255
        file = io.BytesIO()
        Image.fromarray(grey.round().astype(np.uint8)).save(file, "PNG", compress_level=1)
        return base64.b64encode(file.getvalue()).decode()

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
