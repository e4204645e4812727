"""A read's distribution as a small plot, drawn by the browser from plain HTML: Plotly's 4.7 MB of script kept the main
thread busy for a second just as the first film of a sitting arrived, and again with every case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from engine.findings.answers import Fracture, Plus, Stage, Task, Zone
from engine.findings.summary import answer_words
from engine.services.review import ReadView
from ui import words


def html(read: ReadView, chronological_months: float | None) -> str:
    """For a read that has an answer. How it looks is in ui/style.css."""
    if read.task is Task.BONE_AGE:
        plot = _bone_age(read, chronological_months)
    elif read.task is Task.ROP:
        plot = _rop(read)
    else:
        plot = _fracture(read)
    said = escape(f"Distribution of the read: {answer_words(read.answer)}", quote=True)
    return f'<div class="read-chart {read.task}" role="img" aria-label="{said}">{plot}</div>'


def _bone_age(read: ReadView, chronological_months: float | None) -> str:
    """Probability of each month; the 80 % interval bright, the median and the chronological age as lines."""
    low, high = read.interval_months
    marks = [low, high] + ([] if chronological_months is None else [chronological_months])
    margin = max(6, (high - low) * 0.6)
    first, last = max(0, min(marks) - margin), max(marks) + margin
    shares = {month: read.probabilities[str(month)] for month in sorted(map(int, read.probabilities))}
    shares = {month: share for month, share in shares.items() if first <= month <= last}
    tallest = max(shares.values(), default=1.0)
    width = 100 / (last - first + 1)

    def left(month: float) -> str:
        """Of the middle of a month."""
        return f"left:{(month - first + 0.5) * width:.2f}%"

    bars = "".join(
        f'<i class="{"in" if low <= month <= high else ""}" style="{left(month)};width:{width * 0.88:.2f}%;'
        f'height:{100 * share / tallest:.1f}%" title="{words.age(month)} ({month} months): {share:.1%}"></i>'
        for month, share in shares.items()
    )
    lines = f'<b style="{left(read.median_months)}"></b>'
    if chronological_months is not None:
        place = left(chronological_months)
        lines += f'<b class="chronological" style="{place}"></b><span style="{place}">chronological</span>'
    step = 12 if last - first > 40 else 6
    edge = 0.04 * (last - first)  # half a tick's words
    years = [month for month in range(0, 240, step) if first + edge <= month <= last - edge]
    ticks = "".join(f'<span style="{left(month)}">{words.age(month)}</span>' for month in years)
    return f'<div class="months">{bars}{lines}</div><div class="ticks">{ticks}</div>'


def _rop(read: ReadView) -> str:
    """Three small bar charts side by side: zone, stage, plus disease."""
    parts = (
        ("zone", "Zone", {zone.value: words.ZONE[zone] for zone in Zone}),
        ("stage", "Stage", {stage.value: words.STAGE[stage] for stage in Stage}),
        ("plus_disease", "Plus", {plus.value: words.PLUS[plus] for plus in Plus}),
    )
    return "".join(
        f'<div class="part"><div class="bars">{"".join(_upright(title, labels, read.probabilities[name]))}</div>'
        f"<span>{title}</span></div>"
        for name, title, labels in parts
    )


def _upright(title: str, labels: Mapping[str, str], shares: Mapping[str, float]) -> Iterable[str]:
    top = max(shares.values(), default=0.0)
    for value, label in labels.items():
        share = shares.get(value, 0.0)
        yield (
            f'<div title="{title} {label}: {share:.1%}"><i class="{"in" if share == top else ""}" '
            f'style="height:{100 * share:.1f}%"></i><span>{label}</span></div>'
        )


def _fracture(read: ReadView) -> str:
    top = max(read.probabilities.values(), default=0.0)
    rows = []
    for fracture in Fracture:
        share = read.probabilities.get(fracture.value, 0.0)
        rows.append(
            f'<span>{words.FRACTURE[fracture]}</span><div><i class="{"in" if share == top else ""}" '
            f'style="width:{85 * share:.1f}%"></i><span>{share:.1%}</span></div>'
        )
    return "".join(rows)
