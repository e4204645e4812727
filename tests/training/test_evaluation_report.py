"""The report: its figures are the JSON's, it needs nothing but itself, and says what it does not know."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from engine.evaluation import result_of
from engine.evaluation_figures import Outcome
from engine.findings.answers import ALLOWED, Fracture, Plus, Stage, Task, Zone, bone_age_answer, fracture_answer
from engine.inference.read import Read
from engine.targets import TARGETS, Target
from training import evaluation_words as words
from training.evaluation_report import as_html
from training.report_charts import Axis, roc_points


class Page(HTMLParser):
    """`cells`: data-figure -> (data-value, text). `text`: all of it. `outside`: what would be fetched."""

    def __init__(self, html):
        super().__init__()
        self.cells, self.outside, self.tags, self._open, self.pieces = {}, [], [], None, []
        self.feed(html)
        self.text = " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        found = dict(attributes)
        self.outside += [found[name] for name in ("src", "href", "xlink:href") if name in found]
        if "data-figure" in found:
            self._open = found["data-figure"]
            assert self._open not in self.cells, f"{self._open} is shown twice"
            self.cells[self._open] = (found.get("data-value"), "")

    def handle_data(self, data):
        self.pieces.append(data)
        if self._open is not None and not self.cells[self._open][1]:
            self.cells[self._open] = (self.cells[self._open][0], data)

    def handle_endtag(self, tag):
        if tag == "td":
            self._open = None


def read(answer, p, median=None, interval=None):
    return Read(answer["task"], answer, p, median, interval, False, None, "m", 1.0)


def make_outcomes(seed=0, count=90):
    rng = np.random.default_rng(seed)
    found = {task: [] for task in Task}
    for k in range(count):
        about = {"sex": "MF"[k % 2], "age_months": float(rng.uniform(0, 228)), "site": "AB"[k % 3 == 0],
                 "patient": f"p{k // 2}", "image": f"{k}.png"}  # fmt: skip
        label = int(rng.integers(10, 220))
        median = int(np.clip(label + rng.normal(0, 6), 0, 228))
        p = np.exp(-((np.arange(229) - median) ** 2) / 50)
        p = {str(m): float(q) for m, q in enumerate(p / p.sum())}
        outcome = Outcome(
            bone_age_answer(label), read(bone_age_answer(median), p, median, (median - 6, median + 6)), **about
        )
        found[Task.BONE_AGE].append(outcome)
        truth = ALLOWED[Task.ROP][rng.integers(len(ALLOWED[Task.ROP]))]
        fields = {"zone": Zone, "stage": Stage, "plus_disease": Plus}
        p = {
            f: dict(zip([v.value for v in vs], rng.dirichlet(np.ones(len(vs))).tolist(), strict=True))
            for f, vs in fields.items()
        }
        said = max(ALLOWED[Task.ROP], key=lambda answer: np.prod([p[f][answer[f]] for f in fields]))
        found[Task.ROP].append(Outcome(truth, read(said, p), **about))
        p = dict(zip([f.value for f in Fracture], rng.dirichlet(np.ones(3)).tolist(), strict=True))
        truth = fracture_answer(rng.choice([f.value for f in Fracture]).item())
        found[Task.FRACTURE].append(Outcome(truth, read(fracture_answer(max(p, key=p.get)), p), **about))
    reason = "The image is unlike the wrist images this model was trained on (1.3 times)."
    unread = Read("fracture", None, {}, None, None, True, reason, "m", 1.0)
    found[Task.FRACTURE].append(Outcome(fracture_answer("normal"), unread))
    return found


def make_page(outcomes, phantom=False, **more):
    result = result_of(outcomes, "model 1 (abc)", data="cases test", phantom=phantom) | more
    return result, Page(as_html(result, outcomes))


@pytest.fixture(scope="module")
def evaluated():
    return make_page(make_outcomes())


def test_every_key_figure_is_the_jsons(evaluated):
    result, page = evaluated
    for task in Task:
        for figure in words.FIGURES[task]:
            value, text = page.cells[f"{task}.{figure.name}"]
            assert float(value) == result[task][figure.name]["value"]
            assert text == figure.text(result[task][figure.name]["value"])


def test_groups_and_confusions_are_the_jsons(evaluated):
    result, page = evaluated
    seen = 0
    for task in Task:
        for by, groups in result[task]["groups"].items():
            for group, found in groups.items():
                for name in words.BY_GROUP[task]:
                    value, text = page.cells[f"{task}.{by}.{group}.{name}"]
                    if found[name]["value"] is None:
                        assert value is None and text in found[name]["reason"]
                        continue
                    assert float(value) == found[name]["value"]
                    assert text == words.figure_of(task, name).text(found[name]["value"])
                    seen += 1
        for field, confusion in result[task]["confusion"].items():
            cells = {k: v for k, v in page.cells.items() if k.startswith(f"confusion.{field}.")}
            assert sum(int(value) for value, _ in cells.values()) == sum(map(sum, confusion["counts"])) == 90
    assert seen > 60


def test_it_needs_nothing_but_itself(evaluated):
    _, page = evaluated
    assert page.outside == []
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert "svg" in page.tags


def test_it_says_what_model_what_data_and_that_it_is_not_for_diagnosis(evaluated):
    result, page = evaluated
    for said in (
        "model 1 (abc)",
        "cases test",
        result["date"],
        "Not for diagnostic use",
        "271 , 270 read".replace(" ,", ","),
    ):
        assert said in page.text
    assert "Phantoms" not in page.text
    assert "1 of 91 images (1.1 %) got no read" in page.text
    _, phantom = make_page({Task.FRACTURE: make_outcomes()[Task.FRACTURE]}, phantom=True)
    assert "The figures say nothing about children" in phantom.text
    assert "(phantom model, site A)" in phantom.text and "(phantom model, site A)" not in page.text


def test_targets_stand_beside_the_figures_with_what_is_unverified(evaluated):
    _, page = evaluated
    assert "at least 0.920 (unverified)" in page.text and "at least 0.940 (unverified)" in page.text
    assert "at most 2.80 (unverified): missed" in page.text
    assert all(target.unverified or target.only_phantoms for target in TARGETS)


@pytest.mark.parametrize(
    ("value", "low", "high", "verdict"),
    [
        (2.0, 1.8, 2.2, "met"),
        (2.7, 2.5, 2.9, "met, not certain"),
        (3.0, 2.7, 3.2, "missed, not certain"),
        (4.0, 3.5, 4.5, "missed"),
        (2.0, None, None, "met, not certain"),
        (None, None, None, "not evaluated"),
    ],
)
def test_a_target_is_met_for_certain_only_with_the_whole_interval(value, low, high, verdict):
    target = Target(Task.BONE_AGE, "mae_months", "a test", at_most=2.8)
    assert target.verdict({"value": value, "low": low, "high": high}) == verdict


def test_file_names_cannot_become_markup():
    outcomes = {Task.BONE_AGE: make_outcomes()[Task.BONE_AGE]}
    bad = Outcome(
        bone_age_answer(10), read(bone_age_answer(200), {}, 200, (190, 210)), image='<script>alert("1")</script>&.png'
    )
    outcomes[Task.BONE_AGE].append(bad)
    _, page = make_page(outcomes)
    assert "script" not in page.tags
    assert '<script>alert("1")</script>&.png' in page.text


def test_what_is_not_known_is_said_in_words_and_never_drawn_as_a_number():
    normal = {"distal_radius": 0.1, "buckle": 0.2, "normal": 0.7}
    outcomes = {
        Task.FRACTURE: [Outcome(fracture_answer("normal"), read(fracture_answer("normal"), normal), sex="F")] * 4
    }
    result, page = make_page(outcomes, notes=["every image has fracture normal"])
    assert page.cells["fracture.macro_auc"] == (None, "every read image has the same fracture label")
    assert page.cells["fracture.sex.girls.macro_f1"][0] is None
    assert "too few: 4 images read" in page.text
    assert "Incomplete: every image has fracture normal" in page.text
    assert "no annotation names a patient" in page.text


@pytest.mark.parametrize("task", list(Task))
def test_no_read_at_all_still_makes_a_report(task):
    unread = Read(task, None, {}, None, None, True, "The sex is not known.", "m", 1.0)
    _, page = make_page({task: [Outcome(ALLOWED[task][0], unread)] * 3})
    assert "3 of 3 images (100.0 %) got no read" in page.text
    assert "nan" not in page.text.lower().split()


def test_roc_points_hold_the_area():
    rng = np.random.default_rng(1)
    positive = rng.random(200) < 0.4
    score = (positive * 0.4 + rng.random(200)).round(2)
    x, y = roc_points(positive, score)
    wins = (score[positive][:, None] > score[~positive]).mean() + (
        score[positive][:, None] == score[~positive]
    ).mean() / 2
    assert np.trapezoid(y, x) == pytest.approx(wins)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-7.3, 0.9), (0.98, 1.0), (0, 19), (-60, 60)])
def test_ticks_are_round_and_inside(low, high):
    ticks = Axis(low, high, 0, 100).ticks()
    assert 3 <= len(ticks) <= 8
    assert all(low <= tick <= high for tick in ticks)
    assert all(len(re.sub(r"[-.]", "", f"{tick:g}").strip("0")) <= 4 for tick in ticks)


def test_it_opens_in_a_browser_without_a_network(evaluated, browser, tmp_path):
    result, _ = evaluated
    file = tmp_path / "report.html"
    file.write_text(as_html(result, make_outcomes()), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1140, "height": 900})
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(file.as_uri())
    assert (asked, said) == ([file.as_uri()], [])
    assert page.locator("svg").count() > 20
    assert page.evaluate("document.documentElement.scrollWidth") <= 1140, "nothing is wider than the page"
    cut = page.evaluate(
        """() => [...document.querySelectorAll('svg text')].filter(text => {
            const a = text.getBoundingClientRect(), b = text.ownerSVGElement.getBoundingClientRect();
            return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1;
        }).map(text => text.textContent)"""
    )
    assert cut == [], "texts that leave their picture"
    page.close()
