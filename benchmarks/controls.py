"""Whether controls are obeyed, with the champion's bundle.

    python -m benchmarks.controls

`--part evenly`: each number is asked for evenly over all its classes, for tunes of eight bars whose style,
dance and key are those of test pieces; rank: Spearman's correlation of the class asked with the value that
came; exact: share in the class asked; beside the same requests where it was not asked. `--part guidance`:
requests like test pieces at several strengths of guidance, the asked values dealt at random as chance;
published beside it: text2midi (Bhandari et al. 2024) reports 33.6 % for key and 39.7 % for the tempo bin;
other data, other judges.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import report
from models.bundle import open_bundle
from models.fill.sampling import requests_like, write_samples
from models.judge.controls import asked_evenly
from models.judge.evaluation import labellers, obedience, write_unasked
from models.network.likelihood import nats_per_note, piece_nats
from models.tokens.shards import Shard
from pipelines.running.params import load_params

TOKENS = Path("data/tokens")
STRENGTHS = (1.0, 1.5, 2.0, 3.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=160, help="of each strength of guidance")
    parser.add_argument("--each", type=int, default=24, help="of each class of each control")
    parser.add_argument("--part", choices=("evenly", "guidance"), default="evenly")
    options = parser.parse_args()
    if options.part == "evenly":
        evenly(options.each)
    else:
        with_guidance(options.samples)


def evenly(each: int) -> None:
    """Each control over its whole range."""
    bundle, test = open_bundle(Path("bundle")), Shard(TOKENS, "test")
    table = asked_evenly(bundle.decoder(40), bundle.tokenizer, test, each=each, bars=8, seed=17)
    rows: list[dict[str, Any]] = [
        {"control": name, **row, "offered": "yes" if name in bundle.controls else "no"}
        for name, row in table.items()
    ]
    targets = {f"{name}, rank": report.target(row["rank"], ">=", 0.7) for name, row in table.items()}
    targets |= {f"{name}, exact": report.target(row["exact"], ">=", 0.6) for name, row in table.items()}
    report.write("controls", rows, targets)


def with_guidance(count: int) -> None:
    """Requests like test pieces at several strengths."""
    knobs, bundle = load_params().evaluate, open_bundle(Path("bundle"))
    t, train, test = bundle.tokenizer, Shard(TOKENS, "train"), Shard(TOKENS, "test")
    judges, accuracy = labellers(train, test, t, knobs.sample_bars)
    requests, _ = requests_like(
        test, t, count=count, bars=knobs.sample_bars, seed=11, temperature=1.0, top_p=knobs.top_p
    )
    unasked = write_unasked(bundle.decoder(64), t, requests)
    tables: dict[float, dict[str, dict[str, float]]] = {}
    likelihood: dict[float, float] = {}
    for strength in STRENGTHS:
        samples = write_samples(
            bundle.decoder(64), t, [replace(request, guidance=strength) for request in requests]
        )
        tables[strength] = obedience(samples, unasked, [], judges, accuracy, [], t.ticks_per_quarter)
        encoded = [t.encode_score(s.score) for s in samples if s.score is not None]
        likelihood[strength] = nats_per_note(
            piece_nats(bundle.network, t, encoded),
            [s.score.note_num() for s in samples if s.score is not None],
        )
        print(strength, tables[strength], round(likelihood[strength], 3), flush=True)
    first = tables[STRENGTHS[0]]
    rows: list[dict[str, Any]] = [
        {
            "control": name,
            "dealt at random": f"{row['chance']:.1%}",
            "same metre and instruments, not asked": f"{row['unasked']:.1%}",
            **{f"guidance {strength:g}": f"{tables[strength][name]['obeyed']:.1%}" for strength in STRENGTHS},
        }
        for name, row in first.items()
    ]
    rows.append(
        {
            "control": "(nats per note of what was written, by the model without controls)",
            "dealt at random": "",
            "same metre and instruments, not asked": "",
            **{f"guidance {s:g}": f"{likelihood[s]:.3f}" for s in STRENGTHS},
        }
    )
    report.write("controls_guidance", rows, {}, by="controls")


if __name__ == "__main__":
    main()
