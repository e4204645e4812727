"""A dashboard as one page to print, send or file: PDF, or HTML that needs nothing else. What is on it is the sheet that
was on the screen, with its filter. It names no child; a growth chart carries the child's pseudonym."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from html import escape

from reportlab.graphics import renderPDF
from reportlab.lib.colors import HexColor, black
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from engine.dashboard_sheet import Sheet, Tile, interval_words, value_words
from engine.services.chart_drawing import as_svg, drawing
from engine.services.record_layout import BOLD, FONT, load_fonts, printable

MARGIN, GAP = 34, 8
WIDTH, HEIGHT = A4
COLUMNS, TILE_COLUMNS = 2, 4
TILE_HEIGHT, MOST_CHART_HEIGHT = 44, 190
QUIET, WARNING = HexColor("#555555"), HexColor("#B00020")
NOT_DIAGNOSTIC = "Not a medical device, not for diagnostic use."
PHANTOM = "Phantoms or a phantom model are among the cases: the figures say nothing about children."


def as_pdf(sheet: Sheet, made_at: datetime, made_by: str) -> bytes:
    """One page of A4, whatever the number of charts."""
    load_fonts()
    out = io.BytesIO()
    page = Canvas(out, pagesize=A4, invariant=1)
    page.setTitle(f"PediScreen: {_heading(sheet)}")
    page.setAuthor("PediScreen")
    y = HEIGHT - MARGIN - 12
    _line(page, MARGIN, y, f"PediScreen: {_heading(sheet)}", BOLD, 14)
    _line(page, WIDTH - MARGIN, y, _made(made_at, made_by), FONT, 7, QUIET, from_right=True)
    y = _wrapped(page, y - 14, _filter_words(sheet), 8, black)
    if sheet.is_phantom:
        y = _wrapped(page, y - 1, PHANTOM, 8, WARNING, BOLD)
    for alert in sheet.alerts:
        y = _wrapped(page, y - 1, f"Alert: {alert}", 8, WARNING)
    y = _tiles(page, y - 4, sheet.tiles)
    foot = MARGIN + 9 * _rows_of(_footer(sheet), 6.5)
    _charts(page, y - GAP, foot + 4, sheet)
    _wrapped(page, foot, _footer(sheet), 6.5, QUIET)
    page.showPage()
    page.save()
    return out.getvalue()


def as_html(sheet: Sheet, made_at: datetime, made_by: str) -> str:
    """One file, the charts as SVG inside it."""
    tiles = "".join(
        f"<div{'' if tile.missing is None and tile.words is None else _IN_WORDS}><h2>{escape(tile.title)}</h2>"
        + "".join(f"<p>{escape(line)}</p>" for line in tile_lines(tile))
        + "</div>"
        for tile in sheet.tiles
    )
    charts = "".join(f"<figure>{_inner_svg(as_svg(chart))}</figure>" for chart in sheet.charts)
    warnings = [PHANTOM] if sheet.is_phantom else []
    alerts = "".join(f'<p class="alert">{escape(text)}</p>' for text in (*warnings, *sheet.alerts))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>PediScreen: {escape(_heading(sheet))}</title><style>{_STYLE}</style></head><body>"
        f"<header><h1>PediScreen: {escape(_heading(sheet))}</h1>"
        f"<span>{escape(_made(made_at, made_by))}</span></header><p>{escape(_filter_words(sheet))}</p>{alerts}"
        f'<section class="tiles">{tiles}</section><section class="charts">{charts}</section>'
        f"<footer>{escape(_footer(sheet))}</footer></body></html>"
    )


_IN_WORDS = ' class="words"'
_STYLE = """
@page { size: A4; margin: 10mm }
body { font: 12px/1.35 sans-serif; color: #111; max-width: 190mm; margin: 6mm auto; font-variant-numeric: tabular-nums }
header { display: flex; justify-content: space-between; align-items: baseline } h1 { font-size: 19px; margin: 0 }
header span, footer { color: #555; font-size: 10px } .alert { color: #b00020; margin: 2px 0 }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 6px; margin: 8px 0 }
.tiles div { border: 1px solid #ddd; border-radius: 3px; padding: 4px 6px }
.tiles h2 { font-size: 10px; font-weight: normal; color: #555; margin: 0 } .tiles p { margin: 0; font-size: 9.5px }
.tiles p:nth-of-type(1) { font-size: 14px; font-weight: bold }
.tiles .words p:nth-of-type(1) { font-size: 10.5px; font-weight: normal }
.charts { display: grid; grid-template-columns: 1fr 1fr; gap: 6px } figure { margin: 0; break-inside: avoid }
svg { width: 100%; height: auto }
"""


def tile_lines(tile: Tile) -> list[str]:
    """The value, its interval and n, and each target's verdict."""
    if tile.words is not None:
        return [tile.words]
    if tile.missing is not None:
        return [tile.missing]
    value = value_words(tile.figure.value, tile.unit)
    if tile.census:
        return [value]
    return [value, f"{interval_words(tile.figure, tile.unit)}; n = {tile.n:,}", *target_words(tile)]


def target_words(tile: Tile) -> list[str]:
    """A line a level; where two targets set the same one, the verified."""
    said: dict[tuple[str, float], str] = {}
    for target in sorted(tile.targets, key=lambda one: one.unverified):
        side, level = ("at least", target.at_least) if target.at_least is not None else ("at most", target.at_most)
        mark = ", unverified" if target.unverified else ", for phantoms" if target.only_phantoms else ""
        shown = value_words(level, tile.unit) if tile.unit == "share" else f"{level:g}"
        figure = {"value": tile.figure.value, "low": tile.figure.low, "high": tile.figure.high}
        said.setdefault((side, level), f"target {side} {shown}{mark}: {target.verdict(figure)}")
    return list(said.values())


# ---------------------------------------------------------------- the page


def _tiles(page: Canvas, y: float, tiles: Sequence[Tile]) -> float:
    width = (WIDTH - 2 * MARGIN - (TILE_COLUMNS - 1) * GAP) / TILE_COLUMNS
    for i, tile in enumerate(tiles):
        row, column = divmod(i, TILE_COLUMNS)
        x, top = MARGIN + column * (width + GAP), y - row * (TILE_HEIGHT + 4)
        page.setStrokeColor(HexColor("#cccccc"))
        page.roundRect(x, top - TILE_HEIGHT, width, TILE_HEIGHT, 2)
        _line(page, x + 4, top - 8, _cut(tile.title, width - 8, FONT, 6.5), FONT, 6.5, QUIET)
        value, *more = tile_lines(tile)
        is_number = tile.missing is None and tile.words is None
        size = 11 if is_number else 7
        first, *rest = [value] if is_number else _split(value, width - 8, FONT, size)
        _line(page, x + 4, top - 20, _cut(first, width - 8, BOLD, size), BOLD if is_number else FONT, size)
        for k, words in enumerate((*rest, *more)[:3]):
            _line(page, x + 4, top - 28 - 7 * k, _cut(words, width - 8, FONT, 5.6), FONT, 5.6, QUIET)
    rows = -(-len(tiles) // TILE_COLUMNS)
    return y - rows * (TILE_HEIGHT + 4)


def _charts(page: Canvas, top: float, bottom: float, sheet: Sheet) -> None:
    rows = max(1, -(-len(sheet.charts) // COLUMNS))
    height = min(MOST_CHART_HEIGHT, (top - bottom - (rows - 1) * GAP) / rows)
    width = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS
    for i, chart in enumerate(sheet.charts):
        row, column = divmod(i, COLUMNS)
        x, y = MARGIN + column * (width + GAP), top - (row + 1) * height - row * GAP
        renderPDF.draw(drawing(chart, width, height), page, x, y)


def _wrapped(page: Canvas, y: float, words: str, size: float, colour, font: str = FONT) -> float:
    """Returns where the next line begins."""
    for line in _split(words, WIDTH - 2 * MARGIN, font, size):
        _line(page, MARGIN, y, line, font, size, colour)
        y -= size + 2.5
    return y


def _rows_of(words: str, size: float) -> int:
    return len(_split(words, WIDTH - 2 * MARGIN, FONT, size))


def _split(words: str, width: float, font: str, size: float) -> list[str]:
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and stringWidth(longer, font, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [_cut(line, width, font, size) for line in lines]


def _cut(words: str, width: float, font: str, size: float) -> str:
    """What does not fit ends in an ellipsis."""
    if stringWidth(words, font, size) <= width:
        return words
    while words and stringWidth(words + "...", font, size) > width:
        words = words[:-1]
    return words + "..."


def _line(page: Canvas, x: float, y: float, words: str, font: str, size: float, colour=black, *, from_right=False):
    page.setFont(font, size)
    page.setFillColor(colour)
    (page.drawRightString if from_right else page.drawString)(x, y, printable(words))


def _heading(sheet: Sheet) -> str:
    return sheet.heading or f"{sheet.title.lower()} dashboard"


def _filter_words(sheet: Sheet) -> str:
    return " · ".join(f"{name}: {value}" for name, value in sheet.filter_words)


def _footer(sheet: Sheet) -> str:
    notes = dict.fromkeys([*sheet.notes, *(chart.note for chart in sheet.charts if chart.note and not chart.missing)])
    return f"{' '.join(notes)} {NOT_DIAGNOSTIC}"


def _made(at: datetime, by: str) -> str:
    return f"made {at:%Y-%m-%d %H:%M} {at:%Z} by {by}"


def _inner_svg(text: str) -> str:
    """Without the XML heading."""
    return text[text.index("<svg") :]
