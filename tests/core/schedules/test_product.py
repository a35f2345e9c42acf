import pytest
import torch

from scidiffuse.core.schedules import EDM, CondOT, PFGMpp, ProductSchedule, Spectral, VPLinear


def test_leaves_keep_their_own_schedules():
    p = ProductSchedule(X=VPLinear(), A=CondOT(shift=2.0), clock="A")
    t = torch.rand(3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for time in (0.3, t):
        for name in ("alpha", "beta", "sigma", "log_snr", "kappa", "drift", "g2", "prior_std"):
            values = getattr(p, name)(time)
            assert set(values) == {"X", "A"}
            for leaf in values:
                torch.testing.assert_close(values[leaf], getattr(p.leaves[leaf], name)(time))
    a, _b, s = p.derivatives(0.3)
    assert a["X"] == VPLinear().derivatives(0.3)[0] and s["A"] == CondOT(2.0).derivatives(0.3)[2]


def test_clock_is_that_of_one_leaf():
    p = ProductSchedule(X=VPLinear(), A=CondOT(), clock="A")
    assert p.clock_leaf == "A"
    assert p.clock(0.3) == CondOT().log_snr(0.3)
    assert p.time_of_clock(1.0) == CondOT().time_of_log_snr(1.0)
    assert p.t_start == CondOT().t_start
    assert p.domain == (0.0, 1.0)
    with pytest.raises(TypeError, match="time_of_clock"):
        p.time_of_log_snr(0.0)


def test_value_semantics():
    p = ProductSchedule(X=VPLinear(), A=EDM(), clock="X")
    assert p == ProductSchedule(A=EDM(), X=VPLinear(), clock="X")
    assert hash(p) == hash(ProductSchedule(A=EDM(), X=VPLinear(), clock="X"))
    assert p != ProductSchedule(A=EDM(), X=VPLinear(), clock="A")
    assert repr(p).startswith("ProductSchedule(clock='X', X=VPLinear(")


def test_family_and_basis_gather():
    p = ProductSchedule(X=VPLinear(), A=PFGMpp(), clock="X")
    assert p.family == "student" and not p.elementwise and p.basis is None
    s = Spectral((4.0, 1.0, 0.2, 1.0), (4,))
    p = ProductSchedule(X=s, A=VPLinear(), clock="X")
    assert p.family == "gaussian" and p.elementwise
    x = {"X": torch.arange(8.0).reshape(2, 4), "A": torch.ones(2, 3)}
    z = p.basis.forward(x)
    assert torch.equal(z["A"], x["A"]) and torch.equal(z["X"], s.basis.forward(x["X"]))
    torch.testing.assert_close(p.basis.inverse(z)["X"], x["X"])


def test_refusals():
    with pytest.raises(ValueError, match=r"clock='Z'.*A"):
        ProductSchedule(A=VPLinear(), clock="Z")
    with pytest.raises(ValueError, match="at least one leaf"):
        ProductSchedule(clock="X")
    with pytest.raises(TypeError, match=r"'X'.*float"):
        ProductSchedule(X=1.0, clock="X")
    with pytest.raises(ValueError, match="one level"):
        ProductSchedule(X=ProductSchedule(A=EDM(), clock="A"), clock="X")
