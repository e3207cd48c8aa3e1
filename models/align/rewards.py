"""Rewards: how near what was written is to how real music behaves, part by part.

Each part measures one value of a score in its unit. What it is worth, 0 to 1, is a distance to the values of
held-out real music of the same style, never the value itself: past the real mean (`reach`), or in the middle
of the real distribution (`near`), nothing more is to be won, so music that is too regular loses as music that
is too wild does. The reward of a score is the weighted mean of the parts that apply to it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from symusic import Score

from models.align.parts import PARTS, Heard, Tools
from models.fill.request import FillRequest
from music.analysis.endings import metre_profile
from music.analysis.voices import COMPASS, parallel_pitches, voice_grid
from music.score.form import bar_table, note_array
from music.score.keys import key_index

FEWEST = 12  # real pieces of a style below which all styles are compared with
TAIL = 0.2  # share at each end of the real values that costs
SOFT = 5.0  # an error rate so many times the real one halves the worth
# cost of a last note that is not the tonic: there is one in a piece, of parallels there may be many
ENDING = 4.0
STEADY = 1.0  # the least real rate taken, per 1,000


@dataclass(frozen=True)
class Reference:
    """Sorted values of each part on real pieces, by style ("" for all)."""

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    @classmethod
    def of(cls, pieces: Sequence[Heard], tools: Tools) -> "Reference":
        found: dict[str, dict[str, list[float]]] = {part.name: {"": []} for part in PARTS}
        for heard in pieces:
            for part in PARTS:
                value = part.value(heard, tools)
                if value is not None:
                    for style in {"", heard.labels.style}:
                        found[part.name].setdefault(style, []).append(round(value, 5))
        return cls(
            {
                name: {style: sorted(values) for style, values in by_style.items() if values}
                for name, by_style in found.items()
            }
        )

    def real(self, part: str, style: str) -> np.ndarray:
        """Values of real pieces of a style, or of all where there are too few of it."""
        by_style = self.values.get(part, {})
        mine = by_style.get(style, [])
        return np.array(mine if len(mine) >= FEWEST else by_style.get("", []))


def worth(kind: str, value: float, real: np.ndarray) -> float:
    """0 to 1. reach: from 0 at the lowest twentieth of the real values to 1 at their mean and above. near: 1
    inside the real values but for TAIL at either end, falling to 0 beyond. rare: 1 / (1 + value / (SOFT *
    real mean)). share: the value."""
    if kind == "share":
        return value
    if kind == "reach":
        low = float(np.quantile(real, 0.05))
        return float(np.clip((value - low) / max(real.mean() - low, 1e-6), 0, 1))
    if kind == "rare":
        return float(1 / (1 + value / (SOFT * max(real.mean(), STEADY))))
    below, above = (
        np.searchsorted(real, value, "right") / len(real),
        1 - np.searchsorted(real, value, "left") / len(real),
    )
    return float(min(min(below, above) / TAIL, 1.0))


@dataclass(frozen=True)
class Rewards:
    """Parts with their weights. `learned`: a reward of people's (models/align/preferences.py), with the share
    of the whole it may decide."""

    weights: Mapping[str, float]
    tools: Tools
    reference: Reference
    learned: Callable[[Heard], float] | None = None
    learned_share: float = 0.0

    def of_answer(self, request: FillRequest, score: Score) -> float:
        """Reward of an answer to a request: what drafts are chosen by."""
        return self.total(Heard(score, request.labels, request.given))

    def parts(self, heard: Heard) -> dict[str, tuple[float, float]]:
        """(value, worth) of every part that applies."""
        found = {}
        for part in PARTS:
            value = part.value(heard, self.tools)
            real = self.reference.real(part.name, heard.labels.style)
            if value is not None and (len(real) or part.worth == "share"):
                found[part.name] = (value, worth(part.worth, value, real))
        return found

    def faults(self, heard: Heard) -> dict[tuple[int, int], dict[int, float]]:
        """For single notes, (track, index in it), the pitches that would be wrong there and how wrong. Of
        four-part writing 1 for each parallel with a voice above, 1 outside the voice's compass; of the last
        notes of a piece in a key ENDING for what is not the tonic (in inner voices: its triad). Empty where
        no reward asks for any of this."""
        found = self._part_writing(heard) if heard.voices is not None else {}
        if heard.labels.key and (self.weights.get("ending", 0.0) or self.weights.get("close", 0.0)):
            tonic, _ = key_index(heard.labels.key)
            last = len(heard.score.tracks) - 1
            for k, track in enumerate(heard.score.tracks):
                if not len(track.notes) or track.is_drum:
                    continue
                right = {0} if k in (0, last) else {0, 3, 4, 7}
                wrong = {pitch: ENDING for pitch in range(128) if (pitch - tonic) % 12 not in right}
                number = len(track.notes) - 1
                mine = found.setdefault((k, number), {})
                found[k, number] = {
                    pitch: wrong.get(pitch, 0.0) + mine.get(pitch, 0.0) for pitch in {*wrong, *mine}
                }
        return found

    def _part_writing(self, heard: Heard) -> dict[tuple[int, int], dict[int, float]]:
        ticks, found = heard.score.tpq // 2, dict[tuple[int, int], dict[int, float]]()
        grid = voice_grid(heard.score, ticks)
        led, placed = (
            bool(self.weights.get("fifths", 0.0) or self.weights.get("octaves", 0.0)),
            bool(self.weights.get("compass", 0.0)),
        )
        for k, track in enumerate(heard.score.tracks):
            low, high = COMPASS[k]
            outside = dict.fromkeys([*range(low), *range(high + 1, 128)], 1.0) if placed else {}
            for number, (onset, duration, _) in enumerate(note_array(track).tolist()):
                step = -(-onset // ticks)
                wrong = (
                    parallel_pitches(grid, step, k, range(k))
                    if led and step < -(-(onset + duration) // ticks)
                    else {}
                )
                if wrong or outside:
                    found[k, number] = {
                        **outside,
                        **{pitch: outside.get(pitch, 0.0) + count for pitch, count in wrong.items()},
                    }
        return found

    def total(self, heard: Heard, parts: Mapping[str, tuple[float, float]] | None = None) -> float:
        """Weighted mean of the worths, 0 to 1, and of people's reward where there is one."""
        parts = self.parts(heard) if parts is None else parts
        weights = {name: self.weights.get(name, 0.0) for name in parts}
        ruled = sum(weights[name] * parts[name][1] for name in parts) / max(sum(weights.values()), 1e-9)
        return (
            ruled
            if self.learned is None
            else (1 - self.learned_share) * ruled + self.learned_share * self.learned(heard)
        )


def metre_profiles(scores: Sequence[Score]) -> dict[str, np.ndarray]:
    """Mean onset profile of the pieces of each metre (that of the last bar)."""
    found: dict[str, list[np.ndarray]] = {}
    for score in scores:
        _, _, numerator, denominator = bar_table(score)[-1].tolist()
        found.setdefault(f"{numerator}/{denominator}", []).append(metre_profile(score))
    return {metre: np.mean(rows, axis=0) for metre, rows in found.items()}
