"""How long the five WHO z-scores of 100,000 children take.   python -m tests.benchmarks.growth

Prints one JSON line: the time to load the tables (once a process), then median and slowest of ten runs."""

from __future__ import annotations

import json
import statistics
import time

import numpy as np

from engine.findings.growth import Indicator, growth_scores

CHILDREN, TIMES = 100_000, 10


def main() -> None:
    rng = np.random.default_rng(7)
    age_months = rng.uniform(0, 228, CHILDREN)
    children = {
        "age_months": age_months,
        "weight_kg": 3.5 + age_months * rng.uniform(0.2, 0.4, CHILDREN),
        "length_height_cm": 50 + 18 * np.sqrt(age_months / 12 + 0.01) * rng.uniform(0.9, 1.1, CHILDREN),
        "head_circumference_cm": rng.uniform(33, 53, CHILDREN),
        "measured": rng.choice(["lying", "standing", ""], CHILDREN),
        "oedema": rng.random(CHILDREN) < 0.01,
    }
    sex = rng.choice(["M", "F"], CHILDREN)
    start = time.perf_counter()
    growth_scores(sex[:1], age_months=age_months[:1])
    first = time.perf_counter() - start
    seconds = []
    for _ in range(TIMES):
        start = time.perf_counter()
        scores = growth_scores(sex, **children)
        seconds.append(time.perf_counter() - start)
    figures = {
        "children": CHILDREN,
        "z_scores": int(sum(np.isfinite(scores.z[indicator]).sum() for indicator in Indicator)),
        "tables_s": round(first, 3),
        "median_s": round(statistics.median(seconds), 3),
        "max_s": round(max(seconds), 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
