"""Which step a training had reached when it was interrupted."""

from __future__ import annotations

import pytest

from scidiffuse.core.training.interruption import Position, interrupted, saved_step


def test_ctrl_c_is_told_from_a_plain_exit():
    assert interrupted(KeyboardInterrupt()) and not interrupted(SystemExit(1))
    with pytest.raises(SystemExit) as caught:  # noqa: PT012
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            raise SystemExit(1)  # noqa: B904  (as Lightning does)
    assert interrupted(caught.value)


def test_no_checkpoint_has_no_step(tmp_path):
    assert saved_step(tmp_path) is None


def test_the_position_follows_the_trainer():
    pytest.importorskip("lightning")
    at = Position()
    assert at.step == 0
    (callback,) = at.callbacks()
    callback.on_train_batch_end(type("T", (), {"global_step": 7})(), None, None, None, 0)
    assert at.step == 7
