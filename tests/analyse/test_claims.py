"""Claims of papers and write-ups: each verdict follows from a count, a computation or an interval, per baseline."""

import msgspec
import pytest
import torch
from factory import make_case, make_counts, make_failure, make_latency, make_memory, make_record, make_run

from opbench.analyse.claims.answers import MEASURES, computations, evaluate, load
from opbench.analyse.claims.counts import rounds_to
from opbench.analyse.claims.nouns import Claim, Network, everywhere
from opbench.schema import Counted, OpbenchError

TIMED = Claim(
    "fast",
    "a paper",
    "takes less time",
    "latency",
    task="upsample2x",
    subject="carafe",
    against=("nearest",),
    below=1.0,
)
LITTLE = "little computational overhead (parameters and FLOPs of the network)"


@pytest.fixture(scope="module")
def counted():
    """The answers that need no run, by (claim, baseline)."""
    return {(answer.claim, answer.baseline): answer for answer in evaluate()}


def timed(ratio, contender="carafe[cpu]", **latency):
    return make_record(make_case(contender), latencies=(make_latency(ratio=ratio, noise=0.0, drift=0.0, **latency),))


def verdict(claim, *records):
    (answer,) = evaluate([make_run([timed(1.0, "nearest[torch]"), *records])], [claim])
    return answer


# --- the claims as they are -------------------------------------------------------------------------------------


def test_every_claim_names_its_source_and_how_it_is_read():
    for claim in load():
        assert claim.source
        assert claim.reading
        assert len(claim.claim.split()) <= 12, "a few words, no quotation"
        assert claim.measure in MEASURES
        assert claim.measure != "none" or claim.why


def test_every_row_of_carafe_s_table_agrees_with_the_closed_forms(counted):
    rows = {
        answer.baseline: answer for answer in counted.values() if answer.claim.startswith("FLOPs and parameters of")
    }
    assert rows.keys() >= {"nearest", "bilinear", "deconv", "pixel-shuffle", "carafe"}
    assert {answer.verdict for answer in rows.values()} == {"confirmed"}
    assert "199k FLOPs per input pixel printed, 199,496 counted" in rows["carafe"].evidence


def test_a_figure_that_was_not_compared_with_the_print_says_so(counted):
    held = {"199k", "1180k"}  # what the text of the paper repeats outside of its table
    for claim in load():
        quoted = {flops for flops, _ in claim.printed.values()}
        assert quoted <= held or "from memory" in claim.source


@pytest.mark.parametrize(
    ("claim", "baseline", "expected", "numbers"),
    [
        ("lightweight (parameters)", "deconv", "confirmed", "74,148 against 589,824"),
        ("lightweight (parameters)", "nearest-conv3x3", "confirmed", "74,148 against 589,824"),
        ("lightweight (FLOPs)", "deconv", "confirmed", "99,584 against 589,824"),
        (
            LITTLE,
            "YOLOv8n",
            "confirmed",
            "140,104 parameters more, 4.4 % of 3,157,200; 0.331 GFLOPs more, 3.7 % of 8.9",
        ),
        ("lightweight upsampling: fewer parameters", "nearest", "refuted", "74,312 against 0"),
        ("lightweight upsampling: fewer GFLOPs", "nearest", "refuted", "99,584 against 0"),
        ("GFLOPs with CARAFE, as rules for modules count them", "rules for modules", "refuted", "74.3 % at C=256"),
        ("sharing projection weights cuts parameters", "dcnv2", "confirmed", "16,108 against 52,443"),
        ("lightweight YOLOv8 by DCNv3 in C2f: fewer parameters", "conv3x3", "confirmed", "20,460 against 36,864"),
        (
            "lightweight YOLOv8 by DCNv3 in C2f: fewer GFLOPs",
            "depthwise-separable",
            "refuted",
            "22,080 against 4,672",
        ),
        ("large field of view", "bilinear", "confirmed", "25 input pixels, one of bilinear on 4"),
        ("kernels follow the content, a deconvolution's don't", "deconv", "confirmed", "0 % in deconv"),
        ("multi-group: each group its own aggregation", "1 group", "confirmed", "4 of 16 channels with 4 groups"),
        ("softmax over the points keeps it stable: the sum of weights", "sigmoid", "confirmed", "1x the input's"),
    ],
)
def test_what_needs_no_measurement_is_decided_against_each_baseline(counted, claim, baseline, expected, numbers):
    answer = counted[claim, baseline]
    assert answer.verdict == expected
    assert numbers in answer.evidence
    assert not answer.documents


def test_without_a_run_document_time_is_undecided_and_says_so(counted):
    answer = counted["fast to compute", "deconv"]
    assert answer.verdict == "undecided"
    assert "no run document was given" in answer.evidence


def test_dcnv4_is_undecided_where_no_gpu_has_run_it(counted):
    answer = counted["DCNv4: more than three times DCNv3's forward speed", "dcnv3[DCNv3]"]
    assert answer.verdict == "undecided"
    assert "CUDA" in answer.evidence


# --- latency: decided by the interval ---------------------------------------------------------------------------


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, "confirmed"), (2.0, "refuted")])
def test_an_interval_on_one_side_of_the_threshold_decides(ratio, expected):
    answer = verdict(TIMED, timed(ratio))
    assert answer.verdict == expected
    assert f"carafe[cpu] {ratio:.3g}x [{ratio:.3g}, {ratio:.3g}] of nearest[torch]" in answer.evidence
    assert answer.documents == ("suite smoke, 2025-01-02T03:04:05+00:00, Example CPU @ 2.10GHz",)


def test_an_interval_that_straddles_the_threshold_decides_nothing():
    wide = make_record(make_case("carafe[cpu]"), latencies=(make_latency(ratio=1.0, noise=0.5),))
    assert verdict(TIMED, wide).verdict == "undecided"


def test_too_few_rounds_decide_nothing_however_far_the_ratio_lies():
    assert verdict(TIMED, timed(9.0, rounds=3)).verdict == "undecided"


def test_an_operator_is_judged_by_its_fastest_implementation_of_the_panel():
    answer = verdict(TIMED, timed(0.5), timed(3.0, "carafe[unfold]"))
    assert answer.verdict == "confirmed"
    assert "carafe[cpu]" in answer.evidence


def test_a_contender_is_judged_as_it_is_named():
    claim = msgspec.structs.replace(TIMED, subject="carafe[unfold]")
    assert verdict(claim, timed(0.5), timed(3.0, "carafe[unfold]")).verdict == "refuted"


def test_a_contender_that_failed_is_no_evidence():
    answer = verdict(TIMED, make_failure(make_case("carafe[cpu]"), "crashed"))
    assert answer.verdict == "undecided"
    assert "no panel of the given documents has both" in answer.evidence


def test_one_panel_against_it_refutes_a_claim_that_others_confirm():
    elsewhere = {"workload": "other"}
    records = [
        timed(0.5),
        make_record(make_case(**elsewhere)),
        make_record(make_case("carafe[cpu]", **elsewhere), ratio=3),
    ]
    answer = verdict(TIMED, *records)
    assert answer.verdict == "refuted"
    assert "of 2 panels 1 for, 1 against" in answer.evidence


# --- memory and counters ----------------------------------------------------------------------------------------


def test_peak_memory_is_compared_where_it_was_counted_and_not_where_it_was_predicted():
    claim = Claim(
        "m", "s", "r", "memory", task="upsample2x", subject="carafe[cpu]", against=("nearest[torch]",), below=1.0
    )
    case = make_case("carafe[cpu]")
    assert verdict(claim, make_record(case, memory=make_memory(1 << 10))).verdict == "confirmed"
    assert verdict(claim, make_record(case, memory=make_memory(1 << 21))).verdict == "refuted"
    predicted = make_memory(1 << 10, predicted=True)
    assert verdict(claim, make_record(case, memory=predicted)).verdict == "undecided"


@pytest.mark.parametrize(("seen", "expected"), [(990_000, "confirmed"), (540_000, "refuted"), (None, "undecided")])
def test_a_counter_is_held_to_the_closed_form(seen, expected):
    claim = Claim(
        "c", "s", "r", "counter", task="upsample2x", subject="carafe[cpu]", against=("stock torch counter",), above=0.95
    )
    record = make_record(make_case("carafe[cpu]"), counts=make_counts(stock_torch=Counted(seen)))
    assert verdict(claim, record).verdict == expected


# --- shares of a network, and what rules for modules see --------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "gflops", "expected"),
    [
        (10_000_000, 10.0, "confirmed"),
        (100_000, 10.0, "refuted"),  # either share alone refutes
        (10_000_000, 0.1, "refuted"),
    ],
)
def test_overhead_is_little_where_both_shares_of_the_network_are(params, gflops, expected):
    slot = {"C": 256, "H": 20, "W": 20}  # CARAFE: 74,148 parameters and 99,584 MACs per input pixel, 0.0797 GFLOPs
    claim = Claim(
        "c", "s", "r", "overhead", task="upsample2x", subject="carafe", against=("net",), below=0.05,
        networks={"net": Network(params, gflops, (slot,))},
    )  # fmt: skip
    (answer,) = evaluate((), [claim])
    assert answer.verdict == expected
    assert "74,148 parameters more" in answer.evidence
    assert "0.0797 GFLOPs more" in answer.evidence


def test_the_network_s_slots_are_the_workloads_of_the_suite():
    from opbench.suites import load as load_suite

    sizes = {
        (one.dims["C"], one.dims["H"], one.dims["W"])
        for one in load_suite("yolov8").workloads
        if one.task == "upsample2x"
    }
    (claim,) = (one for one in load() if one.networks)
    assert set(claim.against) == set(claim.networks)
    assert {(slot["C"], slot["H"], slot["W"]) for one in claim.networks.values() for slot in one.slots} == sizes


def test_rules_for_modules_see_convolutions_and_linear_layers_and_no_function():
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(8, 12, 3, padding=1, groups=4), torch.nn.SiLU(), torch.nn.Flatten(2), torch.nn.Linear(25, 7)
    )
    assert computations.seen_by_modules(layers, (torch.ones(2, 8, 5, 5),)) == 2 * 12 * (25 * 2 * 9 + 7 * 25)


# --- the parts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "text", "agrees"),
    [
        (199_496, "199k", True),
        (199_501, "199k", False),
        (589_824, "590k", True),
        (2_304, "2.3k", True),
        (1, "0", False),
    ],
)
def test_a_printed_figure_is_a_rounding(count, text, agrees):
    assert rounds_to(count, text) is agrees


@pytest.mark.parametrize(
    ("verdicts", "joint"),
    [
        (["confirmed", "confirmed"], "confirmed"),
        (["confirmed", "undecided"], "undecided"),
        (["confirmed", "undecided", "refuted"], "refuted"),
        ([], "undecided"),
    ],
)
def test_a_claim_holds_where_every_place_confirms_it(verdicts, joint):
    assert everywhere(verdicts) == joint


def test_a_normalisation_that_exceeds_the_input_is_seen():
    assert computations._largest(lambda logits: 1.5 * logits.softmax(-1)) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[claim]]\nclaim = 'c'", "missing required field `source`"),
        ("[[claim]]\nclaim = 'c'\nsource = 's'\nreading = 'r'\nmeasure = 'latnecy'", "did you mean 'latency'"),
        ("[[claim", "claims file"),
    ],
)
def test_a_faulty_file_of_claims_is_named(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(OpbenchError, match=message):
        load(path)


def test_an_operator_or_a_setting_that_opbench_has_not_leaves_a_claim_undecided():
    known = Claim("c", "s", "r", "parameters", task="upsample2x", subject="carafe", against=("deconv",), below=1.0)
    for changed, said in (
        ({"subject": "hydra"}, "opbench has no hydra in the task upsample2x here"),
        ({"against": ("hydra",)}, "opbench has no hydra in the task upsample2x here"),
        ({"dims": ({"C": 64, "heads": 3},)}, "carafe has no setting heads here"),
    ):
        (answer,) = evaluate([], [msgspec.structs.replace(known, **{"dims": ({"C": 64},), **changed})])
        assert (answer.verdict, answer.evidence) == ("undecided", said)


@pytest.mark.parametrize(("sizes", "expected"), [((1, 2, 3), "confirmed"), ((1, 2, 4), "refuted")])
def test_parameters_grow_linearly_where_even_steps_cost_the_same(sizes, expected):
    dims = tuple({"C": 64, "c_mid": size * 16} for size in sizes)
    claim = Claim("c", "s", "r", "linear", task="upsample2x", subject="carafe", dims=dims)
    (answer,) = evaluate([], [claim])
    assert answer.verdict == expected
    assert answer.evidence.startswith("parameters: ")


def test_every_pasted_operator_is_spoken_of():
    spoken = {claim.subject.partition("[")[0] for claim in load()}
    assert spoken >= {
        "dysample", "eucb", "dcnv4", "spdconv", "adown", "rfaconv", "ldconv", "odconv", "snake", "gsconv", "pconv",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("claim", "baseline", "expected"),
    [
        ("CARAFE++ downsampling: little computational overhead (FLOPs)", "conv3x3-stride2", "confirmed"),
        ("CARAFE++ downsampling: little computational overhead (FLOPs)", "maxpool-conv", "refuted"),
        (
            "HWD: a lightweight replacement of strided convolution and pooling (parameters)",
            "conv3x3-stride2",
            "confirmed",
        ),
        ("HWD: a lightweight replacement of strided convolution and pooling (parameters)", "maxpool-conv", "refuted"),
    ],
)
def test_what_halves_is_light_against_a_convolution_and_not_against_pooling(counted, claim, baseline, expected):
    assert counted[claim, baseline].verdict == expected
