"""training.phantom_gate: a gate fitted to few images lets their like in and keeps others out."""

import numpy as np
import pytest
import torch

from engine.findings.answers import View
from training import phantom_gate

FEATURES = 64


def drawn(count: int, seed: int, *, off: float = 0.0) -> np.ndarray:
    """Features of one kind of image: correlated, of unequal spread, `off` standard deviations away."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(FEATURES, FEATURES)) * np.linspace(0.1, 3, FEATURES)
    return (np.random.default_rng(seed).normal(size=(count, FEATURES)) + off) @ mixing.astype(np.float32)


def test_it_reads_their_like_and_no_others():
    gate = phantom_gate.refitted({View.HAND: drawn(150, 1).astype(np.float32)})
    unread = {
        off: float((gate.excess(View.HAND, torch.from_numpy(drawn(400, 2, off=off)).float()) > 1).float().mean())
        for off in (0.0, 3.0)
    }
    assert unread[0.0] <= 0.03
    assert unread[3.0] == 1.0


def test_too_few_images_are_no_basis():
    with pytest.raises(ValueError, match="49 hand images are too few"):
        phantom_gate.refitted({View.HAND: drawn(49, 1)})
