"""S4D: a bidirectional diagonal state-space layer, evaluated as one convolution by FFT.

A channel u(t) drives N complex states, each on its own (A is diagonal), and is read out linearly:

    h'(t) = A h(t) + B u(t),        y(t) = Re(C h(t)) + D u(t).

With the zero-order hold (u constant over a step dt) this is exactly the recurrence

    h_l = Abar h_{l-1} + Bbar u_l,    Abar = exp(dt A),    Bbar = A^{-1} (exp(dt A) - 1) B,

and, unrolled, the convolution y = K * u + D u with K_l = Re(C Abar^l Bbar). States come in conjugate pairs, so N/2 of
them are stored and K_l = 2 Re sum_n w_n exp(l dt A_n), w_n = C_n B_n (exp(dt A_n) - 1) / A_n. Only the product C B
enters; it is one parameter, called C here.

*Kernel.* The N/2 x L Vandermonde matrix exp(l dt A_n) is never formed. With l = a S + b, 0 <= b < S ~ sqrt(L),

    K_{aS+b} = 2 Re sum_n [w_n exp(a S dt A_n)] exp(b dt A_n),

two thin factors of about sqrt(L) columns and one real matrix product: memory N sqrt(L) + L a channel instead of N L,
and sqrt(L) times fewer exponentials.

*Both directions.* Position l reads the past through K and the future through a second kernel K' (its own C, same A
and dt): y_l = sum_{j<=l} K_{l-j} u_j + sum_{j>l} K'_{j-l-1} u_j + D u_l. Lags -(L-1)..L-1 are laid on one circle of at
least 2L-1 points (negative lags from its end, D added at lag 0), so that both directions and the skip cost one
transform of u, one product, one transform back.

*Initialisation* of A (Re A = -1/2 always), with n = 0..N/2-1:

* "lin":  Im A_n = pi n                          (S4D-Lin)
* "inv":  Im A_n = N/pi (N/(2n+1) - 1)           (S4D-Inv, the asymptotics of LegS)
* "legs": eigenvalues of the normal part of HiPPO-LegS. LegS has A_nk = -sqrt(2n+1) sqrt(2k+1) for n > k, -(n+1) on the
  diagonal, B_n = sqrt(2n+1). With P_n = sqrt(n + 1/2), A + P P^T = -1/2 + (skew), which is normal: A + P P^T =
  V Lambda V^*, and B becomes V^* B / 2: exp(tA) B is then, in the mean, that of LegS as N grows.

*Cache.* In eval mode the transformed kernel is kept with a copy of the parameters it came from, and served only while
the parameters are equal to that copy, value by value: no way of changing a weight can leave a stale kernel behind
(the comparison costs some 20 microseconds; on an accelerator it waits for the device).
Gradients with respect to u see the kernel as a constant; gradients with respect to the parameters, if somebody asks
for them, rebuild it in the backward pass. In training mode there is one generation a forward pass.

Papers: "On the Parameterization and Initialization of Diagonal State Space Models" (Gu, Gupta, Goel, Re, 2022; S4D,
equations 8 and 9, theorem 3); "HiPPO: Recurrent Memory with Optimal Polynomial Projections" (Gu et al., 2020; LegS).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .fft_convolution import fft_convolve, fft_length, inside_functorch
from .precision import FullPrecision, working_dtype

__all__ = ["S4D", "expm1_complex", "hippo_legs", "initial_poles"]

Initialisation = Literal["legs", "lin", "inv"]
_LENGTHS_KEPT = 4


def hippo_legs(n: int) -> tuple[Tensor, Tensor]:
    """Matrices A (N, N) and B (N,) of HiPPO-LegS, float64 (Gu et al., 2020, theorem 2)."""
    k = torch.arange(n, dtype=torch.float64)
    b = torch.sqrt(2 * k + 1)
    a = -torch.tril(b[:, None] * b[None, :], diagonal=-1) - torch.diag(k + 1)
    return a, b


def initial_poles(kind: Initialisation, d_state: int) -> tuple[Tensor, Tensor]:
    """Poles A (N/2,) of non-negative imaginary part, ascending, and inputs B (N/2,), both complex128.

    B is scaled to unit mean square, so that the three initialisations start with outputs of comparable size.

    Raises:
        ValueError: unknown kind, or a state size that is not even and positive.
    """
    if d_state < 2 or d_state % 2:
        raise ValueError(f"d_state counts conjugate pairs twice and must be even and >= 2, got {d_state}")
    n = torch.arange(d_state // 2, dtype=torch.float64)
    ones = torch.ones_like(n)
    if kind == "lin":
        return torch.complex(-0.5 * ones, math.pi * n), ones.to(torch.complex128)
    if kind == "inv":
        imag = d_state / math.pi * (d_state / (2 * n + 1) - 1)
        return torch.complex(-0.5 * ones, imag.flip(0)), ones.to(torch.complex128)
    if kind == "legs":
        a, b = hippo_legs(d_state)
        p = torch.sqrt(torch.arange(d_state, dtype=torch.float64) + 0.5)
        normal = a + p[:, None] * p[None, :]
        skew = 0.5 * (normal - normal.T)
        imag, v = torch.linalg.eigh(-1j * skew)  # ascending, in pairs +-
        half = d_state // 2
        poles = torch.complex(-0.5 * ones, imag[half:])
        inputs = (v.conj().T @ b.to(v.dtype))[half:] / 2
        return poles, inputs / inputs.abs().square().mean().sqrt()
    raise ValueError(f'initialisation must be "legs", "lin" or "inv", got {kind!r}')


def expm1_complex(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of exp(x + iy) - 1 without cancellation near 0."""
    real = torch.expm1(x) * y.cos() - 2 * (0.5 * y).sin().square()
    return real, x.exp() * y.sin()


class _Attach(torch.autograd.Function):
    """A cached spectrum as a function of the parameters: nothing forward, the kernel's own gradient backward."""

    @staticmethod
    def forward(ctx: Any, layer: S4D, length: int, spectrum: Tensor, *parameters: Tensor) -> Tensor:
        ctx.layer, ctx.length = layer, length
        ctx.save_for_backward(*parameters)
        return spectrum.view_as(spectrum)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        again = torch.is_grad_enabled()  # create_graph: the gradient itself is differentiated
        with torch.enable_grad():
            parameters = list(ctx.saved_tensors)
            if not again:
                parameters = [p.detach().requires_grad_() for p in parameters]
            spectrum = ctx.layer._spectrum(ctx.length, *parameters)
            wanted = [p for p, need in zip(parameters, ctx.needs_input_grad[3:], strict=True) if need]
            found = iter(torch.autograd.grad(spectrum, wanted, grads[0], create_graph=again))
        return (None, None, None, *(next(found) if need else None for need in ctx.needs_input_grad[3:]))


class S4D(FullPrecision):
    """Bidirectional S4D: y = K * u + D u for every channel on its own. See the module for the equations.

    "On the Parameterization and Initialization of Diagonal State Space Models" (Gu, Gupta, Goel, Re, 2022).

    Its parameters stay in float32 when the network is cast to half precision, and the convolution runs in at least
    float32; the result has the dtype of the input. They are best trained without weight decay.

    Args:
        channels: H.
        d_state: N, real state size a channel and direction (N/2 conjugate pairs).
        init: "legs", "lin" or "inv".
        bidirectional: read the future too; without it the layer is causal.
        dt_min, dt_max: steps dt are drawn log-uniformly between them, one a channel.

    Shapes:
        u (B, L, H) -> (B, L, H), any L >= 1.

    Raises:
        ValueError: sizes or initialisation that make no layer; an input that is not (B, L, H).
    """

    def __init__(
        self,
        channels: int,
        d_state: int = 64,
        init: Initialisation = "legs",
        bidirectional: bool = True,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
    ) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be >= 1, got {channels}")
        if not 0 < dt_min <= dt_max:
            raise ValueError(f"steps must satisfy 0 < dt_min <= dt_max, got {dt_min} and {dt_max}")
        poles, inputs = initial_poles(init, d_state)
        pairs, directions = d_state // 2, 2 if bidirectional else 1
        self.channels, self.d_state, self.init, self.bidirectional = channels, d_state, init, bidirectional
        dtype = torch.get_default_dtype() if torch.get_default_dtype().itemsize >= 4 else torch.float32
        uniform = torch.rand(channels, dtype=torch.float64)
        log_dt = math.log(dt_min) + uniform * (math.log(dt_max) - math.log(dt_min))
        c = torch.randn(directions, channels, pairs, dtype=torch.complex128) * inputs
        self.log_dt = nn.Parameter(log_dt.to(dtype))
        self.log_decay = nn.Parameter(torch.log(-poles.real).to(dtype).repeat(channels, 1))  # A = -exp(.) + i frequency
        self.frequency = nn.Parameter(poles.imag.to(dtype).repeat(channels, 1))
        self.C = nn.Parameter(torch.view_as_real(c).to(dtype).contiguous())
        self.D = nn.Parameter(torch.randn(channels, dtype=torch.float64).to(dtype))
        self._cache: tuple[tuple[Tensor, ...], dict[int, Tensor]] | None = None
        self.generations = 0

    # ------------------------------------------------------------------ kernel
    def _parameters_in_order(self) -> tuple[Tensor, ...]:
        return self.log_dt, self.log_decay, self.frequency, self.C, self.D

    @staticmethod
    def _kernels(length: int, log_dt: Tensor, log_decay: Tensor, frequency: Tensor, c: Tensor) -> Tensor:
        """K (directions, H, L) by the two thin factors."""
        dt = log_dt.exp().unsqueeze(-1)
        decay = log_decay.exp()
        x, y = -dt * decay, dt * frequency  # dt A = x + iy, (H, N/2)
        a = torch.complex(-decay, frequency)
        w = torch.view_as_complex(c.contiguous()) * (torch.complex(*expm1_complex(x, y)) / a)
        short = max(1, round(math.sqrt(length)))
        long = -(-length // short)
        b_steps = torch.arange(short, dtype=x.dtype, device=x.device)
        a_steps = short * torch.arange(long, dtype=x.dtype, device=x.device)

        def powers(steps: Tensor) -> tuple[Tensor, Tensor]:
            size, phase = (x.unsqueeze(-1) * steps).exp(), y.unsqueeze(-1) * steps
            return size * phase.cos(), size * phase.sin()  # (H, N/2, steps)

        p, q = powers(a_steps)
        wr, wi = 2 * w.real.unsqueeze(-1), 2 * w.imag.unsqueeze(-1)
        left = torch.cat([wr * p - wi * q, -(wr * q + wi * p)], dim=-2)  # (directions, H, N, long)
        right = torch.cat(powers(b_steps), dim=-2)  # (H, N, short)
        kernels = left.transpose(-1, -2) @ right
        return kernels.flatten(-2)[..., :length]

    def _spectrum(self, length: int, *parameters: Tensor) -> Tensor:
        """Transform (H, n/2 + 1) of the circular kernel of n >= 2L - 1 points."""
        with torch.autocast(device_type=self.C.device.type, enabled=False):
            log_dt, log_decay, frequency, c, d = parameters
            kernels = self._kernels(length, log_dt, log_decay, frequency, c)
            n = fft_length(2 * length - 1)
            forward = kernels[0]
            parts = [forward[:, :1] + d.unsqueeze(-1), forward[:, 1:]]
            if self.bidirectional:
                parts += [forward.new_zeros(self.channels, n - 2 * length + 1), kernels[1, :, : length - 1].flip(-1)]
            return torch.fft.rfft(torch.cat(parts, dim=-1), n=n)

    def kernels(self, length: int) -> Tensor:
        """K_0..K_{L-1} of the forward and, if there is one, the backward direction: (directions, H, L), without D."""
        if length < 1:
            raise ValueError(f"a kernel has at least one tap, got length {length}")
        return self._kernels(length, *self._parameters_in_order()[:-1])

    # ------------------------------------------------------------------ cache
    def _stored(self, length: int, parameters: Sequence[Tensor]) -> Tensor:
        """The spectrum for these parameter values, from the cache if it holds exactly them."""
        cache = self._cache
        if cache is None or not all(
            old.dtype == new.dtype and old.device == new.device and torch.equal(old, new)
            for old, new in zip(cache[0], parameters, strict=True)
        ):
            cache = (tuple(p.detach().clone() for p in parameters), {})
        spectrum = cache[1].get(length)
        if spectrum is None:
            spectrum = self._spectrum(length, *cache[0])
            self.generations += 1
            kept = dict(list(cache[1].items())[1 - _LENGTHS_KEPT :])
            cache = (cache[0], {**kept, length: spectrum})
        self._cache = cache
        return spectrum

    def clear_cache(self) -> None:
        """Free the cached kernels (never needed for correctness)."""
        self._cache = None

    def spectrum(self, length: int) -> Tensor:
        """Transform of the two-sided kernel for length L, (H, n/2 + 1) complex: cached in eval, fresh in training."""
        parameters = self._parameters_in_order()
        gradients = torch.is_grad_enabled() and any(p.requires_grad for p in parameters)
        traced = torch.compiler.is_compiling() or any(type(p) is not nn.Parameter for p in parameters)
        if self.training or traced or (gradients and inside_functorch()):
            if not torch.compiler.is_compiling():
                self.generations += 1
            return self._spectrum(length, *parameters)
        with torch.inference_mode(False), torch.no_grad():
            stored = self._stored(length, parameters)
        if gradients:
            stored = _Attach.apply(self, length, stored, *parameters)
        return stored

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": None}

    # ------------------------------------------------------------------ evaluation
    def _check(self, u: Tensor) -> None:
        if u.ndim != 3 or u.shape[-1] != self.channels or u.shape[1] < 1:
            raise ValueError(f"S4D expects u of shape (B, L >= 1, {self.channels}), got {tuple(u.shape)}")

    def forward(self, u: Tensor) -> Tensor:
        self._check(u)
        length = u.shape[1]
        spectrum = self.spectrum(length)
        v = u.to(working_dtype(u, self.C)).transpose(1, 2)
        y = fft_convolve(v, spectrum, fft_length(2 * length - 1))
        return y.transpose(1, 2).contiguous().to(u.dtype)  # contiguous: what follows acts on positions

    def recurrence(self, u: Tensor) -> Tensor:
        """The same map by the explicit recurrence, step by step: O(L) sequential steps, the definition to test against.

        Shapes:
            u (B, L, H) -> (B, L, H).
        """
        self._check(u)
        log_dt, log_decay, frequency, c, d = self._parameters_in_order()
        a = torch.complex(-log_decay.exp(), frequency)
        dt = log_dt.exp().unsqueeze(-1)
        a_bar, b_bar = torch.exp(dt * a), torch.expm1(dt * a) / a
        readout = torch.view_as_complex(c.contiguous())
        v = u.to(working_dtype(u, self.C))
        length = u.shape[1]
        past = torch.zeros_like(v)
        h = torch.zeros(u.shape[0], *a.shape, dtype=a.dtype, device=u.device)
        for i in range(length):
            h = a_bar * h + b_bar * v[:, i, :, None]
            past[:, i] = 2 * (readout[0] * h).sum(-1).real
        y = past + d * v
        if self.bidirectional:
            h = torch.zeros_like(h)
            for i in reversed(range(length - 1)):
                h = a_bar * h + b_bar * v[:, i + 1, :, None]
                y[:, i] += 2 * (readout[1] * h).sum(-1).real
        return y.to(u.dtype)

    def extra_repr(self) -> str:
        return f"{self.channels}, d_state={self.d_state}, init={self.init!r}, bidirectional={self.bidirectional}"
