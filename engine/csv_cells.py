"""Cells of CSV files that people open in a spreadsheet."""

from __future__ import annotations

import re

STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
NUMBER_OR_DASH = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?|-")


def harmless(cell: object) -> object:
    """A spreadsheet runs a text such as "=HYPERLINK(...)"; with an apostrophe ahead it shows it. Site names, user names
    and the cells of uploaded files come from elsewhere."""
    if not isinstance(cell, str) or not cell.startswith(STARTS_A_FORMULA) or NUMBER_OR_DASH.fullmatch(cell):
        return cell
    return f"'{cell}"
