r"""Handwritten digits and a small denoiser of them: real data on which methods are shown in seconds.

The data are the 1797 digits of 8 x 8 pixels that scikit-learn carries (E. Alpaydin and C. Kaynak, "Optical recognition
of handwritten digits", UCI Machine Learning Repository, 1998), scaled from 0..16 to -1..1. Every tenth image is held
out. The denoiser knows the classes 0 to 9, and class 10 stands for "any" (`NULL`), so that one model serves
unconditional sampling, class conditions and classifier-free guidance. Train it again with

    python -m scidiffuse.core.digits --out FOLDER

`QDA` is a judge that is independent of the denoiser: one Gaussian a class with a shrunken covariance,

    log p(x, c) = log pi_c - |L_c^{-1} (x - m_c)|^2 / 2 - log |L_c|,     L_c L_c^T = (1 - s) S_c + s tr(S_c)/64 I,

so that log p(c | x) and log p(x) are closed forms.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import checkpoint
from .denoisers import Denoiser
from .networks import UNet
from .schedules import VPCosine

__all__ = ["ASSET", "NULL", "QDA", "build", "digits", "load", "train"]

NULL = 10
"""The class label that stands for "any class"."""

ASSET = Path(__file__).parent / "assets" / "digits"
"""Folder of the trained denoiser that comes with the package, and its card."""

CONFIG: dict[str, Any] = {"channels": 8, "multipliers": [1, 2], "blocks": 1, "heads": 2}


def digits(held_out: bool = False) -> tuple[Tensor, Tensor]:
    """The images (N, 1, 8, 8) in [-1, 1], float32, and their labels (N,): the training part, or the held-out tenth.

    Raises:
        ImportError: without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits come with scikit-learn: pip install scikit-learn") from error
    images, labels = load_digits(return_X_y=True)
    x = torch.as_tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 8.0 - 1.0
    c = torch.as_tensor(labels, dtype=torch.long)
    part = (torch.arange(len(x)) % 10 == 9) == held_out
    return x[part], c[part]


def build(config: dict[str, Any] | None = None) -> Denoiser:
    """The untrained denoiser: a U-Net that predicts the velocity of `VPCosine`."""
    network = UNet(2, 1, classes=NULL + 1, **{**CONFIG, **(config or {})})
    return Denoiser(network, VPCosine(), "velocity")


def load(folder: str | Path = ASSET) -> Denoiser:
    """The trained denoiser. Sample it with `condition={"condition": labels}`, labels (B,) of 0..9 or `NULL`.

    Raises:
        FileNotFoundError, CheckpointError: see `checkpoint.load`.
    """
    saved = checkpoint.load(folder, kind="Digits")
    denoiser = build(saved.config)
    saved.load_into(denoiser.network)
    denoiser.network.eval()
    return denoiser


def train(out: str | Path, steps: int = 1500, seed: int = 0, progress: bool = False) -> Denoiser:
    """Train the denoiser (needs the extra `train`); `out/model` is what `load` reads.

    Args:
        out: folder of the training, see `training.fit`.
        steps: optimizer steps of batches of 128.
        seed: of the initial weights, order, times, noise and dropout.
    """
    from .training import Objective, fit

    x, c = digits()
    data = [{"x": image, "condition": {"condition": label}} for image, label in zip(x, c, strict=True)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser = build()
    objective = Objective(dropout=0.3, null={"condition": NULL})
    fit(
        denoiser, data, max_steps=steps, batch_size=128, objective=objective, lr=3e-3, warmup=100, decay="cosine",
        ema=0.998, seed=seed, out=out, kind="Digits", config=CONFIG, save_every=steps, accelerator="cpu", devices=1,
        progress=progress,
    )  # fmt: skip
    return load(Path(out) / "model")


class QDA:
    """Quadratic discriminant analysis with shrunken covariances.

    Args:
        x: images (N, ...), flattened here.
        c: labels (N,), 0..C-1.
        shrinkage: s of the module's formula, in (0, 1].

    Raises:
        ValueError: for a shrinkage out of range.
    """

    def __init__(self, x: Tensor, c: Tensor, shrinkage: float = 0.1) -> None:
        if not 0.0 < shrinkage <= 1.0:
            raise ValueError(f"shrinkage must lie in (0, 1], got {shrinkage}")
        x = x.flatten(1).double()
        d = x.shape[1]
        means, roots, shares = [], [], []
        for label in range(int(c.max()) + 1):
            part = x[c == label]
            covariance = torch.cov(part.T)
            mean_variance = covariance.diagonal().mean()
            covariance = (1.0 - shrinkage) * covariance + shrinkage * mean_variance * torch.eye(d, dtype=x.dtype)
            means.append(part.mean(0))
            roots.append(torch.linalg.cholesky(covariance))
            shares.append(len(part) / len(x))
        self.means, self.roots = torch.stack(means), torch.stack(roots)
        self.log_shares = torch.tensor(shares, dtype=x.dtype).log()

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, c) up to a constant, (B, C)."""
        residual = x.flatten(1).double()[None] - self.means[:, None]
        white = torch.linalg.solve_triangular(self.roots, residual.mT, upper=False)
        log_det = self.roots.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return (self.log_shares - log_det)[None] - 0.5 * white.square().sum(1).T

    def log_posterior(self, x: Tensor) -> Tensor:
        """log p(c | x), (B, C)."""
        return self.log_joint(x).log_softmax(1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) up to a constant, (B,)."""
        return self.log_joint(x).logsumexp(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the small denoiser of handwritten digits.")
    parser.add_argument("--out", required=True, help="folder of the training")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    train(arguments.out, arguments.steps, arguments.seed, progress=True)
