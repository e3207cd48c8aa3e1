"""What is asked of a sequence in training: labels, descriptors of its tracks and cells, chords, form, each
left out now and then, so that a request may ask for any part of it."""

from dataclasses import dataclass, replace

import numpy as np

from models.tokens.labels import Labels, TrackAsk
from models.tokens.layout import CellAsks, grid_of
from models.tokens.place import NONE, Told
from models.tokens.shards import Shard
from models.tokens.tokenizer import CellTokenizer
from music.score.cells import BY_NAME, CELL_CONTROLS, PER_BAR, control_classes
from music.score.chords import NO_CHORD, by_tick
from music.score.keys import key_index

MOST_CELLS = 64  # bars whose cells are asked for


@dataclass(frozen=True)
class Asking:
    """Shares of sequences. controls: whether anything is asked at all (pretraining asks for nothing but the
    length). unconditioned: of those that ask for nothing all the same; chords, form: of the others that tell
    them."""

    controls: bool = True
    unconditioned: float = 0.1
    chords: float = 0.35
    form: float = 0.4


@dataclass(frozen=True)
class Cut:
    """What a sequence shows of a piece. bars: those of the piece that follow Fill (or the controls), in
    order; before: how many of them are not to be written; left: from the first of them to the end of the
    piece; factor: 2 or -2 where it is written twice or half as long; begins: the first bar begins the
    piece, though an upbeat before it is left out."""

    piece: int
    bars: np.ndarray
    before: int
    left: int
    factor: int
    begins: bool = False

    @property
    def first_bar(self) -> int:
        """Number of the first bar in the piece as it is told."""
        return 0 if self.begins else int(self.bars[0])

    @property
    def written(self) -> np.ndarray:
        return self.bars[self.before :]


class Asker:
    """Draws what is asked of parts of the pieces of a shard."""

    def __init__(self, shard: Shard, tokenizer: CellTokenizer, asking: Asking) -> None:
        self._shard, self._tokenizer, self._asking = shard, tokenizer, asking

    def programs(self, i: int) -> list[int]:
        """Program tokens of a piece's tracks."""
        starts = self._shard.bar_starts(i)
        return grid_of(self._tokenizer, self._shard.piece(i), starts, 0, 1).programs

    def ask(
        self, random: np.random.Generator, cut: Cut, chosen: np.ndarray | None, tracks: int = 0
    ) -> tuple[Labels, Told]:
        """Labels for the prefix (their bars count from the first bar shown) and what is told of every token.
        `chosen`: the tracks to be written, None: all. `tracks`: of what is shown, where they are not the
        piece's: then nothing is asked of single tracks."""
        whole, asking = self._shard.labels(cut.piece), self._asking
        left = cut.left if random.random() < 0.8 else 0
        labels = Labels(bars=left if left <= self._tokenizer.max_bars_control else 0)
        first_bar = cut.first_bar if random.random() < 0.8 else NONE
        told = Told(tracks or len(self.programs(cut.piece)), left, first_bar, cut.before)
        if not asking.controls or random.random() < asking.unconditioned:
            return labels, told
        keep = random.random(4) < np.array([0.8, 0.8, 0.95, 0.8])
        asks = self._track_asks(random, cut, chosen) if not tracks else ()
        labels = replace(
            labels,
            style=whole.style if keep[0] else "",
            rhythm=whole.rhythm if keep[1] else "",
            key=whole.key if keep[2] else "",
            tempo=whole.tempo if keep[3] and not cut.factor else "",
            tracks=asks,
        )
        if random.random() < asking.form:
            sections, again = self._form(cut)
            told = replace(told, sections=sections, again=again)
        if random.random() < asking.chords and not cut.factor:
            told = replace(told, chords=self._chords(random, cut))
        return labels, told_of(told, labels)

    def _form(self, cut: Cut) -> tuple[tuple[tuple[int, int, int], ...], tuple[int, ...]]:
        places = self._shard.places(cut.piece)[cut.bars].tolist()
        shown = {int(b): n for n, b in enumerate(cut.bars)}
        sections = tuple((letter, since, left) for letter, since, left, _ in places)
        return sections, tuple(shown.get(source, NONE) for *_, source in places)

    def _chords(self, random: np.random.Generator, cut: Cut) -> np.ndarray:
        """Chords tick by tick of the bars shown, some left open."""
        t, starts = self._tokenizer, self._shard.bar_starts(cut.piece)
        metres = np.asarray(self._shard.piece(cut.piece))[starts].astype(np.int64) - t.first_id["Bar"]
        at = np.concatenate([[0], np.cumsum(t.bar_lengths[metres])])
        line = by_tick(self._shard.chords(cut.piece))
        share = 1.0 if random.random() < 0.6 else random.random()
        parts = []
        for b in cut.bars.tolist():
            mine = line[at[b] : at[b + 1]].copy()
            if random.random() >= share:
                mine[:] = NONE
            parts.append(mine)
        return np.concatenate(parts)

    def _track_asks(
        self, random: np.random.Generator, cut: Cut, chosen: np.ndarray | None
    ) -> tuple[TrackAsk, ...]:
        if random.random() < 0.2:
            return ()
        t, statistics = self._tokenizer, self._shard.statistics(cut.piece)
        # people ask for nothing of this, for a little, or for all
        share = random.random() * (random.random() < 0.8)
        asks = []
        for k, program in enumerate(self.programs(cut.piece)):
            written = chosen is None or chosen[k]
            told = self._classes(cut, statistics[cut.written, k], cut.written) if written else {}
            asks.append(
                TrackAsk(
                    t.programs[program - t.first_id["Program"]],
                    tuple((name, index) for name, index in told.items() if random.random() < share),
                )
            )
        return tuple(asks)

    def cell_asks(self, random: np.random.Generator, cut: Cut, chosen: np.ndarray | None) -> CellAsks:
        """Density and polyphony of some single cells, in one sequence of seven; bars count from the first
        shown."""
        if not self._asking.controls or random.random() > 0.15:
            return {}
        statistics, share = self._shard.statistics(cut.piece), random.random()
        asks: CellAsks = {}
        tracks = min(statistics.shape[1], len(chosen)) if chosen is not None else statistics.shape[1]
        for n, b in enumerate(cut.written[:MOST_CELLS].tolist(), start=cut.before):
            for k in range(tracks):
                if (chosen is None or chosen[k]) and random.random() < share:
                    told = self._classes(cut, statistics[b : b + 1, k], np.array([b]))
                    asks[n, k] = tuple((name, told.get(name, 0)) for name in PER_BAR)
        return asks

    def _classes(self, cut: Cut, statistics: np.ndarray, bars: np.ndarray) -> dict[str, int]:
        """Classes of each control of one track over some bars; {} where it is silent."""
        t, i = self._tokenizer, cut.piece
        tokens = np.asarray(self._shard.piece(i))[self._shard.bar_starts(i)[bars]].astype(np.int64)
        length = int(t.bar_lengths[tokens - t.first_id["Bar"]].sum())
        told = control_classes(statistics, length, t.ticks_per_quarter)
        if not told or not cut.factor:
            return told
        scale = 2.0 if cut.factor > 0 else 0.5
        notes, duration = statistics[:, :2].sum(axis=0)
        told["density"] = BY_NAME["density"].class_of(notes * t.ticks_per_quarter / length / scale)
        told["note_length"] = BY_NAME["note_length"].class_of(duration / notes / t.ticks_per_quarter * scale)
        del told["syncopation"]  # the beat does not stretch with the notes
        return told


def told_of(told: Told, labels: Labels) -> Told:
    """The same with the key and the controls that labels ask for."""
    asks = [dict(track.classes) for track in labels.tracks]
    return replace(
        told,
        key=key_index(labels.key) if labels.key else None,
        asks=tuple(tuple(ask.get(c.name, NONE) for c in CELL_CONTROLS) for ask in asks) if any(asks) else (),
    )


def transposed(told: Told, semitones: int) -> Told:
    """What is told of the same music so many semitones higher."""
    key = ((told.key[0] + semitones) % 12, told.key[1]) if told.key is not None else None
    chords = told.chords
    if chords is not None:
        chords = chords.copy()
        sounding = (chords[:, 0] >= 0) & (chords[:, 0] < NO_CHORD)
        for column in (0, 2):
            chords[sounding, column] = (chords[sounding, column] + semitones) % 12
    return replace(told, key=key, chords=chords)
