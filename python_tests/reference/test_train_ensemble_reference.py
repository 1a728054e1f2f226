# SPDX-License-Identifier: MIT
import pytest
import torch
from compare import assert_close, rounding

from lmc_fast.losses import mean_loss
from lmc_fast.nets import init_students
from lmc_fast.reference.philox import normals, shuffle
from lmc_fast.reference.population_loss import population_loss, population_loss_gradient
from lmc_fast.reference.train_ensemble import train_ensemble
from lmc_fast.reference.two_layer_relu import two_layer_relu

TEACHER = torch.eye(4, dtype=torch.float64)[:2]


def scalar(*values):
    """Students of width 1 on inputs of dimension 1."""
    return torch.tensor(values, dtype=torch.float64)[:, None, None]


def samples(n=7, d=4, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_population_steps_by_hand():
    # u, v > 0 in one dimension: L = (u - v)^2 / 4, so u - v shrinks by (1 - lr/2) per step.
    result = train_ensemble(
        scalar(0.5, 3.0),
        teacher=scalar(1.0)[0],
        lr=torch.tensor([0.5, 1.0]),
        steps=3,
        record_every=2,
    )
    w1 = scalar(1 - 0.5 * 0.75**3, 1 + 2 * 0.5**3)
    assert_close(result.w1, w1, rounding(20))
    assert_close(result.loss, ((w1 - 1) ** 2 / 4).flatten(), rounding(20))
    gaps = torch.tensor([[0.5, 0.5 * 0.75**2], [2, 2 * 0.5**2]], dtype=torch.float64)
    assert_close(result.trace, gaps**2 / 4, rounding(20))
    assert result.trace_steps.tolist() == [0, 2]
    assert result.steps.tolist() == [3, 3]
    assert not result.diverged.any()


def test_gd_step_by_hand():
    # f = 4 relu(x / 2): only the sample x = 1 is active, with residual 1, and the mean over the two
    # samples of the gradient is (4, 1/2) / 2.
    x, y = torch.tensor([[1.0], [-1.0]]).double(), torch.tensor([[1.0], [0.0]]).double()
    result = train_ensemble(
        scalar(0.5), scalar(4.0), method="gd", x=x, y=y, lr=0.1, steps=1, train_w2=True
    )
    assert_close(result.w1, scalar(0.5 - 0.1 * 2.0), rounding(4))
    assert_close(result.w2, scalar(4.0 - 0.1 * 0.25), rounding(8))
    fixed = train_ensemble(scalar(0.5), scalar(4.0), method="gd", x=x, y=y, lr=0.1, steps=1)
    assert_close(fixed.w1, result.w1, 0)
    assert_close(fixed.w2, scalar(4.0), 0)


def test_population_gd_follows_the_formula_gradient():
    students = init_students([3], 5, 4, c=2, scale=1.0)
    teacher = (TEACHER, torch.eye(2, dtype=torch.float64))
    w1, w2 = students.w1, students.w2
    for _ in range(4):
        gradient = population_loss_gradient(w1, w2, teacher, "sphere", 2.0)
        w1, w2 = w1 - 0.1 * gradient.w1, w2 - 0.1 * gradient.w2
    result = train_ensemble(
        students.w1,
        students.w2,
        teacher=teacher,
        lr=0.1,
        steps=4,
        train_w2=True,
        inputs="sphere",
        radius=2.0,
    )
    assert_close(result.w1, w1, rounding(50))
    assert_close(result.w2, w2, rounding(50))
    assert_close(result.loss, population_loss(w1, w2, teacher, "sphere", 2.0), rounding(50, 10.0))


def sgd_by_autograd(w1, w2, batches, loss, lr):
    for x, y in batches:
        w1, w2 = w1.requires_grad_(), w2.requires_grad_()
        value = mean_loss(two_layer_relu(x, w1, None, w2, None), y, loss)
        step1, step2 = torch.autograd.grad(value, (w1, w2))
        w1, w2 = (w1 - lr * step1).detach(), (w2 - lr * step2).detach()
    return w1, w2


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_sgd_takes_consecutive_shuffled_batches(loss):
    n, size, steps, seed = 7, 3, 6, 11
    x, students = samples(n), init_students([3], 5, 4, c=2, scale=1.0)
    y = torch.arange(n) % 2 if loss == "cross_entropy" else samples(n, 2, seed=1)
    visited = [i for epoch in range(3) for i in shuffle(seed, n, epoch).tolist()]
    assert sorted(visited[:n]) == list(range(n))
    chosen = [visited[size * t : size * (t + 1)] for t in range(steps)]  # batch 2 crosses an epoch
    w1, w2 = sgd_by_autograd(
        students.w1[0], students.w2[0], [(x[i], y[i]) for i in chosen], loss, 0.1
    )
    result = train_ensemble(
        students.w1,
        students.w2,
        method="sgd",
        x=x,
        y=y,
        loss=loss,
        lr=0.1,
        steps=steps,
        batch_size=size,
        seeds=[seed],
        train_w2=True,
    )
    assert_close(result.w1[0], w1, rounding(50))
    assert_close(result.w2[0], w2, rounding(50))
    assert_close(
        result.loss[0], mean_loss(two_layer_relu(x, w1, None, w2, None), y, loss), rounding(50)
    )


@pytest.mark.parametrize("inputs", ["gaussian", "sphere"])
def test_sgd_on_fresh_samples_uses_the_documented_normals(inputs):
    size, d, seed, radius = 3, 4, 11, 1.5
    students = init_students([3], 5, d, scale=1.0)
    batches = []
    for t in range(4):
        x = torch.from_numpy(normals(seed, size * d, t)).reshape(size, d)
        if inputs == "sphere":
            x = radius * x / x.norm(dim=1, keepdim=True)
        batches.append((x, (x @ TEACHER.T).relu().sum(1, keepdim=True)))
    w1, _ = sgd_by_autograd(students.w1[0], students.w2[0], batches, "mse", 0.1)
    result = train_ensemble(
        students.w1,
        None,
        method="sgd",
        teacher=TEACHER,
        lr=0.1,
        steps=4,
        batch_size=size,
        seeds=[seed],
        inputs=inputs,
        radius=radius,
        train_w2=True,
    )
    assert_close(result.w1[0], w1, rounding(50))
    want = population_loss(result.w1, result.w2, TEACHER, inputs, radius)
    assert_close(result.loss, want, 0)


def test_a_teacher_labels_the_samples():
    students, x = init_students([3, 4], 5, 4), samples(9)
    y = (x @ TEACHER.T).relu().sum(1, keepdim=True)
    by_teacher, by_y = (
        train_ensemble(students.w1, method="gd", x=x, lr=0.1, steps=3, **targets)
        for targets in ({"teacher": TEACHER}, {"y": y})
    )
    assert_close(by_teacher.w1, by_y.w1, rounding(20))


def test_a_student_is_the_same_alone_and_among_others():
    seeds = [5, 6, 7]
    students, x = init_students(seeds, 6, 4), samples(9)
    options = {
        "method": "sgd",
        "x": x,
        "teacher": TEACHER,
        "batch_size": 4,
        "lr": 0.1,
        "steps": 8,
        "record_every": 3,
    }
    together = train_ensemble(students.w1, seeds=seeds, **options)
    alone = train_ensemble(students.w1[1:2], seeds=seeds[1:2], **options)
    for got, want in ((alone.w1[0], together.w1[1]), (alone.trace[0], together.trace[1])):
        assert_close(got, want, 0)


def test_divergence_by_loss_keeps_finite_weights_and_spares_the_others():
    start = init_students([0, 1], 5, 4, scale=1.0).w1
    lr = torch.tensor([20.0, 0.1], dtype=torch.float64)
    result = train_ensemble(start, teacher=TEACHER, lr=lr, steps=60, train_w2=True, record_every=1)
    assert result.diverged.tolist() == [True, False]
    step = int(result.steps[0])
    assert 0 < step < 60
    assert torch.isfinite(result.w1).all()
    assert torch.isfinite(result.w2).all()
    limit = 1e3 * max(
        float(result.trace[0, 0]), float(population_loss(0 * start[:1], None, TEACHER))
    )
    assert (result.trace[0, :step] <= limit).all()
    assert not result.trace[0, step] <= limit
    assert result.trace[0, step + 1 :].isnan().all()
    other = train_ensemble(start[1:], teacher=TEACHER, lr=0.1, steps=60, train_w2=True)
    assert_close(result.w1[1:], other.w1, 0)
    # What it kept are the weights after `step` updates.
    short = train_ensemble(start[:1], teacher=TEACHER, lr=20.0, steps=step, train_w2=True)
    assert_close(result.w1[:1], short.w1, 0)
    assert short.diverged.tolist() == [True]


def test_divergence_by_an_infinite_weight():
    result = train_ensemble(scalar(0.5), teacher=scalar(1.0)[0], lr=1e308, steps=5)
    assert result.diverged.tolist() == [True]
    assert torch.isfinite(result.w1).all()


def test_tolerance_stops_at_the_documented_step():
    # |grad| = |u - v| / 2 = 0.25 * 0.75^t: at most 0.1 first at t = 4 (0.0791; t = 3 gives 0.1055).
    result = train_ensemble(
        scalar(0.5), teacher=scalar(1.0)[0], lr=0.5, steps=50, tol=0.1, record_every=2
    )
    assert result.steps.tolist() == [4]
    assert result.trace.isnan().tolist() == [[False] * 3 + [True] * 23]
    assert not result.diverged.any()


def test_no_steps_return_the_start():
    start = init_students([0], 3, 4).w1
    result = train_ensemble(start, teacher=TEACHER, lr=0.1, steps=0, record_every=5)
    assert_close(result.w1, start, 0)
    assert_close(result.loss, population_loss(start, None, TEACHER), 0)
    assert_close(result.trace, result.loss[:, None], 0)


def test_float32_students_come_back_as_float32():
    start = init_students([0], 3, 4, dtype=torch.float32).w1
    result = train_ensemble(start, teacher=TEACHER, lr=0.1, steps=3)
    assert result.w1.dtype == result.w2.dtype == torch.float32
    want = train_ensemble(start.double(), teacher=TEACHER, lr=0.1, steps=3)
    assert_close(result.w1, want.w1.float(), 0)


def test_the_inputs_are_not_changed():
    start = init_students([0], 3, 4)
    w1, w2 = start.w1.clone(), start.w2.clone()
    train_ensemble(w1, w2, teacher=TEACHER, lr=0.1, steps=3, train_w2=True)
    assert_close(w1, start.w1, 0)
    assert_close(w2, start.w2, 0)


def test_the_first_steps_of_adam_by_hand():
    """One neuron, one sample, x = 1, w2 = 1, y = 0: the gradient is w, at first 1 and then 0.9.

    The first step is lr g / |g| = 0.1. In the second the means are (0.09 + 0.09) / 0.19 and
    (0.000999 + 0.00081) / 0.001999, bias corrected.
    """
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    x, y = torch.ones(1, 1).double(), torch.zeros(1, 1).double()
    batches = {"method": "adam", "x": x, "y": y, "batch_size": 1, "lr": 0.1}
    first = train_ensemble(one, steps=1, **batches).w1
    assert_close(first, 0.9 * one, 2e-9)  # eps = 1e-8 takes the difference
    second = train_ensemble(one, steps=2, **batches).w1
    direction = (0.18 / 0.19) / (0.001809 / 0.001999) ** 0.5
    assert_close(second, (0.9 - 0.1 * direction) * one, 1e-8)


X, Y = samples(5), samples(5, 1, seed=1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"w1": torch.zeros(3, 4).double()}, ValueError, r"\(S, m, d\); got \(3, 4\)"),
        ({"w1": torch.full((1, 3, 4), torch.nan)}, ValueError, "finite"),
        ({"method": "lbfgs"}, ValueError, "'gd', 'sgd', 'adam'; got 'lbfgs'"),
        ({"steps": -1}, ValueError, "steps must be an integer of at least 0; got -1"),
        ({"steps": 1.5}, ValueError, "steps must be an integer"),
        ({"record_every": -1}, ValueError, "record_every"),
        ({"tol": -1.0}, ValueError, "tol"),
        ({"tol": torch.nan}, ValueError, "tol"),
        (
            {"lr": [0.1, 0.2, 0.3]},
            ValueError,
            r"lr must be a number or \(S,\) = \(2,\); got \(3,\)",
        ),
        ({"lr": -0.1}, ValueError, "lr must be finite and above 0"),
        ({"lr": torch.nan}, ValueError, "lr must be finite"),
        ({"seeds": [1]}, ValueError, r"seeds must be \(S,\) = \(2,\)"),
        ({"seeds": [1.0, 2.0]}, TypeError, "seeds must be integers"),
        ({"seeds": [1, -2]}, ValueError, "seeds must be at least 0; got -2"),
        ({"teacher": None}, ValueError, "needs a teacher"),
        ({"x": X}, ValueError, "population_gd takes no samples"),
        ({"method": "gd"}, ValueError, "gd needs the samples"),
        ({"method": "gd", "x": X, "y": Y}, ValueError, "without a teacher"),
        ({"method": "gd", "x": X, "teacher": None}, ValueError, "x needs its targets"),
        ({"method": "gd", "x": X[:, :3]}, ValueError, r"x must be \(n, d\) = \(\*, 4\)"),
        ({"method": "gd", "x": X.float()}, TypeError, "dtype of w1"),
        ({"method": "gd", "x": X, "y": Y[:4], "teacher": None}, ValueError, r"y must be \(n, c\)"),
        ({"batch_size": 2}, ValueError, "batch_size is for method='sgd'"),
        ({"method": "sgd"}, ValueError, "batch_size must be an integer of at least 1 for sgd"),
        ({"method": "sgd", "x": X, "batch_size": 6}, ValueError, "at most n = 5 for sgd; got 6"),
        ({"loss": "cross_entropy"}, ValueError, "'mse' when a teacher"),
        ({"inputs": "cube"}, ValueError, "inputs must be one of"),
        ({"radius": 0.0}, ValueError, "radius"),
    ],
)
def test_bad_input(arguments, error, message):
    good = {"w1": init_students([0, 1], 3, 4).w1, "lr": 0.1, "steps": 2, "teacher": TEACHER}
    with pytest.raises(error, match=message):
        train_ensemble(**{**good, **arguments})
