"""The rewards that `align` learned from, kept for `evaluate`, which measures by the same ones."""

import json
from pathlib import Path

import numpy as np

from models.labelling import load_judges, save_judges
from models.preferences import Jury
from models.rewards import Reference, Rewards, Tools
from music.similarity import RunIndex
from pipelines.files import write_json


def save_rewards(folder: Path, rewards: Rewards) -> None:
    """Write rewards.json, judges.safetensors and, where people have spoken, jury.safetensors."""
    metres = {metre: profile.tolist() for metre, profile in rewards.tools.metres.items()}
    write_json(folder / "rewards.json", {"weights": dict(rewards.weights), "metres": metres, "reference": rewards.reference.values, "learned_share": rewards.learned_share})
    save_judges(folder / "judges.safetensors", rewards.tools.judges)
    (folder / "jury.safetensors").unlink(missing_ok=True)
    if isinstance(rewards.learned, Jury):
        rewards.learned.save(folder / "jury.safetensors")


def load_rewards(folder: Path, runs: RunIndex) -> Rewards:
    """What `save_rewards` wrote; `runs`: melodies of the train split."""
    stored = json.loads((folder / "rewards.json").read_text())
    tools = Tools(load_judges(folder / "judges.safetensors"), {metre: np.array(profile) for metre, profile in stored["metres"].items()}, runs)
    path = folder / "jury.safetensors"
    return Rewards(stored["weights"], tools, Reference(stored["reference"]), Jury.load(path) if path.exists() else None, stored["learned_share"])
