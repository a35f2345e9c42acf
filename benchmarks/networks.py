"""Speed of the sequence networks: what the kernel cache is worth, and S4D beside dilated convolutions of equal size.

    python -m benchmarks.networks [--rounds 15] [--output benchmarks/results/networks.json]

64 channels, windows of 360 positions, batches of 16, float32, one thread, one process. All variants take turns in every
round and the smallest time of each counts, so that a busy machine disturbs the ratios little; read the ratios, not the
milliseconds.

Kernels are generated in three ways: "cached" (eval), "fresh" (as in training: two thin factors and a product), and
"vandermonde" (the textbook's full N/2 x L matrix of complex exponentials), which is what other implementations pay.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from scidiffuse.core.networks import S4D, DilatedConvNet, S4DBackbone

BATCH, LENGTH, CHANNELS = 16, 360, 64
RESULTS = Path(__file__).parent / "results" / "networks.json"


def vandermonde(length: int, log_dt: Tensor, log_decay: Tensor, frequency: Tensor, c: Tensor) -> Tensor:
    """The kernels by the full matrix of powers."""
    a = torch.complex(-log_decay.exp(), frequency)
    z = a * log_dt.exp().unsqueeze(-1)
    w = torch.view_as_complex(c) * (torch.exp(z) - 1) / a
    powers = torch.exp(z.unsqueeze(-1) * torch.arange(length))
    return 2 * torch.einsum("dhn,hnl->dhl", w, powers).real


def smallest_times(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Milliseconds of each call, the smallest over interleaved rounds (after one to warm up)."""
    best = dict.fromkeys(calls, float("inf"))
    for round_ in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if round_:
                best[name] = min(best[name], 1e3 * (time.perf_counter() - start))
    return best


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def peer_of(network: nn.Module, blocks: int = 8) -> DilatedConvNet:
    """Dilated convolutions with as nearly the same number of parameters as the width allows."""
    candidates = [DilatedConvNet(1, channels=width, blocks=blocks) for width in range(16, 81, 2)]
    return min(candidates, key=lambda peer: abs(parameters(peer) - parameters(network)))


def forward(network: nn.Module, *inputs: Tensor, training: bool) -> Callable[[], None]:
    def call() -> None:
        network.train(training)
        with torch.no_grad():
            network(*inputs)

    return call


def with_vandermonde(call: Callable[[], None]) -> Callable[[], None]:
    def wrapped() -> None:
        with mock.patch.object(S4D, "_kernels", staticmethod(vandermonde)):
            call()

    return wrapped


def step(network: nn.Module, x: Tensor, t: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def call() -> None:
        network.train()
        optimizer.zero_grad()
        (network(x, t) - x).square().mean().backward()
        optimizer.step()

    return call


def input_gradient(network: nn.Module, x: Tensor, t: Tensor) -> Callable[[], None]:
    def call() -> None:
        network.eval()
        leaf = x.detach().requires_grad_()
        torch.autograd.grad(network(leaf, t).square().sum(), leaf)

    return call


def run(rounds: int = 15) -> dict[str, Any]:
    """Measure everything; a dictionary ready for JSON."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        x, t, u = torch.randn(BATCH, LENGTH, 1), 100 * torch.rand(BATCH), torch.randn(BATCH, LENGTH, CHANNELS)
        results: dict[str, Any] = {}
        for d_state in (64, 128):
            layer, backbone = S4D(CHANNELS, d_state), S4DBackbone(1, CHANNELS, d_state=d_state)
            for name, network, inputs in (("layer", layer, (u,)), ("backbone", backbone, (x, t))):
                fresh = forward(network, *inputs, training=True)
                ms = smallest_times(
                    {
                        "cached": forward(network, *inputs, training=False),
                        "fresh": fresh,
                        "vandermonde": with_vandermonde(fresh),
                    },
                    rounds,
                )
                results[f"{name} forward, d_state {d_state}"] = {
                    "ms": ms,
                    "fresh / cached": ms["fresh"] / ms["cached"],
                    "vandermonde / cached": ms["vandermonde"] / ms["cached"],
                    "vandermonde / fresh": ms["vandermonde"] / ms["fresh"],
                }
        s4d = S4DBackbone(1, CHANNELS)
        peer = peer_of(s4d)
        sizes = {
            "S4DBackbone": {"parameters": parameters(s4d), "blocks": len(s4d.blocks), "channels": CHANNELS},
            "DilatedConvNet": {
                "parameters": parameters(peer),
                "blocks": len(peer.blocks),
                "channels": peer.input.out_features,
                "receptive field": peer.receptive_field,
            },
        }
        for name, make in (("training step", step), ("input gradient in eval", input_gradient)):
            calls = {"S4DBackbone": make(s4d, x, t), "DilatedConvNet": make(peer, x, t)}
            if name == "training step":
                calls["S4DBackbone, vandermonde"] = with_vandermonde(make(s4d, x, t))
            ms = smallest_times(calls, rounds)
            results[name] = {"ms": ms, "S4D / dilated": ms["S4DBackbone"] / ms["DilatedConvNet"]}
    finally:
        torch.set_num_threads(threads)
    setting = {"batch": BATCH, "length": LENGTH, "channels": CHANNELS, "dtype": "float32", "threads": 1}
    versions = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}
    return {"setting": {**setting, **versions, "rounds": rounds}, "networks of equal size": sizes, "results": results}


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    text = json.dumps(rounded(run(options.rounds)), indent=2)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
