import math

import pytest
import torch

from scidiffuse.core.schedules import DiscreteBetas, VPCosine


@pytest.mark.parametrize(
    ("ours", "peer"),
    [
        (DiscreteBetas.linear(), {"beta_schedule": "linear"}),
        (DiscreteBetas.linear(1e-4, 0.1, 100), {"beta_end": 0.1, "num_train_timesteps": 100}),
        (DiscreteBetas.scaled_linear(), {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
        (DiscreteBetas.squared_cosine(), {"beta_schedule": "squaredcos_cap_v2"}),
    ],
)
def test_tables_are_those_of_diffusers(ours, peer):
    from diffusers.schedulers import DDPMScheduler

    theirs = DDPMScheduler(**peer)  # in float32
    torch.testing.assert_close(torch.tensor(ours.betas), theirs.betas, rtol=3e-5, atol=1e-7)
    torch.testing.assert_close(torch.tensor(ours.alphas_cumprod), theirs.alphas_cumprod, rtol=3e-5, atol=1e-7)
    taken = DiscreteBetas.from_alphas_cumprod(theirs.alphas_cumprod)
    torch.testing.assert_close(
        torch.tensor(taken.alphas_cumprod, dtype=torch.float64), theirs.alphas_cumprod.double(), rtol=1e-12, atol=0
    )


def test_quadratic_of_csdi():
    s = DiscreteBetas.quadratic(1e-4, 0.5, 50)
    roots = torch.tensor(s.betas, dtype=torch.float64).sqrt()
    torch.testing.assert_close(roots.diff(), ((roots[-1] - roots[0]) / 49).expand(49))
    assert (s.betas[0], s.betas[-1]) == (pytest.approx(1e-4), pytest.approx(0.5))


def test_index_i_of_T_is_time_i_plus_1_over_T():
    s = DiscreteBetas.linear(1e-4, 0.1, 100)
    bar = 1.0
    for i, beta in enumerate(s.betas):
        bar *= 1.0 - beta
        t = s.time_of_index(i)
        assert t == (i + 1) / 100
        assert s.alpha(t) ** 2 == pytest.approx(bar, rel=1e-13)
        assert s.index_of_time(t) == pytest.approx(i, abs=1e-12)
    assert s.alpha(s.time_of_index(-1)) == 1.0


def test_log_alpha_is_linear_between_nodes():
    s = DiscreteBetas.linear()
    for i in (-1, 0, 499, 998):
        a, b = (s.log_alpha(s.time_of_index(j)) for j in (i, i + 1))
        for w in (0.25, 0.5, 0.9):
            assert s.log_alpha(s.time_of_index(i + w)) == pytest.approx(a + w * (b - a), rel=1e-11)
    # so the rate is constant inside a step, -log(1 - beta) T
    assert s.g2(0.1234) == pytest.approx(-1000 * math.log1p(-s.betas[123]), rel=1e-10)
    assert s.g2(0.1239) == s.g2(0.1231)


def test_inverse_at_and_beyond_the_nodes():
    s = DiscreteBetas.linear(num_steps=7)
    for t in (0.0, 1 / 7, 3 / 7, 1.0):
        assert s.time_of_log_alpha(s.log_alpha(t)) == pytest.approx(t, abs=1e-15)
    assert s.time_of_log_alpha(s.log_alphas[-1] - 1.0) == 1.0
    values = torch.tensor([0.0, -1e-4, s.log_alphas[-1], -9.0], dtype=torch.float64)
    expected = [s.time_of_log_alpha(float(v)) for v in values]
    assert s.time_of_log_alpha(values).tolist() == pytest.approx(expected, abs=1e-15)


def test_squared_cosine_samples_the_continuous_one():
    s, smooth = DiscreteBetas.squared_cosine(), VPCosine()
    for i in (0, 10, 500, 990):
        t = s.time_of_index(i)
        assert s.alpha(t) == pytest.approx(smooth.alpha(t), rel=1e-10)
    assert max(s.betas) == 0.999


def test_bad_tables():
    with pytest.raises(ValueError, match="empty"):
        DiscreteBetas(())
    with pytest.raises(ValueError, match=r"betas\[1\] = 1\.0"):
        DiscreteBetas((0.1, 1.0))
    with pytest.raises(ValueError, match="num_steps"):
        DiscreteBetas.linear(num_steps=0)
    with pytest.raises(ValueError, match=r"betas\[1\]"):
        DiscreteBetas.from_alphas_cumprod([0.9, 0.95])
