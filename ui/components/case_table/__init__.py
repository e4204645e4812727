"""A table of cases or files: a line opens by a click or Enter, J and K move, headings sort.

`st.dataframe` draws on a canvas, marks a line by its checkbox only, and cannot open it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

FOLDER = Path(__file__).parent

_table = st.components.v2.component(
    "case_table",
    js=(FOLDER / "case_table.js").read_text(encoding="utf-8"),
    css=(FOLDER / "case_table.css").read_text(encoding="utf-8"),
)


@dataclass(frozen=True)
class Column:
    name: str
    label: str
    width: str = ""  # CSS
    sort: str | None = None  # reported when the heading is clicked
    align: str = ""


@dataclass(frozen=True)
class Line:
    """`cells` by column name: a text, or {"text", "note", "tone"}; `done` lines are dimmed."""

    id: int
    label: str
    cells: dict[str, Any]
    done: bool = False


@dataclass(frozen=True)
class Clicked:
    """At most one of the two is set."""

    open: int | None = None
    sort: str | None = None


def show(
    columns: list[Column],
    lines: list[Line],
    *,
    label: str,
    key: str = "case_table",
    height: str = "calc(100dvh - 15.8rem)",
    sort: str | None = None,
    descending: bool = False,
    marked: int | None = None,
) -> Clicked:
    """`marked`: the line the keyboard starts at. `height` is the most the table takes before it scrolls (CSS)."""
    result = _table(
        key=key,
        data={
            "label": label,
            "height": height,
            "columns": [vars(column) for column in columns],
            "rows": [vars(line) for line in lines],
            "sort": sort,
            "descending": descending,
            "marked": marked,
        },
        on_open_change=lambda: None,
        on_sort_change=lambda: None,
    )
    return Clicked(open=result.open, sort=result.sort)
