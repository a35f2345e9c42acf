"""Vector quantisation: nearest codes, gradients, moving averages, dead codes, resuming, several books."""

import itertools
import math
import subprocess
import sys
import textwrap

import pytest
import torch
from torch.nn.functional import normalize

from scidiffuse.core.networks import (
    CodebookUsage,
    ResidualQuantizer,
    VectorQuantizer,
    codebook_orthogonality,
    vector_quantizer,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def book(vectors, **kw):
    """A quantiser in double precision that starts from these codes."""
    kw = {"init": "random", "dead_after": None, **kw}
    quantizer = VectorQuantizer(*vectors.shape, **kw).double()
    with torch.no_grad():
        quantizer.codebook.copy_(vectors)
    return quantizer


def clusters(k=8, each=40, dim=4, spread=0.05):
    """Well-separated clusters (K, each, D), on the corners of a cube."""
    corners = torch.tensor([[float(i >> b & 1) for b in range(dim)] for i in range(k)], dtype=torch.float64)
    return 4 * corners[:, None] - 1 + spread * draw(k, each, dim, seed=3)


def close(a, b, atol=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("dim", [1, 16])
def test_the_nearest_code_of_all_in_single_precision(dim, offset):
    z, e = (draw(3, 100, dim) + offset).float(), (draw(40, dim, seed=1) + offset).float()
    quantizer = book(e).float().eval()
    out = quantizer(z)
    distance = torch.cdist(z.double(), e.double(), compute_mode="donot_use_mm_for_euclid_dist")
    assert torch.equal(out.codes, distance.argmin(-1))
    assert torch.equal(out.z, e[out.codes]) and torch.equal(out.z, quantizer.decode(out.codes))
    assert out.codes.dtype == torch.long and out.codes.shape == (3, 100)


def test_the_nearest_direction():
    z, e = draw(3, 50, 6), draw(20, 6, seed=1) * torch.rand(20, 1).double().add(0.1)
    quantizer = book(e, distance="cosine").eval()
    out = quantizer(z)
    assert torch.equal(out.codes, torch.nn.functional.cosine_similarity(z[..., None, :], e, dim=-1).argmax(-1))
    close(out.z.norm(dim=-1), torch.ones(3, 50).double())
    close(out.commitment, (normalize(z, dim=-1) - out.z).square().mean())
    assert torch.equal(quantizer(3 * z).codes, out.codes) and not torch.equal(book(e)(z).codes, out.codes)


def test_chunks_of_elements_do_not_change_the_codes(monkeypatch):
    z, quantizer, seen = draw(3, 50, 6), book(draw(20, 6, seed=1)), []
    whole = quantizer.eval()(z)
    addmm = torch.addmm
    monkeypatch.setattr(torch, "addmm", lambda *a, **kw: seen.append(a[1].shape[0]) or addmm(*a, **kw))
    monkeypatch.setattr(vector_quantizer, "_SCORES", 20 * 40)
    assert torch.equal(quantizer(z).codes, whole.codes)
    assert seen == [40, 40, 40, 30]


def test_autocast_and_half_precision_keep_the_codebook_and_the_distances():
    e = draw(512, 4, seed=1).float()
    z = (draw(2, 100, 4)).bfloat16()
    quantizer = book(e).float().eval()
    with torch.autocast("cpu", torch.bfloat16):
        out = quantizer(z)
    nearest = torch.cdist(z.double(), e.double(), compute_mode="donot_use_mm_for_euclid_dist").argmin(-1)
    assert torch.equal(out.codes, nearest)  # in bfloat16 many of 512 codes are equally near
    assert out.z.dtype == torch.bfloat16 and out.loss.dtype == torch.float32
    assert quantizer.bfloat16().codebook.dtype == torch.float32
    assert torch.equal(quantizer(z).codes, nearest)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_straight_through_is_the_identity_backwards(update):
    quantizer, z, g = book(draw(7, 3, seed=1), update=update), draw(2, 5, 3).requires_grad_(), draw(2, 5, 3, seed=4)
    out = quantizer(z)
    (out.z * g).sum().backward()
    assert torch.equal(z.grad, g)
    assert update == "ema" or quantizer.codebook.grad is None or float(quantizer.codebook.grad.abs().max()) == 0


def test_commitment_gradient_by_differences():
    quantizer, z = book(draw(7, 3, seed=1), commitment=0.7).eval(), draw(2, 5, 3).requires_grad_()
    out = quantizer(z)
    out.loss.backward()
    close(z.grad, 0.7 * 2 * (z.detach() - out.z.detach()) / z.numel())
    h = 1e-6
    for place in ((0, 0, 0), (1, 3, 2)):
        step = torch.zeros_like(z)
        step[place] = h
        with torch.no_grad():
            slope = (quantizer(z + step).loss - quantizer(z - step).loss) / (2 * h)
        close(z.grad[place], slope, 1e-8)
    close(out.loss, 0.7 * out.commitment)
    assert float(out.codebook) == 0


def test_codebook_gradient_moves_codes_to_the_means_of_their_elements():
    data = clusters()
    quantizer = book(data[:, 0], update="gradient", commitment=0.5)
    z = data.requires_grad_()
    out = quantizer(z)
    out.loss.backward()
    close(quantizer.codebook.grad, 2 * 40 * (quantizer.codebook.detach() - data.detach().mean(1)) / data.numel())
    close(z.grad, (z.detach() - out.z.detach()) / z.numel())  # commitment alone: the codebook term holds z fixed
    close(out.loss, 0.5 * out.commitment + out.codebook)
    with torch.no_grad():
        quantizer.codebook.add_(quantizer.codebook.grad, alpha=-data.numel() / 80)
    close(quantizer.codebook.detach(), data.detach().mean(1))


def test_orthogonality_of_two_codes_in_closed_form():
    for angle in (0.3, 1.2, math.pi / 2):
        a = torch.tensor(angle, dtype=torch.float64, requires_grad=True)
        e = torch.stack([torch.stack([2 * torch.ones_like(a), 0 * a]), 5 * torch.stack([a.cos(), a.sin()])])
        value = codebook_orthogonality(e)
        value.backward()
        close(value.detach(), torch.tensor(2 * math.cos(angle) ** 2, dtype=torch.float64))
        close(a.grad, torch.tensor(-2 * math.sin(2 * angle), dtype=torch.float64))


@pytest.mark.parametrize(("k", "d"), [(5, 3), (3, 5), (4, 4)])
def test_orthogonality_of_many_codes(k, d):
    e = normalize(draw(k, d), dim=-1)
    close(codebook_orthogonality(3 * e), (e @ e.T - torch.eye(k)).square().sum())
    if k <= d:
        close(codebook_orthogonality(torch.eye(d).double()[:k]), torch.tensor(0.0).double())


def test_orthogonality_in_the_loss_pushes_codes_apart():
    quantizer, z = book(draw(4, 4, seed=1), update="gradient", orthogonality=0.5), draw(3, 6, 4)
    out = quantizer(z)
    close(out.loss, 0.25 * out.commitment + out.codebook + 0.5 * out.orthogonality)
    optimizer = torch.optim.SGD(quantizer.parameters(), 0.1)
    values = []
    for _ in range(200):
        optimizer.zero_grad()
        term = quantizer(z).orthogonality
        term.backward()
        optimizer.step()
        values.append(float(term.detach()))
    assert values[0] > 0.5 and values[-1] < 1e-3


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_moving_averages_converge_to_the_means_of_clusters(distance):
    data = clusters()[1:]  # without the corner at the origin's side: directions are apart too
    if distance == "cosine":
        data = normalize(torch.eye(7).double()[:, None] + 0.05 * draw(7, 40, 7), dim=-1)
    quantizer = book(data[:, 0], decay=0.9, distance=distance)
    for _ in range(300):
        quantizer(data)
    n, total, eps = 40.0, 280.0, 1e-5
    close(quantizer.codebook, data.mean(1) * n / ((n + eps) / (total + 7 * eps) * total), 1e-9)
    if distance == "euclidean":
        close(quantizer.decode(torch.arange(7)), data.mean(1), 1e-5)
    else:
        close(quantizer.decode(torch.arange(7)), normalize(data.mean(1), dim=-1), 1e-9)
    close(quantizer.counts, torch.full((7,), 40.0).double(), 1e-9)


def test_one_update_is_the_formula():
    e, z = draw(5, 3, seed=1), draw(2, 30, 3)
    quantizer = book(e, decay=0.8)
    codes = quantizer(z).codes
    one = torch.nn.functional.one_hot(codes.flatten(), 5).double()
    start = 0.1 * 60 / 5  # every code starts where it counts as unused
    n = 0.8 * start + 0.2 * one.sum(0)
    m = 0.8 * start * e + 0.2 * one.T @ z.reshape(-1, 3)
    smooth = (n + 1e-5) / (n.sum() + 5e-5) * n.sum()
    close(quantizer.counts, n)
    close(quantizer.codebook, m / smooth[:, None])


def test_eval_mode_changes_nothing():
    quantizer, z = VectorQuantizer(8, 4).double(), draw(3, 20, 4)
    before = {k: v.clone() for k, v in quantizer.state_dict().items()}
    quantizer.eval()(z)
    assert all(torch.equal(v, before[k]) for k, v in quantizer.state_dict().items())
    quantizer.train()(z)
    assert not torch.equal(quantizer.codebook, before["codebook"]) and int(quantizer.updates) == 1


def test_start_from_data():
    z = draw(4, 50, 3)
    for seed in (0, 1):
        quantizer = VectorQuantizer(16, 3, update="gradient", seed=seed).double()
        quantizer(z)
        distance = torch.cdist(quantizer.codebook.detach(), z.reshape(-1, 3))
        assert float(distance.amin(-1).max()) < 1e-6 and len(set(distance.argmin(-1).tolist())) == 16
    few = VectorQuantizer(16, 3, update="gradient").double()  # fewer elements than codes: copies with noise
    few(z[:1, :5])
    assert float(torch.pdist(few.codebook.detach()).min()) > 0
    assert float(torch.cdist(few.codebook.detach(), z[0, :5]).amin(-1).max()) < 0.1
    one, two, other = (VectorQuantizer(16, 3, seed=seed).double() for seed in (0, 0, 1))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert torch.equal(one(z).z, two(z).z) and not torch.equal(one(z).z, other(z).z)
    assert torch.equal(torch.get_rng_state(), state)  # no draw from torch's own generator


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_dead_codes_are_revived_and_without_that_a_collapsed_book_stays_collapsed(update):
    data = clusters()
    start = torch.full((8, 4), 100.0).double() + draw(8, 4)
    start[0] = 0  # nearest to everything
    usage = {}
    for dead_after in (3, None):
        quantizer = book(start, update=update, decay=0.9, dead_after=dead_after)
        optimizer = torch.optim.SGD(quantizer.parameters(), 1.0) if update == "gradient" else None
        first = quantizer.usage(quantizer(data).codes)
        for _ in range(100):
            out = quantizer(data)
            if optimizer is not None:
                optimizer.zero_grad()
                out.loss.backward()
                optimizer.step()
        assert first == CodebookUsage(1, 8, 1.0)
        usage[dead_after] = quantizer.usage(quantizer.eval()(data).codes)
    assert usage[None] == CodebookUsage(1, 8, 1.0)
    assert usage[3].used == 8 and usage[3].perplexity > 4


def test_a_code_is_revived_after_so_many_updates_in_a_row_and_not_before():
    data = clusters()
    start = data.mean(1)
    start[7] = 100
    quantizer = book(start, update="gradient", decay=0.5, dead_after=4, dead_below=0.5)
    places = [start[7]]
    for _ in range(14):
        quantizer(data)
        places.append(quantizer.codebook.detach()[7].clone())
    moved = [not torch.equal(before, after) for before, after in itertools.pairwise(places)]
    # on an element of a cluster it gets too few of them: it has four updates there, too, and the next place is another
    assert [k for k, flag in enumerate(moved) if flag] == [4, 8, 12]
    for place in places[5:]:
        assert float((data - place).square().sum(-1).min()) == 0  # an element of the batch
    assert torch.equal(quantizer.codebook.detach()[:7], start[:7])


def test_usage_in_closed_form():
    quantizer = VectorQuantizer(6, 2)
    even = quantizer.usage(torch.arange(12).reshape(2, 6) % 6)
    assert (even.used, even.total, even.fraction) == (6, 6, 1.0)
    assert even.perplexity == pytest.approx(6, rel=1e-12)
    assert quantizer.usage(torch.full((3, 4), 2)) == CodebookUsage(1, 6, 1.0)
    assert quantizer.usage(torch.tensor([0, 0, 0, 5])).perplexity == pytest.approx(4 / 27**0.25, rel=1e-12)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    masked = quantizer.usage(torch.tensor([[1, 2, -5], [1, 99, 3]]), mask)
    assert masked.used == 2 and masked.perplexity == pytest.approx(3 / 4 ** (1 / 3), rel=1e-12)


@pytest.mark.parametrize("kw", [{}, {"update": "gradient", "orthogonality": 0.1}, {"distance": "cosine"}], ids=str)
def test_masked_elements_have_no_influence(kw):
    z, mask = draw(3, 20, 4), torch.arange(20) < torch.tensor([[20], [13], [0]])
    other = z.masked_fill(~mask[..., None], math.nan)
    one, two, alone = (VectorQuantizer(8, 4, dead_after=1, decay=0.5, **kw).double() for _ in range(3))
    for _ in range(4):
        first, second = one(z, mask), two(other.requires_grad_(), mask)
        third = alone(torch.cat([z[0], z[1, :13]])[None])  # the real elements, nothing else
    for name in ("z", "codes", "loss", "commitment", "codebook", "orthogonality"):
        assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert torch.equal(first.z[mask], third.z[0]) and torch.equal(first.codes[mask], third.codes[0])
    assert torch.equal(first.loss, third.loss)
    assert all(torch.equal(v, two.state_dict()[k]) for k, v in one.state_dict().items())
    assert float(first.z[~mask].abs().max()) == 0 and int(first.codes[~mask].max()) == 0
    assert torch.equal(one.decode(first.codes - 7 * (~mask).long(), mask)[~mask], first.z[~mask])
    (second.z.sum() + second.loss).backward()
    assert bool(other.grad.isfinite().all()) and float(other.grad[~mask].abs().max()) == 0


def run(quantizer, optimizer, steps):
    for k in steps:
        out = quantizer(draw(4, 8, 4, seed=100 + k) * (1 + k % 3))
        if optimizer is not None:
            optimizer.zero_grad()
            out.loss.backward()
            optimizer.step()
    return quantizer


@pytest.mark.parametrize("kw", [{}, {"update": "gradient", "orthogonality": 0.01}, {"distance": "cosine"}], ids=str)
def test_a_run_that_is_saved_goes_on_as_if_it_had_not_stopped(kw):
    def build(seed=0):
        quantizer = VectorQuantizer(24, 4, dead_after=2, decay=0.7, dead_below=0.3, seed=seed, **kw)
        return quantizer, torch.optim.SGD(quantizer.parameters(), 0.1) if "update" in kw else None

    whole = run(*build(), range(20))
    half = run(*build(), range(11))
    saved = {k: v.clone() for k, v in half.state_dict().items()}
    resumed, optimizer = build()
    resumed.load_state_dict(saved)
    z = draw(2, 9, 4).float()
    assert torch.equal(resumed.eval()(z).z, half.eval()(z).z)  # save, load, same output
    run(resumed.train(), optimizer, range(11, 20))
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    other, optimizer = build(seed=1)  # the draws matter: another seed goes elsewhere
    other.load_state_dict(saved)
    run(other, optimizer, range(11, 20))
    assert not torch.equal(other.codebook, whole.codebook)


SCRIPT = """
import sys, torch, torch.distributed as dist
from scidiffuse.core.networks import VectorQuantizer
rank, store, out = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
states = {}
for init in ("random", "data"):
    quantizer = VectorQuantizer(8, 3, init=init, dead_after=None if init == "random" else 1, dead_below=0.5).double()
    for k in range(5):
        z = torch.randn(30, 3, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
        quantizer(z[:10][None] if rank == 0 else z[10:][None])
    states.update({init + "." + name: value for name, value in quantizer.state_dict().items()})
torch.save(states, out + str(rank))
dist.destroy_process_group()
"""


def test_two_processes_share_one_codebook(tmp_path):
    script = tmp_path / "work.py"
    script.write_text(textwrap.dedent(SCRIPT))
    args = [sys.executable, str(script)]
    work = [
        subprocess.Popen([*args, str(rank), str(tmp_path / "store"), str(tmp_path / "state")], stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for process in work:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors.decode()
    zero, one = (torch.load(tmp_path / f"state{rank}", weights_only=True) for rank in range(2))
    assert all(torch.equal(value, one[name]) for name, value in zero.items())
    alone = VectorQuantizer(8, 3, init="random", dead_after=None, dead_below=0.5).double()
    for k in range(5):
        alone(draw(30, 3, seed=k)[None])
    for name, value in alone.state_dict().items():  # without draws: what one process makes of all elements
        torch.testing.assert_close(zero[f"random.{name}"], value, rtol=0, atol=1e-12)


def test_every_level_leaves_less_over():
    z = draw(8, 100, 4)
    quantizer = ResidualQuantizer(4, 8, 4, decay=0.8).double()
    for _ in range(40):
        quantizer(z)
    out = quantizer.eval()(z)
    assert out.codes.shape == (8, 100, 4)
    errors = [float((z - quantizer.decode(out.codes[..., :n])).square().mean()) for n in range(1, 5)]
    errors.insert(0, float(z.square().mean()))
    assert all(after < 0.7 * before for before, after in itertools.pairwise(errors)), errors
    close(out.z, quantizer.decode(out.codes))
    close(out.commitment, torch.tensor(sum(errors[1:]), dtype=torch.float64))
    assert [usage.total for usage in quantizer.usage(out.codes)] == [8] * 4
    first = VectorQuantizer(8, 4, decay=0.8).double()  # the first level is the quantiser alone
    for _ in range(40):
        first(z)
    assert torch.equal(first.eval()(z).codes, out.codes[..., 0])


def test_residual_gradient_mask_and_seeds():
    quantizer, z, g = ResidualQuantizer(3, 8, 4).double(), draw(2, 10, 4).requires_grad_(), draw(2, 10, 4, seed=1)
    assert not torch.equal(quantizer.books[0].codebook, quantizer.books[1].codebook)
    mask = torch.arange(10) < torch.tensor([[10], [6]])
    out = quantizer(z.masked_fill(~mask[..., None], math.nan), mask)
    assert float(out.z[~mask].detach().abs().max()) == 0 and out.codes[~mask].sum() == 0
    (out.z * g).sum().backward()
    assert torch.equal(z.grad, g * mask[..., None])
    assert bool(out.loss.isfinite())


def test_refusals():
    quantizer, z = VectorQuantizer(8, 4), torch.randn(2, 5, 4)
    with pytest.raises(ValueError, match=r"got shape \(2, 5, 3\), expected \(B, ..., 4\)"):
        quantizer(z[..., :3])
    with pytest.raises(ValueError, match="channels come last"):
        quantizer(z.transpose(1, 2))
    with pytest.raises(TypeError, match=r"got torch.int64"):
        quantizer(z.long())
    with pytest.raises(ValueError, match=r"nothing to quantise.*is empty"):
        quantizer(z[:, :0])
    with pytest.raises(ValueError, match="mask hides all"):
        quantizer(z, torch.zeros(2, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask: got shape \(2, 4\), expected \(2, 5\)"):
        quantizer(z, torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"mask: got torch.float32"):
        quantizer(z, torch.ones(2, 5))
    for value in (math.nan, math.inf):
        bad = z.clone()
        bad[1, 3, 2] = value
        with pytest.raises(ValueError, match=r"not finite at element \(1, 3\).*\(1 such"):
            quantizer(bad)
    assert int(quantizer.updates) == 0
    with pytest.raises(ValueError, match=r"code 8 at \(0, 1\) lies outside 0\.\.7"):
        quantizer.decode(torch.tensor([[0, 8]]))
    with pytest.raises(ValueError, match=r"code -1 at \(1,\)"):
        quantizer.usage(torch.tensor([0, -1]))
    with pytest.raises(TypeError, match=r"codes: got torch.float32"):
        quantizer.decode(torch.zeros(2))
    with pytest.raises(ValueError, match="usage of no codes"):
        quantizer.usage(torch.zeros(0, dtype=torch.long))
    for kw, message in (
        ({"codes": 1}, "codes=1"),
        ({"dim": 0}, "dim=0"),
        ({"decay": 1.0}, "decay"),
        ({"commitment": -1.0}, "commitment=-1"),
        ({"orthogonality": 0.1}, "needs update='gradient'"),
        ({"dead_after": 0}, "dead_after"),
        ({"dead_below": 1.0}, "dead_below"),
        ({"update": "none"}, "'ema' or 'gradient', got 'none'"),
        ({"distance": "dot"}, "got 'dot'"),
        ({"init": "kmeans"}, "got 'kmeans'"),
    ):
        with pytest.raises(ValueError, match=message):
            VectorQuantizer(**{"codes": 8, "dim": 4, **kw})
    with pytest.raises(ValueError, match="one level or more"):
        ResidualQuantizer(0, 8, 4)
    with pytest.raises(ValueError, match="got 'cosine'"):
        ResidualQuantizer(2, 8, 4, distance="cosine")
    with pytest.raises(ValueError, match=r"n in 1\.\.2"):
        ResidualQuantizer(2, 8, 4).decode(torch.zeros(2, 3, dtype=torch.long))
