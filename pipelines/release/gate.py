"""The gate: hard floors for every candidate, and a paired bootstrap against the champion on the same test
pieces."""

import json
import math
import time
from dataclasses import asdict, dataclass
from operator import ge, gt, le
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from symusic import Score

from models.bundle import Bundle
from models.decoding.script import Plan
from models.fill.fill import fill
from models.fill.request import FillRequest, empty
from models.network.likelihood import piece_nats
from models.tokens.labels import Labels
from models.tokens.tokenizer import NotRepresentable
from pipelines.running.files import StageError
from pipelines.running.params import Gate

SCORES = Path("data/prepared/scores.parquet")


@dataclass(frozen=True)
class Check:
    """One number against its threshold. NaN never passes."""

    name: str
    value: float
    op: str
    threshold: float

    @property
    def passed(self) -> bool:
        if math.isnan(self.value):
            return False
        return {">=": ge, "<=": le, ">": gt}[self.op](self.value, self.threshold)

    def __str__(self) -> str:
        return (
            f"{'pass' if self.passed else 'FAIL'}  {self.name:<28} {self.value:>10.4f} {self.op} "
            f"{self.threshold:g}"
        )


@dataclass(frozen=True)
class Verdict:
    """Every check of one candidate against one champion ("" where there was none)."""

    candidate: str
    champion: str
    checks: tuple[Check, ...]
    lowered: tuple[str, ...] = ()  # floors of params.yaml that lie below those a release is held to

    @classmethod
    def of(cls, stored: dict[str, Any]) -> "Verdict":
        """What `to_json` wrote, read."""
        nan = float("nan")
        checks = tuple(
            Check(c["name"], nan if c["value"] is None else c["value"], c["op"], c["threshold"])
            for c in stored["checks"]
        )
        return cls(stored["candidate"], stored["champion"], checks, tuple(stored.get("lowered", ())))

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def to_json(self) -> str:
        rows = [
            {
                **asdict(check),
                "value": None if math.isnan(check.value) else check.value,
                "passed": check.passed,
            }
            for check in self.checks
        ]
        return json.dumps(
            {
                "candidate": self.candidate,
                "champion": self.champion,
                "passed": self.passed,
                "lowered": self.lowered,
                "checks": rows,
            }
        )

    def __str__(self) -> str:
        against = f"champion {self.champion[:16]}" if self.champion else "no champion yet: hard floors only"
        return "\n".join(
            [
                f"gate for {self.candidate[:16]} ({against})",
                *(f"  {check}" for check in self.checks),
                *([f"  a quick look, no release: {', '.join(self.lowered)}"] if self.lowered else []),
                f"  verdict: {'pass' if self.passed else 'FAIL'}",
            ]
        )


def floors(metrics: dict[str, Any], gate: Gate) -> list[Check]:
    """What every candidate must reach, champion or not."""
    return [
        Check("validity", metrics["validity"], ">=", gate.min_validity),
        Check("below_ngram", metrics["below_ngram"], ">=", gate.min_below_ngram),
        Check("overlap_gain", metrics["overlap_gain"], ">=", gate.min_overlap_gain),
        Check(
            "key_obedience",
            metrics["obedience"].get("key", {"obeyed": math.nan})["obeyed"],
            ">=",
            gate.min_key_obedience,
        ),
        Check("originality_excess", metrics["originality"]["excess"], "<=", gate.max_originality_excess),
        *music_floors(metrics, gate),
    ]


def music_floors(metrics: dict[str, Any], gate: Gate) -> list[Check]:
    """How pieces must end, sound together and obey; of kinds of music that the test split has."""
    mine = metrics["music"]["model"]
    checks = []
    if "tonic" in mine["tunes"]:
        checks.append(Check("ends_on_tonic", mine["tunes"]["tonic"], ">=", gate.min_ends_on_tonic))
    if mine["chorales"]:
        checks.append(Check("chords", mine["chorales"]["chords"], ">=", gate.min_chords))
    checks.append(Check("controls_earned", len(metrics["controls_earned"]), ">=", gate.min_controls))
    return checks


def alignment_floors(table: dict[str, Any], gate: Gate) -> list[Check]:
    """What alignment must not have cost, against the same network before it; nothing where there was none."""
    if not table:
        return []
    return [
        Check("align_nats_ratio", table["nats_per_note"]["ratio"], "<=", 1 + gate.max_align_worse),
        Check(
            "align_distinct_ratio",
            table["distinct"]["after"] / table["distinct"]["before"],
            ">=",
            gate.min_align_distinct,
        ),
        Check(
            "align_overlap_gain",
            table["overlap"]["after"] - table["overlap"]["before"],
            ">=",
            gate.min_align_overlap,
        ),
        Check(
            "align_copied_more",
            table["copied"]["after"] - table["copied"]["before"],
            "<=",
            gate.max_align_copied,
        ),
        Check(
            "align_kept_out_upper_bound", table["kept_out"]["high"], ">=", 0.0
        ),  # below it, the reward that training never saw surely fell
        Check("align_reward_upper_bound", table["reward"]["high"], ">=", gate.min_align_reward),
    ]


def bootstrap_upper_bound(
    candidate: np.ndarray,
    champion: np.ndarray,
    notes: np.ndarray,
    resamples: int,
    confidence: float,
    seed: int = 0,
) -> float:
    """Upper bound, one-sided, of the difference in nats per note (candidate - champion) over resampled pieces
    (Efron & Tibshirani 1993)."""
    random = np.random.default_rng(seed)
    picks = random.integers(len(notes), size=(resamples, len(notes)))
    differences = (candidate - champion)[picks].sum(axis=1) / notes[picks].sum(axis=1)
    return float(np.quantile(differences, confidence))


def champion_nats(candidate: Bundle, champion: Bundle) -> dict[str, float]:
    """Nats of each of the candidate's test pieces under the champion: as stored if the test split is the
    same, else scored now."""
    pieces = candidate.evaluation["pieces"]
    if candidate.evaluation["test_digest"] == champion.evaluation["test_digest"]:
        return {name: row["nats"] for name, row in champion.evaluation["pieces"].items() if name in pieces}
    table = pq.read_table(SCORES, columns=["piece_id", "midi"]).to_pylist() if SCORES.exists() else []
    midi = {row["piece_id"]: row["midi"] for row in table if row["piece_id"] in pieces}
    if len(midi) < len(pieces):
        raise StageError(
            "the champion was tested on another split and the candidate's test pieces are not "
            "here: run `dvc checkout` or `dvc repro` first"
        )
    encoded = {}
    for name, data in midi.items():
        try:
            encoded[name] = champion.tokenizer.encode_score(Score.from_midi(data))
        except NotRepresentable:
            continue  # a metre or program the champion never learned; compared on the rest
    nats = piece_nats(champion.network, champion.tokenizer, list(encoded.values()))
    return {name: float(values.sum()) for name, values in zip(encoded, nats, strict=True)}


def decoding_seconds(bundles: list[Bundle], rounds: int = 5) -> list[float]:
    """Median seconds to write eight bars, for each bundle, measured in turns so that a noisy machine is noisy
    for all."""
    seconds: list[list[float]] = [[] for _ in bundles]
    for turn in range(rounds):
        for bundle, mine in zip(bundles, seconds, strict=True):
            tokenizer = bundle.tokenizer
            plan = Plan((tokenizer.metres[0],) * 8, (tokenizer.programs[0],))
            decoder = bundle.decoder(1)
            begin = time.perf_counter()
            ids = fill(decoder, tokenizer, [FillRequest(plan, empty(plan), Labels(), seed=turn)])[0].ids
            mine.append((time.perf_counter() - begin) / len(ids))  # a token: lengths differ between models
    return [float(np.median(mine)) for mine in seconds]


def worse_nats(candidate: Bundle, other: Bundle, gate: Gate) -> float:
    """Upper bound of how many more nats per note the candidate needs than another bundle on its test pieces.
    Raises StageError where the other can read none of them."""
    theirs, mine = champion_nats(candidate, other), candidate.evaluation["pieces"]
    if not theirs:
        raise StageError(
            f"bundle {other.tag} can read none of the candidate's test pieces: they cannot be "
            f"compared; promote with --force --reason if that is meant"
        )
    columns = np.array([(mine[name]["nats"], nats, mine[name]["notes"]) for name, nats in theirs.items()])
    return bootstrap_upper_bound(columns[:, 0], columns[:, 1], columns[:, 2], gate.bootstrap, gate.confidence)


def judge(
    candidate: Bundle,
    champion: Bundle | None,
    gate: Gate,
    *,
    best: Bundle | None = None,
    improved: bool = False,
    held_to_all: bool = False,
) -> Verdict:
    """Floors; against a champion, and against the best that ever was one, the bootstrap; the latency ratio.

    improved: alignment must have won reward. held_to_all: the champion passed the floors of a release, so
    that no candidate with lower ones may follow it.
    """
    metrics, lowered = candidate.evaluation["metrics"], tuple(gate.lowered())
    aligned = metrics.get("alignment", {})
    checks = [*floors(metrics, gate), *alignment_floors(aligned, gate)]
    if lowered and held_to_all:
        checks.append(Check("floors_lowered", len(lowered), "<=", 0))
    if improved:
        low = aligned["reward"]["low"] if aligned else math.nan
        checks.append(Check("align_reward_lower_bound", low, ">", 0.0))
    if champion is not None and not champion.runs:  # nothing can be said of it: a person must say so
        checks.append(Check("champion_can_be_run", 0, ">=", 1))
    elif champion is not None:
        worse = worse_nats(candidate, champion, gate)
        own, theirs = decoding_seconds([candidate, champion])
        checks.append(Check("worse_nats_upper_bound", worse, "<=", gate.max_worse_nats))
        checks.append(Check("latency_ratio", own / theirs, "<=", gate.max_latency_ratio))
        if best is not None and best.runs and best.digest not in (champion.digest, candidate.digest):
            worst = worse_nats(candidate, best, gate)
            checks.append(Check("worse_than_best_ever_upper_bound", worst, "<=", gate.max_worse_nats))
    return Verdict(candidate.digest, champion.digest if champion else "", tuple(checks), lowered)
