"""The reader: images in, scored reads out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from transformers import DynamicCache

from engine.errors import ReaderUnavailable, ReadFailed, Refused
from engine.findings.answers import ALLOWED, TASK_OF_VIEW, Answer, Fracture, Plus, Stage, Task, View, Zone
from engine.imaging.preprocess import model_pixels
from engine.inference import gpu
from engine.inference.answer_tree import AnswerTree, probabilities
from engine.inference.fast_pass import BATCH_SIZES, FastPass
from engine.inference.gate import FeatureGate, pooled
from engine.inference.prompts import TRIAGE, prompt_ids, prompt_text
from engine.inference.read import Read, ReadContext

log = logging.getLogger(__name__)
T = TypeVar("T")

VIEW_OF_TASK = {task: view for view, task in TASK_OF_VIEW.items()}
INTERVAL = (0.10, 0.90)  # the 80 % interval of a bone age
SEX_UNKNOWN = "The sex is not known, and bone age is read against the standard of one sex."
# of probability: zone I or a fracture missed costs four times what it costs when called in vain; the four is unverified
ZONE_I_FROM = FRACTURE_FROM = 0.2
NO_WORDS = "The phantom model gives no explanation: it was taught the answers of its tasks and no other words."
MOST_WORD_TOKENS = 200
IMAGES_AT_ONCE = 8  # through the network on a CPU; more gain nothing there and cost memory


class Reader:
    """A loaded model with its processor. Threads may share it; they take turns."""

    def __init__(
        self, network, processor, *, model_version: str, is_phantom: bool, gate: FeatureGate | None, knows_triage: bool
    ) -> None:
        self.network = network.get_base_model() if hasattr(network, "get_base_model") else network
        self.processor = processor
        self.model_version = model_version
        self.is_phantom = is_phantom
        self.gate = gate
        self.knows_triage = knows_triage
        self._trees = {task: AnswerTree.build(answers, processor.tokenizer) for task, answers in ALLOWED.items()}
        self._prompts: dict[tuple[str, str], list[int]] = {}
        self._turn = threading.Lock()
        self._fast = None
        self._at_once = IMAGES_AT_ONCE
        shown = processor.image_processor
        mean, std = (torch.tensor(list(v)) / shown.rescale_factor for v in (shown.image_mean, shown.image_std))
        self._mean, self._std = mean[:, None, None], std[:, None, None]
        if self.network.device.type == "cuda":
            self._fast = FastPass(self.network, self._trees, mean, std)
            self._at_once = BATCH_SIZES[-1]

    def read(self, images: Sequence[Image.Image], task: Task, contexts: Sequence[ReadContext]) -> list[Read]:
        """One read an image, in order. `images` come from `engine.imaging.preprocess.model_image`.

        An image unlike the training images of the task's view gets no read but the reason; so does a hand without a
        known sex. Raises ReadFailed where the network's numbers are none for one of these images, ReaderUnavailable
        where they are none for any, ReaderLost where the GPU is gone."""
        if len(images) != len(contexts):
            raise ValueError(f"{len(images)} images but {len(contexts)} contexts")
        return self._in_parts(
            len(images), lambda part: self._read(lambda: self._seen(images[part]), Task(task), contexts[part])
        )

    def read_pixels(self, pixels: torch.Tensor | np.ndarray, task: Task, contexts: Sequence[ReadContext]) -> list[Read]:
        """`read` of what engine.imaging.preprocess.model_pixels makes of images with `image_processor`: for whoever
        prepares images ahead of the network."""
        return self._in_parts(
            len(pixels),
            lambda part: self._read(lambda: self._pixel_tokens(pixels[part]), Task(task), contexts[part]),
        )

    def read_tokens(self, tokens: torch.Tensor, task: Task, contexts: Sequence[ReadContext]) -> list[Read]:
        """`read` of images whose `image_tokens` are known, (n, image tokens, hidden): most of the time goes there, and
        models that differ in the language model only have them in common."""
        return self._in_parts(len(tokens), lambda part: self._read(lambda: tokens[part], Task(task), contexts[part]))

    def triage(self, images: Sequence[Image.Image]) -> list[tuple[View, dict[str, float]]]:
        """What each image shows, with the probability of every view. A model that was not trained to tell answers
        `other` with no probabilities, so that a person routes the image."""
        return self._triage(len(images), lambda part: self._seen(images[part]))

    def triage_pixels(self, pixels: torch.Tensor | np.ndarray) -> list[tuple[View, dict[str, float]]]:
        """`triage`, as `read_pixels` is to `read`."""
        return self._triage(len(pixels), lambda part: self._pixel_tokens(pixels[part]))

    def _triage(self, count: int, see: Callable[[slice], torch.Tensor]) -> list[tuple[View, dict[str, float]]]:
        if not self.knows_triage:
            return [(View.OTHER, {})] * count

        def of(part: slice) -> list[tuple[View, dict[str, float]]]:
            tokens = see(part)
            return [self._view_of(row, p) for row, p in zip(tokens, self._views(tokens), strict=True)]

        return self._in_parts(count, of)

    @property
    def is_on_gpu(self) -> bool:
        return self._fast is not None

    def warm_up(self, largest: int) -> None:
        """Reads blank images, 1, 2, 4, ... `largest` at a time, so that what a GPU compiles and records for each number
        of them keeps nobody waiting later. Nothing on a processor. Raises ReaderUnavailable, ReaderLost."""
        if self._fast is None:
            return
        side = self.image_processor.size["height"]
        for size in (size for size in BATCH_SIZES if size <= largest):
            blank = torch.full((size, 3, side, side), 128, dtype=torch.uint8)
            for task in [*Task] * 2:  # the first time plainly, the second time recorded
                self.read_pixels(blank, task, [ReadContext("F", 100)] * size)

    @property
    def image_processor(self):
        return self.processor.image_processor

    def layers_changed(self) -> None:
        """To be called after the network got other layers, such as an adapter's: a GPU has recorded those before."""
        if self._fast:
            self._fast.forget_graphs()

    def image_tokens(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """(n, image tokens, hidden): the projected output of the vision tower, by the library's own modules."""
        return self._library_tokens(self.image_processor(list(images), return_tensors="pt")["pixel_values"])

    def _library_tokens(self, normalised: torch.Tensor) -> torch.Tensor:
        pixels = normalised.to(
            self.network.device, self.network.model.multi_modal_projector.mm_input_projection_weight.dtype
        )
        vision = self.network.model.vision_tower(pixel_values=pixels).last_hidden_state
        return self.network.model.multi_modal_projector(vision)

    def _seen(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """`image_tokens`, the fast way where there is one."""
        if self._fast:
            return self._pixel_tokens(model_pixels(images, self.image_processor))
        return self.image_tokens(images)

    def _pixel_tokens(self, pixels: torch.Tensor | np.ndarray) -> torch.Tensor:
        pixels = torch.as_tensor(pixels)
        if self._fast:
            return self._fast.image_tokens(pixels)
        return self._library_tokens((pixels.float() - self._mean) / self._std)

    def _in_parts(self, count: int, work: Callable[[slice], list[T]]) -> list[T]:
        """`work` on as many images at once as the memory takes, in turn with other threads."""
        done: list[T] = []
        while len(done) < count:
            at_once = self._at_once
            try:
                with self._turn, torch.inference_mode():
                    done += work(slice(len(done), len(done) + at_once))
            except RuntimeError as error:
                if not gpu.is_full(error) or at_once == 1:
                    raise gpu.meaning(error) from error
                self._at_once = at_once // 2
                log.warning("the GPU's memory is full; images go through %d at a time now", self._at_once)
            if self._at_once < at_once and self._fast:  # here, where the exception no longer holds what was computed
                self._fast.forget_graphs()
        return done

    def words(self, pixels: torch.Tensor | np.ndarray, task: Task, context: ReadContext) -> Iterator[str]:
        """The model's own words about one image, (3, side, side) as `read_pixels` takes them, piece by piece. They are
        the likeliest continuation and no answer: nothing is to be read out of them. Other reads go on between two
        tokens. Raises Refused for the phantom model, which knows no prose; ReaderUnavailable, ReaderLost."""
        if self.is_phantom:
            raise Refused("no_words", NO_WORDS)
        tokenizer = self.processor.tokenizer
        ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<end_of_turn>")}
        ids = torch.tensor([prompt_ids(self.processor, task, context, in_words=True)])
        shown = torch.as_tensor(pixels)[None]
        cache = DynamicCache(config=self.network.config.get_text_config())
        said: list[int] = []
        text = ""
        logits = self._continued(cache, ids, shown)
        while len(said) < MOST_WORD_TOKENS and (token := int(logits.argmax())) not in ends:
            said.append(token)
            whole = tokenizer.decode(said, skip_special_tokens=True)
            if not whole.endswith("\ufffd"):  # a character of which a part is still to come
                yield whole[len(text) :]
                text = whole
            logits = self._continued(cache, torch.tensor([[token]]))

    def _continued(self, cache: DynamicCache, ids: torch.Tensor, pixels: torch.Tensor | None = None) -> torch.Tensor:
        """(vocabulary,) logits after `ids`, (1, n), which `cache` then holds; `pixels` with the prompt."""
        ids = ids.to(self.network.device)
        image = {}
        if pixels is not None:
            kinds = (ids == self.network.config.image_token_id).long()
            normalised = (pixels.float() - self._mean) / self._std
            dtype = self.network.model.multi_modal_projector.mm_input_projection_weight.dtype
            image = {"pixel_values": normalised.to(self.network.device, dtype), "token_type_ids": kinds}
        try:
            with self._turn, torch.inference_mode():
                out = self.network(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **image)
                logits = out.logits[0, -1].cpu()
        except RuntimeError as error:
            raise gpu.meaning(error) from error
        if not logits.isfinite().all():
            raise ReaderUnavailable("The network's output is not a number, so it has no words.")
        return logits

    def _probabilities(self, task: str, contexts: Sequence[ReadContext], tokens: torch.Tensor) -> torch.Tensor:
        """(n, n_answers) float64 on the CPU. Raises ReadFailed or ReaderUnavailable unless they are numbers."""
        p = self._scored(task, contexts, tokens)
        if p.isfinite().all():
            return p
        side = self.image_processor.size["height"]
        black = self._pixel_tokens(np.zeros((1, 3, side, side), np.uint8))
        if not self._scored(task, [ReadContext()], black).isfinite().all():
            raise ReaderUnavailable(
                f"The network's output is not a number, even for a black image: the files of {self.model_version}, or "
                "the GPU, are damaged. Run pediscreen doctor, and restore the model's folder."
            )
        bad = (~p.isfinite().all(1)).sum().item()
        raise ReadFailed(f"The network's output is not a number for {bad} of {len(p)} images, so there is no read.")

    def _scored(self, task: str, contexts: Sequence[ReadContext], tokens: torch.Tensor) -> torch.Tensor:
        prompts = [self._prompt(task, context) for context in contexts]
        if self._fast:
            return self._fast.scores(task, prompts, tokens).cpu().double().softmax(-1)
        return probabilities(self.network, self._trees[task], prompts, tokens).cpu()

    def _prompt(self, task: str, context: ReadContext) -> list[int]:
        key = (task, prompt_text(task, context))
        if key not in self._prompts:
            self._prompts[key] = prompt_ids(self.processor, task, context)
        return self._prompts[key]

    def _read(self, see: Callable[[], torch.Tensor], task: Task, contexts: Sequence[ReadContext]) -> list[Read]:
        """`see`: gives the image tokens."""
        begun = time.perf_counter()
        tokens = see()
        reasons = self._reasons_to_abstain(tokens, task, contexts)
        readable = [i for i, reason in enumerate(reasons) if reason is None]
        scored: dict[int, torch.Tensor] = {}
        if readable:
            shown = tokens if len(readable) == len(tokens) else tokens[readable]
            rows = self._probabilities(task, [contexts[i] for i in readable], shown)
            scored = dict(zip(readable, rows, strict=True))
        milliseconds = (time.perf_counter() - begun) * 1000 / len(tokens)
        return [
            read_of(task, self._trees[task].answers, scored[i], self.model_version, milliseconds)
            if reason is None
            else no_read(task, reason, self.model_version, milliseconds)
            for i, reason in enumerate(reasons)
        ]

    def _reasons_to_abstain(
        self, tokens: torch.Tensor, task: Task, contexts: Sequence[ReadContext]
    ) -> list[str | None]:
        view = VIEW_OF_TASK[task]
        reasons: list[str | None] = [
            SEX_UNKNOWN if task is Task.BONE_AGE and context.sex is None else None for context in contexts
        ]
        if self.gate is None:
            return reasons
        features = pooled(tokens)
        excess = self.gate.excess(view, features).tolist()
        for i, times in enumerate(excess):
            if times > 1 and reasons[i] is None:
                reasons[i] = self._strangeness(view, times, features[i : i + 1])
        return reasons

    def _strangeness(self, view: View, times: float, features: torch.Tensor) -> str:
        for other in TASK_OF_VIEW:
            if other is not view and self.gate.excess(other, features).item() <= 1:
                return f"The image does not look like a {view} image but like a {other} image."
        kind = "phantoms" if self.is_phantom else "images"
        return (
            f"The image is unlike the {view} {kind} this model was trained on ({times:.2f} times the distance up to "
            "which it may read)."
        )

    def _views(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, 4) probabilities in the order of View."""
        return self._probabilities(TRIAGE, [ReadContext()] * len(tokens), tokens)

    def _view_of(self, tokens: torch.Tensor, p: torch.Tensor) -> tuple[View, dict[str, float]]:
        view = list(View)[int(p.argmax())]
        if view is not View.OTHER and self.gate and self.gate.excess(view, pooled(tokens[None])).item() > 1:
            view = View.OTHER
        return view, {v.value: float(q) for v, q in zip(View, p, strict=True)}


def read_of(task: Task, answers: list[Answer], p: torch.Tensor, model_version: str, milliseconds: float) -> Read:
    """The read that the probabilities `p`, (n_answers,) in the order of `answers`, amount to."""
    median = interval = None
    if task is Task.BONE_AGE:
        below = p.cumsum(0)
        median = int((below < 0.5).sum())
        interval = (int((below < INTERVAL[0]).sum()), int((below < INTERVAL[1]).sum()))
        answer = answers[median]  # the median has the least expected absolute error
        by_answer = {str(a["bone_age_months"]): float(q) for a, q in zip(answers, p, strict=True)}
    elif task is Task.ROP:
        by_answer = _marginals(answers, p)
        zones = {Zone.I.value} if by_answer["zone"][Zone.I] >= ZONE_I_FROM else set(Zone)
        answer = answers[max((i for i, a in enumerate(answers) if a["zone"] in zones), key=lambda i: float(p[i]))]
    else:
        by_answer = _by(answers, p, "fracture", Fracture)
        is_normal = 1 - by_answer[Fracture.NORMAL] < FRACTURE_FROM
        called = {Fracture.NORMAL.value} if is_normal else set(Fracture) - {Fracture.NORMAL}
        answer = answers[max((i for i, a in enumerate(answers) if a["fracture"] in called), key=lambda i: float(p[i]))]
    return Read(task, answer, by_answer, median, interval, False, None, model_version, milliseconds)


def no_read(task: Task, reason: str, model_version: str, milliseconds: float) -> Read:
    return Read(task, None, {}, None, None, True, reason, model_version, milliseconds)


def _marginals(answers: list[Answer], p: torch.Tensor) -> dict[str, dict[str, float]]:
    fields = {"zone": Zone, "stage": Stage, "plus_disease": Plus}
    return {field: _by(answers, p, field, values) for field, values in fields.items()}


def _by(answers: list[Answer], p: torch.Tensor, field: str, values) -> dict[str, float]:
    total = {value.value: 0.0 for value in values}
    for answer, q in zip(answers, p.tolist(), strict=True):
        total[answer[field]] += q
    return total
