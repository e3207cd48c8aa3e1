"""Versions of the model: register, promote, roll back, package, export."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.running.files import StageError, plain_errors, write_json
from pipelines.running.params import load_params

if TYPE_CHECKING:
    from pipelines.release.versions import Version

BUNDLE = Path("bundle")


def register(bundle: Annotated[Path, typer.Option(help="folder of the bundle")] = BUNDLE) -> None:
    """Register a bundle; the same bundle twice gives the same version."""
    from pipelines.release import registry

    with plain_errors():
        version = registry.register(bundle)
        typer.echo(f"version {version.number}, bundle {version.digest[:16]}")


def promote(
    version: Annotated[int | None, typer.Option(help="version to promote; default: the newest")] = None,
    force: Annotated[bool, typer.Option(help="overrule the gate; needs --reason")] = False,
    reason: Annotated[str, typer.Option(help="why; goes into the promotion log")] = "",
) -> None:
    """Run the gate and make a version the champion."""
    from pipelines.release import registry

    with plain_errors():
        chosen, verdict = registry.promote(load_params().gate, version, force=force, reason=reason)
        typer.echo(f"{verdict}\nchampion: version {chosen.number}")
        go_live(chosen)


def rollback(reason: Annotated[str, typer.Option(help="why; goes into the promotion log")] = "") -> None:
    """Go back to the previous champion."""
    from pipelines.release import registry

    with plain_errors():
        new, old = registry.rollback(reason)
        typer.echo(f"champion: version {new.number} (was {old.number})")
        go_live(new)


def versions() -> None:
    """Versions with their aliases and gate verdicts, and the promotion log."""
    from pipelines.release import registry
    from pipelines.release import versions as known

    with plain_errors():
        typer.echo(
            f"{'version':>7}  {'bundle':<16}  {'aliases':<22} {'nats/note':>9}  {'licence':<14} "
            f"{'gate':<5} commit"
        )
        for v in known.versions():
            verdict = json.loads(v.tags["gate"])["passed"] if v.tags.get("gate") else None
            gate = {True: "pass", False: "FAIL", None: "-"}[verdict]
            typer.echo(
                f"{v.number:>7}  {v.digest[:16]}  {', '.join(v.aliases):<22} "
                f"{v.tags.get('nats_per_note', ''):>9}  {v.tags.get('licence', ''):<14} {gate:<5} "
                f"{v.tags.get('git_commit', '')[:12]}"
            )
        typer.echo("\npromotion log")
        for row in registry.history():
            candidate = f" (candidate {row['candidate']})" if "candidate" in row else ""
            typer.echo(
                f"  {row['time']}  {row['action']:<11} {row['from'] or '-'} -> "
                f"{row['to'] or '-'}{candidate}  {row['who']}: {row['reason']}"
            )


def live_file() -> Path:
    """What services of this project follow: which bundle is to answer."""
    from pipelines.running.tracking import home

    return home() / "live.json"


def go_live(version: "Version") -> None:
    """Tell running services to answer with a version. One of a licence class that may not be served is not
    told: they go on with what they have."""
    from pipelines.commands.catalogue import sync
    from pipelines.release import versions as known
    from pipelines.release.package import check_licence

    try:
        check_licence(version.tags.get("licence", ""), load_params().package.licences_served)
    except StageError as error:
        typer.echo(f"running services are not told of version {version.number}: {error}", err=True)
        return
    bundle = known.bundle_of(version)
    sync(bundle)
    folder = str(bundle.folder.resolve())
    write_json(live_file(), {"tag": bundle.tag, "version": version.number, "folder": folder})


def package_champion() -> str:
    """Build the champion's bento and image context where they are not built; returns the bento's tag."""
    from pipelines.release import package as packaging
    from pipelines.release import versions as known

    version, bundle = known.champion_bundle()
    tag = packaging.build(bundle, load_params().package.licences_served, str(version.number))
    packaging.image_context(tag)
    return tag


def package() -> None:
    """Build the champion's bento and the Docker build context of its image."""
    from pipelines.running.tracking import home

    with plain_errors():
        typer.echo(f"bento {package_champion()}\nimage context {home() / 'image'}")


def export(
    target: Annotated[Path, typer.Argument(help="folder to write to")],
    kind: Annotated[
        str, typer.Option("--format", help="hf: a Hugging Face LlamaForCausalLM checkpoint")
    ] = "hf",
    bundle: Annotated[Path | None, typer.Option(help="bundle to export; default: the champion's")] = None,
) -> None:
    """Write the weights for other engines."""
    from models.bundle import open_bundle
    from models.network.huggingface import export as export_hf
    from pipelines.release import versions as known

    with plain_errors():
        if kind != "hf":
            raise StageError(f"format {kind!r} is not known; there is hf")
        chosen = open_bundle(bundle) if bundle else known.champion_bundle()[1]
        for path in export_hf(chosen.network, chosen.tokenizer, target):
            typer.echo(path)


def ui(port: Annotated[int, typer.Option(help="to listen on, this machine only")] = 5000) -> None:
    """Open MLflow's pages on the store that this checkout uses."""
    from pipelines.running.tracking import open_experiment, tracking_uri

    with plain_errors():
        open_experiment()  # a clear error where the store cannot be used
        if not tracking_uri().startswith("sqlite:"):
            typer.echo(f"the store is a server: open {tracking_uri()}")
            return
        typer.echo(f"MLflow on http://127.0.0.1:{port}, store {tracking_uri()}")
        command = [
            sys.executable,
            "-m",
            "mlflow",
            "ui",
            "--backend-store-uri",
            tracking_uri(),
            "--port",
            str(port),
        ]
        os.execve(sys.executable, command, dict(os.environ))
