"""What the endpoints do: compose and score with one bundle. No HTTP here, so that tests and notebooks can call it."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import numpy as np
from symusic import Score

from models.bundle import Bundle
from models.compose import Composition, Take, compose
from models.grammar import Plan
from models.sampling import key_obeyed
from models.scoring import bar_surprise, nats_per_note, piece_nats
from models.tokens import Labels, NotRepresentable
from music.descriptors import describe
from music.errors import UnreadableScore
from music.instruments import DRUMS, name_of
from music.readers import read_midi
from music.score import Limits, bar_table, normalise, to_midi
from music.similarity import melody
from serving.errors import Refused

UPLOAD = Limits(max_bytes=2_000_000, max_quarters=8_000, max_notes=20_000, max_tracks=64)


@dataclass(frozen=True)
class Judged:
    """A score with what the model and the descriptors say of it."""

    score: Score
    notes: int
    bars: int
    surprise_per_bar: list[float]
    scorecard: dict[str, Any]


class Engine:
    """Everything of a bundle that answers need, loaded once."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.tokenizer, self.network = bundle.tokenizer, bundle.network
        self._reference = np.array(bundle.profile["nats_per_note"])
        self._runs = bundle.run_index
        self._run_owners = bundle.run_owners

    def known(self) -> dict[str, list[str]]:
        """What can be asked for."""
        t = self.tokenizer
        return {"styles": t.styles, "rhythms": t.rhythms, "metres": [f"{n}/{d}" for n, d in t.metres], "instruments": [name_of(p) for p in t.programs]}

    def compose(self, asked: Composition) -> tuple[list[Take], list[Judged]]:
        """Takes and their scorecards. Raises Refused, naming what is known."""
        try:
            takes = compose(self.network, self.tokenizer, asked)
        except (NotRepresentable, ValueError) as error:
            raise Refused(str(error)) from error
        labels = Labels(asked.style, asked.rhythm, asked.key)
        wanted = {name: value for name, value in (("style", asked.style), ("rhythm", asked.rhythm), ("key", asked.key), ("metre", asked.metre), ("bars", asked.bars)) if value}
        judged = [self._judge(take.score, labels) for take in takes]
        for take, card in zip(takes, judged, strict=True):
            card.scorecard["asked"] = wanted
            card.scorecard["obeyed"] = self._obeyed(take.score, asked)
        return takes, judged

    def _obeyed(self, score: Score, asked: Composition) -> dict[str, bool]:
        bars = bar_table(score)
        obeyed = {"bars": len(bars) == asked.bars}
        if asked.metre:
            obeyed["metre"] = all(f"{n}/{d}" == asked.metre for _, _, n, d in bars.tolist())
        if asked.key:
            obeyed["key"] = key_obeyed(score, asked.key)
        return obeyed

    def score(self, midi: str, labels: Labels) -> Judged:
        """Judge a base64 MIDI file. Raises Refused for what is no music or not in the model's world."""
        try:
            raw = read_midi(base64.b64decode(midi, validate=True), UPLOAD)
            score = normalise(raw, ticks_per_quarter=self.tokenizer.ticks_per_quarter, velocity=self.tokenizer.velocity)
            return self._judge(score, labels)
        except binascii.Error as error:
            raise Refused(f"midi is not base64: {error}", "midi") from error
        except (UnreadableScore, NotRepresentable, ValueError) as error:
            raise Refused(str(error), "midi") from error

    def _judge(self, score: Score, labels: Labels) -> Judged:
        ids, bar_starts = self.tokenizer.encode_score(score)
        nats = piece_nats(self.network, self.tokenizer, [(ids, bar_starts)], [labels])[0]
        each = nats_per_note([nats], [score.note_num()])
        run, owner = self._runs.longest_run(melody(score))
        card = {
            "nats_per_note": round(each, 4), "percentile": round(float((self._reference < each).mean() * 100), 1), "descriptors": describe(score),
            "originality": {"longest_shared_run": run, "nearest": self._run_owners[owner] if owner >= 0 else ""},
        }  # fmt: skip
        return Judged(score, score.note_num(), len(bar_starts), [round(float(x), 3) for x in bar_surprise(nats, bar_starts)], card)

    def warm_up(self) -> None:
        """Pay the first-call costs (threads, hash tables) before a client does."""
        plan = Plan((self.tokenizer.metres[0],), (self.tokenizer.programs[0],))
        asked = Composition(bars=1, metre="/".join(map(str, plan.metres[0])), instruments=[p if p != DRUMS else DRUMS for p in plan.programs])
        takes = compose(self.network, self.tokenizer, asked)
        self.score(base64.b64encode(to_midi(takes[0].score)).decode(), Labels())
