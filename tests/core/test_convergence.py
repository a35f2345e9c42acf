"""Every sampler has the order that it promises: measured on a mixture of Gaussians, whose denoiser is exact."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from scidiffuse.core import convergence, convergence_peers, grids
from scidiffuse.core.cli import app
from scidiffuse.core.closed_form import GaussianMixture
from scidiffuse.core.convergence import METHODS, Measurement, Method, Problem, measure, measure_adaptive, problems
from scidiffuse.core.convergence_plot import plot
from scidiffuse.core.denoisers import Denoiser
from scidiffuse.core.sample import sample
from scidiffuse.core.samplers import DDIM, DDPM, DPMSolverPP, LinearSampler
from scidiffuse.core.schedules import CondOT, MeanReverting, Residual, ResidualFrom, Spectral, VPLinear

F64 = torch.float64
PROBLEMS = {problem.name: problem for problem in problems(batch=4)}
NAMED = [  # those that the table must show on every schedule; the variants of these are measured on VP
    "DDIM", "Euler", "Heun", "PNDM", "PLMS", "iPNDM", "BDIA", "BELM", "DPM-Solver++2S", "DPM-Solver++2M", "UniPC-1",
    "DPM-Solver++3S", "DPM-Solver++3M", "DPM-Solver++3M, published", "UniPC-2", "UniPC-3",
]  # fmt: skip
CASES = [(name, m.name) for name in PROBLEMS for m in METHODS if name == "VP" or m.name in NAMED]
BY_NAME = {method.name: method for method in METHODS}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors of a few numbers: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("problem", "method"), CASES, ids=[f"{a}-{b}" for a, b in CASES])
def test_order(problem: str, method: str) -> None:
    row = measure(BY_NAME[method], PROBLEMS[problem], (384, 768))
    assert row.passed, f"promised {row.order}, measured {row.measured:.2f}"
    assert row.measured < row.order + 0.35  # a higher order would be a wrong promise, or a wrong reference


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_plans_state_the_promised_order(method: Method) -> None:
    assert isinstance(method.sampler, LinearSampler)
    assert method.sampler.nominal_order == method.order


def test_a_cold_start_costs_a_third_order_method_its_order() -> None:
    cold = measure(DPMSolverPP(3), PROBLEMS["VE"], (384, 768))
    warm = measure(DPMSolverPP(3, startup="singlestep"), PROBLEMS["VE"], (384, 768))
    assert cold.measured < 2.7 < warm.measured
    assert cold.errors[-1] > 2 * warm.errors[-1]


def test_every_required_name_is_measured() -> None:
    assert set(NAMED) <= set(BY_NAME)
    assert sorted({m.order for m in METHODS}) == [1, 2, 3, 4]
    assert [m.least for m in (METHODS[0], METHODS[-1])] == [0.85, 3.75]


@pytest.mark.parametrize("name", PROBLEMS)
def test_reference_solution_is_the_exact_map_on_gaussian_data(name: str) -> None:
    mean, sd = torch.tensor([[0.7, -0.3]], dtype=F64), 0.6
    base = PROBLEMS[name]
    one = Problem(
        name, base.schedule, base.t_max, base.t_min, GaussianMixture(mean, torch.tensor([sd], dtype=F64)), batch=3
    )
    (a, _, s), (a1, _, s1) = one.levels(one.t_max), one.levels(one.t_min)
    ratio = math.sqrt((a1**2 * sd**2 + s1**2) / (a**2 * sd**2 + s**2))
    torch.testing.assert_close(one.exact, a1 * mean + ratio * (one.start - a * mean), rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", [2, 3])
def test_adaptive_error_falls_with_the_tolerance(order: int) -> None:
    row = measure_adaptive(order, PROBLEMS["conditional OT"], (1e-1, 1e-2, 1e-3, 1e-4))
    assert row.passed
    assert row.errors[-1] < 5e-4 and row.errors[-1] < 0.01 * row.errors[0]
    assert row.calls[0] < row.calls[-1]


# ------------------------------------------------------------------ schedules with a known reference
REFERENCE = torch.tensor([[0.5, -1.0], [2.0, 0.3], [-0.7, 0.1], [0.0, 1.5]], dtype=F64)
RESTORATION = {
    "mean-reverting": Problem(
        "mean-reverting", MeanReverting(theta="constant"), 0.8, 1e-3, batch=4, reference=REFERENCE
    ),
    "mean-reverting, cosine": Problem("cosine", MeanReverting(0.5), 0.8, 2e-2, batch=4, reference=REFERENCE),
    "residual": Problem("residual", Residual(sum_scale=1.0), 0.9, 1e-2, batch=4, reference=REFERENCE),
    "residual from DDIM": Problem("from", ResidualFrom(VPLinear()), 0.95, 1e-3, batch=4, reference=REFERENCE),
}
ON_RESTORATION = [
    "DDIM",
    "Heun",
    "PNDM",
    "BELM",
    "BDIA",
    "DPM-Solver++2M",
    "DPM-Solver-2S",
    "UniPC-2",
    "DPM-Solver++3S",
]


@pytest.mark.parametrize("method", ON_RESTORATION)
@pytest.mark.parametrize("problem", RESTORATION)
def test_order_with_a_reference(problem: str, method: str) -> None:
    row = measure(BY_NAME[method], RESTORATION[problem], (192, 384))
    assert row.passed, f"promised {row.order}, measured {row.measured:.2f}"
    assert row.errors[-1] < 0.05


def test_mrs_first_order_step_is_a_ddim_row() -> None:
    """Y. Li et al. 2025: x_t = (a_t/a_s) x + (1 - a_t/a_s) y - sigma_t (e^h - 1) noise."""
    schedule, s, t = MeanReverting(theta="linear"), 0.7, 0.4
    a, b = schedule.alpha(s), schedule.alpha(t)
    h = schedule.log_snr(t) - schedule.log_snr(s)
    x, n = torch.randn(2, 4, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    denoiser = Denoiser(lambda x, t: n, schedule, "noise")
    ours = sample(denoiser, DDIM(), grids.Grid((s, t)), x=x, reference=REFERENCE, dtype=F64).x
    published = b / a * x + (1 - b / a) * REFERENCE - schedule.sigma(t) * math.expm1(h) * n
    torch.testing.assert_close(ours, published, rtol=1e-12, atol=1e-12)


def test_rddm_step_is_a_ddim_row() -> None:
    """J. Liu et al. 2024: x - (A_t - A_s) R - (B_t - B_s) n, for heads with x = y - (1 - A_t) R + B_t n."""
    schedule, t, s = Residual(), 0.7, 0.4
    n, r = torch.randn(2, 4, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    a_t, a_s, b_t, b_s = schedule.beta(t), schedule.beta(s), schedule.sigma(t), schedule.sigma(s)
    x = REFERENCE - (1 - a_t) * r + b_t * n
    denoiser = Denoiser(lambda x, t: torch.cat([r, n], 1), schedule, "residual")
    ours = sample(denoiser, DDIM(), grids.Grid((t, s)), x=x, reference=REFERENCE, dtype=F64).x
    torch.testing.assert_close(ours, x - (a_t - a_s) * r - (b_t - b_s) * n, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------ one coefficient a frequency
@pytest.mark.parametrize(("sampler", "order"), [(DDIM(), 1), (DPMSolverPP(2, startup="singlestep"), 2)])
def test_order_on_a_spectral_schedule(sampler: LinearSampler, order: int) -> None:
    power = torch.tensor([3.0, 1.2, 0.4, 0.1, 0.02, 0.1, 0.4, 1.2], dtype=F64)
    schedule = Spectral(tuple(power.tolist()), (8,))
    hartley = schedule.basis
    assert hartley is not None

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a, s = schedule.alpha(t), schedule.sigma(t)
        return hartley.inverse(a * power / (a * a * power + s * s) * hartley.forward(x))

    denoiser = Denoiser(network, schedule, "data", label=lambda schedule, t: t)
    x = torch.randn(3, 8, dtype=F64, generator=torch.Generator().manual_seed(0))
    ends = (0.9, 0.05)
    (a, s), (a1, s1) = ((schedule.alpha(t), schedule.sigma(t)) for t in ends)
    ratio = ((a1 * a1 * power + s1 * s1) / (a * a * power + s * s)).sqrt()
    exact = hartley.inverse(ratio * hartley.forward(x))
    errors = []
    for n in (100, 200):
        grid = grids.log_snr(schedule, n, *ends)
        errors.append((sample(denoiser, sampler, grid, x=x, dtype=F64).x - exact).norm().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


# ------------------------------------------------------------------ the table and its writers
def test_a_broken_promise_is_reported() -> None:
    row = measure(Method("too good", DDIM(), 2), PROBLEMS["VP"], (24, 48))
    assert not row.passed and row.measured == pytest.approx(1.0, abs=0.1)
    assert "MISSED on VP" in convergence.text([row])
    adaptive = Measurement("VP", "stuck", (), (1e-2, 1e-2), (5, 9), tolerances=(0.1, 0.01))
    assert not adaptive.passed and "MISSED on VP" in convergence.text([adaptive])


def test_measured_order_counts_any_ratio_of_steps() -> None:
    row = Measurement("VP", "cubic", (10, 30), (27e-3, 1e-3), (10, 30), 3, 2.85)
    assert row.measured == pytest.approx(3.0) and row.passed
    assert math.isnan(Measurement("VP", "one", (10,), (1e-3,), (10,)).measured)


def test_measure_refuses() -> None:
    with pytest.raises(ValueError, match="adds noise"):
        measure(DDPM(), PROBLEMS["VP"], (4, 8))
    with pytest.raises(ValueError, match="steps must increase"):
        measure(DDIM(), PROBLEMS["VP"], (8, 8))
    with pytest.raises(ValueError, match=r"t_max=1\.0"):
        measure(DDIM(), CondOT(), (4, 8), t_max=1.0)
    with pytest.raises(ValueError, match="must decrease"):
        measure_adaptive(2, PROBLEMS["VP"], (1e-3, 1e-2))


def test_numbers_and_picture_are_written(tmp_path: Path) -> None:
    rows = convergence.table((4, 8), METHODS[:1], [PROBLEMS["VP"]], tolerances=(0.5, 0.1))
    whole, flat = convergence.save(rows, tmp_path / "new")
    records = json.loads(whole.read_text())
    assert [r["method"] for r in records] == ["DDIM", "DPM-Solver++12, adaptive", "DPM-Solver++23, adaptive"]
    assert records[0]["errors"] == list(rows[0].errors) and records[0]["measured"] == rows[0].measured
    lines = list(csv.DictReader(flat.open(encoding="utf-8")))
    assert len(lines) == 6 and float(lines[1]["error"]) == rows[0].errors[1]
    pytest.importorskip("matplotlib")
    assert plot(rows, tmp_path / "a.svg", note="nothing").read_text(encoding="utf-8").count("<svg") == 1
    with pytest.raises(ValueError, match="rows is empty"):
        plot([], tmp_path / "b.png")


# ------------------------------------------------------------------ other packages
def test_diffusers_runs_the_same_problem() -> None:
    pytest.importorskip("diffusers")
    rows = {r.method: r for r in convergence_peers.peers((48,), [PROBLEMS["VP"]]) if r.package.startswith("diffusers")}
    ours = measure(DPMSolverPP(2), PROBLEMS["VP"], (48,))
    assert rows["DPM-Solver++2M"].errors[0] == pytest.approx(ours.errors[0], rel=1e-3)
    published = measure(DPMSolverPP(3, compat="published"), PROBLEMS["VP"], (48,))
    assert rows["DPM-Solver++3M"].errors[0] == pytest.approx(published.errors[0], rel=1e-2)


def test_absent_peers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convergence_peers.importlib.util, "find_spec", lambda name: None)
    assert convergence_peers.absent() == convergence_peers.PEERS
    assert convergence_peers.peers((4, 8)) == []


# ------------------------------------------------------------------ scidiffuse core convergence
@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    table = convergence.table

    def small(steps: object, **options: object) -> list[Measurement]:
        return table(steps, METHODS[:1], options["on"], tolerances=())  # type: ignore[arg-type]

    monkeypatch.setattr(convergence, "table", small)


@pytest.mark.usefixtures("few")
def test_command_prints_and_writes(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["convergence", "--out", str(tmp_path / "c"), "--steps=48,96", "--no-peers"])
    assert done.exit_code == 0, done.output
    assert "DDIM" in done.output and "MISSED" not in done.output
    assert {"convergence.json", "convergence.csv"} <= {path.name for path in (tmp_path / "c").iterdir()}


@pytest.mark.usefixtures("few")
def test_command_fails_where_a_promise_is_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Method, "least", 1.5)
    done = CliRunner().invoke(app, ["convergence", "--out", str(tmp_path), "--steps=48,96", "--no-peers"])
    assert done.exit_code == 1
    assert "missed: DDIM on VP, DDIM on VE" in done.output


@pytest.mark.parametrize("steps", ["8", "8,4", "1,2", "a,b", "4,4"])
def test_command_refuses_steps(tmp_path: Path, steps: str) -> None:
    done = CliRunner().invoke(app, ["convergence", "--out", str(tmp_path), f"--steps={steps}"])
    assert done.exit_code == 2 and "--steps" in done.output
