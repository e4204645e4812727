"""Error, agreement and discrimination of reads against labels.

    from engine.radiology_metrics import RadiologyMetrics, parse_json_predictions

A figure that is not defined (no cases, one class only) is None, never 0. `Interval` carries a percentile bootstrap."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import f1_score, recall_score

from engine.errors import AnswerRefused
from engine.findings.answers import Answer, Fracture, Plus, Stage, Zone, check_answer

RESAMPLES = 1000
CONFIDENCE = 0.95


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

    def bone_age_bias(self, predictions_months: Sequence[float], ground_truth_months: Sequence[float]) -> float | None:
        """Mean signed error in months; positive reads too old."""
        errors = _errors(predictions_months, ground_truth_months)
        return float(errors.mean()) if len(errors) else None

    def rop_auc(
        self, labels_dict: Mapping[str, Sequence[str]], predictions_dict: Mapping[str, Sequence[Mapping[str, float]]]
    ) -> dict[str, float | None]:
        """Macro one-vs-rest AUC by field (zone, stage, plus_disease) over the classes that occur.

        `predictions_dict[field]` has one {class: probability} a case. None with fewer than two classes."""
        return {
            field: macro_auc(labels, predictions_dict[field], [v.value for v in ROP_CLASSES[field]])
            for field, labels in labels_dict.items()
        }

    def fracture_f1(self, fracture_preds: Sequence[str], fracture_gt: Sequence[str]) -> float | None:
        """Macro F1 over the classes that occur among labels or predictions."""
        if not len(fracture_gt):
            return None
        return float(f1_score(fracture_gt, fracture_preds, average="macro", zero_division=0.0))

    def sensitivity(self, predictions: Sequence[str], labels: Sequence[str], positive: str) -> float | None:
        """Recall of one class; None where no case has it."""
        if positive not in set(labels):
            return None
        return float(recall_score(labels, predictions, labels=[positive], average=None)[0])


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


def macro_auc(
    labels: Sequence[str], probabilities: Sequence[Mapping[str, float]], classes: Sequence[str]
) -> float | None:
    labels_ = np.asarray(labels)
    found = [c for c in classes if (labels_ == c).any()]
    if len(found) < 2:
        return None
    scores = {c: np.array([p[c] for p in probabilities]) for c in found}
    return float(np.mean([binary_auc(labels_ == c, scores[c]) for c in found]))


def bootstrap(figure: Callable[[np.ndarray], float | None], cases: int, seed: int = 0) -> Interval:
    """`figure(indices)` over all cases, and its percentile interval over resampled cases."""
    value = figure(np.arange(cases)) if cases else None
    if value is None:
        return Interval(None, None, None)
    rng = np.random.default_rng(seed)
    drawn = [figure(rng.integers(0, cases, cases)) for _ in range(RESAMPLES)]
    defined = np.array([d for d in drawn if d is not None])
    tail = (1 - CONFIDENCE) / 2
    return Interval(value, float(np.quantile(defined, tail)), float(np.quantile(defined, 1 - tail)))


def _errors(predictions: Sequence[float], truth: Sequence[float]) -> np.ndarray:
    if len(predictions) != len(truth):
        raise ValueError(f"{len(predictions)} predictions but {len(truth)} labels")
    return np.asarray(predictions, float) - np.asarray(truth, float)
