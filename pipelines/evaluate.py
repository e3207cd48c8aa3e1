"""Stage `evaluate`: every number the gate and the README use, samples to hear and see, the model card, and
the bundle."""

import json
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from symusic import Score

from models.align.parts import Heard
from models.align.report import compare
from models.align.rewards_file import load_rewards
from models.align.rollouts import Writer, prompts_like
from models.bundle import save_melodies, seal
from models.decoding.onnx_decoder import OnnxDecoder
from models.decoding.onnx_graph import build_graph
from models.fill.forms import Forms
from models.fill.sampling import Sample
from models.judge.controls import earned
from models.judge.evaluation import decoder_nats, labellers, melodies_of, obedience, originality, structure
from models.judge.likelihood_table import likelihood
from models.judge.ngram import NgramModel, best_order
from models.judge.style_classifier import Judges, load_judges, save_judges
from models.judge.tasks import task_table
from models.judge.written import Wish, music, write_all_samples
from models.network.decoder import Network
from models.network.likelihood import nats_per_note, piece_nats
from models.tokens.build import load_tokenizer
from models.tokens.shards import Shard, opening
from models.tokens.tokenizer import CellTokenizer
from music.analysis.descriptors import NAMES, describe_opening
from music.analysis.overlap import overlap
from music.analysis.similarity import RunIndex
from music.score.form import first_bars
from pipelines.release.lineage import lineage, split_digest, training_report
from pipelines.release.model_card import write_model_card
from pipelines.running.files import run_stage, write_json
from pipelines.running.params import Params, load_params
from pipelines.running.plots import beside
from pipelines.running.samples import save_samples
from pipelines.running.training_run import TOKENS, load_weights

BEFORE, TRAINED = Path("data/finetune"), Path("data/align")
METRICS, HEADLINE = Path("reports/metrics.json"), Path("reports/headline.json")
PLOTS, BUNDLE = Path("reports/evaluate"), Path("bundle")
MOST_LOST, DECODED_PIECES, DECODED_TOKENS = 0.005, 40, 300  # of 8-bit decoding against fp32


def load_network(folder: Path) -> Network:
    """The network that a training stage wrote."""
    config, weights = load_weights(folder)
    network = Network(config)
    network.load_state_dict(weights)
    return network.eval()


def headline(metrics: dict[str, Any]) -> dict[str, Any]:
    """The ten numbers that `dvc metrics` and `dvc exp` compare; all others are in metrics.json."""
    nothing = {"obeyed": None, "after": None, "model": None}
    return {
        "nats_per_note": metrics["nats_per_note"],
        "below_ngram": metrics["below_ngram"],
        "validity": metrics["validity"],
        "overlap": round(metrics["overlap"]["model"]["mean"]["oa"], 4),
        "key_obeyed": metrics["obedience"].get("key", nothing)["obeyed"],
        "density_obeyed": metrics["obedience"].get("density", nothing)["obeyed"],
        "infill_4_bars_nats": metrics["fill"].get("infill 4 bars", nothing)["model"],
        "reward_after_align": metrics["alignment"].get("reward", nothing)["after"],
        "originality_excess": metrics["originality"]["excess"],
        "steps": metrics["training"]["steps"],
    }


def reference_profile(
    test: list[Score], samples: list[Score], pieces: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """What inputs and outputs looked like when the model was made: the reference of percentiles and of the
    drift monitor."""

    def columns(scores: list[Score]) -> dict[str, list[float]]:
        rows = [describe_opening(score) for score in scores]
        return {name: [round(row[name], 4) for row in rows] for name in NAMES}

    each = sorted(round(piece["nats"] / piece["notes"], 4) for piece in pieces.values())
    return {"data": columns(test), "samples": columns(samples), "nats_per_note": each}


def make_decoder(
    network: Network, tokenizer: CellTokenizer, valid: Shard, slots: int
) -> tuple[bytes, dict[str, Any]]:
    """The graph that is served: 8-bit weights where they cost less than MOST_LOST of the likelihood of valid
    pieces, else fp32."""
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    graphs = {
        name: build_graph(weights, network.config, eight_bit=name == "8-bit") for name in ("fp32", "8-bit")
    }
    step = max(len(valid) // DECODED_PIECES, 1)
    pieces = [valid.piece(i) for i in range(0, len(valid), step)]
    nats = {
        name: decoder_nats(OnnxDecoder(graph, slots), tokenizer, pieces, DECODED_TOKENS)
        for name, graph in graphs.items()
    }
    lost = nats["8-bit"] / nats["fp32"] - 1
    chosen = "8-bit" if lost <= MOST_LOST else "fp32"
    return graphs[chosen], {
        "weights": chosen,
        "eight_bit_lost": round(lost, 6),
        "fp32_nats_per_token": round(nats["fp32"], 5),
    }


def alignment(
    params: Params,
    network: Network,
    tokenizer: CellTokenizer,
    test: Shard,
    ngram: NgramModel,
    judges: Judges,
    runs: RunIndex,
) -> dict[str, Any]:
    """The network before and after `align` on held-out prompts; {} where align did nothing."""
    if params.align.method == "none":
        return {}
    before, rewards = (
        load_network(BEFORE),
        load_rewards(TRAINED / "rewards.safetensors", load_judges(TRAINED / "judges.safetensors"), runs),
    )
    bars, seed = params.align.bars, params.evaluate.seed
    prompts = prompts_like(
        test, tokenizer, count=params.evaluate.prompts, bars=bars, seed=seed, top_p=params.evaluate.top_p
    )
    writer = Writer(tokenizer, network.config)
    takes = [writer.write(side.state_dict(), prompts) for side in (before, network)]
    real = [Heard(opening(test, tokenizer, i, bars), test.labels(i)) for i in range(len(test))]
    table = compare(takes[0], takes[1], real, rewards, ngram, tokenizer, judges, runs, seed)
    bodies = [(test.piece(i), test.bar_starts(i)) for i in range(len(test))]
    notes = [int(record["notes"]) for record in test.records]
    nats = {
        name: nats_per_note(piece_nats(side, tokenizer, bodies), notes)
        for name, side in (("before", before), ("after", network))
    }
    return {
        **table,
        "nats_per_note": {
            **{name: round(value, 4) for name, value in nats.items()},
            "ratio": round(nats["after"] / nats["before"], 4),
        },
    }


def draw(metrics: dict[str, Any], likeness: dict[str, Any]) -> None:
    """The tables that are easier to see than to read."""
    kinds = ("obeyed", "chance", "unasked", "human")
    obeyed = {name: {k: row[k] for k in kinds if k in row} for name, row in metrics["obedience"].items()}
    beside(PLOTS / "obedience.svg", obeyed, "Controls that came as asked", "share of pieces")
    filled = {
        task: {k: row[k] for k in ("model", "model_blind", "ngram")} for task, row in metrics["fill"].items()
    }
    beside(PLOTS / "fill.svg", filled, "Filling a region", "nats per note")
    features = {name: {who: likeness[who][name]["oa"] for who in likeness} for name in likeness["model"]}
    beside(PLOTS / "overlap.svg", features, "Likeness to the test set", "overlapped area, 1 = same")


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
    print(
        f"test: {metrics['nats_per_note']} nats per note, n-gram {metrics['ngram_nats_per_note']}", flush=True
    )
    metrics["fill"] = task_table(network, ngram, tokenizer, test, count=knobs.fill_regions, seed=knobs.seed)
    print(f"fill: {json.dumps(metrics['fill'])}", flush=True)
    graph, metrics["decoder"] = make_decoder(network, tokenizer, shards["valid"], knobs.batch_size)
    decoder = OnnxDecoder(graph, knobs.batch_size, threads=params.machine.threads)
    print(f"decoder: {metrics['decoder']}", flush=True)
    wish = Wish(**{field.name: getattr(knobs, field.name) for field in fields(Wish)})
    forms = Forms.of_shard(shards["train"])
    written = write_all_samples(decoder, ngram, tokenizer, test, wish, forms)
    mine: list[Sample] = written["model"]
    openings = [score for score, _ in written["human"]]
    scores = [s.score for s in mine if s.score is not None]
    theirs = [s.score for s in written["ngram"] if s.score is not None]
    print(f"samples: {len(scores)} of {len(mine)} valid", flush=True)
    judges, accuracy = labellers(shards["train"], test, tokenizer, knobs.sample_bars)
    random = np.random.default_rng(knobs.seed)
    drawn = random.permutation(len(shards["train"]))[: len(openings)]
    train_openings = [
        first_bars(tokenizer.decode_ids(shards["train"].piece(int(i))), knobs.sample_bars) for i in drawn
    ]
    likeness = {
        name: overlap(openings, group, knobs.seed)
        for name, group in (("model", scores), ("ngram", theirs), ("train", train_openings))
    }
    lines, owners = melodies_of(shards["train"], tokenizer)
    runs = RunIndex(lines, owners)
    copied = originality(scores, openings, runs, shards["train"], tokenizer)
    whole = [
        tokenizer.decode_ids(test.piece(i))
        for i in range(len(test))
        if len(test.bar_starts(i)) >= knobs.form_bars
    ]
    obeyed = obedience(
        mine,
        written["unasked"],
        written["cells"],
        judges,
        accuracy,
        written["human"],
        tokenizer.ticks_per_quarter,
    )
    metrics |= {
        "controls": written["controls"],
        "controls_earned": earned(written["controls"], knobs.control_rank, knobs.control_exact),
        "music": music(written, test, tokenizer),
        "ngram_order": ngram.order,
        "ngram_orders": {str(order): round(nats, 4) for order, nats in sorted(orders.items())},
        "validity": len(scores) / len(mine),
        "ngram_validity": len(theirs) / len(written["ngram"]),
        "samples": len(mine),
        "overlap": likeness,
        "overlap_gain": round(likeness["model"]["mean"]["oa"] - likeness["ngram"]["mean"]["oa"], 4),
        "obedience": obeyed,
        "structure": structure(
            {
                "model": written["form"],
                "ngram": written["ngram_form"],
                "test": [first_bars(score, knobs.form_bars) for score in whole],
            }
        ),
        "originality": {k: v for k, v in copied.items() if k != "nearest"},
        "training": training_report(),
        "alignment": alignment(params, network, tokenizer, test, ngram, judges, runs),
    }
    write_json(METRICS, metrics)
    write_json(HEADLINE, {name: value for name, value in headline(metrics).items() if value is not None})
    draw(metrics, likeness)
    save_samples(decoder, tokenizer, test, mine, copied["nearest"], knobs)
    shutil.rmtree(BUNDLE, ignore_errors=True)
    BUNDLE.mkdir()
    (BUNDLE / "decoder.onnx").write_bytes(graph)
    forms.save(BUNDLE / "forms.json")
    save_melodies(
        BUNDLE / "melodies.safetensors",
        lines,
        owners,
        [record["piece_id"] for record in shards["train"].records],
    )
    for source in (
        Path("data/embed/encoder.safetensors"),
        Path("data/embed/catalogue.safetensors"),
        Path("data/recommend/recommender.safetensors"),
        TRAINED / "rewards.safetensors",
    ):
        shutil.copyfile(source, BUNDLE / source.name)
    save_judges(BUNDLE / "judges.safetensors", judges)
    make_bundle(params, metrics, pieces, reference_profile(openings, scores, pieces))


def make_bundle(
    params: Params, metrics: dict[str, Any], pieces: dict[str, dict[str, float]], profile: dict[str, Any]
) -> None:
    """Write the rest of the bundle directory and seal it."""
    for source in (TRAINED / "model.safetensors", TRAINED / "config.json", TOKENS / "tokenizer.json"):
        shutil.copyfile(source, BUNDLE / source.name)
    origin = lineage(params)
    write_json(BUNDLE / "profile.json", profile)
    write_json(
        BUNDLE / "evaluation.json",
        {"metrics": metrics, "pieces": pieces, "test_digest": split_digest("test")},
    )
    write_json(BUNDLE / "lineage.json", origin)
    write_model_card(BUNDLE / "MODEL_CARD.md", metrics, origin)
    print(f"bundle {seal(BUNDLE)[:16]}", flush=True)


if __name__ == "__main__":
    run_stage(main)
