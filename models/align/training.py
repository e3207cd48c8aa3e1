"""Lightning module of alignment: DPO on pairs of takes, or REINFORCE leave-one-out on takes of the present
weights.

DPO: Rafailov et al. 2023. RLOO: Kool et al. 2019, Ahmadian et al. 2024, with GRPO's estimate of the
divergence from the reference (Shao et al. 2024). Both are held by cross-entropy on real music, the likelihood
anchor. models/align/rounds.py makes what is learned from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from models.align.rewards import Rewards
from models.align.rollouts import Writer
from models.align.rounds import Method, distinct, heard
from models.fill.request import FillRequest
from models.network.decoder import Network
from models.network.optimizer import MuonAdamW
from models.network.training import ValidPieces, learning_rate_factor


@dataclass(frozen=True)
class Hold:
    """What alignment is held by. beta: weight of the divergence; sharp: DPO's beta; people: weight of
    people's pairs; anchor: weight of cross-entropy on real music; local: weight of what single notes do
    wrong; guided:
    of the divergence from what guidance would write, while guidance wins; worse, fewer: shares by which nats
    per note of the valid split may rise over
    the reference's, and distinct n-grams fall short of its, for a look to count."""

    beta: float
    anchor: float
    local: float = 0.0
    guided: float = 0.0
    sharp: float = 0.1
    people: float = 1.0
    worse: float = 0.015
    fewer: float = 0.05


def log_probabilities(network: Network, placed: Tensor, scored: Tensor) -> Tensor:
    """Log-probability of each scored token given those before it, 0 elsewhere: float32 (n, T - 1) for tokens
    with their places (n, T, WIDTH)."""
    return picked(network(placed[:, :-1]).float(), placed, scored)


def picked(logits: Tensor, placed: Tensor, scored: Tensor) -> Tensor:
    """The same from logits (n, T - 1, V)."""
    found = logits.gather(2, placed[:, 1:, :1].long())[..., 0] - logits.logsumexp(dim=2)
    return torch.where(scored[:, 1:], found, 0.0)


class Aligning(pl.LightningModule):
    """Learns from judged takes, starting as the reference. `looks`: prompts of the valid split on which
    reward and diversity are watched, as nats per note are on its pieces."""

    def __init__(
        self,
        reference: Network,
        valid: ValidPieces,
        writer: Writer,
        rewards: Rewards,
        looks: Sequence[FillRequest],
        *,
        guidance: float,
        method: Method,
        hold: Hold,
        matrix_rate: float,
        learning_rate: float,
        warmup: float,
        max_steps: int,
        anchor_rows: int,
    ) -> None:
        super().__init__()
        self.network = Network(reference.config)
        self.network.load_state_dict(reference.state_dict())
        self.anchor_rows, self.round_reward = anchor_rows, float("nan")
        self._valid, self._writer, self._rewards, self._looks = valid, writer, rewards, list(looks)
        self._method, self._hold = method, hold
        self._matrix_rate, self._learning_rate, self._warmup, self._max_steps = (
            matrix_rate,
            learning_rate,
            warmup,
            max_steps,
        )
        self._reference = [reference.eval().requires_grad_(False)]  # in a list: not ours to train or to save
        self._guidance = guidance
        self._start = self.look()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return MuonAdamW(
            self.network,
            matrix_rate=self._matrix_rate or 1.0,
            rate=self._learning_rate,
            weight_decay=0.0,
            thin=not self._matrix_rate,
        )

    def on_fit_start(self) -> None:
        self._reference[0].to(self.device)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.trainer.optimizers[0]
        assert isinstance(optimizer, MuonAdamW)
        optimizer.scale_rates(learning_rate_factor(self.global_step / self._max_steps, self._warmup))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        logits = self.network(batch["ids"][:, :-1]).float()
        mine = picked(logits, batch["ids"], batch["scored"])
        with torch.no_grad():
            asked = self._reference[0](batch["ids"][:, :-1]).float()
            reference = picked(asked, batch["ids"], batch["scored"])
        if self._method == "rloo":
            judged = self._rloo(mine, reference, batch) + self._hold.local * self._wrong(
                logits, batch["places"], batch["costs"], batch["scored"]
            )
            if "led" in batch:
                judged = judged + self._hold.local * self._wrong(
                    self.network(batch["led"][:, :-1]).float(),
                    batch["led_places"],
                    batch["led_costs"],
                    batch["led_scored"],
                )
            judged = judged + self._hold.guided * batch["gain"].clamp(0, 1) * self._guided(
                logits, asked, batch
            )
        else:
            judged = self._dpo(mine, reference, batch["weight"])
        if "people" in batch:
            judged = judged + self._hold.people * self._dpo(
                *self._both(batch["people"], batch["people_scored"]), batch["people_weight"]
            )
        real = (
            self.network.loss(
                batch["real"][:, :-1],
                torch.where(batch["learned"][:, 1:], batch["real"][:, 1:, 0].long(), -100),
            )
            if self._hold.anchor
            else judged.new_zeros(())
        )
        self.log("train_judged", judged, prog_bar=True)
        self.log("train_anchor", real, prog_bar=True)
        return judged + self._hold.anchor * real

    def _wrong(self, logits: Tensor, places: Tensor, costs: Tensor, scored: Tensor) -> Tensor:
        """Expected cost of the next note where it can be wrong, over all own tokens: the gradient of the
        whole distribution, not of what was drawn (Sutton et al. 2001, "all actions")."""
        rows, at = places.T
        expected = (logits[rows, at].softmax(dim=1) * costs).sum() / scored[:, 1:].sum()
        self.log("train_wrong", expected, prog_bar=True)
        return expected

    def _guided(self, logits: Tensor, asked: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Divergence from what the reference says with guidance (Meng et al. 2023): the whole distribution at
        every own token, not the takes that were drawn."""
        with torch.no_grad():
            free = self._reference[0](batch["free"][:, :-1]).float()
            free = free.gather(
                1, batch["moved"][:, :-1, None].clamp(max=free.shape[1] - 1).expand(-1, -1, free.shape[2])
            )
            target = (free + self._guidance * (asked - free)).log_softmax(dim=2)
        apart = (target.exp() * (target - logits.log_softmax(dim=2))).sum(dim=2)
        far = torch.where(batch["scored"][:, 1:], apart, 0.0).sum() / batch["scored"][:, 1:].sum()
        self.log("train_gain", batch["gain"], prog_bar=True)
        self.log("train_from_guided", far, prog_bar=True)
        return far

    def _rloo(self, mine: Tensor, reference: Tensor, batch: dict[str, Tensor]) -> Tensor:
        tokens = batch["scored"][:, 1:].sum()
        gained = (batch["weight"][:, None] * mine).sum() / tokens
        behind = reference - mine
        divergence = (torch.where(batch["scored"][:, 1:], behind.exp() - behind - 1, 0.0)).sum() / tokens
        self.log("train_reward", self.round_reward, prog_bar=True)
        self.log("train_divergence", divergence, prog_bar=True)
        return -gained + self._hold.beta * divergence

    def _both(self, ids: Tensor, scored: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities now and under the reference."""
        with torch.no_grad():
            reference = log_probabilities(self._reference[0], ids, scored)
        return log_probabilities(self.network, ids, scored), reference

    def _dpo(self, mine: Tensor, reference: Tensor, weight: Tensor) -> Tensor:
        ahead = (mine - reference).sum(dim=1)
        chosen, rejected = ahead.chunk(2)
        self.log("train_chosen_ahead", (chosen > rejected).float().mean(), prog_bar=True)
        return -(weight * F.logsigmoid(self._hold.sharp * (chosen - rejected))).mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        look = self.look()
        held = look["nats_per_note"] <= self._start["nats_per_note"] * (1 + self._hold.worse) and look[
            "distinct"
        ] >= self._start["distinct"] * (1 - self._hold.fewer)
        for name, value in look.items():
            self.log(f"valid_{name}", value, prog_bar=True, batch_size=1)
        self.log("valid_held_reward", look["reward"] - (not held), batch_size=1)

    def look(self) -> dict[str, float]:
        """Reward and distinct n-grams of takes of the valid prompts, nats per note of valid pieces."""
        takes = self._writer.write(self.network.state_dict(), self._looks)
        with torch.autocast(self.device.type, enabled=False):
            nats = self._valid.nats_per_note(self.network)
        self.network.train()
        return {
            "reward": float(np.mean([self._rewards.total(heard(take)) for take in takes])),
            "distinct": distinct(takes),
            "nats_per_note": nats,
        }
