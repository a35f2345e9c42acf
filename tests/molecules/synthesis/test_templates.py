"""Templates: one by hand, real reactions there and back, files."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rdchiral")

from scidiffuse.molecules import synthesis as sy
from scidiffuse.molecules.data.reactions import read_reactions
from scidiffuse.molecules.synthesis.templates import key_of

HAND = "[CH3:1][C:2](=[O:3])[OH:9].[NH2:4][CH3:5]>>[CH3:1][C:2](=[O:3])[NH:4][CH3:5]"
# three reactions of the USPTO-50k test file
REAL = """id,class,reactants>reagents>production
a,5,[C:12](=[O:13])([O:14][C:15]([CH3:16])([CH3:17])[CH3:18])[O:27][C:25]([O:24][C:21]([CH3:20])([CH3:22])[CH3:23])=[O:26].[CH3:1][C:2](=[O:3])[c:4]1[cH:5][cH:6][c:7]2[c:8]([cH:9][cH:10][nH:11]2)[cH:19]1>>[CH3:1][C:2](=[O:3])[c:4]1[cH:5][cH:6][c:7]2[c:8]([cH:9][cH:10][n:11]2[C:12](=[O:13])[O:14][C:15]([CH3:16])([CH3:17])[CH3:18])[cH:19]1
b,5,[C:13](=[O:14])([O:15][C:16]([CH3:17])([CH3:18])[CH3:19])[O:35][C:33]([O:32][C:29]([CH3:28])([CH3:30])[CH3:31])=[O:34].[CH3:1][c:2]1[cH:3][cH:4][c:5]([S:6](=[O:7])(=[O:8])[O:9][C@@H:10]2[CH2:11][NH:12][C@H:20]3[C@@H:21]2[O:22][CH2:23][C@@H:24]3[OH:25])[cH:26][cH:27]1>>[CH3:1][c:2]1[cH:3][cH:4][c:5]([S:6](=[O:7])(=[O:8])[O:9][C@@H:10]2[CH2:11][N:12]([C:13](=[O:14])[O:15][C:16]([CH3:17])([CH3:18])[CH3:19])[C@H:20]3[C@@H:21]2[O:22][CH2:23][C@@H:24]3[OH:25])[cH:26][cH:27]1
c,10,[Br:28][N:35]1[C:30](=[O:29])[CH2:31][CH2:32][C:33]1=[O:34].[CH3:1][CH2:2][O:3][C:4](=[O:5])[c:6]1[n:7][n:8](-[c:9]2[cH:10][cH:11][c:12]([Cl:13])[cH:14][c:15]2[Cl:16])[c:17](-[c:18]2[cH:19][cH:20][c:21]([O:22][CH3:23])[cH:24][cH:25]2)[c:26]1[CH3:27]>>[CH3:1][CH2:2][O:3][C:4](=[O:5])[c:6]1[n:7][n:8](-[c:9]2[cH:10][cH:11][c:12]([Cl:13])[cH:14][c:15]2[Cl:16])[c:17](-[c:18]2[cH:19][cH:20][c:21]([O:22][CH3:23])[cH:24][cH:25]2)[c:26]1[CH2:27][Br:28]
"""


@pytest.fixture
def real(tmp_path):
    (tmp_path / "r.csv").write_text(REAL)
    return read_reactions(tmp_path / "r.csv")


def test_an_amide_by_hand():
    """Its centre is C-N and the acid's OH; one bond further are the carbonyl O and both methyls, generalised."""
    template = sy.template_of(HAND)
    product, reactants = template.split(">>")
    assert product == "[C;D1;H3:1]-[C;H0;D3;+0:2](=[O;D1;H0:3])-[NH;D2;+0:4]-[C;D1;H3:5]"
    assert sorted(reactants.split(".")) == [
        "[C;D1;H3:1]-[C;H0;D3;+0:2](=[O;D1;H0:3])-[OH;D1;+0]",
        "[C;D1;H3:5]-[NH2;D1;+0:4]",
    ]
    assert sy.apply(template, "CNC(C)=O") == [("CC(=O)O", "CN")]
    assert sy.apply(template, "CCO") == []


def test_the_numbers_of_atoms_do_not_matter():
    other = "[CH3:70][C:31](=[O:12])[OH:2].[NH2:44][CH3:55]>>[CH3:70][C:31](=[O:12])[NH:44][CH3:55]"
    swapped = "[NH2:4][CH3:5].[CH3:1][C:2](=[O:3])[OH:9]>>[CH3:1][C:2](=[O:3])[NH:4][CH3:5]"
    found = sy.extract([HAND, other, swapped])
    assert found.templates.counts == (3,) and found.labels == (0, 0, 0)


def test_the_order_of_atoms_does_not_matter_to_the_key_but_the_reaction_does(real):
    from rdkit.Chem import MolFromSmarts, MolToSmarts, RenumberAtoms

    for template in (sy.template_of(HAND), sy.template_of(real[0].mapped), sy.template_of(real[2].mapped)):
        turned = []
        for side in template.split(">>"):
            mol = MolFromSmarts(side)
            turned.append([MolToSmarts(m) for m in (mol, RenumberAtoms(mol, list(range(mol.GetNumAtoms()))[::-1]))])
        assert key_of(">>".join(side[0] for side in turned)) == key_of(">>".join(side[1] for side in turned))
    assert key_of("[C:1][N:2]>>[C:1].[N:2]") == key_of("[N:7][C:3]>>[N:7].[C:3]")
    assert key_of("[C:1][N:2]>>[C:1].[N:2]") != key_of("[C:1][N:2]>>[C:1].[N]")
    assert key_of("[C:1]-[C:2]>>[C:1]=[C:2]") != key_of("[C:1]=[C:2]>>[C:1]-[C:2]")


def test_real_reactions_are_recovered_by_their_own_template(real):
    found = sy.extract(real)
    assert sy.recovery(real, found).value == 1.0
    assert found.templates.counts[0] == 1 and len(found.templates) == 3
    foreign = sy.Extraction(found.templates, found.labels[::-1], {}, ())
    assert sy.recovery(real, foreign).value < 1.0
    with pytest.raises(ValueError, match="2 reactions, but"):
        sy.recovery(real[:2], found)


def test_stereo_is_kept_and_the_wrong_one_is_not_matched(real):
    template = sy.template_of(real[1].mapped)
    for outcome in sy.apply(template, real[1].products[0]):
        assert any("@" in part for part in outcome)


def test_two_places_give_two_outcomes_and_the_product_itself_is_none():
    template = sy.template_of(HAND)
    assert sy.apply("[C:1](=[O:2])-[N:3]>>O-[C:1]=[O:2].[N:3]", "CC(=O)NCCNC(=O)CC") == [
        ("CC(=O)NCCN", "CCC(=O)O"),
        ("CC(=O)O", "CCC(=O)NCCN"),
    ]
    assert sy.apply("[C:1]-[O:2]>>[C:1]-[O:2]", "CO") == []
    with pytest.raises(ValueError, match="no molecule"):
        sy.apply(template, "C1CC")


def test_failures_are_named_and_counted():
    two = "[CH3:1][OH:2]>>[CH3:1].[OH2:2]"
    found = sy.extract([HAND, "CC>>CO", two, "nonsense", "[CH3:1][CH3:2]>>[CH3:1][CH3:2]"])
    assert found.labels == (0, None, None, None, None)
    assert found.failures["no atom maps"] == found.failures["several products"] == 1
    assert any("no atom changes" in reason for reason in found.failures)
    assert [f.where for f in found.failed] == ["reaction 2", "reaction 3", "reaction 4", "reaction 5"]
    with pytest.raises(ValueError, match=r"no template in 1 reactions.*no atom maps"):
        sy.extract(["CC>>CO"])


def test_rare_templates_can_be_left_out(real):
    found = sy.extract([HAND, HAND, *real], min_count=2)
    assert len(found.templates) == 1 and found.labels == (0, 0, None, None, None)
    assert found.failures == {"a template of fewer than 2 reactions": 3}


def test_the_global_generator_of_numpy_is_left_alone(real):
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.RandomState(5).rand()
    sy.template_of(real[1].mapped)
    assert np.random.rand() == expected  # noqa: NPY002


@pytest.mark.parametrize("name", ["t.tsv", "t.tsv.gz"])
def test_files_there_and_back(tmp_path, real, name):
    templates = sy.extract([HAND, HAND, *real]).templates
    assert sy.Templates.read(templates.write(tmp_path / name)) == templates


def test_broken_files_say_where(tmp_path):
    path = tmp_path / "t.tsv"
    for content, words in (
        ("", "expected the first line"),
        ("smarts\n", "expected the first line"),
        ("template\tcount\n[C:1]>>[C:1]\t1\nC(\t1\n", "line 3.*is no template"),
        ("template\tcount\n[C:1]>>[C:1\t1\n", "line 2.*is no template"),
        ("template\tcount\n[C:1]>>[C:1]\tmany\n", "line 2: expected a template, a tab and a count"),
        ("template\tcount\n[C:1]>>[C:1]\t1\n[C:1]>>[C:1]\t1\n", "stands twice"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=words):
            sy.Templates.read(path)
    with pytest.raises(FileNotFoundError):
        sy.Templates.read(tmp_path / "none.tsv")
