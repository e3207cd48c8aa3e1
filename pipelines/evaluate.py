"""Stage `evaluate`: every number the gate and the README use, samples to hear and see, the model card, and the bundle."""

import hashlib
import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from safetensors.torch import load_file
from symusic import Score

from models.bundle import save_melodies, seal
from models.decoding import NetworkNext, Request
from models.network import Network, NetworkConfig
from models.ngram import NgramModel, best_order
from models.sampling import NgramNext, Sample, key_obeyed, requests_like, write_samples
from models.scoring import nats_per_note, piece_nats
from models.shards import Shard, data_digest
from models.tokens import CellTokenizer, load_tokenizer
from music.descriptors import NAMES, describe_opening
from music.overlap import overlap
from music.pianoroll import save_piano_roll
from music.score import first_bars, to_midi
from music.similarity import RunIndex, melody
from pipelines.card import write_model_card
from pipelines.files import run_stage, write_csv, write_json
from pipelines.params import LICENCE_CLASSES, Evaluate, Params, load_params

TOKENS, PRETRAINED = Path("data/tokens"), Path("data/pretrain")
METRICS, PLOTS, SAMPLES, BUNDLE = Path("reports/metrics.json"), Path("reports/plots"), Path("samples"), Path("bundle")


def load_network(folder: Path) -> Network:
    """The network that `pretrain` wrote."""
    network = Network(NetworkConfig(**json.loads((folder / "config.json").read_text())))
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return network.eval()


def likelihood(network: Network, tokenizer: CellTokenizer, test: Shard, ngram: NgramModel) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Nats of the test split by the model (without and with labels) and by the n-gram; and a record a piece."""
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
        by_collection[name] = {"pieces": len(mine), "nats_per_note": round(nats_per_note([plain[i] for i in mine], count), 4),
                               "ngram": round(nats_per_note([base[i] for i in mine], count), 4)}  # fmt: skip
    result = {
        "nats_per_note": round(model_nats, 4), "nats_per_token": round(model_nats * sum(notes) / int(test.lengths.sum()), 4),
        "nats_per_note_told_labels": round(nats_per_note(told, notes), 4), "ngram_nats_per_note": round(base_nats, 4),
        "below_ngram": round(1 - model_nats / base_nats, 4), "by_collection": by_collection,
        "uniform_nats_per_note": round(float(np.log(len(tokenizer)) * test.lengths.sum() / sum(notes)), 4),
    }  # fmt: skip
    pieces = {record["piece_id"]: {"nats": round(float(n.sum()), 4), "notes": record["notes"]} for record, n in zip(test.records, plain, strict=True)}
    return result, pieces


def obedience(samples: list[Sample], human: list[tuple[Score, str]]) -> dict[str, float]:
    """Share of samples in the key asked, beside the share if the asked keys were dealt out at random, and that of real pieces with their labels."""
    asked = [(s.score, s.request.labels.key) for s in samples if s.score is not None and s.request.labels.key]
    if not asked:
        return {"key": 0.0, "key_chance": 0.0, "key_human": 0.0}
    keys = [key for _, key in asked]
    known: dict[str, list[bool]] = {key: [key_obeyed(score, key) for score, _ in asked] for key in set(keys)}
    kept = float(np.mean([known[key][i] for i, key in enumerate(keys)]))
    chance = float(np.mean([np.mean(known[key]) for key in keys]))
    labelled = [key_obeyed(score, key) for score, key in human if key]
    real = sum(labelled) / max(len(labelled), 1)
    return {"key": round(kept, 4), "key_chance": round(chance, 4), "key_human": round(real, 4)}


def melodies_of(shard: Shard, tokenizer: CellTokenizer) -> tuple[list[np.ndarray], list[int]]:
    """Melody lines of a split and the piece each belongs to."""
    pairs = [(line, i) for i in range(len(shard)) for line in melody(tokenizer.decode_ids(shard.piece(i)))]
    return [line for line, _ in pairs], [owner for _, owner in pairs]


def originality(samples: list[Score], human: list[Score], index: RunIndex, train: Shard) -> dict[str, Any]:
    """How often samples share a longer run of intervals with the train split than 95 % of held-out human openings do."""
    human_runs = np.array([index.longest_run(melody(score))[0] for score in human])
    found = [index.longest_run(melody(score)) for score in samples]
    runs = np.array([run for run, _ in found])
    limit = float(np.percentile(human_runs, 95))
    return {
        "median_run": float(np.median(runs)), "human_median_run": float(np.median(human_runs)), "limit_run": limit,
        "share_above_limit": round(float((runs > limit).mean()), 4), "human_share_above_limit": round(float((human_runs > limit).mean()), 4),
        "excess": round(float((runs > limit).mean() - (human_runs > limit).mean()), 4),
        "nearest": [{"run": int(run), "piece": train.records[owner]["piece_id"] if owner >= 0 else ""} for run, owner in found],
    }  # fmt: skip


def save_samples(samples: list[Sample], count: int, nearest: list[dict[str, Any]]) -> None:
    """The first `count` samples as MIDI and piano roll, with what was asked, in samples/index.json."""
    shutil.rmtree(SAMPLES, ignore_errors=True)
    SAMPLES.mkdir(parents=True)
    index = []
    for n, sample in enumerate([s for s in samples if s.score is not None][:count]):
        assert sample.score is not None
        labels = sample.request.labels
        name = "_".join(word.replace(" ", "-") for word in (f"{n:02d}", labels.style, labels.rhythm, labels.key) if word)
        (SAMPLES / f"{name}.mid").write_bytes(to_midi(sample.score))
        save_piano_roll(sample.score, SAMPLES / f"{name}.png", name.replace("_", ", "))
        index.append({"file": f"{name}.mid", "style": labels.style, "rhythm": labels.rhythm, "key": labels.key, "seed": sample.request.seed, **nearest[n]})
    write_json(SAMPLES / "index.json", index)


def lineage(params: Params) -> dict[str, Any]:
    """Where the model comes from: data digests, licence class (the strictest of its pieces), collections, seeds."""
    table = pq.read_table("data/prepared/scores.parquet", columns=["licence", "collection", "split", "sha256"]).to_pylist()
    classes = {row["licence"] for row in table}
    collections: dict[str, dict[str, Any]] = defaultdict(lambda: {"pieces": 0})
    for row in table:
        collections[row["collection"]]["pieces"] += 1
        collections[row["collection"]]["licence"] = row["licence"]
    training = json.loads((PRETRAINED / "training.json").read_text())
    return {
        "licence": max(classes, key=LICENCE_CLASSES.index), "collections": dict(sorted(collections.items())),
        "data_digest": data_digest(TOKENS), "split_seed": params.prepare.seed, "training_seed": params.pretrain.seed,
        "network": params.network.size, "training": {name: training[name] for name in ("steps", "minutes", "parameters", "valid_nats_per_note")},
    }  # fmt: skip


def split_digest(split: str) -> str:
    """sha256 over the pieces of a split, by name and notes: two candidates with the same digest were tested on the same music."""
    rows = pq.read_table("data/prepared/scores.parquet", columns=["piece_id", "split", "midi"]).to_pylist()
    digest = hashlib.sha256()
    for row in sorted((row for row in rows if row["split"] == split), key=lambda row: row["piece_id"]):
        digest.update(row["piece_id"].encode() + hashlib.sha256(row["midi"]).digest())
    return digest.hexdigest()


def reference_profile(test: list[Score], samples: list[Score], pieces: dict[str, dict[str, float]]) -> dict[str, Any]:
    """What inputs and outputs looked like when the model was made: the reference of percentiles and of the drift monitor."""
    def columns(scores: list[Score]) -> dict[str, list[float]]:
        rows = [describe_opening(score) for score in scores]
        return {name: [round(row[name], 4) for row in rows] for name in NAMES}

    each = sorted(round(piece["nats"] / piece["notes"], 4) for piece in pieces.values())
    return {"data": columns(test), "samples": columns(samples), "nats_per_note": each}


def write_all_samples(network: Network, ngram: NgramModel, tokenizer: CellTokenizer, test: Shard, knobs: Evaluate) -> tuple[list[Sample], list[Sample], list[tuple[Score, str]]]:
    """Samples of the model, of the n-gram for the same requests, and the openings (with their keys) of the test pieces they are like."""
    requests, order = requests_like(test, tokenizer, count=knobs.samples, bars=knobs.sample_bars, seed=knobs.seed, temperature=knobs.temperature, top_p=knobs.top_p)
    mine = write_samples(NetworkNext(network, tokenizer), tokenizer, requests, knobs.batch_size)
    base = [Request(r.plan, r.labels, r.seed, 1.0, 1.0) for r in requests]
    theirs = write_samples(NgramNext(ngram), tokenizer, base, knobs.batch_size)
    openings = [(first_bars(tokenizer.decode_ids(test.piece(i)), knobs.sample_bars), test.records[i]["key"]) for i in dict.fromkeys(order)]
    return mine, theirs, openings


def main() -> None:
    params = load_params()
    knobs = params.evaluate
    tokenizer, network = load_tokenizer(TOKENS / "tokenizer.json"), load_network(PRETRAINED)
    shards = {split: Shard(TOKENS, split) for split in ("train", "valid", "test")}
    every = {split: [shard.piece(i) for i in range(len(shard))] for split, shard in shards.items()}
    ngram, orders = best_order(every["train"], every["valid"], len(tokenizer), knobs.ngram_orders)
    print(f"n-gram baseline: order {ngram.order}", flush=True)
    metrics, pieces = likelihood(network, tokenizer, shards["test"], ngram)
    print(f"test: {metrics['nats_per_note']} nats per note, n-gram {metrics['ngram_nats_per_note']}", flush=True)
    mine, theirs, human = write_all_samples(network, ngram, tokenizer, shards["test"], knobs)
    openings = [score for score, _ in human]
    scores = [s.score for s in mine if s.score is not None]
    random = np.random.default_rng(knobs.seed)
    drawn = random.permutation(len(shards["train"]))[: len(openings)]
    train_openings = [first_bars(tokenizer.decode_ids(shards["train"].piece(int(i))), knobs.sample_bars) for i in drawn]
    likeness = {name: overlap(openings, group, knobs.seed) for name, group in
                (("model", scores), ("ngram", [s.score for s in theirs if s.score is not None]), ("train", train_openings))}  # fmt: skip
    lines, owners = melodies_of(shards["train"], tokenizer)
    copied = originality(scores, openings, RunIndex(lines, owners), shards["train"])
    metrics |= {
        "ngram_order": ngram.order, "validity": len(scores) / len(mine), "ngram_validity": sum(s.score is not None for s in theirs) / len(theirs),
        "samples": len(mine), "overlap": likeness, "overlap_gain": round(likeness["model"]["mean"]["oa"] - likeness["ngram"]["mean"]["oa"], 4),
        "obedience": obedience(mine, human), "originality": {k: v for k, v in copied.items() if k != "nearest"}, "training": json.loads((PRETRAINED / "training.json").read_text()),
    }  # fmt: skip
    metrics["training"].pop("mlflow_run")
    write_json(METRICS, metrics)
    write_csv(PLOTS / "overlap.csv", ["feature", "set", "oa"], [(f, name, row["oa"]) for name, table in likeness.items() for f, row in table.items()])
    write_csv(PLOTS / "ngram_orders.csv", ["order", "valid_nats"], sorted(orders.items()))
    save_samples(mine, knobs.listen, copied["nearest"])
    shutil.rmtree(BUNDLE, ignore_errors=True)
    BUNDLE.mkdir()
    save_melodies(BUNDLE / "melodies.safetensors", lines, owners, [record["piece_id"] for record in shards["train"].records])
    make_bundle(params, metrics, pieces, reference_profile(openings, scores, pieces))


def make_bundle(params: Params, metrics: dict[str, Any], pieces: dict[str, dict[str, float]], profile: dict[str, Any]) -> None:
    """Write the rest of the bundle directory and seal it."""
    for source in (PRETRAINED / "model.safetensors", PRETRAINED / "config.json", TOKENS / "tokenizer.json"):
        shutil.copyfile(source, BUNDLE / source.name)
    origin = lineage(params)
    write_json(BUNDLE / "profile.json", profile)
    write_json(BUNDLE / "evaluation.json", {"metrics": metrics, "pieces": pieces, "test_digest": split_digest("test")})
    write_json(BUNDLE / "lineage.json", origin)
    write_model_card(BUNDLE / "MODEL_CARD.md", metrics, origin)
    print(f"bundle {seal(BUNDLE)[:16]}", flush=True)


if __name__ == "__main__":
    run_stage(main)
