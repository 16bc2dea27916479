"""`ray-cxr`: the commands, their exit codes, and how their errors are told.

Exit 0 done; 2 bad input or settings; 3 refused for safety; 1 anything else.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from ray_cxr import __version__
from ray_cxr.cli import (
    audit,
    commands,
    compare,
    crossval,
    demo,
    doctor,
    evaluate,
    explore,
    init,
    settings,
    submit,
    tune,
)
from ray_cxr.cli.arguments import Json
from ray_cxr.cli.output import Output, output, use_output
from ray_cxr.errors import InputError, RayCxrError

_INTERRUPTED = 130
"""What typer makes of Ctrl-C."""

app = typer.Typer(
    name="ray-cxr",
    help="Train, search and test chest X-ray classifiers on Ray, with patient-safe splits.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
app.command(short_help="Show the whole way with drawn films, on 2 workers.")(demo.demo)
app.command(short_help="Write a commented job file for your own films.")(init.init)
app.command(short_help="Turn a source into a data set: labels, split, shards.")(commands.prepare)
app.command(short_help="Show what is in the data, as one page.")(explore.explore)
app.command(short_help="Fine-tune; go on where a run was cut.")(commands.train)
app.command(short_help="Search settings for the best validation score.")(tune.tune)
app.command(short_help="Train on all folds but one, for each fold in turn.")(crossval.crossval)
app.command(short_help="Test a run, or anybody's predictions; write the report.")(evaluate.evaluate)
app.command(short_help="Score new films with a trained model.")(commands.predict)
app.command(short_help="Check a split for patients and films on both sides.")(audit.audit)
app.command(short_help="Set results side by side with paired tests.")(compare.compare)
app.command(short_help="Run a command on a cluster, with a job file from here.")(submit.submit)
app.command()(submit.jobs)
app.command()(submit.logs)
app.command(short_help="End a job on a cluster; what it has saved stays.")(submit.stop)
app.command(short_help="Say what this machine has and what is missing.")(doctor.doctor)
app.add_typer(settings.app, name="config")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    json_: Json = False,
) -> None:
    if version:
        output().result({"version": __version__}, [__version__])
        raise typer.Exit


def run(arguments: Sequence[str]) -> int:
    """Runs one command line; gives its exit code. A user's mistake is a sentence, never a traceback."""
    with Output(as_json="--json" in arguments) as out:
        use_output(out)
        try:
            app(list(arguments), prog_name="ray-cxr")
        except SystemExit as stop:
            return _end(out, int(stop.code or 0), stop.__context__)
        except RayCxrError as error:
            out.failure(error.message, error.exit_code)
            return error.exit_code
        except KeyboardInterrupt:
            return _end(out, _INTERRUPTED)
        except Exception as error:  # noqa: BLE001  a bug, or the machine: its place must be told, on stderr
            traceback.print_exc()
            out.failure(f"unexpected {type(error).__name__}: {error}", 1)
            return 1
    return 0


def _end(out: Output, code: int, cause: BaseException | None = None) -> int:
    """The exit code of a command line that typer ended: help, a usage error, Ctrl-C, or a code that we gave.

    cause: what typer caught before it ended; of a usage error, which it has put on stderr, the sentence.
    """
    if out.written or (code == 0 and not out.as_json):
        return code
    if code == 0:
        out.result({"help": "on stderr"})
    elif code == InputError.exit_code:
        if out.as_json:
            # typer's own class of usage errors is private, its method is click's.
            said: str = getattr(cause, "format_message", lambda: "see stderr")()
            out.result({"error": f"the command line cannot be understood: {said}", "exit_code": code})
    elif code in (1, _INTERRUPTED):
        out.failure("interrupted; the same command goes on from what is done", 1)
        return 1
    return code


def main() -> None:
    """The console script."""
    code = run(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of libraries that wait for nothing any more must not hold the process back.
    os._exit(code)
