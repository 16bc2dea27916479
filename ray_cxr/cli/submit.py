"""`submit`, `jobs`, `logs` and `stop`: work on a cluster, through Ray Jobs."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_cxr.cli.arguments import JobFile, Json, Overrides
from ray_cxr.cli.output import output
from ray_cxr.console import ConsoleProgress, duration
from ray_cxr.job import load_job

if TYPE_CHECKING:
    from ray_cxr.submit.client import Cluster, JobState
    from ray_cxr.submit.follow import Outcome

_CLUSTER = "Cluster"
Address = Annotated[
    str | None,
    typer.Option(metavar="URL", rich_help_panel=_CLUSTER,
                 help="The cluster's dashboard, such as http://127.0.0.1:8265; default: RAY_API_SERVER_ADDRESS."),
]  # fmt: skip
TokenFile = Annotated[
    str | None,
    typer.Option(metavar="FILE", rich_help_panel=_CLUSTER,
                 help="File with the cluster's token, readable by you only; default: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token."),
]  # fmt: skip
Follow = Annotated[
    bool, typer.Option("--follow", help="Show the job's progress to its end; exit with the job's exit code.")
]
JobId = Annotated[
    str, typer.Argument(metavar="ID", help="Id of a job, as submit and jobs print it.", show_default=False)
]
_STOPPED_WITHIN_S = 30.0


def submit(
    command: Annotated[
        str, typer.Argument(metavar="COMMAND", help="prepare, explore, train, crossval or tune.", show_default=False)
    ],
    job: JobFile,
    overrides: Overrides = None,
    address: Address = None,
    token_file: TokenFile = None,
    follow: Follow = False,
    shared: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="Folder that every node sees at the same path as this machine; may be given again."),
    ] = None,
    installed: Annotated[
        bool, typer.Option("--installed", help="Use the ray_cxr that the cluster has, instead of sending this one.")
    ] = False,
    json_: Json = False,
) -> None:  # fmt: skip
    """Run a command on a cluster, with a job file of this machine."""
    from ray_cxr.submit.submit import check_command
    from ray_cxr.submit.submit import submit as send

    check_command(command)
    settings = load_job(job, overrides or ())
    cluster = _cluster(address, token_file)
    sent = send(
        cluster, command, settings, shared=shared or (), installed=installed, as_json=output().as_json
    )
    answer = {"job": sent.job, "command": command, "out": sent.out, "address": cluster.url}
    if follow:
        _follow(cluster, sent.job, answer)
        return
    output().result(
        {**answer, "status": "PENDING"},
        [
            f"submitted: {sent.job}",
            f"follow:    ray-cxr logs {sent.job} --follow --address {cluster.url}",
            f"stop:      ray-cxr stop {sent.job} --address {cluster.url}",
            f"result:    {sent.out}",
        ],
    )


def jobs(address: Address = None, token_file: TokenFile = None, json_: Json = False) -> None:
    """List the jobs that were submitted to a cluster."""
    states = _cluster(address, token_file).jobs()
    rows = [("id", "status", "began", "took", "place")] + [
        (s.id, s.status.lower(), _began(s), _lasted(s), s.metadata.get("out", "")) for s in states
    ]
    # No table: an id that is cut into two lines cannot be copied.
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    output().result({"jobs": [_as_dict(s) for s in states]}, lines if states else ["no jobs"])


def logs(
    job: JobId,
    follow: Follow = False,
    address: Address = None,
    token_file: TokenFile = None,
    json_: Json = False,
) -> None:
    """Print what a job has said, or follow it to its end."""
    from ray_cxr.submit.follow import LogLines, outcome

    cluster = _cluster(address, token_file)
    state = cluster.job(job)
    if follow:
        _follow(cluster, job, {"job": job, "address": cluster.url})
        return
    log, kept = cluster.log(job), list[str]()
    lines = LogLines(kept.append)
    lines.take(log)
    lines.end()
    answer = {**_as_dict(state), "log": log, "result": outcome(state, lines.result).result}
    output().result(answer, log.splitlines())


def stop(job: JobId, address: Address = None, token_file: TokenFile = None, json_: Json = False) -> None:
    """End a job on a cluster; what it has saved stays, and the same job goes on from it."""
    cluster = _cluster(address, token_file)
    state = cluster.job(job)
    if not state.is_over:
        cluster.stop(job)
    waited_until = time.monotonic() + _STOPPED_WITHIN_S
    while not state.is_over and time.monotonic() < waited_until:
        time.sleep(0.5)
        state = cluster.job(job)
    said = f"{job}: {state.status.lower()}" + ("" if state.is_over else ", is being stopped")
    output().result(_as_dict(state), [said])


def _cluster(address: str | None, token_file: str | None) -> Cluster:
    from ray_cxr.submit.address import cluster_url, is_open_wire
    from ray_cxr.submit.token import find_token

    url, token = cluster_url(address), find_token(token_file)
    if token is not None and is_open_wire(url):
        with ConsoleProgress() as progress:
            progress.say(
                f"caution: the token crosses the network to {url} unencrypted; use a tunnel (ssh -L, kubectl port-forward) or https"
            )
    from ray_cxr.submit.client import Cluster as Connection

    return Connection(url, token)


def _follow(cluster: Cluster, job: str, answer: dict[str, Any]) -> None:
    """Shows the job's progress; ends with the job's exit code. Ctrl-C ends following and not the job."""
    from ray_cxr.submit.follow import follow

    hints = f"ray-cxr logs {job} --follow --address {cluster.url}"
    with ConsoleProgress() as progress:
        progress.say(f"following {job}; Ctrl-C ends following, not the job")
        try:
            ended = follow(cluster, job, progress.show_line, progress.say)
        except KeyboardInterrupt:
            said = (
                f"no longer following; the job {job} goes on. Follow again: {hints}; "
                f"stop it: ray-cxr stop {job} --address {cluster.url}"
            )
            ended = None
    if ended is None:
        output().result({**answer, "status": "RUNNING", "error": said, "exit_code": 1}, [said])
        raise typer.Exit(1)
    output().result({**answer, **_as_dict(ended.state), **_told(ended)}, [ended.said])
    if ended.exit_code:
        raise typer.Exit(ended.exit_code)


def _told(ended: Outcome) -> dict[str, Any]:
    """What `--json` says of an end: the command's own object, and its error or ours where it failed."""
    answer: dict[str, Any] = {"exit_code": ended.exit_code, "result": ended.result}
    if ended.exit_code:
        own = (ended.result or {}).get("error")
        answer["error"] = own if isinstance(own, str) else ended.said
    return answer


def _as_dict(state: JobState) -> dict[str, Any]:
    return {
        "job": state.id,
        "command": state.metadata.get("command"),
        "out": state.metadata.get("out"),
        "status": state.status,
        "exit_code": state.exit_code,
        "began": state.started_s,
        "ended": state.ended_s,
    }


def _began(state: JobState) -> str:
    return (
        "" if state.started_s is None else datetime.fromtimestamp(state.started_s).strftime("%Y-%m-%d %H:%M")
    )


def _lasted(state: JobState) -> str:
    return "" if state.started_s is None else duration((state.ended_s or time.time()) - state.started_s)
