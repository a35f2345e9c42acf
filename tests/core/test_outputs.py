"""Numbers and pictures as files that appear when they are complete."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from scidiffuse.core.outputs import draw, write_json
from scidiffuse.core.scores import Score


def test_what_json_has_no_word_for_becomes_plain(tmp_path):
    score = Score("x", math.nan, -math.inf, 1.0, 3, 3, "1", "d", "u")
    value = {1: (np.float32(0.5), np.arange(2)), "score": score, "path": Path("a"), "none": None, "yes": np.bool_(True)}
    read = json.loads(write_json(value, tmp_path / "a.json").read_text())
    assert read["1"] == [0.5, [0, 1]] and read["path"] == "a" and read["none"] is None and read["yes"] is True
    assert read["score"]["value"] is None and read["score"]["low"] is None and read["score"]["high"] == 1.0


def test_a_picture_that_fails_leaves_the_old_one(tmp_path):
    class Broken:
        def savefig(self, path, **_):
            path.write_text("half")
            raise ValueError("no")

    old = tmp_path / "a.png"
    old.write_text("old")
    with pytest.raises(ValueError, match="no"):
        draw(Broken(), old)  # type: ignore[arg-type]
    assert old.read_text() == "old" and list(tmp_path.iterdir()) == [old]
