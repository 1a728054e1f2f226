# SPDX-License-Identifier: MIT
"""What students learn: reference losses, who has failed, and which neurons are alive."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from lmc_fast.ensemble import EnsembleResult
from lmc_fast.studies import tasks
from lmc_fast.studies.config import DataName, WidthConfig
from lmc_fast.studies.presets import load_config
from lmc_fast.studies.tasks import DatasetTask, TeacherTask, make_task
from lmc_fast.weights import Weights


def images(*more: str) -> DatasetTask:
    overrides = ["steps=2", "batch_size=8", "alphas=3", "problem.train_samples=50", *more]
    task = make_task(load_config("width", data="digits", overrides=overrides))
    assert isinstance(task, DatasetTask)
    return task


def test_loss_of_the_zero_network() -> None:
    """E f*^2 / 2 = (M / 2 + M (M - 1) / (2 pi)) / 2 for M orthonormal neurons, by hand."""
    task = make_task(load_config("width"))
    assert isinstance(task, TeacherTask)
    assert task.zero_loss == pytest.approx((5 / 2 + 20 / (2 * math.pi)) / 2, rel=1e-12)
    assert images().zero_loss == pytest.approx(math.log(10))
    # One of ten targets is 1, and the squared loss is halved.
    assert images("problem.loss=mse").zero_loss == 0.5


def test_students_that_learnt_nothing_have_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(load_config("width"))
    loss = task.zero_loss * torch.tensor([0.5, 0.9, 1 - 1e-9, 1.0, 2.0, float("nan")])
    diverged = torch.tensor([False, True, False, False, False, False])
    empty = torch.zeros(6, 0)

    def trained(*_: object, **__: object) -> EnsembleResult:
        w1, w2 = torch.ones(6, 1, 10), torch.ones(6, 1, 1)
        return EnsembleResult(w1, w2, loss, empty, empty[0], torch.ones(6), diverged)

    monkeypatch.setattr(tasks, "train_ensemble", trained)
    found = task.train(range(6), 1, 0.1, None)
    assert found.failed.tolist() == [False, True, True, True, True, True]


def test_alive_neurons_of_a_teachers_student() -> None:
    task = make_task(load_config("width", overrides=["alive_threshold=0.01"]))
    w1 = torch.zeros(1, 4, 10, dtype=torch.float64)
    w1[0, :3, 0] = torch.tensor([2.0, -0.021, 0.019])
    weights = Weights(w1, None, torch.ones(1, 1, 4, dtype=torch.float64), None)
    assert task.alive(weights).tolist() == [2]


def test_a_neuron_that_no_image_activates_is_dead() -> None:
    task = images()
    # Pixels are not negative: the first neuron sees every image, the second none.
    w1 = torch.stack([torch.ones(64), -torch.ones(64), torch.zeros(64)])[None]
    weights = Weights(w1, None, torch.ones(1, 10, 3), None)
    assert task.alive(weights).tolist() == [1]


def test_both_layers_are_trained_on_images() -> None:
    task = images()
    trained = task.train([3], 4, 0.1, None)
    start = tasks.init_students([3], 4, 64, scale=task.config.init_scale, c=10, dtype=torch.float32)
    assert not torch.equal(trained.weights.w1, start.w1)
    assert not torch.equal(trained.weights.w2, start.w2)
    assert trained.weights.w2.shape == (1, 10, 4)


def test_barriers_on_images_are_those_of_each_split() -> None:
    task = images()
    weights = task.train([0, 1], 4, 0.1, None).weights
    a, b = (Weights(weights.w1[i : i + 1], None, weights.w2[i : i + 1], None) for i in (0, 1))
    found = task.barriers(a, b)
    assert list(found) == ["train", "test"]
    for split, result in found.items():
        x, y = task.samples[split]
        logits = (x @ a.w1[0].T).relu() @ a.w2[0].T
        loss = torch.nn.functional.cross_entropy(logits, y)
        assert float(result.curve.losses[0, 0]) == pytest.approx(float(loss), rel=1e-5)
        assert result.curve.accuracies is not None
        accuracy = (logits.argmax(1) == y).double().mean()
        assert float(result.curve.accuracies[0, 0]) == pytest.approx(float(accuracy))


def test_squared_losses_on_images_are_of_one_hot_targets() -> None:
    task = images("problem.loss=mse", "method=adam", "steps=30")
    trained = task.train([0, 1], 4, 0.01, None)
    a, b = trained.take(torch.tensor([0])), trained.take(torch.tensor([1]))
    for split, result in task.barriers(a, b).items():
        x, y = task.samples[split]
        f = (x @ a.w1[0].T).relu() @ a.w2[0].T
        loss = 10 / 2 * torch.nn.functional.mse_loss(f, torch.eye(10)[y])
        assert float(result.curve.losses[0, 0]) == pytest.approx(float(loss), rel=1e-5)
        if split == "train":
            assert float(trained.loss[0]) == pytest.approx(float(loss), rel=1e-5)
        assert result.curve.accuracies is not None
        accuracy = (f.argmax(1) == y).double().mean()
        assert float(result.curve.accuracies[0, 0]) == pytest.approx(float(accuracy))


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_students_of_adam_do_not_depend_on_the_chunk_or_on_threads(loss: str) -> None:
    task = images(f"problem.loss={loss}", "method=adam", "steps=12")
    together = task.train([4, 5, 6, 7], 13, 0.01, 2).weights
    for seeds, rows, threads in (([6], [2], 1), ([5, 4], [1, 0], 2), ([4, 5, 6, 7], range(4), 1)):
        some = task.train(seeds, 13, 0.01, threads).weights
        assert torch.equal(some.w1, together.w1[list(rows)])
        assert torch.equal(some.w2, together.w2[list(rows)])


def test_a_task_is_kept_for_its_configuration_and_device() -> None:
    config = load_config("width")
    assert make_task(config) is make_task(load_config("width"))
    assert make_task(config, None, torch.device("meta")) is not make_task(config)


@pytest.mark.parametrize("data", ["teacher", "digits"])
def test_students_and_what_they_learn_from_are_on_the_device(
    data: DataName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The meta device holds no numbers, so that what is left on the CPU shows without a GPU."""
    config = load_config("width", data=data, overrides=["steps=2"])
    task = make_task(config, None, torch.device("meta"))
    # Computed or counted on the CPU, whatever the device.
    assert task.zero_loss == make_task(config).zero_loss
    assert (
        task.sizes
        == make_task(config).sizes
        == ((0, 10, 1) if data == "teacher" else (1438, 64, 10))
    )
    given: dict[str, object] = {}

    def trained(w1: torch.Tensor, w2: torch.Tensor, **options: object) -> EnsembleResult:
        given.update(options, w1=w1, w2=w2)
        ended = torch.ones(2)
        return EnsembleResult(w1, w2, ended, ended, ended, ended, ended > 2)

    monkeypatch.setattr(tasks, "train_ensemble", trained)
    weights = task.train([0, 1], 3, 0.1, None).weights
    tensors = [value for value in given.values() if isinstance(value, torch.Tensor)]
    if isinstance(task, TeacherTask):
        tensors += task.teacher.parameters()
    assert len(tensors) == 4
    assert {t.device.type for t in [*tensors, weights.w1, weights.w2]} == {"meta"}
    if isinstance(task, DatasetTask):
        assert {t.device.type for pair in task.samples.values() for t in pair} == {"meta"}
        assert task.matching_inputs is task.samples["train"][0]


SMALL = ["alphas=3", "steps=40", "problem.d=4", "problem.teacher_width=2"]


def test_steps_and_first_weights_follow_the_width_where_asked() -> None:
    config = load_config("width", overrides=[*SMALL, "steps_per_neuron=10"])
    assert isinstance(config, WidthConfig)
    assert (config.steps_at(3), config.steps_at(5)) == (40, 50)
    assert (config.init_scale_at(2), config.init_scale_at(8)) == (0.5, 0.125)
    task = make_task(config)
    drawn = tasks.init_students([7], 5, 4, scale=1.0)
    torch.testing.assert_close(task.start([7], 5).w1, drawn.w1 / 5)
    assert task.train([7], 5, 0.1, None).steps.tolist() == [50]


@pytest.mark.parametrize(
    "settings",
    [["method=gd", "problem.samples=30"], ["method=sgd", "batch_size=4", "problem.samples=30"]],
)
def test_a_teachers_student_may_learn_from_samples(settings: list[str]) -> None:
    """The loss is that of the n samples, which all students share; the barrier the population's."""
    task = make_task(load_config("width", overrides=[*SMALL, *settings]))
    assert isinstance(task, TeacherTask)
    assert task.samples is not None
    assert task.samples.shape == (30, 4)
    trained = task.train([0, 1], 3, 0.2, None)
    alone = task.train([1], 3, 0.2, None)
    assert torch.equal(alone.weights.w1[0], trained.weights.w1[1])
    outputs = torch.relu(task.samples @ trained.weights.w1.mT).sum(-1)
    error = outputs - task.teacher(task.samples).squeeze(-1)
    torch.testing.assert_close(trained.loss, error.square().mean(1) / 2)
    w1, w2 = trained.weights.w1, trained.weights.w2
    a, b = (Weights(w1[i : i + 1], None, w2[i : i + 1], None) for i in (0, 1))
    ends = task.barriers(a, b)["population"].curve.losses[0, [0, -1]]
    exact = tasks.population_loss(trained.weights.w1, None, task.teacher)
    torch.testing.assert_close(ends, exact)
    assert not torch.allclose(exact, trained.loss, rtol=1e-3)
    found = task.sharpness(trained.weights)
    assert found is not None
    torch.testing.assert_close(found, tasks.sharpness(w1, None, x=task.samples))


def test_a_student_of_samples_has_failed_by_the_zero_networks_loss_on_these() -> None:
    """Here the targets are smaller than the population's; a student that dies equals them."""
    settings = ["method=gd", "problem.samples=30", "problem.samples_seed=1"]
    task = make_task(load_config("width", overrides=[*SMALL, *settings]))
    assert isinstance(task, TeacherTask)
    assert task.samples is not None
    zero = float(task.teacher(task.samples).square().mean()) / 2
    assert zero < 0.8 * task.zero_loss
    dead = Weights(torch.zeros(1, 3, 4).double(), None, torch.ones(1, 1, 3).double(), None)
    task.start = lambda seeds, m: dead  # type: ignore[method-assign]
    found = task.train([0], 3, 0.2, None)
    assert float(found.loss) == pytest.approx(zero, rel=1e-12)
    assert found.failed.tolist() == [True]


def test_w2_is_trained_where_asked() -> None:
    task = make_task(load_config("width", overrides=[*SMALL, "train_w2=true"]))
    assert not torch.equal(task.train([0], 3, 0.2, None).weights.w2, torch.ones(1, 1, 3))
    task = make_task(load_config("width", overrides=SMALL))
    assert torch.equal(
        task.train([0], 3, 0.2, None).weights.w2.double(), torch.ones(1, 1, 3).double()
    )


@pytest.mark.parametrize("method", [["method=population_gd"], ["method=sgd", "batch_size=8"]])
def test_alive_neurons_on_the_way_are_those_of_shorter_runs(method: list[str]) -> None:
    overrides = [*SMALL, *method, "alive_threshold=0.3", "init_scale=1.0"]

    def after(steps: int) -> list[int]:
        task = make_task(load_config("width", overrides=[*overrides, f"steps={steps}"]))
        return task.alive(task.train(range(4), 6, 0.3, None).weights).tolist()

    task = make_task(load_config("width", overrides=overrides))
    counts = task.alive_at(range(4), 6, 0.3, [1, 10, 80], None)
    assert counts.T.tolist() == [after(1), after(10), after(80)]
    assert len(set(counts.flatten().tolist())) > 1


def test_alive_neurons_on_the_way_are_of_weights_that_were_not_rounded() -> None:
    """Float32 is what the closed form's students are returned in, not what they are trained in."""
    overrides = [*SMALL, "dtype=float32", "alive_threshold=0.3", "init_scale=1.0"]
    task = make_task(load_config("width", overrides=overrides))
    taken = []

    def kept(start: Weights, seeds: Sequence[int], lr: float, steps: int, threads: None) -> object:
        taken.append((steps, torch.equal(start.w1, task.start(seeds, 6).w1)))
        return EnsembleResult(*[torch.zeros(2, 1, 1)] * 6, torch.zeros(2, dtype=torch.bool))

    task._train = kept  # type: ignore[method-assign, assignment]
    task.alive_at([0, 1], 6, 0.3, [1, 10, 80], None)
    assert taken == [(1, True), (10, True), (80, True)]


def test_no_neuron_is_counted_once_a_student_has_diverged() -> None:
    task = make_task(load_config("width", overrides=SMALL))
    counts = task.alive_at([0, 1], 6, 1e3, [1, 30, 60], None)
    assert torch.isnan(counts[:, 1:]).all()
