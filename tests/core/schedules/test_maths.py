import math

import pytest
import torch

from scidiffuse.core.schedules import maths as m

POINTS = [-30.0, -1.5, -0.4, -1e-9, 0.0, 1e-9, 0.3, 1.2, 25.0]


@pytest.mark.parametrize("name", ["exp", "expm1", "softplus", "sin", "cos", "tan", "atan", "asinh", "x_minus_sin"])
def test_floats_and_tensors(name):
    f = getattr(m, name)
    values = f(torch.tensor(POINTS, dtype=torch.float64))
    for x, v in zip(POINTS, values.tolist(), strict=True):
        assert v == pytest.approx(f(x), rel=1e-14, abs=1e-40)


def test_limits_instead_of_exceptions():
    assert m.log(0.0) == -math.inf and math.isnan(m.log(-1.0))
    assert m.log1p(-1.0) == -math.inf
    assert m.exp(1e4) == math.inf and m.expm1(1e4) == math.inf and m.exp(-1e4) == 0.0
    assert m.div(1.0, 0.0) == math.inf and m.div(-1.0, 0.0) == -math.inf and math.isnan(m.div(0.0, 0.0))
    assert m.softplus(800.0) == 800.0 and m.softplus(-800.0) == 0.0


def test_x_minus_sin_keeps_small_numbers():
    for x in (1e-8, 1e-4, 0.1, 0.499, 0.501):
        series = sum((-1) ** k * x ** (2 * k + 3) / math.factorial(2 * k + 3) for k in range(9))
        assert m.x_minus_sin(x) == pytest.approx(series, rel=1e-14)


def test_bisection():
    def f(x):
        return -m.log(x)

    for value in (-0.5, 0.0, 3.0, 30.0):
        assert m.finite_bisection(f, value, 0.0, 2.0) == pytest.approx(math.exp(-value), rel=1e-14)
    values = torch.tensor([-0.5, 0.0, 3.0, math.inf, -9.0], dtype=torch.float64)
    assert m.finite_bisection(f, values, 0.0, 2.0).tolist() == pytest.approx(
        [math.exp(0.5), 1.0, math.exp(-3.0), 0.0, 2.0]
    )
    assert m.finite_bisection(f, math.inf, 0.0, 2.0) == 0.0 and m.finite_bisection(f, -9.0, 0.0, 2.0) == 2.0
