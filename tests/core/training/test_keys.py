"""Keys: order, noise and uniforms are functions of (seed, epoch, index) alone."""

from itertools import islice

import numpy as np
import pytest
import torch
from scipy import stats

from scidiffuse.core.training import Key, KeyedBatches, Keys
from scidiffuse.core.training.keys import KeyedDataset, order


def batches(steps, start=0, rank=0, world=1, n=10, size=4, seed=5):
    return list(islice(KeyedBatches(n, size, seed, lambda: start, rank, world), steps))


def test_every_epoch_is_a_permutation_of_its_own():
    stream = [key for batch in batches(10) for key in batch]  # 40 places = 4 epochs of 10; batches cross the borders
    for epoch in range(4):
        part = stream[10 * epoch : 10 * epoch + 10]
        assert {key.epoch for key in part} == {epoch} and sorted(key.sample for key in part) == list(range(10))
        assert [key.sample for key in part] == order(5, epoch, 10).tolist()
    assert len({tuple(order(5, e, 10)) for e in range(4)}) == 4 and tuple(order(6, 0, 10)) != tuple(order(5, 0, 10))
    assert all([key.stratum for key in batch] == [0, 1, 2, 3] for batch in batches(10))


def test_the_step_alone_tells_where_the_stream_stands():
    assert batches(5, start=3) == batches(8)[3:]


def test_ranks_share_the_global_batch():
    whole = batches(6)
    parts = [batches(6, rank=r, world=2) for r in range(2)]
    assert [a + b for a, b in zip(*parts, strict=True)] == whole


def test_data_set_smaller_than_the_batch():
    (batch,) = batches(1, n=3, size=8)
    assert [key.epoch for key in batch] == [0, 0, 0, 1, 1, 1, 2, 2]


def test_numbers_do_not_depend_on_the_company():
    like = torch.empty(3, 5, 2)
    keys = Keys(1, (Key(0, 4, 0), Key(2, 7, 1), Key(0, 9, 2)), 3)
    other = Keys(1, (Key(2, 7, 0), Key(0, 4, 1)), 2)
    z, u = keys.noise(like), keys.uniforms("time", 4)
    assert torch.equal(z[[1, 0]], other.noise(like[:2])) and torch.equal(u[[1, 0]], other.uniforms("time", 4))
    assert torch.equal(keys.noise(torch.empty(3, 12))[:, :10], z.flatten(1))  # padding appends numbers
    assert z.dtype == torch.float32 and keys.noise(like.double()).dtype == torch.float64


def test_each_part_of_the_key_counts():
    def draw(seed=1, epoch=2, index=3, role="noise", draw=0):
        return float(Keys(seed, (Key(epoch, index, 0),), 1).noise(torch.empty(1, 1), draw, role))

    values = {draw(), draw(seed=2), draw(epoch=3), draw(index=4), draw(role="cep"), draw(draw=1), draw(epoch=-1)}
    assert len(values) == 7 and draw() in values


def test_laws():
    keys = Keys.of(0, 0, range(2000))
    z = keys.noise(torch.empty(2000, 2, dtype=torch.float64)).numpy()
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3 and abs(np.corrcoef(z.T)[0, 1]) < 0.1
    assert stats.kstest(keys.uniforms("time").numpy().ravel(), "uniform").pvalue > 1e-3


def test_augmentation_is_keyed():
    class Crops:
        def __len__(self):
            return 3

        def draw(self, index, generator):
            return index, float(generator.random())

    data = KeyedDataset(Crops(), seed=0)
    (a, _), (b, _), (again, key) = data[Key(0, 1, 0)], data[Key(1, 1, 0)], data[Key(0, 1, 7)]
    assert a == again and a[0] == b[0] == 1 and a[1] != b[1] and key == Key(0, 1, 7)
    assert KeyedDataset([10, 20], seed=0)[Key(4, 1, 0)][0] == 20


def test_bad_values():
    with pytest.raises(ValueError, match="empty"):
        KeyedBatches(0, 4, 0)
    with pytest.raises(ValueError, match="shared by 2 processes"):
        KeyedBatches(10, 3, 0, world=2)
    with pytest.raises(ValueError, match="keyed for 2 samples, the state holds 3"):
        Keys.of(0, 0, [0, 1]).noise(torch.empty(3, 1))
