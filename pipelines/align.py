"""Stage `align`: the model writes, rewards and people judge, the model learns from it."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from models.align.parts import VOICES, Heard, Tools
from models.align.preferences import Jury, Preference, guarded, score_of, seat, weights_of
from models.align.report import preference_report, takes_rows
from models.align.rewards import Reference, Rewards, metre_profiles
from models.align.rewards_file import save_rewards
from models.align.rollouts import Writer, prompts_like, real_takes, take_of
from models.fill.compose import Composition, requests_of
from models.judge.evaluation import half_judges, melodies_of
from models.judge.style_classifier import save_judges
from models.network.config import NetworkConfig
from models.network.decoder import Network
from models.tokens.build import load_tokenizer
from models.tokens.shards import Shard, data_digest, opening
from models.tokens.tokenizer import CellTokenizer
from models.tokens.windows import Augmentation, Mixture, WindowDataset
from music.analysis.similarity import RunIndex
from pipelines.running.files import run_stage, write_json, write_parquet
from pipelines.running.params import load_params
from pipelines.running.params_training import Align
from pipelines.running.preferences import read_preferences
from pipelines.running.training_run import TOKENS, Run, keep_as_they_are, load_weights, save_weights, train

if TYPE_CHECKING:
    from models.align.rounds import Pair, Rounds
    from models.align.training import Aligning

TAKES = pa.schema(
    [
        ("prompt", pa.int64()),
        ("take", pa.int64()),
        ("reward", pa.float64()),
        ("parts", pa.string()),
        ("asked", pa.string()),
        ("midi", pa.binary()),
    ]
)
START, OUT = Path("data/finetune"), Path("data/align")
WATCHED = "valid_held_reward"


def main() -> None:
    params = load_params()
    knobs = params.align
    config, weights = load_weights(START)
    tokenizer, shards = (
        load_tokenizer(TOKENS / "tokenizer.json"),
        {split: Shard(TOKENS, split) for split in ("train", "valid")},
    )
    preferences, quarantined = guarded(read_preferences())
    rewards = rewards_of(tokenizer, shards, knobs, preferences)
    if knobs.method == "none":
        leave(Run("align", knobs, params.machine, config, {}, data_digest(TOKENS)), weights)
        return keep(rewards)
    run = Run(
        "align",
        knobs,
        params.machine,
        config,
        {
            "start": json.loads((START / "training.json").read_text()),
            "people": [asdict(p) for p in preferences],
        },
        data_digest(TOKENS),
    )
    counted = counted_of(tokenizer, preferences, rewards)
    rounds = learn(
        run,
        tokenizer,
        shards,
        rewards,
        weights,
        people_pairs(tokenizer, preferences, counted, config.context),
    )
    keep(rewards)
    takes, totals = rounds.first()
    write_parquet(OUT / "takes.parquet", takes_rows(takes, totals, rewards), TAKES)
    report = preference_report(takes, totals, rewards, preferences, counted, quarantined, knobs.people)
    write_json(Path("reports/align_report.json"), {"method": knobs.method, **report})


def keep(rewards: Rewards) -> None:
    """What was learned from, for `evaluate` and for choosing among drafts."""
    save_rewards(OUT / "rewards.safetensors", rewards)
    save_judges(OUT / "judges.safetensors", rewards.tools.judges)


def leave(run: Run, weights: dict[str, Any]) -> None:
    """Outputs of a stage that trained nothing."""
    shutil.rmtree(OUT, ignore_errors=True)
    write_json(Path("reports/align_report.json"), {"method": "none"})
    keep_as_they_are(run, weights, WATCHED)


def rewards_of(
    tokenizer: CellTokenizer, shards: dict[str, Shard], knobs: Align, preferences: list[Preference]
) -> Rewards:
    """Every part with its reference, real pieces of the valid split, and the jury where anybody has
    spoken."""
    lines, owners = melodies_of(shards["train"], tokenizer)
    runs = RunIndex(lines, owners)
    valid = shards["valid"]
    openings = [opening(valid, tokenizer, i, knobs.bars) for i in range(len(valid))]
    tools = Tools(half_judges(shards["train"], tokenizer, knobs.bars), metre_profiles(openings), runs)
    reference = Reference.of([Heard(score, valid.labels(i)) for i, score in enumerate(openings)], tools)
    jury = (
        seat(preferences, openings, tokenizer.ticks_per_quarter, tokenizer.velocity) if preferences else None
    )
    return Rewards(knobs.rewards, tools, reference, jury, knobs.people if jury else 0.0)


def learn(
    run: Run,
    tokenizer: CellTokenizer,
    shards: dict[str, Shard],
    rewards: Rewards,
    weights: dict[str, Any],
    people: "list[Pair]",
) -> "Rounds":
    """Train, write data/align, and give the rounds it learned from."""
    assert isinstance(run.knobs, Align)
    knobs, made = run.knobs, list["Rounds"]()

    def make() -> "tuple[Aligning, Rounds]":
        module, rounds = parts(knobs, run.config, weights, tokenizer, shards, rewards, people)
        made.append(rounds)
        return module, rounds

    train(run, make, watched=WATCHED, mode="max")
    trained = json.loads((OUT / "training.json").read_text())
    if trained[WATCHED] < 0:  # no look held: likelihood or diversity had fallen at each
        print(
            (
                "no look kept nats per note and distinct n-grams: the weights stay as finetune "
                "left them. Raise align.anchor or lower align.learning_rate"
            ),
            flush=True,
        )
        save_weights(run, weights, {**trained, "steps": 0})
    return made[0]


def parts(
    knobs: Align,
    config: NetworkConfig,
    weights: dict[str, Any],
    tokenizer: CellTokenizer,
    shards: dict[str, Shard],
    rewards: Rewards,
    people: "list[Pair]",
) -> "tuple[Aligning, Rounds]":
    """The module that learns and the rounds that it learns from."""
    from models.align.rounds import Rounds
    from models.align.training import Aligning, Hold
    from models.network.training import ValidPieces

    assert knobs.method != "none"
    reference = Network(config)
    reference.load_state_dict(weights)
    writer = Writer(tokenizer, config)
    real = Augmentation(5, most_bars=knobs.bars)
    rounds = Rounds(
        knobs.method,
        reference.eval(),
        writer,
        rewards,
        lambda count, seed: prompts_like(shards["train"], tokenizer, count=count, bars=knobs.bars, seed=seed),
        lambda first, rows: WindowDataset(
            shards["train"],
            tokenizer,
            config.context,
            real,
            Mixture(0.5, 0.25, 0.1, 0.15),
            knobs.seed,
            first,
            rows,
        ),
        rounds=knobs.rounds,
        count=knobs.prompts,
        takes=knobs.takes,
        kept=knobs.kept,
        guidance=knobs.guidance,
        batch=knobs.batch_size,
        seed=knobs.seed,
        least=knobs.least,
        first_pitch=tokenizer.first_id["Pitch"],
        people=people,
        each=knobs.pairs,
        led=knobs.led,
        real=real_takes(
            shards["train"],
            tokenizer,
            bars=knobs.bars,
            tracks=VOICES,
            context=config.context,
            seed=knobs.seed,
        )
        if knobs.led
        else (),
    )
    looks = prompts_like(
        shards["valid"], tokenizer, count=knobs.looks, bars=knobs.bars, seed=knobs.seed, top_p=0.98
    )
    module = Aligning(
        reference,
        ValidPieces(shards["valid"], tokenizer, told=True),
        writer,
        rewards,
        looks,
        guidance=knobs.guidance,
        method=knobs.method,
        hold=Hold(
            knobs.beta,
            knobs.anchor,
            knobs.local,
            knobs.guided,
            knobs.sharp,
            worse=knobs.most_worse,
            fewer=knobs.most_fewer,
        ),
        matrix_rate=knobs.matrix_rate,
        learning_rate=knobs.learning_rate,
        warmup=knobs.warmup,
        max_steps=knobs.max_steps,
        anchor_rows=knobs.anchor_rows,
    )
    return module, rounds


def counted_of(tokenizer: CellTokenizer, preferences: list[Preference], rewards: Rewards) -> np.ndarray:
    """How much each comparison counts (models/align/preferences.py)."""
    jury = rewards.learned
    return (
        weights_of(preferences, jury, tokenizer.ticks_per_quarter, tokenizer.velocity)
        if isinstance(jury, Jury)
        else np.zeros(len(preferences))
    )


def people_pairs(
    tokenizer: CellTokenizer, preferences: list[Preference], counted: np.ndarray, context: int
) -> "list[Pair]":
    """People's comparisons of two answers to one request, as pairs that are learned from directly, as far as
    the jury bears them out; others speak through the jury alone."""
    from models.align.rounds import Pair

    found = []
    for preference, weight in zip(preferences, counted.tolist(), strict=True):
        if preference.asked and weight > 0:
            try:
                request = requests_of(tokenizer, Composition(**json.loads(preference.asked)))[0]
                chosen, rejected = (
                    take_of(
                        tokenizer,
                        request,
                        score_of(midi, tokenizer.ticks_per_quarter, tokenizer.velocity),
                        context,
                    )
                    for midi in (preference.chosen, preference.rejected)
                )
            except (ValueError, TypeError):
                continue  # of a model with another vocabulary
            found.append(Pair(chosen, rejected, weight))
    return found


if __name__ == "__main__":
    run_stage(main)
