"""Trainings: the same every time, paired across contenders, with gradients that reach every parameter."""

import math

import numpy as np
import pytest
import torch

from opbench.study.studies import STUDIES
from opbench.study.training import TrainingJob, build, examples, one_thread, rate_at, take_step, train

ALL = [(study.name, entrant.name) for study in STUDIES.values() for entrant in study.entrants]


def job(study, contender, **changed):
    settings = {"purpose": "scored", "rate": 0.01, "seed": 3, "steps": 2, "images": "generated", "quick": True}
    return TrainingJob(study=study, contender=contender, **{**settings, **changed})


def first_batch(study, size=None):
    data = examples(study.name, "generated", True)
    return data.batch(np.random.default_rng(0), size or study.batch)


@pytest.mark.parametrize(("study", "contender"), ALL)
def test_two_trainings_give_the_same_losses_and_scores_bit_for_bit(study, contender):
    """Whatever drew random numbers in between."""
    first = train(job(study, contender))
    torch.rand(7)
    np.random.rand(7)
    assert train(job(study, contender)) == first


def test_another_seed_gives_other_losses():
    assert train(job("upsample", "carafe")).losses != train(job("upsample", "carafe", seed=4)).losses


@pytest.mark.parametrize(("study", "contender"), ALL)
def test_gradients_reach_every_parameter(study, contender):
    study = STUDIES[study]
    network = build(study, contender, seed=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    batch = first_batch(study)
    with one_thread():
        take_step(study, network, optimizer, batch, 0.01)
        # A fresh DCN's offsets are all zero, and so is what is behind them until the first step has moved them.
        optimizer.zero_grad(set_to_none=True)
        study.loss(network, batch).backward()
    without = [
        name
        for name, value in network.named_parameters()
        if value.grad is None or not value.grad.isfinite().all() or not value.grad.any()
    ]
    assert not without


@pytest.mark.parametrize(("study", "contender"), ALL)
def test_the_loss_falls_on_a_batch_that_stays_the_same(study, contender):
    study = STUDIES[study]
    network = build(study, contender, seed=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.005)
    # Restoring begins at interpolation's loss, from where the way down is longer than a detector's.
    steps, share = {"upsample": (40, 0.9), "conv3x3": (12, 0.7), "downsample": (12, 0.7)}[study.name]
    batch = first_batch(study, 1)
    with one_thread():
        losses = [take_step(study, network, optimizer, batch, 0.005) for _ in range(steps)]
    assert losses[-1] < share * losses[0]


@pytest.mark.parametrize("study", STUDIES)
def test_everything_around_the_slots_starts_alike_for_all_contenders_of_a_seed(study):
    study = STUDIES[study]
    around = []
    for entrant in study.entrants:
        state = build(study, entrant.name, seed=5).state_dict()
        around.append({name: value for name, value in state.items() if "slot" not in name})
    assert len(around[0]) > 4
    for other in around[1:]:
        assert list(other) == list(around[0])
        assert all(torch.equal(other[name], around[0][name]) for name in other)
    again = build(study, study.baseline, seed=6).state_dict()
    assert any(not torch.equal(again[name], value) for name, value in around[0].items())


def test_slots_of_one_network_start_differently():
    network = build(STUDIES["conv3x3"], "conv3x3", seed=0)
    first, second = (network.blocks[index].slot.weight for index in (0, 1))
    assert not torch.equal(first, second)


def test_building_a_network_leaves_the_callers_random_state_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    build(STUDIES["upsample"], "carafe", seed=0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("study", STUDIES)
def test_contenders_of_a_seed_see_the_same_batches(study):
    study = STUDIES[study]
    data = examples(study.name, "generated", True)
    first, again = (data.batch(np.random.default_rng([3, 7]), study.batch) for _ in range(2))
    other = data.batch(np.random.default_rng([3, 8]), study.batch)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_the_schedule_warms_up_to_the_rate_and_falls_to_almost_nothing():
    plan = job("upsample", "nearest", rate=0.01, steps=100)
    rates = [rate_at(plan, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.001)
    assert rates[9] == pytest.approx(0.01)
    assert max(rates) == rates[9]
    assert rates[9:] == sorted(rates[9:], reverse=True)
    # Half a cosine from step 9 (its top) over 91 steps: 45.5 steps on it would be at half.
    assert rates[54] == pytest.approx(0.01 * (1 + math.cos(math.pi * 45 / 91)) / 2)
    assert 0 < rates[-1] < 1e-4


def test_training_puts_the_thread_count_back():
    torch.set_num_threads(2)
    try:
        train(job("upsample", "nearest", steps=1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
