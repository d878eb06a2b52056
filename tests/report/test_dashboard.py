"""The dashboard's data and page, without a browser: what is in it, what can't be, and the same bytes every time."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from factory import make_case, make_environment, make_latency, make_record, make_run
from hostile import EVIL, make_hostile_run

import opbench
from opbench import documents
from opbench.analyse.claims.nouns import Answer
from opbench.analyse.history.store import read
from opbench.analyse.standings import standings
from opbench.quantities import PEAK
from opbench.report import tables
from opbench.report.dashboard import page, payload
from opbench.report.dashboard.columns import Columns, Strings, number
from opbench.report.dashboard.places import labels, newest
from opbench.report.dashboard.site import write_site
from opbench.schema import OpbenchError

CLAIMS = (Answer("it is free", "a write-up", "refuted", "74,148 parameters", "nearest[torch]"),)
SECRET = "\u2028</script><!--<script>&amp;\u2029"


def store(folder, *runs):
    for index, run in enumerate(runs):
        documents.save(run, folder / f"{index}.json")
    return read(folder)


def data_of(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)[1])


def column(built, name, strings):
    return [strings[place] for place in built["texts"][name]] if name in built["texts"] else built["others"][name]


def test_embedded_text_can_end_no_element_and_reads_back_unchanged():
    text = page.embedded({"x": SECRET})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"x": SECRET}


def test_no_number_is_refused_by_json():
    assert [number(value) for value in (float("nan"), float("inf"), None, 0, 1.23456789, 2**60)] == [
        None, None, None, 0, 1.2346, 2.0**60,
    ]  # fmt: skip


def test_a_text_is_in_the_page_once_visible_and_cut():
    strings = Strings()
    assert strings.add("a") == strings.add("a") == strings.name("a")
    inert, cut = strings.add("\x1b[31mred"), strings.name("x" * 10_000)
    assert strings.all[inert] == "\\x1b[31mred"
    assert len(strings.all[cut]) < 200
    assert strings.add("") == 0


def test_columns_tell_texts_from_numbers():
    strings, columns = Strings(), Columns()
    columns.append(name=strings.add("a"), size=1)
    columns.append(name=strings.add("b"), size=None)
    assert columns.built() == {"length": 2, "texts": {"name": [1, 2]}, "others": {"size": [1, None]}}


def test_the_policy_names_the_one_style_and_the_scripts_and_forbids_all_requests(tmp_path):
    html = write_site_of(tmp_path, make_run([make_record(make_case())]))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for element in ("style", "script", 'script type="module"'):
        inside = re.search(rf"<{element}>(.*?)</{element.split()[0]}>", html, re.DOTALL)[1]
        told = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"'sha256-{told}'" in policy


def write_site_of(tmp_path, *runs):
    store(tmp_path / "results", *runs)
    path, _ = write_site(tmp_path / "results", tmp_path / "site")
    return path.read_text(encoding="utf-8")


def test_the_modules_make_one_script_that_imports_nothing():
    script = page.bundle()
    assert not re.search(r"^\s*(import|export)\b", script, re.MULTILINE)
    for name in page.MODULES:
        source = page.asset(f"{name}.js")
        imported = re.findall(r'^import \{([^}]*)\} from "\./(\w+)\.js";$', source, re.MULTILINE)
        assert len(imported) == len(re.findall(r"^import\b", source, re.MULTILINE))
        for names, module in imported:
            assert page.MODULES.index(module) < page.MODULES.index(name), f"{name} before {module}"
            assert " as " not in names  # one scope has no second name for a thing
            for one in names.replace("\n", " ").split(","):
                assert re.search(rf"^export (function|const) {one.strip()}\b", page.asset(f"{module}.js"), re.MULTILINE)


def test_no_name_is_declared_in_two_modules():
    """They share one scope: a browser refuses the whole script otherwise."""
    names = re.findall(r"^(?:async )?(?:function|const|let|class) (\w+)", page.bundle(), re.MULTILINE)
    assert sorted(set(names)) == sorted(names)


def test_no_module_can_turn_text_into_markup_or_ask_for_anything():
    markup = r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function"
    forbidden = rf"{markup}|fetch\(|XMLHttp|https?:(?!//www\.w3\.org/)"
    assert not re.findall(forbidden, page.bundle())
    assert "url(" not in page.asset("style.css")


def test_every_asset_is_in_the_package():
    root = Path(opbench.__file__).parent.parent
    globs = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["opbench"]
    packed = {path for pattern in globs for path in (root / "opbench").glob(pattern)}
    assets = set((root / "opbench/report/dashboard/assets").iterdir())
    assert assets <= packed
    assert {path.name for path in assets} == {f"{name}.js" for name in page.MODULES} | {
        "opening.js", "index.html", "style.css",
    }  # fmt: skip


ANSWER = re.compile(r'<section id="answer".*?</section>', re.DOTALL)


def test_a_hostile_document_is_text_in_the_data_and_in_the_answer_and_nowhere_else(tmp_path):
    html = write_site_of(tmp_path, make_hostile_run())
    clean = write_site_of(tmp_path / "clean", make_run([make_record(make_case())]))
    without = [
        ANSWER.sub("", re.sub(r"(id=\"data\">).*?(</script>)", r"\1\2", text, flags=re.DOTALL))
        for text in (html, clean)
    ]
    assert without[0] == without[1]
    for text in (html, clean):
        assert set(re.findall(r"<(\w+)", ANSWER.search(text)[0])) == {"section", "p", "ul", "li"}
    assert tables.ERROR_UNIT not in EVIL
    assert any("<script>alert(1)</script>" in text for text in data_of(html)["strings"])


def test_the_texts_of_a_row_are_those_of_the_report(tmp_path):
    run = make_run()
    data = payload.payload(store(tmp_path, run))
    strings, rows = data["strings"], data["rows"]
    expected = [row for one in standings(run) for row in one.ranked()]
    assert column(rows, "contender", strings) == [row.case.contender for row in expected]
    assert column(rows, "ratioText", strings) == [tables.latency_ratio(row, "cpu-wall") for row in expected]
    assert column(rows, "peakText", strings) == [tables.cell(PEAK, row) for row in expected]
    assert column(rows, "errorText", strings) == [tables.error([row]) for row in expected]


def test_raw_samples_stay_out_of_the_page(tmp_path):
    runs = [make_run([make_record(make_case(), rounds=rounds)]) for rounds in (20, 2000)]
    few, many = (len(page.embedded(payload.payload(store(tmp_path / str(i), run)))) for i, run in enumerate(runs))
    assert abs(many - few) < 100


def test_a_panel_measured_again_is_the_newest_of_its_own_machine():
    case, other = make_case(), make_case(dims={"N": 2, "C": 256, "H": 20, "W": 20})
    assert newest([("a", case), ("b", case), ("a", other), ("a", case)]) == {1, 2, 3}


def test_setups_that_read_alike_are_told_apart():
    changes = ({}, {"machine": "bench-02"}, {"threads": 1}, {})
    names = labels(make_environment(**change) for change in changes)
    assert len(names) == len(set(names.values())) == 3
    assert "Example CPU @ 2.10GHz (1 thread)" in names.values()


def test_only_as_many_rows_as_a_page_can_hold_and_it_says_so(tmp_path, monkeypatch):
    runs = [make_run([make_record(make_case())], started=f"2025-01-0{day}T00:00:00+00:00") for day in (1, 2, 3, 4)]
    monkeypatch.setattr(payload, "MOST_ROWS", 2)
    data = payload.payload(store(tmp_path, *runs))
    assert len(data["runs"]) == 2
    assert len(data["trends"]["moments"]) == 4
    assert [data["strings"][text] for _, text in data["problems"]] == [
        "its rows are not on this page, nor those of 1 older run: it holds the newest 2; all of them are in trends"
    ]


def test_a_folder_without_a_run_is_refused_with_what_lies_in_it(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(OpbenchError, match=r"empty: holds no run document \(expected a run\.json"):
        write_site(tmp_path / "empty", tmp_path / "site")
    (tmp_path / "empty" / "x.json").write_text("{}")
    with pytest.raises(OpbenchError, match=r"x\.json: .*schema_version"):
        write_site(tmp_path / "empty", tmp_path / "site")
    with pytest.raises(OpbenchError, match="no such folder"):
        write_site(tmp_path / "nowhere", tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_claims_are_judged_by_the_newest_run_of_each_suite_and_machine(tmp_path):
    runs = [make_run(started=f"2025-01-0{day}T00:00:00+00:00") for day in (1, 2)]
    other = make_run(started="2025-01-01T00:00:00+00:00", environment=make_environment(threads=1))
    store(tmp_path / "results", *runs, other)
    judged = []
    path, _ = write_site(tmp_path / "results", tmp_path / "site", lambda found: judged.extend(found) or CLAIMS)
    assert {(run.started[:10], run.environment.threads) for run in judged} == {("2025-01-02", 2), ("2025-01-01", 1)}
    data = data_of(path.read_text(encoding="utf-8"))
    assert [data["strings"][data["claims"][0][name]] for name in ("claim", "verdict")] == ["it is free", "refuted"]


def test_the_same_folder_gives_the_same_bytes(tmp_path):
    store(tmp_path / "results", make_run(), make_run(command="opbench run --suite smoke --seed 1"))
    for seed in ("1", "2"):
        script = "import sys; from opbench.report.dashboard.site import write_site; write_site(*sys.argv[1:])"
        command = [sys.executable, "-c", script, tmp_path / "results", tmp_path / seed]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
    assert (tmp_path / "1/index.html").read_bytes() == (tmp_path / "2/index.html").read_bytes()


def test_the_command_writes_the_page_and_says_what_is_not_on_it(tmp_path):
    store(tmp_path / "results", make_run([make_record(make_case())]))
    (tmp_path / "results" / "cut.json").write_text('{"schema_version": 1,')
    done = subprocess.run(
        [sys.executable, "-m", "opbench", "dashboard", "results", "-o", "site"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cut.json: not shown: the JSON ends too early" in done.stdout
    assert done.stdout.splitlines()[-1] == "dashboard: site/index.html"
    empty = subprocess.run(
        [sys.executable, "-m", "opbench", "dashboard", "site", "-o", "other"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert empty.returncode == 2
    assert "holds no run document" in empty.stderr


def test_a_baselines_ratio_to_itself_is_no_trend(tmp_path):
    runs = [
        make_run(
            [make_record(make_case()), make_record(make_case("carafe[cpu]"), ratio=2.0)],
            started=f"2025-01-0{day}T00:00:00+00:00",
        )
        for day in (1, 2)
    ]
    found = payload.payload(store(tmp_path, *runs))
    text = found["strings"]
    kept = {(text[one["contender"]], text[one["quantity"]]) for one in found["trends"]["series"]}
    assert kept == {("carafe[cpu]", "ratio"), ("carafe[cpu]", "seconds"), ("nearest[torch]", "seconds")}


def test_the_page_says_the_quality_of_a_run(tmp_path):
    watched = make_latency(rounds=10, waited=((0,) * 10,), left_out=((0,),), phase="clear")
    run = make_run([make_record(latencies=(watched,))])
    data = payload.payload(store(tmp_path, run))
    tables = data["runs"][0]["tables"]
    assert any("Quality: 10% of 10 samples left out" in text for text in data["strings"])
    assert tables
