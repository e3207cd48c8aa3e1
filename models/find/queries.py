"""What is looked for: a score, whole or in part, as vectors, words and descriptors."""

import base64

from symusic import Score

from models.fill.readable import readable
from models.find.answers import Finding, Query, Unanswerable
from models.find.embedding import embed_score
from models.find.words_index import words_of
from models.tokens.tokenizer import NotRepresentable
from music.analysis.descriptors import describe, histograms
from music.reading.files import read_midi
from music.score.errors import UnreadableScore
from music.score.form import Limits, bar_table, normalise
from music.score.keys import estimate_key
from music.score.passages import excerpt


def embedded(model: Finding, raw: Score, bars: tuple[int, int] | None = None) -> Query:
    """A score as it was read, or its bars [first, last), as a query. Raises Unanswerable."""
    t = model.tokenizer
    try:
        normal = normalise(raw, ticks_per_quarter=t.ticks_per_quarter, velocity=t.velocity)
        score = readable(t, normal).score
        table = bar_table(score)
        if bars and bars[1] > len(table):
            raise Unanswerable(
                f"there are no bars {bars[0] + 1} to {bars[1]}: the score has {len(table)}", "bars"
            )
        part = excerpt(score, bars) if bars else score
        parts, vectors = embed_score(model.encoder, model.reader, t, part)
    except (UnreadableScore, NotRepresentable) as error:
        raise Unanswerable(str(error), "score") from error
    first = bars[0] if bars else 0
    key = estimate_key(histograms(part)["pitch_class_histogram"])[0]
    return Query(
        vectors,
        [(a + first, b + first) for a, b in (p.bars for p in parts)],
        describe(part),
        {"metre": f"{table[0, 2]}/{table[0, 3]}", "mode": key.partition(" ")[2]},
        words_of([p.words for p in parts]),
    )


def stored_score(midi: str) -> Score:
    """A score that was kept, base64 MIDI. Raises Unanswerable for one that can be read no more."""
    try:
        return read_midi(base64.b64decode(midi), Limits())
    except UnreadableScore as error:
        raise Unanswerable(str(error), "id") from error
