"""`ostinato rollout`: try a challenger on real requests, in the champion's shadow or for a share of users."""

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.commands.feedback import log_folder
from pipelines.commands.registry import live_file
from pipelines.running.files import StageError, plain_errors, write_json
from pipelines.running.params import load_params

rollout = typer.Typer(no_args_is_help=True, help=__doc__)

VERSION = typer.Argument(help="its number or alias")


@rollout.command()
def canary(
    version: Annotated[str, VERSION] = "challenger",
    share: Annotated[float, typer.Option(help="of users that it answers, above 0 and at most 1")] = 0.1,
) -> None:
    """Let a version answer a share of users. It ends by itself where it is worse than `rollout` in
    params.yaml lets it be; `ostinato promote` and `rollback` end it too."""
    _begin("canary", version, share)


@rollout.command()
def shadow(
    version: Annotated[str, VERSION] = "challenger",
    share: Annotated[float, typer.Option(help="of requests that it is given too")] = 1.0,
) -> None:
    """Give a version what the champion is asked, when there is time. Nobody sees its answers; they are scored
    and compared."""
    _begin("shadow", version, share)


@rollout.command()
def end() -> None:
    """Go back to the champion alone."""
    with plain_errors():
        told = _live()
        if not told.pop("challenger", None):
            raise StageError("no rollout is at work: `ostinato rollout canary` begins one")
        write_json(live_file(), told)
        typer.echo("the champion answers alone again")


@rollout.command()
def status(
    log: Annotated[
        Path | None, typer.Option(help="folder of the log; default: OSTINATO_LOG or <home>/log")
    ] = None,
) -> None:
    """How the challenger does beside the champion, and whether it was turned away."""
    from monitoring.log import EventLog
    from monitoring.rollout import Limits, compared, outcome_file

    with plain_errors():
        told = _live()
        trial = told.get("challenger")
        if not trial:
            raise StageError("no rollout is at work: `ostinato rollout canary` begins one")
        folder = log_folder(log)
        typer.echo(
            f"{trial['mode']} of version {trial['version']} (bundle {trial['tag']}) for "
            f"{trial['share']:.0%}, since {trial['began']}"
        )
        found = compared(EventLog(folder).rows(trial["began"]), told["tag"], trial["tag"], trial["began"])
        for tag, figures in found.of.items():
            kind = "challenger" if tag == trial["tag"] else "champion"
            row = "  ".join(f"{name} {value}" for name, value in figures.told().items())
            typer.echo(f"{kind:<11}{tag}  {row}")
        ended = outcome_file(folder / "rollouts", trial["began"])
        if ended.exists():
            outcome = json.loads(ended.read_text())
            typer.echo(f"turned away at {outcome['time']}: {outcome['why']}")
        elif why := found.problem(Limits(**trial["limits"])):
            typer.echo(f"worse than it may be: {why}")
        else:
            typer.echo("nothing against it so far")


def _begin(mode: str, name: str, share: float) -> None:
    from pipelines.release import versions as known
    from pipelines.release.package import check_licence

    with plain_errors():
        if not 0 < share <= 1:
            raise StageError(f"--share {share}: a share is above 0 and at most 1")
        told, version, params = _live(), known.named(name), load_params()
        bundle = known.bundle_of(version)
        if bundle.tag == told["tag"]:
            raise StageError(f"version {version.number} is the champion: there is nothing to try")
        check_licence(version.tags.get("licence", ""), params.package.licences_served)
        from pipelines.commands.catalogue import sync

        sync(bundle)
        told["challenger"] = {
            "tag": bundle.tag,
            "version": version.number,
            "folder": str(bundle.folder.resolve()),
            "mode": mode,
            "share": share,
            "began": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "limits": params.rollout.model_dump(),
        }
        write_json(live_file(), told)
        typer.echo(
            f"{mode} of version {version.number} (bundle {bundle.tag}) for {share:.0%}: services that "
            f"follow {live_file()} take it up within seconds; `ostinato rollout status` tells how it does"
        )


def _live() -> dict[str, Any]:
    """What services follow. Raises StageError where none ever did."""
    if not live_file().exists():
        raise StageError("no service has a champion to set it against yet: `ostinato serve` first")
    return dict(json.loads(live_file().read_text()))
