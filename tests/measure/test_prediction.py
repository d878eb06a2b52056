"""What is predicted from shapes alone is what is then measured."""

import pytest

from opbench import plan, registry, suites
from opbench.build import build
from opbench.measure.memory import measure_memory
from opbench.measure.prediction import may_exceed, predict


def smoke_panels():
    registry.load()
    return plan.plan(suites.load("smoke"), {"device": ["cpu"]}, cuda=False).panels


@pytest.mark.parametrize("panel", smoke_panels(), ids=lambda panel: panel.id)
def test_the_prediction_is_the_measurement(panel):
    for case in panel.cases:
        if registry.operator(case.task, case.operator).implementations[case.implementation].compiles:
            continue
        memory = measure_memory(build(case))
        predicted = predict(case).memory
        assert predicted.predicted
        assert (predicted.peak_bytes, predicted.saved_bytes) == (memory.peak_bytes, memory.saved_bytes), case.id


@pytest.mark.parametrize("panel", smoke_panels(), ids=lambda panel: panel.id)
def test_a_case_that_fits_by_its_closed_form_fits(panel):
    for case in panel.cases:
        needed = predict(case).needed_bytes
        assert needed is None or may_exceed(case, needed - 1), case.id


def toy_case(contender, **dims):
    text = f'[[workload]]\ntask="toy"\nname="w"\nsource="-"\ndims={{N={dims["N"]}, C={dims["C"]}}}\ndevices=["cpu"]\n'
    laid_out = plan.plan(suites.parse(text, "toy", where="-"), {"mode": ["inference"]}, cuda=False)
    return next(case for case in laid_out.panels[0].cases if case.implementation == contender)


@pytest.mark.usefixtures("toys")
def test_terabytes_are_predicted_in_no_memory():
    prediction = predict(toy_case("right", N=1 << 30, C=1 << 10))
    # x, the product x * 2 and the output, 4 TiB each, and the weight.
    assert prediction.needed_bytes == 3 * (4 << 40) + (4 << 10)


@pytest.mark.usefixtures("toys")
def test_what_can_not_run_without_values_is_not_predicted_and_says_why():
    prediction = predict(toy_case("raises", N=2, C=4))
    assert prediction.needed_bytes is None
    assert "ValueError: this contender always raises" in prediction.memory.note
