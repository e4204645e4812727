"""Every figure of the dashboards, recomputed from the reviews and predictions themselves by scikit-learn, statsmodels,
scipy and numpy; and none where a selection is empty or of one class. The facts that the dashboards count are not looked
at here."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from pypdf import PdfReader
from scipy import stats
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    confusion_matrix,
    f1_score,
    mean_absolute_error,
    recall_score,
    roc_auc_score,
    roc_curve,
)
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from statsmodels.stats.proportion import proportion_confint

from db import migrate
from db.models import (
    AnswerFact,
    BlindAnswer,
    BlindRead,
    FilmStatistics,
    GoldCase,
    Image,
    Patient,
    Prediction,
    Review,
    ShadowRead,
    Study,
)
from db.models import BlindCase as Case
from db.session import engine_for, session_scope
from engine.dashboard_sheet import Chart, Point, Series, Sheet, Tile, all_figures
from engine.errors import NotAllowed
from engine.findings.answers import Fracture, Plus, Stage, Task, Zone
from engine.services import bone_age_figures, dashboard_report, drift, figures
from engine.services.accounts import demo_admin, demo_reader, service_actor
from engine.services.figure_filters import FigureFilter
from tests.benchmarks.reviewed_studies import IN_USE, NOW, SHADOW, generate

ADMIN = demo_admin()
KINDS = {"zone": Zone, "stage": Stage, "plus_disease": Plus, "fracture": Fracture}
BONE_AGE = FigureFilter(version_id=IN_USE)
ROP = replace(BONE_AGE, task=Task.ROP)
FRACTURE = replace(BONE_AGE, task=Task.FRACTURE)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    url = f"sqlite:///{tmp_path_factory.mktemp('figures')}/figures.sqlite"
    migrate.upgrade(url)
    generate(url, 1500, seed=11)
    yield url
    engine_for(url).dispose()


@pytest.fixture
def generated(database: str) -> Iterator[Session]:
    with session_scope(database) as session:
        yield session


@pytest.fixture(scope="module")
def reads(database: str) -> pd.DataFrame:
    """A row for each version's read of each decided image, from the rows that the workstation writes."""
    with session_scope(database) as session:
        rows = []
        for kind in (Prediction, ShadowRead):
            query = (
                select(Review, Image, Study, Patient, kind)
                .join(Image, Review.image_fk == Image.id)
                .join(Study, Image.study_fk == Study.id)
                .join(Patient, Study.patient_fk == Patient.id)
                .join(kind, kind.image_fk == Image.id)
            )
            for review, image, study, patient, read in session.execute(query):
                rows.append(
                    {
                        "task": study.task.value, "child": patient.id, "image": image.id, "site": study.site,
                        "sex": patient.sex.value if patient.sex else None, "age": study.age_months,
                        "reader": review.reader_fk, "verdict": review.verdict.value,
                        "reason": review.reject_reason.value if review.reject_reason else None,
                        "label": review.answer, "read": read.answer, "probabilities": read.probabilities,
                        "low": read.interval_low_months, "high": read.interval_high_months,
                        "version": read.model_version_fk, "decided": review.created_at.astimezone(UTC),
                        "seconds": review.seconds, "shown": kind is Prediction, "read_at": read.created_at,
                        "hours": (review.created_at - study.received_at).total_seconds() / 3600,
                        "blind": review.blind_answer_fk,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def judged(reads: pd.DataFrame, task: Task, version: int = IN_USE) -> pd.DataFrame:
    chosen = reads[(reads.task == task) & (reads.version == version) & reads.label.notna() & reads.read.notna()]
    return chosen.assign(month=chosen.decided.dt.strftime("%Y-%m"))


def errors_of(rows: pd.DataFrame) -> pd.Series:
    return rows.read.map(lambda a: a["bone_age_months"]) - rows.label.map(lambda a: a["bone_age_months"])


def tile(sheet: Sheet, key: str) -> Tile:
    return next(one for one in sheet.tiles if one.key == key)


def chart(sheet: Sheet, key: str) -> Chart:
    return next(one for one in sheet.charts if one.key == key)


def series(found: Chart, name: str | None = None) -> dict[str | float, Point]:
    points = found.series[0].points if name is None else next(s.points for s in found.series if s.name == name)
    return {point.x: point for point in points}


def assert_is(found, expected: tuple[float, float, float], n: int) -> None:
    """`found`: a tile's or a point's."""
    figure = (
        (found.y, found.low, found.high)
        if isinstance(found, Point)
        else (found.figure.value, found.figure.low, found.figure.high)
    )
    assert found.n == n
    assert figure == pytest.approx(expected, abs=2e-6)


def mean_with_interval(values: pd.Series, child: pd.Series, *, not_below: float = -math.inf):
    """Cluster-robust, by statsmodels."""
    fit = sm.OLS(values.to_numpy(float), np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": child.to_numpy(), "use_correction": False}
    )
    children = child.nunique()
    error = fit.bse[0] * math.sqrt(children / (children - 1))
    half = stats.t.ppf(0.975, children - 1) * error
    return float(fit.params[0]), max(not_below, fit.params[0] - half), float(fit.params[0] + half), float(error)


def share_with_interval(right: pd.Series, child: pd.Series) -> tuple[float, float, float]:
    """Wilson's by statsmodels, with as many cases as the children leave."""
    p, error = float(right.mean()), mean_with_interval(right, child)[3]
    children, n = child.nunique(), len(right)
    cases = children if p in (0, 1) else min(n, p * (1 - p) / error**2)
    alpha = 2 * stats.norm.sf(stats.t.ppf(0.975, children - 1))
    return p, *proportion_confint(p * cases, cases, alpha, method="wilson")


def same(rows: pd.DataFrame, name: str) -> pd.Series:
    return pd.Series([a[name] == b[name] for a, b in zip(rows.read, rows.label, strict=True)], rows.index, float)


# ---------------------------------------------------------------- bone age


def test_bone_age_tiles(generated: Session, reads: pd.DataFrame) -> None:
    sheet = figures.model_sheet(generated, ADMIN, BONE_AGE)
    rows = judged(reads, Task.BONE_AGE)
    error, n = errors_of(rows), len(rows)
    label = rows.label.map(lambda a: a["bone_age_months"])
    mae = mean_with_interval(error.abs(), rows.child, not_below=0)
    assert mae[0] == pytest.approx(mean_absolute_error(label, label + error))
    assert_is(tile(sheet, "mae_months"), mae[:3], n)
    assert_is(tile(sheet, "within_2_months"), share_with_interval((error.abs() <= 2) * 1.0, rows.child), n)
    assert_is(tile(sheet, "bias_months"), mean_with_interval(error, rows.child)[:3], n)
    inside = ((rows.low <= label) & (label <= rows.high)) * 1.0
    assert_is(tile(sheet, "interval_80_coverage"), share_with_interval(inside, rows.child), n)
    bias, sd = error.mean(), error.std()
    effect = max(1, mean_with_interval(error, rows.child)[3] ** 2 / (sd**2 / n))
    half = stats.t.ppf(0.975, rows.child.nunique() - 1) * sd * math.sqrt(effect / n + 1.96**2 / (2 * (n / effect - 1)))
    for side, name in ((-1, "lower"), (1, "upper")):
        end = bias + side * 1.96 * sd
        assert_is(tile(sheet, f"{name}_limit_of_agreement_months"), (end, end - half, end + half), n)
    assert [target.at_most for target in tile(sheet, "mae_months").targets] == [2.8]
    assert [line.value for line in chart(sheet, "mae_by_month").lines] == [2.8]


def test_bone_age_charts(generated: Session, reads: pd.DataFrame) -> None:
    sheet = figures.model_sheet(generated, ADMIN, BONE_AGE)
    rows = judged(reads, Task.BONE_AGE).assign(error=lambda r: errors_of(r))
    by_month = {key: series(chart(sheet, key)) for key in ("mae_by_month", "within_2_by_month")}
    for month, group in rows.groupby("month"):
        if len(group) < 10:
            assert by_month["mae_by_month"][month].y is None
            continue
        expected = mean_with_interval(group.error.abs(), group.child, not_below=0)[:3]
        assert_is(by_month["mae_by_month"][month], expected, len(group))
        within = share_with_interval((group.error.abs() <= 2) * 1.0, group.child)
        assert_is(by_month["within_2_by_month"][month], within, len(group))

    bands = pd.cut(
        rows.age, [0, 60, 120, 180, 999], right=False, labels=["0-4 y", "5-9 y", "10-14 y", "15 y and older"]
    )
    for (sex, band), group in rows.groupby([rows.sex, bands], observed=True):
        points = {key: series(chart(sheet, key), {"F": "girls", "M": "boys"}[sex])[band]
                  for key in ("mae_by_age", "bias_by_age")}  # fmt: skip
        assert_is(points["mae_by_age"], mean_with_interval(group.error.abs(), group.child, not_below=0)[:3], len(group))
        assert_is(points["bias_by_age"], mean_with_interval(group.error, group.child)[:3], len(group))

    label = rows.label.map(lambda a: a["bone_age_months"])
    places = ((2 * label + rows.error) // 12 + 0.5) * 6
    counts = pd.Series(1, rows.index).groupby([places, rows.error]).sum()
    bubbles = {(p.x, p.y): p.n for p in chart(sheet, "bland_altman").series[0].points}
    assert bubbles == {(x, float(y)): n for (x, y), n in counts.items()}
    assert sum(bubbles.values()) == len(rows)

    coverage = series(chart(sheet, "coverage"))
    for level in (0.1, 0.5, 0.8, 0.95):
        held = [covers(p, a["bone_age_months"], level) for p, a in zip(rows.probabilities, rows.label, strict=True)]
        assert coverage[level].y == pytest.approx(np.mean(held), abs=0.004)  # probabilities in steps of 0.0001
        p, low, high = share_with_interval(pd.Series(held, rows.index) * 1.0, rows.child)
        assert (coverage[level].low, coverage[level].high) == pytest.approx((low, high), abs=0.005)


def test_many_bubbles_become_fewer_and_hold_the_same_cases(
    generated: Session, reads: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = judged(reads, Task.BONE_AGE)
    monkeypatch.setattr(bone_age_figures, "MOST_BUBBLES", 100)
    found = chart(figures.model_sheet(generated, ADMIN, BONE_AGE), "bland_altman")
    bubbles = found.series[0].points
    assert len(bubbles) <= 100 and sum(p.n for p in bubbles) == len(rows)
    error = errors_of(rows)
    mean = rows.label.map(lambda a: a["bone_age_months"]) + error / 2
    across = {"2": 2, "4": 4}[found.note.split(" to ")[1].split()[0]]
    counts = pd.Series(1, rows.index).groupby([mean // (6 * across), error // across]).sum()
    expected = {((x + 0.5) * 6 * across, y * across + (across - 1) / 2): n for (x, y), n in counts.items()}
    assert {(p.x, p.y): p.n for p in bubbles} == expected


def covers(probabilities: dict[str, float], label: int, level: float) -> bool:
    """Does the central interval of this level hold the label?"""
    below = np.cumsum([probabilities.get(str(month), 0.0) for month in range(229)])
    low, high = (int((below < edge - 1e-9).sum()) for edge in ((1 - level) / 2, (1 + level) / 2))
    return low <= label <= high


def test_filters_are_those_of_the_raw_rows(generated: Session, reads: pd.DataFrame) -> None:
    filter = replace(
        BONE_AGE, sites=("North", "South"), sexes=("F",), age_bands=("5-9 y", "unknown"), reader_ids=(1, 2, 3, 4, 5),
        first_day=date(2026, 4, 1), last_day=date(2026, 10, 31),
    )  # fmt: skip
    rows = judged(reads, Task.BONE_AGE)
    days = rows.decided.dt.date
    rows = rows[
        rows.site.isin(["North", "South"]) & (rows.sex == "F") & (rows.age.between(60, 119.9999) | rows.age.isna())
        & (rows.reader <= 5) & (days >= date(2026, 4, 1)) & (days <= date(2026, 10, 31))
    ]  # fmt: skip
    sheet = figures.model_sheet(generated, ADMIN, filter)
    assert 10 < len(rows) < 100
    assert_is(tile(sheet, "bias_months"), mean_with_interval(errors_of(rows), rows.child)[:3], len(rows))
    assert dict(sheet.filter_words)["Site"] == "North, South"
    assert dict(sheet.filter_words)["Decided"] == "2026-04-01 to 2026-10-31"


def paired(reads: pd.DataFrame, task: Task) -> tuple[pd.DataFrame, pd.DataFrame]:
    one, other = (judged(reads, task, version).set_index("image") for version in (IN_USE, SHADOW))
    common = one.index.intersection(other.index)
    return one.loc[common], other.loc[common]


def test_two_versions_are_compared_on_the_images_that_both_have_read(generated: Session, reads: pd.DataFrame) -> None:
    sheet = figures.model_sheet(generated, ADMIN, replace(BONE_AGE, other_version_id=SHADOW))
    one, other = paired(reads, Task.BONE_AGE)
    difference = errors_of(one).abs() - errors_of(other).abs()
    assert_is(tile(sheet, "mae_difference"), mean_with_interval(difference, one.child)[:3], len(one))
    within = (errors_of(one).abs() <= 2) * 1.0 - (errors_of(other).abs() <= 2) * 1.0
    assert_is(tile(sheet, "within_2_difference"), mean_with_interval(within, one.child)[:3], len(one))
    names = [s.name for s in chart(sheet, "mae_by_month").series]
    assert names == ["generated 2.0", "generated 3.0"]

    sheet = figures.model_sheet(generated, ADMIN, replace(ROP, other_version_id=SHADOW), "zone")
    one, other = paired(reads, Task.ROP)
    right = same(one, "zone") - same(other, "zone")
    assert_is(tile(sheet, "accuracy_difference"), mean_with_interval(right, one.child)[:3], len(one))
    found = tile(sheet, "macro_auc_difference").figure
    aucs = [aucs_of(rows, "zone") for rows in (one, other)]
    assert found.value == pytest.approx(np.mean(aucs[0]) - np.mean(aucs[1]), abs=5e-4)

    def without(child: int) -> float:
        return float(np.mean(aucs_of(one[one.child != child], "zone")) - np.mean(
            aucs_of(other[other.child != child], "zone")))  # fmt: skip

    left = np.array([without(child) for child in one.child.unique()])
    error = math.sqrt((len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum())
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, len(left) - 1) * error, rel=0.1)


def test_versions_without_a_common_image_are_not_compared(generated: Session) -> None:
    sheet = figures.model_sheet(generated, ADMIN, replace(BONE_AGE, other_version_id=1))
    for key in ("mae_difference", "within_2_difference"):
        assert tile(sheet, key).missing.startswith("not enough cases (n = 0)")


# ---------------------------------------------------------------- classes


def scores_of(rows: pd.DataFrame, name: str, kind: str) -> np.ndarray:
    of_class = (p[kind] if name == "fracture" else p[name][kind] for p in rows.probabilities)
    return np.array([round(share * 10_000) for share in of_class])


def aucs_of(rows: pd.DataFrame, name: str) -> list[float]:
    """Of each class that occurs."""
    labels = rows.label.map(lambda a: a[name])
    return [
        roc_auc_score(labels == kind, scores_of(rows, name, kind)) for kind in KINDS[name] if (labels == kind).any()
    ]


@pytest.mark.parametrize(
    ("filter", "name"), [(ROP, "zone"), (ROP, "stage"), (ROP, "plus_disease"), (FRACTURE, "fracture")]
)
def test_classes(generated: Session, reads: pd.DataFrame, filter: FigureFilter, name: str) -> None:
    sheet = figures.model_sheet(generated, ADMIN, filter, name)
    rows = judged(reads, filter.task)
    label, said = (rows[column].map(lambda a: a[name]) for column in ("label", "read"))
    kinds, n = [kind.value for kind in KINDS[name]], len(rows)
    words = {"preplus": "pre-plus", "distal_radius": "distal radius"}

    assert_is(tile(sheet, f"{name}_accuracy"), share_with_interval((label == said) * 1.0, rows.child), n)
    assert tile(sheet, f"{name}_accuracy").figure.value == pytest.approx(accuracy_score(label, said))
    # the intervals of F1 and kappa: tests/engine/test_clustered_figures.py
    assert tile(sheet, "macro_f1").figure.value == pytest.approx(f1_score(label, said, average="macro"))
    weights = None if name == "fracture" else "quadratic"
    kappa = cohen_kappa_score(label, said, labels=kinds, weights=weights)
    assert tile(sheet, f"{name}_kappa").figure.value == pytest.approx(kappa)
    assert [[p.n for p in row.points] for row in chart(sheet, "confusion").series] == confusion_matrix(
        label, said, labels=kinds
    ).tolist()
    by_class = {s.name: {p.x: p for p in s.points} for s in chart(sheet, "by_class").series}
    for kind in kinds:
        x, of_kind = words.get(kind, kind), label == kind
        if min(of_kind.sum(), n - of_kind.sum()) < 10:
            assert by_class["sensitivity"][x].y is None and by_class["F1"][x].y is None
            continue
        assert by_class["F1"][x].y == pytest.approx(f1_score(of_kind, said == kind))
        assert by_class["sensitivity"][x].y == pytest.approx(recall_score(of_kind, said == kind))
        assert by_class["specificity"][x].y == pytest.approx(recall_score(~of_kind, said != kind))
        assert by_class["sensitivity"][x].n == of_kind.sum()
        curve = next(s for s in chart(sheet, "roc").series if s.name.startswith(f"{x}:"))
        false_alarms, sensitivity, _ = roc_curve(of_kind, scores_of(rows, name, kind), drop_intermediate=False)
        on_it = set(zip(false_alarms.round(9), sensitivity.round(9), strict=True))
        assert {(round(p.x, 9), round(p.y, 9)) for p in curve.points} <= on_it
        assert f"AUC {roc_auc_score(of_kind, scores_of(rows, name, kind)):.3f}" in curve.name

    if name == "plus_disease":
        expected = roc_auc_score(label == "plus", scores_of(rows, name, "plus"))
        assert tile(sheet, "plus_auc").figure.value == pytest.approx(expected)
        assert {t.at_least for t in tile(sheet, "plus_auc").targets} == {0.92, 0.94}
    else:
        assert sheet.tiles[0].figure.value == pytest.approx(np.mean(aucs_of(rows, name)))
    by_month = series(chart(sheet, "accuracy_by_month"))
    for month, group in rows.assign(right=(label == said) * 1.0).groupby("month"):
        if group.child.nunique() >= 10:
            assert_is(by_month[month], share_with_interval(group.right, group.child), len(group))

    confidence = np.array([round(10_000 * (p[a[name]] if name == "fracture" else p[name][a[name]])) / 10_000
                           for p, a in zip(rows.probabilities, rows.read, strict=True)])  # fmt: skip
    place = np.ceil(confidence * 10 - 1e-9).astype(int) - 1
    points = [p for p in chart(sheet, "reliability").series[0].points if p.y is not None]
    expected = []
    for b in range(10):
        here = place == b
        if here.sum() >= 10 and rows.child[here].nunique() >= 10:
            expected.append(
                (confidence[here].mean(), *share_with_interval((label == said)[here] * 1.0, rows.child[here]))
            )
    found = [(p.x, p.y, p.low, p.high) for p in points]
    assert np.array(found) == pytest.approx(np.array(expected), abs=1e-6)


# ---------------------------------------------------------------- readers


def second_reads(session: Session, task: Task) -> pd.DataFrame:
    query = (
        select(BlindRead.answer, Review.answer, Study.patient_fk, GoldCase.answer, BlindRead.reader_fk)
        .join(Case, BlindRead.blind_case_fk == Case.id)
        .join(Study, Case.study_fk == Study.id)
        .outerjoin(Review, Case.first_review_fk == Review.id)
        .outerjoin(GoldCase, Case.gold_fk == GoldCase.id)
        .where(Study.task == task)
    )
    return pd.DataFrame(session.execute(query).all(), columns=["read", "label", "child", "gold", "reader"])


@pytest.mark.parametrize("task", list(Task))
def test_readers(generated: Session, reads: pd.DataFrame, task: Task) -> None:
    name = {Task.BONE_AGE: None, Task.ROP: "stage", Task.FRACTURE: "fracture"}[task]
    sheet = figures.reader_sheet(generated, ADMIN, FigureFilter(task=task), name)
    rows = reads[(reads.task == task) & reads.shown]
    answered = rows[rows.read.notna() & (rows.verdict != "rejected")]
    changed = (answered.verdict == "corrected") * 1.0
    assert tile(sheet, "decisions").figure.value == len(rows)
    assert_is(tile(sheet, "override_rate"), share_with_interval(changed, answered.child), len(answered))
    rejected = (rows.verdict == "rejected") * 1.0
    assert_is(tile(sheet, "rejected_share"), share_with_interval(rejected, rows.child), len(rows))
    by_reader = series(chart(sheet, "override_by_reader"))
    for reader, group in answered.groupby("reader"):
        expected = share_with_interval((group.verdict == "corrected") * 1.0, group.child)
        assert_is(by_reader[f"Reader {reader}"], expected, len(group))
    by_month = series(chart(sheet, "override_by_month"))
    for month, group in answered.groupby(answered.decided.dt.strftime("%Y-%m")):
        if group.child.nunique() >= 10:
            assert by_month[month].y == pytest.approx((group.verdict == "corrected").mean())

    reasons = series(chart(sheet, "override_by_reason"))
    for reason in ("poor_quality", "wrong_view", "not_readable", "wrong_side", "wrong_child", "other"):
        expected = share_with_interval((rows.reason == reason) * 1.0, rows.child)
        assert_is(reasons[f"rejected, {reason.replace('_', ' ')}"], expected, len(rows))
    corrected = rows[(rows.verdict == "corrected") & rows.read.notna()]
    if name is None:
        down = (errors_of(corrected) > 0).sum()
        assert reasons["corrected, younger"].y == pytest.approx(down / len(rows))
        assert reasons["corrected, older"].y == pytest.approx((errors_of(corrected) < 0).sum() / len(rows))
    else:
        assert reasons[f"corrected, {name}"].y == pytest.approx((1 - same(corrected, name)).sum() / len(rows))

    assert tile(sheet, "reading_seconds").figure.value == pytest.approx(np.median(rows.seconds))
    ordered = np.sort(rows.seconds)
    low, high = stats.binom.ppf([0.025, 0.975], len(rows), 0.5)
    assert tile(sheet, "reading_seconds").figure.low == pytest.approx(ordered[int(low) - 1])
    assert tile(sheet, "reading_seconds").figure.high == pytest.approx(ordered[int(high)])
    of_readers = series(chart(sheet, "reading_seconds_by_reader"))
    for reader, group in rows.groupby("reader"):
        assert of_readers[f"Reader {reader}"].y == pytest.approx(np.median(group.seconds))


@pytest.mark.parametrize("task", list(Task))
def test_agreement_of_second_readers_and_what_the_read_does(
    generated: Session, reads: pd.DataFrame, task: Task
) -> None:
    name = {Task.BONE_AGE: None, Task.ROP: "stage", Task.FRACTURE: "fracture"}[task]
    sheet = figures.reader_sheet(generated, ADMIN, FigureFilter(task=task), name)
    pairs = second_reads(generated, task)
    second = pairs[pairs.label.notna()]
    found = tile(sheet, "second_read_agreement")
    if name is None:
        assert_is(found, share_with_interval((errors_of(second).abs() <= 8) * 1.0, second.child), len(second))
        assert sum(p.n for p in chart(sheet, "second_reads").series[0].points) == len(second)
        limits = [line.value for line in chart(sheet, "second_reads").lines]
        error = errors_of(second)
        expected = [error.mean(), error.mean() - 1.96 * error.std(), error.mean() + 1.96 * error.std()]
        assert limits == pytest.approx(expected)
    else:
        assert_is(found, share_with_interval(same(second, name), second.child), len(second))
        first, other = (second[column].map(lambda a: a[name]) for column in ("label", "read"))
        kinds = [kind.value for kind in KINDS[name]]
        weights = None if name == "fracture" else "quadratic"
        kappa = cohen_kappa_score(first, other, labels=kinds, weights=weights)
        assert tile(sheet, "second_read_kappa").figure.value == pytest.approx(kappa)
        counts = [[p.n for p in row.points] for row in chart(sheet, "second_reads").series]
        assert counts == confusion_matrix(first, other, labels=kinds).tolist()
    gold = pairs[pairs.gold.notna()]
    assert chart(sheet, "gold_by_reader").n == len(gold)

    own = {row.id: row.answer for row in generated.scalars(select(BlindAnswer))}
    rows = reads[(reads.task == task) & reads.shown & reads.blind.notna() & reads.label.notna() & reads.read.notna()]
    kinds = [influence(own[int(row.blind)], row.read, row.label) for row in rows.itertuples()]
    bars = [p.y for p in chart(sheet, "influence").series[0].points]
    assert bars == pytest.approx(
        [kinds.count(kind) / len(kinds) for kind in ("agreed", "kept", "towards", "otherwise")]
    )
    assert chart(sheet, "influence").n == len(kinds)
    differed = [kind for kind in kinds if kind != "agreed"]
    moved = tile(sheet, "moved_towards_read")
    assert moved.n == len(differed)
    expected = pytest.approx(differed.count("towards") / len(differed)) if len(differed) >= 10 else None
    assert moved.figure.value == expected


def influence(own: dict, read: dict, final: dict) -> str:
    def apart(a: dict, b: dict) -> int:
        return (
            abs(a["bone_age_months"] - b["bone_age_months"]) if "bone_age_months" in a else sum(a[k] != b[k] for k in a)
        )

    if own == read:
        return "agreed" if final == own else "otherwise"
    if own == final:
        return "kept"
    return "towards" if apart(final, read) < apart(own, read) else "otherwise"


# ---------------------------------------------------------------- operations


def test_operations(generated: Session, reads: pd.DataFrame) -> None:
    sheet = figures.operation_sheet(generated, ADMIN, FigureFilter(all_tasks=True), NOW)
    open_at = [s.received_at for s in generated.scalars(select(Study)) if s.status == "awaiting_review"]
    hours = np.array([(NOW - at).total_seconds() / 3600 for at in open_at])
    assert tile(sheet, "open_studies").figure.value == len(hours)
    assert tile(sheet, "oldest_hours").figure.value == pytest.approx(hours.max())
    expected = np.histogram(hours, [0, 4, 24, 72, 168, 1e9])[0]
    assert [p.n for p in chart(sheet, "queue_age").series[1].points] == expected.tolist()

    shown = reads[reads.shown]
    recent = shown[shown.decided >= NOW - pd.Timedelta(weeks=26)]
    quarters = (np.floor(np.floor(recent.hours * 60) / 15) + 0.5) / 4
    for key, share in (("turnaround_median", 0.5), ("turnaround_90", 0.9)):
        assert tile(sheet, key).figure.value == pytest.approx(np.quantile(quarters, share))
        assert tile(sheet, key).n == len(recent)
    weeks = recent.decided.dt.tz_localize(None).dt.to_period("W-SUN").dt.start_time.dt.strftime("%Y-%m-%d")
    by_week = series(chart(sheet, "turnaround_by_week"), "median")
    for week, group in quarters.groupby(weeks):
        assert by_week[week].n == len(group)
        if len(group) >= 10:
            assert by_week[week].y == pytest.approx(np.median(group))

    made = [at.astimezone(UTC) for at in generated.scalars(select(Prediction.created_at))]
    last_day = sum(NOW - pd.Timedelta(hours=24) <= at < NOW for at in made)
    found = tile(sheet, "reads_per_hour")
    assert (found.n, found.figure.value) == (last_day, last_day / 24)
    assert stats.poisson.sf(last_day - 1, found.figure.low * 24) == pytest.approx(0.025)
    week = sum(NOW - pd.Timedelta(days=7) <= at < NOW for at in made)
    assert sum(p.n for p in chart(sheet, "reads_by_hour").series[0].points) == chart(sheet, "reads_by_hour").n == week
    assert sum(p.n for p in chart(sheet, "quarantine_reasons").series[0].points) == tile(sheet, "in_quarantine").n


def test_drift(generated: Session) -> None:
    sheet = figures.operation_sheet(generated, ADMIN, FigureFilter(all_tasks=True), NOW)
    rows = pd.DataFrame(
        [(p.task.value, p.answer, p.created_at) for p in generated.scalars(select(Prediction))],
        columns=["task", "answer", "at"],
    )
    hour = rows["at"].map(lambda at: at.timestamp() // 3600)
    now = NOW.timestamp() // 3600
    late, early = hour >= now - 14 * 24, (hour < now - 14 * 24) & (hour >= now - 104 * 24)
    points = series(chart(sheet, "drift_of_reads"))
    for label, task, said in (
        ("bone age", "bone_age", lambda a: a["bone_age_months"] // 12),
        ("ROP, zone", "rop", lambda a: a["zone"]),
        ("fracture", "fracture", lambda a: a["fracture"]),
    ):
        classes = rows[rows.task == task].answer.map(lambda a, s=said: "no read" if a is None else str(s(a)))
        table = pd.DataFrame({"late": classes[late].value_counts(), "early": classes[early].value_counts()}).fillna(0)
        expected = jensenshannon(table.late, table.early, base=2) ** 2
        assert points[label].y == pytest.approx(expected)
        assert points[label].n == table.to_numpy().sum()
    films = pd.DataFrame([(f.mean, f.received_hour) for f in generated.scalars(select(FilmStatistics))])
    edges = [0, *(i / 20 for i in range(1, 20)), 9]
    windows = ((films[1] >= now - 14 * 24), (films[1] < now - 14 * 24) & (films[1] >= now - 104 * 24))
    late, early = (np.histogram(films[0][window & (films[1] <= now)], edges)[0] for window in windows)
    assert series(chart(sheet, "drift_of_films"))["mean grey"].y == pytest.approx(
        jensenshannon(late, early, base=2) ** 2
    )


def test_a_change_of_the_films_raises_an_alert(generated: Session) -> None:
    now = int(NOW.timestamp() // 3600)
    quiet = figures.operation_sheet(generated, ADMIN, FigureFilter(all_tasks=True), NOW).alerts
    generated.execute(
        update(FilmStatistics).where(FilmStatistics.received_hour >= now - 14 * 24).values(mean=0.9, spread=0.05)
    )
    alerts = figures.operation_sheet(generated, ADMIN, FigureFilter(all_tasks=True), NOW).alerts
    generated.rollback()
    assert not any("grey" in alert for alert in quiet)
    assert any(alert.startswith("mean grey: the last 14 days differ from the 90 before") for alert in alerts)
    assert drift.ALERT_BITS == 0.05


# ---------------------------------------------------------------- nothing to stand on


def every_sheet(session: Session, **selection) -> list[Sheet]:
    found = []
    for task in Task:
        filter = FigureFilter(task=task, version_id=IN_USE, **selection)
        for field in KINDS if task is not Task.BONE_AGE else [None]:
            found.append(figures.model_sheet(session, ADMIN, replace(filter, other_version_id=SHADOW), field))
            found.append(figures.reader_sheet(session, ADMIN, filter, field))
    return found


def assert_says_so(sheet: Sheet) -> None:
    for one in (*sheet.tiles, *sheet.charts):
        if isinstance(one, Tile) and (one.census and one.missing is None):
            continue  # nothing waits: a count of none
        assert one.missing is not None, one.key
        assert one.missing.startswith("not enough cases (n = "), one.missing
    for one in sheet.charts:
        assert not one.series and not one.lines
        assert "not enough cases" in one.as_csv()


def test_an_empty_database_has_no_figure(session: Session) -> None:
    operations = figures.operation_sheet(session, ADMIN, FigureFilter(all_tasks=True), NOW)
    for sheet in (*every_sheet(session), operations):
        assert_says_so(sheet)
        if sheet is not operations:
            assert all_figures(sheet) == []
    assert all_figures(operations) == ["open_studies: 0.0", "in_quarantine: 0.0"]


def test_a_selection_without_a_case_has_no_figure(generated: Session) -> None:
    for sheet in every_sheet(generated, sites=("nowhere",)):
        assert_says_so(sheet)
        assert all_figures(sheet) == []


def test_no_chart_escapes_that_look(generated: Session, session: Session) -> None:
    """Every chart that a full database shows is there in an empty one, too, where the tests above have looked at it."""

    def charts(session: Session) -> set[tuple[str, str]]:
        operations = figures.operation_sheet(session, ADMIN, FigureFilter(all_tasks=True), NOW)
        return {(sheet.title, one.key) for sheet in (*every_sheet(session), operations) for one in sheet.charts}

    assert charts(generated) == charts(session)
    assert len(charts(session)) >= 24


def test_operations_of_a_site_without_a_case_have_no_figure(generated: Session) -> None:
    sheet = figures.operation_sheet(generated, ADMIN, FigureFilter(sites=("nowhere",)), NOW)
    shown = [one for one in all_figures(sheet) if not one.startswith(("in_quarantine", "quarantine_reasons"))]
    assert shown == ["open_studies: 0.0"]  # quarantine has no site


def test_answers_that_are_all_alike_have_no_drift(generated: Session) -> None:
    generated.execute(update(AnswerFact).where(AnswerFact.task == Task.FRACTURE).values(read_fracture="normal",
                                                                                       is_answered=True))  # fmt: skip
    sheet = figures.operation_sheet(generated, ADMIN, FigureFilter(task=Task.FRACTURE), NOW)
    generated.rollback()
    assert chart(sheet, "drift_of_reads").missing.startswith("not enough cases (n = ")


@pytest.mark.parametrize(
    ("filter", "name"), [(ROP, "zone"), (ROP, "stage"), (ROP, "plus_disease"), (FRACTURE, "fracture")]
)
def test_a_selection_of_one_class_has_no_figure(generated: Session, filter: FigureFilter, name: str) -> None:
    only = {"zone": "II", "stage": "1", "plus_disease": "none", "fracture": "normal"}[name]
    label = getattr(AnswerFact, f"label_{name}")
    generated.execute(update(AnswerFact).where(AnswerFact.task == filter.task, label == only).values(site="Mono"))
    filter = replace(filter, sites=("Mono",))
    sheet = figures.model_sheet(generated, ADMIN, filter, name)
    readers = figures.reader_sheet(generated, ADMIN, replace(filter, version_id=None), name)
    generated.rollback()
    assert_says_so(sheet)
    assert all_figures(sheet) == []
    n = sheet.charts[0].n
    assert n > 10 and f"(n = {n})" in sheet.charts[0].missing and only in sheet.charts[0].missing.replace("pre-", "")
    for one in (
        chart(readers, "second_reads"),
        tile(readers, "second_read_kappa"),
        tile(readers, "second_read_agreement"),
    ):
        assert one.missing.startswith("not enough cases (n = ")


def test_every_state_of_a_dashboard_is_a_page(generated: Session) -> None:
    """With figures, without, of one version and of two."""
    sheets = [
        *every_sheet(generated),
        *every_sheet(generated, sites=("nowhere",)),
        *(figures.operation_sheet(generated, ADMIN, FigureFilter(task=task), NOW) for task in Task),
        figures.operation_sheet(generated, ADMIN, FigureFilter(all_tasks=True), NOW),
    ]
    for sheet in sheets:
        [page] = PdfReader(io.BytesIO(dashboard_report.as_pdf(sheet, NOW, "x"))).pages
        text = " ".join(page.extract_text().split())
        for chart_ in sheet.charts:
            assert chart_.title in text, (sheet.title, chart_.key)
        assert dashboard_report.as_html(sheet, NOW, "x").count("<svg") == len(sheet.charts)


def test_a_chart_refuses_numbers_where_something_is_missing() -> None:
    empty = Chart("a", "A", "bars", 3, series=(Series("s", (Point("x", None, 3),)),))
    assert (empty.missing, empty.series) == ("not enough cases (n = 3)", ())


# ---------------------------------------------------------------- who may


def test_readers_see_each_other_by_pseudonym(generated: Session) -> None:
    sheet = figures.reader_sheet(generated, demo_reader(), FigureFilter())
    assert all(str(x).startswith("R-") for x in series(chart(sheet, "override_by_reader")))
    with pytest.raises(NotAllowed):
        figures.model_sheet(generated, service_actor("worker"), FigureFilter())
