"""Error, agreement and discrimination of reads against labels.

    from engine.radiology_metrics import RadiologyMetrics, parse_json_predictions

A figure that is not defined (no cases, one class only) is None, never 0. `bootstrap` gives a figure its interval; the
arithmetic of both is in engine.weighted_figures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from engine import weighted_figures as weighted
from engine.errors import AnswerRefused
from engine.findings.answers import Answer, Fracture, Plus, Stage, Zone, check_answer

RESAMPLES = 1000
CONFIDENCE = 0.95
LIMITS_SD = 1.96  # of the errors, either side of the bias
CALIBRATION_BINS = 10
WEIGHTS_AT_ONCE = 2_000_000  # bootstrap samples x cases: 16 MB


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval; `reason` says why what is None is not defined."""

    value: float | None
    low: float | None
    high: float | None
    reason: str | None = None

    def as_json(self) -> dict[str, float | str | None]:
        found = {name: _rounded(getattr(self, name)) for name in ("value", "low", "high")}
        return found if self.reason is None else found | {"reason": self.reason}


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
        return _plain(weighted.mean, np.abs(errors))

    def bone_age_within_months(
        self, predictions_months: Sequence[float], ground_truth_months: Sequence[float], margin_months: float = 2.0
    ) -> float | None:
        """Share of cases with an absolute error of at most `margin_months`."""
        errors = _errors(predictions_months, ground_truth_months)
        return _plain(weighted.mean, np.abs(errors) <= margin_months)

    def bone_age_rmse(self, predictions_months: Sequence[float], ground_truth_months: Sequence[float]) -> float | None:
        """Root of the mean squared error, in months."""
        errors = _errors(predictions_months, ground_truth_months)
        return _plain(weighted.root_mean_square, errors)

    def bone_age_bias(self, predictions_months: Sequence[float], ground_truth_months: Sequence[float]) -> float | None:
        """Mean signed error in months; positive reads too old."""
        errors = _errors(predictions_months, ground_truth_months)
        return _plain(weighted.mean, errors)

    def bone_age_limits_of_agreement(
        self, predictions_months: Sequence[float], ground_truth_months: Sequence[float]
    ) -> tuple[float, float] | None:
        """Bias -+ 1.96 SD of the signed errors (Bland & Altman, Lancet 1986;327:307-310); None under two cases."""
        errors = _errors(predictions_months, ground_truth_months)
        bias, spread = _plain(weighted.mean, errors), _plain(weighted.standard_deviation, errors)
        if bias is None or spread is None:
            return None
        return bias - LIMITS_SD * spread, bias + LIMITS_SD * spread

    def interval_coverage(
        self, intervals_months: Sequence[tuple[float, float]], ground_truth_months: Sequence[float]
    ) -> float | None:
        """Share of the labels that lie within their interval, ends included."""
        _check_aligned(intervals_months, ground_truth_months)
        low, high = np.asarray(intervals_months, float).reshape(-1, 2).T
        truth = np.asarray(ground_truth_months, float)
        return _plain(weighted.mean, (low <= truth) & (truth <= high))

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
        return _plain(weighted.macro_f1, np.asarray(fracture_preds, str), np.asarray(fracture_gt, str))

    def f1(self, predictions: Sequence[str], labels: Sequence[str], positive: str) -> float | None:
        """F1 of one class; None where neither a label nor a prediction is it."""
        return _plain(weighted.f1, *_is(positive, predictions, labels))

    def sensitivity(self, predictions: Sequence[str], labels: Sequence[str], positive: str) -> float | None:
        """Recall of one class; None where no case has it."""
        said, true = _is(positive, predictions, labels)
        return _plain(weighted.share, said, true)

    def specificity(self, predictions: Sequence[str], labels: Sequence[str], positive: str) -> float | None:
        """Share of the cases without `positive` that are not read as it; None where every case has it."""
        said, true = _is(positive, predictions, labels)
        return _plain(weighted.share, ~said, ~true)

    def accuracy(self, predictions: Sequence[str], labels: Sequence[str]) -> float | None:
        _check_aligned(predictions, labels)
        return _plain(weighted.mean, np.asarray(predictions) == np.asarray(labels))

    def calibration_error(
        self, confidences: Sequence[float], correct: Sequence[bool], bins: int = CALIBRATION_BINS
    ) -> float | None:
        """Expected calibration error: the mean over cases of |confidence - accuracy| of the case's bin (`reliability`).

        `confidences` are the probabilities of the answers given, `correct` whether those were right; bins are of
        equal width (Guo et al., ICML 2017)."""
        confidence, right = _probabilities(confidences, correct)
        return _plain(weighted.calibration_error, confidence, right, bins)


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
    confidence, right = _probabilities(confidences, correct)
    place = weighted.bin_of(confidence, bins)
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
    """Area under the ROC curve; None unless both classes occur."""
    return _plain(weighted.auc, np.asarray(is_positive, bool), np.asarray(score, float))


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
    _check_aligned(probabilities, labels)
    scores = np.array([[p[c] for c in classes] for p in probabilities], float).reshape(-1, len(classes))
    return _plain(weighted.macro_auc, np.asarray(labels, str), scores, classes)


@dataclass(frozen=True)
class Samples:
    """The bootstrap samples of one set of cases; every figure of the set is taken over the same ones.

    `patient` (cases,): whose image each case is, numbered from 0. Whole patients are drawn, because the images of one
    child are not independent."""

    patient: np.ndarray
    seed: int = 0

    @classmethod
    def of(cls, cases: int, patients: Sequence[object] | None = None, seed: int = 0) -> Samples:
        """`patients` has one key a case; without it every case is a patient of its own."""
        if patients is None:
            return cls(np.arange(cases), seed)
        number: dict[object, int] = {}
        return cls(np.array([number.setdefault(p, len(number)) for p in patients], int), seed)

    @property
    def cases(self) -> int:
        return len(self.patient)

    @property
    def patients(self) -> int:
        return int(self.patient.max()) + 1 if self.cases else 0

    @cached_property
    def _drawn(self) -> np.ndarray:
        """(RESAMPLES, patients)"""
        chances = np.full(self.patients, 1 / self.patients)
        return np.random.default_rng(self.seed).multinomial(self.patients, chances, size=RESAMPLES).astype(np.uint16)

    def weights(self) -> Iterator[np.ndarray]:
        """(some samples, cases) at a time: how often each case was drawn."""
        rows = max(1, WEIGHTS_AT_ONCE // self.cases)
        for start in range(0, RESAMPLES, rows):
            yield self._drawn[start : start + rows, self.patient].astype(float)


def bootstrap(figure: Callable[[np.ndarray], np.ndarray], samples: Samples) -> Interval:
    """`figure` (of weights, see engine.weighted_figures) over all cases, and its percentile interval over samples.

    No interval where there is one patient, where the figure is undefined in half of the samples or more, or where all
    of them give the same: that is no certainty, only too few errors."""
    value = _defined(figure(np.ones(samples.cases))) if samples.cases else None
    if value is None:
        return Interval(None, None, None, "undefined" if samples.cases else "no case")
    if samples.patients < 2:
        return Interval(value, None, None, "one patient only")
    drawn = np.concatenate([figure(w) for w in samples.weights()])
    drawn = drawn[~np.isnan(drawn)]
    if len(drawn) <= RESAMPLES / 2:
        return Interval(value, None, None, "undefined in most bootstrap samples")
    if np.ptp(drawn) == 0:
        return Interval(value, None, None, "too few errors for an interval")
    tail = (1 - CONFIDENCE) / 2
    return Interval(value, float(np.quantile(drawn, tail)), float(np.quantile(drawn, 1 - tail)))


def exact_bound(patients: int) -> float:
    """How far from 0 or 1 a share may truly lie that was 0 or 1 among so many (Clopper & Pearson, Biometrika
    1934;26:404-413), where a bootstrap would give an interval of no width: 0.116 for 30."""
    return 1 - ((1 - CONFIDENCE) / 2) ** (1 / patients)


def _plain(figure: Callable[..., np.ndarray], cases: np.ndarray, *more) -> float | None:
    """The figure with every case counting once."""
    return _defined(figure(np.ones(len(cases)), cases, *more))


def _defined(figure: np.ndarray) -> float | None:
    return None if math.isnan(figure) else float(figure)


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 4)


def _probabilities(confidences: Sequence[float], correct: Sequence[bool]) -> tuple[np.ndarray, np.ndarray]:
    _check_aligned(confidences, correct)
    confidence = np.asarray(confidences, float)
    if not ((confidence >= 0) & (confidence <= 1 + 1e-4)).all():
        raise ValueError("a confidence must lie between 0 and 1")
    return confidence, np.asarray(correct, bool)


def _is(positive: str, predictions: Sequence[str], labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    _check_aligned(predictions, labels)
    return np.asarray(predictions, str) == positive, np.asarray(labels, str) == positive


def _errors(predictions: Sequence[float], truth: Sequence[float]) -> np.ndarray:
    _check_aligned(predictions, truth)
    return np.asarray(predictions, float) - np.asarray(truth, float)


def _check_aligned(predictions: Sequence, truth: Sequence) -> None:
    if len(predictions) != len(truth):
        raise ValueError(f"{len(predictions)} predictions but {len(truth)} labels")
