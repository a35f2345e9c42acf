r"""What a diffusion of molecules in space walks on: positions x and features h of atoms, and the way back.

    x (B, N, 3)  Å, without their mean                              in ZeroCoM(mask), 3 (n - 1) degrees of freedom
    h (B, N, F)  one-hot type / 4, atomic number / 10, valence / 10  in Masked(mask),  F n degrees of freedom

The divisors are EDM's and GFMDiff's: h then takes its final values later in sampling than x does. EDM has types and
atomic numbers; GFMDiff the valence of the atom, too (called degree there). The valence is the sum of the orders of the
bonds there are; of atoms without bonds, those that :func:`..metrics.stability.bond_orders` reads off the distances.
Samples are read by types alone: the likeliest.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ...core.spaces import Masked, Product, ZeroCoM
from ..data.atoms import Atoms
from ..data.vocabulary import number_of
from ..metrics.stability import VALENCES, bond_orders

__all__ = ["Features", "Part", "digest_of_atoms", "space_of", "valences"]

Part = Literal["types", "number", "valence"]


def space_of(mask: Tensor) -> Product:
    """Where (x, h) of molecules with these atoms (B, N) live."""
    return Product(x=ZeroCoM(mask), h=Masked(mask))


def valences(atoms: Atoms) -> Tensor:
    """(B, N) float32: the sum of bond orders at each atom, zero at absent ones.

    Raises:
        ValueError: no bonds, and elements of which no bond lengths are known.
    """
    if atoms.bonds is not None:
        return atoms.bonds.sum(-1).float()
    out = []
    for first in range(0, len(atoms), 2048):
        part = atoms[first : first + 2048]
        orders = bond_orders(part.numbers.numpy(), part.positions.numpy(), part.mask.numpy())
        out.append(torch.from_numpy(orders.sum(-1)).float())
    return torch.cat(out)


@dataclass(frozen=True)
class Features:
    """How atoms become (x, h) and back; see the module.

    Attributes:
        elements: the types, in the order of their channels.
        parts: what h holds, in order; "types" first.
        divisors: of types, of atomic number and valence.
    """

    elements: tuple[str, ...]
    parts: tuple[Part, ...]
    divisors: tuple[float, float]

    def __post_init__(self) -> None:
        if not self.parts or self.parts[0] != "types" or not set(self.parts) <= set(get_args(Part)):
            raise ValueError(f"parts are of {list(get_args(Part))}, 'types' first, got {list(self.parts)}")

    @property
    def width(self) -> int:
        """F."""
        return len(self.channels)

    @property
    def channels(self) -> tuple[str, ...]:
        """What each of the F channels is: "types" for each element, then the other parts."""
        return (*("types",) * len(self.elements), *self.parts[1:])

    @property
    def largest(self) -> float:
        """The largest value a channel can have: types are one-hot, and no valence is above 8."""
        values = {"types": 1.0 / self.divisors[0], "number": float(self.numbers.max()) / self.divisors[1]}
        return max(values.get(part, 8.0 / self.divisors[1]) for part in self.parts)

    @property
    def numbers(self) -> Tensor:
        """(T,) long: atomic numbers of the types."""
        return torch.tensor([number_of(e) for e in self.elements])

    def encode(self, atoms: Atoms) -> Tensor:
        """h (B, N, F) of molecules, float32.

        Raises:
            ValueError: an atom of another element.
        """
        types, (by, rest) = atoms.types(self.elements), self.divisors
        more = {"number": lambda: atoms.numbers.float(), "valence": lambda: valences(atoms)}
        return torch.cat([types / by, *(more[part]().unsqueeze(-1) / rest for part in self.parts[1:])], -1)

    def types(self, h: Tensor) -> Tensor:
        """The channels of types as they were before division, (B, N, T): near one-hot."""
        return h[..., : len(self.elements)] * self.divisors[0]

    def valence(self, h: Tensor) -> Tensor:
        """The channel of valences before division, (B, N).

        Raises:
            ValueError: there is none.
        """
        if "valence" not in self.parts:
            raise ValueError(f"these features are {list(self.parts)}: they hold no valence")
        return h[..., len(self.elements) + self.parts.index("valence") - 1] * self.divisors[1]

    def decode(self, x: Tensor, h: Tensor, mask: Tensor) -> Atoms:
        """Molecules of samples: positions as they are, the likeliest type of each atom, no charges, no bonds."""
        numbers = self.numbers[self.types(h).argmax(-1)].to(torch.uint8) * mask
        positions = torch.where(mask[..., None], x, x.new_zeros(())).float()
        return Atoms(positions, numbers, torch.zeros_like(numbers, dtype=torch.int8), mask)

    def check(self, atoms: Atoms, largest: int) -> Atoms:
        """The atoms, padded to `largest`, if a model of these features can take them.

        Raises:
            TypeError: no Atoms.
            ValueError: none, single atoms, too many atoms, other elements.

        Warns:
            UserWarning: charged atoms, whose charge is not learned.
        """
        if not isinstance(atoms, Atoms):
            raise TypeError(
                f"expected Atoms (data.qm9_atoms, data.read_sdf, ... make them), got {type(atoms).__name__}"
            )
        if len(atoms) == 0:
            raise ValueError("there are no molecules to train on")
        n = atoms.num_atoms
        single = (n < 2).nonzero().flatten().tolist()
        if single:
            raise ValueError(
                f"molecule {single[0]} (id {atoms.ids[single[0]]!r}) is a single atom ({len(single)} such): without "
                "its centre of mass nothing is left of it; leave them out: atoms[atoms.num_atoms > 1]"
            )
        if int(n.max()) > largest:
            raise ValueError(f"the model is one of up to {largest} atoms, these have up to {int(n.max())}")
        strange = sorted(set(atoms.elements) - set(self.elements))
        if strange:
            raise ValueError(f"the model knows the elements {list(self.elements)}, these molecules have {strange} too")
        charged = int(atoms.charges.ne(0).any(1).sum())
        if charged:
            warnings.warn(
                f"{charged} of {len(atoms)} molecules have charged atoms: these features know no charges, samples have "
                "none. Leave them out where that matters (in Python atoms[~atoms.charges.bool().any(1)])",
                stacklevel=4,
            )
        if "valence" in self.parts and atoms.bonds is None:
            unknown = sorted(set(self.numbers.tolist()) - set(VALENCES))
            if unknown:
                raise ValueError(
                    f"no bond lengths are known for atomic numbers {unknown}: give atoms with bonds (read_sdf)"
                )
        return resized(atoms, largest)


def resized(atoms: Atoms, size: int) -> Atoms:
    """The same molecules with N = `size`: padding added, or cut off where no molecule needs it."""
    old = atoms.mask.shape[1]
    if size == old:
        return atoms
    keep, more = min(old, size), max(0, size - old)

    def fit(value: Tensor, axes: Sequence[int]) -> Tensor:
        for axis in axes:
            value = value.narrow(axis, 0, keep)
            if more:
                blank = value.new_zeros([more if a == axis else s for a, s in enumerate(value.shape)])
                value = torch.cat([value, blank], axis)
        return value

    bonds = None if atoms.bonds is None else fit(atoms.bonds, (1, 2))
    rest: dict[str, Any] = {
        name: fit(getattr(atoms, name), (1,)) for name in ("positions", "numbers", "charges", "mask")
    }
    return replace(atoms, bonds=bonds, **rest)


def digest_of_atoms(atoms: Atoms, properties: Sequence[str] = ()) -> str:
    """The first 16 hex digits of SHA-256 over positions, elements, bonds and some properties: which data these are."""
    import hashlib

    digest = hashlib.sha256(repr(tuple(properties)).encode())
    for part in (atoms.positions, atoms.numbers, atoms.mask, atoms.bonds, *(atoms.properties[p] for p in properties)):
        digest.update(b"-" if part is None else part.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
