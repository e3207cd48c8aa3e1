"""Rewards on disk: `align` writes what it learned from, `evaluate` measures by it, and the service chooses by
it."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from models.align.parts import Tools
from models.align.preferences import Jury
from models.align.rewards import Reference, Rewards
from models.judge.style_classifier import Judges
from music.analysis.similarity import RunIndex


def save_rewards(path: Path, rewards: Rewards) -> None:
    """Weights, reference values and metres as metadata, the jury's arrays where people have spoken; not the
    judges, nor the melodies."""
    told = {
        "weights": dict(rewards.weights),
        "metres": {metre: profile.tolist() for metre, profile in rewards.tools.metres.items()},
        "reference": rewards.reference.values,
        "learned_share": rewards.learned_share,
    }
    jury = asdict(rewards.learned) if isinstance(rewards.learned, Jury) else {}
    save_file(
        {name: np.ascontiguousarray(value) for name, value in jury.items()},
        path,
        metadata={"rewards": json.dumps(told)},
    )


def load_rewards(path: Path, judges: Judges, runs: RunIndex) -> Rewards:
    """What `save_rewards` wrote; `runs`: melodies of the train split."""
    with safe_open(path, "numpy") as stored:
        told = json.loads(stored.metadata()["rewards"])
        jury = (
            Jury(**{name: stored.get_tensor(name) for name in list(stored.keys())}) if stored.keys() else None
        )
    tools = Tools(judges, {metre: np.array(profile) for metre, profile in told["metres"].items()}, runs)
    return Rewards(told["weights"], tools, Reference(told["reference"]), jury, told["learned_share"])
