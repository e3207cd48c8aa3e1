"""Control obedience at several strengths of guidance: the champion's bundle, requests like test pieces, the
asked values dealt at random as chance.

Published beside it: text2midi (Bhandari et al. 2024) reports 33.6 % for key and 39.7 % for the tempo bin;
other data, other judges.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import report
from models.bundle import open_bundle
from models.fill.sampling import requests_like, write_samples
from models.judge.evaluation import labellers, obedience, write_unasked
from models.network.likelihood import nats_per_note, piece_nats
from models.tokens.shards import Shard
from pipelines.running.params import load_params

TOKENS = Path("data/tokens")
STRENGTHS = (1.0, 1.5, 2.0, 3.0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=160)
    count = parser.parse_args().samples
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
    report.write("controls", rows, {})


if __name__ == "__main__":
    main()
