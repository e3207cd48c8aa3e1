"""What align learns from, round by round: takes of the present weights or pairs of the reference's, judged by
rewards; people's pairs; real music."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from models.align.parts import Heard
from models.align.rewards import Rewards
from models.align.rollouts import Take, Writer, padded, several_takes, unasked
from models.fill.request import FillRequest
from models.network.decoder import Network
from models.tokens.windows import WindowDataset
from music.analysis.similarity import distinct_ngrams, melody

Method = Literal["rloo", "dpo"]
DISTINCT = 4  # intervals of an n-gram
MEMORY = 0.8  # of what guidance won in earlier rounds


@dataclass(frozen=True)
class Pair:
    """Two takes of one prompt. weight: how much it counts; people's pairs share a voice."""

    chosen: Take
    rejected: Take
    weight: float = 1.0


def heard(take: Take) -> Heard:
    return Heard(take.score, take.request.labels, take.request.given)


def distinct(takes: Sequence[Take]) -> float:
    """Distinct n-grams of the lines that were written."""
    return distinct_ngrams(
        [
            line
            for take in takes
            for k in range(len(take.score.tracks))
            if k not in take.request.given
            for line in melody(take.score, k)
        ],
        DISTINCT,
    )


def leave_one_out(rewards: np.ndarray) -> np.ndarray:
    """Advantage of each of rewards (prompts, takes): less the mean of the others of its prompt, over the
    spread of all within their prompts."""
    count = rewards.shape[1]
    advantage = (rewards - rewards.mean(axis=1, keepdims=True)) * count / (count - 1)
    return np.asarray(advantage / max(float(rewards.std(axis=1).mean()), 1e-6))


def wrong_tokens(
    takes: Sequence[Take], rewards: Rewards, first_pitch: int, vocabulary: int
) -> tuple[Tensor, Tensor]:
    """Where single notes can go wrong: positions int64 (m, 2) of (take, token before the pitch) and how wrong
    each next token would be, float32 (m, V)."""
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
    return torch.tensor(places, dtype=torch.long).reshape(-1, 2), torch.from_numpy(
        np.array(costs, dtype=np.float32).reshape(-1, vocabulary)
    )


def pairs_of(takes: Sequence[Take], rewards: np.ndarray, least: float) -> list[Pair]:
    """The best against the worst take of each prompt, and the second against the last but one, where they
    differ by `least`."""
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
        self,
        method: Method,
        reference: Network,
        writer: Writer,
        rewards: Rewards,
        prompts: Callable[[int, int], list[FillRequest]],
        anchor: Callable[[int, int], WindowDataset],
        *,
        rounds: int,
        count: int,
        takes: int,
        kept: int,
        guidance: float,
        batch: int,
        seed: int,
        least: float,
        first_pitch: int,
        people: Sequence[Pair] = (),
        each: int = 0,
        real: Sequence[Take] = (),
        led: int = 0,
    ) -> None:
        """prompts(count, seed) and anchor(first, rows) make requests and rows of real music; an epoch has
        `rounds` of `count` prompts with `takes` each, of which RLOO learns from `kept`; `guidance`: of every
        second take; `each`: people's pairs in a step; `led`: of the `real` takes in a step, whose notes can
        be wrong too; `first_pitch`: the token of pitch 0; `batch`: sequences in a step."""
        super().__init__()
        (self._method, self._reference, self._writer, self._rewards, self._prompts, self._anchor) = (
            method,
            reference,
            writer,
            rewards,
            prompts,
            anchor,
        )
        (
            self._rounds,
            self._count,
            self._takes,
            self._batch,
            self._seed,
            self._least,
            self._people,
            self._each,
        ) = rounds, count, takes, batch, seed, least, people if each else (), each
        self._real, self._led = (list(real) if led else []), led
        self._kept, self._guidance, self._first_pitch = min(kept, takes), guidance, first_pitch
        self._gain, self._done = 0.0, 0  # rounds of which all was learned from
        self._pairs: list[Pair] = []
        self._made: tuple[int, list[dict[str, Tensor]]] | None = None

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(_Lazily(self._epoch), batch_size=None)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        # one step: what is looked at is in the module
        return DataLoader(TensorDataset(torch.zeros(1)), batch_size=1)

    def written(self, network: Network, seed: int) -> tuple[list[Take], np.ndarray]:
        """Takes of new prompts and their rewards (prompts, takes)."""
        takes = self._writer.write(
            network.state_dict(), several_takes(self._prompts(self._count, seed), self._takes, self._guidance)
        )
        return takes, np.array([self._rewards.total(heard(take)) for take in takes]).reshape(-1, self._takes)

    def first(self) -> tuple[list[Take], np.ndarray]:
        """What the reference writes in the first round, and its rewards."""
        return self.written(self._reference, self._seed)

    def state_dict(self) -> dict[str, Any]:
        return {"gain": self._gain, "done": self._done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._gain, self._done = state_dict["gain"], state_dict["done"]

    def _epoch(self) -> Iterator[dict[str, Tensor]]:
        assert self.trainer is not None
        module: Any = self.trainer.lightning_module  # an Aligning
        for number in range(
            self.trainer.current_epoch * self._rounds, (self.trainer.current_epoch + 1) * self._rounds
        ):
            if number < self._done:
                continue  # a resumed run begins with the epoch that it had ended
            if self._made is None or self._made[0] != number:  # Lightning begins an epoch's data twice
                self._made = (
                    number,
                    list(self._rloo(module, number) if self._method == "rloo" else self._dpo(number)),
                )
            batches = self._made[1]
            real = self._anchor(number * len(batches) * module.anchor_rows, len(batches) * module.anchor_rows)
            for n, batch in enumerate(batches):
                step = number * len(batches) + n
                told = (
                    {
                        **(self._of_people(step) if self._people else {}),
                        **(self._of_real(step) if self._real else {}),
                    }
                    if self._method == "rloo"
                    else {}
                )
                rows = [real[n * module.anchor_rows + k] for k in range(module.anchor_rows)]
                yield {
                    **batch,
                    **told,
                    "real": torch.stack([ids for ids, _ in rows]),
                    "learned": torch.stack([mask for _, mask in rows]),
                }
            self._done = number + 1

    def _of_people(self, step: int) -> dict[str, Tensor]:
        """Some of people's pairs, each as often over the steps; first the chosen, then the rejected takes."""
        order = np.random.default_rng((self._seed, step * self._each // len(self._people))).permutation(
            len(self._people)
        )
        some = [self._people[int(order[(step * self._each + k) % len(order)])] for k in range(self._each)]
        ids, scored = padded([pair.chosen for pair in some] + [pair.rejected for pair in some])
        return {
            "people": ids,
            "people_scored": scored,
            "people_weight": torch.tensor([pair.weight for pair in some]),
        }

    def _of_real(self, step: int) -> dict[str, Tensor]:
        """Some real four-part openings, and what would be wrong in them."""
        some = [
            self._real[int(i)]
            for i in np.random.default_rng((self._seed, step)).integers(len(self._real), size=self._led)
        ]
        places, costs = wrong_tokens(
            some, self._rewards, self._first_pitch, self._reference.config.vocabulary
        )
        ids, scored = padded(some)
        return {"led": ids, "led_scored": scored, "led_places": places, "led_costs": costs}

    def _rloo(self, module: Any, number: int) -> Iterator[dict[str, Tensor]]:
        takes, rewards = self.written(module.network, self._seed + 7919 * number)
        module.round_reward = float(rewards.mean())
        advantage, G = leave_one_out(rewards), self._takes
        gain = (rewards[:, 1::2].mean() - rewards[:, ::2].mean()) / max(
            float(rewards.std(axis=1).mean()), 1e-6
        )
        self._gain = MEMORY * self._gain + (1 - MEMORY) * float(gain) if number else float(gain)
        learned = [p * G + int(k) for p, mine in enumerate(rewards) for k in _outermost(mine, self._kept)]
        for some in self._by_length([len(takes[i].ids) for i in learned], self._batch, number):
            mine = [takes[learned[i]] for i in some]
            ids, scored = padded(mine)
            weight = torch.tensor([float(advantage.flat[learned[i]]) for i in some])
            places, costs = wrong_tokens(
                mine, self._rewards, self._first_pitch, self._reference.config.vocabulary
            )
            free, moved = unasked(mine, ids.shape[1])
            yield {
                "ids": ids,
                "scored": scored,
                "weight": weight,
                "places": places,
                "costs": costs,
                "free": free,
                "moved": moved,
                "gain": torch.tensor(self._gain),
            }

    def _dpo(self, number: int) -> Iterator[dict[str, Tensor]]:
        if not self._pairs:
            takes, rewards = self.written(self._reference, self._seed)
            self._pairs = [*pairs_of(takes, rewards, self._least), *self._people]
            if not self._pairs:
                raise ValueError(
                    f"no two takes of a prompt differ by {self._least} in reward: lower "
                    f"align.least, or raise align.prompts or align.takes"
                )
        for picked in self._by_length(
            [max(len(pair.chosen.ids), len(pair.rejected.ids)) for pair in self._pairs],
            self._batch // 2,
            number,
        ):
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
    """Indices of the `kept` takes of a prompt farthest from the middle, half of them the best and half the
    worst: they carry most of the gradient (Xu et al. 2025)."""
    order = np.argsort(rewards)
    return np.concatenate([order[: kept // 2], order[len(order) - (kept - kept // 2) :]])


class _Lazily(IterableDataset[dict[str, Tensor]]):
    """Batches made when they are asked for: a round needs the weights of its beginning."""

    def __init__(self, make: Callable[[], Iterator[dict[str, Tensor]]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return self._make()
