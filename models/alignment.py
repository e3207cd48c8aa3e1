"""What alignment changed: takes of the network before and after it for the same held-out prompts, measured by the rewards, by one that training never saw, and by what must not fall."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from symusic import Score

from models.labelling import Judges
from models.ngram import NgramModel
from models.rewards import PARTS, Heard, Rewards, worth
from models.rollouts import Take
from models.rounds import distinct, heard
from models.tokens import CellTokenizer
from music.overlap import overlap
from music.similarity import RunIndex, melody

RESAMPLES = 2000
KEPT_OUT = "surprise"  # nats per note of the n-gram model: no part of any reward


def interval(change: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % interval of the mean of paired changes, by bootstrap over prompts (Efron & Tibshirani 1993)."""
    picks = np.random.default_rng(seed).integers(len(change), size=(RESAMPLES, len(change)))
    low, high = np.quantile(change[picks].mean(axis=1), [0.025, 0.975])
    return round(float(low), 4), round(float(high), 4)


def compare(before: Sequence[Take], after: Sequence[Take], real: Sequence[Heard], rewards: Rewards, ngram: NgramModel, tokenizer: CellTokenizer, judges: Judges, runs: RunIndex, seed: int) -> dict[str, Any]:
    """One table: each part's value on real openings, before and after, its worth before and after, and the interval of the change of worth.

    `before` and `after` answer the same requests, in order; `judges` name styles without having been learned from.
    """
    sides = {"before": [heard(take) for take in before], "after": [heard(take) for take in after]}
    parts = {name: [rewards.parts(h) for h in side] for name, side in sides.items()}
    totals = {name: np.array([rewards.total(h, p) for h, p in zip(side, parts[name], strict=True)]) for name, side in sides.items()}
    low, high = interval(totals["after"] - totals["before"], seed)
    real_parts = [rewards.parts(h) for h in real]
    openings, scores = [h.score for h in real], {name: [h.score for h in side] for name, side in sides.items()}
    return {
        "prompts": len(before),
        "reward": {"real": _mean(rewards.total(h, p) for h, p in zip(real, real_parts, strict=True)), "before": round(float(totals["before"].mean()), 4), "after": round(float(totals["after"].mean()), 4), "low": low, "high": high},
        "parts": {part.name: row for part in PARTS if (row := _part(part.name, parts["before"], parts["after"], real_parts, real, seed)) is not None},
        "kept_out": _kept_out(before, after, real, ngram, tokenizer, seed),
        "distinct": {"before": round(distinct(before), 4), "after": round(distinct(after), 4)},
        "overlap": {name: round(overlap(openings, side, seed)["mean"]["oa"], 4) for name, side in scores.items()},
        "copied": _copied({**sides, "real": list(real)}, runs),
        "style_named": {name: named for name, side in {**sides, "real": list(real)}.items() if (named := _named(side, judges)) is not None},
    }  # fmt: skip


def _mean(values: Iterable[Any]) -> float:
    return round(float(np.mean(list(values))), 4)


def _part(name: str, before: Sequence[Mapping[str, tuple[float, float]]], after: Sequence[Mapping[str, tuple[float, float]]], real: Sequence[Mapping[str, tuple[float, float]]], pieces: Sequence[Heard], seed: int) -> dict[str, float] | None:
    both = [(a[name], b[name]) for a, b in zip(before, after, strict=True) if name in a and name in b]
    if not both:
        return None
    old, new = np.array([a for a, _ in both]), np.array([b for _, b in both])
    by_style: dict[str, list[float]] = {}
    for row, piece in zip(real, pieces, strict=True):
        if name in row:
            by_style.setdefault(piece.labels.style, []).append(row[name][0])
    low, high = interval(new[:, 1] - old[:, 1], seed)
    return {"real": _mean(np.mean(values) for values in by_style.values()) if by_style else 1.0, "before": _mean(old[:, 0]), "after": _mean(new[:, 0]),
            "worth_before": _mean(old[:, 1]), "worth_after": _mean(new[:, 1]), "low": low, "high": high, "prompts": len(both)}  # fmt: skip


def _kept_out(before: Sequence[Take], after: Sequence[Take], real: Sequence[Heard], ngram: NgramModel, tokenizer: CellTokenizer, seed: int) -> dict[str, Any]:
    """Nats per note under the n-gram model, and its worth: a distance to real openings of the style."""
    def surprise(score: Score) -> float:
        return float(ngram.nats(tokenizer.encode_score(score)[0]).sum()) / max(score.note_num(), 1)

    known: dict[str, list[float]] = {}
    for piece in real:
        known.setdefault(piece.labels.style, []).append(surprise(piece.score))
    values = {name: np.array([surprise(take.score) for take in takes]) for name, takes in (("before", before), ("after", after))}
    worths = {name: np.array([worth("near", value, np.sort(known[take.request.labels.style])) for value, take in zip(mine, before, strict=True)]) for name, mine in values.items()}
    low, high = interval(worths["after"] - worths["before"], seed)
    return {"name": KEPT_OUT, "real": _mean(np.mean(v) for v in known.values()), "before": _mean(values["before"]), "after": _mean(values["after"]),
            "worth_before": _mean(worths["before"]), "worth_after": _mean(worths["after"]), "low": low, "high": high}  # fmt: skip


def _copied(sides: Mapping[str, Sequence[Heard]], runs: RunIndex) -> dict[str, float]:
    """Share whose longest run of intervals shared with the train split is longer than that of 95 % of real openings."""
    def longest(h: Heard) -> int:
        return runs.longest_run([line for k in range(len(h.score.tracks)) if k not in h.given for line in melody(h.score, k)])[0]

    found = {name: np.array([longest(h) for h in side]) for name, side in sides.items()}
    limit = np.percentile(found["real"], 95)
    return {name: round(float((values > limit).mean()), 4) for name, values in found.items()}


def _named(side: Sequence[Heard], judges: Judges) -> float | None:
    judge = judges.get("style")
    mine = [h for h in side if judge is not None and h.labels.style in judge.labels]
    return round(judge.accuracy([h.score for h in mine], [h.labels.style for h in mine]), 4) if judge is not None and mine else None
