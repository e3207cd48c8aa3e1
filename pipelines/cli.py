"""`ostinato`: the commands that change the world. `dvc repro` computes; these register, promote, package, serve and watch."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipelines import catalogue, editing, feedback, improving, rating
from pipelines.files import StageError, plain_errors
from pipelines.params import load_params

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
BUNDLE = Path("bundle")


@app.command()
def repro() -> None:
    """The whole line: `dvc repro`, register, gate and promote, package; then say where everything is."""
    from pipelines import registry

    with plain_errors():
        load_params()
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # the stages' `python` is ours, active or not
        dvc = subprocess.run([sys.executable, "-m", "dvc", "repro"], env={**os.environ, "DVC_NO_ANALYTICS": "1", "PATH": path})
        if dvc.returncode:
            raise StageError("dvc repro failed; the reason is above. If it says that another process holds a lock, another `dvc repro` is at work here: wait for it to end")
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
        tag = _package()
        _where_everything_is(tag)


def _where_everything_is(tag: str) -> None:
    import json

    from pipelines.tracking import tracking_uri

    m = json.loads(Path("reports/metrics.json").read_text())
    like = {name: m["overlap"][name]["mean"]["oa"] for name in ("model", "ngram", "train")}
    nothing = dict.fromkeys(("obeyed", "chance", "human", "model", "ngram", "model_blind"), float("nan"))
    key, infill = m["obedience"].get("key", nothing), m["fill"].get("infill 4 bars", nothing)
    reward = m["alignment"].get("reward", dict.fromkeys(("before", "after", "real"), float("nan")))
    typer.echo(f"""
                            model   n-gram   other
nats per note, test       {m["nats_per_note"]:>7.3f}  {m["ngram_nats_per_note"]:>7.3f}   uniform {m["uniform_nats_per_note"]:.2f}
overlap with test set     {like["model"]:>7.3f}  {like["ngram"]:>7.3f}   train set {like["train"]:.3f}
valid samples             {m["validity"]:>7.1%}  {m["ngram_validity"]:>7.1%}
in the key asked          {key["obeyed"]:>7.1%}        -   chance {key["chance"]:.1%}, real pieces {key["human"]:.1%}
reward of takes           {reward["after"]:>7.3f}        -   before align {reward["before"]:.3f}, real pieces {reward["real"]:.3f}
infill 4 bars             {infill["model"]:>7.3f}  {infill["ngram"]:>7.3f}   not shown what lies ahead {infill["model_blind"]:.3f}

metrics     reports/metrics.json, bundle/MODEL_CARD.md; plots: dvc plots show
samples     samples/*.mid with piano rolls beside them
runs        mlflow ui --backend-store-uri {tracking_uri()}
versions    ostinato versions
bento       {tag}
serve       make serve   (or: ostinato serve --port 3000)
""")


@app.command()
def register(bundle: Path = BUNDLE) -> None:
    """Register a bundle; the same bundle twice gives the same version."""
    from pipelines import registry

    with plain_errors():
        version = registry.register(bundle)
        typer.echo(f"version {version.number}, bundle {version.digest[:16]}")


@app.command()
def promote(
    version: Annotated[int | None, typer.Option(help="version to promote; default: the newest")] = None,
    force: Annotated[bool, typer.Option(help="overrule the gate; needs --reason")] = False,
    reason: Annotated[str, typer.Option(help="why; goes into the promotion log")] = "",
) -> None:
    """Run the gate and make a version the champion."""
    from pipelines import registry

    with plain_errors():
        chosen, verdict = registry.promote(load_params().gate, version, force=force, reason=reason)
        typer.echo(f"{verdict}\nchampion: version {chosen.number}")


@app.command()
def rollback(reason: Annotated[str, typer.Option(help="why; goes into the promotion log")] = "") -> None:
    """Go back to the previous champion."""
    from pipelines import registry

    with plain_errors():
        new, old = registry.rollback(reason)
        typer.echo(f"champion: version {new.number} (was {old.number}); run `ostinato package` and restart the service to serve it")


@app.command()
def versions() -> None:
    """Versions with their aliases and gate verdicts, and the promotion log."""
    import json

    from pipelines import registry

    with plain_errors():
        typer.echo(f"{'version':>7}  {'bundle':<16}  {'aliases':<22} {'nats/note':>9}  {'licence':<14} {'gate':<5} commit")
        for v in registry.versions():
            verdict = json.loads(v.tags["gate"])["passed"] if v.tags.get("gate") else None
            gate = {True: "pass", False: "FAIL", None: "-"}[verdict]
            typer.echo(f"{v.number:>7}  {v.digest[:16]}  {', '.join(v.aliases):<22} {v.tags.get('nats_per_note', ''):>9}  {v.tags.get('licence', ''):<14} {gate:<5} {v.tags.get('git_commit', '')[:12]}")
        typer.echo("\npromotion log")
        for row in registry.promotion_log():
            candidate = f" (candidate {row['candidate']})" if "candidate" in row else ""
            typer.echo(f"  {row['time']}  {row['action']:<11} {row['from'] or '-'} -> {row['to'] or '-'}{candidate}  {row['who']}: {row['reason']}")


def _package() -> str:
    from pipelines import package as packaging
    from pipelines import registry

    version, bundle = registry.champion_bundle()
    tag = packaging.build(bundle, load_params().package.licences_served, str(version.number))
    packaging.image_context(tag)
    return tag


@app.command()
def package() -> None:
    """Build the champion's bento and the Docker build context of its image."""
    from pipelines.tracking import home

    with plain_errors():
        typer.echo(f"bento {_package()}\nimage context {home() / 'image'}")


@app.command()
def serve(
    port: int = 3000, host: str = "127.0.0.1", workers: int = 1,
    rival: Annotated[str, typer.Option(help="also load another version (its number, `previous` or `challenger`), which /v1/pair sets against the champion")] = "",
) -> None:  # fmt: skip
    """Serve the champion's bento (built if need be)."""
    from pipelines import registry
    from pipelines.package import bento_tag_of, is_built, serving_environment
    from pipelines.tracking import home

    with plain_errors():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise StageError(f"cannot listen on {host}:{port} ({error.strerror}): end what uses the port, or choose another with --port") from None
        version = registry.champion()
        tag = bento_tag_of(version.digest) if version else ""
        if not tag or not is_built(tag):
            tag = _package()
        environment = serving_environment(port)
        environment.setdefault("OSTINATO_LOG", str(home() / "log"))
        drift = load_params().drift
        environment.setdefault("OSTINATO_DRIFT_ALPHA", str(drift.alpha))
        environment.setdefault("OSTINATO_DRIFT_MIN_ROWS", str(drift.min_rows))
        environment.setdefault("OSTINATO_DRIFT_WINDOW_H", str(drift.window_hours))
        environment.setdefault("OSTINATO_CATALOGUE", str(catalogue.folder()))
        environment.setdefault("OSTINATO_FAISS_PAST", str(load_params().recommend.faiss_past))
        if rival:
            environment["OSTINATO_RIVAL"] = str(registry.bundle_of(registry.named(rival)).folder.resolve())
        if version:
            catalogue.sync(registry.bundle_of(version))
        typer.echo(f"serving {tag} on http://{host}:{port}")
        os.execve(sys.executable, [sys.executable, "-m", "bentoml", "serve", tag, "--port", str(port), "--host", host, "--api-workers", str(workers)], environment)


@app.command()
def drift(
    log: Annotated[Path | None, typer.Option(help="folder of the log; default: OSTINATO_LOG or <home>/log")] = None,
    since: Annotated[str, typer.Option(help="only rows from this ISO time on")] = "",
) -> None:
    """Compare the log with the champion's reference profile."""
    from monitoring.drift import descriptor_columns, find_drift, rows_on
    from monitoring.log import EventLog
    from pipelines import registry
    from pipelines.tracking import home

    with plain_errors():
        _, bundle = registry.champion_bundle()
        folder = log or Path(os.environ.get("OSTINATO_LOG", home() / "log"))
        if not folder.is_dir():
            raise StageError(f"no log in {folder}: serve and ask for something first, or name the folder with --log")
        events = EventLog(folder)
        knobs = load_params().drift
        columns = descriptor_columns(events.rows(since), bundle.tag)
        found = find_drift(bundle.profile, columns, knobs.alpha, knobs.min_rows)
        typer.echo(f"{rows_on(columns, 'input')} inputs, {rows_on(columns, 'output')} outputs of model {bundle.tag}; {events.broken()} broken lines")
        if not found:
            typer.echo(f"too few rows to say anything: at least {knobs.min_rows} of a side are needed (drift.min_rows)")
        for d in sorted(found, key=lambda d: (d.side, -d.psi / d.threshold)):
            typer.echo(f"{d.side:<7} {d.descriptor:<20} {d.status:<9} psi {d.psi:.3f} (threshold {d.threshold:.3f}, n {d.rows})  mean {d.reference_mean:.3f} -> {d.mean:.3f}")


@app.command()
def finetune(
    folder: Path,
    name: Annotated[str, typer.Option(help="what the collection is called: small letters, digits, _")],
    licence: Annotated[str, typer.Option(help="licence class of the scores, see params.yaml under prepare")],
    style: Annotated[str, typer.Option(help="a style label, so that it can be asked for")] = "",
    method: Annotated[str, typer.Option(help="lora: low-rank differences; full: all weights (docs/finetune.md has both measured)")] = "lora",
    minutes: Annotated[float, typer.Option(help="minutes of training")] = 8.0,
) -> None:
    """Fine-tune the champion on a folder of scores (docs/finetune.md); then `ostinato register` and `ostinato promote`."""
    from pipelines import adapt, registry

    with plain_errors():
        _, bundle = registry.champion_bundle()
        adapt.finetune(bundle, folder, name, licence, style, method, minutes)
        typer.echo("a new bundle is in bundle/; next: ostinato register, ostinato promote")


@app.command()
def export(
    target: Annotated[Path, typer.Argument(help="folder to write to")],
    kind: Annotated[str, typer.Option("--format", help="hf: a Hugging Face LlamaForCausalLM checkpoint")] = "hf",
    bundle: Annotated[Path | None, typer.Option(help="bundle to export; default: the champion's")] = None,
) -> None:
    """Write the weights for other engines."""
    from models.bundle import open_bundle
    from models.huggingface import export as export_hf
    from pipelines import registry

    with plain_errors():
        if kind != "hf":
            raise StageError(f"format {kind!r} is not known; there is hf")
        chosen = open_bundle(bundle) if bundle else registry.champion_bundle()[1]
        for path in export_hf(chosen.network, chosen.tokenizer, target):
            typer.echo(path)


@app.command()
def profile(name: str) -> None:
    """Write the values of a profile (tiny, starter, full) into params.yaml; comments stay."""
    from pipelines.profiles import apply_profile

    with plain_errors():
        for key, value in apply_profile(Path("params.yaml"), name).items():
            typer.echo(f"{key}: {value}")


app.command()(editing.edit)
app.command()(editing.history)
app.command()(feedback.snapshot)
app.command("interactions")(feedback.import_interactions)
app.command()(feedback.forget)
app.command()(rating.rate)
app.command()(improving.improve)
app.add_typer(catalogue.catalogue, name="catalogue")
app.command()(catalogue.similar)
app.command()(catalogue.recommend)

if __name__ == "__main__":
    app()
