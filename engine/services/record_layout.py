"""A short document written once and rendered twice: as markdown and as PDF."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from io import BytesIO
from pathlib import Path

import reportlab
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, LongTable, Paragraph, SimpleDocTemplate, Spacer, TableStyle

FONT, BOLD = "Vera", "VeraBd"  # Bitstream Vera, which reportlab brings: the same on every machine
MARGIN = 18 * mm
WIDTH = A4[0] - 2 * MARGIN


@dataclass(frozen=True)
class Heading:
    level: int  # 1 is the title
    text: str


@dataclass(frozen=True)
class Text:
    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Bullets:
    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """`widths`: of the columns, relative to each other."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    widths: Sequence[float]


Block = Heading | Text | Bullets | Table


def as_markdown(blocks: Sequence[Block]) -> str:
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {_plain(text)}"
        case Text(text, is_warning):
            return f"> **{_plain(text)}**" if is_warning else _plain(text)
        case Bullets(items):
            return "\n".join(f"- {_plain(item)}" for item in items)
        case Table(head, rows, _):
            lines = [head, ["---"] * len(head), *rows]
            return "\n".join("| " + " | ".join(_plain(cell) for cell in line) + " |" for line in lines)


def _plain(text: str) -> str:
    """On one line, and taken as it stands: what somebody typed makes neither a table nor a link nor HTML."""
    for character in "\\|<>*_`[]#":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def as_pdf(blocks: Sequence[Block], title: str, footer: str) -> bytes:
    """A4; the same blocks give the same bytes."""
    load_fonts()
    out = BytesIO()
    document = SimpleDocTemplate(
        out, pagesize=A4, leftMargin=MARGIN, rightMargin=MARGIN, topMargin=MARGIN, bottomMargin=MARGIN,
        title=title, author="PediScreen", invariant=1, lang="en",
    )  # fmt: skip

    def draw_footer(canvas: Canvas, page: SimpleDocTemplate) -> None:
        canvas.setFont(FONT, 7)
        canvas.setFillColor(colors.HexColor("#555555"))
        canvas.drawString(MARGIN, 10 * mm, printable(footer))
        canvas.drawRightString(A4[0] - MARGIN, 10 * mm, f"page {page.page}")

    document.build([f for b in blocks for f in _flowables(b)], onFirstPage=draw_footer, onLaterPages=draw_footer)
    return out.getvalue()


def _flowables(block: Block) -> list[Flowable]:
    styles = _styles()
    match block:
        case Heading(level, text):
            return [Paragraph(_xml(text), styles[f"heading {min(level, 3)}"])]
        case Text(text, is_warning):
            return [Paragraph(_xml(text), styles["warning" if is_warning else "body"])]
        case Bullets(items):
            return [Paragraph(_xml(item), styles["bullet"], bulletText="•") for item in items]
        case Table(head, rows, widths):
            cells = [[Paragraph(_xml(cell), styles["head"]) for cell in head]]
            cells += [[Paragraph(_xml(cell), styles["cell"]) for cell in row] for row in rows]
            table = LongTable(
                cells, colWidths=[WIDTH * width / sum(widths) for width in widths], repeatRows=1, hAlign="LEFT"
            )
            table.setStyle(
                TableStyle(
                    [
                        ("VALIGN", (0, 0), (-1, -1), "TOP"),
                        ("LINEBELOW", (0, 0), (-1, 0), 0.8, colors.HexColor("#333333")),
                        ("LINEBELOW", (0, 1), (-1, -1), 0.25, colors.HexColor("#BBBBBB")),
                        ("LEFTPADDING", (0, 0), (-1, -1), 2),
                        ("RIGHTPADDING", (0, 0), (-1, -1), 4),
                        ("TOPPADDING", (0, 0), (-1, -1), 2),
                        ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
                    ]
                )
            )
            return [table, Spacer(1, 3 * mm)]


@cache
def _styles() -> dict[str, ParagraphStyle]:
    body = ParagraphStyle("body", fontName=FONT, fontSize=9, leading=12.5, spaceAfter=5, splitLongWords=True)
    return {
        "body": body,
        "heading 1": ParagraphStyle("h1", body, fontName=BOLD, fontSize=16, leading=20, spaceAfter=8),
        "heading 2": ParagraphStyle(
            "h2", body, fontName=BOLD, fontSize=11.5, leading=15, spaceBefore=10, keepWithNext=True
        ),
        "heading 3": ParagraphStyle(
            "h3", body, fontName=BOLD, fontSize=9.5, leading=13, spaceBefore=5, keepWithNext=True
        ),
        "warning": ParagraphStyle(
            "warning", body, fontName=BOLD, borderColor=colors.HexColor("#B00020"), borderWidth=1, borderPadding=5,
            textColor=colors.HexColor("#B00020"), spaceBefore=8, spaceAfter=12,
        ),
        "bullet": ParagraphStyle("bullet", body, leftIndent=10, bulletIndent=1, spaceAfter=2),
        "head": ParagraphStyle("head", body, fontName=BOLD, fontSize=7.5, leading=10, spaceAfter=0),
        "cell": ParagraphStyle("cell", body, fontSize=7.5, leading=10, spaceAfter=0),
    }  # fmt: skip


@cache
def load_fonts() -> None:
    folder = Path(reportlab.__file__).parent / "fonts"
    for name in (FONT, BOLD):
        pdfmetrics.registerFont(TTFont(name, str(folder / f"{name}.ttf")))
    pdfmetrics.registerFontFamily(FONT, normal=FONT, bold=BOLD, italic=FONT, boldItalic=BOLD)


def _xml(text: str) -> str:
    """Paragraphs take a little markup: what somebody typed must not be taken for it."""
    return escape(printable(" ".join(text.split())), quote=False)


def printable(text: str) -> str:
    """A letter that the font lacks appears without its accent, or as a question mark: never as nothing."""
    has = pdfmetrics.getFont(FONT).face.charToGlyph

    def shown(character: str) -> str:
        if ord(character) in has:
            return character
        base = unicodedata.normalize("NFKD", character)[0]
        return base if ord(base) in has else "?"

    return "".join(shown(character) for character in unicodedata.normalize("NFC", text))
