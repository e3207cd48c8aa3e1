"""The token that would go on as another bar went, an earlier one or one that is kept ahead: what makes music
that comes back easy to write."""

import numpy as np

from models.tokens.place import COLUMN, COPIES, COPY_NAMES, FIRST, LAGS, NONE, RUNS, Told
from models.tokens.place_cells import FILL, PROGRAM, Cells, Kinds

_AT = [1 + COPIES + COLUMN[f"run{name}"] for name in COPY_NAMES]
_BASE = [int(FIRST[COLUMN[f"run{name}"]]) for name in COPY_NAMES]


class CopyReader:
    """Writes the copies of the tokens of a section. `ahead`: tokens and cells of what is kept ahead, which
    follow one another from `Ahead` to `Fill`. S: tokens of both."""

    def __init__(
        self,
        kinds: Kinds,
        ids: np.ndarray,
        shown: Cells,
        ahead: "tuple[np.ndarray, Cells] | None",
        told: Told,
    ) -> None:
        self._shown, self._told = shown, told
        self._here = np.flatnonzero(shown.in_cell)
        self._bar, self._track = shown.bar[self._here], shown.track[self._here]
        self._B, self._K = int(shown.bar.max()) + 1, int(shown.track.max()) + 1
        self._kept = np.zeros(0, dtype=np.int64) if ahead is None else ahead[0]
        A = len(self._kept)
        self._ids = np.concatenate([self._kept, ids])  # (S,)
        self._ids[:A] = np.where(kinds.kind[self._kept] == FILL, 0, self._kept)
        self._opened = np.concatenate([np.full(A, NONE), np.where(shown.opened >= 0, shown.opened + A, NONE)])
        self._opens = np.full((self._B, max(self._K, 0)), NONE)
        self._opens_ahead = self._opens.copy()
        if self._K > 0:
            self._opens[self._bar, self._track] = shown.opened[self._here] + A
        if ahead is not None and self._K > 0:
            cells = ahead[1]
            self._opened[:A] = np.where(kinds.kind[self._kept] == FILL, NONE, cells.opened)
            first = np.flatnonzero((kinds.kind[self._kept] == PROGRAM) & (cells.track < self._K))
            first = first[self._kept[first + 1] != kinds.mask]  # Fill at least follows
            self._opens_ahead = np.full((int(cells.bar.max(initial=NONE)) + 1, self._K), NONE)
            self._opens_ahead[cells.bar[first], cells.track[first]] = first

    def write(self, columns: np.ndarray, copies: np.ndarray) -> None:
        """Columns and copies of the section's tokens."""
        if self._K < 1:
            return
        for c, opens in enumerate(self._sources()):
            self._write(c, opens, columns, copies)

    def _sources(self) -> list[np.ndarray]:
        """For each copy the token that opens the cell which each cell may be like, (B, K); NONE: there is
        none."""
        bars = np.arange(self._B)
        again = np.full(self._B, NONE)
        again[: len(self._told.again)] = self._told.again[: self._B]
        again = np.where(again < bars, again, NONE)
        earlier = [*(bars - lag for lag in LAGS), again]
        found = [np.where(bar[:, None] >= 0, self._opens[np.maximum(bar, 0)], NONE) for bar in earlier]
        for lag in LAGS:
            there = np.full((self._B, self._K), NONE)
            reached = self._opens_ahead[lag : lag + self._B]
            there[: len(reached)] = reached
            found.append(there)
        return found

    def _write(self, c: int, opens: np.ndarray, columns: np.ndarray, copies: np.ndarray) -> None:
        """While a cell is still the same as its source: the token that follows there."""
        shown, here, A = self._shown, self._here, len(self._kept)
        offset = here - shown.opened[here]
        first = np.flatnonzero(offset == 0)
        last = np.append(first[1:], len(here)) - 1
        start = opens[self._bar, self._track]
        known = start >= 0
        there = np.minimum(start + offset, len(self._ids) - 1)
        same = known & (self._ids[there] == self._ids[here + A]) & (self._opened[there] == start)
        wrong = np.cumsum(~same)
        base = np.zeros(len(here), dtype=np.int64)
        base[first] = wrong[first] - ~same[first]
        matches = known & (wrong == np.maximum.accumulate(base))
        follows = np.minimum(there + 1, len(self._ids) - 1)
        copies[here, c] = np.where(matches, self._ids[follows], 0)
        # a cell was the same where it is to its last token and its source ends there too
        whole = np.zeros((self._B + 1, self._K), dtype=bool)
        ended = self._opened[follows[last]] != start[last]
        whole[self._bar[last], self._track[last]] = matches[last] & ended
        count = np.cumsum(np.concatenate([np.zeros((1, self._K), dtype=np.int64), whole[: self._B]]), axis=0)
        run = count[: self._B] - count[np.maximum(np.arange(self._B) - RUNS, 0)]
        i = COLUMN[f"run{COPY_NAMES[c]}"]
        level = np.where(matches, run[self._bar, self._track], RUNS + 1)
        columns[here, i] = np.where(known, FIRST[i] + level, 0)


class CopyScan:
    """The same token by token. Of what is kept ahead: `keep` each token, `keep_cell` where one opens a cell,
    `kept` when all is read. Of the section: `read` each token, `begin` a cell, `go_on` by a token of it,
    `end` it."""

    def __init__(self, again: tuple[int, ...], mask: int) -> None:
        self._again, self._mask = again, mask
        self._tokens: list[int] = []
        self._opens: dict[tuple[int, int], tuple[int, int]] = {}  # (bar, track) -> first token, end
        self._opens_ahead: dict[tuple[int, int], tuple[int, int]] = {}
        self._whole: dict[tuple[int, int], list[bool]] = {}
        self._cell = (NONE, NONE)
        self._offset = 0
        self._match, self._source, self._end = [False] * COPIES, [NONE] * COPIES, [NONE] * COPIES
        self._run = [0] * COPIES

    def keep(self, token: int) -> None:
        """A token of what is kept ahead."""
        self._tokens.append(token)

    def keep_cell(self, bar: int, track: int) -> None:
        """The token kept last opens this cell; bars count from the first after Fill."""
        self._opens_ahead[bar, track] = (len(self._tokens) - 1, NONE)

    def keep_end(self) -> None:
        """The token kept last does not belong to the cell before it."""
        if self._opens_ahead:
            cell, (first, end) = next(reversed(self._opens_ahead.items()))
            if end == NONE:
                self._opens_ahead[cell] = (first, len(self._tokens) - 1)

    def kept(self) -> None:
        """All that is kept is read."""
        self.keep(0)
        self.keep_end()
        tokens, mask = self._tokens, self._mask
        self._opens_ahead = {c: (a, e) for c, (a, e) in self._opens_ahead.items() if tokens[a + 1] != mask}

    def read(self, token: int) -> None:
        """A token of the section."""
        self._tokens.append(token)

    def end(self) -> None:
        """The cell is over, and the token that ended it is read: whether it was the same as its sources."""
        first, end = self._opens[self._cell][0], len(self._tokens) - 1
        self._opens[self._cell] = (first, end)
        self._whole[self._cell] = [
            match and source + end - first == stop
            for match, source, stop in zip(self._match, self._source, self._end, strict=True)
        ]

    def begin(self, bar: int, track: int, row: list[int]) -> None:
        """A cell begins with the token that was read last; writes its columns."""
        self._cell, self._offset = (bar, track), 0
        self._opens[bar, track] = (len(self._tokens) - 1, NONE)
        self._match, self._run = [False] * COPIES, [0] * COPIES
        told = self._again[bar] if bar < len(self._again) else NONE
        earlier = [*(bar - lag for lag in LAGS), told if told < bar else NONE]
        sources = [self._opens.get((source, track)) for source in earlier]
        sources += [self._opens_ahead.get((bar + lag, track)) for lag in LAGS]
        self._source = [NONE if source is None else source[0] for source in sources]
        self._end = [NONE if source is None else source[1] for source in sources]
        whole = [self._whole.get((bar - i, track)) for i in range(1, RUNS + 1)]
        for c, start in enumerate(self._source):
            if start >= 0:
                self._match[c] = self._tokens[start] == self._tokens[-1]
                self._run[c] = sum(each[c] for each in whole if each is not None)
        self._write(row)

    def go_on(self, token: int, row: list[int]) -> None:
        """A token of the cell, which is read; writes its columns."""
        self._offset += 1
        for c, start in enumerate(self._source):
            if self._match[c]:
                there = start + self._offset
                self._match[c] = there < self._end[c] and self._tokens[there] == token
        self._write(row)

    def _write(self, row: list[int]) -> None:
        for c, start in enumerate(self._source):
            if start < 0:
                continue
            if self._match[c]:
                row[1 + c] = self._tokens[start + self._offset + 1]
                row[_AT[c]] = _BASE[c] + self._run[c]
            else:
                row[1 + c], row[_AT[c]] = 0, _BASE[c] + RUNS + 1


def worn(told: Told, bar: int, row: list[int]) -> tuple[int, ...]:
    """Of a token with its place in a bar that form tells is new: the tokens that go on as a bar of an earlier
    section."""
    if bar >= len(told.sections) or (bar < len(told.again) and told.again[bar] >= 0):
        return ()
    letter, since, _ = told.sections[bar]
    found = (row[1 + i] for i, lag in enumerate(LAGS) if lag > since)
    return tuple({token for token in found if token}) if letter >= 0 else ()
