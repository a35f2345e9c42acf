r"""Plans: a linear sampler written down as a table of rows, one network call each.

A `Row` asks for a prediction at time `t` and writes new registers as linear combinations of what is
there. The letters that a combination may use:

====  ==========================================================================================
x     the current state                        q   the state that was asked about (after churn)
P     the prediction that the row uses         D, N, V  data, noise and ODE velocity
z     this row's standard normal noise         y   the known reference
...   every register of the plan's memory
====  ==========================================================================================

Registers whose name starts with "x" hold states; their level matters, because a reference enters
them. Rows are written as if there were no reference: with x = z + beta y, a combination
sum_i c_i x_i at levels t_i gives a state at level t when (beta(t) - sum_i c_i beta(t_i)) y is added,
and `with_reference` does so for a whole plan. Plans of the leaves of a product state are merged into
one whose coefficients are dictionaries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from ..grids import Grid
from ..schedules import Schedule
from ..spaces import Coef
from ..tree import tree_map

__all__ = ["Combination", "Plan", "Row", "merge", "with_reference"]

Combination = dict[str, Coef]
Use = Literal["data", "noise", "velocity"]
ScalarProgram = tuple[tuple[str, str, Tensor | None, tuple[tuple[str, float], ...]], ...]


@dataclass(frozen=True)
class Row:
    """One network call.

    Attributes:
        t: the level that is asked about.
        t_next: the level of `x` afterwards.
        out: new registers, each a combination.
        use: which prediction `P` stands for.
        query: the combination to ask about; `{"x": 1.0}` unless noise is added first.
        levels: level of the other state registers that are written ("xs": 0.7).
        step: index of the step of the grid that the row belongs to.
        last: whether it is the last row of that step.
        gains: history nodes gained.
        std: standard deviation of x afterwards, given the prediction (0: deterministic).
    """

    t: float
    t_next: float
    out: dict[str, Combination]
    use: Use = "data"
    query: Combination = field(default_factory=lambda: {"x": 1.0})
    levels: dict[str, float] = field(default_factory=dict)
    step: int = 0
    last: bool = True
    gains: int = 0
    std: Coef = 0.0

    @cached_property
    def program(self) -> tuple[tuple[str, tuple[tuple[str, Coef], ...]], ...]:
        """`out` as nested tuples without zero terms."""
        return tuple(
            (register, tuple((s, c) for s, c in terms.items() if not _is_zero(c)))
            for register, terms in self.out.items()
        )

    @cached_property
    def scalar(self) -> bool:
        """Whether every coefficient is a plain number."""
        return all(terms and all(isinstance(c, float) for _, c in terms) for _, terms in self.program)

    @cached_property
    def _programs(self) -> dict[torch.dtype, ScalarProgram]:
        return {}

    def scalar_program(self, dtype: torch.dtype) -> ScalarProgram:
        """`program` for plain tensors of `dtype`: (register, first source, its coefficient, other terms).

        The first coefficient is a 0-dimensional tensor of that type (a product with one takes half the
        time of a product with a float), or None where the register is a copy. Needs `scalar`.
        """
        found = self._programs.get(dtype)
        if found is None:
            result = []
            for register, terms in self.program:
                (source, c), *rest = terms
                copies = not rest and c == 1.0
                result.append((register, source, None if copies else torch.tensor(c, dtype=dtype), tuple(rest)))
            found = self._programs[dtype] = tuple(result)
        return found

    @cached_property
    def outside(self) -> tuple[str, ...]:
        """The letters read by `out` that are no registers: predictions, noise, reference."""
        used = {source for _, terms in self.program for source, _ in terms}
        return tuple(sorted(used & {"P", "D", "N", "V", "z", "y"}))

    @cached_property
    def noisy(self) -> bool:
        """Whether the row reads noise."""
        return "z" in self.sources

    @cached_property
    def sources(self) -> frozenset[str]:
        """Every letter that the row reads."""
        used = {source for _, terms in self.program for source, _ in terms}
        return frozenset(used | {source for source, c in self.query.items() if not _is_zero(c)})

    @cached_property
    def plain(self) -> bool:
        """Whether the row asks about x itself."""
        return self.query == {"x": 1.0} if len(self.query) == 1 else False


def _is_zero(c: Coef) -> bool:
    if isinstance(c, dict):
        return all(_is_zero(v) for v in c.values())
    return isinstance(c, float) and c == 0.0


@dataclass(frozen=True, eq=False)
class Plan:
    """All rows of a run: `rows[i][age]`, so that a start-up is possible at every row.

    Attributes:
        rows: for each network call, one row for every number of valid history nodes from 0 up.
        grid: the times of the steps.
        order: nominal order of convergence (deterministic methods) or 0.
        memory: names of the registers kept between rows; sampling needs x and these.
    """

    rows: tuple[tuple[Row, ...], ...]
    grid: Grid
    order: int

    @cached_property
    def memory(self) -> tuple[str, ...]:
        names = {register for ages in self.rows for row in ages for register in row.out}
        return tuple(sorted(names - {"x"}))

    @cached_property
    def scalar(self) -> bool:
        """Whether every coefficient is a plain number."""
        return all(row.scalar for ages in self.rows for row in ages)

    @property
    def calls(self) -> int:
        """Network calls of a whole run."""
        return len(self.rows)

    def row(self, i: int, age: int) -> Row:
        """The row of call `i` with `age` valid history nodes."""
        ages = self.rows[i]
        return ages[age] if age < len(ages) else ages[-1]

    def time(self, i: int) -> float:
        """The level of x before call `i` (the end of the grid when all rows are done)."""
        return self.rows[i - 1][-1].t_next if i else self.grid.times[0]

    @cached_property
    def table(self) -> Table:
        """The plan as float64 tensors, for elements at different rows."""
        return Table(self)

    @cached_property
    def asked(self) -> tuple[float, ...]:
        """The times that the network is asked about, each once."""
        return tuple(dict.fromkeys(row.t for ages in self.rows for row in ages))

    def warm(self, dtype: torch.dtype) -> None:
        """Make the coefficients for states of `dtype` now, not one by one between large tensors."""
        if self.scalar and dtype not in self.rows[-1][-1]._programs:
            for ages in self.rows:
                for row in ages:
                    row.scalar_program(dtype)

    def gather(self, i: Tensor, age: Tensor) -> VectorRow:
        """The rows of elements at different places.

        Args:
            i: long (B,) or (B, L); negative is waiting, beyond the last row is done: both keep.
            age: valid history nodes, same shape.
        """
        return self.table.gather(i, age)


@dataclass(frozen=True)
class VectorRow:
    """A row a batch element: times and coefficients are float64 tensors of the shape of `i` (coefficients
    of product states: one a leaf)."""

    t: Tensor
    t_next: Tensor
    out: dict[str, dict[str, Coef]]
    query: dict[str, Coef]
    use: Use
    gains: Tensor
    std: Coef

    @property
    def plain(self) -> bool:
        return self.query.keys() == {"x"}


class Table:
    """Rows and ages of a plan as dense tensors; one more row at the end that changes nothing."""

    def __init__(self, plan: Plan) -> None:
        rows = plan.rows
        flat = [row for ages in rows for row in ages]
        if len({row.use for row in flat}) != 1:
            raise ValueError(
                "this method uses different predictions in different rows: one time an element is not possible"
            )
        self.use = flat[0].use
        self.n, self.ages = len(rows), max(len(ages) for ages in rows)
        registers = ("x", *plan.memory)
        pairs = sorted(
            {(r, s) for row in flat for r, terms in row.out.items() for s in terms} | {(r, r) for r in registers}
        )
        queries = sorted({s for row in flat for s in row.query} | {"x"})
        end = flat[-1].t_next
        keep = Row(end, end, {})
        table = [[plan.row(i, age) if i < self.n else keep for age in range(self.ages)] for i in range(self.n + 1)]

        def tabled(read: Callable[[Row], Coef]) -> Coef:
            return _numbers([[read(row) for row in ages] for ages in table])

        self.out = {
            (r, s): tabled(lambda row, r=r, s=s: row.out.get(r, {r: 1.0}).get(s, 0.0))  # type: ignore[misc]
            for r, s in pairs
        }
        self.query = {s: tabled(lambda row, s=s: row.query.get(s, 0.0)) for s in queries}  # type: ignore[misc]
        self.t = tabled(lambda row: row.t)
        self.t_next = tabled(lambda row: row.t_next)
        self.std = tabled(lambda row: row.std)
        self.gains = tabled(lambda row: float(row.gains)).long()
        self.start = plan.grid.times[0]

    def gather(self, i: Tensor, age: Tensor) -> VectorRow:
        i, age = i.cpu(), age.cpu()
        active = (i >= 0) & (i < self.n)
        index = torch.where(active, i, self.n)
        age = age.clamp(0, self.ages - 1)
        waiting = i < 0
        t, t_next = (torch.where(waiting, self.start, v[index, age]) for v in (self.t, self.t_next))

        def pick(c: Coef) -> Coef:
            return tree_map(lambda leaf: leaf[index, age], c)

        out: dict[str, dict[str, Coef]] = {}
        for (register, source), c in self.out.items():
            out.setdefault(register, {})[source] = pick(c)
        query = {s: pick(c) for s, c in self.query.items()}
        return VectorRow(t, t_next, out, query, self.use, self.gains[index, age], pick(self.std))


def _numbers(cells: list[list[Coef]]) -> Coef:
    """A float64 tensor of coefficients, or one for each leaf."""
    flat = [c for row in cells for c in row]
    if any(isinstance(c, Tensor) for c in flat):
        raise ValueError(
            "one time an element needs one number a coefficient, not one for every element (a spectral schedule)"
        )
    names = next((list(c) for c in flat if isinstance(c, dict)), None)
    if names is None:
        return torch.tensor(cells, dtype=torch.float64)
    return {name: _numbers([[c[name] if isinstance(c, dict) else c for c in row] for row in cells]) for name in names}


def _same(c: dict[str, Coef]) -> Coef:
    """One number where all leaves agree."""
    first = next(iter(c.values()))
    return first if isinstance(first, float) and all(isinstance(v, float) and v == first for v in c.values()) else c


def with_reference(rows: Sequence[Sequence[Row]], schedule: Schedule, start: float) -> tuple[tuple[Row, ...], ...]:
    """Rows with the coefficients of the reference y added.

    Args:
        rows: rows written for x = alpha x0 + sigma n.
        schedule: its beta gives the reference's weight at each level.
        start: level of x before the first row.
    """

    def missing(terms: Combination, level: float, levels: dict[str, float]) -> Any:
        return schedule.beta(level) - sum(c * schedule.beta(levels[s]) for s, c in terms.items() if s in levels)

    result: list[tuple[Row, ...]] = []
    levels = {"x": start}
    for ages in rows:
        new = []
        for row in ages:
            here = {**levels, "q": row.t}
            query = dict(row.query)
            if not row.plain:
                query["y"] = missing(query, row.t, here)
            out = {}
            for register, terms in row.out.items():
                terms = dict(terms)
                if register == "x":
                    terms["y"] = missing(terms, row.t_next, here)
                elif register in row.levels:
                    terms["y"] = missing(terms, row.levels[register], here)
                out[register] = terms
            new.append(replace(row, query=query, out=out))
        result.append(tuple(new))
        levels = {**levels, **ages[-1].levels, "x": ages[-1].t_next}
    return tuple(result)


def merge(plans: dict[str, Plan]) -> Plan:
    """One plan for a product state from the plans of its leaves (same method, same grid)."""

    def join(parts: dict[str, Combination]) -> Combination:
        sources = sorted({s for terms in parts.values() for s in terms})
        return {s: _same({name: terms.get(s, 0.0) for name, terms in parts.items()}) for s in sources}

    first = next(iter(plans.values()))
    rows = []
    for i, ages in enumerate(first.rows):
        new = []
        for age, row in enumerate(ages):
            here = {name: plan.rows[i][age] for name, plan in plans.items()}
            out = {r: join({name: other.out[r] for name, other in here.items()}) for r in row.out}
            query = row.query if all(o.plain for o in here.values()) else join({n: o.query for n, o in here.items()})
            std = _same({name: other.std for name, other in here.items()})
            new.append(Row(row.t, row.t_next, out, row.use, query, row.levels, row.step, row.last, row.gains, std))
        rows.append(tuple(new))
    return Plan(tuple(rows), first.grid, first.order)
