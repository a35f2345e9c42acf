"""Convolution by FFT: the plain double sum, and its hand-written gradients."""

import pytest
import torch

from scidiffuse.core.networks.fft_convolution import fft_convolve, fft_length


def draw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_lengths_are_smooth_even_and_minimal():
    def good(m):
        for p in (2, 3, 5):
            while m % p == 0:
                m //= p
        return m == 1

    for n in range(1, 400):
        assert fft_length(n) == next(m for m in range(max(2, n), 2 * n + 2) if m % 2 == 0 and good(m))
    assert [fft_length(n) for n in (1, 7, 11, 719, 721)] == [2, 8, 12, 720, 750]


@pytest.mark.parametrize("length", [1, 2, 5])
def test_double_sum(length):
    n = fft_length(2 * length - 1)
    u, k = draw(2, 3, length, seed=0), draw(3, n, seed=1)
    expected = torch.zeros_like(u)
    for i in range(length):
        for j in range(length):
            expected[:, :, i] += k[:, (i - j) % n] * u[:, :, j]
    y = fft_convolve(u, torch.fft.rfft(k), n)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)])
def test_gradients(wanted):
    u, k = draw(2, 3, 5, seed=0).requires_grad_(wanted[0]), draw(3, 10, seed=1).requires_grad_(wanted[1])

    def call(u, k):
        return fft_convolve(u, torch.fft.rfft(k), 10)

    assert torch.autograd.gradcheck(call, (u, k), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(call, (u, k))
    spectrum = torch.fft.rfft(k).detach().requires_grad_(wanted[1])
    assert call(u, k).requires_grad
    weight = draw(2, 3, 5, seed=2)
    tensors = [tensor for tensor, needed in zip((u, spectrum), wanted, strict=True) if needed]
    ours = torch.autograd.grad((fft_convolve(u, spectrum, 10) * weight).sum(), tensors)
    plain = torch.fft.irfft(torch.fft.rfft(u, n=10) * spectrum, n=10)[..., :5]
    for a, b in zip(ours, torch.autograd.grad((plain * weight).sum(), tensors), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
