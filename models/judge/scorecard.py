"""The scorecard of a piece: how the model and the descriptors see it."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from symusic import Score, TimeSignature

from models.fill.readable import readable
from models.network.likelihood import bar_surprise, nats_per_note, piece_nats
from models.network.reading import Reads
from models.tokens.labels import Labels
from models.tokens.tokenizer import CellTokenizer, NotRepresentable
from music.analysis.descriptors import describe, describe_opening
from music.analysis.similarity import RunIndex, melody
from music.score.errors import UnreadableScore
from music.score.file_cells import FileCells
from music.score.form import bar_table, normalise

MOST_CELLS, MOST_TOKENS = 8_000, 16_000  # a few seconds of work; beyond it, score parts
AROUND = 8  # bars before and after a region that are scored with it


class Scoring(Protocol):
    """What a scorecard needs of a model: a bundle has it all."""

    @property
    def tokenizer(self) -> CellTokenizer: ...
    @property
    def reader(self) -> Reads: ...
    @property
    def run_index(self) -> RunIndex: ...
    @property
    def run_owners(self) -> list[str]: ...
    @property
    def profile(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Judged:
    """A score with what the model and the descriptors say of it."""

    score: Score
    opening: dict[str, float]  # descriptors of the first bars, which drift is measured on
    notes: int
    bars: int
    surprise_per_bar: list[float]
    scorecard: dict[str, Any]


def judge(model: Scoring, score: Score, labels: Labels) -> Judged:
    """Scorecard of a score in normal form. Raises UnreadableScore for one too long, NotRepresentable for what
    the model has no token for."""
    cells = len(bar_table(score)) * len(score.tracks)
    if cells > MOST_CELLS:
        raise UnreadableScore(
            f"bars times tracks are {cells}; at most {MOST_CELLS} are scored at once: send a part"
        )
    ids, bar_starts = model.tokenizer.encode_score(score)
    if len(ids) > MOST_TOKENS:
        raise UnreadableScore(
            f"the score has {score.note_num()} notes in {len(ids)} tokens; at most "
            f"{MOST_TOKENS} tokens are scored at once: send a part"
        )
    nats = piece_nats(model.reader, model.tokenizer, [(ids, bar_starts)], [labels])[0]
    each = nats_per_note([nats], [score.note_num()])
    run, owner = model.run_index.longest_run(melody(score))
    reference = np.array(model.profile["nats_per_note"])
    card = {
        "nats_per_note": round(each, 4),
        "percentile": round(float((reference < each).mean() * 100), 1),
        "descriptors": describe(score),
        "originality": {"longest_shared_run": run, "nearest": model.run_owners[owner] if owner >= 0 else ""},
    }
    return Judged(
        score,
        describe_opening(score),
        score.note_num(),
        len(bar_starts),
        [round(float(x), 3) for x in bar_surprise(nats, bar_starts)],
        card,
    )


def judge_around(model: Scoring, file: FileCells, bars: tuple[int, int] | None) -> tuple[Judged | None, str]:
    """Scorecard of bars [first, last) of a file (None: all) with AROUND bars on either side, on the model's
    grid, instruments it does not know read as the nearest it does; or why there is none."""
    first, last = bars or (0, file.shape[0])
    first, last = min(max(first - AROUND, 0), file.shape[0] - 1), min(last + AROUND, file.shape[0])
    start, end = int(file.bars[first, 0]), int(file.bars[last - 1, :2].sum())
    try:
        part: Score = file.score.clip(start, end, clip_end=True).shift_time(-start)
        if not len(part.time_signatures) or part.time_signatures[0].time > 0:
            part.time_signatures.insert(
                0, TimeSignature(0, int(file.bars[first, 2]), int(file.bars[first, 3]))
            )
        score = normalise(
            part, ticks_per_quarter=model.tokenizer.ticks_per_quarter, velocity=model.tokenizer.velocity
        )
        return judge(model, readable(model.tokenizer, score).score, Labels()), ""
    except (UnreadableScore, NotRepresentable) as error:
        return None, str(error)
