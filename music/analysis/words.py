"""Words of music: intervals and rhythms as they follow each other, as numbers that can be counted, compared
and hashed. None of them depends on the key."""

import numpy as np
from symusic import Score

from music.analysis.similarity import melody
from music.score.form import bar_table, note_array

MIX, RHYTHM, PAIR = (
    np.uint64(0x9E3779B97F4A7C15),
    6,
    7,
)  # Fibonacci hashing (Knuth, vol. 3); kinds of words, beside n-grams by their length


def interval_words(score: Score, lengths: tuple[int, ...] = (3, 4, 5)) -> np.ndarray:
    """Interval n-grams of every pitched track, one int64 a time it occurs: n-grams of different length never
    share a number."""
    found = [np.zeros(0, dtype=np.int64)]
    for line in melody(score):
        for n in lengths:
            if len(line) >= n:
                found.append(
                    np.lib.stride_tricks.sliding_window_view(line, n)
                    @ (49 ** np.arange(n, dtype=np.int64))
                    * 8
                    + n
                )
    return np.concatenate(found)


def rhythm_words(score: Score) -> np.ndarray:
    """Where in the bar the notes of a track begin, with the length of the bar, one int64 a bar and one for
    each pair of bars in a row."""
    table, found = bar_table(score), [np.zeros(0, dtype=np.int64)]
    for track in score.tracks:
        notes = note_array(track)
        bar = np.searchsorted(table[:, 0], notes[:, 0], side="right") - 1
        places = (notes[:, 0] - table[bar, 0]).astype(np.uint64) + np.uint64(1)
        bars = (table[:, 1].astype(np.uint64) + np.uint64(1)) * MIX
        np.add.at(
            bars, bar, (places * MIX) ^ (places << np.uint64(29))
        )  # a sum: the order within a bar is that of time anyway
        single = (bars >> np.uint64(4)).astype(np.int64) * 8 + RHYTHM
        pairs = ((bars[:-1] * MIX + bars[1:]) >> np.uint64(4)).astype(np.int64) * 8 + PAIR
        found += [single, pairs]
    return np.concatenate(found)


def buckets(words: np.ndarray, count: int) -> np.ndarray:
    """A bucket below `count` for each word, int64."""
    return (((words.astype(np.uint64) * MIX) >> np.uint64(20)) % np.uint64(count)).astype(np.int64)
