"""Tables of measurements: the contract's columns in and out, and every bad cell flagged on its row."""

import csv
import json
import random
from datetime import date
from pathlib import Path

import pytest

from engine import cli
from engine.errors import FileRefused
from engine.findings.growth import Indicator
from engine.findings.growth_table import OUT_COLUMNS, read_table, score_file, score_rows
from engine.findings.growth_visits import AgeBasis, GrowthZ
from engine.settings import PROJECT_DIR

WHO = PROJECT_DIR.parent / "shared" / "reference" / "who"
TODAY = date(2026, 11, 24)
HEADER = "sex,age_days,age_months,weight_kg,length_height_cm,measured,head_circumference_cm,oedema"
GOOD = "M,,60,18.5,110,standing,,n"


@pytest.fixture
def table(tmp_path: Path):
    def write(*lines: str, header: str = HEADER, encoding: str = "utf-8") -> Path:
        path = tmp_path / "in.csv"
        path.write_text("\n".join([header, *lines]) + "\n", encoding=encoding)
        return path

    return write


def written(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def test_columns_in_and_out(table, tmp_path: Path) -> None:
    source = table(f"Ann,{GOOD}", "Bo,F,3,,3.3,49.5,lying,34.0,", header=f"name,{HEADER}")
    out = tmp_path / "out.csv"
    score_file(source, out, today=TODAY)
    assert out.read_text().splitlines()[0] == f"name,{HEADER},{','.join(OUT_COLUMNS)},flags"
    ann, bo = written(out)
    assert [ann[column] for column in (*OUT_COLUMNS, "flags")] == ["0.07", "0.06", "0.02", "", ""]
    assert (bo["name"], bo["flags"]) == ("Bo", "") and all(bo[column] for column in OUT_COLUMNS)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


@pytest.mark.skipif(not WHO.exists(), reason="WHO's computed cases are not beside this checkout")
def test_all_1140_cases_of_who_through_a_file(table, tmp_path: Path) -> None:
    position = {"l": "lying", "h": "standing", "": ""}
    young = written(WHO / "oracle_who2006_0_60m_generated.csv")
    older = written(WHO / "oracle_who2007_60_228m_generated.csv")
    lines = [
        f"{c['sex']},{c['age_days']},,{c['weight_kg']},{c['lenhei_cm']},{position[c['measure']]},{c['headc_cm']},"
        for c in young
    ] + [f"{c['sex']},,{c['age_months']},{c['weight_kg']},{c['height_cm']},,," for c in older]
    score_file(table(*lines), tmp_path / "out.csv", today=TODAY, with_weight_for_length=True)
    rows = written(tmp_path / "out.csv")
    assert len(rows) == 1140
    for case, row in zip(young, rows[:640], strict=True):
        for ours, theirs in (
            ("weight_for_age_z", "z_weight"),
            ("height_for_age_z", "z_length_height"),
            ("bmi_for_age_z", "z_bmi"),
            ("head_circumference_for_age_z", "z_headc"),
            ("weight_for_length_height_z", "z_weight_for_lenhei"),
        ):
            assert number(row[ours]) == number(case[theirs]), (case, row)
        assert ("bmi_for_age_implausible" in row["flags"]) == (case["flag_bmi"] == "1")
    for case, row in zip(older, rows[640:], strict=True):
        for ours, theirs in (
            ("weight_for_age_z", "z_weight"),
            ("height_for_age_z", "z_height"),
            ("bmi_for_age_z", "z_bmi"),
        ):
            assert number(row[ours]) == number(case[theirs]), (case, row)


def number(text: str) -> float | None:
    return float(text) if text else None


@pytest.mark.parametrize(
    ("line", "flags", "computed"),
    [
        ('M,,60,"18,5",110,standing,,n', "decimal_comma", "height"),
        ("M,,60,18,5,110,standing,,n", "too_many_cells", ""),
        ("M,,60,18.5,110", "too_few_cells", ""),
        ('M,,"60,5",18.5,110,standing,,n', "decimal_comma", ""),
        ("M,,60,18.5 kg,110,standing,,n", "not_a_number", "height"),
        ("M,,60,1e1,110,standing,,n", "not_a_number", "height"),
        ("M,,60,nan,110,standing,,n", "not_a_number", "height"),
        ("M,,60,-18.5,110,standing,,n", "negative", "height"),
        ("M,-3,,18.5,110,standing,,n", "negative", ""),
        ("boy,,60,18.5,110,standing,,n", "sex_unknown", ""),
        ("1,,60,18.5,110,standing,,n", "sex_unknown", ""),
        ("M,,60,NA,,,,", "nothing_measured", ""),
        (",,60,18.5,110,standing,,n", "no_sex", ""),
        ("M,,,18.5,110,standing,,n", "no_age", ""),
        ("M,,60,18.5,110,upright,,n", "measured_unknown", "weight"),
        ("M,,60,18.5,110,standing,,maybe", "oedema_unknown", "height"),
        ("M,,60,18.5,1.10,standing,,n", "length_height_in_metres", "weight"),
        ("M,,60,18.5,43.3,standing,,n", "length_height_in_inches", "weight"),
        ("M,,60,110,18.5,standing,,n", "weight_and_height_swapped", ""),
        ("M,0,,20,50,lying,,n", "weight_impossible", "height"),
        ("M,,NA,NA,,,,", "no_age", ""),
    ],
)
def test_a_bad_cell_is_flagged_on_its_row_and_not_computed(table, tmp_path, line, flags, computed) -> None:
    score_file(table(GOOD, line, GOOD), tmp_path / "out.csv", today=TODAY)
    before, row, after = written(tmp_path / "out.csv")
    assert row["flags"] == flags
    z = {name: row[column] for name, column in (("weight", "weight_for_age_z"), ("height", "height_for_age_z"))}
    assert {name for name, value in z.items() if value} == set(computed.split())
    assert row["bmi_for_age_z"] == ""
    assert before == after and before["flags"] == "" and before["bmi_for_age_z"]


@pytest.mark.parametrize(
    ("birth", "measured", "flags"),
    [
        ("2021-11-24", "2026-11-24", ""),
        ("2021-11-24", "2026-11-25", "future_date"),
        ("2027-01-01", "2026-11-24", "future_date;measured_before_birth"),
        ("2026-11-24", "2021-11-24", "measured_before_birth"),
        ("24.11.2021", "2026-11-24", "not_a_date"),
        ("2021-02-30", "2026-11-24", "not_a_date"),
        ("11/24/2021", "2026-11-24", "not_a_date"),
        ("", "2026-11-24", "no_age"),
    ],
)
def test_dates(birth: str, measured: str, flags: str) -> None:
    row = {"sex": "F", "birth_date": birth, "measured_on": measured, "weight_kg": "18", "length_height_cm": "109"}
    (scored,) = score_rows([row], today=TODAY)
    assert ";".join(issue.code for issue in scored.issues) == flags
    assert isinstance(scored.values[Indicator.HEIGHT], GrowthZ) == (flags == "")


def test_dates_that_contradict_the_age_are_flagged() -> None:
    row = {"sex": "F", "birth_date": "2026-01-01", "measured_on": "2026-02-01", "age_days": "62", "weight_kg": "4"}
    (scored,) = score_rows([row], today=TODAY)
    assert [issue.code for issue in scored.issues] == ["ages_disagree"]


@pytest.mark.parametrize(
    ("text", "basis", "code"),
    [
        ("30", AgeBasis.CORRECTED, "corrected_age"),
        ("30+4", AgeBasis.CORRECTED, "corrected_age"),
        ("39", AgeBasis.CHRONOLOGICAL, None),
        ("30.4", AgeBasis.CHRONOLOGICAL, "gestational_age_unclear"),  # 30 weeks and 4 days, or 30.4 weeks?
        ("30+7", AgeBasis.CHRONOLOGICAL, "gestational_age_unclear"),
        ("210", AgeBasis.CHRONOLOGICAL, "gestational_age_unclear"),
    ],
)
def test_gestational_age(text: str, basis: AgeBasis, code: str | None) -> None:
    row = {"sex": "F", "age_days": "200", "weight_kg": "6", "gestational_age_weeks": text}
    (scored,) = score_rows([row], today=TODAY)
    assert scored.age_basis is basis
    assert [issue.code for issue in scored.issues] == ([code] if code else [])
    if text == "30+4":
        assert scored.age_months == pytest.approx((200 - 66) / 30.4375)


@pytest.mark.parametrize("delimiter", [";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252"])
def test_other_delimiters_and_encodings(table, tmp_path, delimiter: str, encoding: str) -> None:
    lines = (f"Zoë,{GOOD}".replace(",", delimiter), f"Max{delimiter}M{delimiter * 2}60{delimiter}18,5{delimiter * 4}")
    source = table(*lines, header=f"name,{HEADER}".replace(",", delimiter), encoding=encoding)
    score_file(source, tmp_path / "out.csv", today=TODAY)
    good, comma = written(tmp_path / "out.csv", delimiter)
    assert (good["name"], good["weight_for_age_z"], good["flags"]) == ("Zoë", "0.07", "")
    assert (comma["weight_for_age_z"], comma["flags"]) == ("", "decimal_comma")


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "column_missing"),
        ("age_days,weight_kg", "column_missing"),
        ("sex,weight_kg", "column_missing"),
        ("sex,birth_date,weight_kg", "column_missing"),
        ("sex,age_days", "column_missing"),
        ("sex,sex,age_days,weight_kg", "column_twice"),
        ("sex,age_days,weight_kg,flags", "column_taken"),
        ("sex,age_days,weight_kg,weight_for_age_z", "column_taken"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(table, tmp_path, header: str, code: str) -> None:
    with pytest.raises(FileRefused) as refused:
        score_file(table("M,,", header=header), tmp_path / "out.csv", today=TODAY)
    assert refused.value.code == code
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"sex,age_days,weight_kg\nM,3,\0\n", "not_text"),
        ("sex,age_days,weight_kg\n".encode("utf-16"), "not_text"),
        (b'sex,age_days,weight_kg\nM,3,"4\n', "not_a_table"),
    ],
)
def test_content_that_is_no_table_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "in.csv").write_bytes(content)
    with pytest.raises(FileRefused) as refused:
        read_table(tmp_path / "in.csv", today=TODAY)
    assert refused.value.code == code


def test_the_command(table, tmp_path, capsys) -> None:
    source, out = table(GOOD, "M,,60,18.5,1.10,standing,,n"), tmp_path / "out.csv"
    assert cli.main(["growth", str(source), str(out), "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert (result["rows"], result["z_scores"], result["flagged_rows"]) == (2, 4, 1)
    assert result["issues"][0] | {"message": ""} == {
        "line": 3,
        "column": "length_height_cm",
        "code": "length_height_in_metres",
        "message": "",
    }
    assert captured.err.startswith("line 3: length_height_cm 1.1 looks like metres (110 cm)")
    assert cli.main(["growth", str(source), str(out)]) == 0
    assert capsys.readouterr().out == f"2 rows, 4 z-scores, 1 flagged: {out}\n"


def test_the_command_refuses(table, tmp_path, capsys) -> None:
    source = table("x", header="name")
    assert cli.main(["growth", str(source), str(tmp_path / "out.csv"), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "column_missing"
    assert cli.main(["growth", str(source), str(source)]) == 1
    assert "name another one" in capsys.readouterr().err
    for target in (tmp_path / "no" / "out.csv", tmp_path):
        assert cli.main(["growth", str(table(GOOD)), str(target)]) == 1
        assert "cannot be written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.csv"]
    with pytest.raises(SystemExit):
        cli.main(["growth", "no-such-file.csv", "out.csv"])


def test_any_text_is_read_or_flagged(table, tmp_path) -> None:
    """Random cells: no row stops the file, and a row without flags is one whose every cell was understood."""
    rng = random.Random(11)
    cells = {
        "sex": ["M", "F", "m", "Female", "x", "", "1", "M F"],
        "age_days": ["", "", "3", "700", "1826.5", "-1", "7,5", "abc", "99999"],
        "age_months": ["", "", "60", "60.5", "1e3", "228", "300", "60 m"],
        "weight_kg": ["", "3.4", "18.5", "18,5", "0", "20", "3400", "١٢", "∞", "nan"],
        "length_height_cm": ["", "50", "110", "1.1", "43.3", "0.0", "1100", "=1+1", "50\u00a0cm"],
        "measured": ["", "lying", "H", "sitting"],
        "head_circumference_cm": ["", "34", "0,34", "13.5", "500"],
        "oedema": ["", "y", "N", "?"],
    }
    understood = {"sex": "mf", "measured": "lh", "oedema": "yn"}
    lines = [";".join(rng.choice(values) for values in cells.values()) for _ in range(2000)]
    score_file(table(*lines, header=";".join(cells)), tmp_path / "out.csv", today=TODAY)
    rows = written(tmp_path / "out.csv", ";")
    blank = sum(not line.replace(";", "") for line in lines)
    assert len(rows) == 2000 - blank
    for row in rows:
        if any(row[column] for column in OUT_COLUMNS):
            assert row["sex"].lower() in ("m", "f", "female") and (row["age_days"] or row["age_months"])
        if not row["flags"]:
            for column, first in understood.items():
                assert not row[column] or row[column][0].lower() in first
            for column in ("age_days", "age_months", "weight_kg", "length_height_cm", "head_circumference_cm"):
                assert not row[column] or float(row[column]) > 0
