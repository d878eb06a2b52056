"""results/gpu-facts is what the Triton kernels ask of memory and registers; and the counting itself is right."""

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from gpu_facts import layouts, machine_code, occupancy, sectors
from gpu_facts.document import accesses_of, compiled_facts, load, markdown, of_candidate, row_of, traffic_facts
from gpu_facts.prediction import Prediction
from gpu_facts.problems import PROBLEMS

triton = pytest.importorskip("triton", reason="triton is not installed")

FOLDER = Path(__file__).parents[2] / "results" / "gpu-facts"
FOUND = load(FOLDER)
ROWS = {row["problem"]: row for row in FOUND["rows"]}
BY_NAME = {problem.name: problem for problem in PROBLEMS}
same_triton = pytest.mark.skipif(FOUND["triton"] != version("triton"), reason="the facts hold of another Triton")
CARAFE = "carafe forward 16x256x80x80 float16 channels="
DCNV3 = "dcnv3 forward 64x128x56x56 float16 G=4 px="


def ratio(name):
    traffic = ROWS[name]["traffic"]
    return traffic["distinct_bytes"] / traffic["least_bytes"]


# --- The document -----------------------------------------------------------------------------------------------


def test_it_tells_of_problems_that_there_are_in_their_order_and_the_table_is_made_of_it():
    assert list(ROWS) == [name for name in BY_NAME if name in ROWS]
    assert {CARAFE + "first", CARAFE + "last", DCNV3 + "0", DCNV3 + "2"} <= set(ROWS), "what has a target"
    assert (FOLDER / "kernels.md").read_text(encoding="utf-8") == markdown(FOUND)


def test_no_tile_spills_on_any_device():
    for name, row in ROWS.items():
        for tile in row["tiles"]:
            for capability, made in tile["compiled"].items():
                assert made["spilled"] == 0, (name, tile["tile"], capability)


@pytest.mark.parametrize("channels", ["first", "last"])
def test_half_precision_carafe_asks_for_at_most_a_quarter_more_than_the_least(channels):
    assert ratio(CARAFE + channels) <= 1.25


def test_dcnv3_asks_for_at_most_twice_the_least_at_0_px_and_three_times_at_2_px():
    assert ratio(DCNV3 + "0") <= 2
    assert ratio(DCNV3 + "2") <= 3


def test_no_kernel_reads_offsets_or_masks_again():
    """All groups of a tile of pixels, and all blocks of channels, are one program's where there are pixels enough."""
    for name in (DCNV3 + "0", DCNV3 + "2"):
        traffic = ROWS[name]["traffic"]["by_tensor"]
        *_, h, w = BY_NAME[name].shape
        assert traffic["offset"] <= 1.1 * h * w * 72 * 2
        assert traffic["mask"] <= 1.2 * h * w * 36 * 2


@same_triton
@pytest.mark.parametrize("name", [CARAFE + "last", DCNV3 + "2"])
def test_the_chosen_tile_compiles_to_what_it_says(name):
    launch = BY_NAME[name].launch()
    candidate, told = launch.candidates[0], ROWS[name]["tiles"][0]
    assert (dict(candidate.blocks), candidate.warps) == (told["tile"], told["warps"])
    assert of_candidate(launch, candidate, 90) == told["compiled"]["sm_90"]


def counted(name, tile, accesses, numbers):
    return sectors.of_programs(BY_NAME[name], tile, accesses, numbers)


@pytest.mark.parametrize("name", [DCNV3 + "2"])
def test_programs_ask_for_the_bytes_that_it_says(interpreted, name):
    told = ROWS[name]
    found = interpreted(counted, name, told["tiles"][0]["tile"], [], (0, 24))
    assert found["count"] == told["traffic"]["programs"]
    for number, program in found["programs"].items():
        assert sum(program.values()) == told["traffic"]["by_program"][number], number


@same_triton
@pytest.mark.nightly
@pytest.mark.parametrize("name", ROWS)
def test_every_figure_of_a_problem_is_what_it_says(interpreted, name):
    problem, traffic = BY_NAME[name], None
    tiles = compiled_facts(problem)
    if problem.interpreted:
        found = interpreted(counted, name, tiles[0]["tile"], accesses_of(problem), None)
        traffic = traffic_facts(problem, found)
    assert json.loads(json.dumps(row_of(problem, tiles, traffic))) == ROWS[name]


# --- Machine code -----------------------------------------------------------------------------------------------

CODE = """
.text.forward:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   LDG.E.128 R4, desc[UR4][R2.64] ;
.L_x_0:
        /*0020*/              @!P0 LDG.E.U16.CONSTANT R8, desc[UR4][R2.64] ;
        /*0030*/                   FFMA R4, R4, R8, R5 ;
        /*0040*/                   FFMA R4, R4, R8, R5 ;
        /*0050*/               @P1 BRA `(.L_x_0) ;
        /*0060*/                   STG.E.64 desc[UR4][R2.64], R4 ;
        /*0070*/               @P2 BRA `(.L_x_1) ;
        /*0080*/                   EXIT ;
.L_x_2:
        /*0090*/                   BRA `(.L_x_2);
        /*00a0*/                   NOP;
"""


def test_machine_code_is_counted_by_kind_and_width_and_its_inner_loop_apart():
    made = machine_code.read(CODE)
    assert made.kinds["multiply-add"] == 2
    assert made.kinds["control"] == 3, "not what is after the last exit"
    assert made.loads == {2: 1, 16: 1}
    assert made.stores == {8: 1}
    assert made.inner == {"control": 1, "global load": 1, "multiply-add": 2}
    assert made.instructions_per_multiply_add == 2


# --- Occupancy --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("registers", "shared", "warps", "programs", "limit"),
    [
        (32, 0, 4, 16, "registers"),
        (64, 0, 8, 4, "registers"),
        (65, 0, 8, 3, "registers"),  # 72 registers are given
        (255, 0, 8, 1, "registers"),
        (16, 0, 1, 32, "programs"),
        (16, 48 << 10, 4, 4, "shared memory"),
        (16, 0, 8, 8, "warps"),
    ],
)
def test_programs_at_once_are_those_of_nvidia_s_calculator(registers, shared, warps, programs, limit):
    found = occupancy.programs_at_once(90, registers=registers, shared=shared, warps=warps)
    assert found == (programs, limit)


# --- Layouts ----------------------------------------------------------------------------------------------------

BLOCKED = "#ttg.blocked<{sizePerThread = [1, 8], threadsPerWarp = [8, 4], warpsPerCTA = [2, 1], order = [1, 0]}>"


def test_a_blocked_layout_hands_out_a_tile_as_triton_s_documentation_draws_it():
    number, run = layouts.holders(BLOCKED, (32, 32))
    assert run == 8
    assert number.shape == (2, 16, 32)
    assert list(number[0, :8, 0]) == list(range(8)), "neighbours of the last axis are a thread's registers"
    assert number[0, 0, 1] == 8, "then come the lanes of the last axis"
    assert number[0, 0, 4] == 32, "then those of the first"
    assert number[1, 0, 0] == 8 * 32, "then the warps"
    assert number[0, 8, 0] == 16 * 32, "and where the tile goes on it begins anew"
    assert np.array_equal(np.sort(number.ravel()), np.arange(32 * 32))


def test_a_slice_is_held_by_every_thread_of_the_axis_that_it_lacks():
    number, _ = layouts.holders(f"#ttg.slice<{{dim = 1, parent = {BLOCKED}}}>", (32,))
    assert list(number[0, 0, :5]) == [0, 0, 0, 0, 1]


def test_a_linear_layout_is_the_same_as_the_blocked_one_that_it_spells():
    linear = (
        "#ttg.linear<{register = [[0, 1], [0, 2], [0, 4], [16, 0]], lane = [[0, 8], [0, 16], [1, 0], [2, 0], [4, 0]], "
        "warp = [[8, 0]], block = []}>"
    )
    number, run = layouts.holders(linear, (32, 32))
    expected, _ = layouts.holders(BLOCKED, (32, 32))
    assert run == 8
    assert np.array_equal(number, expected)


def test_accesses_are_found_with_their_layouts_and_places():
    text = (
        f"#blocked = {BLOCKED}\n"
        '#loc = loc("/a/carafe_kernels.py":7:0)\n'
        '#loc4 = loc("/a/bilinear_kernels.py":71:20)\n'
        "#loc9 = loc(callsite(#loc4 at #loc))\n"
        '#loc12 = loc("value"(#loc9))\n'
        "    %v = tt.load %p, %m, %o : tensor<32x!tt.ptr<f16>, #ttg.slice<{dim = 1, parent = #blocked}>> loc(#loc12)\n"
        "    tt.store %q, %v, %m : tensor<32x32x!tt.ptr<f32>, #blocked> loc(#loc)\n"
    )
    load, store = layouts.accesses(text)
    assert (load.kind, load.file, load.line, load.shape, load.bytes) == ("load", "bilinear_kernels.py", 71, (32,), 2)
    assert load.layout == f"#ttg.slice<{{dim = 1, parent = {BLOCKED}}}>"
    assert (store.kind, store.line, store.shape, store.layout, store.bytes) == ("store", 7, (32, 32), BLOCKED, 4)


# --- Predictions ------------------------------------------------------------------------------------------------


def test_a_prediction_waits_for_the_slowest_part():
    made = Prediction(floor=1.0, memory_again=3.0, l1=0.5, instructions=2.0)
    assert (made.least, made.most, made.bound_by) == (2.0, 3.0, "instructions")
    assert made.shares == (1 / 3, 1 / 2)
