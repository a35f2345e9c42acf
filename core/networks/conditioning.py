"""What a network is told about the whole sample besides its time: integer class labels, or a vector.

The result is added to the embedded time, as in "Diffusion Models Beat GANs on Image Synthesis" (Dhariwal, Nichol, 2021)
for labels. Dropping the condition for classifier-free guidance, and what stands for "no condition", belong to training.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Conditioning"]


class Conditioning(nn.Module):
    """A condition of the whole sample, as a vector to add to the embedded time: class labels or a vector.

    Args:
        width: W of the result.
        condition_dim: D of a condition vector (B, D); or
        classes: number of classes of integer labels (B,). A class more than the data have can stand for "none".

    Shapes:
        condition (B, D) or long (B,) -> (B, W).
    """

    def __init__(self, width: int, condition_dim: int | None = None, classes: int | None = None) -> None:
        super().__init__()
        if condition_dim is not None and classes is not None:
            raise ValueError("give condition_dim (a vector) or classes (integer labels), not both")
        self.condition_dim, self.classes = condition_dim, classes
        self.embed: nn.Module | None = None
        if condition_dim is not None:
            self.embed = nn.Sequential(nn.Linear(condition_dim, width), nn.SiLU(), nn.Linear(width, width))
        elif classes is not None:
            self.embed = nn.Embedding(classes, width)

    def forward(self, condition: Tensor | None, batch: int) -> Tensor | None:
        if self.embed is None:
            if condition is not None:
                raise ValueError("this network takes no condition: build it with condition_dim=D or classes=K")
            return None
        came = "none" if condition is None else type(condition).__name__
        if isinstance(condition, Tensor):
            came = f"{condition.dtype} {tuple(condition.shape)}"
        elif condition is not None:
            raise TypeError(f"condition: got {came}, expected a tensor with one entry for each of {batch} samples")
        if self.classes is not None:
            if condition is None or condition.shape != (batch,) or condition.dtype not in (torch.int32, torch.int64):
                raise ValueError(f"condition: got {came}, expected integer class labels of shape ({batch},)")
            if not torch.compiler.is_compiling() and not bool(((condition >= 0) & (condition < self.classes)).all()):
                low, high = int(condition.min()), int(condition.max())
                raise ValueError(f"class labels must lie in 0..{self.classes - 1}, got {low}..{high}")
            return self.embed(condition)
        if condition is None or condition.shape != (batch, self.condition_dim):
            raise ValueError(f"condition: got {came}, expected a vector of shape ({batch}, {self.condition_dim})")
        return self.embed(condition.to(next(self.embed.parameters()).dtype))
