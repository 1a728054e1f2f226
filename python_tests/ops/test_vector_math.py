# SPDX-License-Identifier: MIT
"""The kernels' elementary functions against 40-digit arithmetic."""

import math

import mpmath
import numpy as np
import pytest

from lmc_fast import _native

COUNT = 1200
# Whole vectors and tails of every length up to 8 lanes.
SIZES = [*range(18), COUNT]


def apply(name: str, x: np.ndarray) -> np.ndarray:
    out = np.full_like(x, 7.0)
    _native.vector_math(name, x, out)
    return out


def arguments(name: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if name == "exp":
        edges = [709.78, -708.5, -745.1, 0.0, 1e-300, 0.5 * math.log(2), -0.5 * math.log(2)]
        return np.concatenate([rng.uniform(-745, 709.78, COUNT), rng.uniform(-1, 1, COUNT), edges])
    if name == "log":
        edges = [5e-324, 1e-310, 2.0**-1022, 1.0, 1 + 2.0**-52, 1 - 2.0**-53, 1.7e308, 0.5**0.5]
        near_one = 1 + rng.uniform(-1, 1, COUNT) * 10.0 ** rng.uniform(-15, -0.4, COUNT)
        return np.concatenate([np.exp(rng.uniform(-740, 709, COUNT)), near_one, edges])
    edges = [0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1e-300, 2.0**40 + 0.25]
    return np.concatenate([rng.uniform(0, 1, COUNT), rng.uniform(-1e6, 1e6, COUNT), edges])


EXACT = {
    "exp": mpmath.exp,
    "log": mpmath.log,
    "sin_2pi": lambda u: mpmath.sinpi(2 * u),
    "cos_2pi": lambda u: mpmath.cospi(2 * u),
}


@pytest.mark.parametrize("name", EXACT)
def test_within_two_units_in_the_last_place(name):
    x = arguments(name)
    values = apply(name, x)
    worst, where = 0.0, 0.0
    with mpmath.workdps(40):
        for argument, value in zip(x.tolist(), values.tolist(), strict=True):
            exact = EXACT[name](mpmath.mpf(argument))
            ulps = float(abs(mpmath.mpf(value) - exact) / mpmath.mpf(math.ulp(float(exact))))
            worst, where = max((worst, where), (ulps, argument))
    assert worst <= 2.0, f"{worst:.2f} ulp at {where!r} with {_native.cpu_target()}"


@pytest.mark.sanitize_quick
@pytest.mark.parametrize("name", EXACT)
def test_length_does_not_change_values(name):
    x = arguments(name)[:COUNT]
    whole = apply(name, x)
    for size in SIZES:
        np.testing.assert_array_equal(apply(name, x[:size]), whole[:size])


def test_special_values():
    inf, nan = math.inf, math.nan
    np.testing.assert_array_equal(
        apply("exp", np.array([inf, -inf, nan, 0.0, -0.0, 1e4, -1e4, 709.79, -745.2])),
        [inf, 0.0, nan, 1.0, 1.0, inf, 0.0, inf, 0.0],
    )
    np.testing.assert_array_equal(
        apply("log", np.array([inf, -inf, nan, 0.0, -0.0, 1.0, -1.0])),
        [inf, nan, nan, -inf, -inf, 0.0, nan],
    )
    quarters = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    np.testing.assert_array_equal(apply("sin_2pi", quarters), [0.0, 1.0, 0.0, -1.0, 0.0])
    np.testing.assert_array_equal(apply("cos_2pi", quarters), [1.0, 0.0, -1.0, 0.0, 1.0])


def test_rejects_unknown_names_and_other_arrays():
    x = np.zeros(3)
    with pytest.raises(ValueError, match="exp, log, sin_2pi, cos_2pi; got 'tan'"):
        _native.vector_math("tan", x, x)
    with pytest.raises(TypeError, match="x must be float64; got float32"):
        _native.vector_math("exp", x.astype(np.float32), x)
    with pytest.raises(ValueError, match=r"out must have shape \(3,\)"):
        _native.vector_math("exp", x, np.zeros(4))
