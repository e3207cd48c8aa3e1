"""What `evaluate` measures of samples: likeness to the training set, form, and how they were asked for. Each
stands beside real pieces."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from symusic import Score

from models.decoding.loop import Decoder
from models.fill.asked import form_places
from models.fill.compose import Composition, form_told
from models.fill.forms import Forms
from models.fill.request import FillRequest
from models.fill.sampling import Sample, key_obeyed, write_samples
from models.judge.obedience import cell_obedience, class_obedience, label_obedience
from models.judge.style_classifier import Labeller, train_labeller
from models.tokens.labels import Labels
from models.tokens.place import Told
from models.tokens.place_reader import PlaceReader, tracks_of
from models.tokens.shards import Shard, opening
from models.tokens.tokenizer import CellTokenizer
from music.analysis.similarity import RunIndex, melody
from music.analysis.structure import LAGS, repetition, shared_passage
from music.score.cells import PER_BAR, control_classes
from music.score.form import first_bars


def melodies_of(shard: Shard, tokenizer: CellTokenizer) -> tuple[list[np.ndarray], list[int]]:
    """Melody lines of a split and the piece each belongs to."""
    pairs = [(line, i) for i in range(len(shard)) for line in melody(tokenizer.decode_ids(shard.piece(i)))]
    return [line for line, _ in pairs], [owner for _, owner in pairs]


def originality(
    samples: Sequence[Score], human: Sequence[Score], index: RunIndex, train: Shard, tokenizer: CellTokenizer
) -> dict[str, Any]:
    """How often samples share a longer run of intervals with the train split than 95 % of held-out human
    openings do, and where."""
    human_runs = np.array([index.longest_run(melody(score))[0] for score in human])
    found = [index.longest_run(melody(score)) for score in samples]
    runs = np.array([run for run, _ in found])
    limit = float(np.percentile(human_runs, 95))
    return {
        "median_run": float(np.median(runs)),
        "human_median_run": float(np.median(human_runs)),
        "limit_run": limit,
        "share_above_limit": round(float((runs > limit).mean()), 4),
        "human_share_above_limit": round(float((human_runs > limit).mean()), 4),
        "excess": round(float((runs > limit).mean() - (human_runs > limit).mean()), 4),
        "nearest": [
            nearest_passage(score, int(run), owner, train, tokenizer)
            for score, (run, owner) in zip(samples, found, strict=True)
        ],
    }


def nearest_passage(
    score: Score, run: int, owner: int, train: Shard, tokenizer: CellTokenizer
) -> dict[str, Any]:
    """The training passage that shares the longest run with a sample: piece, its bar, the sample's bar,
    intervals in the run."""
    if owner < 0:
        return {"run": 0, "piece": "", "bar": 0, "of_bar": 0}
    bars = shared_passage(score, tokenizer.decode_ids(train.piece(owner)), run) or (0, 0)
    return {"run": run, "piece": train.records[owner]["piece_id"], "bar": bars[0], "of_bar": bars[1]}


def structure(groups: dict[str, Sequence[Score]]) -> dict[str, dict[str, float]]:
    """Mean share of bars that repeat the bar 4, 8, 16 bars before, for each group of scores: {"4 bars":
    {"model": .., "test": ..}}."""
    table: dict[str, dict[str, float]] = {}
    for lag in LAGS:
        row = {
            name: [value for score in scores if (value := repetition(score, lag)) is not None]
            for name, scores in groups.items()
        }
        if all(row.values()):
            table[f"{lag} bars"] = {name: round(float(np.mean(values)), 4) for name, values in row.items()}
    return table


def labellers(
    train: Shard, test: Shard, tokenizer: CellTokenizer, bars: int, most: int = 2000
) -> tuple[dict[str, Labeller], dict[str, float]]:
    """A classifier of style and one of rhythm, trained on the first `bars` bars of train pieces, and their
    accuracy on test pieces."""
    judges: dict[str, Labeller] = {}
    accuracy: dict[str, float] = {}
    for kind in ("style", "rhythm"):
        sides = []
        for shard in (train, test):
            known = [i for i, record in enumerate(shard.records) if record[kind]]
            known = known[:: max(len(known) // most, 1)]
            sides.append(
                (
                    [first_bars(tokenizer.decode_ids(shard.piece(i)), bars) for i in known],
                    [shard.records[i][kind] for i in known],
                )
            )
        if len(set(sides[0][1])) > 1 and sides[1][0]:
            judges[kind] = train_labeller(*sides[0])
            accuracy[kind] = round(judges[kind].accuracy(*sides[1]), 4)
    return judges, accuracy


def half_judges(train: Shard, tokenizer: CellTokenizer, bars: int) -> dict[str, Labeller]:
    """A classifier of style for rewards, from every second train piece: what is learned from it can then be
    judged by those of `labellers`, which saw others too."""
    known = [i for i, record in enumerate(train.records) if record["style"]][::2]
    labels = [train.records[i]["style"] for i in known]
    return (
        {"style": train_labeller([opening(train, tokenizer, i, bars) for i in known], labels)}
        if len(set(labels)) > 1
        else {}
    )


def obedience(
    samples: Sequence[Sample],
    unasked: Sequence[Sample],
    with_cells: Sequence[Sample],
    judges: dict[str, Labeller],
    accuracy: dict[str, float],
    human: Sequence[tuple[Score, str]],
    ticks_per_quarter: int,
) -> dict[str, dict[str, float]]:
    """Every control: share obeyed, chance, how many were asked; `human`: the same judge on real pieces with
    their own labels.

    `unasked`: samples in the same metres and instruments that were not told the controls. What they obey is
    given by the plan, not by the model.
    """

    def measured(some: Sequence[Sample]) -> dict[str, dict[str, float]]:
        answers = [(s.request, s.score) for s in some if s.score is not None]
        return label_obedience(
            answers, {kind: judge.name for kind, judge in judges.items()}
        ) | class_obedience(answers, ticks_per_quarter)

    cells = [(s.request, s.score) for s in with_cells if s.score is not None]
    table = measured(samples) | cell_obedience(cells, ticks_per_quarter)
    for kind, row in measured(unasked).items():
        table[kind]["unasked"] = row["obeyed"]
    labelled = [key_obeyed(score, key) for score, key in human if key]
    for kind, value in {**accuracy, "key": round(sum(labelled) / max(len(labelled), 1), 4)}.items():
        if kind in table:
            table[kind]["human"] = value
    return table


def ask_of_cells(
    requests: Sequence[FillRequest], pieces: Sequence[int], shard: Shard, tokenizer: CellTokenizer
) -> list[FillRequest]:
    """The same requests that also ask for the density and polyphony of every cell of the pieces they are
    like."""
    asked = []
    for request, i in zip(requests, pieces, strict=True):
        statistics = shard.statistics(i)
        tokens = shard.piece(i)[shard.bar_starts(i)].astype(int) - tokenizer.first_id["Bar"]
        lengths = tokenizer.bar_lengths[tokens]
        cells = {}
        for b in range(min(len(request.plan.metres), len(statistics))):
            for k in range(len(request.plan.programs)):
                told = control_classes(statistics[b : b + 1, k], int(lengths[b]), tokenizer.ticks_per_quarter)
                cells[b, k] = tuple((name, told.get(name, 0)) for name in PER_BAR)
        asked.append(replace(request, cells=cells, seed=request.seed + 1))
    return asked


def write_unasked(
    decoder: Decoder, tokenizer: CellTokenizer, requests: Sequence[FillRequest]
) -> list[Sample]:
    """The same plans with nothing asked; the answers are judged by what the requests had asked."""
    untold = [
        replace(request, labels=request.labels.without_controls(), seed=request.seed + 2, guidance=1.0)
        for request in requests
    ]
    return [
        replace(sample, request=request)
        for sample, request in zip(write_samples(decoder, tokenizer, untold), requests, strict=True)
    ]


def longer(
    requests: Sequence[FillRequest], bars: int, count: int, forms: Forms | None = None
) -> list[FillRequest]:
    """The first `count` requests for `bars` bars, with labels only: for form. forms: tunes are told one of
    them, as compositions are."""
    found = []
    for request in requests[:count]:
        plan = replace(request.plan, metres=(request.plan.metres[0],) * bars)
        labels = replace(
            request.labels.without_controls(),
            style=request.labels.style,
            rhythm=request.labels.rhythm,
            key=request.labels.key,
            bars=bars,
        )
        asked = Composition(labels.style, labels.rhythm, bars=bars)
        told = form_told(asked, len(plan.programs), forms, request.seed)
        places, copied = form_places(told, bars) if told else (None, ())
        found.append(
            replace(
                request,
                plan=plan,
                missing=np.ones((bars, len(plan.programs)), dtype=bool),
                labels=labels,
                cells={},
                form=places,
                copied=copied,
            )
        )
    return found


def write_form_samples(
    decoder: Decoder,
    tokenizer: CellTokenizer,
    requests: Sequence[FillRequest],
    bars: int,
    count: int,
    forms: Forms | None = None,
) -> list[Score]:
    """Valid samples of `longer` requests."""
    return [
        s.score
        for s in write_samples(decoder, tokenizer, longer(requests, bars, count, forms))
        if s.score is not None
    ]


def decoder_nats(
    decoder: Decoder, tokenizer: CellTokenizer, bodies: Sequence[np.ndarray], most: int
) -> float:
    """Mean nats of the first `most` tokens of pieces, fed one by one to a back end of decoding: what its
    rounding costs is seen against another."""
    total, count = 0.0, 0
    prefix, places = tokenizer.prefix(Labels()), PlaceReader(tokenizer)
    for first in range(0, len(bodies), decoder.slots):
        rows = {}
        for slot, body in enumerate(bodies[first : first + decoder.slots]):
            ids = np.concatenate([prefix, np.asarray(body[: min(most, decoder.context - len(prefix))])])
            rows[slot] = places.read(ids, Told(tracks_of(tokenizer, body), first_bar=0))
        scores = {slot: decoder.prefill(slot, row[: len(prefix)]) for slot, row in rows.items()}
        rows = {slot: row[len(prefix) :] for slot, row in rows.items()}
        for i in range(max(len(ids) for ids in rows.values())):
            able = [slot for slot, ids in rows.items() if i < len(ids)]
            for slot in able:
                row = scores[slot] - scores[slot].max()
                total += float(np.log(np.exp(row).sum()) - row[rows[slot][i, 0]])
                count += 1
            going = [slot for slot in able if i + 1 < len(rows[slot])]
            if going:
                found = decoder.step(np.array(going), np.array([rows[slot][i] for slot in going]))
                scores.update(zip(going, found, strict=True))
    return total / max(count, 1)
