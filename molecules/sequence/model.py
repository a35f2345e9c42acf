r"""MaskedSequence: DNA, RNA and proteins by masked diffusion.

S. Sahoo et al., "Simple and effective masked diffusion language models" (MDLM), NeurIPS 2024,
https://arxiv.org/abs/2406.07524; the pieces are those of `core.discrete`, each with its paper.

Letters are lost to a mask, each on its own, and a transformer (`core.networks.TokenTransformer`, which is not told the
time: the masks tell it) says of every mask which letter stands behind it. On top of a trained model:

===================  =================================================================================================
``sample``           letter by letter in random order, exact for an exact network ("first_hitting", one call a letter),
                     or many letters a call ("ancestral"); letters of a template held; steered by a reward of strings
``bits_per_token``   an upper bound on -log2 p a letter, with its protocol; ``log_likelihood`` the same in nats
``train_energy``     EDLM: what letters that are decided together have to do with each other, as an energy that chooses
                     among predictions, ``sample(sampler="ancestral", steps=8, candidates=8)``
``drakes``           fine-tuning for a differentiable reward, with the divergence from this model bounded
===================  =================================================================================================

A sequence has the length that it is given, or one drawn from the training sequences': the model does not predict ends.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from ...core.checkpoint import Checkpoint
from ...core.discrete import EDLM, NeuralEnergy, TokenDenoiser, TokenLikelihood, TokenObjective, bits_per_token
from ...core.discrete import drakes as fine_tune
from ...core.model import fit_model
from ...core.sample import sample
from ...core.samplers.base import Sampler
from ...core.settings import positive_integers
from ...core.spaces import Masked as Padded
from ..data.sequences import ALPHABETS, Sequences
from ..generator import Generator
from ..sizes import counts_of
from ..steering import Steering, choose
from ..training import Rows, budget
from .config import SequenceConfig
from .samples import SequenceSamples
from .sampling import method_of
from .steering import prepared, template_tokens
from .training import EnergyLoss, TrainingSet, build, build_energy, checked, digest_of, objective

__all__ = ["MaskedSequence"]

ENERGY = "MaskedSequence-energy"


class MaskedSequence(Generator):
    """A masked diffusion model of biological sequences.

    Args:
        alphabet: "dna", "rna", "protein", or the letters themselves.
        config: settings; or give its fields by name.

    Attributes:
        alphabet, config: letters and settings.
        length: L, letters of the longest training sequence; 0 before `fit`.
        lengths: (L + 1,) share of training sequences with 0..L letters.
        denoiser: the trained `TokenDenoiser` of states (B, L), ids of letters and the mask after them; None before.
        energy: the trained network of the energy, or None.
        tuning: what `drakes` recorded, a row an iteration; empty for other models.
        history: training log of the last `fit`.
        steps: optimizer steps taken, earlier runs included; 0 for a loaded model.

    Examples:
        >>> model = MaskedSequence("dna").fit(read_fasta("mine.fa"), epochs=20, seed=0)  # doctest: +SKIP
        >>> model.sample(100, template="." * 20 + "TATAAA" + "." * 34).write("designs.fasta")  # doctest: +SKIP
    """

    kind: ClassVar[str] = "MaskedSequence"
    config_class: ClassVar[type] = SequenceConfig
    fits: ClassVar[str] = "sequences"
    takes: ClassVar[type] = Sequences
    digested: ClassVar[str] = "letters, their order and padding count"
    config: SequenceConfig

    def __init__(self, alphabet: str = "dna", config: SequenceConfig | None = None, **settings: Any) -> None:
        super().__init__(config, **settings)
        letters = ALPHABETS.get(alphabet, alphabet) if isinstance(alphabet, str) else alphabet
        if (
            not isinstance(letters, str)
            or len(letters) < 2
            or len(set(letters)) < len(letters)
            or not letters.isupper()
        ):
            raise ValueError(f"an alphabet is {list(ALPHABETS)} or at least two different capitals, got {alphabet!r}")
        self.alphabet = letters
        self.length = 0
        self.lengths = torch.zeros(1, dtype=torch.float64)
        self.energy: torch.nn.Module | None = None
        self.tuning: list[dict[str, float]] = []

    def __repr__(self) -> str:
        return f"{self.kind}({self.alphabet}, {self.config}, {self._state()})"

    @classmethod
    def for_dataset(cls, data: Sequences, preset: str | None = None, **changes: Any) -> Self:
        """An untrained model for a set of sequences: of their alphabet and length.

        Args:
            data: what it will be trained on.
            preset: settings (`SequenceConfig.preset`), "small" where None. changes: settings that differ.

        Raises:
            TypeError: no `Sequences`. ValueError: none; an unknown preset, settings out of range.
        """
        cls._check(data)
        model = cls(data.alphabet, SequenceConfig.preset(preset or cls._fitting(data), **changes))
        model._define(data)
        return model

    @staticmethod
    def _fitting(data: Sequences) -> str:
        return "small"

    # -- training --------------------------------------------------------------------------------------------------
    def inputs(self, sequences: Sequences) -> Sequences:
        """Sequences as the network takes them.

        Raises:
            TypeError: no `Sequences`.
            ValueError: none, another alphabet, longer than the model's, or without any known letter.
        """
        return checked(sequences, self.alphabet, self.length)

    def _known(self) -> bool:
        return self.length > 0

    def _define(self, sequences: Sequences) -> None:
        self.length = sequences.tokens.shape[1]

    def _measure(self, sequences: Sequences) -> None:
        counts = torch.bincount(sequences.mask.sum(1), minlength=self.length + 1)
        self.lengths, self.data = counts.double() / len(sequences), digest_of(sequences)
        self.energy, self.tuning = None, []  # of the weights that are forgotten now

    def _rows(self, sequences: Sequences) -> TrainingSet:
        return TrainingSet(sequences)

    def _objective(self) -> TokenObjective:
        return objective()

    def _learning(self, network: torch.nn.Module, lr: float, steps: int, epoch: float) -> dict[str, Any]:
        c = self.config
        return {
            "lr": lr, "weight_decay": c.weight_decay, "warmup": c.warmup, "decay": c.decay, "grad_clip": c.grad_clip,
        }  # fmt: skip

    def train_energy(
        self,
        sequences: Sequences,
        *,
        epochs: float | None = None,
        max_steps: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        val: Sequences | None = None,
        seed: int = 0,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        save_every: int | None = None,
        progress: bool = False,
        **hardware: Any,
    ) -> Self:
        """Train the energy of EDLM beside the trained model, which does not change; arguments as for `fit`.

        `sample(candidates=k)` then chooses among k whole predictions at every step. `save` keeps it.

        Returns:
            self; the loss starts at 2 log 2, which is also where it ends if predictions miss nothing.

        Raises:
            RuntimeError: the model is not trained. ValueError: as `fit`.
        """
        base = self._trained()
        c, train = self.config, self.inputs(sequences)
        network = build_energy(c, len(self.alphabet), seed)
        carrier = TokenDenoiser(network, base.process)  # what `fit` trains; never asked itself
        size, max_steps = budget(c, len(train), epochs, max_steps, batch_size)
        header = self._header() | {"data": f"{digest_of(train)} energy of {self._fingerprint()}"}
        result = fit_model(
            carrier,
            TrainingSet(train),
            kind=ENERGY,
            header=header,
            digested=self.digested,
            objective=EnergyLoss(base),
            max_steps=max_steps,
            batch_size=size,
            ema=c.ema,
            seed=seed,
            val=None if val is None else TrainingSet(self.inputs(val)),
            out=out,
            resume=resume,
            save_every=save_every,
            collate=Rows.collate,
            progress=progress,
            **self._learning(network, c.lr if lr is None else lr, max_steps, len(train) / size),
            **hardware,
        )
        self.history, self.energy = result.history, network.eval().requires_grad_(False)
        return self

    def _fingerprint(self) -> str:
        """Of the weights, by which the training of an energy knows its model."""
        import hashlib

        digest = hashlib.sha256()
        for name, value in sorted(self._trained().network.state_dict().items()):
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    # -- sampling --------------------------------------------------------------------------------------------------
    def sample(
        self,
        n: int,
        *,
        sampler: Literal["first_hitting", "ancestral", "euler", "tau_leaping"] | Sampler = "first_hitting",
        steps: int | None = None,
        seed: int = 0,
        length: int | Sequence[int] | None = None,
        template: str | Sequence[str] | None = None,
        steering: Steering | None = None,
        candidates: int | None = None,
        window: tuple[float, float] = (0.0, 1.0),
        max_batch: int | None = 512,
        progress: bool = False,
    ) -> SequenceSamples:
        """Draw n sequences.

        Args:
            n: how many.
            sampler: "first_hitting" (one network call a letter; no steps), "ancestral", "euler", "tau_leaping", or one
                of the core's.
            steps: network calls of all but "first_hitting"; 128 where None.
            seed: of lengths and draws. Sample i depends on (seed, i) alone.
            length: one number of letters or one a sample; None: drawn from the lengths of the training sequences.
            template: letters that are given, "." where free, for all samples or one each; it sets the length. Given
                letters are in place from the start, and cost no call.
            steering: `core.steering.SVDD` or `FeynmanKac` with a reward of strings (or `core.discrete.OverDraws` of
                one). Each sample then costs `candidates` or `walkers` runs; of a Feynman-Kac group one walker is drawn
                by its weight.
            candidates: predictions among which the energy of `train_energy` chooses at every step; None: no energy.
            window: times in which it does.
            max_batch: largest batch for the network.
            progress: show a progress bar.

        Raises:
            RuntimeError: not trained, or candidates without an energy.
            ValueError: n < 1, steps < 1, steps of first-hitting, lengths or letters that the model does not know.
        """
        denoiser = self._trained()
        positive_integers({"the number of samples": n})
        method, steps = method_of(sampler, steps)
        mask_id = len(self.alphabet)
        if template is None:
            counts = counts_of(self.lengths, n, length, seed, what="letters")
            mask = torch.arange(int(counts.max())) < counts[:, None]
            x = torch.full(mask.shape, mask_id) * mask
        elif length is not None:
            raise ValueError("a template sets the length: give one of them")
        else:
            tokens, given, mask = template_tokens(template, n, self.alphabet, self.length)
            x = torch.where(given, tokens, mask_id) * mask
        hook = None if steering is None else prepared(steering, self.alphabet)
        walkers = 1 if hook is None else hook.group
        wide = mask.repeat_interleave(walkers, 0)
        edlm = self._edlm(candidates, window, wide)
        result = sample(
            denoiser,
            method,
            steps=steps,
            x=x.repeat_interleave(walkers, 0),
            space=Padded(wide),
            condition={"mask": wide},
            hooks=[h for h in (edlm, hook) if h is not None],
            seed=seed,
            max_batch=None if max_batch is None else max(max_batch, walkers),
            progress=progress,
        )
        chosen = torch.arange(n) if hook is None else choose(hook, result.state.aux, len(wide), seed, "sequence")
        sequences = Sequences(result.x[chosen].cpu(), mask, self.alphabet, tuple(range(n)), {})
        info = {
            "model": self.kind, "sampler": repr(method), "steps": steps, "seed": seed,
            "network_calls": result.calls * walkers, "template": template, "candidates": candidates,
            "steering": None if steering is None else type(steering).__name__,
        }  # fmt: skip
        return SequenceSamples(sequences.strings(), sequences, info, result.records)

    def _edlm(self, candidates: int | None, window: tuple[float, float], mask: Tensor) -> EDLM | None:
        if candidates is None:
            return None
        if self.energy is None:
            raise RuntimeError(f"candidates={candidates} are chosen by an energy: call train_energy(sequences) first")
        return EDLM(NeuralEnergy(self.energy), candidates, window=window, condition={"mask": mask})

    # -- likelihood ------------------------------------------------------------------------------------------------
    def bits_per_token(
        self, sequences: Sequences, *, seed: int = 0, draws: int = 32, max_batch: int | None = 256, **options: Any
    ) -> TokenLikelihood:
        """An upper bound on -log2 p a letter, given the lengths; see `core.discrete.bits_per_token`.

        By default the mean over orders of the chain rule: of what first-hitting samples. Letters that are not known are
        not counted. The energy has no part in it.

        Raises:
            RuntimeError: not trained. ValueError: as `inputs`, and as the core's.
        """
        denoiser, read = self._trained(), self.inputs(sequences)
        known = read.known
        tokens = torch.where(known, read.tokens, 0)
        return bits_per_token(
            denoiser, tokens, seed=seed, draws=draws, mask=known, condition={"mask": known}, max_batch=max_batch,
            **options,
        )  # fmt: skip

    def log_likelihood(self, sequences: Sequences, **options: Any) -> Tensor:
        """A lower bound on log p of each sequence, given its length, nats, (B,): `bits_per_token`, not divided.

        An unbiased estimate of the bound: one of few `draws` may lie above the true value.
        """
        found = self.bits_per_token(sequences, **options)
        return -found.per_sequence * found.lengths * math.log(2.0)

    # -- fine-tuning -----------------------------------------------------------------------------------------------
    def drakes(
        self,
        reward: Callable[[Tensor], Tensor],
        *,
        iterations: int,
        length: int | None = None,
        seed: int = 0,
        **options: Any,
    ) -> Self:
        """A model tuned for a reward, by gradients through its samples (C. Wang et al., "DRAKES", ICLR 2025).

        Args:
            reward: differentiable; one-hot letters (B, L, K) -> (B,), larger is better.
            iterations: optimizer steps.
            length: L of the samples; the commonest length of the training sequences where None.
            seed: of all draws.
            options: steps, truncate, temperature, straight, alpha (weight of the divergence from this model, in reward
                a nat), lr, batch_size, accumulate, grad_clip, dtype, out, resume, save_every, progress, callback of
                `core.discrete.drakes`.

        Returns:
            a new model, with `tuning` as its record: reward, KL in nats a sequence, loss. This one does not change. An
            energy belongs to the predictions of this model: the new one has none.

        Raises:
            RuntimeError: not trained. TypeError, ValueError: as the core's.
        """
        denoiser = self._trained()
        length = int(self.lengths.argmax()) if length is None else length
        counts_of(self.lengths, 1, length, seed, what="letters")  # a length that the model knows
        trainable = TokenDenoiser(denoiser.network, denoiser.process)
        denoiser.network.requires_grad_(True)
        try:
            result = fine_tune(trainable, reward, length=length, iterations=iterations, seed=seed, **options)
        finally:
            denoiser.network.requires_grad_(False)
        tuned = type(self)(self.alphabet, self.config)
        tuned.length, tuned.lengths, tuned.data = self.length, self.lengths, self.data
        tuned.denoiser, tuned.tuning = result.denoiser, result.history
        result.denoiser.network.eval().requires_grad_(False)
        return tuned

    # -- files -----------------------------------------------------------------------------------------------------
    def _build(self, seed: int) -> TokenDenoiser:
        return build(self.config, len(self.alphabet), seed)

    def _header(self) -> dict[str, Any]:
        return super()._header() | {
            "alphabet": self.alphabet,
            "length": self.length,
            "lengths": self.lengths.tolist(),
            "tuning": self.tuning,
        }

    def _extra(self) -> dict[str, Tensor]:
        return {} if self.energy is None else dict(self.energy.state_dict())

    def _restore(self, read: Checkpoint) -> None:
        super()._restore(read)
        stored = read.config
        self.alphabet, self.length, self.tuning = stored["alphabet"], int(stored["length"]), stored["tuning"]
        self.lengths = torch.tensor(stored["lengths"], dtype=torch.float64)
        if read.extra:
            energy = build_energy(self.config, len(self.alphabet), 0)
            replace(read, tensors=read.extra).load_into(energy)
            self.energy = energy.requires_grad_(False)
