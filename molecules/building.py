"""From dense arrays to molecules as they stand: what the protocols of validity begin with."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from .data.vocabulary import parse_type

__all__ = ["unsanitised"]


def unsanitised(A: Tensor, mask: Tensor, types: Tensor, vocabulary: tuple[str, ...], hydrogens: str) -> list[Any]:
    """RDKit molecules, not sanitised, one a graph: step 1 of the protocol of :mod:`.chem`, which goes on from there.

    Where the vocabulary has charged types, charges are those of the types; else the protocol gives charges to N, O and
    S that are one above their valence. An empty graph is a molecule without atoms.

    Args:
        A, mask, types: (B, N, N), (B, N), (B, N).
        vocabulary, hydrogens: see `Graphs`.
    """
    from .chem import build
    from .data.molecules import build as build_typed

    pairs = [parse_type(name) for name in vocabulary]
    typed = hydrogens == "explicit" or any(charge for _, charge in pairs)
    numbers = np.array([number for number, _ in pairs])
    out = []
    for a, there, kinds in zip(A.numpy(), mask.numpy(), types.numpy(), strict=True):
        a, kinds = a[np.ix_(there, there)], kinds[there]
        if typed:
            out.append(build_typed([pairs[k] for k in kinds], a, hydrogens))  # type: ignore[arg-type]
        else:
            out.append(build(numbers[kinds], a))
    return out
