# SPDX-License-Identifier: MIT
from functools import partial

import pytest
import torch
from compare import assert_close, rounding
from torch import nn

from lmc_fast import TwoLayerReLU, digits, sample_inputs, train, train_ensemble
from lmc_fast.losses import accuracy, mean_loss


def network(c=1, bias=False):
    torch.manual_seed(0)
    return TwoLayerReLU(4, 6, c, bias, dtype=torch.float64)


SGD = partial(torch.optim.SGD, lr=0.1)
X, Y = sample_inputs(12, 4), sample_inputs(12, 1, seed=1)


def test_full_batch_descent_agrees_with_the_ensemble_trainer():
    net = network()
    start1, start2 = net.hidden.weight.detach().clone(), net.output.weight.detach().clone()
    losses = train(net, X, Y, optimizer=SGD, steps=5)
    result = train_ensemble(
        start1[None],
        start2[None],
        method="gd",
        x=X,
        y=Y,
        lr=0.1,
        steps=5,
        train_w2=True,
        record_every=1,
    )
    assert_close(net.hidden.weight, result.w1[0], rounding(100))
    assert_close(losses, result.trace[0, :5], rounding(100))


def test_each_epoch_visits_every_sample_once():
    seen = []

    class Watch(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros((), dtype=torch.float64))

        def forward(self, x):
            seen.append(x.flatten().tolist())
            return self.w * x

    x = torch.arange(5, dtype=torch.float64)[:, None]
    train(Watch(), x, x, optimizer=SGD, steps=5, batch_size=3, seed=2)
    visited = [value for batch in seen for value in batch]
    assert [len(batch) for batch in seen] == [3] * 5
    for epoch in range(3):
        assert sorted(visited[5 * epoch : 5 * epoch + 5]) == [0, 1, 2, 3, 4]
    assert visited[:5] != visited[5:10]


def test_the_seed_decides_the_batches():
    runs = []
    for seed in (1, 1, 2):
        net = network()
        runs.append(train(net, X, Y, optimizer=SGD, steps=6, batch_size=5, seed=seed))
    assert_close(runs[0], runs[1], 0)
    assert not torch.equal(runs[0], runs[2])


def test_it_learns_the_digits():
    data = digits()
    torch.manual_seed(0)
    net = TwoLayerReLU(64, 32, 10)
    train(
        net,
        data.x_train,
        data.y_train,
        loss="cross_entropy",
        optimizer=partial(torch.optim.Adam, lr=1e-2),
        steps=300,
        batch_size=64,
    )
    with torch.no_grad():
        assert accuracy(net(data.x_test), data.y_test) > 0.9


def test_an_optimizer_may_be_given_and_the_callback_may_stop():
    net, calls = network(), []

    def callback(step, loss):
        calls.append((step, loss))
        return step == 2

    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    losses = train(net, X, Y, optimizer=optimizer, steps=10, callback=callback)
    assert [step for step, _ in calls] == [0, 1, 2]
    assert [loss for _, loss in calls] == losses.tolist()
    start = network()
    assert_close(losses[0], mean_loss(start(X), Y, "mse"), 0)
    assert losses[2] < losses[0]


@pytest.mark.parametrize("line_search", [None, "strong_wolfe"])
def test_lbfgs_solves_a_linear_least_squares_problem(line_search):
    # y = 2 x exactly: the loss falls from |2 x|^2 / 2n to rounding, one entry per step.
    net = nn.Linear(1, 1, bias=False).double()
    nn.init.zeros_(net.weight)
    x = torch.tensor([[1.0], [3.0]]).double()
    lbfgs = partial(torch.optim.LBFGS, max_iter=20, line_search_fn=line_search)
    losses = train(net, x, 2 * x, optimizer=lbfgs, steps=3)
    assert losses.shape == (3,)
    assert_close(losses[0], (4 + 36) / 4, 0)
    assert_close(net.weight, torch.full((1, 1), 2.0), 1e-6)


def test_a_model_with_batch_norm_sees_whole_batches_only():
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(6)
    net = nn.Sequential(nn.Linear(4, 6), norm, nn.ReLU(), nn.Linear(6, 1)).double()
    losses = train(net, X, Y, optimizer=SGD, steps=20, batch_size=6)
    assert losses[-1] < losses[0]
    assert int(norm.num_batches_tracked) == 20


def test_no_steps_change_nothing():
    net = network()
    before = net.hidden.weight.detach().clone()
    assert train(net, X, Y, optimizer=SGD, steps=0).shape == (0,)
    assert_close(net.hidden.weight, before, 0)


def test_divergence_is_an_error():
    with pytest.raises(FloatingPointError, match=r"the loss became (inf|nan) at step \d+"):
        train(network(), X, Y, optimizer=partial(torch.optim.SGD, lr=1e6), steps=100)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": X[:0]}, "x must hold at least one sample"),
        ({"x": X.masked_fill(X > 1, torch.nan)}, "x must be finite; it holds NaN or infinity"),
        ({"y": Y[:3]}, r"y must be \(n, c\) = \(12, 1\)"),
        ({"steps": -1}, "steps must be at least 0"),
        ({"batch_size": 13}, r"in 1..n = 1..12; got 13"),
        ({"loss": "hinge"}, "'mse', 'cross_entropy'; got 'hinge'"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        train(network(), **{"x": X, "y": Y, "optimizer": SGD, "steps": 1, **arguments})
