"""Where a bundle comes from: its data, licence class, and training."""

import hashlib
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from models.tokens.shards import data_digest
from pipelines.running.params import LICENCE_CLASSES, Params
from pipelines.running.training_run import TOKENS


def lineage(params: Params) -> dict[str, Any]:
    """Where the model comes from: data digests, licence class (the strictest of its pieces), collections,
    seeds."""
    table = pq.read_table(
        "data/prepared/scores.parquet", columns=["licence", "collection", "split", "sha256"]
    ).to_pylist()
    classes = {row["licence"] for row in table}
    collections: dict[str, dict[str, Any]] = defaultdict(lambda: {"pieces": 0})
    for row in table:
        collections[row["collection"]]["pieces"] += 1
        collections[row["collection"]]["licence"] = row["licence"]
    return {
        "licence": max(classes, key=LICENCE_CLASSES.index),
        "collections": dict(sorted(collections.items())),
        "data_digest": data_digest(TOKENS),
        "split_seed": params.prepare.seed,
        "training_seed": params.pretrain.seed,
        "network": params.network.size,
        "training": training_report(),
    }


def training_report() -> dict[str, Any]:
    """Steps of the training stages, and the best look at the valid split of each."""
    stages = {
        stage: json.loads((Path("data") / stage / "training.json").read_text())
        for stage in ("pretrain", "finetune", "align")
    }
    shown = ("steps", "valid_nats_per_note", "valid_held_reward", "cut_by_time_limit", "weights_sha256")
    kept = {stage: {name: row[name] for name in shown if name in row} for stage, row in stages.items()}
    return {
        **kept,
        "parameters": stages["align"]["parameters"],
        "steps": sum(row["steps"] for row in stages.values()),
    }


def split_digest(split: str) -> str:
    """sha256 over the pieces of a split, by name and notes: two candidates with the same digest were tested
    on the same music."""
    rows = pq.read_table("data/prepared/scores.parquet", columns=["piece_id", "split", "midi"]).to_pylist()
    digest = hashlib.sha256()
    for row in sorted((row for row in rows if row["split"] == split), key=lambda row: row["piece_id"]):
        digest.update(row["piece_id"].encode() + hashlib.sha256(row["midi"]).digest())
    return digest.hexdigest()
