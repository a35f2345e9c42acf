"""``scidiffuse molecules <verb>``: from files to molecules without a line of Python.

=============  =======================================================================================
``train``      a model of the user's molecules, graphs or sequences
``sample``     draw from a trained model; validity, novelty, pictures
``guide``      samples with more of a property, beside unguided ones and best-of-N
``evaluate``   score a file of samples by the suite of a paper
``plan``       routes of synthesis from what can be bought
``convert``    between the formats of the field, under one stated policy
=============  =======================================================================================

One file a verb; ``options`` has what they share and reads what they name, ``messages`` turns the library's errors into
the words of this command, ``results`` writes what was sampled and measured.
"""

from __future__ import annotations

import typer

from .convert import convert
from .evaluate import evaluate
from .guide import guide
from .plan import plan
from .sample import sample
from .train import train

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def root() -> None:
    """Molecules, graphs and biological sequences by diffusion.

    Data are files (.smi, .csv, .sdf, .xyz, .fasta, .npz ...) or named sets (qm9 comes with the extra). A first try,
    with a model that comes with the package:

    \b
      scidiffuse molecules sample -n 100 --sampler s4 --steps 200 --out samples
    """


for verb in (train, sample, guide, evaluate, plan, convert):
    app.command()(verb)
