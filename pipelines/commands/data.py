"""The user's own data under DVC: `ostinato track`."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.running.files import StageError, plain_errors
from pipelines.running.tracked import FOLDERS, inside
from pipelines.running.tracked import track as give_to_dvc


def track(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="e.g. data/scores/mine; default: all that lies in data/scores, data/base, data/feedback"
        ),
    ] = None,
) -> None:
    """Give your own data to DVC, so that `dvc push` carries it and experiments in copies have it."""
    with plain_errors():
        chosen = paths or [path for folder in FOLDERS for path in inside(folder)]
        for path in chosen:
            if path.parent not in FOLDERS or not path.exists():
                raise StageError(
                    f"{path} is not in {', '.join(map(str, FOLDERS))}: name one folder or file of these"
                )
        for path in chosen:
            pointer = give_to_dvc(path)
            typer.echo(f"{path}: {f'tracked by {pointer}, staged in git' if pointer else 'no git here'}")
        if not chosen:
            typer.echo(f"nothing in {', '.join(map(str, FOLDERS))} yet")
