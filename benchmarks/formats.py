"""Two fill formats at equal training: ours, and all context first with the missing cells alone after it.
Starter network, same regions, same steps.

Nats per note of what is missing in regions of the valid split, and of whole pieces.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks import report, short_runs
from models.judge.tasks import TASKS, Case, cases_of, sequence
from models.network.decoder import Network, sized
from models.network.likelihood import nats_per_note, piece_nats
from models.tokens.asking import Asking
from models.tokens.build import load_tokenizer
from models.tokens.labels import Labels
from models.tokens.layout import (
    AHEAD_SHARE,
    LEFT_SHARE,
    CellAsks,
    Grid,
    ahead_end,
    ask_tokens,
    begin,
    left_start,
)
from models.tokens.shards import Shard
from models.tokens.tokenizer import CellTokenizer
from models.tokens.windows import Augmentation, Mixture, WindowDataset
from pipelines.running.params import load_params

TOKENS = Path("data/tokens")


def context_first(
    t: CellTokenizer, grid: Grid, missing: np.ndarray, bars: tuple[int, int, int, int], asks: CellAsks
) -> tuple[list[int], list[bool]]:
    """Bars before and after with MASK in the gaps, then for every bar only the cells that are missing."""
    start, first, last, end = bars
    ids = [
        t.id_of("Part", "Ahead"),
        *grid.with_missing(missing).masked(start, max(end, first), t.mask_id),
        t.id_of("Part", "Fill"),
    ]
    scored = [False] * len(ids)
    open_before = False
    for b in range(first, last):
        for token, k in (
            (grid.bars[b], None),
            *((program, k) for k, program in enumerate(grid.programs) if missing[b, k]),
        ):
            ids.append(token)
            scored.append(open_before)
            open_before = k is not None
            if k is not None:
                told, cell = ask_tokens(t, asks.get((b, k), ())), grid.cells[b][k]
                assert cell is not None
                ids += [*told, *cell.tolist()]
                scored += [False] * len(told) + [True] * len(cell)
    return [*ids, t.eos_id], [*scored, open_before]


class ContextFirst(WindowDataset):
    """Training rows in that format."""

    def lay_out(
        self, grid: Grid, missing: np.ndarray, bars: tuple[int, int, int, int], asks: CellAsks
    ) -> tuple[list[int], list[bool]]:
        return context_first(self._tokenizer, grid, missing, bars, asks)


def context_first_sequence(t: CellTokenizer, case: Case, context: int) -> tuple[list[int], list[bool]]:
    hidden = case.grid.with_missing(case.missing)
    start, end = (
        left_start(hidden, case.first, int(LEFT_SHARE * context)),
        ahead_end(hidden, case.first, int(AHEAD_SHARE * context)),
    )
    prefix = begin(t, Labels(), start + case.offset)
    ids, scored = context_first(t, case.grid, case.missing, (start, case.first, case.last, end), {})
    return prefix + ids, [False] * len(prefix) + scored


@torch.inference_mode()
def nats(
    network: Network, cases: list[Case], lay_out: Callable[[Case], tuple[list[int], list[bool]]]
) -> float:
    total = 0.0
    for case in cases:
        ids, scored = lay_out(case)
        row = torch.tensor(ids[: network.config.context + 1])
        losses = F.cross_entropy(network(row[None, :-1])[0], row[1:], reduction="none")
        total += float(losses[torch.tensor(scored[1 : len(row)])].sum())
    return total / sum(case.notes for case in cases)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    steps = parser.parse_args().steps
    params, tokenizer = load_params(), load_tokenizer(TOKENS / "tokenizer.json")
    train, valid, context = Shard(TOKENS, "train"), Shard(TOKENS, "valid"), params.network.context
    chosen = range(0, len(valid), 3)
    rows: list[dict[str, Any]] = []
    layouts: dict[str, tuple[type[WindowDataset], Callable[[Case], tuple[list[int], list[bool]]]]] = {
        "ahead first, then bars in the format of a piece (ours)": (
            WindowDataset,
            lambda case: sequence(tokenizer, case, context, Labels(), True)[:2],
        ),
        "all context first, then the missing cells alone": (
            ContextFirst,
            lambda case: context_first_sequence(tokenizer, case, context),
        ),
    }
    for name, (dataset, lay_out) in layouts.items():
        torch.manual_seed(1)
        network = Network(sized("small", vocabulary=len(tokenizer), context=context))
        data = dataset(
            train,
            tokenizer,
            context,
            Augmentation(5, asking=Asking(controls=False)),
            Mixture(**params.pretrain.mixture.model_dump()),
            1,
            0,
            steps * short_runs.BATCH,
        )
        learned = float(np.mean([data[i][1].float().mean().item() for i in range(200)]))
        short_runs.train(network, data, steps)
        whole = piece_nats(network, tokenizer, [(valid.piece(i), valid.bar_starts(i)) for i in chosen])
        row: dict[str, Any] = {
            "format": name,
            "steps": steps,
            "tokens learned of those read": f"{learned:.0%}",
            "whole pieces": round(nats_per_note(whole, [int(valid.records[i]["notes"]) for i in chosen]), 3),
        }
        row |= {
            task: round(
                nats(network, cases_of(valid, tokenizer, task, count=80, seed=1, context=context), lay_out), 3
            )
            for task in TASKS
        }
        rows.append(row)
        print(row, flush=True)
    report.write("formats", rows, {})


if __name__ == "__main__":
    main()
