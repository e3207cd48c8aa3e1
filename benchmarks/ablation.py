"""What each data knob is worth: the starter network trained from nothing for the same short number of steps,
one thing changed at a time.

Nats per note of the valid split over all pieces, of the rarest collection, and of regions to fill (4 bars;
harmonising).
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks import report, short_runs
from models.judge.tasks import cases_of, network_nats
from models.network.config import sized
from models.network.decoder import Network
from models.network.likelihood import nats_per_note, piece_nats
from models.tokens.asking import Asking
from models.tokens.build import load_tokenizer
from models.tokens.shards import Shard
from models.tokens.windows import Augmentation, Mixture, WindowDataset, piece_weights
from pipelines.running.params import load_params

TOKENS = Path("data/tokens")


@dataclass(frozen=True)
class Setting:
    """One row of the table; the defaults are the first."""

    name: str
    seed: int = 1
    transpose: int = 5
    stretch: float = 0.0
    collection_temperature: float = 1.0
    rare_labels: float = 0.0
    mixture: dict[str, float] = field(default_factory=dict)  # {}: that of params.yaml


SETTINGS = (
    Setting("starter: transposed by up to 5, a mixture of tasks"),
    Setting("the same, another seed: what chance alone does", seed=2),
    Setting("not transposed", transpose=0),
    Setting("transposed by up to 2", transpose=2),
    Setting("a fifth of the sequences stretched", stretch=0.2),
    Setting("collections nearer to each other (temperature 0.5)", collection_temperature=0.5),
    Setting("rare styles and dances more often (0.5)", rare_labels=0.5),
    Setting(
        "whole pieces only, no regions", mixture={"whole": 1.0, "span": 0.0, "tracks": 0.0, "rectangle": 0.0}
    ),
    Setting("mostly regions", mixture={"whole": 0.2, "span": 0.4, "tracks": 0.2, "rectangle": 0.2}),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    params, tokenizer = load_params(), load_tokenizer(TOKENS / "tokenizer.json")
    train, valid = Shard(TOKENS, "train"), Shard(TOKENS, "valid")
    collections = [record["collection"] for record in valid.records]
    rarest = min(set(collections), key=collections.count)
    context = params.network.context
    tasks = {
        task: cases_of(valid, tokenizer, task, count=80, seed=1, context=context)
        for task in ("infill 4 bars", "harmonise")
    }
    rows: list[dict[str, Any]] = []
    for setting in SETTINGS:
        torch.manual_seed(setting.seed)
        network = Network(sized("small", vocabulary=len(tokenizer), context=context))
        weights = piece_weights(train, setting.collection_temperature, setting.rare_labels)
        data = WindowDataset(
            train,
            tokenizer,
            context,
            Augmentation(setting.transpose, setting.stretch, asking=Asking(controls=False)),
            Mixture(**(setting.mixture or params.pretrain.mixture.model_dump())),
            setting.seed,
            0,
            steps * short_runs.BATCH,
            weights,
        )
        short_runs.train(network, data, steps)
        row: dict[str, Any] = {"setting": setting.name, "steps": steps}
        for name, chosen in (
            ("all", list(range(0, len(valid), 3))),
            (rarest, [i for i, c in enumerate(collections) if c == rarest]),
        ):
            nats = piece_nats(network, tokenizer, [(valid.piece(i), valid.bar_starts(i)) for i in chosen])
            row[name] = round(nats_per_note(nats, [int(valid.records[i]["notes"]) for i in chosen]), 3)
        row |= {
            task: round(float(network_nats(network, tokenizer, cases).sum()) / sum(c.notes for c in cases), 3)
            for task, cases in tasks.items()
        }
        rows.append(row)
        print(row, flush=True)
    report.write("ablation", rows, {})


if __name__ == "__main__":
    main()
