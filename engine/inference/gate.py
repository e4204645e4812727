"""Whether an image is one the model was trained on: the distance of its pooled image tokens from the training set's.

A model reads anything and sounds sure of it, a real film as well as noise. The gate keeps, for each view, mean and
covariance of the features of training images (Ledoit-Wolf), and a threshold on the Mahalanobis distance fixed on
validation images. It is fitted by training.phantom_gate and stored beside the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from engine.errors import ModelUnavailable
from engine.findings.answers import View


def pooled(tokens: torch.Tensor) -> torch.Tensor:
    """The gate's features: (n, image tokens, hidden) to (n, hidden), on the CPU."""
    return tokens.float().mean(1).cpu()


@dataclass(frozen=True)
class Neighbourhood:
    """One view's training features. `whitening` is upper triangular; distance = |whitening (x - mean)|."""

    mean: torch.Tensor  # (features,)
    whitening: torch.Tensor  # (features, features)
    threshold: float

    def distance(self, features: torch.Tensor) -> torch.Tensor:
        """(n, features) to (n,)"""
        return ((features.float() - self.mean) @ self.whitening.T).norm(dim=1)


@dataclass(frozen=True)
class FeatureGate:
    views: dict[View, Neighbourhood]

    FILE: ClassVar[str] = "gate.safetensors"

    def excess(self, view: View, features: torch.Tensor) -> torch.Tensor:
        """(n,) distance over threshold: above 1 the image is not one this model was trained on."""
        place = self.views[view]
        return place.distance(features) / place.threshold

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        return (folder / cls.FILE).is_file()

    def save(self, folder: Path) -> None:
        tensors, thresholds = {}, {}
        for view, place in self.views.items():
            rows, cols = torch.triu_indices(*place.whitening.shape)
            tensors[f"{view}.mean"] = place.mean.float()
            tensors[f"{view}.whitening"] = place.whitening[rows, cols].half()
            thresholds[view.value] = repr(place.threshold)
        save_file(tensors, folder / self.FILE, metadata=thresholds)

    @classmethod
    def load(cls, folder: Path) -> FeatureGate:
        """Raises ModelUnavailable where the gate is missing: a model that cannot abstain must not read."""
        if not cls.is_in(folder):
            raise ModelUnavailable(f"{folder} has no {cls.FILE}: run python -m training.phantom_gate --model {folder}")
        views = {}
        with safe_open(folder / cls.FILE, framework="pt") as file:
            for name, threshold in file.metadata().items():
                mean, packed = file.get_tensor(f"{name}.mean"), file.get_tensor(f"{name}.whitening").float()
                whitening = torch.zeros(len(mean), len(mean))
                rows, cols = torch.triu_indices(len(mean), len(mean))
                whitening[rows, cols] = packed
                views[View(name)] = Neighbourhood(mean, whitening, float(threshold))
        return cls(views)
