r"""How :mod:`.model` is trained: the two scores as one network, the loss, the optimiser, the batches.

*Parametrisation.* The networks f_X, f_A are not told the time. With the score s = -n / sigma of a predicted noise n,
the published VP (and subVP) score -f / sigma(t) is the noise prediction n = f, and the published VE score f is the
noise prediction n = -sigma(t) f.

*Loss.* t is uniform on [t_train, 1], the same for both leaves, z is noise of the space (mirrored in A, none at absent
nodes), x_t = alpha x_0 + sigma z. The published loss of a graph is

    L_X + L_A,    L_X = 1/2 sum |sigma s_X + z_X|^2 = 1/2 sum |z_X - n_X|^2,     L_A likewise,

sums over all entries, both triangles of A included: not means, so that large graphs weigh more.

*Two optimisers in one.* The published code trains f_X on L_X and f_A on L_A with an Adam each. They share no parameter,
so that the gradient of L_X + L_A in those of f_X is that of L_X; and Adam acts entry by entry. One Adam on the sum
takes the very same steps. Only the clipping of the gradient's norm knows of the other entries: :class:`SeparateAdam`
clips each network by its own norm, as the two would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...core.denoisers import Denoiser
from ...core.schedules import ProductSchedule
from ...core.spaces import Graph, Masked, Product
from ...core.training.keys import Keys
from ...core.training.times import Uniform
from ..data.graphs import Graphs
from ..networks.gdss import EdgeScore, NodeScore
from ..training import Rows, time_itself
from .config import Coupling, GDSSConfig
from .schedules import GeometricVE, schedules_of

__all__ = ["GraphLoss", "GraphScores", "SeparateAdam", "TrainingSet", "build", "space_of"]


class GraphScores(nn.Module):
    """Both score networks as one noise-predicting network of the state {"X": (B, N, F), "A": (B, N, N)}.

    Args:
        nodes, edges: the networks f_X and f_A.
        schedule: of both leaves.
        coupling: what each may see of the other leaf, see `GDSSConfig`.

    Shapes:
        x a state, t (B,) the time itself, nodes (B, N) bool, given (B, N, F) the finished X that "sequential" shows f_A
        -> a state.
    """

    def __init__(self, nodes: NodeScore, edges: EdgeScore, schedule: ProductSchedule, coupling: Coupling) -> None:
        super().__init__()
        self.nodes, self.edges, self.schedule, self.coupling = nodes, edges, schedule, coupling

    def forward(self, x: dict[str, Tensor], t: Tensor, nodes: Tensor, given: Tensor | None = None) -> dict[str, Tensor]:
        X, A = x["X"], x["A"]
        if self.coupling == "joint":
            return {"X": self._x(X, A, t, nodes), "A": self._a(X, A, t, nodes)}
        if self.coupling == "independent":
            blank = nodes.to(X.dtype).unsqueeze(-1).expand_as(X)  # ones: convolutions of A see its degrees in them
            return {"X": self.of_nodes(X, t, nodes), "A": self._a(blank, A, t, nodes)}
        if given is None:
            raise ValueError('coupling="sequential" needs the finished X: given=')
        return {"X": self.of_nodes(X, t, nodes), "A": self.of_edges(A, t, nodes, given)}

    def of_nodes(self, X: Tensor, t: Tensor, nodes: Tensor) -> Tensor:
        """The noise in X, whatever A is: a network of nodes alone."""
        return self._x(X, X.new_zeros(*X.shape[:2], X.shape[1]), t, nodes)

    def of_edges(self, A: Tensor, t: Tensor, nodes: Tensor, given: Tensor) -> Tensor:
        """The noise in A, given X."""
        return self._a(given, A, t, nodes)

    def _x(self, X: Tensor, A: Tensor, t: Tensor, nodes: Tensor) -> Tensor:
        return self._noise("X", self.nodes(X, A, nodes, t), t)

    def _a(self, X: Tensor, A: Tensor, t: Tensor, nodes: Tensor) -> Tensor:
        return self._noise("A", self.edges(X, A, nodes, t), t)

    def _noise(self, leaf: str, output: Tensor, t: Tensor) -> Tensor:
        """The published parametrisation; see the module."""
        schedule = self.schedule.leaves[leaf]
        if not isinstance(schedule, GeometricVE):
            return output
        sigma = schedule.sigma(t.double()).to(output)
        return -sigma.view(-1, *[1] * (output.ndim - 1)) * output


def space_of(mask: Tensor) -> Product:
    """Where (X, A) of graphs with these nodes (B, N) live."""
    return Product(X=Masked(mask), A=Graph(mask))


def build(config: GDSSConfig, features: int, seed: int) -> Denoiser:
    """The untrained denoiser of X with F = `features`, with the initial weights of `seed`."""
    c, schedule = config, schedules_of(config.x_process, config.a_process)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        nodes = NodeScore(features, c.depth, c.hidden, c.time)
        edges = EdgeScore(
            features, c.hidden, c.layers, c.linears, c.c_init, c.c_hidden, c.c_final, c.attention, c.heads, c.time
        )
    return Denoiser(GraphScores(nodes, edges, schedule, c.coupling), schedule, "noise", label=time_itself)


class TrainingSet(Rows):
    """Graphs as a data set.

    Args:
        graphs: with X as the model wants it.
    """

    def __init__(self, graphs: Graphs) -> None:
        self.graphs = graphs

    def __len__(self) -> int:
        return len(self.graphs)

    def batch(self, rows: Tensor) -> dict[str, Any]:
        """{"x": {"X": (B, N, F), "A": (B, N, N)}, "nodes": (B, N)}, floats."""
        g = self.graphs
        types, features = (None if part is None else part[rows] for part in (g.types, g.features))
        part = Graphs(g.A[rows], g.mask[rows], types, g.vocabulary, g.hydrogens, features)
        return {"x": {"X": part.X, "A": part.A.float()}, "nodes": part.mask}


@dataclass(frozen=True)
class GraphLoss:
    """The published loss of each graph; see the module. What `fit` minimises.

    Attributes:
        t_train: times are uniform on [t_train, 1].
        coupling: of the model: "sequential" shows the network of edges the clean X.
    """

    t_train: float = 1e-5
    coupling: Coupling = "joint"

    def __call__(self, denoiser: Denoiser, batch: dict[str, Any], keys: Keys, *, training: bool = True) -> Tensor:
        """L_X + L_A of each graph, (B,)."""
        t = Uniform(self.t_train, 1.0).times(keys.uniforms("time"), keys.stratum, keys.strata)
        parts = self.leaves(denoiser, batch, t, keys.noise)
        return parts["X"] + parts["A"]

    def leaves(self, denoiser: Denoiser, batch: dict[str, Any], t: Tensor, noise: Any) -> dict[str, Tensor]:
        """L_X and L_A, (B,) each, at the times t (B,)."""
        x0, nodes = batch["x"], batch["nodes"]
        space = space_of(nodes)
        z = space.randn(noise, x0, 0, "noise")
        condition = {"given": x0["X"]} if self.coupling == "sequential" else {}
        raw = denoiser.on(space)(denoiser.add_noise(x0, z, t), t, nodes=nodes, **condition).raw
        error = space.project({name: z[name] - raw[name] for name in x0})
        return {name: 0.5 * e.square().flatten(1).sum(1) for name, e in error.items()}


class SeparateAdam(torch.optim.Adam):
    """Adam over several networks, the gradient of each clipped to its own norm.

    Args:
        networks: that share no parameters.
        lr, weight_decay: of Adam (the decay is added to the gradient, as published).
        clip: largest norm of the gradient of each network; None: no clipping.
    """

    def __init__(self, networks: Sequence[nn.Module], lr: float, weight_decay: float, clip: float | None) -> None:
        groups = [{"params": list(network.parameters())} for network in networks]
        super().__init__(groups, lr=lr, weight_decay=weight_decay)
        self.clip = clip

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Clip, then step; `closure` computes loss and gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.clip is not None:
            for group in self.param_groups:
                nn.utils.clip_grad_norm_(group["params"], self.clip)
        super().step()
        return loss
