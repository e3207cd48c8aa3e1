"""The scorecard of a piece: how the model and the descriptors see it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from symusic import Score, TimeSignature

from models.bundle import Bundle
from models.labels import Labels
from models.passage import with_known_programs
from models.scoring import bar_surprise, nats_per_note, piece_nats
from models.tokens import NotRepresentable
from music.descriptors import describe, describe_opening
from music.errors import UnreadableScore
from music.file_cells import FileCells
from music.score import bar_table, normalise
from music.similarity import melody

MOST_CELLS, MOST_TOKENS = 8_000, 16_000  # a few seconds of work; beyond it, score parts
AROUND = 8  # bars before and after a region that are scored with it


@dataclass(frozen=True)
class Judged:
    """A score with what the model and the descriptors say of it."""

    score: Score
    opening: dict[str, float]  # descriptors of the first bars, which drift is measured on
    notes: int
    bars: int
    surprise_per_bar: list[float]
    scorecard: dict[str, Any]


def judge(bundle: Bundle, score: Score, labels: Labels) -> Judged:
    """Scorecard of a score in normal form. Raises UnreadableScore for one too long, NotRepresentable for what the model has no token for."""
    cells = len(bar_table(score)) * len(score.tracks)
    if cells > MOST_CELLS:
        raise UnreadableScore(f"bars times tracks are {cells}; at most {MOST_CELLS} are scored at once: send a part")
    ids, bar_starts = bundle.tokenizer.encode_score(score)
    if len(ids) > MOST_TOKENS:
        raise UnreadableScore(f"the score has {score.note_num()} notes in {len(ids)} tokens; at most {MOST_TOKENS} tokens are scored at once: send a part")
    nats = piece_nats(bundle.network, bundle.tokenizer, [(ids, bar_starts)], [labels])[0]
    each = nats_per_note([nats], [score.note_num()])
    run, owner = bundle.run_index.longest_run(melody(score))
    reference = np.array(bundle.profile["nats_per_note"])
    card = {
        "nats_per_note": round(each, 4), "percentile": round(float((reference < each).mean() * 100), 1), "descriptors": describe(score),
        "originality": {"longest_shared_run": run, "nearest": bundle.run_owners[owner] if owner >= 0 else ""},
    }  # fmt: skip
    return Judged(score, describe_opening(score), score.note_num(), len(bar_starts), [round(float(x), 3) for x in bar_surprise(nats, bar_starts)], card)


def judge_around(bundle: Bundle, file: FileCells, bars: tuple[int, int] | None) -> tuple[Judged | None, str]:
    """Scorecard of bars [first, last) of a file (None: all) with AROUND bars on either side, on the model's grid, instruments it does not know read as the nearest it does; or why there is none."""
    first, last = bars or (0, file.shape[0])
    first, last = min(max(first - AROUND, 0), file.shape[0] - 1), min(last + AROUND, file.shape[0])
    start, end = int(file.bars[first, 0]), int(file.bars[last - 1, :2].sum())
    try:
        part: Score = file.score.clip(start, end, clip_end=True).shift_time(-start)
        if not len(part.time_signatures) or part.time_signatures[0].time > 0:
            part.time_signatures.insert(0, TimeSignature(0, int(file.bars[first, 2]), int(file.bars[first, 3])))
        score = normalise(part, ticks_per_quarter=bundle.tokenizer.ticks_per_quarter, velocity=bundle.tokenizer.velocity)
        return judge(bundle, with_known_programs(bundle.tokenizer, score), Labels()), ""
    except (UnreadableScore, NotRepresentable) as error:
        return None, str(error)
