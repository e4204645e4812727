"""The arithmetic of figures over weighted cases.

`w` (..., cases) says how often each case counts: ones for the figure itself, a bootstrap sample's draws for that
sample, so that a thousand samples are a few array operations. Every function returns an array of w's leading shape
(...); where a figure has no case to stand on it is nan, never 0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BIN_TOLERANCE = 1e-9  # keeps 0.3, which is 3 bins of 0.1 and a rounding error, in its own bin


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def mean(w: np.ndarray, values: np.ndarray) -> np.ndarray:
    return ratio(w @ np.asarray(values, float), w.sum(-1))


def share(w: np.ndarray, part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Of the cases in `whole`, those in `part`; both (cases,) bool."""
    return ratio(w @ (part & whole).astype(float), w @ whole.astype(float))


def root_mean_square(w: np.ndarray, errors: np.ndarray) -> np.ndarray:
    return np.sqrt(mean(w, np.square(errors)))


def standard_deviation(w: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """With n - 1; nan under two cases."""
    errors, n = np.asarray(errors, float), w.sum(-1)
    centre = mean(w, errors)
    squares = (w * np.square(errors - centre[..., None])).sum(-1)
    return np.sqrt(ratio(squares, n - 1))


def f1(w: np.ndarray, said: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Of one class; nan where it is neither said nor true."""
    return ratio(2 * (w @ (said & true).astype(float)), w @ (said.astype(float) + true))


def macro_f1(w: np.ndarray, said: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Over the classes that are said or true; `said`, `true`: (cases,) class names."""
    classes = np.union1d(said, true)
    return mean_of_defined([f1(w, said == c, true == c) for c in classes], w)


def auc(w: np.ndarray, positive: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: the chance that a positive case scores above a negative one, a tie counting half."""
    if not len(score):
        return np.full(w.shape[:-1], np.nan)
    order = np.argsort(score, kind="stable")
    ties = np.flatnonzero(np.concatenate([[True], np.diff(score[order]) > 0]))
    positives = np.add.reduceat(w[..., order] * positive[order], ties, axis=-1)
    negatives = np.add.reduceat(w[..., order] * ~positive[order], ties, axis=-1)
    below = np.cumsum(negatives, -1) - negatives
    return ratio((positives * (below + negatives / 2)).sum(-1), positives.sum(-1) * negatives.sum(-1))


def macro_auc(w: np.ndarray, true: np.ndarray, scores: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Mean one-vs-rest AUC of the classes that occur; nan with fewer than two. `scores`: (cases, classes)."""
    return mean_of_defined([auc(w, true == c, scores[:, k]) for k, c in enumerate(classes)], w)


def calibration_error(w: np.ndarray, confidence: np.ndarray, right: np.ndarray, bins: int) -> np.ndarray:
    """Mean over cases of |confidence - accuracy| of the case's bin (Guo et al., ICML 2017)."""
    gap = np.asarray(confidence, float) - right
    place = bin_of(confidence, bins)
    of_bins = sum(np.abs(w[..., place == b] @ gap[place == b]) for b in np.unique(place))
    return ratio(of_bins, w.sum(-1))


def bin_of(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Which of the bins (low, high] of equal width each confidence lies in, from 0; 0 itself lies in the first."""
    place = np.ceil(np.asarray(confidence, float) * bins - BIN_TOLERANCE).astype(int) - 1
    return np.clip(place, 0, bins - 1)


def mean_of_defined(figures: Sequence[np.ndarray], w: np.ndarray) -> np.ndarray:
    """Of the figures that are not nan; nan where none is."""
    if not figures:
        return np.full(w.shape[:-1], np.nan)
    stacked = np.stack(figures)
    return ratio(np.nansum(stacked, 0), (~np.isnan(stacked)).sum(0))
