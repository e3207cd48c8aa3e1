"""Stage `tokenise`: learn the vocabulary on the train split, encode every split to memory-mapped shards,
prove the round trip."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from symusic import Score
from tqdm import tqdm

from models.tokens.build import train_tokenizer
from models.tokens.shards import ShardWriter
from models.tokens.tokenizer import CellTokenizer, NotRepresentable
from music.analysis.chords import chords_of, chords_told
from music.analysis.sections import bar_places, sections_of
from music.score.cells import cell_statistics, tempo_class
from music.score.chords import UnknownChord
from music.score.form import bar_table, note_array, same_notes
from music.score.instruments import DRUMS
from music.score.parts import Part, part_of, usual
from pipelines.running.files import StageError, run_stage, write_json
from pipelines.running.params import Params, load_params

SCORES = Path("data/prepared/scores.parquet")
OUT = Path("data/tokens")
TOKENIZER = OUT / "tokenizer.json"
REPORT = Path("reports/tokenise_report.json")


def _frequent(counts: Counter[str], least: int) -> list[str]:
    return sorted(value for value, count in counts.items() if value and count >= least)


def learn_tokenizer(rows: list[dict[str, Any]], params: Params) -> CellTokenizer:
    """Metres, programs and labels of the train split become the vocabulary; a metre or label too rare to
    learn does not."""
    metres: Counter[str] = Counter()
    heard: dict[int, list[Part]] = {}
    for row in rows:
        score = Score.from_midi(row["midi"])
        metres.update({f"{n}/{d}" for _, _, n, d in bar_table(score).tolist()})
        for track in score.tracks:
            heard.setdefault(DRUMS if track.is_drum else track.program, []).append(part_of(note_array(track)))
    least = params.tokenise.min_label_count
    return train_tokenizer(
        metres=_frequent(metres, min(least, 3)),
        programs=sorted(heard),
        parts={program: usual(parts) for program, parts in heard.items()},
        styles=_frequent(Counter(row["style"] for row in rows), least),
        rhythms=_frequent(Counter(row["rhythm"] for row in rows), least),
        tempos=_frequent(Counter(_tempo(row) for row in rows), least),
        ticks_per_quarter=params.prepare.ticks_per_quarter,
        velocity=params.prepare.velocity,
        max_note_quarters=params.prepare.max_note_quarters,
        max_bars_control=params.tokenise.max_bars_control,
    )


def _tempo(row: dict[str, Any]) -> str:
    """Tempo class of a piece whose source states a tempo, else ""."""
    return tempo_class(float(row["tempo"])) if row["tempo"] else ""


def _chords(score: Score, row: dict[str, Any]) -> np.ndarray:
    """Chords of every beat: the symbols written above the notes, else what the notes say."""
    if row["chords"]:
        try:
            return chords_told(score, [(each["quarter"], each["symbol"]) for each in row["chords"]])
        except UnknownChord as error:
            print(f"{row['piece_id']}: its chord symbols are not used: {error}", flush=True)
    return chords_of(score, row["key"])


def _pitch_range(score: Score) -> tuple[int, int]:
    pitches = [note_array(track)[:, 2] for track in score.tracks if not track.is_drum]
    return (min(int(p.min()) for p in pitches), max(int(p.max()) for p in pitches)) if pitches else (0, 127)


def main() -> None:
    params = load_params()
    rows = pq.read_table(SCORES).to_pylist()
    tokenizer = learn_tokenizer([row for row in rows if row["split"] == "train"], params)
    OUT.mkdir(parents=True, exist_ok=True)
    tokenizer.save(TOKENIZER)
    report: dict[str, Any] = {
        "vocabulary": len(tokenizer),
        "blocks": tokenizer.block_size,
        "metres": [f"{n}/{d}" for n, d in tokenizer.metres],
        "styles": tokenizer.styles,
        "rhythms": tokenizer.rhythms,
        "tempos": tokenizer.tempo_classes,
        "splits": {},
        "dropped": Counter(),
        "dropped_pieces": [],
    }
    for split in ("train", "valid", "test"):
        with ShardWriter(OUT, split) as shard:
            for row in tqdm(
                [row for row in rows if row["split"] == split], desc=f"tokenise {split}", mininterval=2
            ):
                score = Score.from_midi(row["midi"])
                try:
                    ids, bar_starts = tokenizer.encode_score(score)
                except NotRepresentable as error:
                    report["dropped"][f"{split}: {str(error).split(';')[0]}"] += 1
                    report["dropped_pieces"].append({"piece": row["piece_id"], "reason": str(error)})
                    continue
                if not same_notes(tokenizer.decode_ids(ids), score):
                    raise StageError(
                        f"{row['piece_id']}: tokens do not give the notes back; this is a bug of "
                        f"models/tokens/tokenizer.py, please report the piece"
                    )
                low, high = _pitch_range(score)
                style = row["style"] if row["style"] in tokenizer.styles else ""
                rhythm = row["rhythm"] if row["rhythm"] in tokenizer.rhythms else ""
                tempo = _tempo(row) if _tempo(row) in tokenizer.tempo_classes else ""
                shard.add(
                    ids,
                    bar_starts,
                    cell_statistics(score),
                    bar_places(sections_of(score), len(bar_starts)),
                    _chords(score, row),
                    piece_id=row["piece_id"],
                    collection=row["collection"],
                    style=style,
                    rhythm=rhythm,
                    key=row["key"],
                    tempo=tempo,
                    notes=row["notes"],
                    low=low,
                    high=high,
                )
        if not shard.pieces:
            raise StageError(
                f"no piece of the {split} split can be written in tokens: {dict(report['dropped'])}"
            )
        report["splits"][split] = {
            "pieces": shard.pieces,
            "tokens": shard.tokens,
            "notes": shard.notes,
            "tokens_per_note": round(shard.tokens / shard.notes, 4),
        }
    report["round_trip_exact"] = 1.0
    report["quantisation_mean_steps"] = round(sum(row["quantisation"] for row in rows) / len(rows), 5)
    write_json(REPORT, report)


if __name__ == "__main__":
    run_stage(main)
