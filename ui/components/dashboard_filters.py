"""The choices above a dashboard. What is chosen stays for the session, also while another page is open."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Literal

import streamlit as st

from engine.findings.answers import Task
from engine.services.class_figures import FIELD_WORDS, fields_of
from engine.services.figure_filters import Choices, FigureFilter
from engine.subgroups import SEX_NAMES, UNKNOWN, age_bands
from ui import words

Kind = Literal["Model", "Readers", "Operations"]
KINDS: tuple[Kind, ...] = ("Model", "Readers", "Operations")
ALL = "all"


def kind() -> Kind:
    return _one("Dashboard", KINDS, "dash_kind", str)


def task(of: Kind) -> tuple[Task, bool]:
    """And whether all tasks are meant, which only operations can show."""
    options = [*Task, ALL] if of == "Operations" else list(Task)
    name = "dash_any_task" if of == "Operations" else "dash_task"
    chosen = _one("Task", options, name, lambda one: "All" if one == ALL else words.TASK[one], default=options[-1]
                  if of == "Operations" else options[0])  # fmt: skip
    return (Task.BONE_AGE, True) if chosen == ALL else (Task(chosen), False)


def field(of: Task) -> str | None:
    """Which part of the task's answer; None where it has one."""
    fields = fields_of(of)
    if len(fields) < 2:
        return fields[0] if fields else None
    return _one("Finding", fields, "dash_field", lambda name: words.sentence(FIELD_WORDS[name]))


def details(of: Kind, chosen: Task, all_tasks: bool, found: Choices) -> FigureFilter:
    """The rest, in a popover; its label counts what is set."""
    filter = FigureFilter(task=chosen, all_tasks=all_tasks)
    with st.popover(_label()):
        if of != "Operations":
            filter = _versions(of, filter, found)
        sites = _many("Site", found.sites, "dash_sites", str)
        filter = replace(filter, sites=tuple(sites))
        if of == "Operations":
            return filter
        sexes = _many("Sex", (*SEX_NAMES, UNKNOWN), "dash_sexes", lambda sex: SEX_NAMES.get(sex, sex))
        bands = [name for _, name in age_bands(chosen)]
        ages = _many("Age at examination", (*bands, UNKNOWN), f"dash_ages_{len(bands)}", str)
        readers = _many("Reader", [reader for reader, _ in found.readers], "dash_readers", found.reader_name)
        period = st.date_input(
            "Decided", value=(), max_value=date.today(), key="dash_period", format="YYYY-MM-DD",
            persist_state="session",
        )  # fmt: skip
    first, last = (*period, None, None)[:2] if isinstance(period, tuple) else (period, None)
    return replace(
        filter, sexes=tuple(sexes), age_bands=tuple(ages), reader_ids=tuple(readers), first_day=first, last_day=last
    )


def _versions(of: Kind, filter: FigureFilter, found: Choices) -> FigureFilter:
    ids = [version for version, _ in found.versions]
    if of == "Readers":
        version = st.selectbox(
            "Read by", [None, *ids], format_func=lambda one: "any model" if one is None else found.version_name(one),
            key="dash_reader_version", persist_state="session",
        )  # fmt: skip
        return replace(filter, version_id=version)
    version = st.selectbox(
        "Model version", ids, format_func=found.version_name, key="dash_version", persist_state="session",
        placeholder="No model has read here yet",
    )  # fmt: skip
    others = [None, *(one for one in ids if one != version)]
    other = st.selectbox(
        "Compare with", others, format_func=lambda one: "none" if one is None else found.version_name(one),
        key="dash_other", persist_state="session",
    )  # fmt: skip
    return replace(filter, version_id=version, other_version_id=other)


def _label() -> str:
    keys = ("dash_sites", "dash_sexes", "dash_ages_3", "dash_ages_4", "dash_readers", "dash_period", "dash_other",
            "dash_reader_version")  # fmt: skip
    active = sum(bool(st.session_state.get(key)) for key in keys)
    return f"Filters ({active})" if active else "Filters"


def _one(label, options, key, format_func, default=None):
    return st.segmented_control(
        label, options, default=default or options[0], required=True, format_func=format_func,
        label_visibility="collapsed", key=key, persist_state="session",
    )  # fmt: skip


def _many(label, options, key, format_func):
    return st.multiselect(label, options, format_func=format_func, key=key, persist_state="session", placeholder="Any")
