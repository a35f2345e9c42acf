"""Arrays, with their masks."""

from __future__ import annotations

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra.numpy import array_shapes, arrays  # noqa: E402

from scidiffuse.timeseries.data import SkippedData, from_array, load, read_npz  # noqa: E402

CUBE = np.arange(12.0).reshape(2, 3, 2)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays(np.float64, array_shapes(min_dims=1, max_dims=3, max_side=4), elements=st.floats(-1e9, 1e9)))
def test_what_is_saved_comes_back(tmp_path, values):
    np.savez(tmp_path / "x.npz", values=values, freq="h", start="2024-01-01")
    panel = read_npz(tmp_path / "x.npz")
    back = np.stack(panel.values)  # (N K, L)
    if values.ndim == 3:
        back = back.reshape(len(values), values.shape[2], values.shape[1]).swapaxes(1, 2)
    assert np.array_equal(back.reshape(values.shape), values) and panel.starts[0] == pd.Timestamp("2024-01-01")


def test_names_channels_starts_and_mask(tmp_path):
    mask = np.ones(CUBE.shape, dtype=bool)
    mask[1, 2, 0] = False
    np.savez(
        tmp_path / "x.npz",
        y=CUBE,
        mask=mask,
        unique_id=["p", "q"],
        channels=["hr", "bp"],
        start=["2024-01-01", "2025-01-01"],
    )
    with pytest.raises(ValueError, match=r"x\.npz does not name its frequency: pass freq="):
        read_npz(tmp_path / "x.npz")
    panel = read_npz(tmp_path / "x.npz", "T")
    assert panel.ids == ("p/hr", "p/bp", "q/hr", "q/bp") and panel.freq == "min"
    assert panel.starts[2] == pd.Timestamp("2025-01-01")
    assert np.array_equal(panel.values[2], [6, 8, np.nan], equal_nan=True)
    assert len(load(tmp_path / "x.npz", "min")) == 12
    np.save(tmp_path / "x.npy", CUBE[..., 0])
    assert [v.tolist() for v in read_npz(tmp_path / "x.npy", "D").values] == [[0, 2, 4], [6, 8, 10]]


def test_mask_and_nan_that_disagree():
    values = np.array([[1.0, np.nan], [1.0, 2.0]])
    with pytest.raises(ValueError, match=r"series 0: mask and NaN disagree at step 2 \(1 in all\)"):
        from_array(values, "h", mask=np.ones((2, 2), dtype=bool))
    with pytest.warns(SkippedData, match="mask and NaN disagree"):
        assert from_array(values, "h", mask=np.ones((2, 2)), errors="skip").ids == (1,)
    assert np.isnan(from_array(values, "h", mask=np.array([[1, 0], [0, 1]])).values[1][0])


@pytest.mark.parametrize(
    ("values", "options", "kind", "words"),
    [
        (np.ones((2, 2), dtype=bool), {}, TypeError, "real numbers, got dtype bool"),
        (np.array(["a"]), {}, TypeError, "real numbers"),
        (np.ones((1, 1, 1, 1)), {}, ValueError, r"expected shape .*\(1, 1, 1, 1\)"),
        (np.ones((2, 0)), {}, ValueError, r"got \(2, 0\)"),
        (np.array([2**60]), {}, ValueError, r"2\^53"),
        (np.array([1.0, np.inf]), {}, ValueError, "infinite at step 2"),
        (np.ones((2, 2)), {"ids": ["a"]}, ValueError, "expected 2 names in unique_id, got 1"),
        (np.ones((2, 2)), {"start": ["2024-01-01"] * 3}, ValueError, "expected one start or 2, got 3"),
        (np.ones((2, 2)), {"mask": np.ones(2)}, ValueError, r"mask has shape \(2,\), the values \(2, 2\)"),
        (np.ones((2, 2)), {"mask": np.full((2, 2), 0.5)}, TypeError, "mask must be bool"),
    ],
)
def test_bad_arrays(values, options, kind, words):
    with pytest.raises(kind, match=words):
        from_array(values, "h", **options)


def test_bad_files(tmp_path):
    np.savez(tmp_path / "paths.npz", samples=CUBE, freq="h")
    with pytest.raises(ValueError, match="sample paths of a forecast"):
        read_npz(tmp_path / "paths.npz")
    np.savez(tmp_path / "two.npz", a=CUBE, b=CUBE, freq="h")
    with pytest.raises(ValueError, match=r"expected the values in one of \['values', 'y', 'data', 'X'\]"):
        read_npz(tmp_path / "two.npz")
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="pickled objects are refused"):
        read_npz(tmp_path / "o.npy", "h")
    (tmp_path / "d.npz").write_bytes(b"PK nothing")
    with pytest.raises(ValueError, match=r"d\.npz cannot be read"):
        read_npz(tmp_path / "d.npz", "h")
    with pytest.raises(FileNotFoundError):
        read_npz(tmp_path / "none.npz")
