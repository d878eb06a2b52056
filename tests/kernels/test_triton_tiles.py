"""Which tiles Triton's kernels take: by the table, by a file of one's own, or the fastest, timed once on a machine."""

import pytest
import torch

from opbench.errors import OpbenchError
from opbench.kernels.triton import launch as triton_launch
from opbench.kernels.triton import tile_cache, tile_table
from opbench.kernels.triton.launch import ENOUGH, Candidate, steps_of
from opbench.kernels.triton.tile_table import LARGE, entries

triton = pytest.importorskip("triton", reason="triton is not installed")

FORWARD = "carafe_kernels.forward"


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """`asked(words)`: what the user asked for, with a cache folder that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(tile_table.VARIABLE, raising=False)
    return lambda words: monkeypatch.setenv(tile_table.VARIABLE, words)


@pytest.fixture
def own(asked, tmp_path):
    """`own(text)` asks for a file of tiles with this text."""

    def write(text):
        file = tmp_path / f"tiles-{len(list(tmp_path.iterdir()))}.toml"
        file.write_text(text)
        asked(str(file))
        return file

    return write


# --- The table --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("asked")
def test_the_first_that_suits_size_and_width_comes_first_and_the_others_after_it():
    large, wide, small = (
        entries(FORWARD, "first", 2, elements=elements, width=width)
        for elements, width in ((LARGE, 80), (LARGE, 128), (LARGE - 1, 80))
    )
    assert (large[0].size, large[0].width) == ("large", 0)
    assert (wide[0].size, wide[0].width) == ("large", 128)
    assert small[0].size == "small"
    assert sorted(map(repr, large)) == sorted(map(repr, small)) == sorted(map(repr, wide))


@pytest.mark.usefixtures("asked")
def test_every_kernel_has_a_tile_for_every_element_and_problem():
    table = tile_table.read(str(tile_table._FILE))
    for kernel, layouts in table.items():
        for layout in layouts:
            for element in (2, 4, 8):
                for elements in (1, LARGE):
                    found = entries(kernel, layout, element, elements=elements, width=1)
                    assert found[0].suits(elements, 1), (kernel, layout, element, elements)
                    assert len(found) <= 4, "tuning times few"


def test_a_file_of_ones_own_takes_the_place_of_the_table_for_the_kernels_that_it_has(own):
    before = entries("sampling_kernels.forward", "last", 2, elements=1, width=1)
    own(f'["{FORWARD}"]\nlast = [{{ blocks = {{ BC = 16, BH = 2, BW = 4 }}, warps = 2 }}]\n')
    (found,) = entries(FORWARD, "last", 4, elements=LARGE, width=8)
    assert found.blocks == {"BC": 16, "BH": 2, "BW": 4}
    assert entries("sampling_kernels.forward", "last", 2, elements=1, width=1) == before
    assert len(entries(FORWARD, "first", 2, elements=1, width=1)) > 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "no file of tiles"),
        ('["carafe_kernels.backward"]\n', "unknown kernel 'carafe_kernels.backward'"),
        ('["KERNEL"]\nlast = [{ blocks = { BC = 16, BH = 2 }, warps = 2 }]', "got blocks BC, BH; expected BC, BH, BW"),
        (
            '["KERNEL"]\nlast = [{ blocks = { BC = 24, BH = 2, BW = 4 }, warps = 2 }]',
            "BC is 24; expected a power of two",
        ),
        (
            '["KERNEL"]\nlast = [{ blocks = { BC = 16, BH = 2, BW = 4 }, warps = 64 }]',
            "64 warps; a program has at most 32",
        ),
        ('["KERNEL"]\nlast = [{ blocks = { BC = 16, BH = 2, BW = 4 }, wraps = 2 }]', "no file of tiles"),
    ],
)
def test_a_file_that_is_none_is_refused_in_a_sentence(own, text, message):
    file = own(text.replace("KERNEL", FORWARD))
    with pytest.raises(OpbenchError, match=message) as caught:
        tile_table.check(str(file))
    assert str(file) in str(caught.value)


def test_a_file_without_a_tile_for_an_element_is_refused(own):
    own(f'["{FORWARD}"]\nlast = [{{ bytes = [4], blocks = {{ BC = 16, BH = 2, BW = 4 }}, warps = 2 }}]\n')
    with pytest.raises(OpbenchError, match="is for elements of 2 bytes"):
        entries(FORWARD, "last", 2, elements=1, width=1)


def test_what_is_no_file_and_no_word_is_refused():
    assert tile_table.check("table") == "table"
    assert tile_table.check("tune") == "tune"
    with pytest.raises(OpbenchError, match="tabel: no file of tiles"):
        tile_table.check("tabel")


# --- Programs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("units", "programs", "steps"),
    [
        (4, ENOUGH, 4),
        (4, ENOUGH // 2, 2),
        (4, ENOUGH // 4, 1),
        (4, 1, 1),
        (7, ENOUGH, 7),
        (6, ENOUGH // 2, 3),
        (1, 1, 1),
    ],
)
def test_a_program_takes_as_many_units_as_leave_programs_enough(units, programs, steps):
    assert steps_of(units, programs) == steps


# --- Tuning -----------------------------------------------------------------------------------------------------


class Kernel:
    """Stands for a compiled kernel."""

    __name__ = "kernel"
    __module__ = "test"


TILES = (Candidate({"B": 16}), Candidate({"B": 32}), Candidate({"B": 64}))


@pytest.fixture
def choose(monkeypatch, asked):
    """`choose(times)`: the launcher's choice in a new process, where the tiles take so long; and which were timed."""
    timed = []

    def do(times, size=1):
        def do_bench(start, **_):
            start()
            return times[timed[-1].blocks["B"]]

        monkeypatch.setattr(triton_launch, "_chosen", {})
        monkeypatch.setattr(triton.testing, "do_bench", do_bench)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
        tensors = {"x": torch.empty(0)}
        return triton_launch._choice(Kernel(), TILES, tensors, {"n": size}, {}, timed.append).blocks["B"]

    do.timed = timed
    return do


def test_nothing_is_timed_unless_tuning_was_asked_for(choose):
    assert choose({16: 3.0, 32: 1.0, 64: 2.0}) == 16
    assert not choose.timed
    assert triton_launch.choices() == ("kernel float32: B=16, 4 warps",)


def test_what_was_timed_once_on_a_machine_is_not_timed_again(choose, asked):
    asked("tune")
    assert choose({16: 3.0, 32: 1.0, 64: 2.0}) == 32
    assert len(choose.timed) == 3
    assert choose({16: 1.0, 32: 3.0, 64: 2.0}) == 32, "another process reads what the first has kept"
    assert len(choose.timed) == 3
    assert choose({16: 1.0, 32: 3.0, 64: 2.0}, size=2) == 16, "another size is another call"


@pytest.mark.parametrize("content", ["", "7", "-1", "first"])
def test_a_choice_that_cannot_be_read_is_made_again(choose, asked, content, tmp_path):
    asked("tune")
    choose({16: 3.0, 32: 1.0, 64: 2.0})
    (file,) = (tmp_path / "cache").rglob("*.tile")
    tile_cache.user_cache.write(file, content.encode())
    assert choose({16: 1.0, 32: 3.0, 64: 2.0}) == 16


def test_a_choice_that_somebody_else_wrote_or_damaged_is_made_again(choose, asked, tmp_path):
    asked("tune")
    choose({16: 3.0, 32: 1.0, 64: 2.0})
    (file,) = (tmp_path / "cache").rglob("*.tile")
    file.write_text("2")
    assert choose({16: 1.0, 32: 3.0, 64: 2.0}) == 16


def test_without_a_folder_to_write_to_nothing_is_kept(choose, asked, monkeypatch):
    asked("tune")
    monkeypatch.setattr(tile_cache.user_cache, "folder", lambda name: None)
    assert choose({16: 3.0, 32: 1.0, 64: 2.0}) == 32
    assert choose({16: 1.0, 32: 3.0, 64: 2.0}) == 16
