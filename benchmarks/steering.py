"""What steering and the forms of real tunes are worth: the same requests with and without.

    python -m benchmarks.steering --takes 160 --each 24

Controls as in benchmarks/controls.py, a melody of eight bars each; sections of tunes of 32 bars, asked for by
style, dance, key and metre of test pieces, told the form of a real tune or none, beside those pieces.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.composing import CHORALE, SEED, TOKENS, ask_like, write
from models.bundle import Bundle, open_bundle
from models.judge.controls import asked_evenly
from models.judge.musical import endings, sections
from models.tokens.shards import Shard
from music.score.form import bar_table

BARS = 32


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--takes", type=int, default=160, help="tunes of each kind")
    parser.add_argument("--each", type=int, default=24, help="of each class of each control")
    options = parser.parse_args()
    bundle, test = open_bundle(Path("bundle")), Shard(TOKENS, "test")
    steered, unsteered = (
        asked_evenly(
            bundle.decoder(40), bundle.tokenizer, test, each=options.each, bars=8, seed=17, steered=steer
        )
        for steer in (True, False)
    )
    report.write(
        "steering_controls",
        [
            {
                "control": name,
                "rank": row["rank"],
                "without": unsteered[name]["rank"],
                "not asked": row["unasked_rank"],
                "exact": row["exact"],
                "exact without": unsteered[name]["exact"],
                "exact not asked": row["unasked_exact"],
            }
            for name, row in steered.items()
        ],
        {},
        by="steering",
    )
    report.write("steering_forms", form_rows(bundle, test, options.takes), {}, by="steering")


def form_rows(bundle: Bundle, test: Shard, takes: int) -> list[dict[str, Any]]:
    tunes = [i for i, r in enumerate(test.records) if r["style"] != CHORALE and r["rhythm"]]
    real = {i: bundle.tokenizer.decode_ids(test.piece(i)) for i in tunes}
    picked = np.random.default_rng(SEED).choice(tunes, takes).tolist()
    asks = [ask_like(test.records[i], real[i], BARS, SEED * 3000 + n) for n, i in enumerate(picked)]
    long = [i for i in tunes if len(bar_table(real[i])) in (BARS, BARS + 1)]
    keys = [test.records[i]["key"] for i in picked]
    rows = [row("real tunes of this length", [(real[i], test.records[i]["key"]) for i in long])]
    for told, steer in ((True, True), (True, False), (False, True), (False, False)):
        name = f"{'form' if told else 'no form'} told, {'steered' if steer else 'not steered'}"
        rows.append(row(name, list(zip(write(bundle, asks, told=told, steered=steer), keys, strict=True))))
    return rows


def row(name: str, pieces: list[tuple[Any, str]]) -> dict[str, Any]:
    return {"tunes": name, **endings(pieces), **sections([score for score, _ in pieces])}


if __name__ == "__main__":
    main()
