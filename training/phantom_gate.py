"""Fits the phantom model's gate: which images are enough like its training phantoms to be read.

    python -m training.phantom_gate --model engine/phantoms/model      (about fifteen minutes on two cores)

For each view: mean and covariance (Ledoit-Wolf) of the pooled image tokens of phantoms like those that the tower was
trained on, and as threshold the quantile of validation phantoms' distances that leaves `abstain_share` of them unread.
Features come from the 4-bit model, as a read's do.

An adapter that trains the vision tower moves the features; `refitted` then fits the gate anew to the few hundred images
the adapter was trained on (training.radiology_merge, --trained_on)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import KFold
from tqdm import tqdm
from transformers import HfArgumentParser

from engine.findings.answers import View
from engine.imaging.display import display_pixels
from engine.imaging.preprocess import model_image
from engine.inference.checkpoint import load_reader
from engine.inference.gate import FeatureGate, Neighbourhood, pooled
from engine.inference.reader import Reader
from engine.phantoms import seeds
from engine.phantoms.draw import DRAW, training_site

CHUNK = 16
FEWEST = 50  # images of a view for `refitted`
NOT_YET_SEEN = 500_000_000  # training seeds far from those a run reaches: features of images the weights do not know


@dataclass(frozen=True)
class PhantomGateConfig:
    model: Path = field(metadata={"help": "the model folder; gate.safetensors is written into it"})
    training_count: int = field(default=1500, metadata={"help": "phantoms a view for mean and covariance"})
    validation_count: int = field(default=300, metadata={"help": "phantoms a view for the threshold"})
    abstain_share: float = field(default=0.005, metadata={"help": "of validation phantoms left unread by the gate"})


def main(config: PhantomGateConfig) -> None:
    reader = load_reader(str(config.model), None, gated=False)
    views = {}
    for view in DRAW:
        training = features(reader, view, seeds.TRAINING + NOT_YET_SEEN, config.training_count)
        validation = features(reader, view, seeds.VALIDATION + 5_000, config.validation_count)
        views[view] = neighbourhood(training, validation, config.abstain_share)
        print(f"{view}: threshold {views[view].threshold:.2f} on {len(validation)} validation phantoms", flush=True)
    FeatureGate(views).save(config.model)


def neighbourhood(training: np.ndarray, validation: np.ndarray, abstain_share: float) -> Neighbourhood:
    """`training`, `validation`: (n, features)."""
    place = _around(training)
    distances = place.distance(torch.from_numpy(validation)).numpy()
    return replace(place, threshold=float(np.quantile(distances, 1 - abstain_share)))


def refitted(features: Mapping[View, np.ndarray]) -> FeatureGate:
    """A gate for each view from `features`, (n, features), of few images: the threshold is the largest distance of one
    of them from the others, a tenth at a time left out of mean and covariance.

    Raises ValueError for fewer than FEWEST images of a view."""
    views = {}
    for view, found in features.items():
        if len(found) < FEWEST:
            raise ValueError(f"{len(found)} {view} images are too few to fit a gate to; {FEWEST} are needed")
        folds = KFold(10, shuffle=True, random_state=0).split(found)
        farthest = max(
            float(_around(found[others]).distance(torch.from_numpy(found[held_out])).max())
            for others, held_out in folds
        )
        views[view] = replace(_around(found), threshold=farthest)
    return FeatureGate(views)


def _around(training: np.ndarray) -> Neighbourhood:
    """Without a threshold yet."""
    covariance = LedoitWolf().fit(training.astype(np.float64))
    whitening = np.linalg.cholesky(covariance.precision_).T  # upper triangular; whitening' whitening = precision
    return Neighbourhood(
        torch.from_numpy(covariance.location_).float(), torch.from_numpy(whitening).float(), threshold=1.0
    )


def features(reader: Reader, view: View, first_seed: int, count: int) -> np.ndarray:
    """(count, features): mean image token of each phantom."""
    chunks = [(view.value, start, min(CHUNK, first_seed + count - start)) for start in
              range(first_seed, first_seed + count, CHUNK)]  # fmt: skip
    found = []
    with get_context("spawn").Pool(min(12, os.cpu_count() or 1)) as pool, torch.inference_mode():
        for images in tqdm(pool.imap(_draw, chunks), total=len(chunks), desc=view.value):
            found.append(pooled(reader.image_tokens(images)).numpy())
    return np.concatenate(found)


def _draw(job: tuple[str, int, int]) -> list:
    view, first, count = job
    films = [
        DRAW[View(view)](seed, site=training_site(View(view), seed)).film() for seed in range(first, first + count)
    ]
    return [model_image(display_pixels(film)) for film in films]


if __name__ == "__main__":
    (config,) = HfArgumentParser(PhantomGateConfig).parse_args_into_dataclasses(look_for_args_file=False)
    main(config)
