"""What alignment changed: takes of the network before and after it for the same held-out prompts, measured by
the rewards, by one that training never saw, and by what must not fall."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from symusic import Score

from models.align.parts import PARTS, Heard
from models.align.preferences import Jury, Preference
from models.align.rewards import Rewards, worth
from models.align.rollouts import Take
from models.align.rounds import distinct, heard
from models.judge.ngram import NgramModel
from models.judge.style_classifier import Judges
from models.tokens.tokenizer import CellTokenizer
from music.analysis.overlap import overlap
from music.analysis.similarity import RunIndex, melody
from music.score.form import to_midi

RESAMPLES = 2000
KEPT_OUT = "surprise"  # nats per note of the n-gram model: no part of any reward


def interval(change: np.ndarray, seed: int) -> tuple[float, float]:
    """95 % interval of the mean of paired changes, by bootstrap over prompts (Efron & Tibshirani 1993)."""
    picks = np.random.default_rng(seed).integers(len(change), size=(RESAMPLES, len(change)))
    low, high = np.quantile(change[picks].mean(axis=1), [0.025, 0.975])
    return round(float(low), 4), round(float(high), 4)


def compare(
    before: Sequence[Take],
    after: Sequence[Take],
    real: Sequence[Heard],
    rewards: Rewards,
    ngram: NgramModel,
    tokenizer: CellTokenizer,
    judges: Judges,
    runs: RunIndex,
    seed: int,
) -> dict[str, Any]:
    """One table: each part's value on real openings, before and after, its worth before and after, and the
    interval of the change of worth.

    `before` and `after` answer the same requests, in order; `judges` name styles without having been learned
    from.
    """
    sides = {"before": [heard(take) for take in before], "after": [heard(take) for take in after]}
    parts = {name: [rewards.parts(h) for h in side] for name, side in sides.items()}
    totals = {
        name: np.array([rewards.total(h, p) for h, p in zip(side, parts[name], strict=True)])
        for name, side in sides.items()
    }
    low, high = interval(totals["after"] - totals["before"], seed)
    real_parts = [rewards.parts(h) for h in real]
    openings, scores = (
        [h.score for h in real],
        {name: [h.score for h in side] for name, side in sides.items()},
    )
    return {
        "prompts": len(before),
        "reward": {
            "real": _mean(rewards.total(h, p) for h, p in zip(real, real_parts, strict=True)),
            "before": round(float(totals["before"].mean()), 4),
            "after": round(float(totals["after"].mean()), 4),
            "low": low,
            "high": high,
        },
        "parts": {
            part.name: row
            for part in PARTS
            if (row := _part(part.name, parts["before"], parts["after"], real_parts, real, seed)) is not None
        },
        "kept_out": _kept_out(before, after, real, ngram, tokenizer, seed),
        "distinct": {"before": round(distinct(before), 4), "after": round(distinct(after), 4)},
        "overlap": {
            name: round(overlap(openings, side, seed)["mean"]["oa"], 4) for name, side in scores.items()
        },
        "copied": _copied({**sides, "real": list(real)}, runs),
        "style_named": {
            name: named
            for name, side in {**sides, "real": list(real)}.items()
            if (named := _named(side, judges)) is not None
        },
    }


def _mean(values: Iterable[Any]) -> float:
    return round(float(np.mean(list(values))), 4)


def _part(
    name: str,
    before: Sequence[Mapping[str, tuple[float, float]]],
    after: Sequence[Mapping[str, tuple[float, float]]],
    real: Sequence[Mapping[str, tuple[float, float]]],
    pieces: Sequence[Heard],
    seed: int,
) -> dict[str, float] | None:
    both = [(a[name], b[name]) for a, b in zip(before, after, strict=True) if name in a and name in b]
    if not both:
        return None
    old, new = np.array([a for a, _ in both]), np.array([b for _, b in both])
    by_style: dict[str, list[float]] = {}
    for row, piece in zip(real, pieces, strict=True):
        if name in row:
            by_style.setdefault(piece.labels.style, []).append(row[name][0])
    low, high = interval(new[:, 1] - old[:, 1], seed)
    return {
        "real": _mean(np.mean(values) for values in by_style.values()) if by_style else 1.0,
        "before": _mean(old[:, 0]),
        "after": _mean(new[:, 0]),
        "worth_before": _mean(old[:, 1]),
        "worth_after": _mean(new[:, 1]),
        "low": low,
        "high": high,
        "prompts": len(both),
    }


def _kept_out(
    before: Sequence[Take],
    after: Sequence[Take],
    real: Sequence[Heard],
    ngram: NgramModel,
    tokenizer: CellTokenizer,
    seed: int,
) -> dict[str, Any]:
    """Nats per note under the n-gram model, and its worth: a distance to real openings of the style."""

    def surprise(score: Score) -> float:
        return float(ngram.nats(tokenizer.encode_score(score)[0]).sum()) / max(score.note_num(), 1)

    known: dict[str, list[float]] = {}
    for piece in real:
        known.setdefault(piece.labels.style, []).append(surprise(piece.score))
    values = {
        name: np.array([surprise(take.score) for take in takes])
        for name, takes in (("before", before), ("after", after))
    }
    worths = {
        name: np.array(
            [
                worth("near", value, np.sort(known[take.request.labels.style]))
                for value, take in zip(mine, before, strict=True)
            ]
        )
        for name, mine in values.items()
    }
    low, high = interval(worths["after"] - worths["before"], seed)
    return {
        "name": KEPT_OUT,
        "real": _mean(np.mean(v) for v in known.values()),
        "before": _mean(values["before"]),
        "after": _mean(values["after"]),
        "worth_before": _mean(worths["before"]),
        "worth_after": _mean(worths["after"]),
        "low": low,
        "high": high,
    }


def _copied(sides: Mapping[str, Sequence[Heard]], runs: RunIndex) -> dict[str, float]:
    """Share whose longest run of intervals shared with the train split is longer than that of 95 % of real
    openings."""

    def longest(h: Heard) -> int:
        return runs.longest_run(
            [line for k in range(len(h.score.tracks)) if k not in h.given for line in melody(h.score, k)]
        )[0]

    found = {name: np.array([longest(h) for h in side]) for name, side in sides.items()}
    limit = np.percentile(found["real"], 95)
    return {name: round(float((values > limit).mean()), 4) for name, values in found.items()}


def _named(side: Sequence[Heard], judges: Judges) -> float | None:
    judge = judges.get("style")
    mine = [h for h in side if judge is not None and h.labels.style in judge.labels]
    return (
        round(judge.accuracy([h.score for h in mine], [h.labels.style for h in mine]), 4)
        if judge is not None and mine
        else None
    )


SHOWN = 3  # examples of each reason in the report


def takes_rows(takes: Sequence[Take], totals: np.ndarray, rewards: Rewards) -> list[dict[str, Any]]:
    """What the model wrote before it learned, ranked: the preference data of its own, a row a take."""
    return [
        {
            "prompt": n // totals.shape[1],
            "take": n % totals.shape[1],
            "reward": float(totals.ravel()[n]),
            "parts": json.dumps(
                {name: [round(x, 4) for x in both] for name, both in rewards.parts(heard(take)).items()}
            ),
            "asked": _asked(take),
            "midi": to_midi(take.score),
        }
        for n, take in enumerate(takes)
    ]


def _asked(take: Take) -> str:
    labels, given = take.request.labels, take.request.given
    return ", ".join(
        filter(
            None,
            (
                labels.style,
                labels.rhythm,
                labels.key,
                f"{labels.bars} bars",
                f"tracks {', '.join(str(k + 1) for k in given)} given" if given else "",
            ),
        )
    )


def preference_report(
    takes: Sequence[Take],
    totals: np.ndarray,
    rewards: Rewards,
    preferences: Sequence[Preference],
    counted: np.ndarray,
    quarantined: Mapping[str, Sequence[Preference]],
    share: float,
) -> dict[str, Any]:
    """Counts and examples of the preference data. counted: how much each comparison counts; share: of the
    reward that people may decide."""
    jury = rewards.learned
    best = [
        {
            "asked": _asked(takes[p * totals.shape[1]]),
            "best": round(float(mine.max()), 4),
            "worst": round(float(mine.min()), 4),
        }
        for p, mine in enumerate(totals[:SHOWN])
    ]
    return {
        "own": {
            "prompts": len(totals),
            "takes": len(takes),
            "mean_reward": round(float(totals.mean()), 4),
            "examples": best,
        },
        "people": {
            "comparisons": len(preferences),
            "users": len({p.user for p in preferences}),
            "by": dict(Counter(p.by for p in preferences)),
            "mean_weight": round(float(counted.mean()), 4) if len(counted) else 0.0,
            "most_one_user_moves": round(share * (jury.bound(1) if isinstance(jury, Jury) else 1.0), 4),
        },
        "quarantined": {
            why: {
                "rows": len(rows),
                "examples": [
                    {"user": p.user, "time": p.time, "chosen": p.chosen_id, "rejected": p.rejected_id}
                    for p in rows[:SHOWN]
                ],
            }
            for why, rows in quarantined.items()
        },
    }
