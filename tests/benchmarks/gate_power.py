"""What the gate's counts can show: how often a harm is let through, and how often a gain is seen.

    python -m tests.benchmarks.gate_power [--simulations 400]

Differences of paired errors are drawn with a spread as measured on phantoms (docs/promotion-gate.md); each line is one
check of the gate by itself, at the number of patients it has in a retraining of the demo data."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from engine import promotion_gate
from engine.findings.answers import Task, View
from engine.promotion_gate import ERROR, MARGINS, MISSED, TAIL, paired_interval, tail_of_better
from training.compare_models import REFERENCE_COUNTS

MONTHS_SD = (1.5, 2.0, 3.3)  # of the difference of two models' absolute errors on one film
TASKS = 3
LOCKED_PATIENTS = (20, 30, 60)  # of one task
KNOWN_ERROR, SHIFTED_ERROR = 0.01, 0.15  # of fractures: on site A, on site B

Draw = Callable[[np.random.Generator], np.ndarray]


def months(mean: float, sd: float, count: int) -> Draw:
    return lambda rng: rng.normal(mean, sd, count)


def shares(before: float, change: float, count: int) -> Draw:
    """The model in use errs in `before` of the cases. The candidate errs in the same ones, but for a fifth of them
    and as many others, and for the change."""

    def draw(rng: np.random.Generator) -> np.ndarray:
        old = rng.random(count) < before
        right = np.clip(0.2 + max(0.0, -change) / before, 0, 1)
        wrong = (before * 0.2 + max(0.0, change)) / (1 - before)
        new = np.where(old, rng.random(count) >= right, rng.random(count) < wrong)
        return new.astype(float) - old

    return draw


def bounds(draw: Draw, is_share: bool, tail: float, simulations: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(simulations):
        difference = draw(rng)
        worst = 1.0 if is_share else max(0.0, float(difference.max()))
        found.append(paired_interval(difference, [str(i) for i in range(len(difference))], worst, tail)[1])
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=400)
    simulations = parser.parse_args().simulations
    promotion_gate.RESAMPLES = 1000

    hands, wrists = REFERENCE_COUNTS[View.HAND], REFERENCE_COUNTS[View.WRIST]
    print("| check | patients | harm | let through |\n|---|---|---|---|")
    limit = MARGINS[Task.BONE_AGE, ERROR].not_worse
    for sd in MONTHS_SD:
        for harm in (0.0, 0.1, 0.3, limit, 1.0):
            passed = (bounds(months(harm, sd, hands), False, TAIL, simulations) <= limit).mean()
            print(f"| bone age, reference, SD {sd} | {hands} | {harm:+.1f} months | {passed:.0%} |", flush=True)
    for measure, patients, before in ((ERROR, wrists, KNOWN_ERROR), (MISSED, 66, KNOWN_ERROR)):
        limit = MARGINS[Task.FRACTURE, measure].not_worse
        for harm in (0.0, 0.01, 0.03, limit, 2 * limit):
            passed = (bounds(shares(before, harm, patients), True, TAIL, simulations) <= limit).mean()
            print(
                f"| fracture, reference, {measure} | {patients} | {100 * harm:+.0f} points | {passed:.0%} |", flush=True
            )

    print("\n| gain on the locked test | patients | gain | seen |\n|---|---|---|---|")
    tail = tail_of_better(0, TASKS)
    for patients in LOCKED_PATIENTS:
        for gain in (0.0, 1.0, 2.0, 3.0):
            seen = (bounds(months(-gain, 2.0, patients), False, tail, simulations) < 0).mean()
            print(f"| bone age, SD 2.0 | {patients} | {gain:.0f} months | {seen:.0%} |", flush=True)
        for gain in (0.0, 0.05, 0.12):
            seen = (bounds(shares(SHIFTED_ERROR, -gain, patients), True, tail, simulations) < 0).mean()
            print(
                f"| fracture, {SHIFTED_ERROR:.0%} wrong before | {patients} | {100 * gain:.0f} points | {seen:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
