"""`audit`: anybody's split, held against itself."""

from __future__ import annotations

from typing import Annotated

import typer

from ray_cxr.cli.arguments import Json
from ray_cxr.cli.output import output
from ray_cxr.errors import RefusedError


def audit(
    train: Annotated[
        str, typer.Option(metavar="A", help="Folder of films, or list of film names (.txt, .csv, .gz).")
    ],
    test: Annotated[str, typer.Option(metavar="B", help="The same for the test set.")],
    validation: Annotated[
        str | None, typer.Option(metavar="C", help="The same for the validation set.")
    ] = None,
    patient_regex: Annotated[
        str | None, typer.Option(help="Where the patient id stands in a file name: the first group.")
    ] = None,
    patients: Annotated[
        str | None, typer.Option(metavar="CSV", help="Table with columns image_id and patient_id.")
    ] = None,
    json_: Json = False,
) -> None:
    """Check a split for shared patients, shared films and near-duplicates; exit 3 and the list where it leaks."""
    from ray_cxr.console import ConsoleProgress
    from ray_cxr.splits.audit import NIH_PATIENT, listed, patients_by_name, patients_by_table
    from ray_cxr.splits.audit import audit as audit_sets

    patient_of = patients_by_table(patients) if patients else patients_by_name(patient_regex or NIH_PATIENT)
    sets = {"train": train, "test": test} | ({"validation": validation} if validation else {})
    with ConsoleProgress() as progress:
        result = audit_sets(sets, patient_of)
        for name, count in result.unreadable.items():
            if count:
                progress.say(f"{name}: {count} films cannot be read; only their names were compared")
    counts = [f"{name}: {n} films of {result.patients[name]} patients" for name, n in result.films.items()]
    answer = result.as_dict()
    verdict = (
        "no patient and no film is in more than one set"
        if result.clean
        else f"leak: {answer['shared_patients']} shared patients, {answer['shared_images']} shared films, "
        f"{answer['near_duplicates']} near-duplicates"
    )
    output().result(answer, [*counts, *listed(result.pairs), verdict])
    if not result.clean:
        raise typer.Exit(RefusedError.exit_code)
