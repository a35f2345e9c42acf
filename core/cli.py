"""The command-line verbs of the core: ``scidiffuse core sample`` and ``scidiffuse core convergence``.

Both work on data whose diffusion is known in closed form, a mixture of Gaussians in the plane, so that what they print
is the sampler's error and nothing else. Samplers and schedules are written as in Python, ``"DPMSolverPP(order=3)"``;
only the names of this package with literal arguments are understood, nothing is evaluated.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["app", "parse"]

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.callback()
def root() -> None:
    """Samplers on data with a closed form."""


def parse(text: str, known: Mapping[str, Any]) -> Any:
    """The object that ``Name`` or ``Name(key=literal, ...)`` describes.

    Arguments:
        text: What the user wrote.
        known: The classes that may be named.

    Raises:
        typer.BadParameter: If it is not such a call, names nothing known, or its arguments are refused.
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        args = [ast.literal_eval(value) for value in call.args]
        kwargs = {item.arg or "**": ast.literal_eval(item.value) for item in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise typer.BadParameter(f"got {text!r}, expected a name or a call with literals") from error
    if name not in known:
        raise typer.BadParameter(f"got {text!r}, expected one of {', '.join(sorted(known))}")
    try:
        return known[name](*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(f"{text!r}: {error}") from error


def _known(package: Any, base: type) -> dict[str, Any]:
    """The concrete public classes of a package that derive from `base`."""
    classes = {name: getattr(package, name) for name in package.__all__}
    return {
        name: value
        for name, value in classes.items()
        if isinstance(value, type) and issubclass(value, base) and name not in ABSTRACT
    }


ABSTRACT = frozenset({"Sampler", "LinearSampler", "Schedule", "ProductSchedule", "VariancePreserving"})


@app.command()
def sample(
    sampler: Annotated[str, typer.Option(help='For example "DPMSolverPP(order=3)".')] = "DPMSolverPP(order=2)",
    schedule: Annotated[str, typer.Option(help='For example "EDM()".')] = "VPLinear()",
    steps: Annotated[int, typer.Option(min=1, help="Steps of the sampler.")] = 20,
    grid: Annotated[str, typer.Option(help="default, uniform, quadratic, log_snr or karras.")] = "default",
    n: Annotated[int, typer.Option(min=2, help="Samples.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Same seed, same samples.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the samples here, .csv or .npy.")] = None,
) -> None:
    """Sample a mixture of Gaussians with its exact denoiser; print what came out beside exact draws."""
    import numpy as np
    import torch

    from . import grids, samplers, schedules
    from .closed_form import GaussianMixture
    from .demo import table
    from .sample import sample as run

    if out is not None and out.suffix not in (".csv", ".npy"):
        raise typer.BadParameter(f"got --out {out}, expected a name that ends in .csv or .npy")
    method = parse(sampler, _known(samplers, samplers.Sampler))
    process = parse(schedule, _known(schedules, schedules.Schedule))
    data = GaussianMixture.example()
    try:
        if grid in ("uniform", "quadratic"):
            times = getattr(grids, grid)(steps, process.t_start)
        elif grid in ("default", "log_snr", "karras"):
            times = getattr(grids, grid)(process, steps)
        else:
            raise ValueError(f"got --grid {grid}, expected default, uniform, quadratic, log_snr or karras")
        result = run(data.denoiser(process), method, times, shape=(n, 2), seed=seed, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    exact = data.sample(n, torch.Generator().manual_seed(seed))

    def row(x: torch.Tensor) -> dict[str, float]:
        mean, sd = x.mean(0).tolist(), x.std(0).tolist()
        log_p = data.log_prob(x)
        return {
            **{f"mean_{i}": value for i, value in enumerate(mean)},
            **{f"sd_{i}": value for i, value in enumerate(sd)},
            "mean_log_density": log_p.mean().item(),
            "its_standard_error": log_p.std().item() / n**0.5,
        }

    typer.echo(f"{method!r} on {process!r}, {len(times)} steps, {result.calls} network calls, n = {n}, seed {seed}")
    typer.echo(table({"sampler": row(result.x), "exact draws": row(exact)}))
    if out is not None:
        points = result.x.numpy()
        np.save(out, points) if out.suffix == ".npy" else np.savetxt(out, points, delimiter=",")
        typer.echo(str(out))


@app.command()
def convergence(
    out: Annotated[Path, typer.Option(help="Folder that receives convergence.png, .json and .csv.")] = Path(
        "convergence"
    ),
    steps: Annotated[
        str, typer.Option(help="Numbers of steps, increasing; the order is that of the last two.")
    ] = "6,12,24,48,96,192,384,768",
    peers: Annotated[bool, typer.Option(help="Also run the solvers of other packages, where installed.")] = True,
    quick: Annotated[bool, typer.Option(help="Fewer paths, four numbers of steps, no peers.")] = False,
    image: Annotated[str, typer.Option(help="Format of the picture: png, svg or pdf.")] = "png",
) -> None:
    """Measure every sampler's order of convergence on data with a closed form; fail where a promise is missed."""
    import torch

    from . import convergence as measured
    from .convergence_peers import absent
    from .convergence_peers import peers as run_peers
    from .convergence_plot import plot

    try:
        numbers = (12, 48, 384, 768) if quick else tuple(int(n) for n in steps.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"got --steps {steps}, expected integers such as 48,96,192") from error
    if len(numbers) < 2 or numbers[0] < 4 or list(numbers) != sorted(set(numbers)):
        raise typer.BadParameter(
            f"got --steps {steps}, expected at least two increasing integers, the first at least 4"
        )
    if image not in ("png", "svg", "pdf"):
        raise typer.BadParameter(f"got --image {image}, expected png, svg or pdf")

    def say(line: str) -> None:
        typer.echo(f"  {line} ...", err=True)

    torch.set_num_threads(1)  # the tensors are tiny: threads would only wait for each other
    problems = measured.problems(4 if quick else 16)
    rows = measured.table(numbers, on=problems, progress=say)
    promises = len(rows)
    missing = absent()
    note = "" if quick or not peers else "start-up as published; diffusers' DPM-Solver++ keeps its state in float32"
    if peers and not quick:
        rows += run_peers(numbers, problems, progress=say)
        if missing:
            note = "; ".join([*([note] if len(rows) > promises else []), f"not installed: {', '.join(missing)}"])
    typer.echo(measured.text(rows))
    if note:
        typer.echo(f"\nother packages: {note}")
    written = measured.save(rows, out)
    try:
        written.append(plot(rows, out / f"convergence.{image}", note=f"other packages: {note}" if note else ""))
    except ImportError as error:
        typer.echo(f"no picture: {error}", err=True)
    typer.echo("\n" + "\n".join(str(path) for path in written))
    missed = [f"{row.method} on {row.schedule}" for row in rows if not row.passed]
    if missed:
        typer.echo(f"missed: {', '.join(missed)}", err=True)
        raise typer.Exit(1)
