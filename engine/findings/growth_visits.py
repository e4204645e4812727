"""Growth of real visits: what was measured is checked first, and nothing doubtful is scored silently.

A value that cannot be meant as it is written (metres, inches, swapped columns, a newborn of 20 kg) gives no z, and an
Issue says why; one that WHO's software flags as extreme keeps its z, marked. Age is corrected for preterm birth.

Sources
    Corrected age   AAP Committee on Fetus and Newborn, Pediatrics 2004;114:1362-4: chronological age less the weeks
                    born before 40; for children up to three years who were born preterm
    Preterm         before 37 completed weeks (WHO)
    Flags           WHO anthro and anthroplus, see growth.PLAUSIBLE_Z
    Limits of what can be measured, and what a value in another unit has to look like: defaults of this workstation,
    unverified. They decide what is refused, never what a z is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import isnan

import numpy as np

from engine.findings import growth, who_tables
from engine.findings.age import months_words
from engine.findings.growth import DAYS_PER_MONTH, PLAUSIBLE_Z, UNITS, WEIGHT_RELATED, GrowthScores, Indicator
from engine.findings.reference import Refusal

TERM_WEEKS = 40
PRETERM_BELOW_WEEKS = 37
CORRECTED_BELOW_MONTHS = 36
OLDEST_MONTHS = 228
AGES_MAY_DIFFER_MONTHS = 1.0  # days against completed months

HEIGHT, WEIGHT, HEAD = "length_height_cm", "weight_kg", "head_circumference_cm"
INDICATOR_OF = {HEIGHT: Indicator.HEIGHT, WEIGHT: Indicator.WEIGHT, HEAD: Indicator.HEAD}
NEEDS = {
    Indicator.HEIGHT: (HEIGHT,),
    Indicator.WEIGHT: (WEIGHT,),
    Indicator.BMI: (WEIGHT, HEIGHT),
    Indicator.HEAD: (HEAD,),
    Indicator.WEIGHT_FOR_LENGTH: (WEIGHT, HEIGHT),
}
EVERYTHING = ("sex", "age", "row")  # an Issue with one of these fields withholds every z

# Unverified defaults of this workstation: what can be measured at any age, and as a share of the median for age.
MEASURABLE = {HEIGHT: (20.0, 250.0), WEIGHT: (0.2, 350.0), HEAD: (15.0, 80.0)}
SHARE_OF_MEDIAN = {HEIGHT: (0.45, 1.5), WEIGHT: (0.05, 5.0), HEAD: (0.4, 2.0)}
YOUNG_WEIGHT_SHARE, YOUNG_BELOW_DAYS = 3.5, 183
# The unit that may have been meant, and what one of it is in ours. Pounds only warn: a heavy child is as likely.
OTHER_UNITS = {
    HEIGHT: (("metres", 100.0), ("inches", 2.54), ("millimetres", 0.1)),
    WEIGHT: (("grams", 0.001), ("pounds", 0.45359237)),
    HEAD: (("inches", 2.54), ("millimetres", 0.1), ("metres", 100.0)),
}
AMBIGUOUS_UNITS = ("pounds",)
LIKELY_Z = 4.0  # in the other unit the value must be this usual


class AgeBasis(StrEnum):
    CHRONOLOGICAL = "chronological age"
    CORRECTED = "corrected age"


@dataclass(frozen=True)
class Visit:
    """What was measured; None is unknown. Give the age in days or in months with decimals.

    `gestational_age_weeks` is 30 + 4/7 for 30 weeks and 4 days. `measured` is "lying" or "standing"."""

    sex: str | None
    age_days: float | None = None
    age_months: float | None = None
    weight_kg: float | None = None
    length_height_cm: float | None = None
    measured: str | None = None
    head_circumference_cm: float | None = None
    oedema: bool = False
    gestational_age_weeks: float | None = None


@dataclass(frozen=True)
class Issue:
    """Something to check. `code` is stable; `field` is the column it is about, or "row", "sex" or "age".

    `withholds`: nothing that needs the field was computed. Otherwise the z is there, and doubtful or explained."""

    code: str
    field: str
    message: str
    withholds: bool = True


@dataclass(frozen=True)
class GrowthZ:
    """One indicator. `implausible` is WHO's flag; `measurement` is in `unit`, a height as WHO's table means it."""

    indicator: Indicator
    z: float
    centile_percent: float
    measurement: float
    unit: str
    age_months: float
    age_basis: AgeBasis
    standard: str
    implausible: bool


@dataclass(frozen=True)
class ScoredVisit:
    visit: Visit
    age_months: float | None  # the age used
    age_basis: AgeBasis
    bmi_kg_m2: float | None
    values: dict[Indicator, GrowthZ | Refusal]
    issues: tuple[Issue, ...]


def score_visit(visit: Visit) -> ScoredVisit:
    return score_visits([visit])[0]


def score_visits(visits: Sequence[Visit], issues: Sequence[Sequence[Issue]] | None = None) -> list[ScoredVisit]:
    """Every visit checked and scored. `issues` are those already known of each visit, from reading a file."""
    found = [list(known) for known in issues] if issues is not None else [[] for _ in visits]
    if not visits:
        return []
    batch = _Batch(visits, found)
    batch.check_ages()
    batch.check_measurements()
    return batch.scored()


@dataclass
class _Batch:
    """All visits as columns, so that a hundred thousand are checked as quickly as one."""

    visits: Sequence[Visit]
    issues: list[list[Issue]]
    corrected: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.sex = np.array([visit.sex or "" for visit in self.visits])
        self.age_days = self._numbers("age_days")
        self.age_months = self._numbers("age_months")
        self.values = {name: self._numbers(name) for name in INDICATOR_OF}
        self.measured = np.array([visit.measured or "" for visit in self.visits])
        self.oedema = np.array([visit.oedema for visit in self.visits])

    def _numbers(self, name: str) -> np.ndarray:
        values = [getattr(visit, name) for visit in self.visits]
        return np.array([np.nan if value is None else value for value in values], float)

    def check_ages(self) -> None:
        """Sets the ages that count, in days and in months, corrected for preterm birth."""
        both = self.age_days / DAYS_PER_MONTH - self.age_months
        days = np.where(np.isnan(self.age_days), self.age_months * DAYS_PER_MONTH, self.age_days)
        weeks_early = TERM_WEEKS - self._numbers("gestational_age_weeks")
        preterm = weeks_early > TERM_WEEKS - PRETERM_BELOW_WEEKS
        self.corrected = preterm & (days < CORRECTED_BELOW_MONTHS * DAYS_PER_MONTH)
        self.age_days = np.where(self.corrected, days - weeks_early * 7, self.age_days)
        self.age_months = np.where(self.corrected, np.nan, self.age_months)
        self.months = np.where(np.isnan(self.age_days), self.age_months, self.age_days / DAYS_PER_MONTH)

        self._add(
            ~np.isin(self.sex, growth.SEXES),
            lambda i: Issue("no_sex", "sex", "sex must be M or F; the tables differ by sex"),
        )
        self._add(
            np.isnan(self.months),
            lambda i: Issue("no_age", "age", "no age, and every table goes by age"),
        )
        self._add(
            np.abs(both) > AGES_MAY_DIFFER_MONTHS,
            lambda i: Issue(
                "ages_disagree",
                "age",
                f"age_days {days[i]:g} is {days[i] / DAYS_PER_MONTH:.1f} months, but age_months says"
                f" {self.visits[i].age_months:g}",
            ),
        )
        self._add(days < 0, lambda i: Issue("age_negative", "age", f"measured {-days[i]:g} days before the birth"))
        self._add(
            self.months > OLDEST_MONTHS,
            lambda i: Issue(
                "too_old", "age", f"{months_words(self.months[i])} old: WHO's tables end at 19 years", withholds=False
            ),
        )
        self._add(
            self.corrected & (self.age_days < 0) & (days >= 0),
            lambda i: Issue("before_term", "age", f"{-self.age_days[i]:.0f} days before term: WHO has no table"),
        )
        self._add(
            self.corrected & (self.age_days >= 0),
            lambda i: Issue(
                "corrected_age",
                "age",
                f"born at {self.visits[i].gestational_age_weeks:.1f} weeks: scored at the corrected age of"
                f" {self.age_days[i]:.0f} days, chronological age {days[i]:.0f}",
                withholds=False,
            ),
        )

        doubtful = [any(known.withholds and known.field == "age" for known in issues) for issues in self.issues]
        for ages in (self.age_days, self.age_months, self.months):
            ages[doubtful] = np.nan  # a measurement is not judged by an age that may be wrong

    def check_measurements(self) -> None:
        scores = self._scores(**self.values)
        impossible = {name: self._impossible(name) for name in INDICATOR_OF}
        suspect = {name: impossible[name] | scores.implausible[INDICATOR_OF[name]] for name in INDICATOR_OF}
        explained = {name: np.zeros(len(self.visits), bool) for name in INDICATOR_OF}

        for first, second, code in (
            (HEIGHT, WEIGHT, "weight_and_height_swapped"),
            (HEIGHT, HEAD, "head_and_height_swapped"),
        ):
            doubtful = suspect[first] | suspect[second]
            swapped = self._swapped(first, second, doubtful) if doubtful.any() else doubtful
            for name in (first, second):
                explained[name] |= swapped
                self._add(swapped, lambda i, code=code, name=name: Issue(code, name, self._swap_words(code, i)))

        for name, units in OTHER_UNITS.items():
            for unit, factor in units:
                meant = suspect[name] & ~explained[name]
                if meant.any():
                    meant = meant & self._likely(name, factor)
                withholds = unit not in AMBIGUOUS_UNITS
                if withholds:
                    explained[name] |= meant
                self._add(
                    meant,
                    lambda i, name=name, unit=unit, factor=factor, withholds=withholds: Issue(
                        f"{name.rsplit('_', 1)[0]}_in_{unit}",
                        name,
                        f"{name} {self.values[name][i]:g} looks like {unit} ({self.values[name][i] * factor:.4g}"
                        f" {name.rsplit('_', 1)[1]}): check the unit",
                        withholds,
                    ),
                )
            self._add(
                impossible[name] & ~explained[name],
                lambda i, name=name: Issue(
                    f"{name.rsplit('_', 1)[0]}_impossible",
                    name,
                    f"{name} {self.values[name][i]:g} cannot be right at {_age_words(self.months[i])}:"
                    " check value and unit",
                ),
            )
        self._add(
            (self.measured == "standing")
            & (self.months < growth.NO_STANDING_BELOW_MONTHS)
            & ~np.isnan(self.values[HEIGHT]),
            lambda i: Issue(
                "standing_below_9_months",
                "measured",
                "measured standing below 9 months: taken as length, without the 0.7 cm, as WHO does",
                withholds=False,
            ),
        )
        self._add(
            self.oedema,
            lambda i: Issue("oedema", "oedema", "oedema: nothing that depends on weight is scored", withholds=False),
        )
        read = np.array([not any(known.withholds for known in issues) for issues in self.issues])
        self._add(
            read & np.all([np.isnan(values) for values in self.values.values()], axis=0),
            lambda i: Issue("nothing_measured", "row", "no height, weight or head circumference"),
        )

    def scored(self) -> list[ScoredVisit]:
        kept = {name: values.copy() for name, values in self.values.items()}
        for index, issues in enumerate(self.issues):
            for issue in issues:
                if issue.withholds:
                    for name in kept if issue.field in EVERYTHING else (issue.field,):
                        if name in kept:
                            kept[name][index] = np.nan
        scores = self._scores(**kept)
        bmi = scores.bmi_kg_m2
        used = {
            Indicator.HEIGHT: scores.height_cm,
            Indicator.WEIGHT: kept[WEIGHT],
            Indicator.BMI: bmi,
            Indicator.HEAD: kept[HEAD],
            Indicator.WEIGHT_FOR_LENGTH: kept[WEIGHT],
        }
        z = {indicator: values.tolist() for indicator, values in scores.z.items()}
        centiles = {indicator: scores.centile_percent(indicator).tolist() for indicator in Indicator}
        for indicator in Indicator:
            low, high = PLAUSIBLE_Z[indicator]
            self._add(
                scores.implausible[indicator],
                lambda i, indicator=indicator, low=low, high=high: Issue(
                    f"{indicator}_implausible",
                    NEEDS[indicator][0],
                    f"{indicator.replace('_', ' ')} z {z[indicator][i]:.2f} is outside {low:g} to {high:g}, which WHO"
                    " takes as most likely an error: check the measurement",
                    withholds=False,
                ),
            )
        # plain lists from here on: one array element at a time would take most of the time
        columns = {
            indicator: zip(
                z[indicator],
                centiles[indicator],
                used[indicator].tolist(),
                scores.implausible[indicator].tolist(),
                strict=True,
            )
            for indicator in Indicator
        }
        results = []
        for i, (visit, months, corrected, standard, kg_m2) in enumerate(
            zip(
                self.visits,
                self.months.tolist(),
                self.corrected.tolist(),
                scores.standard.tolist(),
                bmi.tolist(),
                strict=True,
            )
        ):
            basis = AgeBasis.CORRECTED if corrected else AgeBasis.CHRONOLOGICAL
            values: dict[Indicator, GrowthZ | Refusal] = {}
            for indicator, column in columns.items():
                score, centile, measurement, implausible = next(column)
                values[indicator] = (
                    self._refusal(i, indicator, months)
                    if isnan(score)
                    else GrowthZ(
                        indicator,
                        score,
                        centile,
                        measurement,
                        UNITS[indicator],
                        months,
                        basis,
                        standard,
                        implausible,
                    )
                )
            known_months = None if isnan(months) else months
            known_bmi = None if isnan(kg_m2) else kg_m2
            results.append(ScoredVisit(visit, known_months, basis, known_bmi, values, tuple(self.issues[i])))
        return results

    def _scores(self, **values: np.ndarray) -> GrowthScores:
        return growth.growth_scores(
            self.sex,
            age_days=self.age_days,
            age_months=self.age_months,
            measured=self.measured,
            oedema=self.oedema,
            **values,
        )

    def _impossible(self, name: str, values: np.ndarray | None = None) -> np.ndarray:
        """Outside what can be measured at all, or at this age."""
        values = self.values[name] if values is None else values
        median = growth.median_for_age(INDICATOR_OF[name], self.sex, age_days=self.age_days, age_months=self.age_months)
        low, high = MEASURABLE[name]
        least, most = SHARE_OF_MEDIAN[name]
        if name == WEIGHT:
            most = np.where(self.months * DAYS_PER_MONTH < YOUNG_BELOW_DAYS, YOUNG_WEIGHT_SHARE, most)
        share = values / median
        return (values < low) | (values > high) | (share < least) | (share > most)

    def _likely(self, name: str, factor: float) -> np.ndarray:
        """Whether the value times `factor` is usual at this age; without a table, whether only that is measurable."""
        values = self.values[name] * factor
        z = self._scores(**{name: values}).z[INDICATOR_OF[name]]
        low, high = MEASURABLE[name]
        measurable = (values >= low) & (values <= high) & self._impossible(name)
        return np.where(np.isnan(z), measurable, np.abs(z) <= LIKELY_Z)

    def _swapped(self, first: str, second: str, suspect: np.ndarray) -> np.ndarray:
        """Whether both values make sense the other way round, and they do not as they are."""
        other = {first: self.values[second], second: self.values[first]}
        scores = self._scores(**other)
        sense = suspect.copy()
        for name, values in other.items():
            z = scores.z[INDICATOR_OF[name]]
            sense &= ~np.isnan(values) & ~self._impossible(name, values) & ~(np.abs(z) > LIKELY_Z)
        if second == WEIGHT:
            sense &= ~scores.implausible[Indicator.BMI]
        else:
            sense &= ~np.isnan(scores.z[Indicator.HEAD])
        return sense

    def _swap_words(self, code: str, i: int) -> str:
        other = WEIGHT if code.startswith("weight") else HEAD
        return (
            f"{HEIGHT} {self.values[HEIGHT][i]:g} and {other} {self.values[other][i]:g} make sense only the other way"
            " round: check the columns"
        )

    def _refusal(self, i: int, indicator: Indicator, months: float) -> Refusal:
        for issue in self.issues[i]:
            if issue.withholds and issue.field in (*EVERYTHING, *NEEDS[indicator]):
                return Refusal(issue.code, issue.message)
        for name in NEEDS[indicator]:
            if getattr(self.visits[i], name) is None:
                return Refusal("not_measured", f"{name} was not measured")
        if self.visits[i].oedema and indicator in WEIGHT_RELATED:
            return Refusal("oedema", "not scored: oedema")
        what = indicator.replace("_", " ")
        if indicator is Indicator.WEIGHT_FOR_LENGTH and months < who_tables.FIRST_MONTH:
            return Refusal("no_table", f"WHO has no {what} at this length")
        return Refusal("no_table", f"WHO has no {what} at {_age_words(months)}")

    def _add(self, where: np.ndarray, issue: Callable[[int], Issue]) -> None:
        """An issue for each row of `where`, unless what it is about was already found unreadable."""
        for index in np.flatnonzero(where):
            new = issue(index)
            if not any(known.withholds and known.field in ("row", new.field) for known in self.issues[index]):
                self.issues[index].append(new)


def _age_words(months: float) -> str:
    if isnan(months):
        return "an unknown age"
    days = round(months * DAYS_PER_MONTH)
    if days >= 90:
        return months_words(months)
    return "1 day" if days == 1 else f"{days} days"
