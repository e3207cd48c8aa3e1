"""The token that would go on as an earlier bar went: what makes music that comes back easy to write."""

import numpy as np

from models.tokens.place import COLUMN, COPIES, FIRST, LAGS, NONE, RUNS, Told
from models.tokens.place_cells import Cells

_AT = [1 + COPIES + COLUMN[f"run{lag}"] for lag in (*LAGS, "")]
_BASE = [int(FIRST[COLUMN[f"run{lag}"]]) for lag in (*LAGS, "")]


def write_copies(columns: np.ndarray, copies: np.ndarray, ids: np.ndarray, shown: Cells, told: Told) -> None:
    """The token that would go on as an earlier bar went, while the cell is still the same as that one."""
    here = np.flatnonzero(shown.in_cell)
    bar, track = shown.bar[here], shown.track[here]
    B, K = int(shown.bar.max()) + 1, int(shown.track.max()) + 1
    if K < 1:
        return
    opens = np.full((B, K), NONE)
    opens[bar, track] = shown.opened[here]
    offset = here - shown.opened[here]
    again = np.full(B, NONE)
    again[: len(told.again)] = told.again[:B]
    again = np.where(again < np.arange(B), again, NONE)
    first = np.flatnonzero(offset == 0)
    last = np.append(first[1:], len(here)) - 1
    for c in range(COPIES):
        source = np.arange(B) - LAGS[c] if c < len(LAGS) else again
        from_bar = source[bar]
        start = np.where(from_bar >= 0, opens[np.maximum(from_bar, 0), track], NONE)
        known = start >= 0
        there = np.minimum(start + offset, len(ids) - 1)
        same = known & (ids[there] == ids[here]) & (shown.opened[there] == start)
        wrong = np.cumsum(~same)
        base = np.zeros(len(here), dtype=np.int64)
        base[first] = wrong[first] - ~same[first]
        matches = known & (wrong == np.maximum.accumulate(base))
        follows = np.minimum(there + 1, len(ids) - 1)
        copies[here, c] = np.where(matches, ids[follows], 0)
        # a cell was the same where it is to its last token and its source ends there too
        whole = np.zeros((B + 1, K), dtype=bool)
        whole[bar[last], track[last]] = matches[last] & (shown.opened[follows[last]] != start[last])
        ended = np.cumsum(np.concatenate([np.zeros((1, K), dtype=np.int64), whole[:B]]), axis=0)
        run = ended[:B] - ended[np.maximum(np.arange(B) - RUNS, 0)]
        i = COLUMN[f"run{LAGS[c] if c < len(LAGS) else ''}"]
        columns[here, i] = np.where(known, FIRST[i] + np.where(matches, run[bar, track], RUNS + 1), 0)


class CopyScan:
    """The same token by token. `begin` a cell, `go_on` by a token of it, `end` it."""

    def __init__(self, again: tuple[int, ...]) -> None:
        self._again = again
        self._tokens: list[int] = []
        self._opens: dict[tuple[int, int], tuple[int, int]] = {}  # (bar, track) -> first token, end
        self._whole: dict[tuple[int, int], list[bool]] = {}
        self._cell = (NONE, NONE)
        self._offset = 0
        self._match, self._source, self._end = [False] * COPIES, [NONE] * COPIES, [NONE] * COPIES
        self._run = [0] * COPIES

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
        self._source, self._end = [NONE] * COPIES, [NONE] * COPIES
        self._match, self._run = [False] * COPIES, [0] * COPIES
        whole = [self._whole.get((bar - i, track)) for i in range(1, RUNS + 1)]
        for c in range(COPIES):
            told = self._again[bar] if bar < len(self._again) else NONE
            source = bar - LAGS[c] if c < len(LAGS) else told
            if not 0 <= source < bar or (source, track) not in self._opens:
                continue
            self._source[c], self._end[c] = self._opens[source, track]
            self._match[c] = self._tokens[self._source[c]] == self._tokens[-1]
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
