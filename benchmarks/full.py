"""The table of a run of the full profile. `python -m benchmarks.full CHECKOUT` reads the reports of a
checkout in which

    ostinato profile full && dvc repro

has run (hours; any `-S pretrain.max_steps=...` is told in the table) and writes
reports/benchmarks/full.json here.
"""

import argparse
import json
from pathlib import Path

import yaml

from benchmarks import report


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkout", type=Path)
    top = parser.parse_args().checkout
    metrics = json.loads((top / "reports/metrics.json").read_text())
    size = yaml.safe_load((top / "params.yaml").read_text())["network"]["size"]
    training = metrics["training"]
    rows = [
        {
            "collection": name,
            "test pieces": row["pieces"],
            "nats per note": round(row["nats_per_note"], 3),
            f"n-gram of order {metrics['ngram_order']}": round(row["ngram"], 3),
        }
        for name, row in metrics["by_collection"].items()
    ]
    rows.append(
        {
            "collection": f"all ({size} network, {training['steps']} steps)",
            "test pieces": sum(row["pieces"] for row in metrics["by_collection"].values()),
            "nats per note": round(metrics["nats_per_note"], 3),
            f"n-gram of order {metrics['ngram_order']}": round(metrics["ngram_nats_per_note"], 3),
        }
    )
    targets = {
        "below_ngram": report.target(metrics["below_ngram"], ">=", 0.30),
        "validity": report.target(metrics["validity"], ">=", 1.0),
    }
    report.write("full", rows, targets)


if __name__ == "__main__":
    main()
