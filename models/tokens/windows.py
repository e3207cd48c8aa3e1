"""Training windows: rows of `context` + 1 tokens packed from pieces to write and regions to fill, transposed
and asked for at random.

A row is a pure function of (seed, index), so a resumed run sees exactly the rows an unbroken one would have
seen.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from models.tokens.augmentation import stretching, transposition
from models.tokens.labels import CELL_KINDS, Labels, TrackAsk
from models.tokens.layout import (
    AHEAD_SHARE,
    LEFT_SHARE,
    CellAsks,
    Grid,
    ahead_end,
    begin,
    filled,
    grid_of,
    left_start,
)
from models.tokens.shards import Shard
from models.tokens.tokenizer import CellTokenizer
from music.score.cells import BY_NAME, PER_BAR, control_classes

SPANS = (1, 2, 2, 4, 4, 4, 8, 8, 16)  # bars of a region, as people ask for them
LEAST_ROOM = 96  # tokens left in a row below which no region is started


@dataclass(frozen=True)
class Mixture:
    """Shares of what a sequence is: a piece (or its rest) to write, or a region to fill: bars, tracks, or
    some bars of some tracks."""

    whole: float
    span: float
    tracks: float
    rectangle: float

    def draw(self, random: np.random.Generator) -> str:
        kinds = ("whole", "span", "tracks", "rectangle")
        shares = np.array([self.whole, self.span, self.tracks, self.rectangle])
        return kinds[int(random.choice(4, p=shares / shares.sum()))]


@dataclass(frozen=True)
class Augmentation:
    """How music is varied and what is asked of it.

    transpose: +- semitones. stretch: share of sequences written twice or half as long where the vocabulary
    allows it. controls: ask for
    labels and descriptors (fine-tuning) or for nothing (pretraining). unconditioned: share that asks for
    nothing all the same. most_bars:
    a piece is left after 4 to so many bars (0: at its end), so that a row holds more beginnings, where
    controls matter most.
    """

    transpose: int
    stretch: float = 0.0
    controls: bool = True
    unconditioned: float = 0.2
    most_bars: int = 0


def piece_weights(shard: Shard, collection_temperature: float, rare_labels: float) -> np.ndarray:
    """How often each piece is drawn, float64 (pieces,), summing to 1.

    By its length, so that every token is as likely; times (share of its collection) ** (temperature - 1): 1
    leaves shares as they are, 0 makes collections equal; times the mean of (share of its style, of its
    rhythm) ** -rare_labels: 0 leaves them, 0.5 lifts rare ones.
    """
    weights = shard.lengths.astype(np.float64)
    tokens: Counter[str] = Counter()
    for record, length in zip(shard.records, shard.lengths.tolist(), strict=True):
        tokens[record["collection"]] += length
    total = sum(tokens.values())
    weights *= np.array(
        [(tokens[r["collection"]] / total) ** (collection_temperature - 1) for r in shard.records]
    )
    if rare_labels:
        counts = {kind: Counter(r[kind] for r in shard.records) for kind in ("style", "rhythm")}
        weights *= np.array(
            [
                np.mean([(counts[kind][r[kind]] / len(shard)) ** -rare_labels for kind in counts])
                for r in shard.records
            ]
        )
    return weights / weights.sum()


class WindowDataset(Dataset[tuple[Tensor, Tensor]]):
    """Rows for `[first, first + count)`: tokens int64 (context + 1,), and bool (context + 1,): which of them
    are learned."""

    def __init__(
        self,
        shard: Shard,
        tokenizer: CellTokenizer,
        context: int,
        augmentation: Augmentation,
        mixture: Mixture,
        seed: int,
        first: int,
        count: int,
        weights: np.ndarray | None = None,
    ) -> None:
        self._shard, self._tokenizer, self._context = shard, tokenizer, context
        self._augmentation, self._mixture, self._seed, self._first, self._count = (
            augmentation,
            mixture,
            seed,
            first,
            count,
        )
        self._tables = {
            k: transposition(tokenizer, k) for k in range(-augmentation.transpose, augmentation.transpose + 1)
        }
        self._stretches = (
            {factor: stretching(tokenizer, factor) for factor in (-2, 2)} if augmentation.stretch else {}
        )
        self._cumulative = np.cumsum(piece_weights(shard, 1.0, 0.0) if weights is None else weights)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        random = np.random.default_rng((self._seed, self._first + index))
        ids: list[int] = []
        scored: list[bool] = []
        while len(ids) <= self._context:
            more, learned = self._sequence(random, self._context + 1 - len(ids), packed=len(ids) > 0)
            ids += more
            scored += learned
        return torch.tensor(ids[: self._context + 1]), torch.tensor(scored[: self._context + 1])

    def _sequence(self, random: np.random.Generator, room: int, packed: bool) -> tuple[list[int], list[bool]]:
        """One sequence and what of it is learned."""
        i = min(
            int(np.searchsorted(self._cumulative, random.random() * self._cumulative[-1], side="right")),
            len(self._shard) - 1,
        )
        record, limit = self._shard.records[i], self._augmentation.transpose
        shift = int(random.integers(max(-limit, -record["low"]), min(limit, 127 - record["high"]) + 1))
        body, factor = self._shard.piece(i), 0
        if self._stretches and random.random() < self._augmentation.stretch:
            chosen = int(random.choice([-2, 2]))
            stretched = self._stretches[chosen][body]
            if (stretched >= 0).all():
                body, factor = stretched, chosen
        kind = self._mixture.draw(random)
        if kind == "whole" or room < LEAST_ROOM:
            ids, scored = self._whole(random, i, body, factor, packed)
        else:
            ids, scored = self._region(random, i, body, factor, kind)
        return self._tables[shift][np.array(ids)].tolist(), scored

    def _whole(
        self, random: np.random.Generator, i: int, body: np.ndarray, factor: int, packed: bool
    ) -> tuple[list[int], list[bool]]:
        """A piece, or its part from a random bar on."""
        bars, most = self._shard.bar_starts(i), self._augmentation.most_bars
        bar = 0 if (packed and not most) or random.random() < 0.25 else int(random.integers(len(bars)))
        last = min(len(bars), bar + int(random.integers(4, most + 1))) if most else len(bars)
        labels = self._labels(random, i, (bar, last), None, factor)
        prefix = begin(self._tokenizer, labels, bar)
        rest = np.asarray(body[bars[bar] : bars[last] if last < len(bars) else len(body)][: self._context])
        asks = self._cell_asks(random, i, (bar, last), None, factor)
        learned = np.ones(len(rest), dtype=bool)
        if asks:
            rest, learned = self._with_asks(rest, bar, asks)
        return prefix + rest.tolist(), [False] * len(prefix) + learned.tolist()

    def _with_asks(self, rest: np.ndarray, bar: int, asks: CellAsks) -> tuple[np.ndarray, np.ndarray]:
        """Put the tokens of single cells behind their Programs."""
        t = self._tokenizer
        block = t.first_id["Program"]
        programs = np.flatnonzero((rest >= block) & (rest < block + t.block_size["Program"]))
        bar_of = (
            np.cumsum((rest >= t.first_id["Bar"]) & (rest < t.first_id["Bar"] + t.block_size["Bar"]))[
                programs
            ]
            - 1
            + bar
        )
        track = np.zeros(len(programs), dtype=np.int64)
        for n in range(1, len(programs)):
            track[n] = track[n - 1] + 1 if bar_of[n] == bar_of[n - 1] else 0
        at: list[int] = []
        tokens: list[int] = []
        for where, b, k in zip(programs.tolist(), bar_of.tolist(), track.tolist(), strict=True):
            for name, index in asks.get((b, k), ()):
                at.append(where + 1)
                tokens.append(t.id_of(CELL_KINDS[PER_BAR.index(name)], index))
        return np.insert(rest, at, tokens), np.insert(np.ones(len(rest), dtype=bool), at, False)

    def _region(
        self, random: np.random.Generator, i: int, body: np.ndarray, factor: int, kind: str
    ) -> tuple[list[int], list[bool]]:
        """A region with what is kept around it, as `layout.prompt` shows it when music is filled."""
        starts = self._shard.bar_starts(i)
        first = int(random.integers(len(starts)))
        low, high = max(0, first - 48), min(len(starts), first + 64)
        grid = grid_of(self._tokenizer, body, starts, low, high)
        K = len(grid.programs)
        bars = high - first if kind == "tracks" else min(int(random.choice(SPANS)), high - first)
        chosen = np.ones(K, dtype=bool)
        if K > 1 and kind != "span":
            chosen = np.isin(np.arange(K), random.permutation(K)[: int(random.integers(1, K))])
        missing = np.zeros((high - low, K), dtype=bool)
        missing[first - low : first - low + bars, chosen] = True
        hidden = grid.with_missing(missing)
        at = first - low
        end = ahead_end(hidden, at, int(random.uniform(0.3, 1) * AHEAD_SHARE * self._context))
        start = left_start(hidden, at, int(random.uniform(0.3, 1) * LEFT_SHARE * self._context))
        region = (first, first + bars)
        prefix = begin(self._tokenizer, self._labels(random, i, region, chosen, factor), start + low)
        asks = {
            (b - low, k): value
            for (b, k), value in self._cell_asks(random, i, region, chosen, factor).items()
        }
        ids, scored = self.lay_out(grid, missing, (start, at, at + bars, end), asks)
        return prefix + ids, [False] * len(prefix) + scored

    def lay_out(
        self, grid: Grid, missing: np.ndarray, bars: tuple[int, int, int, int], asks: CellAsks
    ) -> tuple[list[int], list[bool]]:
        """What follows the controls, and what of it is learned. `bars`: shown from, filled from, filled to,
        shown ahead to."""
        t, (start, first, last, end) = self._tokenizer, bars
        ahead = (
            [
                t.id_of("Part", "Ahead"),
                *grid.with_missing(missing).masked(first, end, t.mask_id),
                t.id_of("Part", "Fill"),
            ]
            if end > first
            else []
        )
        left = grid.written(start, first)
        ids, scored = filled(t, grid, missing, first, last, asks)
        return ahead + left + ids, [False] * len(ahead) + [True] * len(left) + scored

    def _labels(
        self,
        random: np.random.Generator,
        i: int,
        region: tuple[int, int],
        chosen: np.ndarray | None,
        factor: int,
    ) -> Labels:
        """What is asked of a region (bars [first, last), `chosen` tracks): labels of the piece and classes of
        its tracks, some left out."""
        whole, augmentation = self._shard.labels(i), self._augmentation
        bars = whole.bars if random.random() < 0.8 else 0
        if not augmentation.controls or random.random() < augmentation.unconditioned:
            return Labels(bars=bars)
        keep = random.random(4) < np.array([0.8, 0.8, 0.95, 0.8])
        tempo = whole.tempo if keep[3] and not factor else ""
        return Labels(
            whole.style if keep[0] else "",
            whole.rhythm if keep[1] else "",
            whole.key if keep[2] else "",
            bars,
            tempo=tempo,
            tracks=self._track_asks(random, i, region, chosen, factor),
        )

    def _track_asks(
        self,
        random: np.random.Generator,
        i: int,
        region: tuple[int, int],
        chosen: np.ndarray | None,
        factor: int,
    ) -> tuple[TrackAsk, ...]:
        statistics, t = self._shard.statistics(i), self._tokenizer
        if random.random() < 0.2:
            return ()
        share = random.random() * (
            random.random() < 0.8
        )  # people ask for nothing of this, for a little, or for all
        asks = []
        starts = self._shard.bar_starts(i)
        cells = grid_of(t, self._shard.piece(i), starts, 0, 1)
        for k, program in enumerate(cells.programs):
            value = t.programs[program - t.first_id["Program"]]
            told = (
                self._classes(i, statistics[region[0] : region[1], k], region, factor)
                if chosen is None or chosen[k]
                else {}
            )
            asks.append(
                TrackAsk(
                    value, tuple((name, index) for name, index in told.items() if random.random() < share)
                )
            )
        return tuple(asks)

    def _cell_asks(
        self,
        random: np.random.Generator,
        i: int,
        region: tuple[int, int],
        chosen: np.ndarray | None,
        factor: int,
    ) -> CellAsks:
        """Density and polyphony of some single cells, in one sequence of seven."""
        if not self._augmentation.controls or random.random() > 0.15:
            return {}
        statistics, share = self._shard.statistics(i), random.random()
        asks: CellAsks = {}
        for b in range(region[0], min(region[1], region[0] + 64)):
            for k in range(statistics.shape[1]):
                if (chosen is None or chosen[k]) and random.random() < share:
                    told = self._classes(i, statistics[b : b + 1, k], (b, b + 1), factor)
                    asks[b, k] = tuple((name, told.get(name, 0)) for name in PER_BAR)
        return asks

    def _classes(
        self, i: int, statistics: np.ndarray, region: tuple[int, int], factor: int
    ) -> dict[str, int]:
        """Classes of each control of one track over the bars of a region; {} where it is silent."""
        t = self._tokenizer
        tokens = self._shard.piece(i)[self._shard.bar_starts(i)[region[0] : region[1]]].astype(np.int64)
        length = int(t.bar_lengths[tokens - t.first_id["Bar"]].sum())
        told = control_classes(statistics, length, t.ticks_per_quarter)
        if not told or not factor:
            return told
        scale = 2.0 if factor > 0 else 0.5
        sums = statistics[:, :2].sum(axis=0)
        told["density"] = BY_NAME["density"].class_of(sums[0] * t.ticks_per_quarter / length / scale)
        told["note_length"] = BY_NAME["note_length"].class_of(sums[1] / sums[0] / t.ticks_per_quarter * scale)
        del told["syncopation"]  # the beat does not stretch with the notes
        return told
