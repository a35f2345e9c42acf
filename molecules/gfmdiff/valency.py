r"""The geometric-facilitated loss of :mod:`.model`: atoms shall have the valence that they are said to have.

C. Xu et al., "Geometric-facilitated denoising diffusion model for 3D molecule generation", AAAI 2024. On the data
prediction (x, h) at level t: the valence that distances give atom i,

    v_i = sum_{j != i} sum_{a, b} p_i(a) p_j(b) sum_{o = 1, 2, 3} sigmoid((l_o(a, b) - |x_i - x_j|) / w),

with EDM's largest lengths l_o (typical length + 0.10, 0.05, 0.03 Å for orders 1, 2, 3) of the types a, b, softened by
the width w, and p the types' channels without negative parts, divided by their sum. As w -> 0 it is the sum of bond
orders by which :mod:`..metrics.stability` judges. The loss of a molecule of n atoms compares it with the predicted
valence d_i (channel "valence" of h, of which the divisor is 10),

    weight alpha_t^power  1/n sum_i ((v_i - d_i) / 10)^2.

The types have no gradient, as published: the loss teaches where atoms are and what valence they are said to have.

What differs from the published code, which has three defects:

1. It reads distances, types and degrees off the predicted *noise*, not off the data prediction, so that no geometry is
   ever looked at. Here all is that of the data prediction.
2. Its bonds are hard (a comparison), so that positions have no gradient from it at all. Here they are soft.
3. Its triplet attention has the bias 1e-9 for absent atoms instead of a large negative one, which lets the padding
   into predictions (see :mod:`..networks.dual_track`). Here pads enter neither network nor loss.

The published weight is 0.01 with power 1. At much noise a data prediction is a blob in which everything is bonded, or
is scattered; there the loss says little, and its gradient through the data prediction grows as 1/alpha. A larger weight
with a larger power keeps it to where molecules have a shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..edm.features import Features
from ..metrics.stability import limits

__all__ = ["ValencyLoss", "soft_valence"]


def soft_valence(x: Tensor, types: Tensor, atoms: Tensor, lengths: Tensor, softness: float) -> Tensor:
    """v (B, N) of positions x (B, N, 3), probabilities of types (B, N, T) and atoms (B, N); see the module.

    Args:
        lengths: (3, T, T), l_o(a, b) in Å, 0 where there is no such bond.
        softness: w, Å.
    """
    distance = ((x.unsqueeze(1) - x.unsqueeze(2)).square().sum(-1) + 1e-12).sqrt()
    order: Tensor = torch.zeros_like(distance)
    for by_type in lengths:
        for length in by_type.unique().tolist():
            if length > 0.0:  # few lengths occur: one soft threshold each, times the chance of a pair of that length
                share = types @ (by_type == length).to(types.dtype) @ types.transpose(1, 2)
                order = order + share * torch.sigmoid((length - distance) / softness)
    pairs = atoms[:, :, None] & atoms[:, None] & ~torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    return torch.where(pairs, order, order.new_zeros(())).sum(-1)


@dataclass(frozen=True)
class ValencyLoss:
    """The loss of each molecule; see the module.

    Attributes:
        features: of the model; they hold valences.
        weight, power, softness: as there.
    """

    features: Features
    weight: float = 0.01
    power: float = 1.0
    softness: float = 0.05

    def lengths(self) -> Tensor:
        """(3, T, T) largest lengths in Å of the model's elements.

        Raises:
            ValueError: an element of which none are known.
        """
        return torch.from_numpy(limits(self.features.numbers.tolist()))

    def __call__(self, data: dict[str, Tensor], atoms: Tensor, alpha: Tensor) -> Tensor:
        """The loss of data predictions {"x", "h"} with these atoms (B, N) at levels with this alpha (B,): (B,)."""
        channels = self.features.types(data["h"].detach()).clamp_min(0.0)
        types = channels / channels.sum(-1, keepdim=True).clamp_min(1e-6)
        v = soft_valence(data["x"], types, atoms, self.lengths(), self.softness)
        there = atoms.to(v.dtype)
        mismatch = there * ((v - self.features.valence(data["h"])) / self.features.divisors[1]).square()
        return self.weight * alpha**self.power * mismatch.sum(1) / there.sum(1)
