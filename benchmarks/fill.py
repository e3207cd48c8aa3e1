"""Filling real music: nats per note of a region, against the n-gram and against the same network not shown
what lies ahead. Reads the test split and the bundle."""

from pathlib import Path
from typing import Any

from benchmarks import report
from models.bundle import open_bundle
from models.judge.ngram import best_order
from models.judge.tasks import task_table
from models.tokens.shards import Shard
from pipelines.running.params import load_params

TOKENS = Path("data/tokens")


def main() -> None:
    params, bundle = load_params(), open_bundle(Path("bundle"))
    shards = {split: Shard(TOKENS, split) for split in ("train", "valid", "test")}
    train, valid = (
        [shard.piece(i) for i in range(len(shard))] for shard in (shards["train"], shards["valid"])
    )
    ngram, _ = best_order(train, valid, len(bundle.tokenizer), params.evaluate.ngram_orders)
    table = task_table(
        bundle.network, ngram, bundle.tokenizer, shards["test"], count=400, seed=params.evaluate.seed
    )
    rows: list[dict[str, Any]] = [
        {
            "task": task,
            "regions": row["regions"],
            "notes": row["notes"],
            "model": f"{row['model']:.3f}",
            "not shown what lies ahead": f"{row['model_blind']:.3f}",
            f"n-gram of order {ngram.order}": f"{row['ngram']:.3f}",
        }
        for task, row in table.items()
    ]
    targets = {
        f"{task.replace(' ', '_')}_above_{other}": report.target(row[other] - row["model"], ">=", 0.0)
        for task, row in table.items()
        for other in ("model_blind", "ngram")
        if not (other == "model_blind" and task.startswith("continue"))
    }
    report.write("fill", rows, targets)


if __name__ == "__main__":
    main()
