"""The whole line as one command, and the profiles it runs in."""

import os
import subprocess
import sys
from pathlib import Path

import typer

from pipelines.commands.registry import BUNDLE, package_champion
from pipelines.running.files import StageError, plain_errors
from pipelines.running.params import load_params


def repro() -> None:
    """The whole line: `dvc repro`, register, gate and promote, package; then say where everything is."""
    from pipelines.release import registry

    with plain_errors():
        load_params()
        # the stages' `python` is ours, active or not
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        dvc = subprocess.run(
            [sys.executable, "-m", "dvc", "repro"], env={**os.environ, "DVC_NO_ANALYTICS": "1", "PATH": path}
        )
        if dvc.returncode:
            raise StageError(
                "dvc repro failed; the reason is above. If it says that another process holds "
                "a lock, another `dvc repro` is at work here: wait for it to end"
            )
        version = registry.register(BUNDLE)
        typer.echo(f"registered: version {version.number}, bundle {version.digest[:16]}")
        settled = registry.settled(version)
        if settled:
            typer.echo(settled)
        else:
            try:
                promoted, verdict = registry.promote(load_params().gate, version.number)
                typer.echo(f"{verdict}\nchampion: version {promoted.number}")
            except registry.NotPromoted as refusal:
                if registry.champion() is None:
                    raise
                typer.echo(str(refusal))
        tag = package_champion()
        _where_everything_is(tag)


def _where_everything_is(tag: str) -> None:
    import json

    from pipelines.running.tracking import tracking_uri

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

metrics     reports/metrics.json, bundle/MODEL_CARD.md; plots: dvc plots show
samples     samples/*.mid with piano rolls beside them
runs        mlflow ui --backend-store-uri {tracking_uri()}
versions    ostinato versions
bento       {tag}
serve       make serve   (or: ostinato serve --port 3000)
""")


def profile(name: str) -> None:
    """Write the values of a profile (tiny, starter, full) into params.yaml; comments stay."""
    from pipelines.running.profiles import apply_profile

    with plain_errors():
        for key, value in apply_profile(Path("params.yaml"), name).items():
            typer.echo(f"{key}: {value}")
