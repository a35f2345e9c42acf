r"""Fréchet ChemNet distance (FCD), with its bias said and its reference statistics kept.

Preuer et al., "Fréchet ChemNet Distance: A Metric for Generative Models for Molecules in Drug Discovery", 2018,
https://arxiv.org/abs/1803.09518. With mean mu and covariance S of the 512 activations of the last layer but one of
ChemNet (weights of fcd-torch 1.0.7):

    FCD = |mu_g - mu_r|^2 + tr S_g + tr S_r - 2 tr (S_r^1/2 S_g S_r^1/2)^1/2.

- ``fcd_torch``: this number, lower is better. ``fcd_guacamol`` = exp(-0.2 FCD) (Brown et al., "GuacaMol", 2019), higher
  is better: two scales under one name have confused comparisons before.
- *Bias*: a covariance of 512 x 512 from n molecules is too wide. Two samples of 1,000 of one data set (MOSES test) are
  about 4.2 apart. FCD is refused below 2,048 molecules on either side unless it is asked for, and warned about below
  10,000; numbers of different n are not comparable.
- *Toolchains*: the original implementation (fcd, Keras weights) and this one differ in the third digit; SMILES are made
  canonical first, so that RDKit's version counts as well.
- *Reference statistics* of many molecules take minutes; they are kept in the cache folder under the digest of the list
  of SMILES and of the version of fcd-torch.

Bootstrap over generated molecules (:func:`.uncertainty.around`); the reference is taken as given.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ...core.datasets import cache_folder
from ...core.scores import Score
from ..chem import canonical
from ..data.files import load_arrays, save_arrays
from .uncertainty import around, weights
from .validity import molecules_of

__all__ = ["FcdStatistics", "check_size", "fcd", "fcd_guacamol", "fcd_statistics", "frechet"]

_KIND = "fcd statistics 1"
_LEAST, _ENOUGH = 2048, 10_000


@dataclass(frozen=True)
class FcdStatistics:
    """What the reference contributes: ``mu`` (512,), ``sigma`` (512, 512), float64, of ``n`` molecules."""

    mu: np.ndarray
    sigma: np.ndarray
    n: int


@lru_cache(maxsize=1)
def _chemnet() -> Any:
    try:
        from fcd_torch import FCD
    except ImportError as error:
        raise ImportError('FCD needs fcd-torch: pip install "scidiffuse[molecules]"') from error
    return FCD(device="cpu", n_jobs=1, canonize=True)


def _activations(smiles: list[str]) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # numpy.row_stack inside fcd-torch
        return np.asarray(_chemnet().get_predictions(smiles), dtype=np.float64)


def _smiles(molecules: Sequence[Any], role: str) -> list[str]:
    found = [canonical(m) for m in molecules_of(molecules) if m is not None]
    out = [s for s in found if s]
    check_size(len(out), len(molecules), role)
    return out


def fcd_statistics(molecules: Sequence[Any], *, cache: bool = True) -> FcdStatistics:
    """Mean and covariance of the activations of reference molecules, from the cache where it has them.

    Args:
        molecules: SMILES or molecules, at least 2 valid. cache: whether to read and write the cache folder.

    Raises:
        ValueError: fewer than 2 valid molecules.
    """
    return _statistics(_smiles(molecules, "reference"), cache)


def _statistics(smiles: list[str], cache: bool) -> FcdStatistics:
    digest = hashlib.sha256("\n".join([version("fcd-torch"), *smiles]).encode()).hexdigest()
    path = Path(cache_folder()) / "fcd" / f"{digest[:32]}.npz"
    if cache and path.exists():
        arrays = load_arrays(path, _KIND)
        return FcdStatistics(arrays["mu"], arrays["sigma"], int(arrays["n"]))
    x = _activations(smiles)
    out = FcdStatistics(x.mean(axis=0), np.cov(x.T), len(x))
    if cache:
        save_arrays(path, _KIND, {"mu": out.mu, "sigma": out.sigma, "n": np.array(out.n)})
    return out


def frechet(mu: np.ndarray, sigma: np.ndarray, mu_r: np.ndarray, root_r: np.ndarray) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two normal laws.

    Args:
        mu, sigma: (d,), (d, d) of one. mu_r, root_r: mean, and *symmetric root of the covariance*, of the other.
    """
    inner = np.linalg.eigvalsh(root_r @ sigma @ root_r)
    cross = np.sqrt(np.clip(inner, 0.0, None)).sum()
    return float(((mu - mu_r) ** 2).sum() + np.trace(sigma) + (root_r**2).sum() - 2 * cross)


def _root(sigma: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(sigma)
    return (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T


def fcd(
    molecules: Sequence[Any],
    reference: Sequence[Any] | FcdStatistics,
    *,
    allow_small: bool = False,
    draws: int = 20,
    level: float = 0.95,
    seed: int = 0,
    cache: bool = True,
) -> Score:
    """``fcd_torch`` of generated against reference molecules.

    Args:
        molecules: SMILES or molecules. reference: the same, or what :func:`fcd_statistics` gave.
        allow_small: compute it below 2,048 molecules too, where it is mostly bias.
        draws, level, seed: of the interval; a draw costs about 50 ms. cache: of the reference statistics.

    Raises:
        ValueError: no valid molecule, or fewer than 2,048 on a side without ``allow_small``; fewer than 2 ever.

    Warns:
        UserWarning: fewer than 10,000 molecules on a side.
    """
    smiles = _smiles(molecules, "generated")
    check_size(len(smiles), len(molecules), "generated", allow_small)
    if isinstance(reference, FcdStatistics):
        check_size(reference.n, reference.n, "reference", allow_small)
    else:
        known = _smiles(reference, "reference")
        check_size(len(known), len(reference), "reference", allow_small)
        reference = _statistics(known, cache)
    least = min(len(smiles), reference.n)
    if least < _ENOUGH:
        warnings.warn(
            f"FCD of {len(smiles)} against {reference.n} molecules: below {_ENOUGH:,} its bias is large (two samples "
            "of 1,000 of one data set are about 4 apart), and numbers of different n cannot be compared",
            stacklevel=2,
        )
    x, n, root = _activations(smiles), len(smiles), _root(reference.sigma)

    def distance(w: np.ndarray) -> float:
        mu = w @ x
        sigma = (x.T * w) @ x - np.outer(mu, mu)
        return frechet(mu, sigma * n / (n - 1), reference.mu, root)

    value = frechet(x.mean(axis=0), np.cov(x.T), reference.mu, root)
    rng = np.random.Generator(np.random.PCG64(seed))
    redrawn = np.array([distance(w) for w in weights(n, draws, rng)])
    text = f"Fréchet distance of ChemNet activations (fcd-torch {version('fcd-torch')}), {n} against {reference.n}"
    return around("fcd_torch", value, redrawn, n, "1", text, level=level, left_out=len(molecules) - n)


def check_size(n: int, given: int, role: str, allow_small: bool = True) -> None:
    """Refuse too few molecules, before anything is computed.

    Args:
        n: valid ones, of those given. role: "generated" or "reference". allow_small: 2 are enough.

    Raises:
        ValueError: fewer than 2, or than 2,048 without ``allow_small``.
    """
    if n < 2:
        few = "none" if n == 0 else "only one"
        raise ValueError(f"{few} of the {given} {role} molecules is valid: FCD needs covariances of two sets")
    if n < _LEAST and not allow_small:
        raise ValueError(
            f"FCD of {n} valid {role} molecules is mostly bias: give at least {_LEAST}, better {_ENOUGH:,}, or say "
            "allow_small=True and compare only numbers of the same n"
        )


def fcd_guacamol(distance: Score) -> Score:
    """``fcd_guacamol`` = exp(-0.2 FCD), in (0, 1], higher is better: GuacaMol's scale of the same distance.

    Raises:
        ValueError: another score.
    """
    if distance.name != "fcd_torch":
        raise ValueError(f"expected the score fcd_torch, got {distance.name!r}")
    value, low, high = (math.exp(-0.2 * v) for v in (distance.value, distance.high, distance.low))
    text = f"exp(-0.2 FCD); {distance.definition}"
    return replace(distance, name="fcd_guacamol", value=value, low=low, high=high, definition=text)
