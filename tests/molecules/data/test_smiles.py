"""Files of SMILES."""

import gzip

import pytest

from scidiffuse.molecules.data import (
    SkippedData,
    Standardise,
    from_smiles,
    read_guacamol,
    read_moses,
    read_smiles,
    read_smiles_table,
)


def test_stereo_is_kept_beside_the_graph_where_it_is_asked_for():
    kept = from_smiles(["C[C@H](O)F", "F/C=C/F"], standardise=Standardise(stereo="keep"))
    assert kept.smiles == ("C[C@H](O)F", "F/C=C/F") and kept.to_smiles() == ["CC(O)F", "FC=CF"]


def test_column_is_found_by_its_name(tmp_path):
    (tmp_path / "a.csv").write_text("id,SMILES,logP\nx,CCO,0.5\ny,C,-1\n")
    table = read_smiles_table(tmp_path / "a.csv", id_column="id", properties=["logP"])
    assert table.smiles == ["CCO", "C"] and table.ids == ["x", "y"] and table.properties == {"logP": [0.5, -1.0]}
    assert table.where == ["row 1", "row 2"]
    g = read_smiles(tmp_path / "a.csv", "CO", properties=["logP"])
    assert g.smiles == ("CCO", "C") and g.properties["logP"].tolist() == [0.5, -1.0] and g.vocabulary == ("C", "O")


def test_zinc250k_has_line_breaks_in_its_column(tmp_path):
    (tmp_path / "z.csv").write_text('smiles,logP,qed,SAS\n"CCO\n",1,2,3\n"CN\n",1,2,3\n')
    assert read_smiles(tmp_path / "z.csv").smiles == ("CCO", "CN")


def test_tab_separated_gzipped_and_a_named_column(tmp_path):
    with gzip.open(tmp_path / "t.tsv.gz", "wt") as file:
        file.write("drug\tn\nCCO\t1\n")
    assert read_smiles(tmp_path / "t.tsv.gz", column="drug").smiles == ("CCO",)
    with pytest.raises(ValueError, match=r"no column is called smiles .*\['drug', 'n'\] with column="):
        read_smiles(tmp_path / "t.tsv.gz")
    with pytest.raises(ValueError, match=r"has no column 'x'; it has \['drug', 'n'\]"):
        read_smiles(tmp_path / "t.tsv.gz", column="x")
    with pytest.raises(ValueError, match="a property must be a column of numbers"):
        read_smiles_table(tmp_path / "t.tsv.gz", "drug", properties=["drug"])


def test_smi_with_names_header_and_blank_lines(tmp_path):
    (tmp_path / "a.smi").write_text("smiles name\nCCO ethanol of wine\n\nC\n")
    table = read_smiles_table(tmp_path / "a.smi")
    assert table.smiles == ["CCO", "C"] and table.ids == ["ethanol of wine", 4] and table.where == ["line 2", "line 4"]
    assert read_smiles_table(tmp_path / "a.smi", limit=1).smiles == ["CCO"]
    with pytest.raises(ValueError, match="has no columns"):
        read_smiles_table(tmp_path / "a.smi", "smiles")


def test_a_bad_row_is_named_with_its_string(tmp_path):
    (tmp_path / "a.csv").write_text("smiles,mu\nCCO,1\nC1CC,2\n,3\nCN,4\n")
    with pytest.raises(ValueError, match=r"a.csv, row 2 \('C1CC'\): 'C1CC' is no SMILES.*errors='skip'"):
        read_smiles(tmp_path / "a.csv")
    with pytest.warns(SkippedData, match=r"left out 2 of 4: row 2 \('C1CC'\).*; row 3 \(''\)"):
        g = read_smiles(tmp_path / "a.csv", errors="skip", properties=["mu"])
    assert g.ids == (1, 4) and g.properties["mu"].tolist() == [1.0, 4.0]  # the numbers follow their molecules


def test_moses(tmp_path):
    (tmp_path / "dataset_v1.csv").write_text("SMILES,SPLIT\nC,train\nCC,test\nCCC,train\nCCCC,test_scaffolds\n")
    table = read_moses(tmp_path / "dataset_v1.csv")
    assert table.smiles == ["C", "CCC"] and table.where == ["row 1", "row 3"]
    assert read_moses(tmp_path / "dataset_v1.csv", "test_scaffolds").smiles == ["CCCC"]
    with gzip.open(tmp_path / "test.csv.gz", "wt") as file:
        file.write("SMILES\nCO\nCN\n")
    assert from_smiles(read_moses(tmp_path, "test", limit=1)).smiles == ("CO",)
    with pytest.raises(FileNotFoundError, match=r"no train.csv"):
        read_moses(tmp_path, "train")
    with pytest.raises(ValueError, match="MOSES has the splits"):
        read_moses(tmp_path, "valid")
    (tmp_path / "x.csv").write_text("SMILES\nC\n")
    with pytest.raises(ValueError, match="SMILES and SPLIT"):
        read_moses(tmp_path / "x.csv")


def test_guacamol(tmp_path):
    (tmp_path / "guacamol_v1_valid.smiles").write_text("CCO\nCN\n")
    assert read_guacamol(tmp_path, "valid").smiles == ["CCO", "CN"]
    assert read_guacamol(tmp_path / "guacamol_v1_valid.smiles", limit=1).smiles == ["CCO"]
    with pytest.raises(FileNotFoundError, match="guacamol_v1_train"):
        read_guacamol(tmp_path)
    with pytest.raises(ValueError, match="GuacaMol has the splits"):
        read_guacamol(tmp_path, "val")


def test_other_files(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match=r"expected .csv, .tsv, .smi"):
        read_smiles(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError):
        read_smiles(tmp_path / "absent.csv")
    (tmp_path / "e.csv").write_text("")
    with pytest.raises(ValueError, match="no table"):
        read_smiles(tmp_path / "e.csv")


def test_entries_that_are_no_text():
    for bad, shown in ((None, "None"), (float("nan"), "nan"), (3, "3")):
        with pytest.raises(
            ValueError, match=rf"molecule 1 \({shown}\): expected a SMILES or an RDKit molecule, got {shown}"
        ):
            from_smiles(["C", bad])
        with pytest.warns(SkippedData, match=rf"left out 1 of 2: molecule 1 \({shown}\)"):
            assert from_smiles(["C", bad], errors="skip").ids == (0,)


def test_an_empty_field_of_moses(tmp_path):
    (tmp_path / "dataset_v1.csv").write_text("SMILES,SPLIT\nC,train\n,train\nCC,train\n")
    table = read_moses(tmp_path / "dataset_v1.csv")
    with pytest.raises(ValueError, match=r"dataset_v1.csv, row 2 \(''\): expected a SMILES"):
        from_smiles(table)
    with pytest.warns(SkippedData, match="row 2"):
        assert from_smiles(table, errors="skip").ids == (1, 3)


def test_limits(tmp_path):
    (tmp_path / "a.smi").write_text("C\nCC\n")
    for limit in (0, -1):
        with pytest.raises(ValueError, match=f"at least 1 .None: all., got {limit}"):
            read_smiles(tmp_path / "a.smi", limit=limit)
