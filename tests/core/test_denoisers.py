"""Every kind of prediction against every other: one state, one truth, all conversions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.schedules import (
    EDM,
    GVP,
    VE,
    CondOT,
    DiscreteBetas,
    KineticOptimal,
    MeanReverting,
    PFGMpp,
    ProductSchedule,
    Residual,
    Spectral,
    SubVP,
    VPCosine,
    VPLinear,
)
from scidiffuse.core.spaces import Masked, ZeroCoM

SCHEDULES = {
    "vp_linear": VPLinear(), "vp_cosine": VPCosine(), "betas": DiscreteBetas.linear(), "sub_vp": SubVP(), "ve": VE(),
    "edm": EDM(), "cond_ot": CondOT(), "shifted": CondOT(shift=3.0), "gvp": GVP(), "mean_reverting": MeanReverting(),
    "residual": Residual(), "residual_from": Residual.from_ddim(VPLinear()), "pfgmpp": PFGMpp(D=16),
    "kinetic": KineticOptimal.from_separation([0.1, 0.3, 1.0, 3.0, 10.0], [0.02, 0.2, 0.8, 0.98, 0.999]),
    "spectral": Spectral((4.0, 1.0, 0.2, 1.0), (1, 4)),
}  # fmt: skip
KINDS = ["noise", "data", "velocity", "flow", "edm", "residual"]
TIMES = {
    "float": 0.37,
    "()": torch.tensor(0.37, dtype=torch.float64),
    "(B,)": torch.tensor([0.02, 0.37, 0.93], dtype=torch.float64),
    "(B, L)": torch.tensor([[0.02, 0.3], [0.37, 0.6], [0.93, 0.5]], dtype=torch.float64),
}

REFERENCE = ("mean_reverting", "residual", "residual_from")
CASES = [
    pytest.param(name, kind, t, id=f"{name}-{kind}-{label}")
    for name in SCHEDULES
    for kind in KINDS
    for label, t in TIMES.items()
    if not (kind == "residual" and name not in REFERENCE) and not (name == "spectral" and label == "(B, L)")
]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def constant(raw: object) -> object:
    return lambda x, t, **condition: raw


def coefficient(c: object, like: Tensor) -> Tensor:
    c = torch.as_tensor(c, dtype=torch.float64)
    return c if c.ndim in (0, like.ndim) else c.reshape(*c.shape, *[1] * (like.ndim - c.ndim))


@pytest.mark.parametrize(("name", "kind", "t"), CASES)
def test_every_kind_returns_what_the_state_was_made_of(name: str, kind: str, t: object) -> None:
    schedule, x0, n = SCHEDULES[name], normal(3, 2, 4), normal(3, 2, 4, seed=1)
    basis = schedule.basis
    y = normal(3, 2, 4, seed=2) if name in REFERENCE else None
    maker = Denoiser(None, schedule, kind, sigma_data=0.7)
    x, raw = maker.add_noise(x0, n, t, y), maker.target(x0, n, t, y)
    pred = Denoiser(constant(raw if basis is None else basis.inverse(raw)), schedule, kind, sigma_data=0.7)(
        x, t, reference=y
    )
    scale = float(torch.as_tensor(schedule.kappa(0.93)).max()) if kind == "noise" else 1.0
    torch.testing.assert_close(pred.data, x0, rtol=1e-10, atol=1e-11 * max(scale, 1.0))
    floor = 1e-11 / float(torch.as_tensor(schedule.sigma(0.02)).min())
    torch.testing.assert_close(pred.noise, n, rtol=1e-10, atol=floor)
    a, b, s = (coefficient(c, x0) for c in schedule.derivatives(t))
    torch.testing.assert_close(
        pred.velocity, a * x0 + s * n + (0.0 if y is None else b * y), rtol=1e-9, atol=1e-8 * scale
    )
    if schedule.family == "gaussian":
        torch.testing.assert_close(pred.score, -n / coefficient(schedule.sigma(t), n), rtol=1e-9, atol=floor * 1e3)
    else:
        with pytest.raises(ValueError, match="Student-t"):
            _ = pred.score


@pytest.mark.parametrize("kind", ["noise", "velocity", "edm", "flow"])
@pytest.mark.parametrize("schedule", [EDM(), VE(), CondOT()], ids=repr)
def test_noise_at_tiny_sigma_does_not_cancel_in_float32(schedule: object, kind: str) -> None:
    t = schedule.time_of_kappa(0.002)
    x0, n = normal(4, 5) * 2, normal(4, 5, seed=1)
    wide = Denoiser(None, schedule, kind)
    x, raw = wide.add_noise(x0, n, t), wide.target(x0, n, t)
    pred = Denoiser(constant(raw.float()), schedule, kind)(x.float(), t)
    exact = Denoiser(constant(raw.float().double()), schedule, kind)(x.float().double(), t)
    assert pred.noise.dtype == torch.float32
    assert (pred.noise - exact.noise).abs().max() < 3e-6
    derived = wide.noise_of(x.float(), pred.data, t)  # by way of the data it is lost
    assert (derived - exact.noise).abs().max() > 3e-5


def test_edm_where_alpha_is_not_one() -> None:
    """The input has unit variance for data of standard deviation sigma_data, whatever alpha is."""
    seen, schedule = [], VPLinear()
    x0, n = 0.5 * normal(20000, 1), normal(20000, 1, seed=1)
    denoiser = Denoiser(lambda x, t: seen.append((x, t)) or x, schedule, "edm", sigma_data=0.5)
    for t in (0.05, 0.5, 0.95):
        denoiser(denoiser.add_noise(x0, n, t), t)
        assert abs(seen[-1][0].std() - 1.0) < 0.02
        assert seen[-1][1][0] == pytest.approx(math.log(schedule.kappa(t)) / 4)
    target = denoiser.target(x0, n, 0.5)
    assert abs(target.std() - 1.0) < 0.02


@pytest.mark.parametrize("noise", ["keep", "rederive"])
def test_with_data_keeps_or_rederives_the_noise(noise: str) -> None:
    schedule, y = MeanReverting(), normal(3, 4, seed=5)
    pred = Denoiser(constant(normal(3, 4, seed=1)), schedule, "velocity")(normal(3, 4), 0.4, reference=y)
    new = pred.with_data(pred.data + 1.0, noise=noise)
    x = schedule.alpha(0.4) * new.data + schedule.beta(0.4) * y + schedule.sigma(0.4) * new.noise
    if noise == "keep":
        assert torch.equal(new.noise, pred.noise)
        torch.testing.assert_close(x, pred.x + schedule.alpha(0.4))
    else:
        torch.testing.assert_close(x, pred.x)
    with pytest.raises(ValueError, match="'other'"):
        pred.with_data(pred.data, noise="other")


def test_noise_of_the_clean_state_is_zero() -> None:
    denoiser, x = Denoiser(None, VPLinear(), "data"), normal(2, 3)
    assert (denoiser.noise_of(x, x + 1.0, 0.0) == 0).all()
    t = torch.tensor([0.0, 0.5], dtype=torch.float64)
    noise = denoiser.noise_of(x, 0 * x, t)
    assert (noise[0] == 0).all() and torch.allclose(noise[1], x[1] / VPLinear().sigma(0.5))


def test_labels() -> None:
    seen = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return x

    def label(schedule: object, t: object, **more: object) -> Tensor:
        Denoiser(network, schedule, **more)(torch.zeros(2, 3, dtype=torch.float64), t)
        return seen[-1]

    betas, t = DiscreteBetas.linear(), torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], dtype=torch.float64)
    assert label(VPLinear(), 0.25).tolist() == [250.0, 250.0]
    assert label(betas, 0.25).tolist() == [249.0, 249.0]
    assert label(betas, 0.25, label="time").tolist() == [250.0, 250.0]
    assert label(EDM(), 0.5, prediction="edm").tolist() == [math.log(40.0) / 4] * 2
    assert label(VPLinear(), 0.5, label="log_sigma")[0] == pytest.approx(math.log(VPLinear().kappa(0.5)) / 4)
    assert label(VPLinear(), 0.5, label=lambda s, t: s.sigma(t))[0] == VPLinear().sigma(0.5)
    torch.testing.assert_close(label(VPLinear(), t), 1000 * t)
    torch.testing.assert_close(label(betas, t[:, 0]), 1000 * t[:, 0] - 1)
    product = ProductSchedule(X=betas, A=VPLinear(), clock="X")
    Denoiser(lambda x, t: seen.append(t) or x, product, "data")({"X": torch.zeros(2, 1), "A": torch.zeros(2, 4)}, 0.25)
    assert seen[-1].tolist() == [249.0, 249.0]
    given = torch.tensor([7.0, 8.0])
    Denoiser(network, VPLinear())(torch.zeros(2, 3), 0.5, label=given)
    assert seen[-1] is given
    with pytest.raises(ValueError, match='label="index" needs a DiscreteBetas'):
        label(VPLinear(), 0.5, label="index")
    with pytest.raises(ValueError, match="'step'"):
        Denoiser(network, VPLinear(), label="step")


def test_a_network_that_writes_into_its_label_harms_nobody() -> None:
    seen = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t.clone())
        t.mul_(0.5)
        return x

    denoiser = Denoiser(network, VPLinear())
    for _ in range(3):
        denoiser(torch.zeros(2, 1), 0.5)
    assert [t[0].item() for t in seen] == [500.0] * 3


def test_product_states_have_a_kind_a_leaf() -> None:
    schedule = ProductSchedule(X=VPLinear(), A=EDM(), r=MeanReverting(), clock="X")
    kinds = {"X": "noise", "A": "edm", "r": "residual"}
    x0, n, y = ({k: normal(3, 2, seed=s + j) for j, k in enumerate(kinds)} for s in (0, 10, 20))
    for t in (0.4, torch.tensor([0.2, 0.4, 0.8], dtype=torch.float64)):
        maker = Denoiser(None, schedule, kinds)
        raw = maker.target(x0, n, t, y)
        assert raw["r"].shape == (3, 4)
        pred = Denoiser(constant(raw), schedule, kinds)(maker.add_noise(x0, n, t, y), t, reference=y)
        for name in kinds:
            torch.testing.assert_close(pred.data[name], x0[name], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(pred.noise[name], n[name], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(pred.score["X"], -n["X"] / coefficient(schedule.leaves["X"].sigma(t), n["X"]))


def test_take_takes_times_references_parts_and_masks() -> None:
    mask = torch.tensor([[True, True, True], [True, True, False]])
    denoiser = Denoiser(constant(normal(2, 3, 2, seed=1)), MeanReverting(), "noise", ZeroCoM(mask))
    t = torch.tensor([0.3, 0.7], dtype=torch.float64)
    y = denoiser.space.project(normal(2, 3, 2, seed=3))
    pred = denoiser(normal(2, 3, 2), t, reference=y)
    index = torch.tensor([1, 1, 0])
    taken = pred.take(index)
    torch.testing.assert_close(taken.data, pred.data[index])
    torch.testing.assert_close(taken.velocity, pred.velocity[index])
    assert torch.equal(taken.t, t[index]) and taken.denoiser.space.mask.shape[0] == 3
    edited = pred.with_data(pred.data + 1.0, noise="keep").take(slice(1, 2))
    torch.testing.assert_close(edited.data, pred.data[1:] + 1.0)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_networks_keep_the_state(half: torch.dtype) -> None:
    seen, linear = [], torch.nn.Linear(4, 4)

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append((x.dtype, linear(x).dtype))
        return linear(x)

    denoiser, x = Denoiser(network, VPLinear(), "data"), normal(2, 4).float()
    with torch.no_grad():
        pred, full = denoiser.in_half(half)(x, 0.5), denoiser(x, 0.5)
    assert seen == [(torch.float32, half), (torch.float32, torch.float32)]
    assert pred.data.dtype == pred.noise.dtype == torch.float32
    assert 0.0 < (pred.data - full.data).abs().max() < 2e-2
    own = Denoiser(lambda x, t: (2 * x).to(half), VPLinear(), "noise")(x, 0.5)  # a network of its own precision
    assert own.raw.dtype == own.data.dtype == torch.float32


def test_spaces_are_enforced_on_every_prediction() -> None:
    space = Masked(torch.tensor([[True, False], [True, True]]))
    for kind in ("noise", "data", "velocity", "flow"):
        pred = Denoiser(constant(1.0 + normal(2, 2).abs()), CondOT(), kind, space)(
            space.project(normal(2, 2, seed=1)), 0.5
        )
        for value in (pred.velocity, pred.data, pred.noise, pred.score):
            assert value[0, 1] == 0.0 and value[1, 1] != 0.0


@pytest.mark.parametrize("schedule", [VPLinear(), VE(), CondOT(), Residual(spread="decreased")], ids=repr)
@pytest.mark.parametrize("kind", ["data", "noise", "velocity", "flow", "edm"])
def test_clean_elements_among_noisy_ones_stay_finite(schedule: object, kind: str) -> None:
    """t = 0 for some elements (known frames): their data are what the state says, their neighbours are untouched."""
    x, raw = normal(2, 3, 2), normal(2, 3, 2, seed=1)
    t = torch.tensor([[0.0, 0.4, 0.0], [0.2, 0.0, 0.9]], dtype=torch.float64)
    pred = Denoiser(constant(raw), schedule, kind)(x, t)
    plain = Denoiser(constant(raw), schedule, kind)(x, t.clamp_min(0.2))
    assert torch.isfinite(pred.data).all() and torch.isfinite(pred.noise).all()
    for k, j in ((0, 1), (1, 0), (1, 2)):
        torch.testing.assert_close(pred.data[k, j], plain.data[k, j])
        torch.testing.assert_close(pred.noise[k, j], plain.noise[k, j])
    if kind != "data":
        torch.testing.assert_close(pred.data[t == 0], x[t == 0])


@pytest.mark.parametrize(
    ("t", "error", "message"),
    [
        (1.5, ValueError, "1.5"), (-0.1, ValueError, "-0.1"), (500, ValueError, r"500.*\(i \+ 1\) / T"),
        (True, TypeError, "bool"), ("now", TypeError, "str"), (torch.tensor([3, 4]), TypeError, "int64"),
        (torch.tensor([0.1, 1.7]), ValueError, "1.7"), (torch.tensor(2.0), ValueError, "2.0"),
        (torch.tensor([0.1, math.nan]), ValueError, "nan"), (torch.rand(3), ValueError, r"\(2, 4\), got \(3,\)"),
        (torch.rand(2, 3), ValueError, r"got \(2, 3\)"), (torch.rand(2, 4, 1), ValueError, r"got \(2, 4, 1\)"),
    ],
)  # fmt: skip
def test_times_that_are_no_times(t: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Denoiser(lambda x, t: x, VPLinear())(torch.zeros(2, 4), t)


def test_noise_says_nothing_about_data_where_there_is_none() -> None:
    x = normal(2, 3)
    for t in (1.0, torch.tensor([0.5, 1.0], dtype=torch.float64)):
        with pytest.raises(ValueError, match=r"alpha = 0.*data, velocity or flow"):
            _ = Denoiser(constant(x), CondOT(), "noise")(x, t).data
        for kind in ("data", "velocity", "flow"):
            assert torch.isfinite(Denoiser(constant(x), CondOT(), kind)(x, t).data).all()
    with pytest.raises(ValueError, match="sigma = 0"):
        _ = Denoiser(constant(x), CondOT(), "data")(x, 0.0).noise
    with pytest.raises(ValueError, match=r"score is not defined at t=0.0"):
        _ = Denoiser(constant(x), CondOT(), "noise")(x, 0.0).score


@pytest.mark.parametrize(
    ("raw", "kind", "message"),
    [
        (torch.zeros(2, 5), "noise", r"\(2, 4\), got \(2, 5\)"), (torch.zeros(4), "data", r"got \(4,\)"),
        ("text", "noise", "got str"), (torch.zeros(2, 4), "residual", r"two heads.*\(2, 8\), got \(2, 4\)"),
        (torch.zeros(2, 6), "residual", r"\(2, 8\), got \(2, 6\)"),
    ],
)  # fmt: skip
def test_outputs_of_a_wrong_shape(raw: object, kind: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _ = Denoiser(constant(raw), Residual(), kind)(torch.zeros(2, 4), 0.5).data


def test_other_refusals() -> None:
    product = Denoiser(lambda x, t: {"X": x["X"][:, :1]}, ProductSchedule(X=VPLinear(), clock="X"), "data")
    with pytest.raises(ValueError, match=r"leaf 'X'.*\(2, 4\), got \(2, 1\)"):
        product({"X": torch.zeros(2, 4)}, 0.5)
    with pytest.raises(ValueError, match=r"leaves \['X'\], got Tensor"):
        Denoiser(lambda x, t: x["X"], VPLinear(), "data")({"X": torch.zeros(2, 4)}, 0.5)
    with pytest.raises(ValueError, match=r"sigma_data.*got -0\.5"):
        Denoiser(None, EDM(), "edm", sigma_data=-0.5)
    continuous = Denoiser(constant(torch.zeros(2, 4)), VPLinear())
    for label, came in ((torch.zeros(3), r"\(2, 4\), got \(3,\)"), (torch.zeros(()), r"got \(\)"), (0.5, "got float")):
        with pytest.raises(ValueError, match=f"label.*{came}"):
            continuous(torch.zeros(2, 4), 0.5, label=label)
    with pytest.raises(TypeError, match=r"continuous label \('time'\).*int64"):
        continuous(torch.zeros(2, 4), 0.5, label=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"'score'.*noise, data, velocity"):
        Denoiser(None, VPLinear(), "score")
    with pytest.raises(ValueError, match=r"alpha \+ beta = 1.*VPLinear"):
        Denoiser(None, VPLinear(), "residual")
    with pytest.raises(ValueError, match="reference"):
        Denoiser(None, Residual(), "residual").target(torch.zeros(2, 4), torch.zeros(2, 4), 0.5)


def test_integer_labels_for_networks_with_a_table() -> None:
    schedule = DiscreteBetas.linear(1e-4, 0.02, 10)
    table = torch.nn.Embedding(10, 3).requires_grad_(False)
    denoiser = Denoiser(lambda x, index: x + table(index), schedule, label="integer")
    x = torch.zeros(2, 3)
    torch.testing.assert_close(denoiser(x, 0.4).raw, table(torch.tensor([3, 3])))
    torch.testing.assert_close(denoiser(x, torch.tensor([0.1, 1.0])).raw, table(torch.tensor([0, 9])))
    with pytest.raises(ValueError, match=r"whole indices 0\.\.9, got 2\.5 between"):
        denoiser(x, 0.35)
    with pytest.raises(ValueError, match="needs a DiscreteBetas schedule"):
        Denoiser(lambda x, index: x, VPLinear(), label="integer")(x, 0.5)
