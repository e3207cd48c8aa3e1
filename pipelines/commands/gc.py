"""`ostinato gc`: what no alias, tag or log row needs any more."""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines.running.dvc_command import dvc_command, dvc_environment
from pipelines.running.files import StageError, plain_errors
from pipelines.running.tracking import home

TRAININGS = ("pretrain", "finetune", "align")
WEEK_S = 7 * 24 * 3600


@dataclass
class Waste:
    """Folders and runs that can go."""

    folders: list[Path] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)

    @property
    def megabytes(self) -> float:
        files = (path for folder in self.folders for path in folder.rglob("*") if path.is_file())
        return sum(path.lstat().st_size for path in files) / 1e6


def gc(
    do: Annotated[bool, typer.Option("--do", help="remove it; without this only say what would go")] = False,
    cache: Annotated[
        bool, typer.Option("--cache", help="also data of DVC's cache that no commit and no experiment names")
    ] = False,
) -> None:
    """Remove bundles, bentos, models, half-done trainings and runs that no alias, and no version that ever
    was champion, needs. Says what would go; --do removes it."""
    with plain_errors():
        needed = _needed()
        waste = _waste(needed)
        for folder in waste.folders:
            typer.echo(f"{'removed' if do else 'would remove'} {folder}")
        for run in waste.runs:
            typer.echo(f"{'removed' if do else 'would remove'} MLflow run {run}")
        megabytes = waste.megabytes
        if do:
            _remove(waste)
        if cache:
            _clean_cache(do)
        kept = ", ".join(sorted(needed)) or "nothing"
        typer.echo(
            f"{megabytes:.0f} MB {'freed' if do else 'could be freed: ostinato gc --do'}; kept: "
            f"bundles {kept}"
        )


def _needed() -> set[str]:
    """Short digests of bundles that an alias names, or that ever were champion: rollback and the gate need
    them."""
    from pipelines.release import registry
    from pipelines.release import versions as known

    was = {row["to"] for row in registry.history() if row["to"]}
    return {v.digest[:16] for v in known.versions() if v.aliases or v.number in was}


def _waste(needed: set[str]) -> Waste:
    """What is there and not needed."""
    found = Waste()
    stores = Path(os.environ.get("BENTOML_HOME", home() / "bentoml"))
    for folder in (home() / "bundles", stores / "models/ostinato", stores / "bentos/ostinato"):
        for each in sorted(folder.iterdir()) if folder.is_dir() else ():
            if each.is_dir() and each.name.split("-")[0].split(".")[0] not in needed:
                found.folders.append(each)
    image = home() / "image"
    if (image / ".bento_tag").exists():
        tag = (image / ".bento_tag").read_text().partition(":")[2]
        if tag.split("-")[0] not in needed:
            found.folders.append(image)
    for stage in TRAININGS:  # half done, and nobody has gone on with it for a week
        for each in sorted((home() / stage).glob("*")):
            if (
                each.is_dir()
                and time.time() - max(p.stat().st_mtime for p in (each, *each.iterdir())) > WEEK_S
            ):
                found.folders.append(each)
    found.runs = _orphaned_runs(needed)
    return found


def _orphaned_runs(needed: set[str]) -> list[str]:
    """Ended runs of trainings that led to no version that is needed: none that is under way, none newer than
    the newest version."""
    from mlflow import MlflowClient

    from pipelines.running.tracking import open_experiment

    experiment = open_experiment()
    client = MlflowClient()
    runs = client.search_runs([experiment], max_results=5000)
    named = [run.info.start_time for run in runs if _bundles(run) & needed]
    resumed = {path.read_text() for stage in TRAININGS for path in (home() / stage).glob("*/mlflow_run")}
    return [
        run.info.run_id
        for run in runs
        if run.info.status != "RUNNING"
        and run.info.run_id not in resumed
        and not _bundles(run) & needed
        and run.info.start_time < max(named, default=0)
    ]


def _bundles(run: Any) -> set[str]:
    """Short digests of the bundles that a run led to."""
    tags = run.data.tags
    return {tag for tag in (*tags.get("bundles", "").split(","), tags.get("bundle_digest", "")[:16]) if tag}


def _remove(waste: Waste) -> None:
    from mlflow import MlflowClient

    for folder in waste.folders:
        shutil.rmtree(folder)
    client = MlflowClient()
    for run in waste.runs:
        client.delete_run(run)


def _clean_cache(do: bool) -> None:
    """`dvc gc` of what no branch, tag, experiment or the workspace names."""
    scope = ["--workspace", "--all-branches", "--all-tags", "--all-experiments"]
    done = subprocess.run(dvc_command("gc", *scope, "--force" if do else "--dry"), env=dvc_environment())
    if done.returncode:
        raise StageError("dvc gc failed; the reason is above")
