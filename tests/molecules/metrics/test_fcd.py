"""The Fréchet distance of normal laws in closed form; FCD against fcd-torch's own; refusals, warnings, the cache."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest

pytest.importorskip("rdkit")
fcd_torch = pytest.importorskip("fcd_torch")

f = importlib.import_module("scidiffuse.molecules.metrics.fcd")

A = [f"C{'C' * k}{tail}" for k in range(10) for tail in ("O", "N", "c1ccccc1")]
B = [f"C{'C' * k}{tail}" for k in range(10) for tail in ("Cl", "C(=O)O", "C1CC1")]


def test_distance_of_normal_laws():
    """Commuting covariances: |mu - nu|^2 + sum (sqrt s - sqrt r)^2; and the trace formula by scipy's root otherwise."""
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    mu, nu, s, r = rng.normal(size=4), rng.normal(size=4), rng.random(4), rng.random(4)
    expected = ((mu - nu) ** 2).sum() + ((np.sqrt(s) - np.sqrt(r)) ** 2).sum()
    assert f.frechet(mu, np.diag(s), nu, np.diag(np.sqrt(r))) == pytest.approx(expected)
    S, R = (x @ x.T for x in rng.normal(size=(2, 4, 5)))
    assert np.allclose(f._root(R) @ f._root(R), R)
    expected = ((mu - nu) ** 2).sum() + np.trace(S + R - 2 * sqrtm(S @ R).real)
    assert f.frechet(mu, S, nu, f._root(R)) == pytest.approx(expected)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(f, "cache_folder", lambda: tmp_path)
    return tmp_path


def test_it_is_fcd_torch_and_the_reference_is_computed_once(cache, monkeypatch):
    with pytest.warns(UserWarning, match="its bias is large"):
        score = f.fcd([*A, "C(("], B, allow_small=True, draws=4)
    peer = fcd_torch.FCD(device="cpu", n_jobs=1)
    with np.errstate(all="ignore"):
        expected = peer(A, B)
    assert float(score) == pytest.approx(float(expected), rel=2e-3)  # 30 molecules: singular covariances, its float32
    assert (score.n, score.left_out, score.name) == (30, 1, "fcd_torch") and score.low < float(score) < score.high
    scale = f.fcd_guacamol(score)
    assert float(scale) == pytest.approx(math.exp(-0.2 * float(score))) and scale.low < float(scale) < scale.high

    (file,) = (cache / "fcd").iterdir()
    before = f.fcd_statistics(B)
    monkeypatch.setattr(f, "_activations", None)  # would fail if the network were asked again
    after = f.fcd_statistics(B)
    assert (after.mu == before.mu).all() and (after.sigma == before.sigma).all() and after.n == 30
    file.write_bytes(b"damaged")
    with pytest.raises(ValueError, match="cannot be read"):
        f.fcd_statistics(B)


def test_too_few_molecules_are_refused_before_any_work(cache, monkeypatch):
    monkeypatch.setattr(f, "_activations", None)
    with pytest.raises(ValueError, match="FCD of 30 valid generated molecules is mostly bias"):
        f.fcd(A, B)
    enough = [f"C{'C' * k}" for k in range(3)] * 700
    with pytest.raises(ValueError, match="FCD of 30 valid reference molecules"):
        f.fcd(enough, B)
    with pytest.raises(ValueError, match="FCD of 5 valid reference molecules"):
        f.fcd(enough, f.FcdStatistics(np.zeros(512), np.eye(512), 5))
    for molecules, match in ((["C((", None], "none of the 2 generated"), (["C"], "only one of the 1 generated")):
        with pytest.raises(ValueError, match=match):
            f.fcd(molecules, B, allow_small=True)
    with pytest.raises(ValueError, match="none of the 1 reference"):
        f.fcd(A, ["C(("], allow_small=True)
    with pytest.raises(ValueError, match="list of molecules is empty"):
        f.fcd([], B)


def test_the_scale_of_guacamol_is_of_fcd_only():
    from scidiffuse.core.scores import Score

    with pytest.raises(ValueError, match="expected the score fcd_torch, got 'snn'"):
        f.fcd_guacamol(Score("snn", 0.5, 0.4, 0.6, 9, 9, "1", "", ""))
