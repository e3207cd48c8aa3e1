"""Rewards: how near what was written is to how real music behaves, part by part.

Each part measures one value of a score in its unit. What it is worth, 0 to 1, is a distance to the values of held-out real music of the same
style, never the value itself: past the real mean (`reach`), or in the middle of the real distribution (`near`), nothing more is to be won, so
music that is too regular loses as music that is too wild does. The reward of a score is the weighted mean of the parts that apply to it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from symusic import Score

from models.labelling import Judges
from models.labels import Labels
from music.cells import cell_statistics, control_classes
from music.descriptors import describe, histograms
from music.endings import cadence, key_margin, metre_profile
from music.score import bar_table, note_array
from music.similarity import RunIndex, melody
from music.structure import repetition
from music.voices import COMPASS, VoiceLeading, parallel_pitches, voice_grid, voice_leading

VOICES, FEWEST, TAIL = 4, 12, 0.2  # tracks of four-part writing; real pieces of a style below which all styles are compared with; share at each end of the real values that costs
SOFT, STEADY = 5.0, 1.0  # an error rate so many times the real one halves the worth; the least real rate taken, per 1,000
LAG = 4  # bars after which phrases come back


@dataclass
class Heard:
    """A score and what was asked of it, measured once however many parts look at it."""

    score: Score
    labels: Labels
    given: tuple[int, ...] = ()  # tracks that were not written but given

    @cached_property
    def descriptors(self) -> dict[str, float]:
        return describe(self.score)

    @cached_property
    def pitch_classes(self) -> np.ndarray:
        return histograms(self.score)["pitch_class_histogram"]

    @cached_property
    def voices(self) -> VoiceLeading | None:
        """Of four pitched tracks, looked at every eighth; None for others."""
        able = len(self.score.tracks) == VOICES and all(len(t.notes) and not t.is_drum for t in self.score.tracks)
        return voice_leading(self.score, self.score.tpq // 2) if able else None


@dataclass(frozen=True)
class Tools:
    """What parts read beside the score: judges of style and dance, onset profiles of each metre in real music, melodies of the train split."""

    judges: Judges
    metres: Mapping[str, np.ndarray]
    runs: RunIndex


@dataclass(frozen=True)
class Part:
    """One reward. worth: `reach` (up to the real mean), `near` (within the real distribution), `rare` (an error rate), `share` (as it is)."""

    name: str
    unit: str
    source: str
    worth: str
    value: Callable[[Heard, Tools], float | None]


def _style(heard: Heard, tools: Tools) -> float | None:
    judge = tools.judges.get("style")
    if judge is None or heard.labels.style not in judge.labels:
        return None
    return float(np.exp(judge.log_probabilities([heard.score])[0, judge.labels.index(heard.labels.style)]))


def _controls(heard: Heard, tools: Tools) -> float | None:
    statistics, length = cell_statistics(heard.score), int(bar_table(heard.score)[:, 1].sum())
    hits = []
    for k, track in enumerate(heard.labels.tracks):
        found = control_classes(statistics[:, k], length, heard.score.tpq)
        hits += [max(0.0, 1 - abs(found.get(name, -9) - index) / 2) for name, index in track.classes]
    return float(np.mean(hits)) if hits else None


def _metre(heard: Heard, tools: Tools) -> float | None:
    _, _, numerator, denominator = bar_table(heard.score)[-1].tolist()
    real = tools.metres.get(f"{numerator}/{denominator}")
    if real is None:
        return None
    mine = metre_profile(heard.score)
    return float(mine @ real / max(np.linalg.norm(mine) * np.linalg.norm(real), 1e-12))


def _written(heard: Heard) -> list[np.ndarray]:
    return [line for k in range(len(heard.score.tracks)) if k not in heard.given for line in melody(heard.score, k)]


def _per_moves(count: Callable[[VoiceLeading], int]) -> Callable[[Heard, Tools], float | None]:
    return lambda heard, tools: 1000 * count(heard.voices) / heard.voices.moves if heard.voices is not None and heard.voices.moves else None


PARTS = (
    Part("style", "probability", "classifier of models/labelling.py on half of the train split", "reach", _style),
    Part("controls", "share, half for a neighbouring class", "classes of music/cells.py", "share", _controls),
    Part("key", "correlation above the best other key", "Krumhansl & Kessler 1982", "reach", lambda heard, tools: key_margin(heard.pitch_classes, heard.labels.key) if heard.labels.key else None),
    Part("metre", "cosine with the metre's onset profile", "Palmer & Krumhansl 1990", "near", _metre),
    Part("cadence", "share of four signs", "music/endings.py", "reach", lambda heard, tools: cadence(heard.score, heard.labels.key) if heard.labels.key else None),
    Part("fifths", "per 1,000 moves", "music/voices.py", "rare", _per_moves(lambda voices: voices.parallel_fifths)),
    Part("octaves", "per 1,000 moves", "music/voices.py", "rare", _per_moves(lambda voices: voices.parallel_octaves)),
    Part("crossings", "per 1,000 steps", "music/voices.py", "rare", lambda heard, tools: 1000 * heard.voices.crossings / max(heard.voices.steps, 1) if heard.voices else None),
    Part("compass", "notes outside per 1,000", "music/voices.py", "rare", lambda heard, tools: 1000 * heard.voices.out_of_compass / max(heard.voices.notes, 1) if heard.voices else None),
    Part("repetition", "share of bars heard before", "music/descriptors.py", "near", lambda heard, tools: heard.descriptors["bar_repetition"]),
    Part("form", f"share of bars as {LAG} before", "music/structure.py", "near", lambda heard, tools: repetition(heard.score, LAG)),
    Part("rhythm", "bits of note lengths", "music/descriptors.py", "near", lambda heard, tools: heard.descriptors["note_length_entropy"]),
    Part("pitch", "bits of pitch classes", "music/descriptors.py", "near", lambda heard, tools: heard.descriptors["pitch_class_entropy"]),
    Part("steps", "share of intervals", "music/descriptors.py", "near", lambda heard, tools: heard.descriptors["stepwise_motion"]),
    Part("originality", "intervals shared with a train piece", "Karp & Rabin 1987, music/similarity.py", "near", lambda heard, tools: float(tools.runs.longest_run(_written(heard))[0])),
)  # fmt: skip
NAMES = tuple(part.name for part in PARTS)


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
        return cls({name: {style: sorted(values) for style, values in by_style.items() if values} for name, by_style in found.items()})

    def real(self, part: str, style: str) -> np.ndarray:
        """Values of real pieces of a style, or of all where there are too few of it."""
        by_style = self.values.get(part, {})
        mine = by_style.get(style, [])
        return np.array(mine if len(mine) >= FEWEST else by_style.get("", []))


def worth(kind: str, value: float, real: np.ndarray) -> float:
    """0 to 1. reach: from 0 at the lowest twentieth of the real values to 1 at their mean and above. near: 1 inside the real values but for TAIL at either end, falling to 0 beyond. rare: 1 / (1 + value / (SOFT * real mean)). share: the value."""
    if kind == "share":
        return value
    if kind == "reach":
        low = float(np.quantile(real, 0.05))
        return float(np.clip((value - low) / max(real.mean() - low, 1e-6), 0, 1))
    if kind == "rare":
        return float(1 / (1 + value / (SOFT * max(real.mean(), STEADY))))
    below, above = np.searchsorted(real, value, "right") / len(real), 1 - np.searchsorted(real, value, "left") / len(real)
    return float(min(min(below, above) / TAIL, 1.0))


@dataclass(frozen=True)
class Rewards:
    """Parts with their weights. `learned`: a reward of people's (models/preferences.py), with the share of the whole it may decide."""

    weights: Mapping[str, float]
    tools: Tools
    reference: Reference
    learned: Callable[[Heard], float] | None = None
    learned_share: float = 0.0

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
        """For notes of four-part writing, (track, index in it), the pitches that would be wrong there and how wrong: 1 for each parallel with a voice above,
        1 outside the voice's compass. Empty where no reward asks for any of this."""
        if heard.voices is None:
            return {}
        ticks, found = heard.score.tpq // 2, dict[tuple[int, int], dict[int, float]]()
        grid = voice_grid(heard.score, ticks)
        led, placed = bool(self.weights.get("fifths", 0.0) or self.weights.get("octaves", 0.0)), bool(self.weights.get("compass", 0.0))
        for k, track in enumerate(heard.score.tracks):
            low, high = COMPASS[k]
            outside = dict.fromkeys([*range(low), *range(high + 1, 128)], 1.0) if placed else {}
            for number, (onset, duration, _) in enumerate(note_array(track).tolist()):
                step = -(-onset // ticks)
                wrong = parallel_pitches(grid, step, k, range(k)) if led and step < -(-(onset + duration) // ticks) else {}
                if wrong or outside:
                    found[k, number] = {**outside, **{pitch: outside.get(pitch, 0.0) + count for pitch, count in wrong.items()}}
        return found

    def total(self, heard: Heard, parts: Mapping[str, tuple[float, float]] | None = None) -> float:
        """Weighted mean of the worths, 0 to 1, and of people's reward where there is one."""
        parts = self.parts(heard) if parts is None else parts
        weights = {name: self.weights.get(name, 0.0) for name in parts}
        ruled = sum(weights[name] * parts[name][1] for name in parts) / max(sum(weights.values()), 1e-9)
        return ruled if self.learned is None else (1 - self.learned_share) * ruled + self.learned_share * self.learned(heard)


def metre_profiles(scores: Sequence[Score]) -> dict[str, np.ndarray]:
    """Mean onset profile of the pieces of each metre (that of the last bar)."""
    found: dict[str, list[np.ndarray]] = {}
    for score in scores:
        _, _, numerator, denominator = bar_table(score)[-1].tolist()
        found.setdefault(f"{numerator}/{denominator}", []).append(metre_profile(score))
    return {metre: np.mean(rows, axis=0) for metre, rows in found.items()}
