"""engine.services.demo: a worklist with something on every page, made once."""

from collections import Counter
from statistics import mean

import pytest
from sqlalchemy import func, select

from db import models
from db.session import session_scope
from db.types import utc_now
from engine.findings.answers import ALLOWED, Task, View, fracture_answer
from engine.inference.read import Read
from engine.jobs.read_pending import read_images
from engine.services import adjudication, demo, figures, gold_cases, quality_rules, reader_quality
from engine.services.accounts import demo_adjudicator, demo_admin
from engine.services.demo_files import make_demo_files, make_past_files
from engine.services.figure_filters import FigureFilter
from tests.fake_images import image_processor


class FixedReader:
    """Gives every image of a task the same allowed answer, which is right for some."""

    model_version = "fake 1"
    is_phantom = True
    image_processor = staticmethod(image_processor)

    def triage_pixels(self, pixels):
        return [(View.WRIST, {"wrist": 1.0}) for _ in pixels]

    def read_pixels(self, pixels, task, contexts):
        answer = fracture_answer("buckle") if task == "fracture" else ALLOWED[task][0]
        return [Read(str(task), answer, {}, None, None, False, None, "fake 1", 1.0) for _ in pixels]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return make_demo_files(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def past(tmp_path_factory):
    return make_past_files(tmp_path_factory.mktemp("past"))


@pytest.fixture(autouse=True)
def made_once(files, past, monkeypatch):
    """Drawing the phantoms takes the most time, and they are the same every time (which has a test of its own)."""
    monkeypatch.setattr(demo, "make_demo_files", lambda folder: files)
    monkeypatch.setattr(demo, "make_past_files", lambda folder: past)


@pytest.fixture
def load(database_url):
    return lambda: lambda image_ids: read_images(database_url, FixedReader, image_ids)


def counts(database_url, column):
    with session_scope(database_url) as session:
        return {str(key): count for key, count in session.execute(select(column, func.count()).group_by(column))}


def test_the_demo_has_every_kind_of_case_and_is_made_once(database_url, data_dir, load):
    filled = demo.fill(database_url, data_dir, load, say=lambda message: None)
    assert filled.studies >= 60
    by_task = counts(database_url, models.Study.task)
    assert min(by_task[task] for task in ("bone_age", "rop", "fracture")) >= 10
    by_status = counts(database_url, models.Study.status)
    assert {"awaiting_read", "awaiting_review", "reviewed", "rejected"} <= by_status.keys()
    verdicts = counts(database_url, models.Review.verdict)
    assert {"confirmed", "corrected", "rejected"} <= verdicts.keys()
    assert len(counts(database_url, models.Study.site)) >= 2
    codes = counts(database_url, models.Quarantine.code)
    assert len(codes) >= 5, "refused for different reasons"
    assert filled.refused == sum(codes.values())
    with session_scope(database_url) as session:
        studies_of = Counter(session.scalars(select(models.Study.patient_fk)))
        assert session.scalar(select(func.count()).where(~models.Study.is_phantom)) == 0
        visits = session.scalars(select(models.GrowthVisit)).all()
    assert Counter(studies_of.values())[3] >= 2, "some children have follow-ups"
    assert filled.visits == len(visits) > 100 and all(visit.is_phantom for visit in visits)
    assert sum(visit.height_for_age_z is None for visit in visits) > 5, "of some nothing can be said"
    assert -1 < mean(visit.height_for_age_z for visit in visits if visit.height_for_age_z is not None) < 1
    assert {code for visit in visits for code in visit.doubts} <= {"no_sex", "no_age"}

    assert demo.fill(database_url, data_dir, load, say=lambda message: None) is None, "it is filled once"
    assert counts(database_url, models.Study.status) == by_status
    assert counts(database_url, models.Review.verdict) == verdicts


def test_a_demo_that_was_interrupted_goes_on(database_url, data_dir, load):
    def interrupted(image_ids):
        load()(image_ids[:10])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.fill(database_url, data_dir, lambda: interrupted, say=lambda message: None)
    images = counts(database_url, models.Image.source_format)
    filled = demo.fill(database_url, data_dir, load, say=lambda message: None)
    assert filled.reviewed > 0 and filled.visits > 100
    assert counts(database_url, models.Image.source_format)["dicom"] > images["dicom"]
    with session_scope(database_url) as session:
        assert session.scalar(select(func.max(models.Quarantine.times_received))) <= 2
        per_image = Counter(session.scalars(select(models.Review.image_fk)))
        ruled = {case.image_fk for case in session.scalars(select(models.BlindCase)) if case.state == "settled"}
    assert {image: count for image, count in per_image.items() if count != 1} == dict.fromkeys(ruled, 2)


def test_every_dashboard_has_something_to_show_at_first_look(database_url, data_dir, load):
    filled = demo.fill(database_url, data_dir, load, say=lambda message: None)
    assert 120 <= filled.decided_before <= 140
    admin = demo_admin()
    with session_scope(database_url) as session:
        for task in Task:
            field = {Task.ROP: "zone", Task.FRACTURE: "fracture"}.get(task)
            readers = figures.reader_sheet(session, admin, FigureFilter(task=task), field)
            by_reader = chart_of(readers, "reading_seconds_by_reader").series[0].points
            assert len([p for p in by_reader if p.y is not None]) == 3, task
            assert chart_of(readers, "override_by_reason").missing is None
            assert chart_of(readers, "second_reads").missing is None, task
            model = figures.model_sheet(session, admin, FigureFilter(task=task), field)
            assert model.is_phantom and readers.is_phantom
        assert chart_of(figures.reader_sheet(session, admin, FigureFilter()), "influence").missing is None
        operations = figures.operation_sheet(session, admin, FigureFilter(all_tasks=True))
        assert len([p for p in chart_of(operations, "turnaround_by_week").series[0].points if p.n]) >= 5
        assert chart_of(operations, "drift_of_films").missing is None
        qualities = reader_quality.reader_qualities(session, admin)
        assert len({one.reader for one in qualities if one.missing is None}) == 3
        assert len(adjudication.disputes(session, demo_adjudicator())) == 1
        assert len(gold_cases.gold_cases(session, admin)) >= 3 and any(one.gold for one in qualities)
        comments = [r.comment for r in session.scalars(select(models.Review)) if r.verdict == models.Verdict.CORRECTED]
        assert sum(comment is not None for comment in comments) > 20
        assert not any(rule.blind_first for rule in quality_rules.rules(session, admin))
        assert session.scalar(select(func.count()).where(~models.Study.is_phantom)) == 0
        assert session.scalar(select(func.max(models.Review.created_at))) <= utc_now()


def chart_of(sheet, key):
    return next(chart for chart in sheet.charts if chart.key == key)


def test_without_a_model_everything_waits_for_the_worker(database_url, data_dir):
    filled = demo.fill(database_url, data_dir, None, say=lambda message: None)
    assert filled.reviewed == 0
    assert counts(database_url, models.Prediction.task) == {}


def test_the_same_files_come_out_every_time(files, tmp_path):
    again, _ = make_demo_files(tmp_path / "again")
    first, _ = files
    assert [file.path.read_bytes() for exam in first[:5] for file in exam.files] == [
        file.path.read_bytes() for exam in again[:5] for file in exam.files
    ]


def test_follow_ups_of_a_child_agree_with_the_birth_date(files):
    examinations, _ = files
    for examination in examinations:
        for file in examination.files:
            if file.answer["task"] != "rop":  # an infant's two eyes are drawn apart, and are as old as the infant
                days = (examination.acquired_on - examination.child.birth_date).days
                assert abs(days / 30.4369 - file.age_months) < 0.1
