"""Likelihood of a test split beside the n-gram, as a table."""

from typing import Any

import numpy as np

from models.judge.ngram import NgramModel
from models.network.likelihood import nats_per_note, piece_nats
from models.network.reading import Reads
from models.tokens.shards import Shard
from models.tokens.tokenizer import CellTokenizer


def likelihood(
    network: Reads, tokenizer: CellTokenizer, test: Shard, ngram: NgramModel
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Nats of the test split by the model (without and with labels) and by the n-gram; and a record a
    piece."""
    bodies = [(test.piece(i), test.bar_starts(i)) for i in range(len(test))]
    notes = [int(record["notes"]) for record in test.records]
    labels = [test.labels(i) for i in range(len(test))]
    plain, told = piece_nats(network, tokenizer, bodies), piece_nats(network, tokenizer, bodies, labels)
    base = [ngram.nats(body) for body, _ in bodies]
    model_nats, base_nats = nats_per_note(plain, notes), nats_per_note(base, notes)
    by_collection: dict[str, Any] = {}
    for name in sorted({record["collection"] for record in test.records}):
        mine = [i for i, record in enumerate(test.records) if record["collection"] == name]
        count = [notes[i] for i in mine]
        by_collection[name] = {
            "pieces": len(mine),
            "nats_per_note": round(nats_per_note([plain[i] for i in mine], count), 4),
            "ngram": round(nats_per_note([base[i] for i in mine], count), 4),
        }
    result = {
        "nats_per_note": round(model_nats, 4),
        "nats_per_token": round(model_nats * sum(notes) / int(test.lengths.sum()), 4),
        "nats_per_note_told_labels": round(nats_per_note(told, notes), 4),
        "ngram_nats_per_note": round(base_nats, 4),
        "below_ngram": round(1 - model_nats / base_nats, 4),
        "by_collection": by_collection,
        "uniform_nats_per_note": round(float(np.log(len(tokenizer)) * test.lengths.sum() / sum(notes)), 4),
    }
    pieces = {
        record["piece_id"]: {"nats": round(float(n.sum()), 4), "notes": record["notes"]}
        for record, n in zip(test.records, plain, strict=True)
    }
    return result, pieces
