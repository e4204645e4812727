"""Error, agreement and discrimination of reads against labels.

    from engine.radiology_metrics import RadiologyMetrics, parse_json_predictions

A figure that is not defined (no cases, one class only) is None, never 0. `Interval` carries a percentile bootstrap."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import rankdata

from engine.errors import AnswerRefused
from engine.findings.answers import Answer, Fracture, Plus, Stage, Zone, check_answer

RESAMPLES = 1000
CONFIDENCE = 0.95
LIMITS_SD = 1.96  # of the errors, either side of the bias
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % bootstrap interval over cases; all None where the figure is undefined."""

    value: float | None
    low: float | None
    high: float | None

    def as_json(self) -> dict[str, float | None]:
        return {k: None if v is None else round(v, 4) for k, v in asdict(self).items()}


def parse_json_predictions(texts: Sequence[str]) -> list[Answer | None]:
    """The first JSON object in each text as a member of its closed set; None where there is none."""
    answers: list[Answer | None] = []
    for text in texts:
        start = text.find("{")
        try:
            found = json.JSONDecoder().raw_decode(text, start)[0] if start >= 0 else {}
            answers.append(check_answer(found))
        except (json.JSONDecodeError, AnswerRefused):
            answers.append(None)
    return answers


class RadiologyMetrics:
    """The figures of the three tasks. Sequences are aligned case by case."""

    def bone_age_mae(self, predictions_months: Sequence[float], ground_truth_months: Sequence[float]) -> float | None:
        """Mean absolute error in months."""
        errors = _errors(predictions_months, ground_truth_months)
        return float(np.abs(errors).mean()) if len(errors) else None

    def bone_age_within_months(
        self, predictions_months: Sequence[float], ground_truth_months: Sequence[float], margin_months: float = 2.0
    ) -> float | None:
        """Share of cases with an absolute error of at most `margin_months`."""
        errors = _errors(predictions_months, ground_truth_months)
        return float((np.abs(errors) <= margin_months).mean()) if len(errors) else None

    def bone_age_rmse(self, predictions_months: Sequence[float], ground_truth_months: Sequence[float]) -> float | None:
        """Root of the mean squared error, in months."""
        errors = _errors(predictions_months, ground_truth_months)
        return float(np.sqrt((errors**2).mean())) if len(errors) else None

    def bone_age_bias(self, predictions_months: Sequence[float], ground_truth_months: Sequence[float]) -> float | None:
        """Mean signed error in months; positive reads too old."""
        errors = _errors(predictions_months, ground_truth_months)
        return float(errors.mean()) if len(errors) else None

    def bone_age_limits_of_agreement(
        self, predictions_months: Sequence[float], ground_truth_months: Sequence[float]
    ) -> tuple[float, float] | None:
        """Bias -+ 1.96 SD of the signed errors (Bland & Altman, Lancet 1986;327:307-310); None under two cases."""
        errors = _errors(predictions_months, ground_truth_months)
        if len(errors) < 2:
            return None
        half = LIMITS_SD * errors.std(ddof=1)
        return float(errors.mean() - half), float(errors.mean() + half)

    def interval_coverage(
        self, intervals_months: Sequence[tuple[float, float]], ground_truth_months: Sequence[float]
    ) -> float | None:
        """Share of the labels that lie within their interval, ends included."""
        _check_aligned(intervals_months, ground_truth_months)
        if not len(ground_truth_months):
            return None
        low, high = np.asarray(intervals_months, float).T
        truth = np.asarray(ground_truth_months, float)
        return float(((low <= truth) & (truth <= high)).mean())

    def rop_auc(
        self, labels_dict: Mapping[str, Sequence[str]], predictions_dict: Mapping[str, Sequence[Mapping[str, float]]]
    ) -> dict[str, float | None]:
        """Macro one-vs-rest AUC by field (zone, stage, plus_disease) over the classes that occur.

        `predictions_dict[field]` has one {class: probability} a case. None with fewer than two classes."""
        return {
            field: macro_auc(labels, predictions_dict[field], [v.value for v in ROP_CLASSES[field]])
            for field, labels in labels_dict.items()
        }

    def rop_auc_by_class(
        self, labels_dict: Mapping[str, Sequence[str]], predictions_dict: Mapping[str, Sequence[Mapping[str, float]]]
    ) -> dict[str, dict[str, float | None]]:
        """One-vs-rest AUC of every class of every field; None for a class that no case has, or every case."""
        return {
            field: one_vs_rest_auc(labels, predictions_dict[field], [v.value for v in ROP_CLASSES[field]])
            for field, labels in labels_dict.items()
        }

    def fracture_f1(self, fracture_preds: Sequence[str], fracture_gt: Sequence[str]) -> float | None:
        """Macro F1 over the classes that occur among labels or predictions."""
        _check_aligned(fracture_preds, fracture_gt)
        classes = np.union1d(np.asarray(fracture_gt, str), np.asarray(fracture_preds, str))
        found = [self.f1(fracture_preds, fracture_gt, c) for c in classes]
        return float(np.mean(found)) if found else None

    def f1(self, predictions: Sequence[str], labels: Sequence[str], positive: str) -> float | None:
        """F1 of one class; None where neither a label nor a prediction is it."""
        said, true = _is(positive, predictions, labels)
        involved = said.sum() + true.sum()
        return float(2 * (said & true).sum() / involved) if involved else None

    def sensitivity(self, predictions: Sequence[str], labels: Sequence[str], positive: str) -> float | None:
        """Recall of one class; None where no case has it."""
        said, true = _is(positive, predictions, labels)
        return float(said[true].mean()) if true.any() else None

    def specificity(self, predictions: Sequence[str], labels: Sequence[str], positive: str) -> float | None:
        """Share of the cases without `positive` that are not read as it; None where every case has it."""
        said, true = _is(positive, predictions, labels)
        return float((~said[~true]).mean()) if not true.all() else None

    def accuracy(self, predictions: Sequence[str], labels: Sequence[str]) -> float | None:
        _check_aligned(predictions, labels)
        return float((np.asarray(predictions) == np.asarray(labels)).mean()) if len(labels) else None

    def calibration_error(
        self, confidences: Sequence[float], correct: Sequence[bool], bins: int = CALIBRATION_BINS
    ) -> float | None:
        """Expected calibration error: the mean over cases of |confidence - accuracy| of the case's bin.

        `confidences` are the probabilities of the answers given, `correct` whether those were right; bins are of
        equal width (Guo et al., ICML 2017)."""
        found = reliability(confidences, correct, bins)
        total = sum(b.n for b in found)
        return sum(b.n * abs(b.confidence - b.accuracy) for b in found) / total if total else None


@dataclass(frozen=True)
class ReliabilityBin:
    """The cases whose confidence lies in (low, high]; `accuracy` is the share of them that were right."""

    low: float
    high: float
    n: int
    confidence: float  # their mean
    accuracy: float


def reliability(
    confidences: Sequence[float], correct: Sequence[bool], bins: int = CALIBRATION_BINS
) -> list[ReliabilityBin]:
    """The bins that hold cases, in order."""
    _check_aligned(confidences, correct)
    confidence, right = np.asarray(confidences, float), np.asarray(correct, bool)
    if not ((confidence >= 0) & (confidence <= 1 + 1e-4)).all():
        raise ValueError("a confidence must lie between 0 and 1")
    # the small step keeps 0.3, which is 3 bins of 0.1 and a rounding error, in its own bin
    place = np.clip(np.ceil(confidence * bins - 1e-9).astype(int) - 1, 0, bins - 1)
    return [
        ReliabilityBin(
            b / bins, (b + 1) / bins, int(here.sum()), float(confidence[here].mean()), float(right[here].mean())
        )
        for b in range(bins)
        if (here := place == b).any()
    ]


ROP_CLASSES = {"zone": Zone, "stage": Stage, "plus_disease": Plus}
FRACTURE_CLASSES = tuple(f.value for f in Fracture)


def binary_auc(is_positive: np.ndarray, score: np.ndarray) -> float | None:
    """Area under the ROC curve by ranks (Mann-Whitney); None unless both classes occur."""
    positives = int(is_positive.sum())
    negatives = len(is_positive) - positives
    if not positives or not negatives:
        return None
    rank_sum = rankdata(score)[is_positive].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def one_vs_rest_auc(
    labels: Sequence[str], probabilities: Sequence[Mapping[str, float]], classes: Sequence[str]
) -> dict[str, float | None]:
    """Each class against all others, by its probability."""
    _check_aligned(probabilities, labels)
    labels_ = np.asarray(labels, str)
    return {c: binary_auc(labels_ == c, np.array([p[c] for p in probabilities], float)) for c in classes}


def macro_auc(
    labels: Sequence[str], probabilities: Sequence[Mapping[str, float]], classes: Sequence[str]
) -> float | None:
    """Mean of the one-vs-rest AUCs of the classes that occur; None with fewer than two of them."""
    present = set(np.asarray(labels, str).tolist())
    found = one_vs_rest_auc(labels, probabilities, [c for c in classes if c in present])
    return float(np.mean(list(found.values()))) if len(found) >= 2 else None


def bootstrap(
    figure: Callable[[np.ndarray], float | None], cases: int, seed: int = 0, patients: Sequence[object] | None = None
) -> Interval:
    """`figure(indices)` over all cases, and its percentile interval over resampled cases.

    With `patients` (one key a case) whole patients are drawn, because the images of one child are not independent.
    No interval where the figure is undefined in half of the samples or more."""
    value = figure(np.arange(cases)) if cases else None
    if value is None:
        return Interval(None, None, None)
    rng = np.random.default_rng(seed)
    draw = _draw_cases(rng, cases) if patients is None else _draw_patients(rng, patients)
    defined = [d for _ in range(RESAMPLES) if (d := figure(draw())) is not None]
    if len(defined) <= RESAMPLES / 2:
        return Interval(value, None, None)
    tail = (1 - CONFIDENCE) / 2
    return Interval(value, float(np.quantile(defined, tail)), float(np.quantile(defined, 1 - tail)))


def _draw_cases(rng: np.random.Generator, cases: int) -> Callable[[], np.ndarray]:
    return lambda: rng.integers(0, cases, cases)


def _draw_patients(rng: np.random.Generator, patients: Sequence[object]) -> Callable[[], np.ndarray]:
    of_patient: dict[object, list[int]] = {}
    for index, patient in enumerate(patients):
        of_patient.setdefault(patient, []).append(index)
    if len(of_patient) == len(patients):
        return _draw_cases(rng, len(patients))
    members = [np.array(indices) for indices in of_patient.values()]
    return lambda: np.concatenate([members[k] for k in rng.integers(0, len(members), len(members))])


def _is(positive: str, predictions: Sequence[str], labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    _check_aligned(predictions, labels)
    return np.asarray(predictions, str) == positive, np.asarray(labels, str) == positive


def _errors(predictions: Sequence[float], truth: Sequence[float]) -> np.ndarray:
    _check_aligned(predictions, truth)
    return np.asarray(predictions, float) - np.asarray(truth, float)


def _check_aligned(predictions: Sequence, truth: Sequence) -> None:
    if len(predictions) != len(truth):
        raise ValueError(f"{len(predictions)} predictions but {len(truth)} labels")
