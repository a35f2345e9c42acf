"""Named data sets of molecules and graphs: where the published files are, and what they must be.

The files are byte-identical to the published ones. Importing this module registers them; nothing is downloaded until
`scidiffuse.core.datasets.locate(name)` is called. `scidiffuse.molecules.load(name)` reads them.
"""

from __future__ import annotations

from ..core.datasets import DatasetInfo, RemoteFile, register

__all__ = ["DATASETS"]

_GITHUB = "https://raw.githubusercontent.com"
_ENZYMES = f"{_GITHUB}/harryjo97/GDSS/master/dataset/ENZYMES"

DATASETS: dict[str, DatasetInfo] = {
    dataset.name: register(dataset)
    for dataset in (
        DatasetInfo(
            name="uspto50k_test",
            folder="molecules",
            files={
                "uspto50k_canonicalized_test.csv": RemoteFile(
                    url=f"{_GITHUB}/vsomnath/graphretro/main/datasets/uspto-50k/canonicalized_test.csv",
                    sha256="89cda6601ba85bafe262acaa99c1a9849eaa2d0936c3bcb6851eb372e7c1d72f",
                )
            },
            licence="MIT (repository); the reactions are text-mined from patents, CC0",
            layout="csv with the columns id, class, reactants>reagents>production; 5,007 mapped reactions",
            source="github.com/vsomnath/graphretro, datasets/uspto-50k/, the test part of USPTO-50k",
        ),
        DatasetInfo(
            name="spectre_community_small",
            folder="molecules",
            files={
                "spectre_community_12_21_100.pt": RemoteFile(
                    url=f"{_GITHUB}/KarolisMart/SPECTRE/main/data/community_12_21_100.pt",
                    sha256="cf4407da67a29eb4fdf4c337b7b7ff30bc56e97a3849ff4e98b45ace0d599ee0",
                )
            },
            licence="MIT (repository)",
            layout="torch file of a list: adjacencies, eigenvalues, eigenvectors, numbers of nodes, ...; 100 graphs",
            source="github.com/KarolisMart/SPECTRE, data/",
        ),
        DatasetInfo(
            name="enzymes",
            folder="molecules/ENZYMES",
            files={
                name: RemoteFile(url=f"{_ENZYMES}/{name}", sha256=digest)
                for name, digest in (
                    ("ENZYMES_A.txt", "5553c84f8f562f3e199dfd27192174f485e85c44c1357661098668937a739cbf"),
                    ("ENZYMES_graph_indicator.txt", "95ba0fa47eba6f02e6b754a215dc66d5b49de3f45f57a128514301a8d7ed5f46"),
                    ("ENZYMES_graph_labels.txt", "04743e08967e61e65cdacbb90f8df6ee53742b3d2e7b84675b85ebac70506856"),
                    ("ENZYMES_node_labels.txt", "8263eb9b64efa231a5886343483ccfc0342f2407014763a8f738fd51c32ce770"),
                )
            },
            licence="none stated in the repository; TUDataset, after BRENDA and the Protein Data Bank (cite Borgwardt "
            "et al., 2005): not to be shipped",
            layout="TUDataset text folder without node attributes; 600 graphs of protein structures in six classes",
            source="github.com/harryjo97/GDSS, dataset/ENZYMES/; TUDataset",
        ),
    )
}
"""The sets by name."""
