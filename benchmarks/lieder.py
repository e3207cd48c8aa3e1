"""Fine-tuning the champion on a user's folder, LoRA against all weights: `python -m benchmarks.lieder FOLDER
[--steps N]`.

Works in a copy of this checkout, which must hold a champion. Nats per note of the test pieces of the new
collection and of the old ones.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from benchmarks import report
from benchmarks.starter import clean_environment
from models.bundle import open_bundle
from models.network.config import NetworkConfig
from models.network.decoder import Network
from models.network.likelihood import nats_per_note, piece_nats
from models.tokens.build import load_tokenizer
from models.tokens.shards import Shard
from models.tokens.vocabulary import grown

ROOT = Path(__file__).parent.parent


def run(top: Path, *command: str) -> float:
    """Seconds of `ostinato <command>` in the copy, with this environment's Python."""
    begin = time.perf_counter()
    environment = {**clean_environment(top), "PYTHONPATH": str(top)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.commands.app", *command],
        cwd=top,
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"ostinato {' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return time.perf_counter() - begin


def figures(top: Path, network: Network, name: str) -> tuple[float, float]:
    """Nats per note of the test split, labels told: the new collection, and all others."""
    tokenizer, test = load_tokenizer(top / "data/tokens/tokenizer.json"), Shard(top / "data/tokens", "test")
    values = []
    for mine in (True, False):
        chosen = [i for i, record in enumerate(test.records) if (record["collection"] == name) == mine]
        nats = piece_nats(
            network,
            tokenizer,
            [(test.piece(i), test.bar_starts(i)) for i in chosen],
            [test.labels(i) for i in chosen],
        )
        values.append(nats_per_note(nats, [int(test.records[i]["notes"]) for i in chosen]))
    return values[0], values[1]


def before(top: Path, name: str) -> tuple[float, float]:
    """The champion as it was, with the new vocabulary."""
    base = top / "data/base/bundle"
    tokenizer = load_tokenizer(top / "data/tokens/tokenizer.json")
    network = Network(
        NetworkConfig(**{**json.loads((base / "config.json").read_text()), "vocabulary": len(tokenizer)})
    )
    network.load_state_dict(
        grown(load_file(base / "model.safetensors"), load_tokenizer(base / "tokenizer.json"), tokenizer)
    )
    return figures(top, network, name)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for method in ("lora", "full"):
            top = Path(scratch) / method
            shutil.copytree(
                ROOT, top, symlinks=True, ignore=shutil.ignore_patterns(".venv", "__pycache__", "lieder")
            )
            seconds = run(
                top,
                "finetune",
                str(options.folder.resolve()),
                "--name",
                "lieder",
                "--licence",
                "public-domain",
                "--style",
                "lied",
                "--method",
                method,
                "--steps",
                str(options.steps),
            )
            if not rows:
                new, old = before(top, "lieder")
                rows.append(
                    {
                        "method": "the champion before",
                        "steps": "",
                        "whole command, minutes": "",
                        "lieder, test": round(new, 3),
                        "all else, test": round(old, 3),
                    }
                )
            bundle = open_bundle(top / "bundle")
            new, old = figures(top, bundle.network, "lieder")
            steps = json.loads((top / "data/finetune/training.json").read_text())["steps"]
            rows.append(
                {
                    "method": method,
                    "steps": steps,
                    "whole command, minutes": round(seconds / 60, 1),
                    "lieder, test": round(new, 3),
                    "all else, test": round(old, 3),
                }
            )
            print(rows[-1], flush=True)
    report.write("lieder", rows, {})


if __name__ == "__main__":
    main()
