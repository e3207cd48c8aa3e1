"""Forms of real pieces: what a composition gets where none is asked.

A network of these sizes does not keep a plan of 32 bars in mind: what should come back comes back too seldom.
Told a form it keeps to it. So a tune of which none is asked is told one that a real tune of its style, dance
and length had, drawn anew for every take (docs/decisions/0016-asked-and-kept-to.md).
"""

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from models.tokens.shards import Shard

FREE = "free"  # asked as a form: none is told
FEWEST_BARS = 16  # shorter pieces are one section
FEWEST_PIECES = 8  # of a kind and length, to draw from
EXACT = 0.9  # share of equal bars (the last aside) from which on a section comes back as it was, not varied
OWN = 1_000_003  # keeps the draw apart from the music's


class Forms:
    """How often each form was met, by kind ("style|dance", "style|" or "|") and length in bars."""

    def __init__(self, table: dict[str, dict[int, dict[str, int]]]) -> None:
        self._table = table

    @classmethod
    def of_shard(cls, shard: Shard) -> "Forms":
        """Of the pieces of one track, to their whole length, and as many bars shorter as upbeats make them
        longer."""
        met: dict[str, dict[int, Counter[str]]] = {}
        for i, record in enumerate(shard.records):
            if shard.statistics(i).shape[1] != 1:
                continue
            sections = _sections(shard, i)
            style, dance = record["style"], record["rhythm"]
            for lengths in {tuple(n for _, n in sections), _even([n for _, n in sections])}:
                form = " ".join(f"{name}:{n}" for (name, _), n in zip(sections, lengths, strict=True))
                for kind in {f"{style}|{dance}", f"{style}|", "|"}:
                    met.setdefault(kind, {}).setdefault(sum(lengths), Counter())[form] += 1
        return cls(
            {
                kind: {
                    bars: dict(sorted(forms.items()))
                    for bars, forms in sorted(by_bars.items())
                    if bars >= FEWEST_BARS and forms.total() >= FEWEST_PIECES
                }
                for kind, by_bars in sorted(met.items())
            }
        )

    @classmethod
    def load(cls, path: Path) -> "Forms":
        stored = json.loads(path.read_text())
        return cls({kind: {int(n): forms for n, forms in rows.items()} for kind, rows in stored.items()})

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self._table, indent=1) + "\n")

    def draw(self, style: str, dance: str, bars: int, seed: int) -> str:
        """A form of so many bars as pieces of the kind have them, "" where it has no section that comes back
        or too few pieces are so long."""
        for kind in (f"{style}|{dance}", f"{style}|", *(["|"] if not style else [])):
            if forms := self._table.get(kind, {}).get(bars):
                counts = np.array(list(forms.values()))
                chosen = np.random.default_rng((OWN, seed)).choice(len(counts), p=counts / counts.sum())
                form = list(forms)[int(chosen)]
                letters = [section[0] for section in form.split()]
                return form if len(set(letters)) < len(letters) else ""
        return ""


def _sections(shard: Shard, i: int) -> list[tuple[str, int]]:
    """Name (a letter, ' where it comes back varied) and bars of each section of a piece."""
    places, ids = shard.places(i), shard.piece(i)
    starts = shard.bar_starts(i)
    bars = [ids[a:b].tobytes() for a, b in zip(starts, [*starts[1:], len(ids) - 1], strict=True)]
    first = [*np.flatnonzero(places[:, 1] == 0).tolist(), len(places)]
    found = []
    for start, end in pairwise(first):
        again = [(b, int(places[b, 3])) for b in range(start, end - 1) if places[b, 3] >= 0]
        same = [bars[b] == bars[source] for b, source in again]
        letter = chr(ord("A") + int(places[start, 0]))
        found.append((letter + "'" * (sum(same) < EXACT * len(same)), end - start))
    return found


def _even(lengths: Sequence[int]) -> tuple[int, ...]:
    """Lengths without the bar more that an upbeat gives the first section or what it lacks gives the last."""
    usual = Counter(lengths).most_common(1)[0][0] if len(lengths) > 2 else min(lengths)
    return tuple(usual if n == usual + 1 else n for n in lengths)
