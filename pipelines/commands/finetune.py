"""Fine-tune the champion on a user's folder: set the scene (data/base, data/scores, params.yaml), then let
`dvc exp run` do the work."""

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from filelock import FileLock, Timeout
from ruamel.yaml import YAML

from music.reading.files import SUFFIXES
from pipelines.running.dvc_command import dvc_command, dvc_environment
from pipelines.running.files import StageError, plain_errors, whole_file
from pipelines.running.params import LICENCE_CLASSES, load_params
from pipelines.running.sources import SCORES
from pipelines.running.tracked import track
from pipelines.running.tracking import home

if TYPE_CHECKING:
    from models.bundle import Bundle

BASE, PARAMS = Path("data/base/bundle"), Path("params.yaml")
CARRIED = ("model.safetensors", "config.json", "tokenizer.json", "bundle.json")


def set_base(bundle: "Bundle") -> None:
    """Put the files of a bundle that training starts from into data/base."""
    BASE.mkdir(parents=True, exist_ok=True)
    for name in CARRIED:
        with whole_file(BASE / name) as temporary:
            shutil.copyfile(bundle.folder / name, temporary)


def check(folder: Path, name: str, licence: str, method: str, steps: int) -> list[Path]:
    """The scores of the folder. Raises StageError, before anything is changed, for whatever could not go well
    or would lose something."""
    if licence not in LICENCE_CLASSES:
        raise StageError(
            f"--licence {licence!r} is no licence class; they are, most open first: "
            f"{', '.join(LICENCE_CLASSES)}"
        )
    if not name.replace("_", "").isalnum() or name != name.lower():
        raise StageError(f"--name {name!r} becomes a file name: use small letters, digits and _")
    if method not in ("full", "lora") or steps <= 0:
        raise StageError(f"--method is full or lora, --steps above 0; found {method!r}, {steps}")
    if not folder.is_dir():
        raise StageError(f"{folder} is not a folder: name the folder that holds your scores")
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not files:
        raise StageError(f"no score in {folder}; known suffixes are {', '.join(SUFFIXES)}")
    target, source = (SCORES / name).resolve(), folder.resolve()
    if source != target and (source.is_relative_to(target) or target.is_relative_to(source)):
        raise StageError(
            f"{folder} and {SCORES / name} contain one another: choose another --name, or move "
            f"the folder out of {SCORES}"
        )
    taken = next((row for row in load_params(PARAMS).ingest.sources if row.name == name), None)
    if taken is not None and taken.path != f"{SCORES}/{name}":
        raise StageError(
            f"params.yaml has a source {name!r} already ({taken.kind} {taken.path}): choose another --name"
        )
    if source != target and target.exists() and _digests(target) != _digests(source):
        raise StageError(
            f"{SCORES / name} holds other scores already: choose another --name, or move them "
            f"away first; nothing was changed"
        )
    return files


def _digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.is_file()
    }


def take_in(files: list[Path], folder: Path, name: str) -> None:
    """Copy scores to data/scores/<name>, unless they are there: whole or not at all."""
    target = SCORES / name
    if target.exists():
        return
    partial = target.with_name(f".{name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    for path in files:
        copy = partial / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    partial.rename(target)


def write_params(source: dict[str, Any], values: dict[str, Any]) -> None:
    """Add (or replace) a source in params.yaml and set dotted entries; comments stay. Raises ParamsError
    where the result is not valid."""
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    before = PARAMS.read_text()
    document = yaml.load(before)
    sources = document["ingest"]["sources"]
    at = next((i for i, row in enumerate(sources) if row["name"] == source["name"]), len(sources))
    sources[at:] = [source, *sources[at + 1 :]]
    for dotted, value in values.items():
        section, entry = dotted.split(".")
        document[section][entry] = value
    with whole_file(PARAMS) as temporary, temporary.open("w") as handle:
        yaml.dump(document, handle)
    try:
        load_params(PARAMS)
    except ValueError:
        with whole_file(PARAMS) as temporary:
            temporary.write_text(before)
        raise


def adapt(
    bundle: "Bundle", folder: Path, name: str, licence: str, style: str, method: str, steps: int
) -> None:
    """Everything up to a new bundle. Raises StageError."""
    home().mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(
            home() / "finetune.lock", timeout=0
        ):  # two at once would train each with the other's params
            _finetune(bundle, folder, name, licence, style, method, steps)
    except Timeout:
        raise StageError("another `ostinato finetune` is at work here: wait for it to end") from None


def _finetune(
    bundle: "Bundle", folder: Path, name: str, licence: str, style: str, method: str, steps: int
) -> None:
    files = check(folder, name, licence, method, steps)
    take_in(files, folder, name)
    set_base(bundle)
    track(SCORES / name)
    track(BASE)
    write_params(
        {
            "name": name,
            "kind": "folder",
            "path": f"{SCORES}/{name}",
            "licence": licence,
            **({"style": style} if style else {}),
        },
        {
            "pretrain.start": "base",
            "pretrain.start_only": True,
            "network.size": bundle.lineage["network"],
            "finetune.collections": [name],
            "finetune.method": method,
            "finetune.max_steps": steps,
            "align.method": "none",
        },
    )
    print(f"{len(files)} scores in {SCORES / name}; starting from bundle {bundle.tag}", flush=True)
    done = subprocess.run(
        dvc_command("exp", "run", "--name", f"finetune-{name}-{method}", "--force"), env=dvc_environment()
    )
    if done.returncode:
        raise StageError(
            "dvc exp run failed; the reason is above. params.yaml keeps the new source: mend "
            "what is wrong and run the same command again"
        )


def finetune(
    folder: Path,
    name: Annotated[str, typer.Option(help="what the collection is called: small letters, digits, _")],
    licence: Annotated[str, typer.Option(help="licence class of the scores, see params.yaml under prepare")],
    style: Annotated[str, typer.Option(help="a style label, so that it can be asked for")] = "",
    method: Annotated[
        str,
        typer.Option(
            help="lora: low-rank differences; full: all weights (docs/finetune.md has both measured)"
        ),
    ] = "lora",
    steps: Annotated[int, typer.Option(help="steps of training; about 4 a second on two cores")] = 1000,
) -> None:
    """Fine-tune the champion on a folder of scores (docs/finetune.md); then `ostinato register` and `ostinato
    promote`."""
    from pipelines.release import versions as known

    with plain_errors():
        _, bundle = known.champion_bundle()
        adapt(bundle, folder, name, licence, style, method, steps)
        typer.echo("a new bundle is in bundle/; next: ostinato register, ostinato promote")
