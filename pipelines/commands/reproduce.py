"""`ostinato reproduce`: run stages again in a copy, and compare what comes out, md5 by md5, with dvc.lock."""

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from pipelines.running.dvc_command import dvc_command, dvc_environment
from pipelines.running.files import StageError, plain_errors, whole_file

LOCK, REPORT = Path("dvc.lock"), Path("reports/reproduce.md")
TRAINED = ("pretrain", "finetune", "align")


@dataclass(frozen=True)
class Compared:
    """One output of a stage: its md5 in dvc.lock and in the copy."""

    stage: str
    path: str
    locked: str
    found: str

    @property
    def same(self) -> bool:
        return self.locked == self.found


def reproduce(
    stages: Annotated[
        list[str] | None, typer.Argument(help="stages to run again; default: pretrain, finetune, align")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="leave the copy where it is, to look at")] = False,
) -> None:
    """Run stages again in a copy of this checkout and compare their outputs with dvc.lock. Exit code 1 where
    one differs, with the first stage that does and why."""
    with plain_errors():
        locked, order = _locked(), _order()
        wanted = [name for name in order if name in (stages or TRAINED)]
        unknown = set(stages or ()) - set(order)
        if unknown:
            raise StageError(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(order)}")
        missing = [name for name in wanted if name not in locked]
        if missing:
            raise StageError(f"dvc.lock has no {', '.join(missing)} yet: run `ostinato repro` first")
        copy = Path(tempfile.mkdtemp(prefix="ostinato-reproduce-"))
        try:
            lines, same = _compared(copy, locked, order, wanted)
        finally:
            if not keep:
                shutil.rmtree(copy, ignore_errors=True)
        with whole_file(REPORT) as temporary:
            temporary.write_text("\n".join(["# ostinato reproduce", "", *lines]) + "\n")
        typer.echo("\n".join(lines))
        if keep:
            typer.echo(f"the copy is {copy}")
        if not same:
            raise typer.Exit(1)


def _locked() -> dict[str, Any]:
    if not LOCK.exists():
        raise StageError(
            "there is no dvc.lock here: run from the top of the repository, after `ostinato repro`"
        )
    return yaml.safe_load(LOCK.read_text()).get("stages", {})


def _order() -> list[str]:
    return list(yaml.safe_load(Path("dvc.yaml").read_text())["stages"])


def _compared(
    copy: Path, locked: dict[str, Any], order: list[str], wanted: list[str]
) -> tuple[list[str], bool]:
    """Lines of the report, and whether all is the same."""
    _copy_checkout(copy)
    lines, different = ["| stage | output | |", "|---|---|---|"], ""
    for name in order[: order.index(wanted[-1]) + 1]:
        if name not in wanted and _restored(copy, locked.get(name, {})):
            continue
        typer.echo(f"running {name} again", err=True)
        done = _dvc(copy, "repro", "--force", "--single-item", name)
        if done.returncode:
            raise StageError(f"{name} failed in the copy:\n{done.stderr[-2000:]}{done.stdout[-1000:]}")
        again = yaml.safe_load((copy / LOCK).read_text())["stages"][name]
        outs = _outputs(name, locked.get(name, {}), again)
        lines += [f"| {o.stage} | {o.path} | {'same' if o.same else 'DIFFERS'} |" for o in outs]
        if not different and not all(o.same for o in outs):
            different = name
            why = _why(copy, name, locked[name], again)
    if not different:
        return [*lines, "", f"all outputs of {', '.join(wanted)} are what dvc.lock says, bit for bit"], True
    return [*lines, "", f"the first stage that differs is {different}: {why}"], False


def _copy_checkout(copy: Path) -> None:
    """Tracked and new files as they are, and the cache of this checkout, so that data need not be made
    again."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if Path(name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, copy / name)
    subprocess.run(["git", "init", "--quiet"], cwd=copy, check=True)
    cache = subprocess.run(
        dvc_command("cache", "dir"), capture_output=True, text=True, check=True
    ).stdout.strip()
    _dvc(copy, "cache", "dir", "--local", str(Path(cache).resolve()))
    for folder in ("data/scores", "data/base", "data/feedback"):
        if Path(folder).is_dir():
            shutil.copytree(folder, copy / folder, dirs_exist_ok=True)


def _restored(copy: Path, stage: dict[str, Any]) -> bool:
    """Whether all outputs of a stage could be taken from the cache."""
    outs = [out["path"] for out in stage.get("outs", [])]
    return bool(outs) and _dvc(copy, "checkout", "--force", *outs).returncode == 0


def _dvc(copy: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**dvc_environment(), "OSTINATO_HOME": str(copy / ".ostinato"), "PYTHONPATH": str(copy)}
    environment.pop("MLFLOW_TRACKING_URI", None)  # the copy is no part of anybody's history
    return subprocess.run(dvc_command(*arguments), cwd=copy, env=environment, capture_output=True, text=True)


def _outputs(name: str, locked: dict[str, Any], again: dict[str, Any]) -> list[Compared]:
    found = {out["path"]: out["md5"] for out in again["outs"]}
    before = {out["path"]: out["md5"] for out in locked.get("outs", [])}
    return [Compared(name, path, before.get(path, ""), found.get(path, "")) for path in {**before, **found}]


def _why(copy: Path, name: str, locked: dict[str, Any], again: dict[str, Any]) -> str:
    """What differs between then and now beside the outputs: code, data, params, or the machine."""
    before = {dep["path"]: dep["md5"] for dep in locked.get("deps", [])}
    changed = [dep["path"] for dep in again.get("deps", []) if before.get(dep["path"]) != dep["md5"]]
    if changed:
        return f"{', '.join(changed)} is not what dvc.lock was made with"
    if locked.get("params") != again.get("params"):
        return "params.yaml is not what dvc.lock was made with"
    told = Path("reports") / name / "metrics.json"
    if told.exists() and (copy / told).exists():
        then, now = (json.loads((top / told).read_text()).get("made_on", "") for top in (Path(), copy))
        unlike = [
            f"{a} then, {b} now" for a, b in zip(then.split("; "), now.split("; "), strict=False) if a != b
        ]
        if unlike:
            return "the machine: " + "; ".join(unlike)
    return (
        "code, data, params and kind of machine are the same, so something in it is left to "
        "chance: please report it"
    )
