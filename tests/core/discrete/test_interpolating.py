"""Processes: rows sum to one, the chain composes, posteriors and rates are those of the matrices, by brute force."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from scidiffuse.core.discrete import Marginal, Masked, MaskUniform, Process, ProductProcess, Uniform
from scidiffuse.core.discrete import process as core_process
from scidiffuse.core.discrete.keep import Exponential, Table
from scidiffuse.core.discrete.priority import PriorityMasked

KEEPS = ["linear", "log_linear", "cosine", "cosine_squared", Exponential(9.0), Table((1.0, 0.7, 0.2, 0.0))]


def processes(keep: object) -> list[Process]:
    return [
        Masked(4, keep),
        Masked(4, keep, mask_id=1),
        Uniform(4, keep),
        Marginal(probs=(4.0, 2.0, 1.0, 1.0), keep=keep),
        MaskUniform(4, keep),
        MaskUniform(4, keep, mask_id=0, uniform=0.6),
    ]


ALL = [process for keep in KEEPS for process in processes(keep)]
PAIRS = [(0.0, 0.4), (0.15, 0.5), (0.3, 0.95), (0.6, 0.600001)]
Q = pytest.mark.parametrize("process", ALL, ids=repr)
LINEAR = pytest.mark.parametrize("process", processes("linear"), ids=repr)


def data_rows(process: Process) -> Tensor:
    """The states that data can have."""
    rows = torch.arange(process.states)
    return rows if process.mask_id is None else rows[rows != process.mask_id]


def law(process: Process, x: int, seed: int = 0) -> Tensor:
    """A prediction p(x_0 | x_t = x) that the process allows."""
    p = torch.rand(process.states, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.05
    if process.mask_id is not None:
        p[process.mask_id] = 0.0
    if isinstance(process, Masked) and x != process.mask_id:
        p = torch.eye(process.states, dtype=torch.float64)[x]
    return p / p.sum()


@Q
def test_rows_sum_to_one_and_the_chain_composes(process: Process) -> None:
    rows = data_rows(process)
    for s, t in PAIRS:
        for matrix in (process.marginal(t), process.transition(s, t)):
            torch.testing.assert_close(matrix.sum(1), torch.ones(4, dtype=torch.float64), rtol=1e-14, atol=0.0)
            assert bool((matrix >= 0).all())
        torch.testing.assert_close((process.marginal(s) @ process.transition(s, t))[rows], process.marginal(t)[rows])
    torch.testing.assert_close(
        process.transition(0.2, 0.5) @ process.transition(0.5, 0.8),
        process.transition(0.2, 0.8),
        rtol=1e-12,
        atol=1e-15,
    )
    torch.testing.assert_close(process.transition(0.3, 0.3), torch.eye(4, dtype=torch.float64))


def test_tokens_are_counted_without_the_mask() -> None:
    """The published mask-and-uniform code divides by the number of states, the mask included: rows then miss one."""
    process = MaskUniform(5, uniform=0.4)
    row = process.marginal(0.5)[0]
    assert float(row.sum()) == pytest.approx(1.0, abs=1e-15)
    assert float(row[1]) == pytest.approx(0.5 * 0.4 / 4)
    assert float(row[4]) == pytest.approx(0.5 * 0.6)


@Q
def test_posterior_and_rates_by_brute_force(process: Process) -> None:
    for s, t in PAIRS[:3]:
        q_s, q_t, q, rate = process.marginal(s), process.marginal(t), process.transition(s, t), process.rate(t)
        for x in range(4):
            p = law(process, x)
            given = torch.tensor([[x]])
            support = p.nonzero().flatten().tolist()
            post = sum(p[x0] * q[:, x] * q_s[x0] / q_t[x0, x] for x0 in support)
            back = sum(p[x0] * rate[:, x] * q_t[x0] / q_t[x0, x] for x0 in support)
            back[x] = 0.0
            got = process.log_posterior(p.log()[None, None], given, s, t).exp()[0, 0]
            torch.testing.assert_close(got, post, rtol=1e-10, atol=1e-14)
            torch.testing.assert_close(got.sum(), torch.ones((), dtype=torch.float64))
            rates = process.reverse_rate(p.log()[None, None], given, t)[0, 0]
            torch.testing.assert_close(rates, back, rtol=1e-10, atol=1e-12)


@Q
def test_times_may_be_one_a_sample_or_a_token(process: Process) -> None:
    x = torch.tensor([[0, 1, 2], [3, 0, 1]])
    raw = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    log_p = process.log_probs(raw, x)
    t, s = torch.tensor([0.4, 0.9], dtype=torch.float64), torch.tensor([0.1, 0.5], dtype=torch.float64)
    u = torch.rand(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    each = [process.log_posterior(log_p[i : i + 1], x[i : i + 1], float(s[i]), float(t[i])) for i in range(2)]
    torch.testing.assert_close(process.log_posterior(log_p, x, s, t), torch.cat(each))
    wide = process.log_posterior(log_p, x, s[:, None].expand(2, 3), t[:, None].expand(2, 3))
    torch.testing.assert_close(wide, torch.cat(each))
    rates = [process.reverse_rate(log_p[i : i + 1], x[i : i + 1], float(t[i])) for i in range(2)]
    torch.testing.assert_close(process.reverse_rate(log_p, x, t), torch.cat(rates))
    drawn = [process.draw(log_p[i : i + 1], x[i : i + 1], float(s[i]), float(t[i]), u[i : i + 1]) for i in range(2)]
    assert torch.equal(process.draw(log_p, x, s, t, u), torch.cat(drawn))
    clean = data_rows(process)[torch.tensor([[0, 1, 2], [2, 0, 1]])]
    noisy = [process.corrupt(clean[i : i + 1], float(t[i]), u[i : i + 1]) for i in range(2)]
    assert torch.equal(process.corrupt(clean, t, u), torch.cat(noisy))


@Q
def test_corruption_has_the_marginal_law(process: Process) -> None:
    """Stratified uniforms: every frequency is exact to two in n."""
    n = 20_000
    u = ((torch.arange(n, dtype=torch.float64) + 0.5) / n)[None]
    for x0 in data_rows(process).tolist():
        got = torch.bincount(process.corrupt(torch.full((1, n), x0), 0.37, u)[0], minlength=4) / n
        torch.testing.assert_close(got.double(), process.marginal(0.37)[x0], rtol=0.0, atol=3.0 / n)


@Q
def test_draws_have_the_posterior_law(process: Process) -> None:
    n = 20_000
    u = ((torch.arange(n, dtype=torch.float64) + 0.5) / n)[None]
    tilt = torch.tensor([0.3, -0.2, 0.5, 0.0], dtype=torch.float64)
    for x in range(4):
        p = law(process, x, seed=1).log().expand(1, n, 4)
        state = torch.full((1, n), x)
        post = process.log_posterior(p[:, :1], state[:, :1], 0.2, 0.7)[0, 0]
        got = torch.bincount(process.draw(p, state, 0.2, 0.7, u)[0], minlength=4) / n
        torch.testing.assert_close(got.double(), post.exp(), rtol=0.0, atol=5.0 / n)
        got = torch.bincount(process.draw(p, state, 0.2, 0.7, u, tilt.expand(1, n, 4))[0], minlength=4) / n
        torch.testing.assert_close(got.double(), (post + tilt).softmax(-1), rtol=0.0, atol=5.0 / n)


@Q
def test_forward_rates_are_the_rows_of_the_generator(process: Process) -> None:
    x = torch.tensor([[0, 1, 2], [3, 0, 1]])
    off = torch.where(torch.eye(4, dtype=torch.bool), 0.0, process.rate(0.4))
    torch.testing.assert_close(process.forward_rate(x, 0.4), off[x])
    t = torch.tensor([[0.4, 0.2, 0.9], [0.7, 0.4, 0.1]], dtype=torch.float64)
    rows = [torch.where(torch.eye(4, dtype=torch.bool), 0.0, process.rate(float(v))) for v in t.flatten()]
    want = torch.stack([row[v] for row, v in zip(rows, x.flatten(), strict=True)]).view(2, 3, 4)
    torch.testing.assert_close(process.forward_rate(x, t), want)
    torch.testing.assert_close(process.forward_rate(x, t[:, 0])[1, 2], rows[3][1])


@LINEAR
def test_draws_in_parts_are_those_of_the_whole(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randint(4, (5, 6, 2), generator=rng)
    if isinstance(process, Masked):
        x[:, :4] = process.mask
    log_p = process.log_probs(torch.randn(5, 6, 2, 4, generator=rng, dtype=torch.float64), x)
    u = torch.rand(5, 6, 2, generator=rng, dtype=torch.float64)
    tilt = torch.randn(5, 6, 2, 4, generator=rng, dtype=torch.float64)
    for t in (0.8, torch.linspace(0.6, 0.9, 5).double(), torch.linspace(0.6, 0.9, 30).double().view(5, 6)):
        for by in (None, tilt):
            whole = process.draw(log_p, x, t - 0.5, t, u, by)
            assert 10 < int((whole != x).sum()) < 55
            for room in (8, 16, 100):  # less than a row, some tokens of one, some rows
                with monkeypatch.context() as patch:
                    patch.setattr(core_process, "TILE", room)
                    assert torch.equal(process.draw(log_p, x, t - 0.5, t, u, by), whole)
                    assert torch.equal(process.draw(lambda which: log_p[which], x, t - 0.5, t, u, by), whole)


@LINEAR
def test_gradients_are_those_of_the_formula_and_finite(process: Process) -> None:
    """By differences; impossible values (-inf) pass none."""
    x = torch.tensor([[0, 1, 2, 3]])
    raw = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def total(raw: Tensor) -> Tensor:
        log_p = process.log_probs(raw, x)
        post = process.log_posterior(log_p, x, 0.2, 0.6)
        rates = process.reverse_rate(log_p, x, 0.6)
        return (torch.where(post > -torch.inf, post, 0.0) * weight).sum() + (rates * weight).sum()

    assert torch.autograd.gradcheck(total, raw.clone().requires_grad_())
    raw[0, :, 0] = -torch.inf
    raw.requires_grad_()
    total(raw).backward()
    assert raw.grad is not None and bool(torch.isfinite(raw.grad).all())


def test_a_value_without_frequency_is_left_at_once_and_never_reached() -> None:
    process = Marginal(probs=(0.5, 0.5, 0.0))
    log_p = torch.tensor([[[0.2, 0.8, 0.0]]]).double().log().expand(1, 2, 3)
    post = process.log_posterior(log_p, torch.tensor([[0, 2]]), 0.3, 0.6).exp()
    assert float(post[0, 0, 2]) == 0.0
    torch.testing.assert_close(post.sum(-1), torch.ones(1, 2).double())


def test_what_is_handed_out_may_be_written_into() -> None:
    for process in (Masked(4), Uniform(4), Marginal(probs=(4, 2, 1, 1)), MaskUniform(4)):
        want = process.marginal(0.5)
        for law in (process.replacement(), process.prior()):
            law.zero_()
        torch.testing.assert_close(process.marginal(0.5), want, rtol=0, atol=0)
        assert process == type(process)(**{f.name: getattr(process, f.name) for f in fields(process) if f.init})


@pytest.mark.parametrize("process", [Uniform(4), Marginal(probs=(4, 2, 1, 1)), MaskUniform(4)], ids=repr)
def test_a_process_that_has_sampled_can_be_trained(process: Process) -> None:
    """What is kept is no tensor of inference mode, which autograd would refuse."""
    x, raw = torch.tensor([[0, 1]]), torch.zeros(1, 2, 4, dtype=torch.float64)
    with torch.inference_mode():
        process.log_posterior(process.log_probs(raw, x), x, 0.2, 0.6)
        process.corrupt(x, 0.5, torch.full((1, 2), 0.3, dtype=torch.float64))
    raw.requires_grad_()
    process.log_posterior(process.log_probs(raw, x), x, 0.2, 0.6).sum().nan_to_num(0.0).backward()
    assert raw.grad is not None


@Q
def test_float32_logits_lose_nothing_that_counts(process: Process) -> None:
    x = torch.tensor([[0, 1, 2, 3]])
    raw = 20.0 * torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for s, t in [(1e-6, 2e-6), (0.998, 0.999), (0.4999999, 0.5)]:
        exact = process.log_posterior(process.log_probs(raw, x), x, s, t).exp()
        single = process.log_posterior(process.log_probs(raw.float(), x), x, s, t)
        assert single.dtype == torch.float32
        assert bool(torch.isfinite(single.exp()).all())
        torch.testing.assert_close(single.exp().double(), exact, rtol=2e-4, atol=1e-6)


def test_masked_predictions_never_hold_the_mask_and_keep_what_is_known() -> None:
    process = Masked(4, mask_id=2)
    x = torch.tensor([[2, 0, 3]])
    log_p = process.log_probs(torch.zeros(1, 3, 4), x)
    assert log_p[..., 2].eq(-torch.inf).all()
    torch.testing.assert_close(log_p[0, 0].exp(), torch.tensor([1.0, 1.0, 0.0, 1.0]) / 3)
    assert torch.equal(log_p[0, 1].exp(), torch.tensor([1.0, 0.0, 0.0, 0.0]))
    assert torch.equal(log_p[0, 2].exp(), torch.tensor([0.0, 0.0, 0.0, 1.0]))
    torch.testing.assert_close(
        MaskUniform(4, mask_id=2).log_probs(torch.zeros(1, 3, 4), x)[0, 1].exp(), log_p[0, 0].exp()
    )


def test_processes_are_values() -> None:
    assert Masked(4) == Masked(4, "linear", mask_id=3)
    assert hash(Uniform(4)) == hash(Uniform(4, "linear"))
    assert Masked(4) != Masked(4, "cosine")
    assert Marginal(probs=(2, 1, 1)) == Marginal(probs=(0.5, 0.25, 0.25))
    assert ProductProcess(X=Uniform(4), A=Uniform(3)) == ProductProcess(A=Uniform(3), X=Uniform(4))


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: Masked(1), ValueError, "states=1"),
        (lambda: Masked(4, mask_id=4), ValueError, r"mask_id=4 is none of the ids 0\.\.3.*states=5, mask_id=4"),
        (lambda: MaskUniform(4, mask_id=-1), ValueError, "mask_id=-1"),
        (lambda: Masked(4, Exponential(2.0)), ValueError, r"keeps 0\.135 of the tokens at t = 1.*'linear'"),
        (lambda: Uniform(4, Table((1.0, 0.5, 0.4))), ValueError, r"keeps 0\.4"),
        (lambda: MaskUniform(4, uniform=0.0), ValueError, r"got 0\.0; Masked\(\) has none"),
        (lambda: Marginal(probs=(0.0, 0.0)), ValueError, "not all zero"),
        (lambda: Marginal(probs=(0.5, -0.5)), ValueError, ">= 0"),
        (lambda: PriorityMasked(4, strength=-1.0), ValueError, r"-1\.0"),
        (lambda: ProductProcess(), ValueError, "at least one leaf"),
        (lambda: ProductProcess(X=3), TypeError, "'X' must be a Process"),
        (lambda: Uniform(4).check_time(1.5), ValueError, r"1\.5 is outside"),
        (lambda: Uniform(4).check_time(torch.tensor([3])), TypeError, "int64"),
        (lambda: Uniform(4).check_time(torch.tensor([0.5, -0.1])), ValueError, r"-0\.1"),
        (lambda: Uniform(4).check_time("now"), TypeError, "str"),
        (lambda: Uniform(4).check(torch.tensor([[0, 4]])), ValueError, r"token 4 at \(0, 1\) is out of range.*0\.\.3"),
        (lambda: Uniform(4).check(torch.tensor([[0, -1]])), ValueError, r"token -1 at \(0, 1\)"),
        (
            lambda: Uniform(4).check(torch.zeros(2, 0, dtype=torch.long)),
            ValueError,
            r"at least one token, got \(2, 0\)",
        ),
        (lambda: Uniform(4).check(torch.zeros(2, 3)), TypeError, "float32"),
        (lambda: ProductProcess(X=Uniform(4)).check({"X": torch.tensor([[7]])}), ValueError, "token 7"),
    ],
)
def test_refusals(make: object, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()  # type: ignore[operator]
