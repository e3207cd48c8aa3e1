"""Stage `evaluate`: every number the gate and the README use, samples to hear and see, the model card, and the bundle."""

import hashlib
import json
import os
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from symusic import Score

from models.alignment import compare
from models.bundle import save_melodies, seal
from models.decoding import Decoder
from models.evaluation import ask_of_cells, labellers, melodies_of, obedience, originality, structure, write_form_samples, write_unasked
from models.labelling import Judges, load_judges, save_judges
from models.network import Network
from models.ngram import NgramModel, best_order
from models.onnx_decoder import OnnxDecoder
from models.onnx_graph import build_graph
from models.rewarding import load_rewards
from models.rewards import Heard
from models.rollouts import Writer, opening, prompts_like
from models.sampling import NgramDecoder, Sample, requests_like, write_samples
from models.scoring import decoder_nats, nats_per_note, piece_nats
from models.shards import Shard, data_digest
from models.tasks import task_table
from models.tokens import CellTokenizer, load_tokenizer
from music.descriptors import NAMES, describe_opening
from music.overlap import overlap
from music.score import first_bars
from music.similarity import RunIndex
from pipelines.card import write_model_card
from pipelines.files import run_stage, write_csv, write_json
from pipelines.listening import save_samples
from pipelines.params import LICENCE_CLASSES, Evaluate, Params, load_params
from pipelines.training import load_weights

TOKENS, BEFORE, TRAINED = Path("data/tokens"), Path("data/finetune"), Path("data/align")
METRICS, PLOTS, BUNDLE = Path("reports/metrics.json"), Path("reports/plots"), Path("bundle")
MOST_LOST, DECODED_PIECES, DECODED_TOKENS = 0.005, 40, 300  # of 8-bit decoding against fp32
CONTEXT = 512  # of the n-gram's histories; it looks back by its order only


def load_network(folder: Path) -> Network:
    """The network that a training stage wrote."""
    config, weights = load_weights(folder)
    network = Network(config)
    network.load_state_dict(weights)
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


def lineage(params: Params) -> dict[str, Any]:
    """Where the model comes from: data digests, licence class (the strictest of its pieces), collections, seeds."""
    table = pq.read_table("data/prepared/scores.parquet", columns=["licence", "collection", "split", "sha256"]).to_pylist()
    classes = {row["licence"] for row in table}
    collections: dict[str, dict[str, Any]] = defaultdict(lambda: {"pieces": 0})
    for row in table:
        collections[row["collection"]]["pieces"] += 1
        collections[row["collection"]]["licence"] = row["licence"]
    return {
        "licence": max(classes, key=LICENCE_CLASSES.index), "collections": dict(sorted(collections.items())),
        "data_digest": data_digest(TOKENS), "split_seed": params.prepare.seed, "training_seed": params.pretrain.seed,
        "network": params.network.size, "training": training_report(),
    }  # fmt: skip


def training_report() -> dict[str, Any]:
    """Steps and minutes of the training stages, and the best look at the valid split of each."""
    stages = {stage: json.loads((Path("data") / stage / "training.json").read_text()) for stage in ("pretrain", "finetune", "align")}
    kept = {stage: {name: row[name] for name in ("steps", "minutes", "valid_nats_per_note", "valid_held_reward") if name in row} for stage, row in stages.items()}
    return {**kept, "parameters": stages["align"]["parameters"], "minutes": round(sum(row["minutes"] for row in stages.values()), 2), "steps": sum(row["steps"] for row in stages.values())}


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


def make_decoder(network: Network, tokenizer: CellTokenizer, valid: Shard, slots: int) -> tuple[bytes, dict[str, Any]]:
    """The graph that is served: 8-bit weights where they cost less than MOST_LOST of the likelihood of valid pieces, else fp32."""
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    graphs = {name: build_graph(weights, network.config, eight_bit=name == "8-bit") for name in ("fp32", "8-bit")}
    step = max(len(valid) // DECODED_PIECES, 1)
    pieces = [valid.piece(i) for i in range(0, len(valid), step)]
    nats = {name: decoder_nats(OnnxDecoder(graph, slots), tokenizer, pieces, DECODED_TOKENS) for name, graph in graphs.items()}
    lost = nats["8-bit"] / nats["fp32"] - 1
    chosen = "8-bit" if lost <= MOST_LOST else "fp32"
    return graphs[chosen], {"weights": chosen, "eight_bit_lost": round(lost, 6), "fp32_nats_per_token": round(nats["fp32"], 5)}


def write_all_samples(decoder: Decoder, ngram: NgramModel, tokenizer: CellTokenizer, test: Shard, knobs: Evaluate) -> dict[str, Any]:
    """Samples of the model, the same that also ask for every cell, longer ones for form, and the n-gram's for the same requests; and the
    openings (with their keys) of the test pieces they are like."""
    requests, order = requests_like(test, tokenizer, count=knobs.samples, bars=knobs.sample_bars, seed=knobs.seed, temperature=knobs.temperature,
                                    top_p=knobs.top_p, guidance=knobs.guidance)  # fmt: skip
    few = max(knobs.samples // 4, 2)
    base = [replace(request, temperature=1.0, top_p=1.0, guidance=1.0) for request in requests]
    baseline = NgramDecoder(ngram, tokenizer, knobs.batch_size, CONTEXT)
    return {
        "model": write_samples(decoder, tokenizer, requests),
        "unasked": write_unasked(decoder, tokenizer, requests),
        "cells": write_samples(decoder, tokenizer, ask_of_cells(requests[:few], order[:few], test, tokenizer)),
        "form": write_form_samples(decoder, tokenizer, requests, knobs.form_bars, few),
        "ngram": write_samples(baseline, tokenizer, base), "ngram_form": write_form_samples(baseline, tokenizer, base, knobs.form_bars, few),
        "human": [(first_bars(tokenizer.decode_ids(test.piece(i)), knobs.sample_bars), test.records[i]["key"]) for i in dict.fromkeys(order)],
    }  # fmt: skip


def alignment(params: Params, network: Network, tokenizer: CellTokenizer, test: Shard, ngram: NgramModel, judges: Judges, runs: RunIndex) -> dict[str, Any]:
    """The network before and after `align` on held-out prompts; {} where align did nothing."""
    if params.align.method == "none":
        return {}
    before, rewards = load_network(BEFORE), load_rewards(TRAINED / "rewards.safetensors", load_judges(TRAINED / "judges.safetensors"), runs)
    bars, seed = params.align.bars, params.evaluate.seed
    prompts = prompts_like(test, tokenizer, count=params.evaluate.prompts, bars=bars, seed=seed, top_p=params.evaluate.top_p)
    writer = Writer(tokenizer, network.config)
    takes = [writer.write(side.state_dict(), prompts) for side in (before, network)]
    real = [Heard(opening(test, tokenizer, i, bars), test.labels(i)) for i in range(len(test))]
    table = compare(takes[0], takes[1], real, rewards, ngram, tokenizer, judges, runs, seed)
    bodies = [(test.piece(i), test.bar_starts(i)) for i in range(len(test))]
    notes = [int(record["notes"]) for record in test.records]
    nats = {name: nats_per_note(piece_nats(side, tokenizer, bodies), notes) for name, side in (("before", before), ("after", network))}
    return {**table, "nats_per_note": {**{name: round(value, 4) for name, value in nats.items()}, "ratio": round(nats["after"] / nats["before"], 4)}}


def main() -> None:
    params = load_params()
    knobs = params.evaluate
    tokenizer, network = load_tokenizer(TOKENS / "tokenizer.json"), load_network(TRAINED)
    shards = {split: Shard(TOKENS, split) for split in ("train", "valid", "test")}
    every = {split: [shard.piece(i) for i in range(len(shard))] for split, shard in shards.items()}
    test = shards["test"]
    ngram, orders = best_order(every["train"], every["valid"], len(tokenizer), knobs.ngram_orders)
    print(f"n-gram baseline: order {ngram.order}", flush=True)
    metrics, pieces = likelihood(network, tokenizer, test, ngram)
    print(f"test: {metrics['nats_per_note']} nats per note, n-gram {metrics['ngram_nats_per_note']}", flush=True)
    metrics["fill"] = task_table(network, ngram, tokenizer, test, count=knobs.fill_regions, seed=knobs.seed)
    print(f"fill: {json.dumps(metrics['fill'])}", flush=True)
    graph, metrics["decoder"] = make_decoder(network, tokenizer, shards["valid"], knobs.batch_size)
    decoder = OnnxDecoder(graph, knobs.batch_size, threads=os.cpu_count() or 1)
    print(f"decoder: {metrics['decoder']}", flush=True)
    written = write_all_samples(decoder, ngram, tokenizer, test, knobs)
    mine: list[Sample] = written["model"]
    openings = [score for score, _ in written["human"]]
    scores = [s.score for s in mine if s.score is not None]
    theirs = [s.score for s in written["ngram"] if s.score is not None]
    print(f"samples: {len(scores)} of {len(mine)} valid", flush=True)
    judges, accuracy = labellers(shards["train"], test, tokenizer, knobs.sample_bars)
    random = np.random.default_rng(knobs.seed)
    drawn = random.permutation(len(shards["train"]))[: len(openings)]
    train_openings = [first_bars(tokenizer.decode_ids(shards["train"].piece(int(i))), knobs.sample_bars) for i in drawn]
    likeness = {name: overlap(openings, group, knobs.seed) for name, group in (("model", scores), ("ngram", theirs), ("train", train_openings))}
    lines, owners = melodies_of(shards["train"], tokenizer)
    runs = RunIndex(lines, owners)
    copied = originality(scores, openings, runs, shards["train"], tokenizer)
    whole = [tokenizer.decode_ids(test.piece(i)) for i in range(len(test)) if len(test.bar_starts(i)) >= knobs.form_bars]
    obeyed = obedience(mine, written["unasked"], written["cells"], judges, accuracy, written["human"], tokenizer.ticks_per_quarter)
    metrics |= {
        "ngram_order": ngram.order, "validity": len(scores) / len(mine), "ngram_validity": len(theirs) / len(written["ngram"]),
        "samples": len(mine), "overlap": likeness, "overlap_gain": round(likeness["model"]["mean"]["oa"] - likeness["ngram"]["mean"]["oa"], 4),
        "obedience": obeyed, "structure": structure({"model": written["form"], "ngram": written["ngram_form"], "test": [first_bars(score, knobs.form_bars) for score in whole]}),
        "originality": {k: v for k, v in copied.items() if k != "nearest"}, "training": training_report(),
        "alignment": alignment(params, network, tokenizer, test, ngram, judges, runs),
    }  # fmt: skip
    write_json(METRICS, metrics)
    write_csv(PLOTS / "overlap.csv", ["feature", "set", "oa"], [(f, name, row["oa"]) for name, table in likeness.items() for f, row in table.items()])
    write_csv(PLOTS / "ngram_orders.csv", ["order", "valid_nats"], sorted(orders.items()))
    write_csv(PLOTS / "obedience.csv", ["control", "kind", "share"], [(name, kind, row[kind]) for name, row in obeyed.items() for kind in ("obeyed", "chance", "unasked") if kind in row])
    write_csv(PLOTS / "fill.csv", ["task", "by", "nats_per_note"], [(task, by, row[by]) for task, row in metrics["fill"].items() for by in ("model", "model_blind", "ngram")])
    save_samples(decoder, tokenizer, test, mine, copied["nearest"], knobs)
    shutil.rmtree(BUNDLE, ignore_errors=True)
    BUNDLE.mkdir()
    (BUNDLE / "decoder.onnx").write_bytes(graph)
    save_melodies(BUNDLE / "melodies.safetensors", lines, owners, [record["piece_id"] for record in shards["train"].records])
    for source in (Path("data/embed/encoder.safetensors"), Path("data/embed/catalogue.safetensors"), Path("data/recommend/recommender.safetensors"), TRAINED / "rewards.safetensors"):
        shutil.copyfile(source, BUNDLE / source.name)
    save_judges(BUNDLE / "judges.safetensors", judges)
    make_bundle(params, metrics, pieces, reference_profile(openings, scores, pieces))


def make_bundle(params: Params, metrics: dict[str, Any], pieces: dict[str, dict[str, float]], profile: dict[str, Any]) -> None:
    """Write the rest of the bundle directory and seal it."""
    for source in (TRAINED / "model.safetensors", TRAINED / "config.json", TOKENS / "tokenizer.json"):
        shutil.copyfile(source, BUNDLE / source.name)
    origin = lineage(params)
    write_json(BUNDLE / "profile.json", profile)
    write_json(BUNDLE / "evaluation.json", {"metrics": metrics, "pieces": pieces, "test_digest": split_digest("test")})
    write_json(BUNDLE / "lineage.json", origin)
    write_model_card(BUNDLE / "MODEL_CARD.md", metrics, origin)
    print(f"bundle {seal(BUNDLE)[:16]}", flush=True)


if __name__ == "__main__":
    run_stage(main)
