"""The charts of an evaluation report as SVG elements.

Drawn by hand: a few lines and dots need no library, text stays text that can be searched and printed, and the file
works without a network. plotly.js would add 4.5 MB to every report; kaleido needs a browser to make a picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.html_node import Node, node

# Okabe and Ito's colours, as in the workstation, dark enough for white paper.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#56b4e9", "#555555")
INK, FAINT, RULE, MET = "#1b2733", "#6b7785", "#d9dfe5", "#e3f1ec"
MAX_DOTS = 2000  # a chart shows an even choice of more; the figures are of all
WIDTH, HEIGHT = 330, 280


@dataclass(frozen=True)
class Axis:
    """`low` and `high` in data units; `first` and `last` where they lie in the picture."""

    low: float
    high: float
    first: float
    last: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.first + share * (self.last - self.first), 1)

    def ticks(self, most: int = 7) -> list[float]:
        """Round values, at most so many."""
        span = self.high - self.low
        rough = span / most
        power = 10 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
        start = math.ceil(self.low / step - 1e-9) * step
        count = int((self.high - start) / step + 1e-9) + 1
        return [round(start + k * step, 10) for k in range(count)]


@dataclass(frozen=True)
class Frame:
    """A picture with two axes, its grid and titles drawn."""

    x: Axis
    y: Axis
    svg: Node

    def add(self, *children: Node | None) -> None:
        self.svg.extend(child for child in children if child is not None)

    def dots(self, xs: Sequence[float], ys: Sequence[float], titles: Sequence[str], colour: str = COLOURS[0]) -> None:
        step = max(1, math.ceil(len(xs) / MAX_DOTS))
        group = node("g", fill=colour, fill_opacity=0.4)
        for x, y, title in list(zip(xs, ys, titles, strict=True))[::step]:
            group.append(node("circle", node("title", title), cx=self.x(x), cy=self.y(y), r=2.2))
        self.add(group)

    def line(self, xs: Sequence[float], ys: Sequence[float], colour: str, width: float = 1.8, dash: str | None = None):
        points = " ".join(f"{self.x(x)},{self.y(y)}" for x, y in zip(xs, ys, strict=True))
        self.add(node("polyline", points=points, fill="none", stroke=colour, stroke_width=width,
                      stroke_dasharray=dash, stroke_linejoin="round"))  # fmt: skip

    def level(self, y: float, text: str, colour: str = INK, dash: str | None = None) -> None:
        """A horizontal line with a text above its right end."""
        self.line([self.x.low, self.x.high], [y, y], colour, 1.2, dash)
        self.add(
            label(
                self.x.last - 2,
                self.y(y) - 3,
                text.replace("-", "\N{MINUS SIGN}"),
                "end",
                fill=colour,
                class_="on-chart",
            )
        )

    def whisker(self, x: float, figure: dict[str, Any], colour: str = INK) -> None:
        """A dot with its interval, upright."""
        if figure["low"] is not None:
            self.line([x, x], [figure["low"], figure["high"]], colour, 1.6)
        self.add(node("circle", cx=self.x(x), cy=self.y(figure["value"]), r=3.4, fill=colour))


def frame(
    title: str,
    x_title: str,
    y_title: str,
    x: tuple[float, float],
    y: tuple[float, float],
    *,
    x_text: Callable[[float], str] = lambda v: f"{v:g}",
    y_text: Callable[[float], str] = lambda v: f"{v:g}".replace("-", "\N{MINUS SIGN}"),
    x_ticks: Sequence[float] | None = None,
    width: int = WIDTH,
    height: int = HEIGHT,
) -> Frame:
    across, up = Axis(*x, 54, width - 20), Axis(*y, height - 36, 12)
    svg = picture(width, height, title)
    for value in across.ticks() if x_ticks is None else x_ticks:
        svg.append(node("line", x1=across(value), x2=across(value), y1=up.first, y2=up.last, stroke=RULE))
        svg.append(label(across(value), up.first + 14, x_text(value), "middle", fill=FAINT))
    for value in up.ticks():
        svg.append(node("line", x1=across.first, x2=across.last, y1=up(value), y2=up(value), stroke=RULE))
        svg.append(label(across.first - 6, up(value) + 3.5, y_text(value), "end", fill=FAINT))
    svg.append(label((across.first + across.last) / 2, height - 5, x_title, "middle"))
    middle = (up.first + up.last) / 2
    svg.append(label(10, middle, y_title, "middle", transform=f"rotate(-90 10 {middle:g})"))
    return Frame(across, up, svg)


def bland_altman(labels: np.ndarray, said: np.ndarray, names: Sequence[str], found: dict[str, Any]) -> Node:
    """Read minus label over their mean; months over years. `found`: the task's figures."""
    errors = said - labels
    limits = [found[f"{side}_limit_of_agreement_months"]["value"] for side in ("lower", "upper")]
    reach = max(6.0, 1.08 * float(np.abs(errors).max()), *(abs(v) * 1.15 for v in limits if v is not None))
    years = (labels + said) / 24
    chart = frame("Bland-Altman plot", "mean of read and label, years", "read minus label, months",
                  (0, max(4, math.ceil(years.max()))), (-reach, reach))  # fmt: skip
    chart.dots(years, errors, [f"{n}: {e:+.0f} months" for n, e in zip(names, errors, strict=True)])
    chart.line([chart.x.low, chart.x.high], [0, 0], FAINT, 1)
    bias = found["bias_months"]["value"]
    chart.level(bias, f"bias {bias:+.1f}", INK)
    for limit in limits:
        if limit is not None:
            chart.level(limit, f"{limit:+.1f}", COLOURS[1], "5 3")
    return chart.svg


def error_by_age(labels: np.ndarray, said: np.ndarray, names: Sequence[str], bands: dict[str, Any], starts) -> Node:
    """The size of each error over the labelled bone age; by band their mean with its interval.

    `bands`: groups by labelled bone age; `starts`: (months, name) of every band."""
    size = np.abs(said - labels)
    last_year = max(4, math.ceil(labels.max() / 12))
    chart = frame("Error by labelled bone age", "labelled bone age, years", "size of the error, months",
                  (0, last_year), (0, max(6.0, 1.08 * float(size.max()))))  # fmt: skip
    chart.dots(labels / 12, size, [f"{n}: {e:.0f} months" for n, e in zip(names, size, strict=True)])
    ends = [start / 12 for start, _ in starts[1:]] + [last_year]
    for (start, name), end in zip(starts, ends, strict=True):
        figure = bands.get(name, {}).get("mae_months")
        if figure is None or figure["value"] is None:
            continue
        end = max(end, start / 12 + 1)
        if figure["low"] is not None:
            top, bottom = chart.y(figure["high"]), chart.y(figure["low"])
            chart.add(node("rect", x=chart.x(start / 12), width=round(chart.x(end) - chart.x(start / 12), 1), y=top,
                           height=round(bottom - top, 1), fill=COLOURS[1], fill_opacity=0.22))  # fmt: skip
        chart.line([start / 12, end], [figure["value"]] * 2, COLOURS[1], 2)
        chart.add(label(chart.x((start / 12 + end) / 2), chart.y(figure["value"]) - 6, f"{figure['value']:.1f}",
                        "middle", fill=COLOURS[1], class_="on-chart"))  # fmt: skip
    return chart.svg


def coverage(steps: Sequence[dict[str, Any]]) -> Node:
    """Of central intervals of every width: how many should hold the label, and how many do."""
    chart = square("Interval coverage", "width of the interval", "labels inside")
    chart.line([s["level"] for s in steps], [s["value"] for s in steps], COLOURS[0])
    for step in steps:
        chart.whisker(step["level"], step, COLOURS[0])
    return chart.svg


def reliability(bins: Sequence[dict[str, float]], most: int) -> Node:
    """How often answers of each confidence were right; the size of a dot grows with its number of images."""
    chart = square("Calibration", "probability of the answer given (area: images)", "share of answers right")
    for b in bins:
        text = f"{b['n']:.0f} images: said {b['confidence']:.2f}, right {b['accuracy']:.2f}"
        radius = round(2.5 + 7 * math.sqrt(b["n"] / most), 1)
        chart.add(node("circle", node("title", text), cx=chart.x(b["confidence"]), cy=chart.y(b["accuracy"]), r=radius,
                       fill=COLOURS[0], fill_opacity=0.75))  # fmt: skip
    return chart.svg


def roc(curves: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> Node:
    """`curves`: name with its AUC, which cases are positive, and their scores. One class against all others."""
    chart = square("ROC curves", "1 - specificity", "sensitivity")
    for index, (_, positive, score) in enumerate(curves):
        chart.line(*roc_points(positive, score), COLOURS[index % len(COLOURS)])
    for index, (name, _, _) in enumerate(reversed(curves)):
        y = chart.y(0) - 8 - 13 * index
        colour = COLOURS[(len(curves) - 1 - index) % len(COLOURS)]
        chart.add(
            node("rect", x=chart.x.last - 132, y=y - 8, width=10, height=3.5, fill=colour, transform="translate(0 3)")
        )
        chart.add(label(chart.x.last - 118, y, name))
    return chart.svg


def roc_points(positive: np.ndarray, score: np.ndarray) -> tuple[list[float], list[float]]:
    """False and true positive rate at every threshold, without the points in the middle of a straight piece."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)  # equal scores are called together
    hits = np.concatenate([[0], np.cumsum(positive[order])[ends]])
    alarms = np.concatenate([[0], np.cumsum(~positive[order])[ends]])
    steps = np.stack([np.diff(alarms), np.diff(hits)])
    straight = steps[0, :-1] * steps[1, 1:] == steps[1, :-1] * steps[0, 1:]
    keep = np.concatenate([[True], ~straight, [True]])
    return (alarms[keep] / alarms[-1]).tolist(), (hits[keep] / hits[-1]).tolist()


def forest(
    title: str,
    rows: Sequence[tuple[str, str, dict[str, Any]]],
    overall: float | None,
    text: Callable[[float], str],
    on_axis: Callable[[float], str],
    span: tuple[float, float],
) -> Node:
    """One line a group with its interval; the dashed line is the figure of all.

    `rows`: a heading or nothing, the group, its figure."""
    height = 32 + sum(17 + 22 * bool(heading) for heading, _, _ in rows)
    svg = picture(480, height, title)
    across = Axis(*span, 108, 306)
    bottom = height - 24
    for value in across.ticks(5):
        svg.append(node("line", x1=across(value), x2=across(value), y1=4, y2=bottom, stroke=RULE))
        svg.append(label(across(value), bottom + 14, on_axis(value), "middle", fill=FAINT))
    if overall is not None:
        svg.append(node("line", x1=across(overall), x2=across(overall), y1=4, y2=bottom, stroke=COLOURS[1],
                        stroke_dasharray="4 3"))  # fmt: skip
    y = -8
    for heading, group, figure in rows:
        if heading:
            y += 22
            svg.append(label(0, y, heading, fill=FAINT, class_="heading"))
        y += 17
        svg.append(label(8, y, group))
        if figure["value"] is None:
            svg.append(label(across.first + 4, y, short_reason(figure), fill=FAINT))
            continue
        svg.append(interval(across, y - 4, figure, COLOURS[0]))
        svg.append(label(314, y, with_interval(figure, text), class_="number"))
    return svg


def gauge(
    figure: dict[str, Any],
    span: tuple[float, float],
    ends: Sequence[str],
    at_least: Sequence[float],
    at_most: Sequence[float],
) -> Node:
    """A figure on its scale; the side where the target is met is shaded."""
    svg = picture(230, 20, "figure, interval and target")
    across = Axis(*span, 42, 186)
    svg.append(label(across.first - 6, 13.5, ends[0], "end", fill=FAINT))
    svg.append(label(across.last + 6, 13.5, ends[1], fill=FAINT))
    if span[0] < 0 < span[1]:
        svg.append(node("line", x1=across(0), x2=across(0), y1=5, y2=15, stroke=FAINT))
    svg.append(node("line", x1=across.first, x2=across.last, y1=10, y2=10, stroke=RULE))
    for value in at_least:
        svg.append(node("rect", x=across(value), y=2, width=round(across.last - across(value), 1), height=16, fill=MET))
    for value in at_most:
        svg.append(node("rect", x=across.first, y=2, width=round(across(value) - across.first, 1), height=16, fill=MET))
    for value in (*at_least, *at_most):
        svg.append(node("line", x1=across(value), x2=across(value), y1=2, y2=18, stroke=COLOURS[2], stroke_width=1.5))
    if figure["value"] is not None:
        svg.append(interval(across, 10, figure, INK))
    return svg


def interval(across: Axis, y: float, figure: dict[str, Any], colour: str) -> Node:
    """A dot with its interval, lying; what passes the scale's end is cut there."""
    low, high = across.low, across.high
    group = node("g", stroke=colour, fill=colour, stroke_width=1.6)
    if figure["low"] is not None:
        ends = [across(min(max(figure[end], low), high)) for end in ("low", "high")]
        group.append(node("line", x1=ends[0], x2=ends[1], y1=y, y2=y))
        for end in ends:
            group.append(node("line", x1=end, x2=end, y1=y - 3, y2=y + 3))
    group.append(node("circle", cx=across(min(max(figure["value"], low), high)), cy=y, r=3.2))
    return group


def with_interval(figure: dict[str, Any], text: Callable[[float], str]) -> str:
    spread = "" if figure["low"] is None else f" ({text(figure['low'])} to {text(figure['high'])})"
    return text(figure["value"]) + spread


def short_reason(figure: dict[str, Any]) -> str:
    return figure.get("reason", "undefined").split(",")[0]


def square(title: str, x_title: str, y_title: str) -> Frame:
    """0 to 1 both ways, in per cent, with the diagonal."""
    per_cent = lambda v: f"{v * 100:.0f} %"  # noqa: E731
    chart = frame(title, x_title, y_title, (0, 1), (0, 1), x_text=per_cent, y_text=per_cent)
    chart.line([0, 1], [0, 1], FAINT, 1, "4 3")
    return chart


def picture(width: int, height: int, title: str) -> Node:
    return node("svg", node("title", title), viewBox=f"0 0 {width} {height}", width=width, height=height, role="img",
                aria_label=title)  # fmt: skip


def label(x: float, y: float, text: str, anchor: str = "start", fill: str = INK, **more: object) -> Node:
    return node("text", text, x=round(x, 1), y=round(y, 1), text_anchor=anchor, fill=fill, **more)
