"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

JobFile = Annotated[str, typer.Argument(metavar="JOB", help="Job file (YAML).", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Settings that override the job's, such as train.epochs=3; docs/settings.md and `ray-cxr config schema` have all.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, all else on stderr.")]
"""Read from the command line before the command runs (`main.run`); declared here for the help and the parser."""
Raw = Annotated[
    bool,
    typer.Option("--raw", help="Scores as the network gives them, without the calibration to probabilities."),
]

_INTERVALS = "Intervals"
Draws = Annotated[
    int,
    typer.Option("--draws", min=100, max=100_000, rich_help_panel=_INTERVALS, help="Draws of the bootstrap."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, rich_help_panel=_INTERVALS, help="Seed of the draws.")]
