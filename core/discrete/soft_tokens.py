r"""Networks of tokens asked about soft tokens: mixtures of ids, through which gradients flow.

A network looks up a vector E[x] for each id x. With a one-hot row e_x instead, E[x] = e_x E; a row that is any mixture
m of ids gets m E, linear in m. On one-hot rows both are the same numbers.

A network can be asked in one of two ways:

- it says so itself, by an attribute `soft_tokens = True`, and takes floating-point x (B, L, S) where it else takes ids;
- it has an `nn.Embedding` of S ids under the name `embed`, called once on the tokens, as `TokenTransformer` has: the
  network is called on the likeliest ids, and what `embed` answers is replaced by m E in that call.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .denoiser import TokenDenoiser

__all__ = ["check_soft", "soft_logits"]


def _embedding(network: Any, states: int) -> nn.Embedding | None:
    embed = getattr(network, "embed", None)
    return embed if isinstance(embed, nn.Embedding) and embed.num_embeddings == states else None


def check_soft(network: Any, states: int) -> None:
    """Refuse networks that cannot be asked about soft tokens.

    Raises:
        TypeError: saying what is missing.
    """
    if not getattr(network, "soft_tokens", False) and _embedding(network, states) is None:
        raise TypeError(
            f"gradients must flow through the tokens, and {type(network).__name__} takes ids alone: give it an "
            f"nn.Embedding({states}, ...) named `embed` that it calls once on the tokens, or an attribute "
            f"soft_tokens = True if it takes floating-point tokens (B, L, {states})"
        )


def soft_logits(denoiser: TokenDenoiser, x: Tensor, t: Any, **condition: Any) -> Tensor:
    """What the denoiser's network says about soft tokens.

    Args:
        denoiser: its network, process and label of the time.
        x: (B, L, S), rows >= 0 that sum to one.
        t: a float, or a tensor (B,) or (B, L).
        condition: passed to the network by name.

    Returns:
        Logits (B, L, S), differentiable in x.

    Raises:
        TypeError: for a network that takes ids alone, or did not call its `embed` on the tokens.
        ValueError: for logits of another shape.
    """
    network, ids = denoiser.network, x.detach().argmax(-1)
    check_soft(network, x.shape[-1])
    label = denoiser._label(t, ids)
    if getattr(network, "soft_tokens", False):
        logits = network(x, label, **condition)
    else:
        embed = _embedding(network, x.shape[-1])
        assert embed is not None
        calls = 0

        def mixed(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return torch.matmul(x.to(embed.weight.dtype), embed.weight)

        handle = embed.register_forward_hook(mixed)
        try:
            logits = network(ids, label, **condition)
        finally:
            handle.remove()
        if calls != 1:
            raise TypeError(
                f"{type(network).__name__} called its `embed` {calls} times, expected once, on the tokens: give it "
                "soft_tokens = True and take floating-point tokens instead"
            )
    return denoiser._checked(denoiser.leaf(None), logits, ids)
