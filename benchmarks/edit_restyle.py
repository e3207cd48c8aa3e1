"""Restyling test tunes: is the asked style named afterwards, and how much of the tune is kept, over strength;
against filling as much with no style asked.

Two judges, both trained on the train split: the bundle's own (logistic regressions), which chose among takes,
and one of another kind that it never met (boosted trees). The target is on the second.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from symusic import Score

from benchmarks import report
from benchmarks.edit_bench import TOKENS, Bench
from benchmarks.edit_music import TreeJudge, content_similarity
from models.bundle import open_bundle
from models.edit.tasks import Edit
from models.tokens.shards import Shard
from music.score.file_cells import FileCells
from music.score.form import first_bars

STRENGTHS, BARS = (0.2, 0.4, 0.6, 0.8, 1.0), 16


def restyling(bench: Bench, count: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows and targets."""
    train = Shard(TOKENS, "train")
    folk = [s for s in bench.t.styles if s != "chorale"]
    labelled = [i for i in range(len(train)) if train.records[i]["style"] in folk]
    other = TreeJudge(
        [first_bars(bench.t.decode_ids(train.piece(i)), BARS) for i in labelled],
        [train.records[i]["style"] for i in labelled],
    )
    judges = {"chose": bench.bundle.judges["style"].name, "did not": other.name}
    pool = [
        i
        for i in range(len(bench.files))
        if bench.files[i].shape[1] == 1
        and 16 <= bench.files[i].shape[0] <= 48
        and bench.records[i]["style"] in folk
    ]
    right = {
        who: share(name([opening(bench.files[i]) for i in pool]), [bench.records[i]["style"] for i in pool])
        for who, name in judges.items()
    }
    random = np.random.default_rng(3)
    chosen = [int(random.choice(pool)) for _ in range(count)]
    wanted = [str(random.choice([s for s in folk if s != bench.records[i]["style"]])) for i in chosen]
    strangers = _strangers(bench, pool, wanted, random)

    def row(what: str, strength: float, files: Sequence[FileCells], similarity: float) -> dict[str, Any]:
        told = {
            f"target named by the judge that {who}": f"{share(name([opening(f) for f in files]), wanted):.1%}"
            for who, name in judges.items()
        }
        found = {
            "what": what,
            "strength": strength,
            "tunes": len(files),
            **told,
            "content similarity": f"{similarity:.3f}",
        }
        print(found, flush=True)
        return found

    before = [bench.files[i] for i in chosen]
    rows = [row("as it was", 0.0, before, 1.0)]
    rows.append({"what": "two tunes of the target style", "content similarity": f"{strangers:.3f}"})
    rows.append(
        {
            "what": f"real tunes named rightly, of {len(pool)}",
            **{f"target named by the judge that {who}": f"{value:.1%}" for who, value in right.items()},
        }
    )
    targets: dict[str, Any] = {}
    for strength in STRENGTHS:
        for what, operation in (("restyled", "restyle"), ("as much filled, no style asked", "vary")):
            files, alike = [], []
            for n, (i, style) in enumerate(zip(chosen, wanted, strict=True)):
                answer = bench.edit(
                    bench.files[i],
                    Edit(
                        operation,
                        None,
                        (0,),
                        style=style if operation == "restyle" else "",
                        strength=strength,
                        seed=n,
                    ),
                )
                files.append(answer.file if answer else bench.files[i])
                alike.append(content_similarity(bench.files[i].score, files[-1].score))
            rows.append(row(what, strength, files, float(np.mean(alike))))
            if strength == 0.6 and operation == "restyle":
                targets = {
                    "restyle_named_at_0_6": report.target(
                        share(other.name([opening(f) for f in files]), wanted), ">=", 0.6
                    ),
                    "restyle_similarity_above_strangers": report.target(
                        float(np.mean(alike)) - strangers, ">=", 0.05
                    ),
                }
    return rows, targets


def _strangers(
    bench: Bench, pool: Sequence[int], styles: Sequence[str], random: np.random.Generator
) -> float:
    """Mean content similarity of two tunes drawn from each of the styles."""
    of = {s: [bench.files[i].score for i in pool if bench.records[i]["style"] == s] for s in set(styles)}
    pairs = [random.choice(len(of[s]), 2, replace=False) for s in styles]
    return float(
        np.mean(
            [
                content_similarity(of[s][int(a)], of[s][int(b)])
                for s, (a, b) in zip(styles, pairs, strict=True)
            ]
        )
    )


def opening(file: FileCells) -> Score:
    return first_bars(file.score, BARS)


def share(found: Sequence[str], wanted: Sequence[str]) -> float:
    return float(np.mean([a == b for a, b in zip(found, wanted, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=60, help="tunes; each is restyled at every strength")
    report.write("edit_restyle", *restyling(Bench(open_bundle(Path("bundle"))), parser.parse_args().count))


if __name__ == "__main__":
    main()
