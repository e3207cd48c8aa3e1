"""The whole line as one command, and the profiles it runs in."""

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Annotated

import typer
import yaml

from pipelines.commands.registry import BUNDLE, go_live, package_champion
from pipelines.running.dvc_command import dvc_command, dvc_environment
from pipelines.running.files import StageError, plain_errors, write_json
from pipelines.running.params import Params, load_params
from pipelines.running.tracking import home

# Minutes of the starter profile on two cores; a machine's own are kept once it has run.
MINUTES = {
    "ingest": 0.6, "prepare": 0.2, "tokenise": 0.2, "pretrain": 2.5, "finetune": 5.5,
    "align": 3.0, "embed": 1.6, "recommend": 0.2, "evaluate": 2.2,
}  # fmt: skip
SAID = re.compile(r"^(Running stage '(?P<run>\w+)'|Stage '(?P<skip>\w+)' (is cached|didn't change))")
NOISE = (
    "Updating lock file", "Generating lock file", "To track the changes", "To enable auto staging",
    "\tgit add", "\tdvc config", "Use `dvc push`", "> python -m", "Data and pipelines are up to date",
    "Verifying data sources",
)  # fmt: skip


def repro() -> None:
    """The whole line: `dvc repro`, register, gate and promote, package; then say where everything is."""
    from pipelines.release import registry
    from pipelines.release import versions as known

    with plain_errors():
        compute(load_params())
        version = registry.register(BUNDLE)
        typer.echo(f"registered: version {version.number}, bundle {version.digest[:16]}")
        settled = known.settled(version)
        if settled:
            typer.echo(settled)
        else:
            try:
                promoted, verdict = registry.promote(load_params().gate, version.number)
                typer.echo(f"{verdict}\nchampion: version {promoted.number}")
                go_live(promoted)
            except registry.NotPromoted as refusal:
                if known.champion() is None:
                    raise
                typer.echo(str(refusal))
        tag = package_champion()
        _where_everything_is(tag)


def compute(params: Params, *arguments: str) -> None:
    """`dvc repro`, telling which stage of how many runs and about how long it takes. Raises StageError where
    it fails."""
    stages = list(yaml.safe_load(Path("dvc.yaml").read_text())["stages"])
    took, file = {}, home() / "stage_minutes.json"
    known = _known_minutes(params, file)
    command = dvc_command("repro", *arguments)
    environment = {**dvc_environment(), "PYTHONUNBUFFERED": "1"}
    running, begin = "", time.monotonic()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as dvc:
        assert dvc.stdout is not None
        for line in dvc.stdout:
            said = SAID.match(line)
            if said or not line.strip() or line.startswith(NOISE):
                if running and said:
                    took[running] = (time.monotonic() - begin) / 60
                if said and (name := said["run"] or said["skip"]) in stages:
                    running, begin = (name if said["run"] else ""), time.monotonic()
                    what = _about(known.get(name)) if said["run"] else "up to date"
                    typer.echo(f"stage {stages.index(name) + 1} of {len(stages)}: {name}, {what}")
                continue
            typer.echo(line, nl=False)
        code = dvc.wait()
    if running and not code:
        took[running] = (time.monotonic() - begin) / 60
    if took:
        write_json(
            file, {**known, **{name: round(minutes, 2) for name, minutes in took.items()}, "of": _of(params)}
        )
    if code:
        raise StageError(
            "dvc repro failed; the reason is above. If it says that another process holds "
            "a lock, another `dvc repro` is at work here: wait for it to end"
        )


def _of(params: Params) -> str:
    """What stage times depend on most: another of it makes them no estimate."""
    return (
        f"{params.network.size} {params.pretrain.max_steps} {params.finetune.max_steps} "
        f"{params.ingest.extended}"
    )


def _known_minutes(params: Params, file: Path) -> dict[str, float]:
    """Minutes of each stage when it last ran here with such params, or those of the starter profile."""
    if file.exists():
        kept = json.loads(file.read_text())
        if kept.pop("of", "") == _of(params):
            return kept
    starter = params.profiles.get("starter", {})
    as_starter = all(
        starter.get(f"{name}.max_steps") == getattr(params, name).max_steps
        for name in ("pretrain", "finetune", "align")
    )
    return dict(MINUTES) if as_starter and params.network.size == starter.get("network.size") else {}


def _about(minutes: float | None) -> str:
    if minutes is None:
        return "running"
    return f"about {minutes:.0f} min" if minutes >= 1.5 else f"about {max(round(60 * minutes, -1), 10):.0f} s"


def _where_everything_is(tag: str) -> None:
    m = json.loads(Path("reports/metrics.json").read_text())
    like = {name: m["overlap"][name]["mean"]["oa"] for name in ("model", "ngram", "train")}
    nothing = dict.fromkeys(("obeyed", "chance", "human", "model", "ngram", "model_blind"), float("nan"))
    key, infill = m["obedience"].get("key", nothing), m["fill"].get("infill 4 bars", nothing)
    reward = m["alignment"].get("reward", dict.fromkeys(("before", "after", "real"), float("nan")))
    typer.echo(f"""
                            model   n-gram   other
nats per note, test       {m["nats_per_note"]:>7.3f}  {m["ngram_nats_per_note"]:>7.3f}   \
uniform {m["uniform_nats_per_note"]:.2f}
overlap with test set     {like["model"]:>7.3f}  {like["ngram"]:>7.3f}   \
train set {like["train"]:.3f}
valid samples             {m["validity"]:>7.1%}  {m["ngram_validity"]:>7.1%}
in the key asked          {key["obeyed"]:>7.1%}        -   \
chance {key["chance"]:.1%}, real pieces {key["human"]:.1%}
reward of takes           {reward["after"]:>7.3f}        -   \
before align {reward["before"]:.3f}, real pieces {reward["real"]:.3f}
infill 4 bars             {infill["model"]:>7.3f}  {infill["ngram"]:>7.3f}   \
not shown what lies ahead {infill["model_blind"]:.3f}

metrics     dvc metrics show; all of them: reports/metrics.json, bundle/MODEL_CARD.md; plots: dvc plots show
samples     samples/*.mid with piano rolls beside them
runs        ostinato ui
versions    ostinato versions
bento       {tag}
serve       make serve   (or: ostinato serve --port 3000)
""")


def profile(name: Annotated[str, typer.Argument(help="tiny, starter or full")]) -> None:
    """Write the values of a profile into params.yaml; comments stay."""
    from pipelines.running.profiles import apply_profile

    with plain_errors():
        for key, value in apply_profile(Path("params.yaml"), name).items():
            typer.echo(f"{key}: {value}")
