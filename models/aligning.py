"""Lightning module and data of alignment: DPO on pairs of the model's own takes, or REINFORCE leave-one-out on takes of the present weights.

DPO: Rafailov et al. 2023. RLOO: Kool et al. 2019, Ahmadian et al. 2024, with GRPO's estimate of the divergence from the reference
(Shao et al. 2024). Both are held by cross-entropy on real music, the likelihood anchor. An epoch is a round: takes are written (RLOO: anew
each round; DPO: once, by the reference), judged, and learned from.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from models.fill import FillRequest
from models.network import Network
from models.optimizer import MuonAdamW
from models.rewards import Heard, Rewards
from models.rollouts import Take, Writer, padded, several_takes, unasked
from models.training import Clock, ValidPieces, learning_rate_factor
from models.windows import WindowDataset
from music.similarity import distinct_ngrams, melody

Method = Literal["rloo", "dpo"]
MOST_WORSE = 0.02  # share by which nats per note of the valid split may rise over the reference's, and distinct n-grams fall short of its, for a look to count
DISTINCT = 4  # intervals of an n-gram
MEMORY = 0.8  # of what guidance won in earlier rounds


@dataclass(frozen=True)
class Pair:
    """Two takes of one prompt. weight: how much it counts; people's pairs share a voice."""

    chosen: Take
    rejected: Take
    weight: float = 1.0


@dataclass(frozen=True)
class Hold:
    """What alignment is held by. beta: DPO's, or the weight of the divergence; anchor: weight of cross-entropy on real music; local: weight of what single notes do wrong; guided:
    of the divergence from what guidance would write, while guidance wins."""

    beta: float
    anchor: float
    local: float = 0.0
    guided: float = 0.0


def log_probabilities(network: Network, ids: Tensor, scored: Tensor) -> Tensor:
    """Log-probability of each scored token given those before it, 0 elsewhere: float32 (n, T - 1) for ids (n, T)."""
    return picked(network(ids[:, :-1]).float(), ids, scored)


def picked(logits: Tensor, ids: Tensor, scored: Tensor) -> Tensor:
    """The same from logits (n, T - 1, V)."""
    found = logits.gather(2, ids[:, 1:, None])[..., 0] - logits.logsumexp(dim=2)
    return torch.where(scored[:, 1:], found, 0.0)


def heard(take: Take) -> Heard:
    return Heard(take.score, take.request.labels, take.given)


def distinct(takes: Sequence[Take]) -> float:
    """Distinct n-grams of the lines that were written."""
    return distinct_ngrams([line for take in takes for k in range(len(take.score.tracks)) if k not in take.given for line in melody(take.score, k)], DISTINCT)


def leave_one_out(rewards: np.ndarray) -> np.ndarray:
    """Advantage of each of rewards (prompts, takes): less the mean of the others of its prompt, over the spread of all within their prompts."""
    count = rewards.shape[1]
    advantage = (rewards - rewards.mean(axis=1, keepdims=True)) * count / (count - 1)
    return np.asarray(advantage / max(float(rewards.std(axis=1).mean()), 1e-6))


def wrong_tokens(takes: Sequence[Take], rewards: Rewards, first_pitch: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Where single notes can go wrong: positions int64 (m, 2) of (take, token before the pitch) and how wrong each next token would be, float32 (m, V)."""
    places, costs = [], []
    for row, take in enumerate(takes):
        faults = rewards.faults(heard(take))
        for i in np.flatnonzero(take.scored & (take.notes[:, 0] >= 0)).tolist():
            wrong = faults.get((int(take.notes[i, 0]), int(take.notes[i, 1])))
            if wrong:
                cost = np.zeros(vocabulary, dtype=np.float32)
                cost[first_pitch + np.array(list(wrong))] = list(wrong.values())
                places.append((row, i - 1))
                costs.append(cost)
    return torch.tensor(places, dtype=torch.long).reshape(-1, 2), torch.from_numpy(np.array(costs, dtype=np.float32).reshape(-1, vocabulary))


def pairs_of(takes: Sequence[Take], rewards: np.ndarray, least: float) -> list[Pair]:
    """The best against the worst take of each prompt, and the second against the last but one, where they differ by `least`."""
    found = []
    for p, mine in enumerate(rewards):
        order = np.argsort(-mine)
        for k in range(2 if len(order) > 3 else 1):
            best, worst = int(order[k]), int(order[-1 - k])
            if mine[best] - mine[worst] >= least:
                found.append(Pair(takes[p * len(mine) + best], takes[p * len(mine) + worst]))
    return found


class Rounds(pl.LightningDataModule):
    """The takes of each round, and the rows of real music that hold the network."""

    def __init__(
        self, method: Method, reference: Network, writer: Writer, rewards: Rewards, prompts: Callable[[int, int], list[FillRequest]], anchor: Callable[[int, int], WindowDataset], clock: Clock, *,
        rounds: int, count: int, takes: int, kept: int, guidance: float, batch: int, seed: int, least: float, first_pitch: int, people: Sequence[Pair] = (),
    ) -> None:  # fmt: skip
        """prompts(count, seed) and anchor(first, rows) make requests and rows of real music; an epoch has `rounds` of `count` prompts with `takes` each, of which RLOO learns from `kept`; `guidance`: of every second take; `first_pitch`: the token of pitch 0; `batch`: sequences in a step."""
        super().__init__()
        self._method, self._reference, self._writer, self._rewards, self._prompts, self._anchor, self._clock = method, reference, writer, rewards, prompts, anchor, clock
        self._rounds, self._count, self._takes, self._batch, self._seed, self._least, self._people = rounds, count, takes, batch, seed, least, people
        self._kept, self._guidance, self._first_pitch = min(kept, takes), guidance, first_pitch
        self._gain = 0.0
        self._pairs: list[Pair] = []
        self._made: tuple[int, list[dict[str, Tensor]]] | None = None

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(_Lazily(self._epoch), batch_size=None)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(TensorDataset(torch.zeros(1)), batch_size=1)  # one step: what is looked at is in the module

    def written(self, network: Network, seed: int) -> tuple[list[Take], np.ndarray]:
        """Takes of new prompts and their rewards (prompts, takes)."""
        takes = self._writer.write(network.state_dict(), several_takes(self._prompts(self._count, seed), self._takes, self._guidance))
        return takes, np.array([self._rewards.total(heard(take)) for take in takes]).reshape(-1, self._takes)

    def first(self) -> tuple[list[Take], np.ndarray]:
        """What the reference writes in the first round, and its rewards."""
        return self.written(self._reference, self._seed)

    def state_dict(self) -> dict[str, Any]:
        return {"gain": self._gain}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._gain = state_dict["gain"]

    def _epoch(self) -> Iterator[dict[str, Tensor]]:
        assert self.trainer is not None
        module = self.trainer.lightning_module
        assert isinstance(module, Aligning)
        for number in range(self.trainer.current_epoch * self._rounds, (self.trainer.current_epoch + 1) * self._rounds):
            begin = time.monotonic()
            if self._made is None or self._made[0] != number:  # Lightning begins an epoch's data twice
                self._made = number, list(self._rloo(module, number) if self._method == "rloo" else self._dpo(number))
            batches = self._made[1]
            real = self._anchor(number * len(batches) * module.anchor_rows, len(batches) * module.anchor_rows)
            self._clock.elapsed_s += time.monotonic() - begin
            for n, batch in enumerate(batches):
                rows = [real[n * module.anchor_rows + k] for k in range(module.anchor_rows)]
                yield {**batch, "real": torch.stack([ids for ids, _ in rows]), "learned": torch.stack([mask for _, mask in rows])}

    def _rloo(self, module: "Aligning", number: int) -> Iterator[dict[str, Tensor]]:
        takes, rewards = self.written(module.network, self._seed + 7919 * number)
        module.round_reward = float(rewards.mean())
        advantage, G = leave_one_out(rewards), self._takes
        gain = (rewards[:, 1::2].mean() - rewards[:, ::2].mean()) / max(float(rewards.std(axis=1).mean()), 1e-6)
        self._gain = MEMORY * self._gain + (1 - MEMORY) * float(gain) if number else float(gain)
        learned = [p * G + int(k) for p, mine in enumerate(rewards) for k in _outermost(mine, self._kept)]
        for some in self._by_length([len(takes[i].ids) for i in learned], self._batch, number):
            mine = [takes[learned[i]] for i in some]
            ids, scored = padded(mine)
            weight = torch.tensor([float(advantage.flat[learned[i]]) for i in some])
            places, costs = wrong_tokens(mine, self._rewards, self._first_pitch, self._reference.config.vocabulary)
            free, moved = unasked(mine, ids.shape[1])
            yield {"ids": ids, "scored": scored, "weight": weight, "places": places, "costs": costs, "free": free, "moved": moved, "gain": torch.tensor(self._gain)}

    def _dpo(self, number: int) -> Iterator[dict[str, Tensor]]:
        if not self._pairs:
            takes, rewards = self.written(self._reference, self._seed)
            self._pairs = [*pairs_of(takes, rewards, self._least), *self._people]
        for picked in self._by_length([max(len(pair.chosen.ids), len(pair.rejected.ids)) for pair in self._pairs], self._batch // 2, number):
            some = [self._pairs[i] for i in picked]
            mine = [pair.chosen for pair in some] + [pair.rejected for pair in some]
            ids, scored = padded(mine)
            yield {"ids": ids, "scored": scored, "weight": torch.tensor([pair.weight for pair in some])}


    def _by_length(self, lengths: Sequence[int], size: int, number: int) -> list[list[int]]:
        """Indices in batches of about equal length, so that little is padded; the batches in random order."""
        random = np.random.default_rng((self._seed, number))
        order = np.argsort(np.array(lengths) + random.random(len(lengths)), kind="stable")
        batches = [order[first : first + size].tolist() for first in range(0, len(order), size)]
        return [batches[i] for i in random.permutation(len(batches))]


def _outermost(rewards: np.ndarray, kept: int) -> np.ndarray:
    """Indices of the `kept` takes of a prompt farthest from the middle, half of them the best and half the worst: they carry most of the gradient (Xu et al. 2025)."""
    order = np.argsort(rewards)
    return np.concatenate([order[: kept // 2], order[len(order) - (kept - kept // 2) :]])


class _Lazily(IterableDataset[dict[str, Tensor]]):
    """Batches made when they are asked for: a round needs the weights of its beginning."""

    def __init__(self, make: Callable[[], Iterator[dict[str, Tensor]]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self._make()


class Aligning(pl.LightningModule):
    """Learns from judged takes, starting as the reference. `looks`: prompts of the valid split on which reward and diversity are watched, as nats per note are on its pieces."""

    def __init__(
        self, reference: Network, valid: ValidPieces, writer: Writer, rewards: Rewards, looks: Sequence[FillRequest], *,
        guidance: float, method: Method, hold: Hold, matrix_rate: float, learning_rate: float, warmup: float, max_steps: int, clock: Clock, anchor_rows: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network = Network(reference.config)
        self.network.load_state_dict(reference.state_dict())
        self.anchor_rows, self.round_reward = anchor_rows, float("nan")
        self._valid, self._writer, self._rewards, self._looks = valid, writer, rewards, list(looks)
        self._method, self._hold, self._clock = method, hold, clock
        self._matrix_rate, self._learning_rate, self._warmup, self._max_steps = matrix_rate, learning_rate, warmup, max_steps
        self._reference, self._guidance = [reference.eval().requires_grad_(False)], guidance  # in a list: not ours to train or to save
        self._start = self.look()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return MuonAdamW(self.network, matrix_rate=self._matrix_rate or 1.0, rate=self._learning_rate, weight_decay=0.0, thin=not self._matrix_rate)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.trainer.optimizers[0]
        assert isinstance(optimizer, MuonAdamW)
        by_clock = self._clock.elapsed_s / self._clock.budget_s if self._clock.budget_s else 0.0
        optimizer.scale_rates(learning_rate_factor(max(self.global_step / self._max_steps, by_clock), self._warmup))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        logits = self.network(batch["ids"][:, :-1]).float()
        mine = picked(logits, batch["ids"], batch["scored"])
        with torch.no_grad():
            asked = self._reference[0](batch["ids"][:, :-1]).float()
            reference = picked(asked, batch["ids"], batch["scored"])
        if self._method == "rloo":
            judged = self._rloo(mine, reference, batch) + self._hold.local * self._wrong(logits, batch)
            judged = judged + self._hold.guided * batch["gain"].clamp(0, 1) * self._guided(logits, asked, batch)
        else:
            judged = self._dpo(mine, reference, batch)
        real = self.network.loss(batch["real"][:, :-1], torch.where(batch["learned"][:, 1:], batch["real"][:, 1:], -100)) if self._hold.anchor else torch.zeros(())
        self.log("train_judged", judged, prog_bar=True)
        self.log("train_anchor", real, prog_bar=True)
        return judged + self._hold.anchor * real

    def _wrong(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Expected cost of the next note where it can be wrong, over all own tokens: the gradient of the whole distribution, not of what was drawn (Sutton et al. 2001, "all actions")."""
        rows, at = batch["places"].T
        expected = (logits[rows, at].softmax(dim=1) * batch["costs"]).sum() / batch["scored"][:, 1:].sum()
        self.log("train_wrong", expected, prog_bar=True)
        return expected

    def _guided(self, logits: Tensor, asked: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Divergence from what the reference says with guidance (Meng et al. 2023): the whole distribution at every own token, not the takes that were drawn."""
        with torch.no_grad():
            free = self._reference[0](batch["free"][:, :-1]).float()
            free = free.gather(1, batch["moved"][:, :-1, None].clamp(max=free.shape[1] - 1).expand(-1, -1, free.shape[2]))
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

    def _dpo(self, mine: Tensor, reference: Tensor, batch: dict[str, Tensor]) -> Tensor:
        ahead = (mine - reference).sum(dim=1)
        chosen, rejected = ahead.chunk(2)
        self.log("train_chosen_ahead", (chosen > rejected).float().mean(), prog_bar=True)
        return -(batch["weight"] * F.logsigmoid(self._hold.beta * (chosen - rejected))).sum() / batch["weight"].sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        look = self.look()
        held = look["nats_per_note"] <= self._start["nats_per_note"] * (1 + MOST_WORSE) and look["distinct"] >= self._start["distinct"] * (1 - MOST_WORSE)
        for name, value in look.items():
            self.log(f"valid_{name}", value, prog_bar=True, batch_size=1)
        self.log("valid_held_reward", look["reward"] - (not held), batch_size=1)

    def look(self) -> dict[str, float]:
        """Reward and distinct n-grams of takes of the valid prompts, nats per note of valid pieces."""
        takes = self._writer.write(self.network.state_dict(), self._looks)
        with torch.autocast("cpu", enabled=False):
            nats = self._valid.nats_per_note(self.network)
        self.network.train()
        return {"reward": float(np.mean([self._rewards.total(heard(take)) for take in takes])), "distinct": distinct(takes), "nats_per_note": nats}


