"""`config show` and `config schema`."""

from __future__ import annotations

import json

import typer

from ray_cxr.cli.arguments import JobFile, Json, Overrides
from ray_cxr.cli.output import output
from ray_cxr.config import to_yaml
from ray_cxr.job import Job, load_job

app = typer.Typer(help="Show the effective settings, or their JSON schema.", no_args_is_help=True)


@app.command()
def show(job: JobFile, overrides: Overrides = None, json_: Json = False) -> None:
    """Print the settings that a job has with its overrides and all defaults."""
    settings = load_job(job, overrides or ())
    output().result(settings.model_dump(mode="json"), [to_yaml(settings).rstrip()])


@app.command()
def schema(json_: Json = False) -> None:
    """Print the JSON schema of job files, for editors that complete and check."""
    value = Job.model_json_schema()
    output().result(value, [json.dumps(value, indent=2)])
