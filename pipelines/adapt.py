"""Fine-tune the champion on a user's folder: set the scene (data/base, data/scores, params.yaml), then let `dvc exp run` do the work."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from ruamel.yaml import YAML

from models.bundle import Bundle
from music.readers import SUFFIXES
from pipelines.files import StageError, whole_file
from pipelines.params import LICENCE_CLASSES, load_params
from pipelines.sources import SCORES
from pipelines.tracking import home

BASE, PARAMS = Path("data/base"), Path("params.yaml")
CARRIED = ("model.safetensors", "config.json", "tokenizer.json", "bundle.json")


def set_base(bundle: Bundle) -> None:
    """Put the files of a bundle that training starts from into data/base."""
    BASE.mkdir(parents=True, exist_ok=True)
    for name in CARRIED:
        with whole_file(BASE / name) as temporary:
            shutil.copyfile(bundle.folder / name, temporary)


def check(folder: Path, name: str, licence: str, method: str, minutes: float) -> list[Path]:
    """The scores of the folder. Raises StageError, before anything is changed, for whatever could not go well or would lose something."""
    if licence not in LICENCE_CLASSES:
        raise StageError(f"--licence {licence!r} is no licence class; they are, most open first: {', '.join(LICENCE_CLASSES)}")
    if not name.replace("_", "").isalnum() or name != name.lower():
        raise StageError(f"--name {name!r} becomes a file name: use small letters, digits and _")
    if method not in ("full", "lora") or minutes <= 0:
        raise StageError(f"--method is full or lora, --minutes above 0; found {method!r}, {minutes:g}")
    if not folder.is_dir():
        raise StageError(f"{folder} is not a folder: name the folder that holds your scores")
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not files:
        raise StageError(f"no score in {folder}; known suffixes are {', '.join(SUFFIXES)}")
    target, source = (SCORES / name).resolve(), folder.resolve()
    if source != target and (source.is_relative_to(target) or target.is_relative_to(source)):
        raise StageError(f"{folder} and {SCORES / name} contain one another: choose another --name, or move the folder out of {SCORES}")
    taken = next((row for row in load_params(PARAMS).ingest.sources if row.name == name), None)
    if taken is not None and taken.path != f"{SCORES}/{name}":
        raise StageError(f"params.yaml has a source {name!r} already ({taken.kind} {taken.path}): choose another --name")
    if source != target and target.exists() and _digests(target) != _digests(source):
        raise StageError(f"{SCORES / name} holds other scores already: choose another --name, or move them away first; nothing was changed")
    return files


def _digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()}


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
    """Add (or replace) a source in params.yaml and set dotted entries; comments stay. Raises ParamsError where the result is not valid."""
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


def finetune(bundle: Bundle, folder: Path, name: str, licence: str, style: str, method: str, minutes: float) -> None:
    """Everything up to a new bundle. Raises StageError."""
    home().mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(home() / "finetune.lock", timeout=0):  # two at once would train each with the other's params
            _finetune(bundle, folder, name, licence, style, method, minutes)
    except Timeout:
        raise StageError("another `ostinato finetune` is at work here: wait for it to end") from None


def _finetune(bundle: Bundle, folder: Path, name: str, licence: str, style: str, method: str, minutes: float) -> None:
    files = check(folder, name, licence, method, minutes)
    take_in(files, folder, name)
    set_base(bundle)
    write_params(
        {"name": name, "kind": "folder", "path": f"{SCORES}/{name}", "licence": licence, **({"style": style} if style else {})},
        {"pretrain.start": "base", "pretrain.start_only": True, "network.size": bundle.lineage["network"], "finetune.collections": [name], "finetune.method": method, "finetune.time_budget_min": minutes, "align.method": "none"},
    )
    print(f"{len(files)} scores in {SCORES / name}; starting from bundle {bundle.tag}", flush=True)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run([sys.executable, "-m", "dvc", "exp", "run", "--name", f"finetune-{name}-{method}", "--force"], env={**os.environ, "DVC_NO_ANALYTICS": "1", "PATH": path})
    if done.returncode:
        raise StageError("dvc exp run failed; the reason is above. params.yaml keeps the new source: mend what is wrong and run the same command again")
