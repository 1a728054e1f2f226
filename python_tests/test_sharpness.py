# SPDX-License-Identifier: MIT
import pytest
import torch
from compare import assert_close

from lmc_fast import init_students, sample_global_minima, sharpness, teacher, train_ensemble
from lmc_fast.data import sample_inputs
from lmc_fast.reference.population_loss import population_loss


def largest_eigenvalue(w1, w2, target, inputs="gaussian", radius=1.0):
    """From torch's Hessian of the reference in the neurons that are not zero; and the smallest."""
    alive = (w1 != 0).any(1)

    def loss(neurons):
        full = torch.zeros_like(w1).index_put((alive,), neurons)
        return population_loss(full[None], w2[None], target, inputs, radius)[0]

    hessian = torch.autograd.functional.hessian(loss, w1[alive])
    size = w1[alive].numel()
    values = torch.linalg.eigvalsh(hessian.reshape(size, size))
    return values[-1], values[0]


@pytest.mark.parametrize("inputs", ["gaussian", "sphere"])
def test_against_the_full_hessian(inputs):
    target = teacher(4, 3)
    start = init_students([0, 1, 2], 5, 4, scale=0.3)
    trained = train_ensemble(start.w1, lr=0.5, steps=100, teacher=target).w1
    w1 = torch.cat([start.w1, trained])
    w2 = torch.ones(6, 1, 5, dtype=torch.float64)
    got = sharpness(w1, w2, target, inputs, 1.5, tol=1e-7)
    extremes = [largest_eigenvalue(*pair, target, inputs, 1.5) for pair in zip(w1, w2, strict=True)]
    want = torch.stack([largest for largest, _ in extremes])
    # The residual bounds the error; differences with step 6e-6 add their square and eps / 6e-6.
    assert_close(got, want, 2e-7 * want)
    # Among the starts the eigenvalue of largest size is negative, which is not the one wanted.
    assert any(-smallest > largest for largest, smallest in extremes)


def test_several_outputs():
    students = init_students([4, 5], 4, 3, scale=1.0, c=2)
    target = (torch.eye(3, dtype=torch.float64), torch.ones(2, 3, dtype=torch.float64))
    got = sharpness(students.w1, students.w2, target)
    want = torch.stack(
        [largest_eigenvalue(students.w1[s], students.w2[s], target)[0] for s in range(2)]
    )
    assert_close(got, want, 2e-6 * want)


def test_by_hand():
    # One neuron parallel to the only teacher neuron: |u|^2/4 is all that bends, the Hessian is 1/2.
    target = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    got = sharpness(torch.tensor([[0.0, 1.0]], dtype=torch.float64), None, target)
    # At an exact minimum the third derivative jumps: the difference is off by its step, 6e-6.
    assert_close(got, torch.tensor([0.5], dtype=torch.float64), 1e-5)


@pytest.mark.parametrize("c", [None, 2])
def test_on_samples_it_is_that_of_the_full_hessian(c):
    students = init_students([4, 5], 4, 3, scale=1.0, c=c)
    x = sample_inputs(30, 3, seed=1)
    y = torch.randn(30, c or 1, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    w1 = students.w1.clone()
    w1[1, 2] = 0

    def hessian(w1, w2):
        alive = (w1 != 0).any(1)

        def loss(neurons):
            full = torch.zeros_like(w1).index_put((alive,), neurons)
            return ((torch.relu(x @ full.T) @ w2.T - y) ** 2).sum(1).mean() / 2

        size = w1[alive].numel()
        return torch.autograd.functional.hessian(loss, w1[alive]).reshape(size, size)

    got = sharpness(w1, students.w2, x=x)
    pairs = zip(w1, students.w2, strict=True)
    want = torch.stack([torch.linalg.eigvalsh(hessian(*pair))[-1] for pair in pairs])
    assert_close(got, want, 2e-6 * want)
    assert torch.equal(sharpness(w1[1:], students.w2[1:], x=x), got[1:])


def test_on_samples_it_does_not_depend_on_the_other_students():
    """Of an odd number of weights: in memory they begin anywhere."""
    w1, _, w2, _ = init_students(range(5), 33, 7, scale=1.0, c=1)
    x = sample_inputs(57, 7, seed=1)
    alone = [sharpness(w1[i].clone()[None], w2[i].clone()[None], x=x) for i in range(5)]
    assert torch.equal(torch.cat(alone), sharpness(w1, w2, x=x))


def test_on_samples_by_hand():
    """One neuron, two samples of which it sees one, (3, 4): (w2 |x|)^2 / n = 4 * 25 / 2."""
    x = torch.tensor([[3.0, 4.0], [-1.0, -1.0]], dtype=torch.float64)
    w1, w2 = torch.ones(1, 2, dtype=torch.float64), torch.full((1, 1), 2.0, dtype=torch.float64)
    assert_close(sharpness(w1, w2, x=x), torch.tensor([50.0], dtype=torch.float64), 1e-4)


def test_zero_neurons_are_left_out():
    target = teacher(4, 3)
    w1 = sample_global_minima(target, 6, 4, seed=2, death=0.6)
    assert (w1 == 0).all(2).any()
    want = torch.stack([largest_eigenvalue(w, torch.ones(1, 6).double(), target)[0] for w in w1])
    assert_close(sharpness(w1, None, target), want, 1e-5 * want)
    assert_close(sharpness(0 * w1, None, target), torch.zeros(4), 0)


def test_it_bounds_the_stable_learning_rate():
    # Near a minimum of three neurons, gradient descent converges below 2 / sharpness and not above.
    target = teacher(5, 3)
    near = target.hidden.weight + 1e-4 * init_students([0], 3, 5, scale=1.0).w1
    edge = 2 / float(sharpness(near, None, target)[0])
    lr = torch.tensor([0.95 * edge, 1.05 * edge])
    result = train_ensemble(
        near.repeat(2, 1, 1), lr=lr, steps=200, teacher=target, record_every=200
    )
    below, above = result.trace[:, -1] / result.trace[:, 0]
    assert below < 1e-3
    assert above > 10


def test_a_student_is_measured_alike_alone_and_among_others_to_the_last_bit():
    # Companions that take longer: wider apart, and of few neurons.
    target, w1 = teacher(4, 3), init_students(range(9), 5, 4, scale=0.3).w1
    w1[3:6] *= 30
    w1[6:, 2:] = 0
    together = sharpness(w1, None, target)
    assert torch.equal(torch.cat([sharpness(w, None, target) for w in w1]), together)
    assert torch.equal(sharpness(w1[2:7], None, target), together[2:7])


def test_bad_input():
    with pytest.raises(ValueError, match="iterations must be at least 1; got 0"):
        sharpness(torch.ones(1, 2, 3), None, torch.ones(1, 3), iterations=0)
    with pytest.raises(ValueError, match=r"student.w1 must be finite"):
        sharpness(torch.full((1, 2, 3), torch.nan), None, torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"needs a teacher.*got neither"):
        sharpness(torch.ones(1, 2, 3), None)
    with pytest.raises(ValueError, match="got both"):
        sharpness(torch.ones(1, 2, 3), None, torch.ones(1, 3), x=torch.ones(4, 3))
    with pytest.raises(ValueError, match="x must be"):
        sharpness(torch.ones(1, 2, 3), None, x=torch.ones(4, 5))
    with pytest.raises(TypeError, match="x must be a torch tensor"):
        sharpness(torch.ones(1, 2, 3), None, x=[[1.0, 2.0, 3.0]])
