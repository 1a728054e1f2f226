# SPDX-License-Identifier: MIT
"""Matching networks on a GPU gives what matching them on the CPU gives."""

import pytest
import torch
from compare import assert_close

from lmc_fast import (
    Weights,
    barrier,
    canonicalize,
    init_students,
    match,
    refine,
    sample_inputs,
    teacher,
)
from lmc_fast.ops import _cuda

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or not _cuda.compiled("two_layer_relu.forward"),
        reason="needs a GPU and a CUDA build",
    ),
    # Of ops without kernels of ours.
    pytest.mark.filterwarnings("ignore:lmc_fast has no"),
]


def students(pairs: int, m: int, *, c: int | None, biases: bool, seed: int) -> Weights:
    drawn = init_students(range(seed, seed + pairs), m, 4, scale=1.0, c=c)
    if not biases:
        return drawn
    generator = torch.Generator().manual_seed(seed)
    return drawn._replace(b1=torch.randn(pairs, m, generator=generator, dtype=torch.float64))


def on_gpu(weights: Weights) -> Weights:
    return Weights(*(None if t is None else t.cuda() for t in weights))


@pytest.mark.parametrize("pairs", [1, 2, 7])
@pytest.mark.parametrize("c", [None, 2])
@pytest.mark.parametrize("cost", ["gap", "gap of x", "weights", "activations", "none", "random"])
def test_gpu_matchings_are_the_cpus(cost: str, c: int | None, pairs: int) -> None:
    biases = cost in ("gap of x", "weights", "activations")
    a, b = (students(pairs, 33, c=c, biases=biases, seed=seed) for seed in (0, 50))
    x = sample_inputs(5000, 4) if cost in ("gap of x", "activations") else None
    cost = cost.removesuffix(" of x")
    wanted = match(a, b, cost, x, seed=3)
    found = match(on_gpu(a), on_gpu(b), cost, None if x is None else x.cuda(), seed=3)
    assert found.perm.device.type == found.cost.device.type == "cpu"
    assert torch.equal(found.perm, wanted.perm)
    assert torch.equal(found.moved, wanted.moved)
    if wanted.cost.isnan().all():
        assert found.cost.isnan().all()
    else:
        assert_close(found.cost, wanted.cost, 1e-11 * wanted.cost.abs().max())
    moved = found.apply(on_gpu(b))
    assert moved.w1.device.type == "cuda"
    assert torch.equal(moved.w1.cpu(), wanted.apply(b).w1)


def test_gpu_pairs_do_not_change_each_other() -> None:
    a, b = (on_gpu(students(5, 40, c=None, biases=False, seed=seed)) for seed in (0, 50))
    # Pairs of both closed forms.
    w2 = torch.ones_like(a.w2)
    w2[1] = w2[4] = 2.0
    a, b = a._replace(w2=w2), b._replace(w2=w2)
    together = match(a, b)
    for p in range(5):
        alone = match((a.w1[p], a.w2[p]), (b.w1[p], b.w2[p]))
        assert torch.equal(alone.perm[0], together.perm[p])
        assert_close(alone.cost[0], together.cost[p], 1e-12)


def test_gpu_matching_waits_for_what_made_the_networks() -> None:
    a, b = (students(4, 300, c=None, biases=False, seed=seed) for seed in (0, 50))
    wanted = match(a, b)
    a, b = on_gpu(a), on_gpu(b)
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda.current_stream().wait_stream(torch.cuda.default_stream())
        slow = torch.empty(2**26, device="cuda").normal_()
        late = a._replace(w1=a.w1 + 0 * slow.sum())
        assert torch.equal(match(late, b).perm, wanted.perm)


def test_gpu_matched_barriers_are_the_cpus() -> None:
    a, b = (students(3, 16, c=None, biases=False, seed=seed) for seed in (0, 50))
    wanted = barrier(a, b, teacher=teacher(4, 3), match="gap")
    found = barrier(on_gpu(a), on_gpu(b), teacher=teacher(4, 3), match="gap")
    assert_close(found.height.cpu(), wanted.height, 1e-11)


@pytest.mark.parametrize("sampled", [False, True])
def test_gpu_refinements_are_the_cpus(sampled: bool) -> None:
    a, b = (students(3, 8, c=None, biases=sampled, seed=seed) for seed in (0, 50))
    start, target = match(a, b, "random"), teacher(4, 3)
    x = sample_inputs(300, 4) if sampled else None
    wanted = refine(a, b, start, teacher=target, x=x)
    found = refine(on_gpu(a), on_gpu(b), start, teacher=target, x=None if x is None else x.cuda())
    assert found.perm.device.type == "cpu"
    assert torch.equal(found.perm, wanted.perm)
    assert_close(found.before, wanted.before, 1e-11)
    assert_close(found.after, wanted.after, 1e-11)


def test_gpu_canonical_networks_are_the_cpus() -> None:
    net = students(3, 33, c=2, biases=True, seed=0)
    for wanted, found in zip(canonicalize(net), canonicalize(on_gpu(net)), strict=True):
        assert (wanted is None) == (found is None)
        if wanted is not None:
            assert found.device.type == "cuda"
            assert_close(found, wanted, 1e-14 * wanted.abs().max())
