"""engine.services.growth_population: every figure recomputed from the raw rows, child by child, with scipy."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable
from datetime import date, timedelta

import numpy as np
import pytest
from scipy import stats
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import AuditEvent, GrowthVisit, Image, Patient, Review, Sex, Study, Verdict
from db.session import session_scope
from db.types import utc_now
from engine.errors import NotAllowed
from engine.findings.bone_age import BoneAgeSds, SdTable, bone_age_sds
from engine.findings.growth import Indicator
from engine.findings.growth_mapping import Mapping
from engine.findings.growth_table import read_cells, score_rows
from engine.findings.growth_visits import GrowthZ
from engine.growth_figures import MIN_CASES, agreement_of
from engine.services import growth_import, growth_population, growth_scores
from engine.services.accounts import demo_reader, service_actor
from engine.services.growth_population import PopulationFilter
from engine.settings import PROJECT_DIR
from tests.benchmarks import growth_dashboard
from tests.postgresql import private_server

READER = demo_reader()
WHO = PROJECT_DIR.parent / "shared" / "reference" / "who"
CHILDREN = 600
SOME = {
    "everybody": PopulationFilter(),
    "girls": PopulationFilter(sex="F"),
    "5-9 y": PopulationFilter(age_months=(60, 120)),
    "two sites": PopulationFilter(sites=("A", "C")),
    "a period": PopulationFilter(first_day=date(2018, 1, 1), last_day=date(2025, 12, 31)),
    "all at once": PopulationFilter("M", (24, 180), ("B",), date(2015, 1, 1), date(2026, 6, 30)),
}


@pytest.fixture
def filled(session: Session) -> Session:
    return fill(session)


def fill(session: Session) -> Session:
    growth_dashboard.fill(session, CHILDREN)
    visits = list(session.scalars(select(GrowthVisit).order_by(GrowthVisit.id)))
    for visit in visits[::40]:
        visit.withdrawn_at, visit.withdrawn_by = utc_now(), "a"
        visit.height_for_age_z = 99.0
    visits[1].height_for_age_z = -6.5  # what WHO takes as an error
    visits[3].supplied_height_for_age_z = 2.5
    session.commit()
    return session


def chosen(session: Session, wanted: PopulationFilter) -> Iterable[tuple[GrowthVisit, Patient]]:
    """Row by row in Python, without a condition in SQL."""
    children = {child.id: child for child in session.scalars(select(Patient))}
    for visit in session.scalars(select(GrowthVisit).order_by(GrowthVisit.measured_on)):
        child = children[visit.patient_fk]
        low, high = wanted.age_months or (-1, 1000)
        if (
            visit.withdrawn_at is None
            and visit.is_phantom == wanted.is_phantom
            and wanted.sex in (None, child.sex)
            and low <= visit.age_months < high
            and (not wanted.sites or visit.site in wanted.sites)
            and (wanted.first_day or date.min) <= visit.measured_on <= (wanted.last_day or date.max)
        ):
            yield visit, child


def test_distributions_equal_a_count_row_by_row(filled: Session) -> None:
    for wanted in SOME.values():
        assert_distributions(filled, wanted)


def assert_distributions(filled: Session, wanted: PopulationFilter) -> None:
    found = growth_population.distributions(filled, READER, wanted)
    latest = {visit.patient_fk: visit for visit, _ in chosen(filled, wanted)}
    for indicator, distribution in found.items():
        z = [getattr(visit, f"{indicator}_z") for visit in latest.values()]
        low, high = (-6, 6) if indicator is Indicator.HEIGHT else (-6, 5) if indicator is Indicator.WEIGHT else (-5, 5)
        kept = [value for value in z if value is not None and low <= round(value, 2) <= high]
        assert distribution.n == len(kept) == sum(distribution.counts)
        if len(kept) < MIN_CASES:
            assert distribution.mean.reason == f"not enough cases (n = {len(kept)})"
            continue
        mean = distribution.mean
        interval = stats.t.interval(0.95, len(kept) - 1, loc=np.mean(kept), scale=stats.sem(kept))
        assert (mean.value, mean.low, mean.high) == pytest.approx((np.mean(kept), *interval))
        assert distribution.sd.value == pytest.approx(stats.tstd(kept))
        below = stats.binomtest(sum(value < -2 for value in kept), len(kept)).proportion_ci(method="wilson")
        assert (distribution.below_percent.low, distribution.below_percent.high) == pytest.approx(
            (100 * below.low, 100 * below.high), abs=1e-9
        )
        edges = np.append(distribution.edges[:-1], np.inf)
        expected = [sum(a <= value < b for value in kept) for a, b in zip(edges, edges[1:], strict=False)]
        assert list(distribution.counts) == expected
    if wanted == PopulationFilter():
        assert found[Indicator.HEIGHT].n > CHILDREN * 0.9


def test_bone_age_beside_height_equals_a_walk_over_the_films(filled: Session) -> None:
    a_second_film(filled)
    for wanted, table in itertools.product((SOME["everybody"], SOME["girls"], SOME["5-9 y"]), SdTable):
        assert_pairs(filled, wanted, table)


def assert_pairs(filled: Session, wanted: PopulationFilter, table: SdTable) -> None:
    found = growth_population.bone_age_and_height(filled, READER, wanted, table)
    pairs = expected_pairs(filled, wanted, table)
    assert found.n == len(pairs) > MIN_CASES
    np.testing.assert_allclose(sorted(zip(found.height_z, found.sds, strict=True)), sorted(pairs))
    x, y = np.array(pairs).T
    r = stats.pearsonr(x, y)
    interval = r.confidence_interval()
    assert (found.r.value, found.r.low, found.r.high) == pytest.approx((r.statistic, interval.low, interval.high))


def a_second_film(session: Session) -> None:
    """Of the first film's child: a later one, read anew, rejected at first; and one nobody decided about."""
    study = session.scalars(select(Study).order_by(Study.id)).first()
    for key, days in ((9001, 40), (9002, 60)):
        more = Study(
            id=key, study_instance_uid=f"1.3.{key}", patient_fk=study.patient_fk, task=study.task, warnings=[],
            acquired_on=study.acquired_on + timedelta(days=days), age_months=study.age_months + days / 30.4375,
        )  # fmt: skip
        session.add(more)
        session.flush()
        session.add(
            Image(id=key, study_fk=key, file_sha256=str(key), pixel_sha256="", source_format="png", rows=9, cols=9)
        )
        session.flush()
    answer = {"task": "bone_age", "bone_age_months": int(study.age_months) + 20}
    session.add(Review(id=9001, image_fk=9001, revision=1, reader_fk=1, verdict=Verdict.CORRECTED, answer=answer))
    session.flush()
    session.add(
        Review(
            id=9002, image_fk=9001, revision=2, supersedes_id=9001, reader_fk=1, verdict=Verdict.CORRECTED,
            answer={**answer, "bone_age_months": int(study.age_months) + 5},
        )
    )  # fmt: skip
    session.commit()


def expected_pairs(session: Session, wanted: PopulationFilter, table: SdTable) -> list[tuple[float, float]]:
    visits: dict[int, list[GrowthVisit]] = {}
    for visit, _ in chosen(session, wanted):
        visits.setdefault(visit.patient_fk, []).append(visit)
    reviews = list(session.scalars(select(Review).order_by(Review.revision)))
    latest = {review.image_fk: review for review in reviews}
    best: dict[int, tuple] = {}
    for image in session.scalars(select(Image)):
        study, review = session.get(Study, image.study_fk), latest.get(image.id)
        if review is None or review.answer is None:
            continue
        child = session.get(Patient, study.patient_fk)
        sds = bone_age_sds(review.answer["bone_age_months"], study.age_months, child.sex, table)
        for visit in visits.get(child.id, []):
            z, apart = visit.height_for_age_z, abs(visit.age_months - study.age_months)
            if not isinstance(sds, BoneAgeSds) or z is None or apart > 3 or not -6 <= round(z, 2) <= 6:
                continue
            rank = (study.age_months, image.id, -apart, visit.age_months)
            if child.id not in best or rank > best[child.id][0]:
                best[child.id] = (rank, z, sds.sds)
    return [(z, sds) for _, z, sds in best.values()]


def test_agreement_equals_a_count_row_by_row(filled: Session) -> None:
    for wanted in SOME.values():
        assert_agreement(filled, wanted)


def assert_agreement(filled: Session, wanted: PopulationFilter) -> None:
    found = growth_population.supplied_agreement(filled, READER, wanted)
    rows = [visit for visit, _ in chosen(filled, wanted)]
    for indicator, agreement in found.items():
        pairs = [
            (getattr(visit, f"supplied_{indicator}_z"), getattr(visit, f"{indicator}_z"))
            for visit in rows
            if getattr(visit, f"supplied_{indicator}_z") is not None and getattr(visit, f"{indicator}_z") is not None
        ]
        assert agreement.n == len(pairs)
        if len(pairs) < MIN_CASES:
            assert agreement.r.value is None
            continue
        x, y = np.array(pairs).T
        assert agreement.r.value == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)
        assert agreement.largest_difference == pytest.approx(np.max(np.abs(x - y)))
        assert agreement.mean_difference == pytest.approx(np.mean(x - y), abs=1e-12)
        assert agreement.beyond_rounding == np.sum(np.abs(x - y) > 0.0051)
    if wanted == PopulationFilter():
        [worst] = growth_population.differences(filled, READER, wanted, Indicator.HEIGHT)[:1]
        assert worst.supplied == 2.5
        assert growth_population.differences(filled, READER, wanted, Indicator.BMI) == []


@pytest.mark.skipif(not WHO.exists(), reason="WHO's computed cases are not beside this checkout")
def test_z_scores_that_whos_own_software_supplies_agree_with_ours(session: Session) -> None:
    """Imported with the z that WHO's R packages computed: r is 1.00 and nothing differs by more than the rounding to
    two decimals."""
    lines = ["child,measured_on,weight_kg,length_height_cm,measured,head_circumference_cm,haz,waz,baz,hcz"]
    today = date(2026, 11, 24)
    position = {"l": "lying", "h": "standing", "": ""}
    cases = [*_cases("oracle_who2006_0_60m_generated.csv"), *_cases("oracle_who2007_60_228m_generated.csv")]
    for number, case in enumerate(cases):
        days = int(case["age_days"]) if "age_days" in case else round(float(case["age_months"]) * 30.4375)
        if "age_months" in case and abs(days / 30.4375 - float(case["age_months"])) > 1e-9:
            continue  # an age that no two dates have
        child = Patient(
            pseudonym=f"P-{number:06}",
            patient_id=f"W{number}",
            sex=Sex(case["sex"]),
            birth_date=today - timedelta(days),
        )
        session.add(child)
        height = case.get("lenhei_cm") or case.get("height_cm") or ""
        z = [case.get(name, "") for name in ("z_length_height", "z_weight", "z_bmi", "z_headc")]
        z[0] = z[0] or case.get("z_height", "")
        lines.append(
            f"W{number},{today},{case['weight_kg']},{height},{position[case.get('measure', '')]},"
            f"{case.get('headc_cm', '')},{','.join(z)}"
        )
    session.commit()
    table = read_cells("who.csv", "\n".join(lines).encode())
    names = ("height", "weight", "bmi", "head_circumference")
    mapping = Mapping(
        {name: name for name in table.columns[:6]}
        | {f"supplied_{n}_for_age_z": column for n, column in zip(names, table.columns[6:], strict=True)}
    )
    growth_import.import_visits(session, READER, table, mapping, "f" * 64, confirmed_lines=range(2, 2000), today=today)
    found = growth_population.supplied_agreement(session, READER, PopulationFilter())
    assert found[Indicator.HEIGHT].n > 600
    for indicator, agreement in found.items():
        assert f"{agreement.r.value:.2f}" == "1.00" and agreement.r.low > 0.9999, indicator
        assert agreement.beyond_rounding == 0 and agreement.largest_difference <= 0.0051


@pytest.mark.skipif(not WHO.exists(), reason="WHO's computed cases are not beside this checkout")
def test_the_agreement_with_all_1140_cases_is_one() -> None:
    position = {"l": "lying", "h": "standing", "": ""}
    cases = [*_cases("oracle_who2006_0_60m_generated.csv"), *_cases("oracle_who2007_60_228m_generated.csv")]
    rows = [
        {
            "sex": case["sex"],
            "age_days": case.get("age_days", ""),
            "age_months": case.get("age_months", ""),
            "weight_kg": case["weight_kg"],
            "length_height_cm": case.get("lenhei_cm") or case.get("height_cm", ""),
            "measured": position[case.get("measure", "")],
            "head_circumference_cm": case.get("headc_cm", ""),
        }
        for case in cases
    ]
    scored = score_rows(rows, today=date(2026, 11, 24))
    for indicator, names in (
        (Indicator.HEIGHT, ("z_length_height", "z_height")),
        (Indicator.WEIGHT, ("z_weight",)),
        (Indicator.BMI, ("z_bmi",)),
        (Indicator.HEAD, ("z_headc",)),
    ):
        supplied = [next((case[name] for name in names if case.get(name)), "") for case in cases]
        pairs = [
            (float(theirs), one.values[indicator].z)
            for theirs, one in zip(supplied, scored, strict=True)
            if theirs and isinstance(one.values[indicator], GrowthZ)
        ]
        assert len(pairs) == sum(bool(theirs) for theirs in supplied), indicator
        found = agreement_of(*zip(*pairs, strict=True))
        assert f"{found.r.value:.2f}" == "1.00" and found.beyond_rounding == 0, indicator


def _cases(name: str) -> list[dict[str, str]]:
    with (WHO / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_nobody_gives_no_number(session: Session) -> None:
    nobody = PopulationFilter()
    assert growth_population.what_is_here(session, READER).sites == {}
    for distribution in growth_population.distributions(session, READER, nobody).values():
        assert (distribution.n, distribution.mean.reason) == (0, "not enough cases (n = 0)")
    assert growth_population.bone_age_and_height(session, READER, nobody).r.reason == "not enough cases (n = 0)"
    for agreement in growth_population.supplied_agreement(session, READER, nobody).values():
        assert agreement.r.reason == "not enough cases (n = 0)" and agreement.largest_difference is None


def test_phantoms_and_real_visits_are_counted_apart(filled: Session) -> None:
    visits = list(filled.scalars(select(GrowthVisit).where(GrowthVisit.withdrawn_at.is_(None)).limit(30)))
    for visit in visits:
        visit.is_phantom, visit.site = True, "Phantoms"
    filled.commit()
    here = growth_population.what_is_here(filled, READER)
    assert here.sites == {False: ["A", "B", "C"], True: ["Phantoms"]}
    phantoms = growth_population.distributions(filled, READER, PopulationFilter(is_phantom=True))
    assert 0 < phantoms[Indicator.HEIGHT].n <= 30


def test_stored_z_are_those_of_the_measurements(filled: Session) -> None:
    """The benchmark's rows are written in bulk; what the service would have stored is the same."""
    for visit, child in list(chosen(filled, PopulationFilter()))[4:400:7]:
        before = visit.weight_for_age_z
        growth_scores.keep(child, visit, growth_scores.scored(child, [visit])[0])
        assert visit.weight_for_age_z == (None if before is None else pytest.approx(before))
    filled.rollback()


@pytest.mark.slow
def test_postgresql_gives_the_same_figures() -> None:
    with private_server() as url, session_scope(url) as session:
        fill(session)
        a_second_film(session)
        for wanted in SOME.values():
            assert_distributions(session, wanted)
            assert_agreement(session, wanted)
        for wanted, table in itertools.product((SOME["everybody"], SOME["girls"]), SdTable):
            assert_pairs(session, wanted, table)


def test_who_may_look(session: Session) -> None:
    for ask in (
        growth_population.distributions,
        growth_population.bone_age_and_height,
        growth_population.supplied_agreement,
    ):
        with pytest.raises(NotAllowed):
            ask(session, service_actor("worker"), PopulationFilter())
    assert session.scalars(select(AuditEvent)).all() == []
