"""Operators: adjoints, pseudo-inverses, norms and singular values against dense matrices."""

import pytest
import torch

from scidiffuse.core import Euclidean, Masked, ZeroCoM
from scidiffuse.core.operators import (
    Blur,
    Composition,
    Downsample,
    Function,
    LinearFunction,
    LinearOperator,
    Mask,
    Matrix,
    Scaled,
    Stack,
    conjugate_gradient,
)


def _g(seed=0):
    return torch.Generator().manual_seed(seed)


def _randn(*shape, seed=0):
    return torch.randn(*shape, generator=_g(seed), dtype=torch.float64)


KERNEL = torch.tensor([[0.0, 0.3, 0.1], [0.2, 0.5, 0.0], [0.1, 0.0, -0.2]])

OPERATORS = {
    "matrix": Matrix(_randn(5, 12), shape=(3, 4)),
    "tall matrix": Matrix(_randn(15, 6)),
    "mask": Mask(_randn(3, 4) > 0),
    "downsample": Downsample((2, 4, 6), 2),
    "downsample 1d": Downsample((2, 6), 3, dims=1),
    "blur": Blur((2, 6, 5), KERNEL),
    "blur 1d": Blur((7,), torch.tensor([0.5, 1.0, -0.25])),
    "composition": Downsample((1, 4, 4), 2) @ Blur((1, 4, 4), KERNEL),
    "scaled": -2.5 * Matrix(_randn(4, 6)),
    "scaled blur": -0.5 * Blur((2, 6, 5), KERNEL),
    "stack": Stack(Mask(_randn(1, 4, 4) > 0), Downsample((1, 4, 4), 2)),
    "function": LinearFunction(lambda x: x.cumsum(1)[:, ::2], shape=(6,)),
    "adjoint": Blur((7,), torch.tensor([0.5, 1.0, -0.25])).T,
}


def _dense(operator: LinearOperator, shape):
    eye = torch.eye(int(torch.tensor(shape).prod()), dtype=torch.float64).reshape(-1, *shape)
    return operator.forward(eye).flatten(1).T


def _shape(name):
    return (7,) if name == "adjoint" else OPERATORS[name].shape


@pytest.mark.parametrize("name", OPERATORS)
def test_adjoint_is_the_transpose(name):
    operator, shape = OPERATORS[name], _shape(name)
    a = _dense(operator, shape)
    y = operator.forward(torch.zeros(1, *shape, dtype=torch.float64))
    v = _randn(3, *y.shape[1:], seed=1)
    expected = (v.flatten(1) @ a).reshape(3, *shape)
    torch.testing.assert_close(operator.adjoint(v), expected)
    torch.testing.assert_close(operator.T(v), expected)
    assert operator.check_adjoint(shape) < 1e-12
    operator.require_adjoint(shape)


@pytest.mark.parametrize("name", OPERATORS)
def test_norm_and_pinv_agree_with_the_dense_matrix(name):
    operator, shape = OPERATORS[name], _shape(name)
    a = _dense(operator, shape)
    assert operator.norm(shape, iterations=500) == pytest.approx(float(torch.linalg.matrix_norm(a, 2)), rel=1e-6)
    y = operator.forward(torch.zeros(1, *shape, dtype=torch.float64))
    v = _randn(3, *y.shape[1:], seed=1)
    expected = (torch.linalg.pinv(a, rtol=1e-10) @ v.flatten(1).T).T.reshape(3, *shape)
    torch.testing.assert_close(operator.pinv(v), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", [n for n, o in OPERATORS.items() if o.svd() is not None])
def test_singular_values_decompose_the_operator(name):
    operator, shape = OPERATORS[name], _shape(name)
    svd = operator.svd()
    x = _randn(2, *shape)
    c = svd.vt(x)
    assert c.shape[1:] == svd.values.shape
    torch.testing.assert_close(svd.u(svd.values * c), operator.forward(x))
    torch.testing.assert_close(svd.vt(svd.v(c)), c)  # columns of V are orthonormal
    torch.testing.assert_close(svd.ut(svd.u(c)), c)
    dense = torch.linalg.svdvals(_dense(operator, shape))
    found = svd.values.flatten().sort(descending=True).values[: len(dense)]
    torch.testing.assert_close(found, dense[: len(found)], rtol=1e-9, atol=1e-9)


def test_check_adjoint_says_by_how_much():
    m = _randn(8, 8)
    shrunk = LinearFunction(lambda x: x @ m.T, shape=(8,), adjoint=lambda v: 0.9 * (v @ m))
    assert shrunk.check_adjoint() == pytest.approx(0.1, rel=1e-6)
    with pytest.raises(ValueError, match=r"not its adjoint.*1.00e-01"):
        shrunk.require_adjoint()
    sign = LinearFunction(lambda x: x @ m.T, shape=(8,), adjoint=lambda v: -(v @ m))
    assert sign.check_adjoint() == pytest.approx(2.0)
    other = LinearFunction(lambda x: x @ m.T, shape=(8,), adjoint=lambda v: v @ m.T)
    assert other.check_adjoint() > 0.05


def test_adjoint_in_a_subspace_projects():
    space = ZeroCoM(torch.ones(1, 4, dtype=torch.bool))
    m = _randn(3, 8)
    operator = Matrix(m, shape=(4, 2))
    assert operator.check_adjoint(space=space) < 1e-12
    padded = Masked(torch.tensor([[True, True, False, True]]))
    assert operator.check_adjoint(space=padded) < 1e-12


def test_complex_measurements_have_a_real_adjoint():
    operator = LinearFunction(lambda x: torch.fft.fft(x)[:, :5], shape=(8,))
    assert operator.check_adjoint() < 1e-12
    y = operator(_randn(2, 8))
    assert operator.count(y).tolist() == [10, 10]
    x = operator.pinv(y)
    torch.testing.assert_close(operator(x), y)


def test_nonlinear_vjp_by_autograd_and_by_hand():
    x, v = _randn(2, 5), _randn(2, 5, seed=1)
    auto = Function(lambda x: x**3)
    hand = Function(lambda x: x**3, vjp=lambda x, v: 3 * x**2 * v)
    assert not auto.linear
    with torch.no_grad():
        torch.testing.assert_close(auto.vjp(x, v), 3 * x**2 * v)
        torch.testing.assert_close(hand.vjp(x, v), 3 * x**2 * v)
    with pytest.raises(ValueError, match="cannot be differentiated"):
        Function(lambda x: torch.zeros(2, 5).double()).vjp(x, v)


def test_one_leaf_of_a_product_state():
    operator = Mask(torch.tensor([True, False, True]), leaf="X")
    x = {"X": _randn(2, 3), "A": _randn(2, 4)}
    torch.testing.assert_close(operator(x), x["X"] * torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="name the measured one"):
        operator.on(None)(x)
    with pytest.raises(ValueError, match="state is one tensor"):
        operator(x["X"])
    assert operator.on(None)(x["X"]).shape == (2, 3)


def test_masks_one_a_sample():
    mask = torch.tensor([[True, False, True], [False, False, True]])
    operator = Mask(mask, batched=True)
    assert operator.svd() is None
    y = operator(torch.ones(2, 3))
    assert operator.count(y).tolist() == [2, 1]
    torch.testing.assert_close(operator.take(torch.tensor([1, 1]))(torch.ones(2, 3)), torch.tensor([[0.0, 0, 1]] * 2))
    assert operator.clean(torch.full((2, 3), torch.nan))[1, 0] == 0


def test_conjugate_gradient_solves_each_sample_on_its_own():
    m = _randn(6, 6)
    spd = m @ m.T + torch.eye(6, dtype=torch.float64)
    b = torch.cat([_randn(2, 6), torch.zeros(1, 6, dtype=torch.float64)])
    x = conjugate_gradient(lambda p: p @ spd, b, iterations=30)
    torch.testing.assert_close(x @ spd, b, rtol=1e-8, atol=1e-10)
    guess = conjugate_gradient(lambda p: p @ spd, b, x=x, iterations=1)
    torch.testing.assert_close(guess, x)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Matrix(torch.ones(3)), ValueError, r"shape \(m, d\)"),
        (lambda: Matrix(torch.ones(3, 4), shape=(5,)), ValueError, "4 columns"),
        (lambda: Mask(torch.ones(3)), TypeError, "boolean"),
        (lambda: Mask(torch.zeros(3, dtype=torch.bool)), ValueError, "sees nothing"),
        (lambda: Downsample((1, 5, 4), 2), ValueError, "not a multiple"),
        (lambda: Blur((3, 3), torch.ones(2, 2)), ValueError, "must be odd"),
        (lambda: Blur((3, 3), torch.ones(5, 5)), ValueError, "does not fit"),
        (lambda: Composition(Function(torch.sin)), TypeError, "linear operators"),
        (lambda: Stack(Matrix(torch.ones(1, 3)), Matrix(torch.ones(1, 4))), ValueError, "same thing"),
        (lambda: Matrix(torch.ones(1, 3))(torch.ones(2, 4)), ValueError, r"shape \(3,\), got \(4,\)"),
        (lambda: Matrix(torch.ones(1, 3)).T.norm(), ValueError, "give shape="),
    ],
)
def test_bad_input_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_repr():
    assert repr(2.0 * Downsample((1, 4, 4), 2)) == "2 * Downsample(shape=(1, 4, 4))"
    assert isinstance(Scaled(Matrix(torch.ones(1, 3)), 2.0), LinearOperator)
    assert Euclidean().elementwise
