"""The evaluation as one HTML file that a clinician can read, print and pass on: no script, nothing from a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engine.evaluation_figures import CLASSES, Outcome, error_months, probabilities_of
from engine.findings.answers import Task
from engine.findings.summary import answer_words
from engine.subgroups import AGE_BANDS
from engine.targets import PUBLISHED, Target, targets_of
from training import evaluation_words as words
from training import report_charts as charts
from training.html_node import Node, as_text, node

STYLE = Path(__file__).with_name("evaluation_report.css")
FOOT = '@page { @bottom-left { content: "%s %s"; font: 7pt sans-serif; color: #7a4a00; } }'  # of every printed page
NOT_FOR_DIAGNOSIS = "Not for diagnostic use. Research software; no health authority has authorised it."
PHANTOM = "Phantoms: synthetic images, or a model that has seen nothing else. The figures say nothing about children."


def as_html(result: dict[str, Any], outcomes: Mapping[Task, Sequence[Outcome]]) -> str:
    """`result` as engine.evaluation.result_of gives it, of these outcomes."""
    tasks = [task for task in Task if task in outcomes]
    title = f"Evaluation of {result['model_version']}"
    head = node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", name="viewport", content="width=device-width"),
        node("title", title),
        node("style", STYLE.read_text(encoding="utf-8") + FOOT % (NOT_FOR_DIAGNOSIS, PHANTOM * result["phantom"])),
    )
    marks = [PHANTOM] * result["phantom"] + [NOT_FOR_DIAGNOSIS]
    body = node(
        "body",
        node(
            "main",
            _header(title, result, outcomes, tasks),
            node("div", *[node("p", mark) for mark in marks], class_="banner", role="note"),
            *[node("p", f"Incomplete: {note}.", class_="warning") for note in result.get("notes", [])],
            _at_a_glance(result, tasks),
            *[_task(task, result, outcomes[task]) for task in tasks],
            _method(result, tasks),
        ),
    )
    return "<!DOCTYPE html>\n" + as_text(node("html", head, body, lang="en")) + "\n"


def _header(title: str, result: dict[str, Any], outcomes: Mapping[Task, Sequence[Outcome]], tasks) -> Node:
    everyone = [o for task in tasks for o in outcomes[task]]
    patients = {o.patient for o in everyone if o.patient}
    facts = {
        "Model": result["model_version"],
        "Data": result["data"],
        "Images": f"{len(everyone):,}, {sum(not o.read.abstained for o in everyone):,} read",
        "Patients": f"{len(patients):,}" if patients else "not named in the annotations",
        "Date": result["date"],
    }
    rows = [node("div", node("dt", name), node("dd", said)) for name, said in facts.items()]
    return node("header", node("p", "PediScreen", class_="brand"), node("h1", title), node("dl", *rows))


def _at_a_glance(result: dict[str, Any], tasks: Sequence[Task]) -> Node:
    cards = []
    for task in tasks:
        said = [node("p", line) for line in words.sentences(task, result[task])]
        count = f"{result[task]['n_read']} of {result[task]['n']} images read"
        cards.append(node("article", node("h3", words.TITLES[task]), *said, node("p", count, class_="quiet")))
    return node("section", node("h2", "At a glance"), node("div", *cards, class_="cards"))


def _task(task: Task, result: dict[str, Any], outcomes: Sequence[Outcome]) -> Node:
    found = result[task]
    read = [o for o in outcomes if not o.read.abstained]
    return node(
        "section",
        node("h2", words.TITLES[task]),
        node("p", words.unread_words(found)),
        _figures(task, found, result["phantom"]),
        _plots(task, found, read),
        *[_classes(field, found) for field in CLASSES[task]],
        _groups(task, found),
        _worst(task, found),
        _published(task),
        id=task.value,
        class_="task",
    )


def _figures(task: Task, found: dict[str, Any], phantom: bool) -> Node:
    rows = []
    for figure in words.FIGURES[task]:
        value = found[figure.name]
        targets = targets_of(task, figure.name, phantom=phantom)
        gauge = charts.gauge(
            value,
            figure.span,
            [words.on_axis(end, figure.text) for end in figure.span],
            [t.at_least for t in targets if t.at_least is not None],
            [t.at_most for t in targets if t.at_most is not None],
        )
        name = [figure.words, node("small", figure.note)] if figure.note else [figure.words]
        rows.append(
            node(
                "tr",
                node("th", *name, scope="row"),
                _value_cell(f"{task}.{figure.name}", value, figure.text),
                node("td", _interval(value, figure.text), class_="number"),
                node("td", gauge, class_="gauge"),
                node("td", *[_target(target, value, figure.text) for target in targets]),
            )
        )
    return _table(["", "Value", "95 % interval", "On its scale", "Target"], rows, class_="figures")


def _value_cell(name: str, value: dict[str, Any], text) -> Node:
    said = charts.short_reason(value) if value["value"] is None else text(value["value"])
    kind = "undefined" if value["value"] is None else "number"
    return node("td", said, class_=kind, data_figure=name, data_value=_or_none(value["value"]))


def _target(target: Target, value: dict[str, Any], text) -> Node:
    bound = f"at least {text(target.at_least)}" if target.at_least is not None else f"at most {text(target.at_most)}"
    whose = " (phantom model, site A)" if target.only_phantoms else " (unverified)" if target.unverified else ""
    verdict = target.verdict(value)
    state = "met" if verdict.startswith("met") else "missed" if verdict.startswith("missed") else "open"
    return node("div", f"{bound}{whose}: ", node("b", verdict, class_=state), class_="target", title=target.source)


def _plots(task: Task, found: dict[str, Any], read: Sequence[Outcome]) -> Node | None:
    if not read:
        return None
    if task is Task.BONE_AGE:
        labels = np.array([o.truth["bone_age_months"] for o in read], float)
        said = labels + [error_months(o) for o in read]
        names = [o.image for o in read]
        plots = [
            charts.bland_altman(labels, said, names, found),
            charts.error_by_age(labels, said, names, found["groups"]["labelled_bone_age"], AGE_BANDS),
        ]
        if found["coverage"]:
            plots.append(charts.coverage(found["coverage"]))
        return node("div", *map(_plot, plots), class_="plots")
    rows = []
    for field in CLASSES[task]:
        name = words.FIELD_NAMES[field]
        curves = _curves(field, found, read)
        bins = found["reliability"][field]
        rows += [
            _plot(charts.roc(curves), f"{name}: ROC curves") if curves else None,
            _plot(charts.reliability(bins, max(b["n"] for b in bins)), f"{name}: calibration"),
            _confusion(field, found["confusion"][field]),
        ]
    return node("div", *rows, class_="plots")


def _curves(field: str, found: dict[str, Any], read: Sequence[Outcome]) -> list[tuple[str, np.ndarray, np.ndarray]]:
    curves = []
    for kind, figures in found["by_class"][field].items():
        if figures["auc"]["value"] is not None:
            positive = np.array([o.truth[field] == kind for o in read])
            score = np.array([probabilities_of(field, o)[kind] for o in read])
            curves.append((f"{words.class_name(field, kind)}: AUC {figures['auc']['value']:.3f}", positive, score))
    return curves


def _plot(chart: Node, title: str | None = None) -> Node:
    return node("figure", node("figcaption", title or chart.get("aria-label")), chart)


def _confusion(field: str, found: dict[str, Any]) -> Node:
    """Rows are labels, columns reads; the shade is the share of the row."""
    names = [words.CLASS_NAMES.get(label, label) for label in found["labels"]]
    rows = []
    for label, name, counts in zip(found["labels"], names, found["counts"], strict=True):
        cells = []
        for said, count in zip(found["labels"], counts, strict=True):
            share = count / sum(counts) if count else 0.0
            colour = "0,114,178" if said == label else "213,94,0"
            style = f"background:rgba({colour},{0.12 + 0.6 * share:.2f})" if count else None
            name_ = f"confusion.{field}.{label}.{said}"
            text = str(count) if count else "\N{MIDDLE DOT}"
            cells.append(node("td", text, style=style, data_figure=name_, data_value=count))
        rows.append(node("tr", node("th", name, scope="row"), *cells))
    head = node("tr", node("th", "label \N{DOWNWARDS ARROW}  read \N{RIGHTWARDS ARROW}"),
                *[node("th", name, scope="col") for name in names])  # fmt: skip
    table = node("table", node("thead", head), node("tbody", *rows), class_="confusion")
    return node("figure", node("figcaption", f"{words.FIELD_NAMES[field]}: labels and reads"), table)


def _classes(field: str, found: dict[str, Any]) -> Node:
    columns = {"sensitivity": words.per_cent, "specificity": words.per_cent, "f1": words.plain, "auc": words.plain}
    rows = []
    for kind, figures in found["by_class"][field].items():
        if figures["n"] or figures["f1"]["value"] is not None:
            cells = [_with_interval(figures[name], text) for name, text in columns.items()]
            name = words.class_name(field, kind)
            rows.append(
                node("tr", node("th", name, scope="row"), node("td", str(figures["n"]), class_="number"), *cells)
            )
    absent = [words.class_name(field, k) for k, f in found["by_class"][field].items() if not f["n"]]
    return node(
        "div",
        node("h3", f"{words.FIELD_NAMES[field]}, each class against all others"),
        _table(["", "Labelled", "Sensitivity", "Specificity", "F1", "AUC"], rows),
        node("p", f"No read image is labelled {', '.join(absent)}.", class_="quiet") if absent else None,
    )


def _groups(task: Task, found: dict[str, Any]) -> Node:
    columns = [words.figure_of(task, name) for name in words.BY_GROUP[task]]
    groupings = {by: found["groups"].get(by, {}) for by in words.GROUPINGS}
    forests = []
    for figure in columns[:2]:
        lines = []
        for by, groups in groupings.items():
            for index, (group, of_group) in enumerate(groups.items()):
                lines.append((words.GROUPINGS[by] if index == 0 else "", group, of_group[figure.name]))
        span = _span([figure_ for _, _, figure_ in lines], figure.span)
        chart = charts.forest(
            figure.words,
            lines,
            found[figure.name]["value"],
            figure.text,
            partial(words.on_axis, text=figure.text),
            span,
        )
        forests.append(_plot(chart))
    rows = []
    for by, groups in groupings.items():
        rows += [node("tr", node("th", words.GROUPINGS[by], colspan=3 + len(columns), class_="band"))] if groups else []
        for group, of_group in groups.items():
            unread = words.per_cent(of_group["no_read_share"])
            counts = [node("td", said, class_="number") for said in (str(of_group["n"]), unread)]
            cells = [_with_interval(of_group[c.name], c.text, f"{task}.{by}.{group}.{c.name}") for c in columns]
            rows.append(node("tr", node("th", group, scope="row"), *counts, *cells))
    return node(
        "div",
        node("h3", "Groups of children"),
        node("div", *forests, class_="plots wide"),
        _table(["", "Images", "No read", *[c.words for c in columns]], rows),
    )


def _span(figures: Sequence[dict[str, Any]], widest: tuple[float, float]) -> tuple[float, float]:
    """A scale that holds every interval with some room; within 0 and 1 for shares."""
    ends = [f[end] for f in figures for end in ("low", "value", "high") if f[end] is not None]
    if not ends:
        return widest
    room = max(0.1 * (max(ends) - min(ends)), 0.02 * (widest[1] - widest[0]))
    low, high = min(ends) - room, max(ends) + room
    return (max(low, 0.0), min(high, 1.0)) if widest[1] == 1.0 else (low, high)


def _worst(task: Task, found: dict[str, Any]) -> Node | None:
    if not found["worst"]:
        return None
    rows = []
    for case in found["worst"]:
        label, said = (answer_words({"task": task.value} | case[side]) for side in ("label", "read"))
        if task is Task.BONE_AGE:
            low, high = (answer_words({"task": task.value, "bone_age_months": m}) for m in case["interval_months"])
            how = f"{words.signed(case['error_months'])} months; 80 % interval {low} to {high}"
        else:
            likely = case["probability_of_label"]
            how = words.per_cent(likely) if likely >= 0.001 else "under 0.1 %"
        sex = {"F": "girl", "M": "boy"}.get(case["sex"], "")
        age = "" if case["age_months"] is None else _age(task, case["age_months"])
        whom = ", ".join(part for part in (sex, age, f"site {case['site']}" if case["site"] else "") if part)
        rows.append(
            node("tr", node("td", case["image"], class_="file"), *[node("td", t) for t in (whom, label, said, how)])
        )
    title = "Largest errors" if task is Task.BONE_AGE else "Wrong answers given most confidently"
    last = "Error" if task is Task.BONE_AGE else "Probability given to the label"
    what = " The label may be at fault as well as the read: look at these first."
    return node("div", node("h3", title), node("p", what.strip(), class_="quiet"),
                _table(["File", "Child", "Label", "Read", last], rows))  # fmt: skip


def _age(task: Task, age_months: float) -> str:
    if task is Task.ROP:
        return f"{age_months:.1f} months"
    return f"{int(age_months // 12)} y {int(age_months % 12)} m"


def _published(task: Task) -> Node:
    rows = [
        node(
            "tr",
            *[node("td", t) for t in (p.who, p.figure, p.images, p.source + (" (unverified)" if p.unverified else ""))],
        )
        for p in PUBLISHED
        if p.task is task
    ]
    return node(
        "details",
        node("summary", "What others have published: other images, so for orientation only"),
        _table(["Who", "Figure", "Images", "Source"], rows),
        open="open",
    )


def _method(result: dict[str, Any], tasks: Sequence[Task]) -> Node:
    method = result["method"]
    bands = method["age_bands_from_months"]
    lines = [
        f"Intervals hold the true figure in {method['confidence']:.0%} of evaluations like this one: percentiles of "
        f"{method['bootstrap_samples']:,} bootstrap samples; for a share of 0 or 100 % the exact bound of Clopper and "
        "Pearson, by patients. Where there is no interval because of too few errors, none occurred; that does not mean "
        "that none can.",
        *[f"{words.TITLES[task]}: samples are drawn from {method['drawn'][task]}." for task in tasks],
        f"Groups with fewer than {method['least_patients_of_a_group']} patients (images, where no patient is named) "
        "get no figure. With many groups, one interval in twenty misses by chance: a single odd group is a reason to "
        "look, not a finding.",
        f"Age bands are of age at the examination: {', '.join(bands['others'])}, five years each, the same for girls "
        f"and boys. For ROP: {', '.join(bands['rop'])} (limits unverified; annotations have no gestational age).",
        "Figures describe the images that got a read. Labels are taken as the truth, though two readers differ too.",
        "Shaded on a scale: where the target is met. Not certain: the interval reaches across the target.",
    ]  # fmt: skip
    sources = {
        f"{t.source}{' (unverified)' if t.unverified else ''}": None
        for task in tasks
        for figure in words.FIGURES[task]
        for t in targets_of(task, figure.name, phantom=result["phantom"])
    }
    return node(
        "section",
        node("h2", "How to read this"),
        node("ul", *[node("li", line) for line in lines]),
        node("h3", "Where the targets come from"),
        node("ul", *[node("li", f"{source}.") for source in sources]),
    )


def _with_interval(value: dict[str, Any], text, name: str | None = None) -> Node:
    if value["value"] is None:
        return node("td", charts.short_reason(value), class_="undefined", data_figure=name)
    spread = node("small", _interval(value, text))
    return node("td", text(value["value"]), spread, class_="number", data_figure=name, data_value=value["value"])


def _interval(value: dict[str, Any], text) -> str:
    if value["low"] is None:
        return "" if value["value"] is None else value.get("reason", "")
    return f"{text(value['low'])} to {text(value['high'])}"


def _table(columns: Sequence[str], rows: Sequence[Node], **attributes: object) -> Node:
    head = node("thead", node("tr", *[node("th", column, scope="col") for column in columns]))
    return node("div", node("table", head, node("tbody", *rows), **attributes), class_="scroll")


def _or_none(value: float | None) -> str | None:
    return None if value is None else str(value)
