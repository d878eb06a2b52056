"""`opbench compare` and `opbench selfcheck` as a script meets them: exit codes, files, errors of one line."""

import json
import math

import msgspec
import pytest
from factory import (
    make_case,
    make_environment,
    make_failure,
    make_incorrect,
    make_latency,
    make_memory,
    make_record,
    make_run,
    make_selfcheck,
    make_verdict,
)
from typer.testing import CliRunner

from opbench.analyse.compare.runs import ASSUMED
from opbench.cli import app
from opbench.commands.compare import CompareRequest, judge
from opbench.documents import save


def opbench(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def documents(tmp_path):
    """Writes documents of one panel: `documents(name, ratio)` -> its path."""

    def write(name, ratio=3.0, environment=None, **changes):
        def timed(case, ratio):
            latency = make_latency(ratio=ratio, seed=f"{name}/{case.id}", processes=4, rounds=40)
            return make_record(case, latencies=(latency,), **changes)

        run = make_run(
            [timed(make_case(), 1.0), timed(make_case("carafe[cpu]"), ratio)],
            environment=environment or make_environment(),
        )
        save(run, tmp_path / f"{name}.json")
        return tmp_path / f"{name}.json"

    return write


def test_the_same_code_passes(documents):
    done = opbench("compare", documents("base"), documents("head"))
    assert done.exit_code == 0
    assert "no regression: 1 same; 2 of 2 cases exactly as before" in done.stdout


def test_a_document_passes_against_itself(documents):
    base = documents("base")
    assert opbench("compare", base, base).exit_code == 0


def test_ten_percent_slower_fails(documents):
    done = opbench("compare", documents("base"), documents("head", 3.3))
    assert done.exit_code == 1
    assert "REGRESSED: 1 regressed" in done.stdout


def test_two_documents_confirm_nothing_and_print_the_command_that_would(documents):
    done = opbench("compare", documents("base"), documents("head", 3.3))
    said = " ".join(done.stdout.split())
    assert "The changed row is not confirmed" in said
    again = "opbench compare --paired 0123abcd --task upsample2x --operator carafe --mode inference --threads 2"
    assert again in said
    quiet = opbench("compare", documents("base"), documents("head"))
    assert "--paired" not in quiet.stdout


def test_bisecting_needs_the_good_revision(documents):
    done = opbench("compare", "--bisect", "HEAD")
    assert done.exit_code == 2
    assert "which revision was good" in done.stderr


def test_one_byte_more_fails_on_another_machine_too(documents):
    head = documents("head", 30.0, make_environment(cpu="Another CPU"), memory=make_memory(peak_bytes=(1 << 20) + 1))
    done = opbench("compare", documents("base"), head)
    assert done.exit_code == 1
    assert "left out: time" in done.stdout
    assert opbench("compare", documents("base"), head, "--allow", "peak").exit_code == 0


def test_slower_on_another_machine_alone_does_not_fail(documents):
    head = documents("head", 30.0, make_environment(cpu="Another CPU"))
    assert opbench("compare", documents("base"), head).exit_code == 0
    assert opbench("compare", documents("base"), head, "--across", "machine").exit_code == 1


def test_the_table_for_the_pull_request_and_the_json(documents, tmp_path):
    file = tmp_path / "pr.md"
    done = opbench("compare", documents("base"), documents("head", 3.3), "--markdown", file, "--json")
    assert done.exit_code == 1
    assert file.read_text().startswith("### opbench: REGRESSED")
    (changed,) = [row for row in json.loads(done.stdout)["rows"] if row["times"]]
    assert changed["times"][0]["decision"] == "regressed"


def test_json_has_the_worst_error_over_its_bound_in_base_and_head(tmp_path):
    case, failed, odd = make_case(), make_case("carafe[cpu]"), make_case("bilinear[torch]", workload="other")
    sides = {
        "base": [
            make_record(case, verdict=make_verdict(worst_ratio=0.2), final_verdict=make_verdict(worst_ratio=0.4)),
            make_record(failed, verdict=make_verdict(worst_ratio=0.3), final_verdict=None),
            make_incorrect(odd, worst_ratio=math.inf),
        ],
        "head": [
            make_record(case, verdict=make_verdict(worst_ratio=0.6), final_verdict=make_verdict(worst_ratio=0.5)),
            make_failure(failed),
            make_incorrect(msgspec.structs.replace(odd, dims={"N": 2}), worst_ratio=13.2),
        ],
    }
    for name, records in sides.items():
        save(make_run(records), tmp_path / f"{name}.json")
    done = opbench("compare", tmp_path / "base.json", tmp_path / "head.json", "--json")
    ratios = {row["case"]["operator"]: row["worst_ratio"] for row in json.loads(done.stdout)["rows"]}
    assert ratios["nearest"] == {"base": 0.4, "head": 0.6}
    assert ratios["carafe"] == {"base": 0.3, "head": None}
    assert ratios["bilinear"] == {"base": "Infinity", "head": 13.2}


def test_a_margin_that_shrinks_within_the_bound_is_no_change(documents):
    head = documents("head", verdict=make_verdict(worst_ratio=0.99))
    assert opbench("compare", documents("base"), head).exit_code == 0


def test_a_larger_minimum_effect(documents):
    assert opbench("compare", documents("base"), documents("head", 3.3), "--minimum-effect", "20%").exit_code == 0


@pytest.mark.parametrize(("threads", "lent"), [(2, True), (1, False)])
def test_a_selfcheck_lends_its_spread_to_runs_of_as_many_threads(tmp_path, threads, lent):
    save(make_selfcheck(environment=make_environment(threads=threads)), tmp_path / "selfcheck.json")
    run = make_run(
        make_record(case, latencies=(make_latency(ratio=ratio, processes=1),))
        for case, ratio in ((make_case(), 1.0), (make_case("carafe[cpu]"), 3.0))
    )
    found = judge(run, run, CompareRequest(selfcheck=tmp_path / "selfcheck.json"))
    assert found.allowance is not None
    assert (found.allowance != ASSUMED) == lent
    assert "0 false alarms" in found.selfcheck


def test_a_selfcheck_is_quoted_where_it_was_given_and_never_unasked(documents, tmp_path):
    base, head, file = documents("base"), documents("head"), tmp_path / "selfcheck.json"
    save(make_selfcheck(), file)
    assert "No selfcheck was given" in " ".join(opbench("compare", base, head).stdout.split())
    said = opbench("compare", base, head, "--selfcheck", file).stdout
    assert "0 false alarms in 10 comparisons" in " ".join(said.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.json", "none.json"], "no such file"),
        ([], "expected two documents"),
        (["{base}"], "expected two documents"),
        (["{base}", "{other}"], "no case in common"),
        (["{base}", "{base}", "--across", "wether"], "unknown difference 'wether'"),
        (["{base}", "{base}", "--allow", "peaks"], "did you mean 'peak'"),
        (
            ["{base}", "{base}", "--selfcheck", "{base}"],
            "this is a run document (`opbench run -o DIR` writes one); expected a selfcheck",
        ),
        (["{base}", "{base}", "--paired", "HEAD"], "leave BASE.json and HEAD.json out"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_its_reason(documents, tmp_path, arguments, message):
    base, other = documents("base"), tmp_path / "other.json"
    save(make_run([make_record(make_case(workload="other"))]), other)
    done = opbench("compare", *(a.format(base=base, other=other) for a in arguments))
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_selfcheck_leaves_a_document_a_table_and_a_chart(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "opbench.engine.selfcheck.selfcheck",
        lambda extent, command, progress: asked.append((extent, command)) or make_selfcheck(),
    )
    done = opbench("selfcheck", "-o", tmp_path, "--identical", 6, "--precision", "3%", "--rivals")
    assert done.exit_code == 0, done.exception
    assert {"selfcheck.json", "selfcheck.md", "selfcheck.svg"} <= {path.name for path in tmp_path.iterdir()}
    assert done.stdout.strip().splitlines()[-1] == f"report: {tmp_path / 'selfcheck.md'}"
    ((extent, command),) = asked
    assert (extent.identical, extent.precision, extent.external_tools, extent.threads) == (6, 0.03, True, 1)
    assert "--identical 6" in command
    assert "--rivals" in command
