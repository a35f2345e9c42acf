"""Keys, scaffolds and parts that do not leak."""

import numpy as np
import pytest

from scidiffuse.molecules.data import (
    check_leak,
    duplicates,
    from_networkx,
    from_smiles,
    keys,
    murcko_scaffolds,
    random_split,
    scaffold_split,
)

CHAINS = ["C" * n + x for n in range(1, 21) for x in ("O", "N", "F", "S", "Cl")]


def test_a_key_does_not_see_how_a_molecule_is_written():
    for by in ("inchikey", "smiles"):
        one, two, three = keys(["OCC", "C(C)O", "CCN"], by)
        assert one == two != three
    assert keys(["OCC"], "inchikey") == ["LFQSCWFLJHTTHZ-UHFFFAOYSA-N"]  # ethanol's, as published
    assert len(set(keys(["C[C@H](O)F", "C[C@@H](O)F"]))) == 1


def test_what_inchi_takes_for_the_same():
    amide, imidic = "CC(N)=O", "CC(O)=N"
    assert len(set(keys([amide, imidic]))) == 1 and len(set(keys([amide, imidic], "smiles"))) == 2
    assert len(set(keys(["CC(C)=O", "CC(O)=C"]))) == 2  # a ketone and its enol


def test_duplicates():
    graphs = from_smiles(["CCO", "CCN", "OCC", "NCC", "C"])
    assert duplicates(graphs).tolist() == [False, False, True, True, False]
    assert graphs[~duplicates(graphs)].ids == (0, 1, 4)


def test_murcko_scaffolds():
    assert murcko_scaffolds(["Cc1ccccc1", "CCO", "O=C(c1ccccc1)C1CC1", "C[C@H]1CC1"]) == [
        "c1ccccc1",
        "",
        "O=C(c1ccccc1)C1CC1",
        "C1CC1",
    ]


def test_random_parts():
    split = random_split(CHAINS, seed=0)
    assert (len(split.train), len(split.val), len(split.test)) == (80, 10, 10)
    assert sorted(np.concatenate([split.train, split.val, split.test])) == list(range(100))
    assert np.array_equal(split.test, random_split(CHAINS, seed=0).test)
    assert not np.array_equal(split.test, random_split(CHAINS, seed=1).test)
    first = [i in random_split(CHAINS, seed=s, by=None).test for s in range(300) for i in (0, 99)]
    assert 0.05 < np.mean(first) < 0.15  # every row has its share of chances


def test_the_same_molecule_is_never_in_two_parts():
    strings = CHAINS[:20] + [s[::-1].replace("lC", "Cl") for s in CHAINS[:20]]  # written from the other end
    for seed in range(20):
        split = random_split(strings, (0.5, 0.25, 0.25), seed=seed)
        for a, b in ((split.train, split.val), (split.train, split.test), (split.val, split.test)):
            assert not {i % 20 for i in a} & {i % 20 for i in b}
            check_leak([strings[i] for i in a], [strings[i] for i in b])


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_scaffolds_are_never_in_two_parts(seed):
    rings = ["C1CC1", "C1CCC1", "C1CCCC1", "c1ccccc1", "C1CCNCC1", "C1CCOC1", "c1ccsc1", "c1ccoc1", "C1COC1", "C1CNC1"]
    strings = [f"{'C' * k}{r}" for r in rings for k in range(1, 6)] + ["CCO", "CCN"]
    split = scaffold_split(strings, seed=seed)
    parts = [[strings[i] for i in p] for p in (split.train, split.val, split.test)]
    assert sum(map(len, parts)) == 52 and all(parts)
    for a in range(3):
        for b in range(a):
            check_leak(parts[a], parts[b], "scaffold")
            assert not set(murcko_scaffolds(parts[a])) & set(murcko_scaffolds(parts[b]))


def test_a_leak_is_named():
    with pytest.raises(
        ValueError, match=r"1 of 2 test molecules share their inchikey with a training one: OCC \(test 1, train 0\)"
    ):
        check_leak(["CCO", "C"], ["N", "OCC"])
    with pytest.raises(ValueError, match="share their scaffold"):
        check_leak(["Cc1ccccc1"], ["Nc1ccccc1"], "scaffold")
    check_leak(["Cc1ccccc1"], ["Nc1ccccc1"])
    check_leak(from_smiles(["CCO"]), from_smiles(["CCN"]))


def test_bad_arguments():
    import networkx as nx

    with pytest.raises(ValueError, match="molecule 1: 'C1C' is no SMILES"):
        keys(["C", "C1C"])
    with pytest.raises(ValueError, match="'name'"):
        keys(["C"], "name")
    for shares in ((0.8, 0.2), (0.8, 0.3, 0.1), (1.2, -0.1, -0.1)):
        with pytest.raises(ValueError, match="shares are three parts of 1"):
            random_split(CHAINS, shares, seed=0)
    plain = from_networkx([nx.path_graph(n) for n in range(2, 12)])
    with pytest.raises(ValueError, match="no SMILES"):
        random_split(plain, seed=0)
    assert len(random_split(plain, seed=0, by=None).train) == 8


def test_molecules_with_coordinates():
    from scidiffuse.molecules.data.atoms import stack_atoms

    atom = (np.array([6]), None, np.zeros((1, 3)), None)
    atoms = stack_atoms([atom] * 4, smiles=("CCO", "OCC", "Cc1ccccc1", "C"))
    assert duplicates(atoms).tolist() == [False, True, False, False] and murcko_scaffolds(atoms)[2] == "c1ccccc1"
    for seed in range(5):
        split = random_split(atoms, (0.5, 0.25, 0.25), seed=seed)
        assert any({0, 1} <= set(part.tolist()) for part in (split.train, split.val, split.test))
    check_leak(atoms[scaffold_split(atoms, (0.5, 0.0, 0.5)).train], ["CCN"])
    with pytest.raises(ValueError, match="these atoms have no SMILES"):
        random_split(stack_atoms([atom]), seed=0)


def test_other_containers():
    from scidiffuse.molecules.data import from_strings

    sequences = from_strings(["A", "C", "G", "T"])
    with pytest.raises(TypeError, match="by=None splits their rows"):
        random_split(sequences, seed=0)
    assert len(random_split(sequences, (0.5, 0.25, 0.25), seed=0, by=None).train) == 2
    with pytest.raises(TypeError, match="expected Graphs, Atoms or SMILES, got int"):
        keys(3)
