"""Places token by token: what decoding reads as it writes. The same numbers as models/tokens/place_reader.py,
which tests/models/tokens/test_place.py keeps."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from models.tokens.place import (
    CHORD,
    HEAVY,
    LEVELS,
    MOTION,
    NONE,
    PHRASE,
    PITCHES,
    SIZES,
    TICKS,
    WIDTH,
    ChordLine,
    Told,
)
from models.tokens.place_cells import AHEAD, BAR, DURATION, END, FILL, PITCH, POSITION, PROGRAM, Kinds
from models.tokens.place_copies import CopyScan, worn
from models.tokens.place_rows import (
    AT,
    BASE,
    CHORD_WIDTH,
    FLAGS,
    ROLES,
    SHARE,
    bar_row,
    write_asks,
    write_melody,
)
from models.tokens.place_tracks import AheadScan, Standing, TrackScan, sound


class PlaceScan:
    """`read` a token: that token with its place, WIDTH numbers. `follow` some: int32 (n, WIDTH)."""

    def __init__(self, kinds: Kinds, told: Told) -> None:
        self._kind, self._value, self._beat_of = kinds.lists
        self._tpq, self.told, self._K = kinds.tpq, told, told.tracks
        self.row = [0] * WIDTH
        self._blank = [0] * WIDTH
        self._chords = ChordLine.of(told.chords).entries.tolist() if told.chords is not None else []
        self._ahead = AheadScan(told.tracks, told.before)
        self._shares, self._total = [0] * 12, 0
        self._reading_ahead = False
        self._copies = CopyScan(told.again, kinds.mask)
        self._begin(0)

    def _begin(self, first_bar: int) -> None:
        """A section of cells: the sequence itself, Ahead, or what follows Fill."""
        self._tracks = [TrackScan() for _ in range(self._K)]
        self._bar, self._track, self._start, self._length = first_bar - 1, NONE, 0, 0
        self._beat, self._begins, self._closing = self._tpq, 0, 3
        self._offset_bar = first_bar
        self._x = self._duration = 0
        self._cell: list[tuple[int, int, int]] = []
        self._onsets: list[list[int]] = [[] for _ in range(self._K)]
        self._moves: list[int] = []

    def follow(self, tokens: "Sequence[int] | np.ndarray") -> np.ndarray:
        """The tokens with their places, int32 (n, WIDTH)."""
        rows = [self.read(int(token)) for token in tokens]
        return np.array(rows, dtype=np.int32).reshape(-1, WIDTH)

    def read(self, token: int) -> list[int]:
        """The token with its place. The list is not changed later."""
        self._read(token)
        return self.row

    def _read(self, token: int) -> None:
        kind, value = self._kind[token], self._value[token]
        if kind == AHEAD:
            self._begin(self.told.before)
            self._reading_ahead = True
            return self._set_blank(token)
        if kind == FILL:
            self._ahead.close()
            self._copies.kept()
            self._reading_ahead = False
            self._begin(0)
            return self._set_blank(token)
        if self._reading_ahead:
            self._copies.keep(token)
        else:
            self._copies.read(token)
        if kind == BAR:
            self._close()
            self._open_bar(token, value)
        elif self._bar < self._offset_bar:
            self._set_blank(token)
        elif kind == PROGRAM:
            self._close()
            self._enter(token)
        elif kind == END:
            self._close()
            self._track = NONE
            self._set_bar(token)
        elif self._track == NONE:
            self._set_bar(token)
        else:
            self._go_on(kind, value, token)

    def _set_blank(self, token: int) -> None:
        self.row = list(self._blank)
        self.row[0] = token

    def _set_ahead(self, token: int) -> None:
        """A token of what is kept ahead: where in its bar and phrase it stands."""
        self._set_blank(token)
        if self.told.first_bar >= 0 and self._bar >= self._offset_bar:
            self.row[AT["bar"]] = BASE["bar"] + (self.told.first_bar + self._bar) % PHRASE
        if self._track != NONE:
            self.row[AT["tick"]] = BASE["tick"] + min(self._x, TICKS)

    def _open_bar(self, token: int, length: int) -> None:
        self._start += self._length
        self._length, self._beat = length, self._beat_of[token]
        self._bar += 1
        self._track = NONE
        if self._reading_ahead:
            self._ahead.bar(self._start)
        elif self._bar == self.told.before:
            self._begins = self._start
        self._onsets = [[] for _ in range(self._K)]
        self._bar_row, self._closing = bar_row(self.told, self._bar)
        self._set_bar(token)

    def _set_bar(self, token: int) -> None:
        if self._reading_ahead:
            return self._set_ahead(token)
        self.row = list(self._bar_row)
        self.row[0] = token

    def _close(self) -> None:
        """A cell is over."""
        if self._track != NONE and self._reading_ahead:
            self._copies.keep_end()
        elif self._track != NONE:
            self._copies.end()

    def _enter(self, token: int) -> None:
        self._track += 1
        self._x = self._duration = 0
        self._cell = []
        if self._reading_ahead:
            self._copies.keep_cell(self._bar, self._track)
            return self._set_ahead(token)
        k, row = self._track, list(self._bar_row)
        row[0] = token
        self.row = row
        row[AT["track"]] = BASE["track"] + min(k, SIZES["track"] - 1)
        row[AT["from_bottom"]] = BASE["from_bottom"] + min(self._K - 1 - k, SIZES["from_bottom"] - 1)
        self._ahead_start = self._ahead.start(self._bar)
        if self._K > 1:
            moves = {onset for other in self._onsets[:k] for onset in other}
            if self._ahead_start != NONE:
                for other in range(k + 1, self._K):
                    moves.update(self._ahead.onsets(other, self._bar))
            self._moves = sorted(moves)
        pitch, distance = self._ahead.coming(k, self._bar)
        if pitch >= 0:
            row[AT["own_ahead"]] = BASE["own_ahead"] + pitch
            row[AT["own_ahead_in"]] = BASE["own_ahead_in"] + min(distance, SIZES["own_ahead_in"] - 1)
        self._copies.begin(self._bar, k, row)
        self._set_line()
        self._set_shares()
        self._set_x()

    def _go_on(self, kind: int, value: int, token: int) -> None:
        if not self._reading_ahead:
            self.row = row = list(self.row)
            row[0] = token
            self._copies.go_on(token, row)
        if kind == POSITION:
            self._x = value
        elif kind == DURATION:
            self._duration = value + 1
        elif kind == PITCH:
            self._hear(value)
        if self._reading_ahead:
            self._set_ahead(token)
        elif kind == DURATION:
            row[AT["duration"]] = BASE["duration"] + min(value + 1, TICKS)
            self._set_closing()
        elif kind in (POSITION, PITCH):
            self._set_x()

    def _hear(self, pitch: int) -> None:
        k, onset, duration = self._track, self._x, self._duration
        track, start, barline = self._tracks[k], self._start + onset, self._start + self._length
        end = start + duration
        weight = min(duration, HEAVY)
        self._shares[pitch % 12] += weight
        self._total += weight
        self._x = onset + duration
        if self._reading_ahead:
            self._ahead.hear(k, self._bar, onset, start, end, pitch)
            return
        if self._K > 1:
            sound(track.pitch, track.classes, start, end, pitch)
            self._onsets[k].append(onset)
        if end > barline:
            sound(track.held_pitch, track.held_classes, barline, end, pitch)
        self._cell.append((onset, self._x, pitch))
        track.last, track.before_last = pitch, track.last
        if self._bar >= self.told.before and self.told.asks:
            phase, sums = onset % self._beat, track.sums
            sums[0] += 1
            sums[1] += duration
            sums[2] += max(end - max(start, track.end), 0)
            sums[3] += phase > 0 and phase + duration > self._beat
            track.low, track.high = min(track.low, pitch), max(track.high, pitch)
        track.end, track.end_of_last = max(track.end, end), end
        self._set_line()
        self._set_shares()

    def _set_line(self) -> None:
        row, track = self.row, self._tracks[self._track]
        if track.last >= 0:
            row[AT["last"]] = BASE["last"] + track.last
            if self.told.key is not None:
                row[AT["degree"]] = BASE["degree"] + (track.last - self.told.key[0]) % 12
        if track.before_last >= 0:
            row[AT["before_last"]] = BASE["before_last"] + track.before_last

    def _set_shares(self) -> None:
        total = self._total
        if total:
            top = LEVELS - 1
            self.row[AT["share0"] : AT["share0"] + 12] = [
                base + min(share * 3 * LEVELS // total, top)
                for base, share in zip(SHARE, self._shares, strict=True)
            ]

    def _set_x(self) -> None:
        """All that depends on where the next note is expected."""
        row, x, k, length = self.row, self._x, self._track, self._length
        inside = x < length
        at = self._start + min(x, length - 1)
        row[AT["tick"]] = BASE["tick"] + min(x, TICKS)
        row[AT["to_barline"]] = BASE["to_barline"] + min(max(length - x, 0), TICKS)
        row[AT["duration"]] = BASE["duration"] + min(self._duration, TICKS) if self._duration else 0
        self._set_closing()
        own, track = 0, self._tracks[k]
        if inside:
            if at < len(track.held_classes):
                own = track.held_classes[at]
            for onset, end, pitch in self._cell[-CHORD:]:
                if onset <= x < end:
                    own |= 1 << pitch % 12
        row[AT["own0"] : AT["own0"] + 12] = FLAGS["own"][own]
        if self._ahead_start != NONE:
            write_melody(row, *self._ahead.melody(k, self._ahead_start + x))
        if self._K > 1:
            self._set_company(at, inside)
        if self._chords:
            first = AT["chord_root"]
            row[first : first + CHORD_WIDTH] = (
                self._chords[at] if at < len(self._chords) else [0] * CHORD_WIDTH
            )
        if self.told.asks:
            self._set_asks(track, x, length)

    def _set_closing(self) -> None:
        x, length, duration = self._x, self._length, self._duration
        if not duration or x >= length:
            self.row[AT["closing"]] = 0
            return
        reach = 0 if x + duration < length else 1 if x + duration == length else 2
        self.row[AT["closing"]] = BASE["closing"] + self._closing * 3 + reach

    def _set_company(self, at: int, inside: bool) -> None:
        row, x, k = self.row, self._x, self._track
        bits = 0
        ahead = self._ahead_start
        track = self._tracks[k]
        own = track.last if track.end_of_last >= at else NONE
        for offset, p_at, p_base, m_at, m_base, l_at, l_base in ROLES:
            j = k + offset
            pitch = past = NONE
            if inside and 0 <= j < self._K:
                pitch = self._sounds(j, at, ahead + x if ahead != NONE else NONE)
                if at > 0 and x > 0:
                    past = self._sounds(j, at - 1, ahead + x - 1 if ahead != NONE else NONE)
                elif at > 0:
                    written = self._tracks[j].pitch
                    past = written[at - 1] if at - 1 < len(written) else NONE
            led = own + pitch - past
            perfect = own >= 0 and pitch >= 0 and past >= 0 and pitch != past and (past - own) % 12 in (0, 7)
            row[l_at] = l_base + led if perfect and 0 <= led < PITCHES else 0
            row[p_at] = p_base + pitch if pitch >= 0 else 0
            row[m_at] = (
                m_base + min(max(pitch - past, -MOTION), MOTION) + MOTION if pitch >= 0 and past >= 0 else 0
            )
        if inside:
            for j, track in enumerate(self._tracks):
                if j < k:
                    bits |= track.classes[at] if at < len(track.classes) else 0
                elif j > k:
                    bits |= track.held_classes[at] if at < len(track.held_classes) else 0
                    if ahead != NONE:
                        kept = self._ahead.tracks[j].classes
                        bits |= kept[ahead + x] if ahead + x < len(kept) else 0
        row[AT["sounds0"] : AT["sounds0"] + 12] = FLAGS["sounds"][bits]
        if inside and self._moves:
            moves = self._moves
            i = bisect_right(moves, x)
            row[AT["moves"]] = BASE["moves"] + (i > 0 and moves[i - 1] == x)
            following = (moves[i] if i < len(moves) else self._length) - x
            row[AT["next_move"]] = BASE["next_move"] + min(following, TICKS)
        else:
            row[AT["moves"]] = row[AT["next_move"]] = 0

    def _sounds(self, j: int, at: int, ahead_at: int) -> int:
        """The pitch a track is known to sound: one above as written, the others as kept or held over."""
        if j < self._track:
            written = self._tracks[j].pitch
            return written[at] if at < len(written) else NONE
        if ahead_at != NONE:
            kept = self._ahead.tracks[j].pitch
            if ahead_at < len(kept) and kept[ahead_at] >= 0:
                return kept[ahead_at]
        held = self._tracks[j].held_pitch
        return held[at] if at < len(held) else NONE

    def _set_asks(self, track: TrackScan, x: int, length: int) -> None:
        asks = self.told.asks
        if self._bar < self.told.before or self._track >= len(asks):
            return
        elapsed = self._start + min(x, length) - self._begins
        write_asks(self.row, asks[self._track], elapsed, track.sums[0], track.so_far(elapsed, self._tpq))

    @property
    def standing(self) -> Standing | None:
        """Where the next token of a cell that is to be written is expected; None elsewhere."""
        k, bar = self._track, self._bar
        if self._reading_ahead or k == NONE or bar < self.told.before:
            return None
        elapsed = self._start + min(self._x, self._length) - self._begins
        track = self._tracks[k]
        where = (k, self._K, self._x, self._length, self._beat, self._duration)
        ends = (self._closing == 0, max(self.told.bars_left - bar, 0))
        so_far = track.so_far(elapsed, self._tpq) if elapsed > 0 and track.sums[0] else ()
        heard, at = (track.sums[0], track.low, track.high), self._start + self._x
        return Standing(*where, *ends, *heard, so_far, at, worn(self.told, bar, self.row))
