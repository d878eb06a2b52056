"""What every report says first: sentences from a run, in English and in Chinese; true, and the same everywhere."""

import json
import re
import string
import tomllib
from importlib import resources

import pytest
from factory import make_case, make_counts, make_failure, make_incorrect, make_latency, make_record, make_run
from hostile import make_hostile_run
from typer.testing import CliRunner

from opbench import documents
from opbench.analyse.standings import standings
from opbench.cli import app
from opbench.report import markdown, readme, terminal
from opbench.report.answer import answer
from opbench.report.answer.words import LANGUAGES, language
from opbench.schema import Panel
from opbench.statistics.ratios import Ratio

IMAGE = {"N": 1, "H": 640, "W": 640, "width": 25, "depth": 33}


def said_of(run, lang="en", **options):
    return answer(standings(run), lang, **options)


def all_of(run, lang="en", **options):
    return "\n".join(said_of(run, lang, **options))


def exactly(case, seconds, ratio=1.0, **changes):
    """A record whose samples vary by nothing but the machine's drift, so that its ratio is what is given."""
    return make_record(case, latencies=(make_latency(seconds, ratio, noise=0.0, drift=0.0),), **changes)


def detector(contender, **changes):
    shared = {"task": "yolov8_model", "workload": "yolov8n-640", "dims": IMAGE, "spread": 2.0}
    return make_case(contender, **{**shared, **changes})


def network_run(**ratios):
    """YOLOv8n with CARAFE in it: 100 ms as it is, and so many times as long."""
    cases = [detector("yolov8[torch]")] + [detector(f"yolov8-carafe[{name}]") for name in ratios]
    params = [3_157_200] + [3_297_632] * len(ratios)
    records = [
        exactly(case, 0.1, ratio, counts=make_counts(params=count))
        for case, ratio, count in zip(cases, [1.0, *ratios.values()], params, strict=True)
    ]
    panel = Panel(cases[0].panel_id, "a test", "yolov8[torch]", tuple(cases))
    return make_run(records, panels=(panel,))


def slot(contender, **changes):
    return make_case(contender, **{"workload": "p5-p4", **changes})


def slot_run(ratio, *more, seconds=1e-3):
    return make_run([exactly(slot("nearest[torch]"), seconds), exactly(slot("carafe[cpu]"), seconds, ratio), *more])


# --- networks, then operators ------------------------------------------------------------------------------------


def test_a_network_comes_first_with_its_cost_in_percent_milliseconds_and_parameters():
    run = network_run(cpu=1.25)
    both = make_run([*slot_run(1.25).records, *run.records], panels=(*slot_run(1.25).panels, *run.panels))
    first, second, *_ = said_of(both)
    assert first == (
        "In YOLOv8n at 640 here, CARAFE[cpu] in its upsamplers costs 25.0 % [25.0, 25.0] more time (125 ms instead of "
        "100 ms), with 4.4 % more parameters."
    )
    assert (
        second
        == "In place of nearest, CARAFE[cpu] costs 25.0 % [25.0, 25.0] more time (1.25 ms instead of 1.00 ms) at p5-p4."
    )


def test_an_implementation_that_takes_much_longer_is_named_after_the_fastest():
    first, *_ = said_of(network_run(cpu=1.25, unfold=7.0))
    assert "costs 25.0 % [25.0, 25.0] more time" in first
    assert first.endswith("; its implementation unfold takes 7.00 times as long [7.00, 7.00].")
    assert "implementation" not in said_of(network_run(cpu=1.25, unfold=1.3))[0]


def test_the_same_in_chinese():
    first, *_ = said_of(network_run(cpu=1.25), "zh")
    assert first == (
        "在这台机器上的 YOLOv8n（640）中，上采样换成 CARAFE[cpu]，"
        "耗时多 25.0 % [25.0, 25.0]（125 ms，原为 100 ms），参数量多 4.4 %。"
    )


def test_of_several_sizes_the_first_is_told_and_the_range_of_the_others():
    sizes = (20, 40, 80, 160)
    records = [
        exactly(slot(name, workload=f"neck-{size}", dims={"N": 1, "C": 8, "H": size, "W": size}), 1e-3, ratio * size)
        for size in sizes
        for name, ratio in (("nearest[torch]", 1 / size), ("carafe[cpu]", 0.1))
    ]
    first, *_ = said_of(make_run(records))
    assert first.startswith("In place of nearest, CARAFE[cpu] takes 2.00 times as long [2.00, 2.00] (2.00 ms")
    assert "at neck-40" in first
    assert "neck-80" not in first
    assert first.endswith("; in its 2 other panels, 8.00x to 16.0x the time.")


def test_other_memory_formats_and_runtimes_are_no_first_answer():
    run = slot_run(2.0, exactly(slot("carafe[cpu]", memory_format="channels_last"), 1e-3, 9.0))
    assert "9.00" not in all_of(run)
    away = slot_run(2.0, exactly(slot("carafe[cpu]", runtime="onnxruntime"), 1e-3, 9.0))
    assert "9.00" not in all_of(away)


def test_the_first_answer_says_eager_and_deployed_cost_in_one_sentence():
    away = {"runtime": "onnxruntime"}
    records = [
        *slot_run(1.25).records,
        exactly(slot("nearest[torch]", **away), 2e-3),
        exactly(slot("carafe[slices]", **away), 2e-3, 1.5),
        exactly(slot("nearest[torch]", runtime="openvino"), 2e-3),
    ]
    first, *_ = said_of(make_run(records))
    assert first == (
        "In place of nearest, CARAFE[cpu] costs 25.0 % [25.0, 25.0] more time (1.25 ms instead of 1.00 ms) at p5-p4; "
        "where it is deployed, as slices it costs 50.0 % [50.0, 50.0] more time in ONNX Runtime."
    )


def test_what_is_no_choice_for_a_network_is_left_to_the_tables():
    """A rival without a place of its own, and the core of an operator beside its module."""
    run = slot_run(
        2.0, exactly(slot("bicubic[torch]"), 1e-3, 3.0), exactly(slot("carafe[cpu]", task="carafe_core"), 1.0)
    )
    assert "bicubic" not in all_of(run)
    assert len([one for one in said_of(run) if "CARAFE" in one]) == 1


# --- how a ratio is said -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "value", "high", "said"),
    [
        (1.001, 1.03, 1.07, "costs 3 % [0, 7] more time"),
        (1.002, 1.004, 1.006, "costs 0.4 % [0.2, 0.6] more time"),
        (0.41, 0.43, 0.45, "takes 57 % [55, 59] less time"),
        (6.56, 7.07, 7.38, "takes 7.07 times as long [6.56, 7.38]"),
        (1.2, 1.9, 40.0, "takes 1.90 times as long [1.20, 40.0]"),
        (1 / 795, 1 / 787, 1 / 780, "is 787 times as fast [780, 795]"),
        (0.99, 1.03, 1.07, "is undecided, +3 % [-1, +7] time"),
        (1.0, 1.03, 1.07, "is undecided, +3 % [+0, +7] time"),
        (0.999, 1.0, 1.001, "is undecided, +0.0 % [-0.1, +0.1] time"),
        (0.5, 2.0, float("inf"), "takes 2.00 times as long [0.500, ∞]"),
    ],
)
def test_a_ratio_in_words(low, value, high, said):
    assert language("en").ratio(Ratio(value, low, high, 60, 3, "process-medians")) == said


def test_too_few_rounds_give_no_interval():
    said = language("en").ratio(Ratio(1.5, 1.5, 1.5, 1, 1, "one-round"))
    assert said == "takes 1.50 times as long (too few rounds for an interval: 1)"


# --- the baseline in torch's default memory format ----------------------------------------------------------------


def test_a_slow_baseline_is_explained_by_its_figure_channels_last():
    last = {"memory_format": "channels_last", "workload": "p5-p4-last"}
    run = slot_run(
        0.43,
        exactly(slot("nearest[torch]", **last), 98e-6),
        exactly(slot("carafe[cpu]", **last), 98e-6, 6.0),
        seconds=2.66e-3,
    )
    text = all_of(run)
    assert "at 256x20x20 it takes 27 times as long as channels last (2.66 ms against 98.0 µs)" in text
    assert "channels last, CARAFE[cpu] takes 6.00 times as long [6.00, 6.00] (588 µs instead of 98.0 µs)." in text
    assert "may owe that" not in text
    assert "owes that to torch" not in all_of(
        slot_run(0.43, exactly(slot("nearest[torch]", **last), 2e-3), seconds=2.1e-3)
    ), "as fast in either format"


def test_without_that_figure_a_reader_is_told_where_to_get_it():
    assert "may owe that to torch (opbench run --memory-format channels_last measures" in all_of(slot_run(0.43))
    on_gpu = [exactly(slot(name, device="cuda"), 1e-3) for name in ("nearest[torch]", "carafe[triton]")]
    assert "owe that to torch" not in all_of(make_run(on_gpu))


# --- what has no figure -------------------------------------------------------------------------------------------


def test_cases_without_a_figure_are_counted_by_outcome_and_named():
    run = slot_run(2.0, make_incorrect(slot("carafe[triton]")), make_failure(slot("deconv[torch]"), "disturbed"))
    assert "2 of 4 cases without a figure: 1 disturbed (deconv[torch]), 1 incorrect (carafe[triton])." in said_of(run)


def test_an_operator_without_a_figure_says_so():
    run = make_run([exactly(slot("nearest[torch]"), 1e-3), make_incorrect(slot("carafe[cpu]"))])
    assert "In place of nearest, CARAFE[cpu] has no figure (incorrect) at p5-p4." in said_of(run)


@pytest.mark.parametrize(
    ("records", "what"),
    [
        ([], "CPU, GPU, a whole network, deployment, accuracy"),
        ([make_record(slot("nearest[torch]"))], "GPU, a whole network, deployment, accuracy"),
        ([make_record(slot("nearest[torch]", device="cuda"))], "CPU, a whole network, deployment, accuracy"),
        ([make_incorrect(slot("nearest[torch]", device="cuda"))], "CPU, GPU, a whole network, deployment, accuracy"),
        ([make_record(slot("nearest[torch]", runtime="onnxruntime"))], "GPU, a whole network, accuracy"),
        ([make_record(detector("yolov8[torch]"))], "GPU, deployment, accuracy"),
    ],
)
def test_what_was_not_measured_is_what_no_record_has(records, what):
    assert said_of(make_run(records))[-1] == f"Not measured: {what}."


def test_what_other_documents_hold_is_not_missing():
    run = network_run(cpu=1.5)
    assert said_of(slot_run(2.0), held=standings(run), studied=True)[-1] == "Not measured: GPU, deployment."


def test_a_run_of_baselines_alone_says_so():
    assert said_of(make_run([make_record(slot("nearest[torch]"))]))[0].startswith("No contender beside a baseline")


# --- languages ----------------------------------------------------------------------------------------------------


def fields(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_languages_have_the_same_phrases_with_the_same_fields():
    held = {
        lang: tomllib.loads((resources.files("opbench.report.answer") / f"{lang}.toml").read_text(encoding="utf-8"))
        for lang in LANGUAGES
    }
    for table in ("phrases", "names", "swaps", "networks"):
        keys = {lang: list(held[lang][table]) for lang in LANGUAGES}
        assert all(found == keys["en"] for found in keys.values()), table
        for key, phrase in held["en"][table].items():
            assert all(fields(held[lang][table][key]) == fields(phrase) for lang in LANGUAGES), key


def test_every_operator_that_takes_a_place_has_a_name_in_the_sentences():
    from opbench import registry

    placed = {one.name for one in registry.every_operator() if one.replaces is not None}
    assert placed - set(language("en").names) == set()


def test_no_sentence_begins_with_a_name_of_the_document():
    """In Markdown a name at the start of a line could be a heading or a list."""
    for lang in LANGUAGES:
        for key in ("network", "operator", "format", "weak-format", "failed", "unmeasured"):
            assert not language(lang).phrases[key].startswith(("{network", "{operator", "{baseline", "{names"))


def test_numbers_are_the_same_in_every_language():
    for run in (network_run(cpu=1.25, unfold=7.0), make_run()):
        numbers = [sorted(re.findall(r"\d+(?:\.\d+)?", all_of(run, lang).replace("--", ""))) for lang in LANGUAGES]
        assert all(found == numbers[0] for found in numbers)


# --- where they stand ---------------------------------------------------------------------------------------------


def test_report_terminal_readme_and_page_say_the_same(tmp_path):
    run = network_run(cpu=1.25, unfold=7.0)
    documents.save(run, tmp_path / "results" / "a" / "run.json")
    for lang in LANGUAGES:
        first = said_of(run, lang)[0]
        assert f"\n\n{first}\n\n" in markdown.report(run, lang)["report.md"].decode()
        assert terminal.answered(standings(run), lang)[0] == first
        name = "results/a/run.json?answer#yolov8_model"
        text = readme.insert(f"<!-- opbench:{name} -->\n<!-- /opbench:{name} -->", name, run, lang=lang)
        assert f"\n- {first}\n" in text
        arguments = ["dashboard", str(tmp_path / "results"), "-o", str(tmp_path / lang), "--lang", lang]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        data = re.search(r'id="data">(.*?)</script>', (tmp_path / lang / "index.html").read_text("utf-8"), re.DOTALL)[1]
        page = json.loads(data)
        assert page["lang"] == lang
        (found,) = page["answers"]
        assert page["strings"][found["sentences"][0]] == first


def test_the_command_line_of_a_document_does_not_carry_the_language():
    from opbench.options import command_line
    from opbench.run_request import RunRequest

    assert command_line("run", RunRequest(lang="zh")) == command_line("run", RunRequest())


def test_an_unknown_language_is_refused():
    done = CliRunner().invoke(app, ["report", "run.json", "-o", "x", "--lang", "fr"])
    assert done.exit_code == 2
    assert "fr" in done.output


def test_names_of_a_document_stay_text_and_short():
    for lang in LANGUAGES:
        for sentence in said_of(make_hostile_run(), lang):
            assert "\x1b" not in sentence
            assert "\n" not in sentence
            assert len(sentence) < 2000


def test_of_a_core_alone_its_implementations_are_compared():
    names = ("carafe[unfold]", "carafe[cpu]")
    cases = [make_case(name, task="carafe_core", workload="p5-p4") for name in names]
    records = [exactly(case, 1e-3, ratio) for case, ratio in zip(cases, (1.0, 0.05), strict=True)]
    run = make_run(records, panels=(Panel(cases[0].panel_id, "a test", names[0], tuple(cases)),))
    assert said_of(run)[0] == (
        "In place of [unfold], CARAFE[cpu] is 20.0 times as fast [20.0, 20.0] (50.0 µs instead of 1.00 ms) at p5-p4."
    )


def test_a_first_screen_tells_two_operators_of_a_task_and_one_beside_a_network():
    names = ("nearest[torch]", "carafe[cpu]", "yolo-carafe[cpu]", "dysample[cpu]", "eucb[torch]")
    slots = make_run([exactly(slot(name), 1e-3, 1.5) for name in names])
    told = [one for one in said_of(slots) if one.startswith("In place of")]
    assert [re.search(r", (\w+)", one)[1] for one in told] == ["CARAFE", "YoloCARAFE"]
    assert "2 more operators and networks stand in the tables." in said_of(slots)
    network = network_run(cpu=1.25)
    both = make_run([*slots.records, *network.records], panels=(*slots.panels, *network.panels))
    assert len([one for one in said_of(both) if one.startswith("In place of")]) == 1
    assert "3 more operators and networks stand in the tables." in said_of(both)
