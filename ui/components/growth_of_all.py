"""All children against WHO's references: distributions of z, bone age beside height, supplied z beside ours."""

from __future__ import annotations

from datetime import date
from html import escape

import streamlit as st

from engine.dashboard_sheet import Sheet
from engine.findings.bone_age import TABLE_NAMES, SdTable
from engine.findings.growth import Indicator
from engine.growth_figures import ROUNDING, Agreement, Distribution
from engine.radiology_metrics import Interval
from engine.services import growth_population, growth_sheets
from engine.services.child_growth import HEIGHT_WITHIN_MONTHS
from engine.services.growth_population import PopulationFilter
from engine.services.growth_sheets import FLOOR_R
from engine.subgroups import AGE_BANDS
from ui import database, state, words
from ui.components import growth_charts, page_parts, report_buttons
from ui.components.growth_charts import NAMES
from ui.components.growth_child import image_format

BANDS = {
    name: (start, end)
    for (start, name), end in zip(AGE_BANDS, [start for start, _ in AGE_BANDS[1:]] + [1000], strict=True)
}
KINDS = {False: "Real", True: "Phantoms"}
SEXES = {"F": "Girls", "M": "Boys"}


def chosen(*, with_chart: bool = True) -> PopulationFilter | None:
    """What is counted; None where there is nothing, which the page then says."""
    with database.session() as session:
        here = growth_population.what_is_here(session, state.current_user())
    if not here.sites:
        page_parts.empty(
            "No visits yet",
            "Enter a child's visit under <em>A child</em>, or take in a file under <em>From a file</em>.",
        )
        return None
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        is_phantom = next(iter(here.sites))
        if len(here.sites) > 1:
            is_phantom = st.segmented_control(
                "Visits", list(KINDS), default=False, required=True, format_func=KINDS.get, **_kept("kind")
            )
        sex = st.segmented_control("Sex", list(SEXES), format_func=SEXES.get, **_kept("sex"))
        band = st.segmented_control("Age at the visit", list(BANDS), **_kept("age"))
        sites = here.sites[is_phantom]
        of_site = st.multiselect("Site", sites, width=190, **_kept("site")) if sites else []
        first, last = (
            st.date_input(name, None, min_value=date(1990, 1, 1), format="DD/MM/YYYY", width=140, **_kept(name))
            for name in ("From", "To")
        )
        if with_chart:
            image_format()
    if is_phantom:
        page_parts.notice(f"Phantom visits, made up: {words.NOT_FOR_DIAGNOSIS}.")
    return PopulationFilter(sex, BANDS.get(band), tuple(of_site), first, last, is_phantom)


def _kept(name: str) -> dict:
    """The choice stays while one looks at other pages."""
    return {"key": f"population_{name}", "persist_state": "session"}


def distributions() -> None:
    """Each child once, with the latest visit of the selection."""
    selection = chosen()
    if selection is None:
        return
    with database.session() as session:
        found = growth_population.distributions(session, state.current_user(), selection)
    indicator = st.segmented_control(
        "Measurement",
        list(NAMES),
        default=Indicator.HEIGHT,
        required=True,
        format_func=lambda one: f"{NAMES[one]} {found[one].n:,}",
        label_visibility="collapsed",
        key="growth_indicator_of_all",
        persist_state="session",
    )
    left, right = st.columns([1.5, 1], gap="medium")
    with left:
        if found[indicator].mean.value is None:
            page_parts.empty(
                words.sentence(found[indicator].mean.reason), "Take a filter away, or take in more visits."
            )
        else:
            growth_charts.show(
                growth_charts.distribution_chart(indicator, found[indicator]),
                key=f"distribution-{indicator}",
                alt=f"Distribution of {NAMES[indicator].lower()} for age z over the reference's",
                rows=_bins(found[indicator]),
                image=st.session_state.get("growth_image", "png"),
            )
    with right:
        heads = ("", "Children", "Mean z", "SD", "Below -2 SD", "Above 2 SD")
        _table(heads, [_distribution(NAMES[one], figures) for one, figures in found.items()])
        left_out = sum(figures.left_out for figures in found.values())
        page_parts.caption(
            "Each child once, with the latest visit of the selection; below each figure its 95 % interval. In the "
            "reference the mean is 0, the SD 1, and 2.3 % lie below -2 SD."
            + (
                f" Left out: {words.counted(left_out, 'z-score')} that WHO takes as most likely an error."
                if left_out
                else ""
            )
        )
        _report(growth_sheets.distributions_sheet(found, _said(selection), is_phantom=selection.is_phantom))


def bone_age() -> None:
    selection = chosen()
    if selection is None:
        return
    table = st.segmented_control(
        "SD table",
        list(SdTable),
        default=SdTable.GREULICH_PYLE,
        required=True,
        format_func=TABLE_NAMES.get,
        label_visibility="collapsed",
        key="population_table",
        persist_state="session",
    )
    with database.session() as session:
        found = growth_population.bone_age_and_height(session, state.current_user(), selection, table)
    left, right = st.columns([1.5, 1], gap="medium")
    with left:
        if found.r.value is None:
            page_parts.empty(
                words.sentence(found.r.reason),
                "A child counts with a decided bone-age film and a height measured near it.",
            )
        else:
            growth_charts.show(
                growth_charts.bone_age_chart(found),
                key="bone-age-and-height",
                alt="Bone-age SDS against height for age z, a point a child",
                rows=[["height_for_age_z", "bone_age_sds"], *zip(found.height_z, found.sds, strict=True)],
                image=st.session_state.get("growth_image", "png"),
            )
    with right:
        r = _two_lines(_figure(found.r, ".2f")).replace("<br>", "")
        st.html(f'<div class="block-title"><span>Pearson\'s r</span></div><div class="answer">{r}</div>')
        page_parts.facts(
            {
                "Children": f"{found.n:,}",
                "Bone age": f"as decided by a reader; SDS by {TABLE_NAMES[table]}",
                "Height": f"WHO z, measured within {HEIGHT_WITHIN_MONTHS:g} months of the film (unverified default)",
                "Each child": "once, with the latest film that has a height beside it",
            }
        )
        page_parts.caption("Beside it the 95 % interval (Fisher). An association says nothing about a single child.")
        _report(growth_sheets.bone_age_sheet(found, _said(selection), is_phantom=selection.is_phantom))


def supplied() -> None:
    """How z-scores that came with files agree with WHO's, as this workstation computes them."""
    selection = chosen(with_chart=False)
    if selection is None:
        return
    with database.session() as session:
        user = state.current_user()
        found = growth_population.supplied_agreement(session, user, selection)
        worst = {
            indicator: growth_population.differences(session, user, selection, indicator)
            for indicator, agreement in found.items()
            if agreement.beyond_rounding
        }
    if not any(agreement.n for agreement in found.values()):
        page_parts.empty(
            "No supplied z-scores in this selection",
            "They come with a file: choose their columns under <em>From a file</em>, <em>More columns</em>.",
        )
        return
    heads = ("", "Visits", "r", f"at least {FLOOR_R}", "Mean difference", "Largest difference", "Beyond rounding")
    _table(heads, [_agreement(NAMES[indicator], agreement) for indicator, agreement in found.items()])
    page_parts.caption(
        "Supplied less ours; below r the 95 % interval. What is supplied has two decimals, so that differences "
        f"of up to 0.005 are rounding alone. {FLOOR_R} is the floor of the project's first description."
    )
    with st.container(horizontal=True):
        growth_charts.numbers_button("supplied-z-scores", _agreement_rows(found))
        st.space("stretch")
        _report(growth_sheets.supplied_sheet(found, _said(selection), is_phantom=selection.is_phantom))
    for indicator, differences in worst.items():
        st.html(f'<div class="block-title section"><span>{NAMES[indicator]}: furthest apart</span></div>')
        _table(
            ("Child", "Visit", "Supplied", "WHO", "Difference"),
            [
                [one.pseudonym, words.day(one.measured_on), f"{one.supplied:+z.2f}", f"{one.ours:+z.2f}",
                 f"{one.supplied - one.ours:+z.2f}"]
                for one in differences
            ],
            text_columns=2,
        )  # fmt: skip


def _report(sheet: Sheet) -> None:
    with st.container(horizontal=True, width="content"):
        report_buttons.show(sheet)


def _said(selection: PopulationFilter) -> growth_sheets.Words:
    """The selection in words."""
    band = next((name for name, ends in BANDS.items() if ends == selection.age_months), "any")
    said = [
        ("Visits", "phantoms" if selection.is_phantom else "real"),
        ("Sex", SEXES.get(selection.sex, "any").lower()),
        ("Age at the visit", band),
        ("Site", ", ".join(selection.sites) or "any"),
    ]
    if selection.first_day or selection.last_day:
        first, last = (day.isoformat() if day else "" for day in (selection.first_day, selection.last_day))
        said.append(("Measured", f"{first or 'the beginning'} to {last or 'today'}"))
    return tuple(said)


def _distribution(name: str, found: Distribution) -> list[str]:
    if found.mean.value is None:
        return [name, f"{found.n:,}", found.mean.reason or ""]
    return [
        name,
        f"{found.n:,}",
        _figure(found.mean, "+z.2f"),
        _figure(found.sd, ".2f"),
        _figure(found.below_percent, ".1f", " %"),
        _figure(found.above_percent, ".1f", " %"),
    ]


def _agreement(name: str, found: Agreement) -> list[str]:
    if found.r.value is None:
        return [name, f"{found.n:,}", found.r.reason or ""]
    met = "met" if found.r.low is not None and found.r.low >= FLOOR_R else "missed"
    return [
        name,
        f"{found.n:,}",
        _figure(found.r, ".2f" if found.r.low >= 0.995 else ".3f"),
        met,
        f"{found.mean_difference:+z.3f}".replace("+0.000", "0.000"),
        f"{found.largest_difference:.3f}" + (" (rounding)" if found.largest_difference <= ROUNDING else ""),
        f"{found.beyond_rounding:,}",
    ]


def _agreement_rows(found: dict[Indicator, Agreement]) -> list[list[object]]:
    heads = ["indicator", "visits", "r", "r_low", "r_high", "mean_difference", "largest_difference", "beyond_rounding"]
    return [heads] + [
        [indicator, one.n, one.r.value, one.r.low, one.r.high, one.mean_difference, one.largest_difference,
         one.beyond_rounding]
        for indicator, one in found.items()
    ]  # fmt: skip


def _bins(found: Distribution) -> list[list[object]]:
    edges = zip(found.edges, found.edges[1:], found.counts, strict=False)
    return [["z_from", "z_below", "children"], *([low, high, count] for low, high, count in edges)]


def _figure(interval: Interval, code: str, unit: str = "") -> str:
    if interval.value is None:
        return interval.reason or ""
    return f"{interval.value:{code}}{unit}\n{interval.low:{code}} to {interval.high:{code}}"


def _table(heads: tuple[str, ...], rows: list[list[str]], text_columns: int = 1) -> None:
    """A row with fewer cells than `heads` says in its last one why there is nothing more."""

    def cells(row, tag: str) -> str:
        widths = [1] * (len(row) - 1) + [len(heads) - len(row) + 1]
        kinds = ["" if place < text_columns else "number" for place in range(len(row))]
        return "".join(
            f'<{tag} class="{kind}" colspan="{width}">{_two_lines(text)}</{tag}>'
            for text, kind, width in zip(row, kinds, widths, strict=True)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    st.html(f'<table class="outcomes"><tr>{cells(heads, "th")}</tr>{body}</table>')


def _two_lines(text: str) -> str:
    """The figure, and below it its interval."""
    figure, _, interval = text.partition("\n")
    return escape(figure) + (f'<br><small class="quiet">{escape(interval)}</small>' if interval else "")
