"""MaskedSequence end to end at toy size: laws, samples, bits, energy, tuning, files, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")

from scidiffuse.core.discrete import ConfidenceOrdered, FirstHitting, Masked, OverDraws
from scidiffuse.core.discrete.closed_form import Sequences as Law
from scidiffuse.core.discrete.closed_form import p_value
from scidiffuse.core.steering import SVDD, FeynmanKac
from scidiffuse.molecules.data.sequences import Sequences, from_strings, read_fasta
from scidiffuse.molecules.metrics.sequences import Motif, pwm_hits
from scidiffuse.molecules.sequence import MaskedSequence, SequenceConfig

TINY = {"width": 16, "depth": 1, "heads": 2, "energy_width": 16, "energy_depth": 1, "warmup": 0, "ema": None}
STRINGS = ["ACGTAC", "ACGT", "TTGACA", "ACGTT", "GGGTAC", "TTGA"] * 4


def strings():
    return from_strings(STRINGS)


@pytest.fixture(scope="module")
def model():
    return MaskedSequence.for_dataset(strings(), **TINY).fit(strings(), max_steps=4, batch_size=8, seed=0)


def exact(law, alphabet="AC"):
    """A model whose denoiser is the exact one of a law on sequences of 3 letters."""
    model = MaskedSequence(alphabet, **TINY)
    model.length, model.lengths = law.length, torch.eye(law.length + 1, dtype=torch.float64)[law.length]
    inner = law.denoiser(Masked(law.tokens + 1))
    ask = inner.network
    inner.network = lambda x, t, mask: ask(x, t)
    model.denoiser = inner
    return model


# ---------------------------------------------------------------- the law of samples


def test_first_hitting_samples_have_the_law_of_an_exact_network():
    law = Law.random(2, 3, seed=1)
    out = exact(law).sample(4000, seed=0, max_batch=None)
    assert law.p_value(out.tokens) > 1e-3
    independent = torch.stack([law.table.sum(tuple(j for j in range(3) if j != i)) for i in range(3)])
    product = torch.einsum("i,j,k->ijk", *independent).reshape(-1)
    assert p_value(law.counts(out.tokens), product) < 1e-6  # letters that ignore each other are told apart


def test_letters_that_are_held_condition_the_law_of_the_others():
    law = Law.random(2, 3, seed=1)
    out = exact(law).sample(3000, template=".C.", seed=1, max_batch=None)
    assert {t[1] for t in out.strings} == {"C"}
    conditioned = Law(law.table * torch.tensor([0.0, 1.0])[None, :, None])
    assert p_value(conditioned.counts(out.tokens)[[2, 3, 6, 7]], conditioned.probs[[2, 3, 6, 7]]) > 1e-3
    assert out.info["network_calls"] == 2


def test_bits_are_those_of_the_law():
    law = Law.random(2, 3, seed=1)
    data = Sequences(law.support, torch.ones_like(law.support, dtype=torch.bool), "AC", tuple(range(8)), {})
    bits = exact(law).bits_per_token(data, seed=0, draws=300)
    assert bits.bits == pytest.approx(law.bits(law.support), abs=0.05)
    assert "orders" in bits.protocol
    log_p = exact(law).log_likelihood(data, seed=0, draws=300)
    assert torch.allclose(log_p, law.probs.log(), atol=0.35) and torch.corrcoef(torch.stack([log_p, law.probs.log()]))[0, 1] > 0.98  # fmt: skip  # noqa: E501


def test_steered_samples_follow_the_tilted_law():
    law = Law.random(2, 3, seed=1)
    steering = FeynmanKac(OverDraws(lambda s: 1.5 * s.count("C"), 8), walkers=16)
    out = exact(law).sample(600, seed=0, steering=steering, max_batch=None)
    tilted = law.tilted(1.5 * law.support.sum(1).double())
    share = float(out.tokens.double().mean())
    plain, wanted = (float(p.probs @ p.support.double().mean(1)) for p in (law, tilted))
    assert abs(share - wanted) < 0.2 * abs(wanted - plain)


# ---------------------------------------------------------------- learning


def test_letters_learnt_by_heart_come_back_with_their_lengths():
    data = from_strings(["ACGT", "TTAACC"] * 20)
    fitted = MaskedSequence.for_dataset(data, **TINY | {"width": 32, "lr": 1e-2}).fit(
        data, max_steps=150, batch_size=40, seed=0
    )
    out = fitted.sample(40, seed=0)
    assert sum(s in ("ACGT", "TTAACC") for s in out.strings) >= 36
    assert min(map(out.strings.count, ("ACGT", "TTAACC"))) >= 8
    assert fitted.sample(2, length=[3, 5], seed=0).mask.sum(1).tolist() == [3, 5]
    good, bad = (fitted.bits_per_token(from_strings([s]), draws=16).bits for s in ("ACGT", "GTCA"))
    assert good < 0.3 and bad > 2.0


def test_unknown_letters_are_neither_seen_nor_counted(model):
    other = MaskedSequence.for_dataset(strings(), **TINY)
    kept = from_strings(["ACNTAC"] * 8, unknown="keep")
    other.fit(kept, max_steps=2, batch_size=4, seed=0)
    changed = kept.tokens.clone()
    bits = model.bits_per_token(kept, draws=4)
    assert bits.lengths.tolist() == [5] * 8
    changed[:, 2] = -1
    assert model.bits_per_token(Sequences(changed, kept.mask, "ACGT", kept.ids, {}), draws=4).bits == bits.bits
    assert all(set(s) <= set("ACGT") for s in other.sample(3, length=6, seed=0).strings)


# ---------------------------------------------------------------- steering, energy, tuning


def test_steering_raises_hits_of_a_motif(model):
    motif = Motif.from_counts("TTGA", np.eye(4)[[3, 3, 2, 0]] * 50.0)
    log_odds = motif.bits

    def reward(s):
        index = np.array(["ACGT".index(c) for c in s])
        return float(max((log_odds[np.arange(4), index[i : i + 4]].sum() for i in range(len(s) - 3)), default=-20.0))

    settings = {"seed": 0, "length": 6}
    outs = [model.sample(16, **settings), model.sample(16, steering=SVDD(reward, 8, alpha=0.0), **settings)]
    hits = [float(pwm_hits(out.strings, motif, 5e-3, both_strands=False)) for out in outs]
    assert hits[1] > hits[0] + 0.2
    assert outs[1].info["network_calls"] == 8 * outs[0].info["network_calls"]


def test_an_energy_says_what_letters_decided_together_have_to_do_with_each_other(tmp_path):
    data = from_strings(["AA", "CC"] * 40, "AC")
    fitted = MaskedSequence.for_dataset(data, **TINY | {"lr": 1e-2}).fit(data, max_steps=60, batch_size=40, seed=0)
    plain = fitted.sample(100, sampler="ancestral", steps=1, seed=0).strings
    fitted.train_energy(data, max_steps=120, batch_size=40, seed=0)
    chosen = fitted.sample(100, sampler="ancestral", steps=1, seed=0, candidates=8)
    same = [sum(s[0] == s[1] for s in found) for found in (plain, chosen.strings)]
    assert same[0] < 70 and same[1] > 90  # a half of independent letters agrees, all of the data's do
    fitted.save(tmp_path / "m")
    again = MaskedSequence.load(tmp_path / "m").sample(100, sampler="ancestral", steps=1, seed=0, candidates=8)
    assert again.strings == chosen.strings
    fitted.energy = None
    with pytest.raises(RuntimeError, match="train_energy"):
        fitted.sample(1, candidates=2)


def test_drakes_raises_its_reward_and_leaves_the_base_alone(model, tmp_path):
    before = model.sample(40, length=6, seed=0).strings
    tuned = model.drakes(
        lambda y: 3 * y[..., 2].mean(1), iterations=12, length=6, seed=0, steps=6, truncate=6, lr=2e-2, batch_size=16,
        accumulate=1, alpha=0.01,
    )  # fmt: skip
    after = tuned.sample(40, length=6, seed=0).strings
    share = [sum(s.count("G") for s in found) / 240 for found in (before, after)]
    assert share[1] > share[0] + 0.2
    assert model.sample(40, length=6, seed=0).strings == before
    assert len(tuned.tuning) == 12 and tuned.tuning[-1]["kl"] > 0.0
    tuned.save(tmp_path / "t")
    again = MaskedSequence.load(tmp_path / "t")
    assert again.tuning == tuned.tuning and again.sample(40, length=6, seed=0).strings == after


# ---------------------------------------------------------------- seeds and files


def test_a_sample_depends_on_its_number_not_on_its_batch(model):
    whole = model.sample(9, seed=1).strings
    assert model.sample(9, seed=1, max_batch=2).strings == whole
    assert model.sample(9, seed=2).strings != whole
    for sampler in ("ancestral", "euler", "tau_leaping"):
        assert model.sample(4, seed=1, sampler=sampler, steps=3).info["network_calls"] == 3
    assert len(model.sample(4, sampler=ConfidenceOrdered(), steps=3)) == 4
    assert model.sample(2, length=6, sampler=FirstHitting(tokens=3)).info["network_calls"] == 2


def test_saved_and_loaded_models_sample_the_same(model, tmp_path):
    model.save(tmp_path / "m")
    again = MaskedSequence.load(tmp_path / "m")
    assert (again.config, again.alphabet, again.length) == (model.config, "ACGT", 6)
    out = model.sample(5, seed=3)
    assert again.sample(5, seed=3).strings == out.strings
    assert read_fasta(out.write(tmp_path / "s.fasta")).strings() == out.strings
    with pytest.raises(ValueError, match=r"expected \.fa"):
        out.write(tmp_path / "s.txt")


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    settings = TINY | {"decay": "constant", "ema": 0.9}
    whole = MaskedSequence.for_dataset(strings(), **settings).fit(strings(), max_steps=6, batch_size=5, seed=1)
    part = MaskedSequence.for_dataset(strings(), **settings)
    part.fit(strings(), max_steps=3, batch_size=5, seed=1, out=tmp_path)
    part.fit(strings(), max_steps=6, batch_size=5, seed=1, out=tmp_path, resume=True)
    for name, value in whole.denoiser.network.state_dict().items():
        torch.testing.assert_close(part.denoiser.network.state_dict()[name], value, rtol=0, atol=0)
    with pytest.raises(ValueError, match="other data"):
        part.fit(from_strings(STRINGS[1:]), max_steps=9, batch_size=5, seed=1, out=tmp_path, resume=True)
    with pytest.raises(ValueError, match="depth was 1, now 2"):
        MaskedSequence.for_dataset(strings(), **settings | {"depth": 2}).fit(
            strings(), max_steps=9, batch_size=5, seed=1, out=tmp_path, resume=True
        )


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda m: MaskedSequence("ACGT").sample(1), RuntimeError, "not trained"),
        (lambda m: MaskedSequence("acgt"), ValueError, "two different capitals, got 'acgt'"),
        (lambda m: MaskedSequence("dna", SequenceConfig(), width=8), TypeError, "not both"),
        (lambda m: m.fit(STRINGS), TypeError, "from_strings"),
        (lambda m: m.fit(from_strings(["ACGU"], "rna")), ValueError, "the model's alphabet is ACGT"),
        (lambda m: m.bits_per_token(from_strings(["ACGTACGT"])), ValueError, "up to 6 letters, got one of 8"),
        (lambda m: m.bits_per_token(from_strings(["NN", "AC"], unknown="keep")), ValueError, "sequence 0 .*no letter"),
        (lambda m: m.sample(0), ValueError, "positive integer, got 0"),
        (lambda m: m.sample(1, length=7), ValueError, "1 to 6"),
        (lambda m: m.sample(1, steps=4), ValueError, "first-hitting has no steps"),
        (lambda m: m.sample(1, sampler="ancestral", steps=0), ValueError, "steps must be a positive integer"),
        (lambda m: m.sample(1, sampler="ddim"), ValueError, "'tau_leaping' or a sampler of the core, got 'ddim'"),
        (lambda m: m.sample(1, template="AC.N"), ValueError, "'N' at 4 is none of ACGT"),
        (lambda m: m.sample(1, template="A......"), ValueError, "7 places"),
        (lambda m: m.sample(3, template=["A.", "C."]), ValueError, "each of 3 samples; got 2"),
        (lambda m: m.sample(1, template="A.", length=2), ValueError, "a template sets the length"),
        (lambda m: m.sample(1, steering=len), TypeError, "steering must be"),
        (lambda m: m.fit(strings(), epochs=1, max_steps=1), ValueError, "not both"),
        (lambda m: SequenceConfig(width=10, heads=4), ValueError, "multiple of 2 heads=8"),
        (lambda m: SequenceConfig.preset("huge"), ValueError, "there are small, base"),
    ],
)
def test_refusals(model, call, kind, message):
    with pytest.raises(kind, match=message):
        call(model)


def test_an_untrained_network_has_the_bits_of_equal_letters():
    """The head starts at zero: 2 bits a letter, whatever the sequence."""
    model = MaskedSequence.for_dataset(strings(), **TINY)
    model.fit(strings(), max_steps=1, batch_size=8, lr=1e-12, seed=0)
    assert model.bits_per_token(strings(), draws=6).bits == pytest.approx(2.0, abs=1e-6)
