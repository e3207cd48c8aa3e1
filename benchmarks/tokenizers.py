"""Tokens a note and encoding time: our tokenizer, miditok's REMI with programs, and REMI with byte-pair
encoding, on pieces of the train split."""

import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from miditok import REMI, TokenizerConfig
from symusic import Score

from benchmarks import report
from models.tokens.build import load_tokenizer
from models.tokens.shards import Shard

PIECES = 400
BPE_VOCABULARY = 2000


def main() -> None:
    table = pq.read_table("data/prepared/scores.parquet", columns=["piece_id", "midi", "notes"]).to_pylist()
    known = {
        record["piece_id"] for record in Shard(Path("data/tokens"), "train").records
    }  # what our tokenizer has no token for is left out for all
    train = [row for row in table if row["piece_id"] in known]
    train = train[:: max(len(train) // PIECES, 1)]
    scores = [Score.from_midi(row["midi"]) for row in train]
    notes = sum(row["notes"] for row in train)
    ours = load_tokenizer(Path("data/tokens/tokenizer.json"))
    config: dict[str, Any] = {
        "use_programs": True,
        "one_token_stream_for_programs": True,
        "use_time_signatures": True,
        "use_velocities": False,
        "beat_res": {(0, 16): 12},
        "time_signature_range": {4: [1, 2, 3, 4, 5, 6, 10], 8: [3, 6, 9, 12], 2: [2, 3]},
    }
    remi, bpe = REMI(TokenizerConfig(**config)), REMI(TokenizerConfig(**config))
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i, row in enumerate(train):
            paths.append(Path(folder) / f"{i}.mid")
            paths[-1].write_bytes(row["midi"])
        bpe.train(vocab_size=BPE_VOCABULARY, model="BPE", files_paths=paths)
    rows = []
    for name, vocabulary, encode in (
        ("cells (ours)", len(ours), lambda score: len(ours.encode_score(score)[0])),
        ("REMI with programs", len(remi), lambda score: len(remi.encode(score).ids)),
        (f"the same with BPE ({BPE_VOCABULARY})", len(bpe), lambda score: len(bpe.encode(score).ids)),
    ):
        begin = time.perf_counter()
        tokens = sum(encode(score) for score in scores)
        rows.append(
            {
                "tokenizer": name,
                "vocabulary": vocabulary,
                "tokens a note": round(tokens / notes, 2),
                "ms a piece": round(1000 * (time.perf_counter() - begin) / len(scores), 2),
            }
        )
    report.write("tokenizers", rows, {})


if __name__ == "__main__":
    main()
