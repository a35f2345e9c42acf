r"""Properties that a model of molecules in space is told: how they are normalised, dropped, and drawn.

E. Hoogeboom et al., 2022, section 5.2. A property y enters every atom as (y - mean) / mad, with the mean and the mean
absolute deviation of the training set. Here a last number says whether properties are given at all: 1, or all numbers
0 where they are dropped in training (classifier-free guidance: the null condition is 0).

Where a user gives none, they are drawn as EDM draws them: for each number of atoms n from a histogram of the training
molecules of that size (each property by itself), uniformly within the bin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ...core.noise import keyed_generator
from ..conditions import numbers_of
from ..data.atoms import Atoms

__all__ = ["Conditioning"]

_BINS = 50


@dataclass(frozen=True)
class Conditioning:
    """What is known of the properties of the training set; see the module.

    Attributes:
        names: of the properties. mean, mad: one each.
        histograms: by property, by number of atoms as text: [lowest, highest, counts].
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    mad: tuple[float, ...]
    histograms: dict[str, dict[str, list[Any]]]

    @classmethod
    def of(cls, atoms: Atoms, names: Sequence[str]) -> Self:
        """Read off a training set.

        Raises:
            ValueError: a property that it lacks, values that are missing, or all equal.
        """
        absent = [name for name in names if name not in atoms.properties]
        if absent:
            raise ValueError(f"the molecules have no property {absent[0]!r}; they have {list(atoms.properties)}")
        mean, mad = [], []
        histograms: dict[str, dict[str, list[Any]]] = {}
        sizes = atoms.num_atoms.numpy()
        for name in names:
            values = atoms.properties[name].double().numpy()
            bad = np.flatnonzero(~np.isfinite(values))
            if len(bad):
                raise ValueError(
                    f"property {name!r} of molecule {bad[0]} (id {atoms.ids[bad[0]]!r}) is not known ({len(bad)} "
                    "such): leave those molecules out"
                )
            mean.append(float(values.mean()))
            mad.append(float(np.abs(values - values.mean()).mean()))
            if not mad[-1] > 0.0:
                raise ValueError(
                    f"property {name!r} is {mean[-1]} in every molecule: there is nothing to learn from it"
                )
            histograms[name] = {}
            for n in np.unique(sizes).tolist():
                own = values[sizes == n]
                low, high = float(own.min()), float(own.max())
                counts = np.histogram(own, _BINS, (low, high))[0].tolist() if high > low else [len(own)]
                histograms[name][str(n)] = [low, high, counts]
        return cls(tuple(names), tuple(mean), tuple(mad), histograms)

    @property
    def width(self) -> int:
        """Numbers that the network is told of a molecule: one a property and whether they are given; 0 of none."""
        return len(self.names) + 1 if self.names else 0

    def context(self, values: Mapping[str, Tensor]) -> Tensor:
        """What the network is told, (B, width) float32, of values (B,) by name."""
        columns = [(values[n].double() - m) / d for n, m, d in zip(self.names, self.mean, self.mad, strict=True)]
        return torch.stack([*columns, torch.ones_like(columns[0])], 1).float()

    def asked(self, given: Mapping[str, Any] | None, counts: Tensor, seed: int) -> dict[str, Tensor]:
        """The properties that n samples with so many atoms (n,) are asked for, (n,) float64 by name: given, or drawn.

        Raises:
            ValueError: unknown names, not one number or n of them, sizes that training molecules did not have.
        """
        given = dict(given or {})
        strange = sorted(set(given) - set(self.names))
        if strange:
            raise ValueError(f"the model was trained with the properties {list(self.names)}, got {strange}")
        out = {}
        for name in self.names:
            if name in given:
                out[name] = numbers_of(name, given[name], len(counts))
            else:
                out[name] = self._drawn(name, counts, seed)
        return out

    def _drawn(self, name: str, counts: Tensor, seed: int) -> Tensor:
        u = keyed_generator(seed, f"property/{name}").random((len(counts), 2))
        values = []
        for n, (which, where) in zip(counts.tolist(), u, strict=True):
            if str(n) not in self.histograms[name]:
                raise ValueError(f"no training molecule has {n} atoms, so {name!r} cannot be drawn: give condition=")
            low, high, bins = self.histograms[name][str(n)]
            edges = np.cumsum(bins) / np.sum(bins)
            k = int(np.searchsorted(edges, which, side="right"))
            values.append(low + (high - low) * (k + where) / len(bins))
        return torch.tensor(values, dtype=torch.float64)
