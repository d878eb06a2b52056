"""What a plan is said to take: more of anything takes longer, and nothing takes nothing."""

import pytest

from opbench import plan, registry, suites
from opbench.engine.estimate import estimate, seconds
from opbench.schema import Plan, Settings


@pytest.fixture(scope="module")
def laid_out():
    registry.load()
    return plan.plan(suites.load("smoke"), {}, cuda=True)


def settings(**changes):
    return Settings(**{"suite": "smoke", "precision": 0.02, "budget_seconds": 1.0, **changes})


def test_more_panels_a_longer_budget_and_replicas_take_longer(laid_out):
    whole = seconds(laid_out, settings())
    fewer = Plan(laid_out.suite, laid_out.panels[:-1], ())
    assert seconds(fewer, settings()) < whole
    assert seconds(laid_out, settings(budget_seconds=2.0)) >= whole + len(laid_out.panels)
    assert whole + 10 < seconds(laid_out, settings(replicas=3)) < 2 * whole


def test_the_sentence_names_minutes_and_panels_or_that_there_are_none(laid_out):
    assert f" minutes: {len(laid_out.panels)} panels, each timed for up to 1 s a method" in estimate(
        laid_out, settings()
    )
    assert estimate(Plan("smoke", (), ()), settings()) == "nothing would be measured here"


def test_what_samples_takes_longer_to_prove(monkeypatch):
    """As a deformable convolution's definition reads nine points for each element."""
    suite = suites.load("yolo11")

    def of(operator):
        filters = {"task": ("conv3x3",), "operator": (operator,), "mode": ("inference",)}
        return seconds(plan.plan(suite, filters, cuda=False), settings())

    before = {operator: of(operator) for operator in ("dcnv2", "depthwise-separable")}
    monkeypatch.setattr("opbench.engine.estimate.SAMPLING", 1)
    assert of("dcnv2") < before["dcnv2"]
    assert of("depthwise-separable") == before["depthwise-separable"]
