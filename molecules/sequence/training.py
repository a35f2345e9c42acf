r"""How :mod:`.model` is trained: batches, the network of letters, the network of the energy and its loss.

*Letters.* By time t each letter of a sequence is masked with probability 1 - alpha(t). The loss is the bound in
continuous time of `core.discrete.TokenObjective` (S. Sahoo et al., "Simple and effective masked diffusion language
models" (MDLM), NeurIPS 2024): nats a letter. Letters that are not known, and places after the end, do not exist: the
network does not see them, nothing is masked there, no loss is computed there.

*Energy.* Letters that are decided together are predicted each on its own. An energy E(x_0, x_t) tells sequences of the
data from those drawn from the prediction at the same x_t (M. Xu et al., "Energy-based diffusion language models for
text generation" (EDLM), ICLR 2025): loss -log sigmoid(-E(x_0)) - log sigmoid(E(x_0^-)), at uniform times. Here it is a
sum of one number for each letter that x_t masks, which a transformer computes from the pair (letter, masked or not),
one token of 2 S: so a sequence without a mask has E = 0, as the exact energy has. It starts at E = 0 everywhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...core.discrete import Masked, NeuralEnergy, TokenDenoiser, TokenObjective, nce_loss
from ...core.discrete.categorical import uniforms
from ...core.networks import TokenTransformer
from ...core.spaces import Masked as Padded
from ...core.training.keys import Keys
from ...core.training.times import Stratified, Uniform
from ..data.sequences import Sequences
from ..training import Rows
from .config import SequenceConfig

__all__ = ["EnergyLoss", "EnergyNetwork", "TrainingSet", "build", "build_energy", "checked", "digest_of", "objective"]

EARLIEST = 1e-3


def checked(sequences: Sequences, alphabet: str, length: int) -> Sequences:
    """The sequences, if a model of `alphabet` and up to `length` letters (0: any number) can take them.

    Raises:
        TypeError: no `Sequences`.
        ValueError: none, another alphabet, too long, or without any known letter.
    """
    if not isinstance(sequences, Sequences):
        raise TypeError(
            f"expected Sequences (data.read_fasta and data.from_strings make them), got {type(sequences).__name__}"
        )
    if len(sequences) == 0:
        raise ValueError("there are no sequences")
    if sequences.alphabet != alphabet:
        raise ValueError(
            f"the model's alphabet is {alphabet}, these sequences have {sequences.alphabet}: read them with "
            f"alphabet={alphabet!r}"
        )
    longest = int(sequences.mask.sum(1).max())
    if length and longest > length:
        raise ValueError(f"the model's sequences have up to {length} letters, got one of {longest}: cut them")
    blank = (~sequences.known.any(1)).nonzero().flatten().tolist()
    if blank:
        raise ValueError(
            f"sequence {blank[0]} (id {sequences.ids[blank[0]]!r}) has no letter of the alphabet "
            f"({len(blank)} such): leave it out"
        )
    return sequences


def digest_of(sequences: Sequences) -> str:
    """The first 16 hex digits of SHA-256 over letters and ends, by which a resumed training knows its data."""
    digest = hashlib.sha256(sequences.alphabet.encode())
    for part in (sequences.tokens, sequences.mask):
        digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def build(config: SequenceConfig, letters: int, seed: int) -> TokenDenoiser:
    """The untrained denoiser of sequences over `letters` letters, with the initial weights of `seed`."""
    c = config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TokenTransformer(
            letters + 1, c.width, c.depth, c.heads, positions=c.positions, time=None, dropout=c.dropout
        )
    return TokenDenoiser(network, Masked(letters + 1, keep=c.keep))


class EnergyNetwork(nn.Module):
    """E of whole sequences; see the module.

    Args:
        config: settings.
        letters: of the alphabet; the mask is the id after them.

    Shapes:
        x0 (B, L) long, x (B, L) long with masks, t ignored, mask (B, L) bool: the letters that exist -> (B,).
    """

    def __init__(self, config: SequenceConfig, letters: int) -> None:
        super().__init__()
        self.letters = letters
        self.body = TokenTransformer(
            2 * letters, config.energy_width, config.energy_depth, config.heads, classes=1, positions=config.positions,
            time=None, dropout=config.dropout,
        )  # fmt: skip

    def forward(self, x0: Tensor, x: Tensor, t: Any, mask: Tensor | None = None) -> Tensor:
        hidden = x == self.letters
        values = self.body(x0 + self.letters * hidden, None, mask=mask).squeeze(-1)
        counts = hidden if mask is None else hidden & mask
        return torch.where(counts, values, 0.0).sum(1)


def build_energy(config: SequenceConfig, letters: int, seed: int) -> EnergyNetwork:
    """The untrained network of the energy with the initial weights of `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EnergyNetwork(config, letters)


def objective() -> TokenObjective:
    """The loss of letters; see the module."""
    return TokenObjective(
        times=Stratified(Uniform(EARLIEST, 1.0)), space=lambda batch: Padded(batch["condition"]["mask"])
    )


@dataclass(frozen=True, eq=False)
class EnergyLoss:
    """The contrastive loss of each sequence, `(denoiser, batch, keys)` -> (B,); the denoiser holds the energy.

    Attributes:
        base: the trained denoiser of letters, from which the negatives are drawn.
    """

    base: TokenDenoiser

    def __call__(self, denoiser: Any, batch: dict[str, Any], keys: Keys, *, training: bool = True) -> Tensor:
        x0, mask = batch["x"], batch["condition"]["mask"]
        space, process = Padded(mask), self.base.process
        assert isinstance(process, Masked)
        t = Stratified(Uniform(EARLIEST, 1.0)).times(keys.uniforms("time"), keys.stratum, keys.strata).to(x0.device)
        x = space.project(process.corrupt(x0, t, uniforms(keys.noise, space, x0, 0, "noise")))
        with torch.no_grad():
            negatives = self.base.on(space)(x, t, mask=mask).draw(keys.noise, space, 0, "negative")
        return nce_loss(NeuralEnergy(denoiser.network), x0, x, t, negatives, mask=mask)


class TrainingSet(Rows):
    """Sequences as a data set.

    Args:
        sequences: of which every one has a known letter.
    """

    def __init__(self, sequences: Sequences) -> None:
        self.known = sequences.known
        self.tokens = torch.where(self.known, sequences.tokens, 0)

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: Tensor) -> dict[str, Any]:
        """{"x": (B, L), "condition": {"mask": (B, L)}}."""
        return {"x": self.tokens[rows], "condition": {"mask": self.known[rows]}}
