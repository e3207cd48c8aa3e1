"""Training windows: rows of `context` + 1 tokens with their places, packed from pieces to write and regions
to fill, transposed and asked for at random.

A row is a pure function of (seed, index), so a resumed run sees exactly the rows an unbroken one would have
seen.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from models.tokens.accompaniment import Accompaniment
from models.tokens.asking import Asker, Asking, Cut, transposed
from models.tokens.augmentation import stretching, transposition
from models.tokens.labels import CELL_KINDS
from models.tokens.layout import (
    AHEAD_SHARE,
    LEFT_SHARE,
    CellAsks,
    Grid,
    ahead_end,
    filled,
    grid_of,
    left_start,
)
from models.tokens.place import COPIED, Told
from models.tokens.place_reader import PlaceReader
from models.tokens.shards import Shard
from models.tokens.tokenizer import CellTokenizer
from music.score.cells import PER_BAR
from music.score.parts import Part

SPANS = (1, 2, 2, 4, 4, 4, 8, 8, 16)  # bars of a region, as people ask for them
LEAST_ROOM = 96  # tokens left in a row below which no region is started
TRIES = 3  # draws of sections, until some fit into the row
PREFIX = 16  # tokens of room that controls may take


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

    transpose: +- semitones, within the compass of the instruments. stretch: share of sequences written twice
    or half as long where the vocabulary allows it. asking: what is asked (models/tokens/asking.py). ends:
    share of the pieces to write that run to their real end, from a bar so far before it that every length is
    met; the others are left after 4 to `most_bars` bars (0: at the end), so that a row holds more beginnings.
    shortened: share of those at the head of a row that begin and end with the piece and leave out some of the
    sections between. fresh: share of sequences that are not told how an earlier bar went on, so that music is
    learned that does not come back. accompanied: share of the regions of bars that are of the first track
    alone, beside a track of chords.
    """

    transpose: int
    stretch: float = 0.0
    asking: Asking = field(default_factory=Asking)
    ends: float = 0.5
    most_bars: int = 0
    shortened: float = 0.5
    fresh: float = 0.25
    accompanied: float = 0.0


def piece_weights(
    shard: Shard, collection_temperature: float, rare_labels: float, often: Mapping[str, float] | None = None
) -> np.ndarray:
    """How often each piece is drawn, float64 (pieces,), summing to 1.

    By its length, so that every token is as likely; times (share of its collection) ** (temperature - 1): 1
    leaves shares as they are, 0 makes collections equal; times the mean of (share of its style, of its
    rhythm) ** -rare_labels: 0 leaves them, 0.5 lifts rare ones; times `often` of its collection.
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
    weights *= np.array([(often or {}).get(record["collection"], 1.0) for record in shard.records])
    return weights / weights.sum()


Sequence = tuple[np.ndarray, np.ndarray]  # tokens with their places (n, WIDTH), and which are learned (n,)


class WindowDataset(Dataset[tuple[Tensor, Tensor]]):
    """Rows for `[first, first + count)`: tokens with their places int32 (context + 1, WIDTH), and bool
    (context + 1,): which of them are learned."""

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
        limit = augmentation.transpose
        self._tables = {k: transposition(tokenizer, k) for k in range(-limit, limit + 1)}
        self._stretches = (
            {factor: stretching(tokenizer, factor) for factor in (-2, 2)} if augmentation.stretch else {}
        )
        self._cumulative = np.cumsum(piece_weights(shard, 1.0, 0.0) if weights is None else weights)
        self._chords = Accompaniment.of(tokenizer)
        self._asker, self._places = Asker(shard, tokenizer, augmentation.asking), PlaceReader(tokenizer)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        random = np.random.default_rng((self._seed, self._first + index))
        rows: list[np.ndarray] = []
        marks: list[np.ndarray] = []
        length = 0
        while length <= self._context:
            placed, learned = self._sequence(random, self._context + 1 - length)
            rows.append(placed)
            marks.append(learned)
            length += len(placed)
        end = self._context + 1
        return torch.from_numpy(np.concatenate(rows)[:end]), torch.from_numpy(np.concatenate(marks)[:end])

    def _sequence(self, random: np.random.Generator, room: int) -> Sequence:
        """One sequence and what of it is learned."""
        where = np.searchsorted(self._cumulative, random.random() * self._cumulative[-1], side="right")
        i = min(int(where), len(self._shard) - 1)
        body, factor = np.asarray(self._shard.piece(i)), 0
        if self._stretches and random.random() < self._augmentation.stretch:
            chosen = int(random.choice([-2, 2]))
            stretched = self._stretches[chosen][body]
            if (stretched >= 0).all():
                body, factor = stretched, chosen
        shift = self._shift(random, i)
        kind = self._mixture.draw(random)
        if kind == "whole" or room < LEAST_ROOM:
            ids, scored, told = self._whole(random, i, body, factor, room)
        else:
            ids, scored, told = self._region(random, i, body, factor, kind, shift)
        placed = self._places.read(self._tables[shift][np.array(ids[:room])], transposed(told, shift))
        if random.random() < self._augmentation.fresh:
            placed[:, list(COPIED)] = 0
        return placed, np.array(scored[:room], dtype=bool)

    def _shift(self, random: np.random.Generator, i: int) -> int:
        """Semitones by which a piece is moved: as far as its instruments go, and no farther than it goes
        itself."""
        record, limit, t = self._shard.records[i], self._augmentation.transpose, self._tokenizer
        parts = [t.parts.get(t.programs[p - t.first_id["Program"]]) for p in self._asker.programs(i)]
        known = [part for part in parts if part is not None] or [Part(0, 127, True)]
        low = min(*(part.low for part in known), record["low"])
        high = max(*(part.high for part in known), record["high"])
        return int(random.integers(max(-limit, low - record["low"]), min(limit, high - record["high"]) + 1))

    def _whole(
        self, random: np.random.Generator, i: int, body: np.ndarray, factor: int, room: int
    ) -> tuple[list[int], list[bool], Told]:
        """A piece, or a part of it, to its end or left before."""
        starts, augmentation = self._shard.bar_starts(i), self._augmentation
        B = len(starts)
        stops = np.append(starts[1:], len(body) - 1)
        ends = random.random() < augmentation.ends
        begins = False
        if ends:
            alone = room > self._context  # the first of a row: a whole piece may fit
            share = augmentation.shortened if alone else 0.0
            bars = self._bars_to_end(random, i, stops - starts, room - PREFIX, share)
            begins = (
                bars[0] == 0 and len(bars) > 1 and self._has_upbeat(body, stops) and random.random() < 0.5
            )
            bars = bars[int(begins) :]
        else:
            most = augmentation.most_bars
            bar = 0 if random.random() < 0.25 else int(random.integers(B))
            last = min(B, bar + int(random.integers(4, most + 1))) if most else B
            bars, ends = np.arange(bar, last), last == B
        cut = Cut(i, bars, 0, B - int(bars[0]) if not ends else len(bars), factor, begins)
        labels, told = self._asker.ask(random, cut, None)
        prefix = self._tokenizer.prefix(replace(labels, excerpt=cut.first_bar > 0))
        rest = np.concatenate([body[starts[b] : stops[b]] for b in bars.tolist()])
        rest = np.append(rest, body[-1:]) if ends else rest
        asks = self._asker.cell_asks(random, cut, None)
        learned = np.ones(len(rest), dtype=bool)
        if asks:
            rest, learned = self._with_asks(rest, asks)
        return prefix + rest.tolist(), [False] * len(prefix) + learned.tolist(), told

    def _has_upbeat(self, body: np.ndarray, stops: np.ndarray) -> bool:
        """Whether nothing sounds in the first half of the first bar: pieces of so many whole bars, as they
        are asked for, begin without what stands there."""
        t, first = self._tokenizer, body[: stops[0]].astype(np.int64)
        half = int(t.bar_lengths[first[0] - t.first_id["Bar"]]) // 2
        position, program = t.first_id["Position"], t.first_id["Program"]
        for at in np.flatnonzero((first >= program) & (first < program + t.block_size["Program"])).tolist():
            opens = int(first[at + 1]) if at + 1 < len(first) else program
            silent = program <= opens < program + t.block_size["Program"]
            if not silent and not position + half <= opens < position + t.block_size["Position"]:
                return False
        return True

    def _bars_to_end(
        self, random: np.random.Generator, i: int, sizes: np.ndarray, room: int, shortened: float
    ) -> np.ndarray:
        """Bars of a piece from some bar to its end, as many as a length drawn evenly on a scale of doublings
        says, and no more than there is room for."""
        B, most = len(sizes), self._tokenizer.max_bars_control
        if random.random() < shortened:
            for _ in range(TRIES):
                bars = _some_sections(random, self._shard.places(i))
                if sizes[bars].sum() <= room:
                    return bars
        count = int(np.exp(random.uniform(0, np.log(most + 1))))
        fitting = int((np.cumsum(sizes[::-1]) <= room).sum())
        return np.arange(B - max(min(count, B, fitting), 1), B)

    def _with_asks(self, rest: np.ndarray, asks: CellAsks) -> tuple[np.ndarray, np.ndarray]:
        """Put the tokens of single cells, by bar and track of what is shown, behind their Programs."""
        t = self._tokenizer
        block = t.first_id["Program"]
        is_bar = (rest >= t.first_id["Bar"]) & (rest < t.first_id["Bar"] + t.block_size["Bar"])
        programs = np.flatnonzero((rest >= block) & (rest < block + t.block_size["Program"]))
        bar_of = np.cumsum(is_bar)[programs] - 1
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
        self, random: np.random.Generator, i: int, body: np.ndarray, factor: int, kind: str, shift: int
    ) -> tuple[list[int], list[bool], Told]:
        """A region with what is kept around it, as `layout.prompt` shows it when music is filled: of the
        piece, or of its first track beside chords."""
        starts = self._shard.bar_starts(i)
        first = int(random.integers(len(starts)))
        low, high = max(0, first - 48), min(len(starts), first + 64)
        grid = grid_of(self._tokenizer, body, starts, low, high)
        beside = kind == "span" and not factor and random.random() < self._augmentation.accompanied
        if beside:
            grid = self._chords.beside(grid, self._shard, i, (low, high), shift)
        K = len(grid.programs)
        bars = high - first if kind == "tracks" else min(int(random.choice(SPANS)), high - first)
        chosen = np.ones(K, dtype=bool)
        if beside:
            chosen[1] = False
        elif K > 1 and kind != "span":
            chosen = np.isin(np.arange(K), random.permutation(K)[: int(random.integers(1, K))])
        missing = np.zeros((high - low, K), dtype=bool)
        missing[first - low : first - low + bars, chosen] = True
        hidden = grid.with_missing(missing)
        at = first - low
        end = ahead_end(hidden, at, int(random.uniform(0.3, 1) * AHEAD_SHARE * self._context))
        start = left_start(hidden, at, int(random.uniform(0.3, 1) * LEFT_SHARE * self._context))
        cut = Cut(i, np.arange(low + start, first + bars), at - start, len(starts) - low - start, factor)
        labels, told = self._asker.ask(random, cut, chosen, tracks=K if beside else 0)
        prefix = self._tokenizer.prefix(replace(labels, excerpt=low + start > 0))
        asks = {(b + start, k): value for (b, k), value in self._asker.cell_asks(random, cut, chosen).items()}
        ids, scored = self.lay_out(grid, missing, (start, at, at + bars, end), asks)
        return prefix + ids, [False] * len(prefix) + scored, told

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


def _some_sections(random: np.random.Generator, places: np.ndarray) -> np.ndarray:
    """Bars of the first and the last section of a piece and of some between."""
    section = np.cumsum(places[:, 1] == 0) - 1
    kept = random.random(int(section[-1]) + 1) < 0.5
    kept[[0, -1]] = True
    return np.flatnonzero(kept[section])
