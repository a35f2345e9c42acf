"""The command line: ``scidiffuse demo``, ``scidiffuse core <verb>``, ``scidiffuse <wing> <verb>``.

Nothing heavy is imported before a sub-command is chosen. A sub-command is known here by its name and one line of help;
its real `typer.Typer` application is the ``app`` of ``<name>/cli.py`` (or of a folder ``cli/``), imported when it is
called, so that ``scidiffuse --help`` stays quick and one wing's missing extra cannot break another wing's commands. A
wing without either is not built: its command says so and exits with status 1. In the same way a wing takes part in
``scidiffuse demo`` by having a ``demo.py``.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from . import WINGS, __version__

__all__ = ["app", "main"]

HELP = {
    "core": "Samplers: measured orders of convergence, samples of a toy problem.",
    "medical": "CT, MRI and segmentation.",
    "molecules": "Molecules, graphs and biological sequences.",
    "audio": "Sound and symbolic music.",
    "motion": "Human motion clips.",
    "timeseries": "Forecasts with uncertainty.",
    "robotics": "Policies and planners.",
}


def has(part: str, file: str) -> bool:
    """Does the sub-package hold that file? Asked of the disk: asking the import system would import the sub-package."""
    return Path(__file__).parent.joinpath(part, file).is_file()


class Lazy(TyperCommand):
    """Stands in the list of commands for a sub-package's application, which is imported when it is called."""

    def __init__(self, name: str) -> None:
        self.built = has(name, "cli.py") or has(name, "cli/__init__.py")
        text = HELP[name] if self.built else f"{HELP[name]} Not built yet."
        super().__init__(name, help=text, short_help=text)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        if not self.built:
            typer.echo(
                f"scidiffuse {self.name}: not built yet; this version holds only the wing's place. "
                "The table of wings in the README says what works.",
                err=True,
            )
            raise typer.Exit(1)
        try:
            module = importlib.import_module(f".{self.name}.cli", __package__)
        except ImportError as error:
            if "pip install" not in str(error):  # a missing extra names its remedy; anything else is our defect
                raise
            typer.echo(f"scidiffuse {self.name}: {error}", err=True)
            raise typer.Exit(1) from error
        return typer.main.get_command(module.app).make_context(info_name, args, parent=parent, **extra)


class Root(TyperGroup):
    """The top-level group: the commands of this file, then `core`, then the wings."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *HELP]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return Lazy(cmd_name) if cmd_name in HELP else super().get_command(ctx, cmd_name)


app = typer.Typer(cls=Root, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def show_version(value: bool) -> None:
    """Print the version and leave, if the flag was given."""
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Diffusion models for scientists: one core of schedules, samplers and guidance, six domain wings."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder that receives index.html and its pictures.")] = Path("demo"),
    wing: Annotated[list[str] | None, typer.Option(help="Only this wing; may be given several times.")] = None,
) -> None:
    """Run every built wing's demonstration and write one HTML page."""
    built = [name for name in WINGS if has(name, "demo.py")]
    for name in wing or ():
        if name not in built:
            raise typer.BadParameter(f"got {name!r}, expected one of the built wings: {', '.join(built) or 'none'}")

    def section(name: str) -> Any:
        return lambda folder: importlib.import_module(f".{name}.demo", __package__).demo(folder)

    build = importlib.import_module(".core.demo", __package__).build
    page = build(out, {name: section(name) for name in built if not wing or name in wing})
    typer.echo(f"\n{page.path}")
    if page.failed:
        typer.echo(f"failed: {', '.join(page.failed)}", err=True)
        raise typer.Exit(1)


def main() -> None:
    """Entry point of the ``scidiffuse`` script."""
    app(prog_name="scidiffuse")


if __name__ == "__main__":
    main()
