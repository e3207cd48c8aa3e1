"""Places of whole sequences, all tokens at once: what training and scoring read. models/tokens/place_scan.py
says the same token by token."""

import numpy as np

from models.tokens.place import (
    BARS,
    CHORD,
    COLUMN,
    COPIES,
    FIRST,
    HEAVY,
    LEVELS,
    MOTION,
    NONE,
    OFFSETS,
    PHRASE,
    PITCHES,
    SECTIONS,
    SIZES,
    TICKS,
    WIDTH,
    ChordLine,
    Told,
)
from models.tokens.place_ahead import AheadReader, write_kept
from models.tokens.place_cells import AHEAD, FILL, Cells, Kinds
from models.tokens.place_copies import CopyReader
from models.tokens.tokenizer import CellTokenizer
from music.score.cells import CELL_CONTROLS


def tracks_of(tokenizer: CellTokenizer, body: np.ndarray) -> int:
    """Tracks of an encoded piece: the Programs of its first bar."""
    bars = np.flatnonzero([tokenizer.is_bar(int(token)) for token in body[:4096]])
    first, block = np.asarray(body[: bars[1]] if len(bars) > 1 else body), tokenizer.first_id["Program"]
    return int(((first >= block) & (first < block + tokenizer.block_size["Program"])).sum())


class PlaceReader:
    """`read` gives the tokens of a sequence with their places."""

    def __init__(self, tokenizer: CellTokenizer) -> None:
        self.kinds = Kinds(tokenizer)

    def read(self, tokens: np.ndarray, told: Told) -> np.ndarray:
        """Tokens (n,) of one sequence with their places, int32 (n, WIDTH)."""
        ids = np.asarray(tokens, dtype=np.int64)
        placed = np.zeros((len(ids), WIDTH), dtype=np.int32)
        placed[:, 0] = ids
        kind = self.kinds.kind[ids]
        fills, aheads = np.flatnonzero(kind == FILL), np.flatnonzero(kind == AHEAD)
        main = int(fills[0]) + 1 if len(fills) else len(ids) if len(aheads) else 0
        shown = Cells.of(self.kinds, ids[main:], 0)
        ahead = Cells.of(self.kinds, ids[aheads[0] + 1 : main], told.before) if len(aheads) else None
        if ahead is not None:
            write_kept(placed[aheads[0] + 1 : fills[0] if len(fills) else main, 1 + COPIES :], ahead, told)
        if len(shown.lengths):
            columns, copies = placed[main:, 1 + COPIES :], placed[main:, 1 : 1 + COPIES]
            _Places(self.kinds, columns, shown, ahead, told).write()
            kept = (ids[aheads[0] + 1 : main], ahead) if ahead is not None else None
            CopyReader(self.kinds, ids[main:], shown, kept, told).write(columns, copies)
        return placed


class _Sounding:
    """What sounds at each tick in each track: the pitch written last (K, X), pitch classes as bits (K, X)."""

    def __init__(self, tracks: int, ticks: int) -> None:
        self.pitch = np.full((tracks, ticks), NONE, dtype=np.int64)
        self.classes = np.zeros((tracks, ticks), dtype=np.int64)

    def add(self, track: int, start: int, end: int, pitch: int) -> None:
        self.pitch[track, start:end] = pitch
        self.classes[track, start:end] |= 1 << pitch % 12


class _Places:
    """Writes the columns of every token in a cell. m: such tokens, K: tracks, X: ticks of all bars."""

    def __init__(
        self, kinds: Kinds, columns: np.ndarray, shown: Cells, ahead: "Cells | None", told: Told
    ) -> None:
        self._kinds, self._columns, self._shown, self._ahead, self._told = kinds, columns, shown, ahead, told
        self._K = max(told.tracks, int(shown.track.max()) + 1)
        lengths = shown.lengths
        if ahead is not None:
            self._K = max(self._K, int(ahead.track.max(initial=0)) + 1)
            missing = np.zeros(max(told.before - len(lengths), 0), dtype=np.int64)
            beyond = lengths[told.before + len(ahead.lengths) :]
            lengths = np.concatenate([lengths[: told.before], missing, ahead.lengths, beyond])
        self._lengths, self._starts = lengths, np.concatenate([[0], np.cumsum(lengths)])
        self._here = np.flatnonzero(shown.in_cell)
        self._bar, self._track, self._x = (a[self._here] for a in (shown.bar, shown.track, shown.x))
        length = lengths[self._bar]
        self._inside = self._x < length
        self._at = self._starts[self._bar] + np.minimum(self._x, length - 1)

    def _put(self, name: str, values: np.ndarray, known: "np.ndarray | bool" = True) -> None:
        i = COLUMN[name]
        self._columns[self._here, i] = np.where(known, FIRST[i] + np.minimum(values, SIZES[name] - 1), 0)

    def _put_flags(self, name: str, bits: np.ndarray) -> None:
        first = COLUMN[f"{name}0"]
        flags = (bits[:, None] >> np.arange(12)) & 1
        self._columns[self._here, first : first + 12] = flags * FIRST[first : first + 12]

    def write(self) -> None:
        self._put("tick", self._x)
        self._put("to_barline", np.maximum(self._lengths[self._bar] - self._x, 0))
        self._put("track", self._track)
        self._put("from_bottom", np.maximum(self._K - 1 - self._track, 0))
        self._put("duration", self._shown.duration[self._here], self._shown.duration[self._here] > 0)
        self._company()
        self._heard_so_far()
        self._line()
        if self._ahead is not None and len(self._ahead.notes):
            AheadReader(
                self._columns, self._here, self._bar, self._track, self._x, self._starts, self._told
            ).write(self._ahead, self._K)
        self._bars()
        self._closing()
        self._chords()
        self._controls()

    def _company(self) -> None:
        """What sounds where the next note is expected, and when the other tracks move."""
        K, X, starts = self._K, int(self._starts[-1]), self._starts
        written, held, kept = _Sounding(K, X), _Sounding(K, X), _Sounding(K, X)
        onsets, kept_onsets = (np.zeros((K, X + 1), dtype=bool) for _ in range(2))
        for _, track, bar, onset, duration, pitch in self._shown.notes.tolist():
            start, barline = int(starts[bar]) + onset, int(starts[bar + 1])
            written.add(track, start, start + duration, pitch)
            if start + duration > barline:
                held.add(track, barline, start + duration, pitch)
            onsets[track, start] = True
        shown_ahead = int(starts[self._told.before + len(self._ahead.lengths)]) if self._ahead else 0
        for _, track, bar, onset, duration, pitch in self._ahead.notes.tolist() if self._ahead else ():
            start = int(starts[bar]) + onset
            kept.add(track, start, min(start + duration, shown_ahead), pitch)
            kept_onsets[track, start] = True
        at, x, track, inside = self._at, self._x, self._track, self._inside
        others = np.arange(K)
        above, mine = others < track[:, None], others == track[:, None]  # (m, K)

        def heard(when: np.ndarray) -> np.ndarray:
            """The pitch each track is known to sound: those above as written, the others as held over or
            kept, (m, K)."""
            later = np.where(kept.pitch[:, when].T >= 0, kept.pitch[:, when].T, held.pitch[:, when].T)
            return np.where(above, written.pitch[:, when].T, later)

        now = np.where(inside[:, None], heard(at), NONE)
        earlier = np.maximum(at - 1, 0)
        before = np.where(x[:, None] > 0, heard(earlier), written.pitch[:, earlier].T)
        before = np.where(((at > 0) & inside)[:, None], before, NONE)
        rows, own = np.arange(len(at)), self._sounding_until_now()
        for offset in OFFSETS:
            other = np.clip(track + offset, 0, K - 1)
            there = other == track + offset
            pitch, past = now[rows, other], before[rows, other]
            self._put(f"pitch{offset:+d}", pitch, there & (pitch >= 0))
            motion = np.clip(pitch - past, -MOTION, MOTION) + MOTION
            self._put(f"motion{offset:+d}", motion, there & (pitch >= 0) & (past >= 0))
            perfect = np.isin((past - own) % 12, (0, 7)) & (pitch != past) & there & (own >= 0)
            led = own + pitch - past
            known = perfect & (pitch >= 0) & (past >= 0) & (led >= 0) & (led < PITCHES)
            self._put(f"parallel{offset:+d}", led, known)
        classes = np.where(above, written.classes[:, at].T, (held.classes | kept.classes)[:, at].T)
        classes = np.where(mine | ~inside[:, None], 0, classes)
        self._put_flags("sounds", np.bitwise_or.reduce(classes, axis=1))
        self._put_flags("own", np.where(inside, held.classes[track, at] | self._own_cell(), 0))

        moves = np.zeros((K, X + 1), dtype=bool)  # onsets in other tracks that are known at work in track k
        for k in range(K):
            moves[k] = onsets[:k].any(axis=0) | kept_onsets[k + 1 :].any(axis=0)
        soonest = np.where(moves, np.arange(X + 1), X + TICKS)
        soonest = np.minimum.accumulate(soonest[:, ::-1], axis=1)[:, ::-1]
        start, barline = starts[self._bar], starts[self._bar + 1]
        company = inside & (soonest[track, start] < barline)
        self._put("moves", (soonest[track, at] == at).astype(np.int64), company)
        self._put("next_move", np.minimum(soonest[track, np.minimum(at + 1, X)], barline) - at, company)

    def _sounding_until_now(self) -> np.ndarray:
        """The last pitch of the track where it sounds up to where the next note is expected, else NONE,
        (m,)."""
        notes, found = self._shown.notes, np.full(len(self._here), NONE)
        for k in range(self._K):
            mine = notes[notes[:, 1] == k]
            count = np.cumsum(self._shown.is_note & (self._shown.track == k))[self._here]
            m = np.flatnonzero((self._track == k) & (count > 0))
            last = mine[count[m] - 1]
            reaches = self._starts[last[:, 2]] + last[:, 3] + last[:, 4] >= self._at[m]
            found[m] = np.where(reaches, last[:, 5], NONE)
        return found

    def _own_cell(self) -> np.ndarray:
        """Pitch classes that the last notes of the cell still sound, as bits (m,)."""
        notes, own = self._shown.notes, np.zeros(len(self._here), dtype=np.int64)
        if not len(notes):
            return own
        count = np.cumsum(self._shown.is_note)[self._here]  # of notes read
        cell = self._shown.opened[notes[:, 0]]
        for back in range(1, CHORD + 1):
            note = np.maximum(count - back, 0)
            sounds = (count >= back) & (cell[note] == self._shown.opened[self._here])
            sounds &= (notes[note, 3] <= self._x) & (notes[note, 3] + notes[note, 4] > self._x)
            own |= np.where(sounds, 1 << notes[note, 5] % 12, 0)
        return own

    def _heard_so_far(self) -> None:
        """Shares of the pitch classes of all that was read."""
        weights = np.zeros((len(self._shown.bar), 12), dtype=np.int64)
        notes = self._shown.notes
        weights[notes[:, 0], notes[:, 5] % 12] = np.minimum(notes[:, 4], HEAVY)
        first_heard = np.zeros(12, dtype=np.int64)
        if self._ahead is not None:
            notes = self._ahead.notes
            np.add.at(first_heard, notes[:, 5] % 12, np.minimum(notes[:, 4], HEAVY))
        share = np.cumsum(weights, axis=0)[self._here] + first_heard
        total = share.sum(axis=1)
        level = np.minimum(share * 3 * LEVELS // np.maximum(total, 1)[:, None], LEVELS - 1)
        first = COLUMN["share0"]
        self._columns[self._here, first : first + 12] = np.where(
            total[:, None] > 0, FIRST[first : first + 12] + level, 0
        )

    def _line(self) -> None:
        """The last two pitches of the track, and the last one's place in the key."""
        notes, track = self._shown.notes, self._track
        last, second = (np.full(len(self._here), NONE) for _ in range(2))
        for k in range(self._K):
            pitches = np.concatenate([[NONE, NONE], notes[notes[:, 1] == k, 5]])
            count = np.cumsum(self._shown.is_note & (self._shown.track == k))[self._here]
            m = track == k
            last[m], second[m] = pitches[count[m] + 1], pitches[count[m]]
        self._put("last", last, last >= 0)
        self._put("before_last", second, second >= 0)
        if self._told.key is not None:
            self._put("degree", (last - self._told.key[0]) % 12, last >= 0)

    def _bars(self) -> None:
        """Bars that are left and the place in the phrase and in the form: of Bar tokens too."""
        told, everywhere = self._told, np.flatnonzero(self._shown.bar >= 0)
        number = self._shown.bar[everywhere]

        def put(name: str, values: np.ndarray, known: "np.ndarray | bool" = True) -> None:
            i = COLUMN[name]
            self._columns[everywhere, i] = np.where(known, FIRST[i] + np.minimum(values, SIZES[name] - 1), 0)

        if told.bars_left:
            put("bars_left", np.clip(told.bars_left - number, 0, BARS))
        if told.first_bar >= 0:
            put("bar", (told.first_bar + number) % PHRASE)
        if told.key is not None:
            put("tonic", np.full(len(number), told.key[0]))
            put("mode", np.full(len(number), told.key[1]))
        if told.sections:
            place = np.array([*told.sections, (NONE, NONE, NONE)])[np.minimum(number, len(told.sections))]
            for name, i in (("section", 0), ("section_bar", 1), ("section_left", 2)):
                put(name, place[:, i] % SECTIONS if not i else place[:, i], place[:, 0] >= 0)

    def _closing(self) -> None:
        told, duration, length = self._told, self._shown.duration[self._here], self._lengths[self._bar]
        reach = np.sign(self._x + duration - length) + 1
        left = told.bars_left - self._bar if told.bars_left else np.full(len(reach), NONE)
        ends = np.array([*(left == 0 for _, _, left in told.sections), False])
        ends = ends[np.minimum(self._bar, len(told.sections))]
        kind = np.where(left == 1, 0, np.where(ends, 1, np.where(left == 2, 2, 3)))
        self._put("closing", kind * 3 + reach, (duration > 0) & self._inside)

    def _chords(self) -> None:
        if self._told.chords is None or not len(self._told.chords):
            return
        line = ChordLine.of(self._told.chords).entries
        first = COLUMN["chord_root"]
        there = self._at < len(line)
        self._columns[self._here, first : first + line.shape[1]] = np.where(
            there[:, None], line[np.minimum(self._at, len(line) - 1)], 0
        )

    def _controls(self) -> None:
        """What is asked of the track beside what it is so far, from the first bar to be written on."""
        if not self._told.asks:
            return
        shown, told, tpq = self._shown, self._told, self._kinds.tpq
        starts, before = self._starts, min(self._told.before, len(self._lengths))
        elapsed = starts[self._bar] + np.minimum(self._x, self._lengths[self._bar]) - starts[before]
        for k, asked in enumerate(told.asks):
            mine = np.flatnonzero((self._track == k) & (elapsed >= 0) & (self._bar >= before))
            if not len(mine) or all(index < 0 for index in asked):
                continue
            notes = shown.notes[shown.notes[:, 1] == k]
            _, _, bar, onset, duration, pitch = notes.T
            end = starts[bar] + onset + duration
            so_far = np.concatenate([[NONE], np.maximum.accumulate(end)[:-1]]) if len(end) else end
            counted = bar >= before
            beat = shown.beats[bar]
            phase = onset % beat
            sums = [
                counted,
                np.where(counted, duration, 0),
                np.where(counted, np.maximum(end - np.maximum(starts[bar] + onset, so_far), 0), 0),
                counted & (phase > 0) & (phase + duration > beat),
            ]
            count = np.searchsorted(notes[:, 0], self._here[mine], side="right")
            n, long, covered, off = (np.concatenate([[0], np.cumsum(s)])[count] for s in sums)
            low = np.minimum.accumulate(np.concatenate([[128], np.where(counted, pitch, 128)]))[count]
            high = np.maximum.accumulate(np.concatenate([[NONE], np.where(counted, pitch, NONE)]))[count]
            some = np.maximum(n, 1)
            values = (
                n * tpq / np.maximum(elapsed[mine], 1),
                long / np.maximum(covered, 1),
                (high - low).astype(np.float64),
                long / some / tpq,
                off / some,
            )
            for control, index, value in zip(CELL_CONTROLS, asked, values, strict=True):
                if index >= 0:
                    known = elapsed[mine] > 0 if control.name == "density" else n > 0
                    so = np.where(known, 1 + np.searchsorted(control.edges, value, side="right"), 0)
                    i = COLUMN[f"ask_{control.name}"]
                    self._columns[self._here[mine], i] = FIRST[i] + index * (control.classes + 1) + so
