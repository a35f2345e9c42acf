"""Rewards on strings for the steering of :mod:`.model`, and templates of letters that stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.discrete import OverDraws
from ...core.hooks import Step
from ..steering import Steering, with_reward

__all__ = ["FREE", "StringReward", "prepared", "template_tokens"]

FREE = "."
"""The sign of a place in a template that is not given."""


@dataclass(frozen=True, eq=False)
class StringReward:
    """A reward of tokens, from one of strings.

    Attributes:
        function: string -> number, larger is better.
        alphabet: the letters.
    """

    function: Callable[[str], float]
    alphabet: str

    def __call__(self, data: Tensor, step: Step | None) -> list[float]:
        """The reward of each sequence, (B,)."""
        assert step is not None
        letters, mask = np.array([*self.alphabet]), step.space.mask.cpu().numpy()  # type: ignore[attr-defined]
        mask = np.broadcast_to(mask, data.shape)
        return [float(self.function("".join(letters[x[m]]))) for x, m in zip(data.cpu().numpy(), mask, strict=True)]


def prepared(steering: Any, alphabet: str) -> Steering:
    """The hook that a run takes, of one whose reward is a function of strings.

    The reward may be an `OverDraws` of such a function: it is then asked about sequences drawn from the prediction.

    Raises:
        TypeError: neither `SVDD` nor `FeynmanKac`.
        ValueError: a learned value.
    """

    def wrap(given: Any) -> Any:
        if isinstance(given, OverDraws):
            return replace(given, reward=StringReward(given.reward, alphabet))  # type: ignore[arg-type]
        return StringReward(given, alphabet)

    return with_reward(steering, wrap)


def template_tokens(template: str | Sequence[str], n: int, alphabet: str, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens (n, L), which of them are given (n, L), and which places exist (n, L), of one template or n of them.

    Raises:
        ValueError: not n templates, an empty or too long one, a letter outside the alphabet.
    """
    texts = [template] * n if isinstance(template, str) else list(template)
    if len(texts) != n:
        raise ValueError(f"template is one string, or one for each of {n} samples; got {len(texts)}")
    tokens = torch.zeros(n, max((len(t) for t in texts), default=0), dtype=torch.long)
    given, exists = torch.zeros_like(tokens, dtype=torch.bool), torch.zeros_like(tokens, dtype=torch.bool)
    for i, text in enumerate(texts):
        if not 1 <= len(text) <= most:
            raise ValueError(f"template {i} has {len(text)} places; the model's sequences have 1 to {most}")
        wrong = next((k for k, letter in enumerate(text) if letter != FREE and letter not in alphabet), None)
        if wrong is not None:
            raise ValueError(
                f"template {i}: {text[wrong]!r} at {wrong + 1} is none of {alphabet}, nor {FREE!r} for a free place"
            )
        exists[i, : len(text)] = True
        for k, letter in enumerate(text):
            if letter != FREE:
                tokens[i, k], given[i, k] = alphabet.index(letter), True
    return tokens, given, exists
