"""The denoising loss: closed forms on Gaussian data, masks, spaces, and what is refused."""

import math

import pytest
import torch
from torch import nn

from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.schedules import CondOT, ProductSchedule, VPLinear
from scidiffuse.core.spaces import Graph, Masked, Product, ZeroCoM
from scidiffuse.core.training import (
    Keys,
    MinSNR,
    Objective,
    PerElement,
    Streamed,
    Uniform,
    UniformNoise,
    denoising_loss,
)

SCHEDULE = VPLinear()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


class Echo(nn.Module):
    """Says a fixed thing about any state."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, t, **condition):
        return self.function(x, t, **condition)


@pytest.mark.parametrize("schedule", [VPLinear(), CondOT()])
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["noise", "data", "velocity", "flow"])
def test_optimal_denoiser_of_a_gaussian_has_the_known_loss(schedule, t, kind):
    """x0 ~ N(m, c^2): the target r = p x0 + q n + const has variance p^2 c^2 + q^2, of which x explains its share."""
    m, c, n = 0.7, 1.6, 40000
    a, s = schedule.alpha(t), schedule.sigma(t)
    da, _, ds = schedule.derivatives(t)
    p, q = {"noise": (0.0, 1.0), "data": (1.0, 0.0), "velocity": (-s, a), "flow": (da, ds)}[kind]
    v, cov = a * a * c * c + s * s, p * a * c * c + q * s
    left = p * p * c * c + q * q - cov * cov / v
    denoiser = Denoiser(lambda x, _: p * m + cov / v * (x - a * m), schedule, kind)
    x0 = m + c * randn(n, 2)
    time = torch.full((n,), t, dtype=torch.float64)
    losses = denoising_loss(denoiser, x0, time, noise=Streamed(generator(1)), reduction="none")
    mean, error = float(losses.mean()), float(losses.std()) / math.sqrt(n)
    assert abs(mean - left) < 4 * error + 1e-12
    assert error < 0.02 * left  # the check has teeth


@pytest.mark.parametrize("kind", ["noise", "data", "velocity", "flow", "edm"])
def test_perfect_network_has_no_loss(kind):
    x0, n, t = randn(6, 3), randn(6, 3, seed=1), torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    denoiser = Denoiser(None, SCHEDULE, kind)
    target = denoiser.target(x0, n, t)
    denoiser.network = lambda x, label: target + 0.5
    assert torch.allclose(denoising_loss(denoiser, x0, t, noise=n, reduction="none"), torch.full((6,), 0.25).double())


def test_schedule_in_another_basis_takes_data_as_they_are():
    from scidiffuse.core.schedules import Spectral

    x0, t = randn(6, 16), torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
    schedule = Spectral.from_data(randn(500, 16, seed=3).cumsum(1) / 3)
    basis = schedule.basis
    n, seen = randn(6, 16, seed=1), {}
    denoiser = Denoiser(None, schedule, "data")

    def network(x, label):
        seen["x"] = x
        return x0 + basis.inverse(torch.full_like(x0, 0.5))

    denoiser.network = network
    each = denoising_loss(denoiser, x0, t, noise=n, reduction="none")
    assert torch.allclose(each, torch.full((6,), 0.25).double())
    expected = basis.inverse(schedule.alpha(t) * basis.forward(x0) + schedule.sigma(t) * n)
    assert torch.allclose(seen["x"], expected)
    weighted = denoising_loss(denoiser, x0, t, noise=n, weighting=MinSNR(), reduction="none")
    assert torch.allclose(weighted, 0.25 * MinSNR()(schedule.log_snr(t)).mean(1))


def test_mean_is_of_samples_and_the_distance_is_free():
    x0, n, t = randn(4, 3), randn(4, 3, seed=1), torch.rand(4, generator=generator())
    denoiser = Denoiser(lambda x, label: torch.zeros_like(x), SCHEDULE)
    each = denoising_loss(denoiser, x0, t, noise=n, reduction="none")
    assert torch.allclose(each, n.square().mean(1))
    assert torch.allclose(denoising_loss(denoiser, x0, t, noise=n), each.mean())
    assert torch.allclose(denoising_loss(denoiser, x0, t, noise=n, distance=torch.abs), n.abs().mean())


def test_loss_mask_counts_its_elements_sample_by_sample():
    x0, n, t = randn(2, 4), randn(2, 4, seed=1), torch.rand(2, generator=generator())
    mask = torch.tensor([[True, False, False, False], [True, True, True, False]])
    denoiser = Denoiser(lambda x, label: torch.zeros_like(x), SCHEDULE)
    each = denoising_loss(denoiser, x0, t, noise=n, mask=mask, reduction="none")
    assert torch.allclose(each, torch.stack([n[0, 0] ** 2, n[1, :3].square().mean()]))


def test_padding_changes_nothing():
    """Noise, times and loss of a sample are the same however long it is padded and whatever it is batched with."""
    short = randn(1, 3, 2).float()
    long = torch.cat([short, torch.full((1, 4, 2), 9.0)], 1)
    both = torch.cat([randn(1, 7, 2, seed=5).float(), long])
    network = Echo(lambda x, t: torch.where(x.abs() > 0, torch.sin(x), 7.0))

    def loss(x, mask, indices):
        objective = Objective(weighting=MinSNR(), space=lambda batch: Masked(batch["nodes"]))
        return objective(Denoiser(network, SCHEDULE), {"x": x, "nodes": mask}, Keys.of(0, 2, indices))

    real = torch.tensor([[True] * 3 + [False] * 4])
    alone = loss(short, real[:, :3], [8])
    assert torch.allclose(loss(long, real, [8]), alone, rtol=1e-6)
    assert torch.allclose(
        loss(both, torch.cat([torch.ones(1, 7, dtype=torch.bool), real]), [3, 8])[1:], alone, rtol=1e-6
    )
    assert not torch.allclose(loss(short, real[:, :3], [9]), alone, rtol=1e-3)


def test_zero_centre_of_mass_ignores_what_leaves_the_space():
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    x0, t = randn(2, 4, 3), torch.tensor([0.3, 0.6])
    noise = Streamed(generator(1))
    say = {"shift": 0.0}
    denoiser = Denoiser(lambda x, label: torch.tanh(x) + say["shift"], SCHEDULE, space=ZeroCoM(mask))
    plain = denoising_loss(denoiser, x0, t, noise=noise, reduction="none")
    say["shift"] = 100.0
    shifted = denoising_loss(denoiser, x0 + 5, t, noise=Streamed(generator(1)), reduction="none")
    assert torch.allclose(plain, shifted, rtol=1e-9)


@pytest.mark.parametrize(
    ("space", "shape"),
    [
        (lambda n: ZeroCoM(torch.tensor([[True] * 5 + [False] * 2]).expand(n, 7)), (7, 3)),
        (lambda n: Graph(torch.tensor([[True] * 5 + [False] * 2]).expand(n, 7)), (7, 7)),
        (lambda n: Masked(torch.tensor([[True] * 5 + [False] * 2]).expand(n, 7)), (7, 2)),
    ],
)
def test_saying_nothing_about_the_noise_costs_one(space, shape):
    """The loss is a mean over the degrees of freedom: a zero network loses the noise's unit variance in every space."""
    n = 4000
    denoiser = Denoiser(lambda x, label: torch.zeros_like(x), SCHEDULE, space=space(n))
    t = torch.full((n,), 0.5, dtype=torch.float64)
    each = denoising_loss(denoiser, torch.zeros(n, *shape).double(), t, noise=Streamed(generator()), reduction="none")
    assert abs(float(each.mean()) - 1) < 4 * float(each.std()) / math.sqrt(n)


def test_product_states_add_their_leaves():
    mask = torch.tensor([[True] * 3, [True, True, False]])
    x0 = {"X": randn(2, 3, 2), "A": randn(2, 3, 3, seed=3)}
    schedule = ProductSchedule(X=VPLinear(), A=CondOT(), clock="X")
    space = Product(X=Masked(mask), A=Graph(mask))
    t = torch.tensor([0.3, 0.6], dtype=torch.float64)

    def network(x, label):
        return {name: torch.sin(leaf) for name, leaf in x.items()}

    denoiser = Denoiser(network, schedule, {"X": "noise", "A": "flow"}, space)
    keys = Keys.of(0, 0, [4, 5])
    total = denoising_loss(denoiser, x0, t, noise=keys.noise, reduction="none", leaf_weights={"X": 1.0, "A": 3.0})
    parts = [
        denoising_loss(denoiser, x0, t, noise=keys.noise, reduction="none", leaf_weights={"X": x, "A": a})
        for x, a in ((1.0, 0.0), (0.0, 1.0))
    ]
    assert torch.allclose(total, parts[0] + 3 * parts[1])
    alone = Denoiser(lambda x, label: torch.sin(x), VPLinear(), "noise", Masked(mask))
    noise = space.randn(keys.noise, x0, 0, "noise")["X"]
    assert torch.allclose(parts[0], denoising_loss(alone, x0["X"], t, noise=noise, reduction="none"))
    with pytest.raises(ValueError, match=r"leaf_weights names \['X'\]"):
        denoising_loss(denoiser, x0, t, noise=keys.noise, leaf_weights={"X": 1.0})


def test_residual_networks_are_trained_on_both_heads():
    from scidiffuse.core.schedules import Residual

    x0, y, n = randn(3, 2, 4), randn(3, 2, 4, seed=1), randn(3, 2, 4, seed=2)
    mask = torch.tensor([[True, False]]).expand(3, 2)
    denoiser = Denoiser(lambda x, label: torch.zeros(3, 4, 4).double(), Residual(), "residual", Masked(mask))
    each = denoising_loss(denoiser, x0, torch.tensor([0.2, 0.5, 0.8]), noise=n, reference=y, reduction="none")
    assert torch.allclose(each, ((y - x0)[:, 0].square().mean(1) + n[:, 0].square().mean(1)) / 2)


def test_known_elements_are_seen_clean_and_do_not_count():
    x0, n = randn(2, 4, 3), randn(2, 4, 3, seed=1)
    known = torch.tensor([[True, True, False, False], [False, True, False, True]])
    seen = {}

    def network(x, label):
        seen.update(x=x, label=label)
        return torch.zeros_like(x)

    t = torch.tensor([0.4, 0.7], dtype=torch.float64)
    denoiser = Denoiser(network, SCHEDULE)
    each = denoising_loss(denoiser, x0, t, noise=n, known=known, weighting=UniformNoise(), reduction="none")
    assert torch.equal(seen["x"][known], x0[known]) and bool((seen["label"][known] == 0).all())
    assert not torch.isclose(seen["x"][~known], x0[~known]).any()
    assert torch.allclose(each, (n.square().mean(2) * ~known).sum(1) / (~known).sum(1))


def test_objective_times_and_conditions():
    seen = {}

    def network(x, label, group, text):
        seen.update(label=label, group=group, text=text)
        return x

    network = Echo(network)
    n = 2000
    batch = {"x": randn(n, 2), "condition": {"group": torch.arange(n) % 5, "text": randn(n, 8)}}
    keys = Keys.of(3, 1, range(n))
    objective = Objective(times=Uniform(0.25, 0.5), dropout=0.2, null={"group": 5}, cep={"text": 1.0})
    objective(Denoiser(network, SCHEDULE), batch, keys)
    assert torch.allclose(seen["label"], 1000 * Uniform(0.25, 0.5).times(keys.uniforms("time")))
    rate = float((seen["group"] == 5).double().mean())
    assert abs(rate - 0.2) < 4 * math.sqrt(0.16 / n)
    assert torch.equal(seen["group"][seen["group"] < 5], batch["condition"]["group"][seen["group"] < 5])
    change = (seen["text"] - batch["condition"]["text"]).square().sum(1)
    assert abs(float(change.mean()) - 1.0) < 4 * math.sqrt(2 / 8 / n)
    before = {name: value.clone() for name, value in seen.items()}
    objective(Denoiser(network, SCHEDULE), batch, keys)
    assert all(torch.equal(before[name], seen[name]) for name in before)
    objective(Denoiser(network, SCHEDULE), batch, keys, training=False)
    assert torch.equal(seen["group"], batch["condition"]["group"]) and torch.equal(
        seen["text"], batch["condition"]["text"]
    )


def test_a_plain_loop_trains():
    """The ten lines of the module's docstring reach the known optimum of Gaussian data."""
    data, g = 0.5 * torch.randn(512, 1, generator=generator()), generator(1)
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 1))

        def forward(self, x, label):
            t = label[:, None] / 1000
            return self.body(torch.cat([x, t, t * x], 1))

    denoiser = Denoiser(Net(), SCHEDULE)
    optimizer = torch.optim.Adam(denoiser.network.parameters(), lr=1e-2)
    for _ in range(300):
        x0 = data[torch.randint(len(data), (128,), generator=g)]
        t = Uniform(0.02).draw((128,), g)
        loss = denoising_loss(denoiser, x0, t, noise=Streamed(g))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    t = torch.linspace(0.02, 1, 2000, dtype=torch.float64)
    a, s = SCHEDULE.alpha(t), SCHEDULE.sigma(t)
    optimum = float((a * a * 0.25 / (a * a * 0.25 + s * s)).mean())
    with torch.no_grad():
        final = float(denoising_loss(denoiser, data.repeat(8, 1)[:2000], t, noise=Streamed(g)))
    assert final < optimum + 0.06 and final > optimum - 0.03


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"t": torch.tensor([1, 2])}, TypeError, "floating-point"),
        ({"t": 0.5}, TypeError, "got float"),
        ({"t": torch.rand(3)}, ValueError, r"B = 2, got \(3,\)"),
        ({"t": torch.rand(2, 7)}, ValueError, r"\(2, 4\), got \(2, 7\)"),
        ({"mask": torch.ones(2, 4)}, TypeError, "boolean"),
        ({"mask": torch.ones(2, 3, dtype=torch.bool)}, ValueError, "does not fit"),
        ({"reduction": "sum"}, ValueError, "'sum'"),
    ],
)
def test_bad_arguments(change, error, match):
    denoiser = Denoiser(lambda x, label: x, SCHEDULE)
    arguments = {"x0": torch.zeros(2, 4), "t": torch.tensor([0.1, 0.2]), "noise": torch.zeros(2, 4)} | change
    with pytest.raises(error, match=match):
        denoising_loss(denoiser, **arguments)


def test_spaces_that_refuse():
    mask = torch.ones(2, 4, dtype=torch.bool)
    denoiser = Denoiser(lambda x, label: x, SCHEDULE, space=ZeroCoM(mask))
    x0, n = torch.zeros(2, 4, 3), torch.zeros(2, 4, 3)
    with pytest.raises(ValueError, match="one time a sample"):
        denoising_loss(denoiser, x0, torch.rand(2, 4), noise=n)
    with pytest.raises(ValueError, match="leaves its space"):
        denoising_loss(denoiser, x0, torch.rand(2), noise=n, mask=mask)


@pytest.mark.parametrize(
    ("batch", "error", "match"),
    [
        ({"y": torch.zeros(2, 3)}, ValueError, "needs 'x'"),
        ({"x": torch.zeros(2, 3), "conditions": {}}, ValueError, r"\['conditions'\] too"),
        ({"x": torch.zeros(2, 3), "condition": {"label": torch.zeros(2)}}, ValueError, "'label' means something else"),
        ({"x": torch.zeros(2, 3, dtype=torch.long)}, TypeError, "floating point"),
        ({"x": torch.zeros(3, 3)}, ValueError, "3 samples, there are 2 keys"),
        ("x", TypeError, "got str"),
    ],
)
def test_bad_batches(batch, error, match):
    with pytest.raises(error, match=match):
        Objective()(Denoiser(Echo(lambda x, t, **c: x), SCHEDULE), batch, Keys.of(0, 0, [0, 1]))


def test_per_element_times_need_elements():
    with pytest.raises(ValueError, match=r"\(B, L, \.\.\.\)"):
        Objective(times=PerElement())(Denoiser(Echo(lambda x, t: x), SCHEDULE), torch.zeros(2), Keys.of(0, 0, [0, 1]))
