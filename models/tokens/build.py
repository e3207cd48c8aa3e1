"""A tokenizer from what the train split holds, and one read again."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from models.tokens.tokenizer import CellTokenizer
from music.score.errors import UnreadableScore
from music.score.parts import Part
from music.score.without_torch import without_torch

with without_torch():
    from miditok import TokenizerConfig


def train_tokenizer(
    *,
    metres: Sequence[str],
    programs: Sequence[int],
    styles: Sequence[str],
    rhythms: Sequence[str],
    tempos: Sequence[str],
    ticks_per_quarter: int,
    velocity: int,
    max_note_quarters: int,
    max_bars_control: int,
    parts: Mapping[int, Part] | None = None,
) -> CellTokenizer:
    """A tokenizer whose metres, programs and labels are those of the train split; `parts`: what each program
    keeps to there."""
    if not metres or not programs:
        raise UnreadableScore(
            "no metre or no program in the train split: there is nothing to learn a vocabulary from"
        )
    config = TokenizerConfig(
        special_tokens=["PAD", "EOS", "MASK"],
        use_programs=True,
        one_token_stream_for_programs=True,
        use_velocities=False,
        use_time_signatures=True,
        beat_res={(0, 4): ticks_per_quarter},
        ticks_per_quarter=ticks_per_quarter,
        velocity=velocity,
        metres=list(metres),
        programs=[int(p) for p in programs],
        parts=[
            [int(program), part.low, part.high, part.one_line, part.notes]
            for program, part in sorted((parts or {}).items())
        ],
        styles=list(styles),
        rhythms=list(rhythms),
        tempos=list(tempos),
        max_bars_control=max_bars_control,
        max_duration_ticks=max_note_quarters * ticks_per_quarter,
    )
    return CellTokenizer(config)


def load_tokenizer(path: Path) -> CellTokenizer:
    """Reload a saved tokenizer."""
    return CellTokenizer(params=path)
