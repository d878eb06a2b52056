"""Records of several processes become one: samples stay apart, and pair with the baseline's of the same process."""

from factory import make_case, make_failure, make_latency, make_memory, make_record, make_verdict
from msgspec.structs import replace

from opbench.engine.replicas import merge
from opbench.statistics.ratios import ratio


def record(*methods, stop="precision", seed=0, **changes):
    latencies = tuple(make_latency(method=method, stop=stop, seed=seed) for method in methods)
    return make_record(latencies=latencies, **changes)


def test_samples_are_kept_by_process():
    parts = [record("cpu-wall", seed=seed) for seed in range(3)]
    (latency,) = merge(parts).latencies
    assert latency.samples_seconds == tuple(part.latencies[0].samples_seconds[0] for part in parts)


def test_one_process_is_its_own_record():
    assert merge([record("cpu-wall")]) == record("cpu-wall")


def test_the_reason_to_stop_is_the_least_satisfied_one():
    for stops, expected in (
        (("precision", "plateau"), "plateau"),
        (("budget", "precision", "plateau"), "budget"),
        (("precision", "precision"), "precision"),
    ):
        assert merge([record("cpu-wall", stop=stop) for stop in stops]).latencies[0].stop == expected


def test_a_failure_in_any_process_is_the_outcome():
    failure = make_failure(make_case(), "timed-out", "killed after 5 s")
    merged = merge([record("cpu-wall"), failure, record("cpu-wall")])
    assert (merged.outcome, merged.message) == ("timed-out", "process 2: killed after 5 s")
    assert merged.latencies == ()
    assert merged.counts == record("cpu-wall").counts
    assert merged.verdict == make_verdict()


def test_counts_and_memory_are_the_first_process_s():
    first = record("cpu-wall", memory=make_memory(5))
    assert merge([first, record("cpu-wall", counts=None, memory=None)]).memory == make_memory(5)


def test_a_process_without_a_method_keeps_its_place():
    both, one = record("cold", "hot", seed=1), record("cold", seed=2)
    cold, hot = merge([one, both]).latencies
    assert [len(samples) for samples in cold.samples_seconds] == [20, 20]
    assert [len(samples) for samples in hot.samples_seconds] == [0, 20]
    # Its one process pairs with the second of the baseline, whose first has nothing to pair with.
    base = merge([record("hot", seed=3), record("hot", seed=4)]).latencies[0]
    assert ratio(hot, base).processes == 1


def test_clocks_and_temperatures_stay_beside_their_samples():
    gauged = replace(make_latency(), sm_clock_mhz=((1980.0,),), temperature_celsius=((60.0,),))
    parts = [make_record(latencies=(gauged,)), make_record(), make_record(latencies=(gauged,))]
    (latency,) = merge(parts).latencies
    assert latency.sm_clock_mhz == ((1980.0,), (), (1980.0,))
    assert latency.temperature_celsius == ((60.0,), (), (60.0,))


def test_notes_of_all_processes_are_kept_once():
    parts = [record("cpu-wall", notes=("a",)), record("cpu-wall", notes=("a", "b"))]
    assert merge(parts).notes == ("a", "b")
