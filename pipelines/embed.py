"""Stage `embed`: a contrastive encoder on the network's trunk, and the catalogue: a vector for every piece
and for every passage of it."""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from models.find.catalogue import Catalogue, Item
from models.find.contrastive import Views, altered, train_head
from models.find.embedding import Encoder, Part, document_frequencies, hidden_block, parts_of, words_block
from models.find.probes import draw_map, probes
from models.find.words_index import words_of
from models.network.decoder import Network
from models.network.training import best_precision
from models.tokens.build import load_tokenizer
from models.tokens.shards import Shard
from models.tokens.tokenizer import CellTokenizer, NotRepresentable
from music.analysis.descriptors import NAMES
from music.score.form import bar_table
from music.score.passages import sounding
from pipelines.running.files import run_stage, write_json
from pipelines.running.params import load_params
from pipelines.running.training_run import TOKENS, load_weights

if TYPE_CHECKING:
    from symusic import Score

TRAINED, SCORES, OUT = Path("data/align"), Path("data/prepared/scores.parquet"), Path("data/embed")
CHUNK = 100


@cache
def _tokenizer() -> CellTokenizer:
    return load_tokenizer(TOKENS / "tokenizer.json")


def _parts_chunk(job: Sequence[tuple[np.ndarray, int]]) -> list[tuple[list[Part], list[tuple[int, Part]]]]:
    """For each (tokens, seed): the passages of a piece, and views altered from one or none of them with the
    passage's number. A seed below 0 makes none."""
    done = []
    for ids, seed in job:
        score = _tokenizer().decode_ids(ids)
        parts = parts_of(_tokenizer(), score)
        views = [_view(score, parts, np.random.default_rng(seed))] if seed >= 0 and parts else []
        done.append((parts, [view for view in views if view is not None]))
    return done


def _view(score: "Score", parts: Sequence[Part], random: np.random.Generator) -> tuple[int, Part] | None:
    number = int(random.integers(len(parts)))
    view = altered(random, score, parts[number].bars)
    if view is None:
        return None
    try:
        found = parts_of(_tokenizer(), view, [(0, len(bar_table(sounding(view))))])
    except NotRepresentable:  # twice as slow may have no metre or note length in the vocabulary
        return None
    return (number, found[0]) if found else None


def all_parts(
    pieces: Sequence[np.ndarray], seeds: Sequence[int]
) -> list[tuple[list[Part], list[tuple[int, Part]]]]:
    """`_parts_chunk` of every piece on a process pool, in order."""
    jobs = [
        list(zip(pieces[i : i + CHUNK], seeds[i : i + CHUNK], strict=True))
        for i in range(0, len(pieces), CHUNK)
    ]
    with (
        ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool,
        tqdm(total=len(pieces), desc="passages", unit="piece", mininterval=2) as bar,
    ):
        found = []
        for done in pool.map(_parts_chunk, jobs):
            found += done
            bar.update(len(done))
    return found


def catalogue_of(
    rows: dict[str, dict[str, Any]],
    names: Sequence[str],
    parts: Sequence[Sequence[Part]],
    vectors: np.ndarray,
    tokens: Sequence[np.ndarray],
) -> Catalogue:
    """The catalogue of pieces that have a passage. rows: scores.parquet by piece id; vectors: of all
    passages, piece after piece."""
    kept = [i for i, mine in enumerate(parts) if mine]
    items = []
    for i in kept:
        row = rows[names[i]]
        labels = {
            name: row[name] or ""
            for name in ("collection", "licence", "style", "rhythm", "metre", "key", "composer")
        }
        items.append(
            Item(
                names[i],
                **labels,
                bars=row["bars"],
                notes=row["notes"],
                descriptors={name: row[f"d_{name}"] for name in NAMES},
            )
        )
    owners = np.repeat(np.arange(len(kept)), [len(parts[i]) for i in kept])
    bars = np.array([part.bars for i in kept for part in parts[i]], dtype=np.int32).reshape(-1, 2)
    words = [words_of([part.words for part in parts[i]]) for i in kept]
    return Catalogue(items, vectors, owners, bars, [np.asarray(tokens[i]) for i in kept], words)


def main() -> None:
    params = load_params()
    knobs = params.embed
    config, weights = load_weights(TRAINED)
    network = Network(config)
    network.load_state_dict(weights)
    shards = {split: Shard(TOKENS, split) for split in ("train", "valid", "test")}
    names = [record["piece_id"] for shard in shards.values() for record in shard.records]
    pieces = [np.array(shard.piece(i)) for shard in shards.values() for i in range(len(shard))]
    rows = {
        row["piece_id"]: row
        for row in pq.read_table(
            SCORES, columns=[name for name in pq.read_schema(SCORES).names if name != "midi"]
        ).to_pylist()
    }
    learned = len(shards["train"])
    seeds = [knobs.seed * 1_000_003 + i if i < learned else -1 for i in range(len(pieces))]
    found = all_parts(pieces, seeds)
    parts = [mine for mine, _ in found]
    flat = [part for mine in parts for part in mine]
    starts = np.concatenate([[0], np.cumsum([len(mine) for mine in parts])]).astype(np.int64)
    views = [(i, int(starts[i]) + number, part) for i, (_, some) in enumerate(found) for number, part in some]
    count = int(starts[learned])
    idf = document_frequencies([part.words for part in flat[:count]])
    everything = [*flat, *(part for *_, part in views)]
    print(f"{len(flat)} passages of {len(pieces)} pieces and {len(views)} altered views", flush=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=best_precision() == "bf16-mixed"):
        hidden = hidden_block(network, [p.ids for p in everything])
    blocks = np.concatenate(
        [hidden, words_block([p.words for p in everything], idf), np.stack([p.shape for p in everything])],
        axis=1,
    ).astype(np.float32)
    piece = np.concatenate(
        [np.repeat(np.arange(learned), np.diff(starts[: learned + 1])), [i for i, *_ in views]]
    ).astype(np.int64)
    chosen = np.concatenate([np.arange(count), np.arange(len(flat), len(everything))])
    group = np.array([rows[name]["group"] for name in names])
    training = Views(
        blocks[chosen],
        piece,
        group[piece],
        np.arange(len(chosen)) >= count,
        np.concatenate([np.arange(count), [source for _, source, _ in views]]).astype(np.int64),
    )
    encoder, losses = train_head(
        training,
        idf,
        inner=knobs.inner,
        width=knobs.width,
        steps=knobs.steps,
        batch=knobs.batch,
        temperature=knobs.temperature,
        rate=knobs.rate,
        seed=knobs.seed,
    )
    OUT.mkdir(parents=True, exist_ok=True)
    encoder.save(OUT / "encoder.safetensors")
    catalogue = catalogue_of(
        rows, names, parts, Encoder.load(OUT / "encoder.safetensors").project(blocks[: len(flat)]), pieces
    )
    catalogue.save(OUT / "catalogue.safetensors")
    draw_map(catalogue, Path("reports/plots/catalogue.png"), knobs.seed)
    splits = np.array([rows[item.id]["split"] for item in catalogue.items])
    write_json(
        Path("reports/embed_report.json"),
        {
            "probes": probes(catalogue, splits),
            "items": len(catalogue),
            "passages": len(flat),
            "views": len(views),
            "loss": [round(loss, 4) for loss in losses],
        },
    )


if __name__ == "__main__":
    run_stage(main)
