"""What the parts of `benchmarks.align` share: the networks before and after, prompts, and judges."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl

from benchmarks.edit_music import TreeJudge
from models.align.parts import Heard
from models.align.rewards import Rewards
from models.align.rollouts import Take, Writer, prompts_like
from models.align.rounds import Pair, heard
from models.fill.best_of import best, drafts
from models.fill.request import FillRequest
from models.network.decoder import Network
from models.network.likelihood import nats_per_note, piece_nats
from models.network.training import best_precision
from models.tokens.build import load_tokenizer
from models.tokens.shards import Shard, opening
from music.analysis.voices import VoiceLeading
from pipelines.align import parts, rewards_of
from pipelines.running.params import load_params
from pipelines.running.params_training import Align
from pipelines.running.training_run import TOKENS, load_weights

FINETUNED, ALIGNED, SEED, DRAFTS = Path("data/finetune"), Path("data/align"), 23, 4
SHORT = (
    "reward",
    "style named as asked by boosted trees",
    "ending",
    "close",
    "key",
    "fifths",
    "octaves",
    "distinct 4-grams of intervals",
    "nats per note",
)  # in the README


Weights = dict[str, Any]


class Setting:
    """Everything the parts share, loaded once."""

    def __init__(self) -> None:
        self.params = load_params()
        self.tokenizer = load_tokenizer(TOKENS / "tokenizer.json")
        self.shards = {split: Shard(TOKENS, split) for split in ("train", "valid", "test")}
        self.config, self.before = load_weights(FINETUNED)
        self.writer = Writer(self.tokenizer, self.config)
        self.rewards = rewards_of(self.tokenizer, self.shards, self.params.align, [])
        test = self.shards["test"]
        self.real = [
            Heard(opening(test, self.tokenizer, i, self.params.align.bars), test.labels(i))
            for i in range(len(test))
        ]

    def trees(self) -> TreeJudge:
        """A judge of style of another kind than the one that rewards."""
        train = self.shards["train"]
        labelled = [i for i, record in enumerate(train.records) if record["style"]]
        return TreeJudge(
            [opening(train, self.tokenizer, i, self.params.align.bars) for i in labelled],
            [train.records[i]["style"] for i in labelled],
        )

    def prompts(
        self, count: int, split: str = "test", seed: int = SEED, styles: Sequence[str] = ()
    ) -> list[FillRequest]:
        """Requests as they are served; `styles`: only of these."""
        found: list[FillRequest] = []
        while len(found) < count:
            more = prompts_like(
                self.shards[split],
                self.tokenizer,
                count=count,
                bars=self.params.align.bars,
                seed=seed,
                top_p=0.98,
            )
            found += [request for request in more if not styles or request.labels.style in styles]
            seed += 1
        return found[:count]

    def nats(self, weights: Weights) -> float:
        """Nats per note of the test split, nothing asked."""
        test, network = self.shards["test"], Network(self.config)
        network.load_state_dict(weights)
        return nats_per_note(
            piece_nats(
                network, self.tokenizer, [(test.piece(i), test.bar_starts(i)) for i in range(len(test))]
            ),
            [int(r["notes"]) for r in test.records],
        )

    def align(
        self, steps: int, rewards: Rewards, people: Sequence[Pair] = (), **changed: Any
    ) -> tuple[Weights, float]:
        """Weights aligned from data/finetune with some knobs changed, the last ones, and the seconds it
        took."""
        knobs = Align.model_validate({**self.params.align.model_dump(), "max_steps": steps, **changed})
        begin = time.monotonic()
        module, rounds = parts(
            knobs, self.config, self.before, self.tokenizer, self.shards, rewards, list(people)
        )
        precision = best_precision() if knobs.precision == "auto" else knobs.precision
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=-1,
            max_steps=knobs.max_steps,
            precision=precision,
            gradient_clip_val=knobs.gradient_clip,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            limit_val_batches=0,
            enable_model_summary=False,
            enable_progress_bar=False,
            logger=False,
            enable_checkpointing=False,
        )
        trainer.fit(module, rounds)
        return {
            name: value.detach() for name, value in module.network.state_dict().items()
        }, time.monotonic() - begin

    def reward(self, takes: Sequence[Take]) -> np.ndarray:
        return np.array([self.rewards.total(heard(take)) for take in takes])


def named_right(trees: TreeJudge, some: Sequence[Heard]) -> float:
    """Percentage of pieces whose style the trees name as it was asked."""
    return 100 * float(
        np.mean(
            [
                a == b
                for a, b in zip(
                    trees.name([h.score for h in some]), [h.labels.style for h in some], strict=True
                )
            ]
        )
    )


def freely(prompts: Sequence[FillRequest]) -> list[FillRequest]:
    """The same by the network alone, without the rule that keeps chorales from parallels
    (models/decoding/voice_leading.py)."""
    return [replace(request, locks=replace(request.locks, voice_leading=False)) for request in prompts]


def summed(takes: Sequence[Take]) -> VoiceLeading | None:
    """Voice leading of all four-part takes together."""
    return added([heard(take).voices for take in takes])


def added(counts: Sequence[VoiceLeading | None]) -> VoiceLeading | None:
    """The sum of those that are there."""
    found = [voices for voices in counts if voices is not None]
    return reduce(add, found) if found else None


def rates(voices: VoiceLeading) -> dict[str, float]:
    return {
        "fifths": 1000 * voices.parallel_fifths / voices.moves,
        "octaves": 1000 * voices.parallel_octaves / voices.moves,
        "crossings": 1000 * voices.crossings / voices.steps,
        "compass": 1000 * voices.out_of_compass / voices.notes,
    }


def best_takes(setting: Setting, weights: Weights, prompts: Sequence[FillRequest], count: int) -> list[Take]:
    """The best of `count` drafts of each prompt, as `best_of` of /v1/compose gives it, but by judges that the
    trees do not know."""
    asked = drafts(prompts, count)
    takes = setting.writer.write(weights, asked)
    return [takes[i] for i in best(asked, [take.score for take in takes], count, setting.rewards.of_answer)]
