"""Whether controls earn their place: each is asked for evenly over its whole range, not near what a prompt
has anyway, and what comes is compared with what was asked and with what comes unasked."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import spearmanr

from models.decoding.loop import Decoder
from models.fill.compose import TEMPERATURE
from models.fill.parts import as_played, polyphonic
from models.fill.request import FillRequest
from models.fill.sampling import requests_like, write_samples
from models.tokens.labels import Labels, TrackAsk
from models.tokens.shards import Shard
from models.tokens.tokenizer import CellTokenizer
from music.score.cells import CELL_CONTROLS, CellControl, cell_statistics, control_values
from music.score.form import bar_table

Table = dict[str, dict[str, float]]


def asked_evenly(
    decoder: Decoder,
    tokenizer: CellTokenizer,
    shard: Shard,
    *,
    each: int,
    bars: int,
    seed: int,
    steered: bool = True,
) -> Table:
    """Of each control: `rank`, Spearman's correlation of the class asked with the value that came; `exact`,
    share of answers in the class asked; the same `unasked`, of the same requests where it was not asked.
    `each`: requests a class, for one melody of `bars` bars; `steered` as in models/fill/request.py."""
    table: Table = {}
    for n, control in enumerate(CELL_CONTROLS):
        count = each * control.classes
        requests, _ = requests_like(
            shard, tokenizer, count=4 * count, bars=bars, seed=seed + n, temperature=TEMPERATURE, top_p=0.98
        )
        alone = [request for request in requests if len(request.plan.programs) == 1][:count]
        if len(alone) < control.classes:
            continue
        classes = [k % control.classes for k in range(len(alone))]
        asked = [
            replace(_asking(tokenizer, request, control, index), steered=steered)
            for request, index in zip(alone, classes, strict=True)
        ]
        untold = [_asking(tokenizer, request, control, None) for request in alone]
        table[control.name] = {
            **_agreement(decoder, tokenizer, control, asked, classes),
            **{
                f"unasked_{name}": value
                for name, value in _agreement(decoder, tokenizer, control, untold, classes).items()
            },
            "asked": len(alone),
        }
    return table


def _asking(
    tokenizer: CellTokenizer, request: FillRequest, control: CellControl, index: int | None
) -> FillRequest:
    """The same request with its style, dance and key, and of controls this one alone."""
    labels: Labels = request.labels
    tracks = (TrackAsk(request.plan.programs[0], () if index is None else ((control.name, index),)),)
    locks = replace(request.locks, ranges={}, lines=frozenset())
    locks = as_played(tokenizer, request.plan.programs, labels.style, locks, polyphonic(tracks))
    return replace(request, labels=replace(labels, tracks=tracks), locks=locks)


def _agreement(
    decoder: Decoder,
    tokenizer: CellTokenizer,
    control: CellControl,
    requests: Sequence[FillRequest],
    classes: Sequence[int],
) -> dict[str, float]:
    asked, came = [], []
    for sample, index in zip(write_samples(decoder, tokenizer, requests), classes, strict=True):
        if sample.score is None:
            continue
        length = int(bar_table(sample.score)[:, 1].sum())
        values = control_values(cell_statistics(sample.score)[:, 0], length, sample.score.tpq)
        if values is not None:
            asked.append(index)
            came.append(values[control.name])
    varied = len(set(asked)) > 1 and len(set(came)) > 1
    rank = float(spearmanr(asked, came).statistic) if varied else 0.0
    exact = float(
        np.mean([control.class_of(value) == index for value, index in zip(came, asked, strict=True)])
    )
    return {"rank": round(rank, 4), "exact": round(exact, 4)}


def earned(table: Table, rank: float, exact: float) -> list[str]:
    """Controls obeyed well enough to be offered, of `asked_evenly`: what comes goes with what is asked
    at least so closely (rank correlation), and is at least so often in the class asked."""
    return [
        control.name
        for control in CELL_CONTROLS
        if (row := table.get(control.name)) and row["rank"] >= rank and row["exact"] >= exact
    ]
