"""Phantoms for training: drawn by worker processes, kept on the device, sampled in batches.

Endless fresh images are what keeps a small model from learning its training set by heart; the store lets each be seen
a few times, since a GPU trains faster than the cores draw."""

from __future__ import annotations

import threading
import time

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from engine.findings.answers import Fracture, Plus, Stage, View, Zone
from engine.imaging.display import display_pixels
from engine.imaging.preprocess import model_image
from engine.phantoms import seeds
from engine.phantoms.centres import centres
from engine.phantoms.draw import DRAW, RADIOGRAPHS, training_site
from engine.phantoms.other import other
from engine.phantoms.phantom import Phantom
from training.phantom_tokenizer import IMAGE_SIZE

SEXES = "MF"
VIEWS = list(View)
CENTRES = len(centres("M"))


def labels_of(view: View, phantom: Phantom) -> np.ndarray:
    """Hand: months, sex, banding, maturities. Fundus: zone, stage, plus, ratio, sex. Wrist: class, sex, age, banding,
    growth arrest. (float32)"""
    sex, answer, truth = SEXES.index(phantom.sex), phantom.answer, phantom.truth
    if view is View.HAND:
        return np.array(
            [answer["bone_age_months"], sex, truth["banding"], *truth["maturity_months"].values()], np.float32
        )
    if view is View.FUNDUS:
        marks = (
            list(Zone).index(answer["zone"]),
            list(Stage).index(answer["stage"]),
            list(Plus).index(answer["plus_disease"]),
        )
        return np.array([*marks, truth["zone_ratio"], sex], np.float32)
    looks = (truth["banding"], truth["growth_arrest"])
    return np.array([list(Fracture).index(answer["fracture"]), sex, phantom.age_months, *looks], np.float32)


LABELS = {View.HAND: 3 + CENTRES, View.FUNDUS: 5, View.WRIST: 5, View.OTHER: 1}


def draw_one(view: View, seed: int, site: str) -> tuple[np.ndarray, np.ndarray]:
    """(channels, IMAGE_SIZE, IMAGE_SIZE) uint8 as the model's processor would resize it, and the labels."""
    if view is View.OTHER:
        display, labels = other(seed), np.zeros(1, np.float32)
    else:
        phantom = DRAW[view](seed, site=site, film_scale=2.0 if seed % 20 == 0 else 1.0)
        display, labels = display_pixels(phantom.film()), labels_of(view, phantom)
    image = model_image(display).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return (pixels[None, :, :, 0] if view in RADIOGRAPHS else pixels.transpose(2, 0, 1)), labels


def draw_many(view: View, first_seed: int, count: int, site: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Without a `site`: of the varied one too, as `training_site` has it."""
    drawn = [draw_one(view, seed, site or training_site(view, seed)) for seed in range(first_seed, first_seed + count)]
    images, labels = zip(*drawn, strict=True)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels))


class PhantomStream(IterableDataset):
    """Endless chunks of fresh phantoms, each worker from seeds of its own, in the proportions of a batch."""

    def __init__(self, seed: int, counts: dict[View, int]) -> None:
        self.seed, self.chunk = seed, {v: max(1, n // 4) for v, n in counts.items()}

    def __iter__(self):
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        turn = worker
        while True:
            for view, count in self.chunk.items():
                first = seeds.TRAINING + (self.seed * 20_000_000 + turn * 64) % 1_000_000_000
                yield (view.value, *draw_many(view, first, count))
            turn += workers


def _validation_chunk(job: tuple[str, int]) -> tuple[str, torch.Tensor, torch.Tensor]:
    view, chunk = View(job[0]), job[1]
    return (job[0], *draw_many(view, seeds.VALIDATION + chunk * 50, 50, "A"))


class FilmStore:
    """The latest phantoms of each view, on the device; a thread keeps filling it."""

    def __init__(self, capacity: dict[View, int], device: str) -> None:
        def empty(view: View) -> torch.Tensor:
            shape = (capacity[view], 1 if view in RADIOGRAPHS else 3, IMAGE_SIZE, IMAGE_SIZE)
            return torch.empty(shape, dtype=torch.uint8, device=device)

        self.images = {v: empty(v) for v in VIEWS}
        self.labels = {v: torch.zeros(capacity[v], LABELS[v], device=device) for v in VIEWS}
        self.made = dict.fromkeys(VIEWS, 0)
        self.device = device

    @property
    def drawn(self) -> dict[str, int]:
        return {v.value: n for v, n in self.made.items()}

    def fill_from(self, stream: DataLoader) -> None:
        def run() -> None:
            # A stream of its own: on the default one every copy would wait for the training steps queued before it.
            with torch.cuda.stream(torch.cuda.Stream() if self.device == "cuda" else None):
                for name, images, labels in stream:
                    view = View(name)
                    at = (self.made[view] + torch.arange(len(images))) % len(self.images[view])
                    at = at.to(self.device)
                    self.images[view][at] = images.to(self.device)
                    self.labels[view][at] = labels.to(self.device)
                    if self.device == "cuda":
                        torch.cuda.current_stream().synchronize()
                    self.made[view] += len(images)

        threading.Thread(target=run, daemon=True).start()

    def wait_for(self, hands: int) -> None:
        while self.made[View.HAND] < hands or min(self.made.values()) < 64:
            time.sleep(0.2)

    def sample(self, view: View, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Model pixels (count, 3, size, size) with a random flip and brightness, and labels."""
        filled = min(self.made[view], len(self.images[view]))
        at = torch.randint(0, filled, (count,), device=self.device)
        pixels = to_model_pixels(self.images[view][at])
        flip = torch.rand(count, device=self.device) < 0.5
        pixels = torch.where(flip[:, None, None, None], pixels.flip(-1), pixels)
        gain = 1 + 0.08 * torch.randn(count, 1, 1, 1, device=self.device)
        return pixels * gain + 0.05 * torch.randn(count, 1, 1, 1, device=self.device), self.labels[view][at]

    def validation_set(self, count: int, workers: int) -> dict[View, tuple[torch.Tensor, torch.Tensor]]:
        jobs = [(v.value, k) for v in DRAW for k in range(count // 50)]
        with torch.multiprocessing.get_context("fork").Pool(workers) as pool:
            chunks = pool.map(_validation_chunk, jobs, chunksize=1)
        return {
            v: tuple(torch.cat([c[i] for c in chunks if c[0] == v.value]).to(self.device) for i in (1, 2)) for v in DRAW
        }


def to_model_pixels(images: torch.Tensor) -> torch.Tensor:
    """(n, 1 or 3, size, size) uint8 to (n, 3, size, size) in [-1, 1], as the processor normalises."""
    return (images.float() / 127.5 - 1).expand(-1, 3, -1, -1)
