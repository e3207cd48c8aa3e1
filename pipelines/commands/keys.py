"""`ostinato keys`: who may ask the service what, and how much."""

import os
from pathlib import Path
from typing import Annotated

import typer

from monitoring.keys import SCOPES, KeyFile, KeysError, made
from pipelines.running.files import StageError, plain_errors
from pipelines.running.tracking import home

keys = typer.Typer(no_args_is_help=True, help=__doc__)


def key_file() -> KeyFile:
    """The keys of this project: OSTINATO_KEYS, or <home>/keys.json."""
    return KeyFile(Path(os.environ.get("OSTINATO_KEYS") or home() / "keys.json"))


@keys.command()
def add(
    name: Annotated[str, typer.Argument(help="whose it is, for the list")],
    scopes: Annotated[str, typer.Option(help=f"of {', '.join(SCOPES)}")] = "read,compose,feedback",
    requests_a_minute: Annotated[int, typer.Option(help="in each worker; 0: no limit")] = 0,
    cells_a_minute: Annotated[int, typer.Option(help="bars times tracks that it may have written")] = 0,
    at_once: Annotated[int, typer.Option(help="requests at work at the same time")] = 0,
    keep_music: Annotated[
        bool, typer.Option(help="the log keeps music that it sends: edits of it can be edited further by id")
    ] = False,
) -> None:
    """Make a key and show it, this once: only its hash is kept."""
    with plain_errors():
        try:
            key, text = made(
                name,
                [scope.strip() for scope in scopes.split(",") if scope.strip()],
                keeps_music=keep_music,
                requests_a_minute=requests_a_minute,
                cells_a_minute=cells_a_minute,
                at_once=at_once,
            )
            file = key_file()
            file.add(key)
        except KeysError as error:
            raise StageError(str(error)) from error
        typer.echo(text)
        typer.echo(f"key {key.id} of {name} is in {file.path}; a running service knows it already", err=True)


@keys.command("list")
def show() -> None:
    """The keys there are."""
    with plain_errors():
        try:
            found = key_file().all()
        except KeysError as error:
            raise StageError(str(error)) from error
        for key in found:
            limits = [
                f"{limit} {what}"
                for limit, what in (
                    (key.requests_a_minute, "requests a minute"),
                    (key.cells_a_minute, "cells a minute"),
                    (key.at_once, "at once"),
                )
                if limit
            ]
            limits += ["its music is kept"] if key.keeps_music else []
            told = (key.id, key.name, ",".join(key.scopes), "; ".join(limits) or "no limits", key.made)
            typer.echo("  ".join(told))
        if not found:
            typer.echo("no keys: `ostinato keys add NAME` makes one")


@keys.command()
def revoke(name: Annotated[str, typer.Argument(help="id or name of the key")]) -> None:
    """Take a key away; a running service refuses it from then on."""
    with plain_errors():
        try:
            key = key_file().revoke(name)
        except KeysError as error:
            raise StageError(str(error)) from error
        typer.echo(f"key {key.id} of {key.name} is revoked")
