"""Named time-series data sets: where the published files are, and what they must be.

The files are byte-identical to the published ones. Importing this module registers them; nothing is downloaded until
`scidiffuse.core.datasets.locate(name)` is called. `scidiffuse.timeseries.load(name)` reads them as long frames;
`scidiffuse.timeseries.data.benchmark(name)` builds ``exchange_rate_nips`` and ``m4_hourly`` as GluonTS does, with their
training series, test windows and horizon.
"""

from __future__ import annotations

from ..core.datasets import DatasetInfo, RemoteFile, register

__all__ = ["DATASETS"]

_GITHUB = "https://raw.githubusercontent.com"

DATASETS: dict[str, DatasetInfo] = {
    dataset.name: register(dataset)
    for dataset in (
        DatasetInfo(
            name="exchange_rate_nips",
            folder="timeseries/exchange_rate_nips",
            files={
                "exchange_rate_nips.tar.gz": RemoteFile(
                    url=f"{_GITHUB}/mbohlkeschneider/gluon-ts/mv_release/datasets/exchange_rate_nips.tar.gz",
                    sha256="83f3cf364ae7854b0a74ef9825c47b8314896de820de877fd466cdffd94027d1",
                )
            },
            licence="Apache-2.0 (repository)",
            layout="GluonTS folder in a tar: metadata/metadata.json, train/*.json, test/*.json (JSON lines with start, "
            "target); 8 series of business days, horizon 30, 5 rolling test windows",
            source="github.com/mbohlkeschneider/gluon-ts, branch mv_release; the file that GluonTS downloads under "
            "this name",
        ),
        DatasetInfo(
            name="m4_hourly",
            folder="timeseries/m4_hourly",
            files={
                "Hourly-train.csv": RemoteFile(
                    url=f"{_GITHUB}/Mcompetitions/M4-methods/master/Dataset/Train/Hourly-train.csv",
                    sha256="ea59b7783573c49077a835ab6465c7d66f1474783360f310988a9a737fbca62f",
                ),
                "Hourly-test.csv": RemoteFile(
                    url=f"{_GITHUB}/Mcompetitions/M4-methods/master/Dataset/Test/Hourly-test.csv",
                    sha256="71a57fccb15e534d973626ada4fb87febf789e9317715b7cc6dd3b5f90db6f42",
                ),
            },
            licence="no licence file; M4 competition data, published for research use: not to be shipped",
            layout="M4 pair of csv files, one series a row (V1 its id, then the values, padded at the end); 414 "
            "series of hours, horizon 48",
            source="github.com/Mcompetitions/M4-methods, Dataset/",
        ),
        DatasetInfo(
            name="ett",
            folder="timeseries/ett",
            files={
                "ETTh1.csv": RemoteFile(
                    url=f"{_GITHUB}/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv",
                    sha256="f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
                ),
                "ETTh2.csv": RemoteFile(
                    url=f"{_GITHUB}/zhouhaoyi/ETDataset/main/ETT-small/ETTh2.csv",
                    sha256="a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b",
                ),
            },
            licence="CC BY-ND 4.0: unmodified copies only",
            layout="wide csv, one row an hour: date, six load columns, OT (oil temperature)",
            source="github.com/zhouhaoyi/ETDataset, ETT-small/",
        ),
        DatasetInfo(
            name="stocks",
            folder="timeseries/stocks",
            files={
                "stock_data.csv": RemoteFile(
                    url=f"{_GITHUB}/jsyoon0823/TimeGAN/master/data/stock_data.csv",
                    sha256="134b8a00eb4eefa3242dd7ae85144082da80dedf75a1a656d5d08f97cd95277a",
                )
            },
            licence="Apache-2.0 (repository)",
            layout="wide csv without dates, one row a trading day: Open, High, Low, Close, Adj_Close, Volume; "
            "3685 rows",
            source="github.com/jsyoon0823/TimeGAN, data/; the 'Stocks' set of TimeGAN and Diffusion-TS",
        ),
    )
}
"""The sets by name."""
