"""Why two pieces are alike, in words that a musician knows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from music.analysis.descriptors import DESCRIPTORS

SAME = ("metre", "mode", "rhythm", "style", "composer")  # labels worth saying when they agree
CLOSE, FAR = (
    0.35,
    0.8,
)  # spreads of the catalogue: nearer than the first is alike, farther than the second is different
NOUNS = {
    "note_density": "number of notes",
    "polyphony": "texture",
    "mean_pitch": "register",
    "pitch_range": "range",
    "key_clarity": "clearness of key",
    "pitch_class_entropy": "variety of notes",
    "mean_note_length": "note lengths",
    "note_length_entropy": "variety of rhythm",
    "syncopation": "syncopation",
    "stepwise_motion": "share of steps",
    "mean_leap": "leaps",
    "bar_repetition": "repetition",
}
UNMOVED = ("mean_pitch",)  # likeness does not look at pitch height, so it is told only as a difference


@dataclass(frozen=True)
class Why:
    """Labels that agree, descriptors that are near, and how the item differs, the plainest first; `text` says
    it all."""

    same: list[str]
    alike: list[str]
    different: list[str]

    @property
    def text(self) -> str:
        parts = [
            f"same {_listed(self.same)}" if self.same else "",
            f"similar {_listed(self.alike)}" if self.alike else "",
            _listed(self.different),
        ]
        return "; ".join(part for part in parts if part)


def _listed(words: list[str]) -> str:
    return ", ".join(words[:-1]) + (" and " if len(words) > 1 else "") + words[-1] if words else ""


def explain(
    query: Mapping[str, float],
    labels: Mapping[str, str],
    item: Mapping[str, float],
    item_labels: Mapping[str, str],
    spread: np.ndarray,
    most: int = 3,
) -> Why:
    """Compare descriptors and labels of a query with those of an item; `spread`: standard deviation of each
    descriptor over the catalogue."""
    gaps = {
        d.name: (item[d.name] - query[d.name]) / float(s) for d, s in zip(DESCRIPTORS, spread, strict=True)
    }
    same = [
        f"{name} ({item_labels[name]})"
        for name in SAME
        if labels.get(name) and labels[name] == item_labels.get(name)
    ]
    near = sorted((abs(gap), name) for name, gap in gaps.items() if abs(gap) <= CLOSE and name not in UNMOVED)
    far = sorted(
        ((-abs(gap), d) for d in DESCRIPTORS if abs(gap := gaps[d.name]) >= FAR), key=lambda pair: pair[0]
    )
    return Why(
        same,
        [NOUNS[name] for _, name in near[:most]],
        [d.high if gaps[d.name] > 0 else d.low for _, d in far[:most]],
    )
