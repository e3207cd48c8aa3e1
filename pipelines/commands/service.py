"""The service and the watch over it."""

import os
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from monitoring.keys import KeysError
from pipelines.commands import catalogue
from pipelines.commands.keys import key_file
from pipelines.commands.registry import go_live, live_file, package_champion
from pipelines.running.files import StageError, plain_errors
from pipelines.running.params import load_params

LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "::1")


def serve(
    port: Annotated[int, typer.Option(help="to listen on")] = 3000,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    workers: Annotated[int, typer.Option(help="processes that answer", min=1)] = 1,
    open_to_all: Annotated[
        bool,
        typer.Option(
            "--open", help="on an address that others reach: answer without keys, to anybody, anything"
        ),
    ] = False,
    pinned: Annotated[
        bool, typer.Option(help="stay with this champion: promotions and rollbacks wait for a restart")
    ] = False,
    rival: Annotated[
        str,
        typer.Option(
            help=(
                "also load another version (its number, `previous` or `challenger`), which /v1/pair sets "
                "against the champion"
            )
        ),
    ] = "",
) -> None:
    """Serve the champion's bento (built if need be)."""
    from pipelines.release import versions as known
    from pipelines.release.package import bento_tag_of, check_licence, is_built, serving_environment
    from pipelines.running.tracking import home

    with plain_errors():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise StageError(
                    f"cannot listen on {host}:{port} ({error.strerror}): end what uses the "
                    f"port, or choose another with --port"
                ) from None
        access = _access(host, open_to_all)
        version = known.champion()
        if version:
            check_licence(version.tags.get("licence", ""), load_params().package.licences_served)
        tag = bento_tag_of(version.digest) if version else ""
        if not tag or not is_built(tag):
            tag = package_champion()
        environment = serving_environment(port)
        environment.setdefault("OSTINATO_LOG", str(home() / "log"))
        drift = load_params().drift
        environment.setdefault("OSTINATO_DRIFT_ALPHA", str(drift.alpha))
        environment.setdefault("OSTINATO_DRIFT_MIN_ROWS", str(drift.min_rows))
        environment.setdefault("OSTINATO_DRIFT_WINDOW_H", str(drift.window_hours))
        environment.setdefault("OSTINATO_CATALOGUE", str(catalogue.folder()))
        environment.setdefault("OSTINATO_FAISS_PAST", str(load_params().recommend.faiss_past))
        environment["OSTINATO_WORKERS"] = str(workers)
        environment |= access
        if host in LOOPBACK:  # a page of the web must not reach it under a name of its own (DNS rebinding)
            environment.setdefault("OSTINATO_HOSTS", ",".join(LOOPBACK))
        if rival:
            environment["OSTINATO_RIVAL"] = str(known.bundle_of(known.named(rival)).folder.resolve())
        if version:
            go_live(version)  # a file that an earlier home left may name another
        if not pinned:
            environment["OSTINATO_LIVE"] = str(live_file().resolve())
        typer.echo(f"serving {tag} on http://{host}:{port}")
        os.execve(
            sys.executable,
            [sys.executable, "-m", "bentoml", "serve", tag, "--port", str(port), "--host", host],
            environment,
        )


def _access(host: str, open_to_all: bool) -> dict[str, str]:
    """Who may ask, as the service reads it: on loopback everybody unless OSTINATO_KEYS is set, elsewhere who
    has a key. Raises StageError where nobody could, or keys and --open contradict each other."""
    named, file = bool(os.environ.get("OSTINATO_KEYS")), key_file()
    if open_to_all and named:
        raise StageError("OSTINATO_KEYS is set and --open asks for no keys: leave one of them")
    if open_to_all or (host in LOOPBACK and not named):
        return {"OSTINATO_OPEN": "1"}
    try:
        keys = file.all()
    except KeysError as error:
        raise StageError(str(error)) from error
    if not keys:
        raise StageError(
            f"others reach {host}, and there are no keys in {file.path}: make one with `ostinato keys add "
            f"NAME`, or say --open to answer anybody"
        )
    return {"OSTINATO_KEYS": str(file.path.resolve())}


def drift(
    log: Annotated[
        Path | None, typer.Option(help="folder of the log; default: OSTINATO_LOG or <home>/log")
    ] = None,
    since: Annotated[str, typer.Option(help="only rows from this ISO time on")] = "",
) -> None:
    """Compare the log with the champion's reference profile."""
    from monitoring.drift import descriptor_columns, find_drift, rows_on
    from monitoring.log import EventLog
    from pipelines.release import versions as known
    from pipelines.running.tracking import home

    with plain_errors():
        _, bundle = known.champion_bundle()
        folder = log or Path(os.environ.get("OSTINATO_LOG", home() / "log"))
        if not folder.is_dir():
            raise StageError(
                f"no log in {folder}: serve and ask for something first, or name the folder with --log"
            )
        events = EventLog(folder)
        knobs = load_params().drift
        columns = descriptor_columns(events.rows(since), bundle.tag)
        found = find_drift(bundle.profile, columns, knobs.alpha, knobs.min_rows)
        typer.echo(
            f"{rows_on(columns, 'input')} inputs, {rows_on(columns, 'output')} outputs of model "
            f"{bundle.tag}; {events.broken()} broken lines"
        )
        if not found:
            typer.echo(
                f"too few rows to say anything: at least {knobs.min_rows} of a side are needed "
                f"(drift.min_rows)"
            )
        for d in sorted(found, key=lambda d: (d.side, -d.psi / d.threshold)):
            typer.echo(
                f"{d.side:<7} {d.descriptor:<20} {d.status:<9} psi {d.psi:.3f} (threshold "
                f"{d.threshold:.3f}, n {d.rows})  mean {d.reference_mean:.3f} -> {d.mean:.3f}"
            )
