"""What the endpoints do: compose and score with one bundle. No HTTP here, so that tests and notebooks can
call it."""

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from symusic import Score

from models.bundle import Bundle
from models.decoding.batching import Batcher, Busy, Ticket
from models.decoding.locks import Locks
from models.edit.by_model import Filler
from models.edit.chorales import drafted, revised
from models.fill.best_of import drafts
from models.fill.compose import Composition, Take, cell_asks, requests_of, sounding_as, takes_of, track_asks
from models.fill.readable import readable
from models.fill.region import Region
from models.fill.request import ContractBroken, Filled, FillRequest, plan_of
from models.fill.sampling import key_obeyed
from models.judge.scorecard import Judged, judge
from models.tokens.labels import Labels
from models.tokens.tokenizer import CellTokenizer, NotRepresentable
from music.score.cells import BY_NAME, PER_BAR, cell_statistics, control_classes
from music.score.errors import UnreadableScore
from music.score.form import Limits, bar_table, normalise
from music.score.instruments import name_of
from music.score.keys import scale_of
from music.writing.dynamics import Dynamics, with_dynamics
from serving.errors import Crowded, Refused
from serving.in_flight import current
from serving.schemas import LockValues

UPLOAD = Limits(max_bytes=2_000_000, max_quarters=4_000, max_notes=20_000, max_tracks=32)
SLOTS = 32  # sequences decoded at once
MAX_TRACKS = 16


def locks_of(values: LockValues, tokenizer: CellTokenizer) -> Locks:
    """Locks as the model takes them. Raises Refused for a scale that is none, or a grid that the model has
    not."""
    if values.lowest > values.highest:
        raise Refused(
            f"the lowest pitch {values.lowest} lies above the highest {values.highest}: swap them", "locks"
        )
    try:
        scale = (
            scale_of(values.scale)
            if isinstance(values.scale, str) and values.scale
            else frozenset(values.scale)
        )
    except ValueError as error:
        raise Refused(str(error), "locks.scale") from error
    grid = (
        4
        * tokenizer.ticks_per_quarter
        * Fraction(values.grid.rstrip("T"))
        * (Fraction(2, 3) if values.grid.endswith("T") else 1)
        if values.grid
        else Fraction(1)
    )
    if grid.denominator != 1:
        raise Refused(
            (
                f"this model's grid of {tokenizer.ticks_per_quarter} ticks a quarter has no {values.grid}: "
                f"choose a coarser one"
            ),
            "locks.grid",
        )
    ranges = (
        dict.fromkeys(range(MAX_TRACKS), (values.lowest, values.highest))
        if (values.lowest, values.highest) != (0, 127)
        else {}
    )
    return Locks(scale=scale, ranges=ranges, grid_ticks=int(grid), voice_leading=values.voice_leading)  # type: ignore[arg-type]


class Engine:
    """Everything of a bundle that answers need, loaded once."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.tokenizer = bundle.tokenizer
        self.batcher = Batcher(bundle.decoders(SLOTS), self.tokenizer)

    def known(self) -> dict[str, list[str]]:
        """What can be asked for."""
        t = self.tokenizer
        return {
            "styles": t.styles,
            "rhythms": t.rhythms,
            "tempo_classes": t.tempo_classes,
            "metres": [f"{n}/{d}" for n, d in t.metres],
            "instruments": [name_of(p) for p in t.programs],
            **{
                control.name: [control.describe_class(i) for i in range(control.classes)]
                for control in BY_NAME.values()
                if control.name in self.bundle.controls
            },
        }

    def check_controls(self, *asked: dict[str, float]) -> None:
        """Raises Refused for a control that this model was not found to obey."""
        withheld = sorted(
            {name for values in asked for name in values if name in BY_NAME} - self.bundle.controls
        )
        if withheld:
            raise Refused(
                f"this model was not found to obey {', '.join(withheld)}, so it is not offered; offered are "
                f"{', '.join(sorted(self.bundle.controls)) or 'none'} (GET /v1/model has the figures)",
                "controls",
            )

    def compose(
        self, asked: Composition, revise: bool = True, dynamics: Dynamics = "plain"
    ) -> tuple[list[Take], list[Judged]]:
        """Takes and their scorecards; `revise`: chorales get second thoughts (models/edit/chorales.py);
        dynamics: by the rule of music/writing/dynamics.py, or off. Raises Refused, naming what is known; Busy
        where too many wait."""
        tickets: list[Ticket[Filled]] = []
        seconds = current().seconds
        deadline = time.monotonic() + seconds
        of_bars = [
            {name: value for name in PER_BAR if (value := getattr(bar, name)) is not None}
            for bar in asked.bar_controls
        ]
        self.check_controls(asked.controls, *asked.track_controls, *of_bars)
        try:
            wanted = drafted(self.tokenizer, asked) if revise else asked
            requests = drafts(requests_of(self.tokenizer, wanted, self.bundle.forms), wanted.best_of)
            for request in requests:
                # what is queued when one is refused must be cancelled
                tickets.append(self.submit(request, deadline))
            takes = takes_of(
                requests,
                [ticket.result() for ticket in tickets],
                wanted.best_of,
                self.bundle.rewards.of_answer,
                sounding_as(self.tokenizer, asked)[0],
            )
            if revise:
                takes = revised(
                    self.tokenizer, self.bundle.judges, self._fill_all(tickets, deadline), asked, takes
                )
        except ContractBroken:
            raise
        except Busy as error:
            raise Crowded(str(error)) from error
        except ValueError as error:
            raise Refused(str(error)) from error
        except TimeoutError as error:
            raise Refused(
                f"not written within {seconds:.0f} s: ask for fewer bars, tracks or takes, or a lower "
                f"temperature"
            ) from error
        finally:
            for ticket in tickets:
                ticket.cancel()  # what is done does not mind; what is not need not be written any more
        told: dict[str, Any] = {
            name: value
            for name, value in (
                ("style", asked.style),
                ("rhythm", asked.rhythm),
                ("key", asked.key),
                ("metre", asked.metre),
                ("bars", asked.bars),
            )
            if value
        }
        told |= {
            name: BY_NAME[name].describe_class(BY_NAME[name].class_of(value))
            for name, value in asked.controls.items()
        }
        if asked.track_controls:
            told["tracks"] = [
                {
                    name: BY_NAME[name].describe_class(BY_NAME[name].class_of(value))
                    for name, value in track.items()
                }
                for track in asked.track_controls
            ]
        if asked.bar_controls:
            told["bar_controls"] = len(asked.bar_controls)
        try:
            judged = [
                judge(self.bundle, readable(self.tokenizer, take.score).score, Labels()) for take in takes
            ]  # without labels, like the reference of the percentile
        except UnreadableScore as error:
            raise Refused(
                f"what was written is too dense to be judged: {error}; ask for fewer bars or a lower density"
            ) from error
        for take, card in zip(takes, judged, strict=True):
            card.scorecard["asked"] = told
            card.scorecard["obeyed"] = self._obeyed(take.score, asked)
        if dynamics == "plain":
            takes = [
                replace(take, score=with_dynamics(take.score, self.tokenizer.velocity)) for take in takes
            ]
        return takes, judged

    def submit(self, request: FillRequest, deadline: float) -> Ticket[Filled]:
        """Queue a request until `deadline`, on time.monotonic(); it ends with the client's request, who is
        told of its bars if they listen. Raises what the batcher raises."""
        region, flight = Region(self.tokenizer, request), current()
        heard = flight.hearing(region, self.tokenizer)
        ticket = self.batcher.submit(region, max(deadline - time.monotonic(), 0), heard, flight.group)
        flight.add(ticket)
        return ticket

    def _fill_all(self, tickets: list[Ticket[Filled]], deadline: float) -> Filler:
        """Fills requests beside all others; their tickets go to `tickets`, to be cancelled with the rest."""

        def fill_all(requests: Sequence[FillRequest]) -> list[Filled]:
            first = len(tickets)
            for request in requests:
                tickets.append(self.submit(request, deadline))
            return [ticket.result() for ticket in tickets[first:]]

        return fill_all

    def _obeyed(self, score: Score, asked: Composition) -> dict[str, bool]:
        bars = bar_table(score)
        obeyed = {"bars": len(bars) == asked.bars}
        if asked.metre:
            obeyed["metre"] = all(f"{n}/{d}" == asked.metre for _, _, n, d in bars.tolist())
        if asked.key:
            obeyed["key"] = key_obeyed(score, asked.key)
        wanted = track_asks(plan_of(score).programs, asked.controls, asked.track_controls)
        statistics, length = cell_statistics(score), int(bars[:, 1].sum())
        found = [control_classes(statistics[:, k], length, score.tpq) for k in range(len(score.tracks))]
        for name in {name for track in wanted for name, _ in track.classes}:
            obeyed[name] = all(
                found[k].get(name, 0) == index
                for k, track in enumerate(wanted)
                for other, index in track.classes
                if other == name
            )
        cells = cell_asks(asked.bar_controls, len(bars), len(score.tracks))
        if cells:
            told = [
                (control_classes(statistics[b : b + 1, k], int(bars[b, 1]), score.tpq).get(name, 0), index)
                for (b, k), asks in cells.items()
                if b < len(bars)
                for name, index in asks
            ]
            obeyed["bar_controls"] = all(have == index for have, index in told)
        return obeyed

    def score(self, raw: Score, labels: Labels, field: str = "") -> tuple[Judged, list[str]]:
        """Judge a score as it was read, and say how what the model does not know was read; field: in which it
        came. Raises Refused for what is no music or not in the model's world."""
        try:
            self.tokenizer.prefix(labels)
        except ValueError as error:
            raise Refused(str(error)) from error
        t = self.tokenizer
        try:
            normal = normalise(raw, ticks_per_quarter=t.ticks_per_quarter, velocity=t.velocity)
            score, warnings = readable(t, normal)
            return judge(self.bundle, score, labels), warnings
        except (UnreadableScore, NotRepresentable) as error:
            raise Refused(str(error), field) from error

    def warm_up(self) -> None:
        """Pay the first-call costs (threads, hash tables) before a client does."""
        metre = "/".join(map(str, self.tokenizer.metres[0]))
        takes, _ = self.compose(Composition(bars=1, metre=metre, instruments=[self.tokenizer.programs[0]]))
        threading.Thread(
            target=self.bundle.run_index.build, daemon=True
        ).start()  # two seconds of tables; until then each is made when asked for
        self.score(takes[0].score, Labels())
