"""Lookup tables that alter a piece token by token: in another key, twice or half as long."""

import numpy as np

from models.tokens.tokenizer import PITCHES, CellTokenizer


def transposition(tokenizer: CellTokenizer, semitones: int) -> np.ndarray:
    """Lookup table uint16 (vocabulary,): pitch and tonic tokens moved by `semitones`. The caller keeps
    pitches within 0-127."""
    table = np.arange(len(tokenizer), dtype=np.int64)
    pitch, tonic = tokenizer.first_id["Pitch"], tokenizer.first_id["Tonic"]
    table[pitch : pitch + PITCHES] = pitch + np.clip(np.arange(PITCHES) + semitones, 0, PITCHES - 1)
    table[tonic : tonic + 12] = tonic + (np.arange(12) + semitones) % 12
    return table.astype(np.uint16)


def stretching(tokenizer: CellTokenizer, factor: int) -> np.ndarray:
    """Lookup table int64 (vocabulary,) that writes every length `factor` times as long (2: 6/8 becomes 6/4;
    -2: half); -1: no such token.

    Control tokens that speak of lengths must be worked out anew: their entries are -1.
    """

    def scaled(value: int) -> int:
        whole = value * 2 if factor > 0 else value // 2
        return whole if factor > 0 or value % 2 == 0 else -1

    table = np.arange(len(tokenizer), dtype=np.int64)
    for kind in ("Tempo", "Density", "NoteLength", "Syncopation"):
        table[tokenizer.first_id[kind] : tokenizer.first_id[kind] + tokenizer.block_size[kind]] = -1
    known = {metre: i for i, metre in enumerate(tokenizer.metres)}
    for i, (n, d) in enumerate(tokenizer.metres):
        other = (n, d // 2) if factor > 0 else (n, d * 2)
        table[tokenizer.first_id["Bar"] + i] = (
            tokenizer.first_id["Bar"] + known[other] if other in known else -1
        )
    for kind, offset in (("Position", 0), ("Duration", 1)):
        for i in range(tokenizer.block_size[kind]):
            value = scaled(i + offset) - offset
            table[tokenizer.first_id[kind] + i] = (
                tokenizer.first_id[kind] + value if 0 <= value < tokenizer.block_size[kind] else -1
            )
    return table
