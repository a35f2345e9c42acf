"""The one reader of tables, and what is none."""

import gzip

import pytest

from scidiffuse.molecules.data import read_moses, read_reactions, read_sequence_table, read_smiles_table
from scidiffuse.molecules.data.tables import column_of_ids, columns_of_numbers, ids_of, read_table

READERS = {
    "read_smiles_table": (read_smiles_table, "smiles"),
    "read_reactions": (read_reactions, "rxn_smiles"),
    "read_sequence_table": (lambda path: read_sequence_table(path, "seq"), "seq"),
    "read_moses": (read_moses, "SMILES"),
}
GOOD = {"smiles": "CCO", "rxn_smiles": "C>>C", "seq": "ACGT", "SMILES": "CCO"}


@pytest.fixture(params=READERS, name="reader")
def _reader(request):
    return READERS[request.param]


@pytest.mark.parametrize(("rows", "bad"), [([3, 3], 1), ([3, 2], 1), ([2, 3], 2), ([2, 2, 4], 3)])
def test_a_row_with_more_fields_than_the_header_is_named(tmp_path, reader, rows, bad):
    read, column = reader
    lines = [",".join([GOOD[column]] * count) for count in rows]
    (tmp_path / "a.csv").write_text("\n".join([f"{column},SPLIT", "", *lines]) + "\n")
    with pytest.raises(
        ValueError, match=rf"a.csv, row {bad}: {rows[bad - 1]} fields, the header names 2 .*quote a field"
    ):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", "No columns"),
        ("a.csv.gz", b"smiles\nCCO\n", "gzip"),
        ("a.csv.gz", gzip.compress(b"smiles\nCCO\n" * 999)[:-20], "end-of-stream"),
        ("a.csv", "smiles\nCCO\xe9\n".encode("latin-1"), "utf-8"),
        ("a.csv", b'smiles\n"CCO\n', "EOF inside string"),
    ],
)
def test_what_is_no_table_is_said_with_its_name(tmp_path, reader, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is no table: .*{words}"):
        reader[0](tmp_path / name)


def test_the_first_column_is_no_index(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffsmiles,logP\nCCO,0.5,\nC,-1,\n", encoding="utf-8")
    table = read_table(tmp_path / "a.csv")  # an empty field behind the last comma is no field
    assert list(table.columns) == ["smiles", "logP"] and table["smiles"].tolist() == ["CCO", "C"]
    (tmp_path / "b.tsv").write_text('a\tb\n"x\ty"\t1\n')
    assert read_table(tmp_path / "b.tsv").to_numpy().tolist() == [["x\ty", 1]]
    assert read_table(tmp_path / "a.csv", limit=1).shape == (1, 2)
    with pytest.raises(ValueError, match=r"at least 1 .None: all., got 0"):
        read_table(tmp_path / "a.csv", limit=0)
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "absent.csv")


def test_columns_of_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n,b\n")
    table = read_table(tmp_path / "a.csv")
    assert columns_of_numbers(table, ["x"], "a.csv")["x"].tolist()[0] == 1 and table["x"].isna().tolist() == [
        False,
        True,
    ]
    with pytest.raises(ValueError, match=r"a.csv: a property must be a column of numbers: .*'b'"):
        columns_of_numbers(table, ["y"], "a.csv")
    with pytest.raises(ValueError, match=r"a.csv has no column 'z'; it has \['x', 'y'\]"):
        columns_of_numbers(table, ["z"], "a.csv")


def test_the_column_of_names(tmp_path):
    (tmp_path / "a.csv").write_text("smiles,Name ,x\nC,a,1\nCC,,2\n")
    table = read_table(tmp_path / "a.csv")
    names = [str(c) for c in table.columns]
    assert ids_of(table, column_of_ids(names)) == ["a", 2] and column_of_ids(names, "x") == "x"
    assert ids_of(table, column_of_ids(["smiles", "x"])) is None
    assert column_of_ids(["id", "name"]) == "id" and column_of_ids(["id", "name"], None, "id") == "name"
