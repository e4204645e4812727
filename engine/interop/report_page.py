"""A signed study as a page to look at: the film small, what was found, who signed. No name, number or birth date.

Drawn for a reading room's screen: near black, so that the page does not outshine the film beside it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from datetime import date, datetime
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from engine.findings.age import months_words
from engine.findings.answers import Task
from engine.interop import report_text
from engine.interop.report_text import NO_ORGANIZATION, NOT_FOR_DIAGNOSIS, PRODUCT, TITLES
from engine.interop.signed_study import SignedImage, SignedStudy

FONT_FILE = Path(__file__).parent / "fonts" / "SourceSans3VF-Upright.woff2"
WIDTH, HEIGHT, HEIGHT_OF_ONE = 1200, 1600, 1060  # at most a portrait screen of two million pixels
MARGIN = 64
FOOTER_HEIGHT = 190
IMAGES_A_PAGE = 3
MAX_FILM = 560  # pixels, either side
GAP = 44
BACKGROUND, LINE = "#090b0e", "#232a33"
TEXT, MUTED, ACCENT, AMBER = "#e4e9ef", "#8f9ba8", "#56b4e9", "#e6a23c"
SEXES = {"M": "Boy", "F": "Girl", None: "Sex not known"}


def pages_of(study: SignedStudy) -> list[np.ndarray]:
    """(rows, cols, 3) uint8 each; at least one, three images a page."""
    parts = [study.images[first : first + IMAGES_A_PAGE] for first in range(0, len(study.images), IMAGES_A_PAGE)]
    return [_page(study, images, number, len(parts)) for number, images in enumerate(parts, 1)]


def _page(study: SignedStudy, images: Sequence[SignedImage], number: int, pages: int) -> np.ndarray:
    height = HEIGHT_OF_ONE if len(study.images) == 1 else HEIGHT
    canvas = Image.new("RGB", (WIDTH, height), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    top = _header(draw, study)
    room = (height - FOOTER_HEIGHT - top) // len(images)
    films = [None if study.is_withdrawn else _film(image, min(MAX_FILM, room - 40)) for image in images]
    left = MARGIN + max(film.width + GAP if film else 0 for film in films)
    for index, (image, film) in enumerate(zip(images, films, strict=True)):
        y = top + index * room
        if film is not None:
            canvas.paste(film, (MARGIN, y))
        _image(draw, study, image, left, y)
    _footer(draw, study, height - FOOTER_HEIGHT, f", page {number} of {pages}" if pages > 1 else "")
    return np.asarray(canvas)


def _header(draw: ImageDraw.ImageDraw, study: SignedStudy) -> int:
    """Returns where the rest begins."""
    y = MARGIN - 8
    for warning in [
        *(["Withdrawn: this report no longer holds"] if study.is_withdrawn else []),
        *([NOT_FOR_DIAGNOSIS] if study.is_phantom else []),
    ]:
        draw.rounded_rectangle((MARGIN, y, WIDTH - MARGIN, y + 56), 8, fill=AMBER)
        draw.text((WIDTH / 2, y + 28), warning, fill=BACKGROUND, font=_font(28, "Semibold"), anchor="mm")
        y += 76
    draw.text((MARGIN, y + 52), TITLES[study.task], fill=TEXT, font=_font(52, "Semibold"), anchor="ls")
    draw.text((WIDTH - MARGIN, y + 52), _version(study), fill=ACCENT, font=_font(26), anchor="rs")
    draw.text((MARGIN, y + 96), _about_child(study), fill=MUTED, font=_font(28), anchor="ls")
    draw.line((MARGIN, y + 124, WIDTH - MARGIN, y + 124), fill=LINE, width=2)
    return y + 156


def _image(draw: ImageDraw.ImageDraw, study: SignedStudy, image: SignedImage, left: int, top: int) -> None:
    draw.text((left, top + 22), report_text.place_words(study, image).upper(), fill=MUTED, font=_font(24), anchor="ls")
    said = report_text.finding_words(study, image)
    colour = TEXT if image.answer is not None else AMBER
    y = _paragraph(draw, left, top + 36, said[:1].upper() + said[1:], _font(42, "Semibold"), colour, 1.16)
    y += 14
    for label, value in _facts(study, image):
        draw.text((left, y + 24), label, fill=MUTED, font=_font(24), anchor="ls")
        y = _paragraph(draw, left, y + 30, value, _font(26), TEXT, 1.22) + 12


def _film(image: SignedImage, side: int) -> Image.Image | None:
    """The film with what the reader marked on it, at most `side` high."""
    if image.picture is None:
        return None
    film = Image.fromarray(image.picture).convert("RGB")
    scale = min(MAX_FILM / film.width, side / film.height)
    film = film.resize((max(1, round(film.width * scale)), max(1, round(film.height * scale))), Image.Resampling.BOX)
    marks = ImageDraw.Draw(film)
    x_scale, y_scale = film.width / image.film_cols, film.height / image.film_rows
    for region in image.regions:
        x0, y0 = region.x0 * x_scale, region.y0 * y_scale
        corners = (x0, y0, max(x0, region.x1 * x_scale - 1), max(y0, region.y1 * y_scale - 1))
        marks.rectangle(corners, outline=ACCENT, width=3)
    return film


def _facts(study: SignedStudy, image: SignedImage) -> list[tuple[str, str]]:
    facts = []
    if image.answer is None and not study.is_withdrawn:
        facts.append(("What that means", "Nothing was found in this image, and nothing was excluded."))
    if study.task == Task.BONE_AGE and image.answer is not None:
        about = report_text.bone_age_facts(study, image)
        if about.sds is not None:
            distance = f"{about.sds.sds:+.2f} SD (one SD is {about.sds.sd_months:.1f} months)"
            facts += [("Against the age", distance), ("SD from", report_text.sd_source(about.sds))]
        else:
            facts.append(("Against the age", f"not said: {about.why_no_sd}"))
    if image.quality:
        facts.append(("Film quality", image.quality))
    if (read := report_text.read_words(image)) is not None:
        facts.append(("Model", read))
    return facts


def _footer(draw: ImageDraw.ImageDraw, study: SignedStudy, y: int, page: str) -> None:
    draw.line((MARGIN, y, WIDTH - MARGIN, y), fill=LINE, width=2)
    signers = ", ".join(reader.name for reader in study.readers)
    did = "Withdrawn" if study.is_withdrawn else "Signed"
    y = _paragraph(draw, MARGIN, y + 18, f"{did} by {signers}", _font(28, "Semibold"), TEXT, 1.2, lines=2)
    where = study.organization or NO_ORGANIZATION[:1].upper() + NO_ORGANIZATION[1:]
    y = _paragraph(draw, MARGIN, y + 4, f"{where} · {_moment(study.signed_at)}", _font(26), TEXT, 1.2, lines=1)
    models = ", ".join(study.models) or "no model read"
    made = f"{PRODUCT} {study.software} · {models}{page}"
    _paragraph(draw, MARGIN, y + 4, made, _font(22), MUTED, 1.2, lines=1)


def _about_child(study: SignedStudy) -> str:
    age = "age not known" if study.age_months is None else months_words(study.age_months)
    on = study.examination.acquired_on
    return f"{SEXES[study.patient.sex]}, {age} · " + (f"examined {_day(on)}" if on else "examination date not known")


def _version(study: SignedStudy) -> str:
    return report_text.version_words(study)[:1].upper() + report_text.version_words(study)[1:]


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _moment(at: datetime) -> str:
    return f"{_day(at.date())}, {at:%H:%M} {at.tzname()}"


def _paragraph(
    draw: ImageDraw.ImageDraw,
    left: int,
    top: int,
    text: str,
    font: ImageFont.FreeTypeFont,
    colour: str,
    leading: float,
    *,
    lines: int = 6,
) -> int:
    """Wrapped to the page's right margin, at most `lines` lines. Returns where it ends."""
    step = round(font.size * leading)
    wrapped = _wrapped(text, font, WIDTH - MARGIN - left)
    if len(wrapped) > lines:
        wrapped = [*wrapped[: lines - 1], wrapped[lines - 1] + " ..."]
    for index, line in enumerate(wrapped):
        draw.text((left, top + index * step + font.size), line, fill=colour, font=font, anchor="ls")
    return top + len(wrapped) * step


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    found = [""]
    for word in _shown(text).split():
        longer = f"{found[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            found[-1] = longer
            continue
        if found[-1]:
            found.append("")
        while font.getlength(word) > width:  # one word wider than the page
            fits = max(1, sum(font.getlength(word[:end]) <= width for end in range(1, len(word) + 1)))
            found[-1:], word = [word[:fits], ""], word[fits:]
        found[-1] = word
    return found


def _shown(text: str) -> str:
    """A letter that the font lacks appears without its accent, or as a question mark: never as an empty box."""
    missing = _drawn("\uffff")

    def shown(character: str) -> str:
        if character.isspace() or _drawn(character) != missing:
            return character
        base = unicodedata.normalize("NFKD", character)[0]
        return base if base != character and _drawn(base) != missing else "?"

    return "".join(shown(character) for character in unicodedata.normalize("NFC", text))


@cache
def _drawn(character: str) -> bytes:
    mask = _font(20).getmask(character)
    return bytes(mask) + repr(mask.size).encode()


@cache
def _font(size: int, weight: str = "Regular") -> ImageFont.FreeTypeFont:
    font = ImageFont.truetype(str(FONT_FILE), size, layout_engine=ImageFont.Layout.BASIC)
    font.set_variation_by_name(weight)
    return font
