"""The tokenizer: REMI cell by cell, as a miditok tokenizer with one stream and programs.

A bar is `Bar_<metre>` followed by one *cell* for each track in score order: `Program_<p>` and the notes that
start there. A note is `[Position] [Duration] Pitch`: Position is left out where the note starts when the one
before it ends (the first: at the barline), Duration where it equals the one before in the cell. So a run of
six quavers costs 8 tokens, REMI 25; every token family is one block of ids, so a transposition is an
addition; and a cell can be cut out and written again on its own. docs/decisions/0003-tokens.md has the
comparison with REMI and with BPE; models/tokens/layout.py puts cells into sequences.
"""

from collections.abc import Sequence

import numpy as np
from symusic import Score

from models.tokens.labels import CELL_KINDS, KIND_OF, Labels
from music.score.cells import CELL_CONTROLS
from music.score.form import DEFAULT_TEMPO_QPM, bar_table, bar_ticks, build, note_array
from music.score.instruments import DRUMS
from music.score.keys import MODES, key_index
from music.score.parts import Part
from music.score.without_torch import without_torch

with without_torch():
    from miditok import TokSequence
    from miditok.midi_tokenizer import MusicTokenizer

PITCHES = 128


class NotRepresentable(ValueError):
    """The score holds something the tokenizer has no token for; the message names it and what is known."""


class CellTokenizer(MusicTokenizer):
    """miditok tokenizer of the format above. Build with `train`, save with `save`, reload with
    `CellTokenizer(params=path)`."""

    def _tweak_config_before_creating_voc(self) -> None:
        self._disable_attribute_controls()
        self.config.use_programs = True
        self.config.one_token_stream_for_programs = True
        self.config.use_velocities = False
        self.config.use_time_signatures = True
        extra = self.config.additional_params
        self.ticks_per_quarter: int = extra["ticks_per_quarter"]
        self.velocity: int = extra["velocity"]
        self.metres: list[tuple[int, int]] = [
            (int(n), int(d)) for n, d in (metre.split("/") for metre in extra["metres"])
        ]
        self.programs: list[int] = list(self.config.programs)
        self.styles: list[str] = list(extra["styles"])
        self.rhythms: list[str] = list(extra["rhythms"])
        self.tempo_classes: list[str] = list(extra["tempos"])
        self.parts: dict[int, Part] = {
            int(program): Part(int(low), int(high), bool(one_line), int(notes))
            for program, low, high, one_line, notes in extra.get("parts", [])
        }
        self.max_bars_control: int = extra["max_bars_control"]
        self.max_duration: int = extra["max_duration_ticks"]
        self.bar_lengths = np.array([bar_ticks(n, d, self.ticks_per_quarter) for n, d in self.metres])

    def _create_base_vocabulary(self) -> list[str]:
        blocks: dict[str, list[str]] = {
            "Start": ["Piece", "Excerpt"],
            "Style": self.styles,
            "Rhythm": self.rhythms,
            "Tonic": [
                str(i) for i in range(12)
            ],  # apart from the mode: each is learned from four times as many pieces
            "Mode": list(MODES),
            "Tempo": self.tempo_classes,
            **{KIND_OF[control.name]: [str(i) for i in range(control.classes)] for control in CELL_CONTROLS},
            "Part": ["Ahead", "Fill"],
            "Bars": [str(i) for i in range(1, self.max_bars_control + 1)],
            "Bar": [f"{n}/{d}" for n, d in self.metres],
            "Program": [str(program) for program in self.programs],
            "Position": [str(i) for i in range(int(self.bar_lengths.max()))],
            "Duration": [str(i) for i in range(1, self.max_duration + 1)],
            "Pitch": [str(i) for i in range(PITCHES)],
            "PitchDrum": [str(i) for i in range(PITCHES)] if DRUMS in self.programs else [],
        }
        self.first_id: dict[str, int] = {}
        self.block_size: dict[str, int] = {}
        vocabulary: list[str] = []
        for kind, values in blocks.items():
            self.first_id[kind] = len(self.special_tokens) + len(vocabulary)
            self.block_size[kind] = len(values)
            vocabulary += [f"{kind}_{value}" for value in values]
        return vocabulary

    def _create_token_types_graph(self) -> dict[str, set[str]]:
        notes = {"Position", "Duration", "Pitch", "PitchDrum"}
        after_cell = {"Program", "Bar"}
        prefix = ("Start", "Style", "Rhythm", "Tonic", "Mode", "Tempo", "Bars")
        graph = {
            kind: {*prefix[i + 1 :], "Program", "Bar", "Part"} - {"Mode"} for i, kind in enumerate(prefix)
        }
        controls = {kind: {*KIND_OF.values(), *notes, *after_cell, "Part"} for kind in KIND_OF.values()}
        return (
            graph
            | controls
            | {
                "Tonic": {"Mode"},
                "Part": {"Bar"},
                "Bar": {"Program"},
                "Program": {"Position", "Duration", *KIND_OF.values()} | after_cell,
                "Position": {"Duration", "Pitch", "PitchDrum"},
                "Duration": {"Pitch", "PitchDrum"},
                "Pitch": notes - {"PitchDrum"} | after_cell,
                "PitchDrum": notes - {"Pitch"} | after_cell,
            }
        )

    def _add_time_events(self, events: list, time_division: int) -> list:  # type: ignore[type-arg]
        raise NotImplementedError(
            "cells are encoded from note arrays in encode_score, not from miditok events"
        )

    def _score_to_tokens(self, score: Score, attribute_controls_indexes: object = None) -> TokSequence:
        ids = self.encode_score(score)[0].tolist()
        return TokSequence(ids=ids, tokens=self._ids_to_tokens(ids))

    def _tokens_to_score(self, tokens: TokSequence | list[TokSequence], programs: object = None) -> Score:
        assert isinstance(tokens, TokSequence)
        return self.decode_ids(tokens.ids)

    @property
    def eos_id(self) -> int:
        return int(self.vocab["EOS_None"])

    @property
    def mask_id(self) -> int:
        return int(self.vocab["MASK_None"])

    def id_of(self, kind: str, value: str | int) -> int:
        """Id of one token. Raises NotRepresentable, naming the values that are known."""
        token = self.vocab.get(f"{kind}_{value}")
        if token is None:
            known = [name.split("_", 1)[1] for name in self.vocab if name.startswith(f"{kind}_")]
            shown = ", ".join(known) if len(known) <= 24 else f"{known[0]} to {known[-1]}"
            raise NotRepresentable(
                f"{kind.lower()} {value!r} was not in the training data; known are: {shown}"
            )
        return int(token)

    def prefix(self, labels: Labels) -> list[int]:
        """Control tokens of a sequence; what is not asked is left out. Raises NotRepresentable or ValueError
        (unknown key)."""
        ids = [self.id_of("Start", "Excerpt" if labels.excerpt else "Piece")]
        if labels.style:
            ids.append(self.id_of("Style", labels.style))
        if labels.rhythm:
            ids.append(self.id_of("Rhythm", labels.rhythm))
        if labels.key:
            tonic, mode = key_index(labels.key)
            ids += [self.id_of("Tonic", tonic), self.id_of("Mode", MODES[mode])]
        if labels.tempo:
            ids.append(self.id_of("Tempo", labels.tempo))
        if labels.bars:
            ids.append(self.id_of("Bars", labels.bars))
        for track in labels.tracks:
            ids += [
                self.id_of("Program", track.program),
                *(self.id_of(KIND_OF[name], index) for name, index in track.classes),
            ]
        return ids

    def cell_tokens(self, notes: np.ndarray, bar_start: int, is_drum: bool) -> list[int]:
        """Tokens of one cell (without its Program): notes int64 (n, 3) of onset, duration, pitch that start
        in it, sorted."""
        ids: list[int] = []
        self._encode_cell(ids, notes.tolist(), bar_start, self.first_id["PitchDrum" if is_drum else "Pitch"])
        return ids

    def encode_score(self, score: Score) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of a score in normal form, uint16 (n,), ending in EOS; and the index of each Bar token,
        int64 (bars,).

        Raises NotRepresentable for a metre, program or duration that has no token.
        """
        if score.tpq != self.ticks_per_quarter:
            raise NotRepresentable(
                f"the score has {score.tpq} ticks a quarter, the tokenizer "
                f"{self.ticks_per_quarter}: normalise it first"
            )
        bars = bar_table(score)
        tracks = [
            (self.id_of("Program", DRUMS if t.is_drum else t.program), t.is_drum, note_array(t))
            for t in score.tracks
        ]
        longest = max((int(notes[:, 1].max()) for _, _, notes in tracks if len(notes)), default=0)
        if longest > self.max_duration:
            raise NotRepresentable(f"a note lasts {longest} ticks; at most {self.max_duration} are known")
        cuts = [
            np.searchsorted(notes[:, 0], np.append(bars[:, 0], bars[-1, 0] + bars[-1, 1]))
            for _, _, notes in tracks
        ]
        plain = [
            (program, self.first_id["PitchDrum" if drum else "Pitch"], notes.tolist())
            for program, drum, notes in tracks
        ]
        ids: list[int] = []
        starts = []
        for b, (start, length, numerator, denominator) in enumerate(bars.tolist()):
            starts.append(len(ids))
            if length != bar_ticks(numerator, denominator, score.tpq):
                raise NotRepresentable(
                    f"bar {b + 1} is cut short by a change of metre: normalise the score first"
                )
            ids.append(self.id_of("Bar", f"{numerator}/{denominator}"))
            for (program, pitch_block, notes), cut in zip(plain, cuts, strict=True):
                ids.append(program)
                self._encode_cell(ids, notes[cut[b] : cut[b + 1]], start, pitch_block)
        ids.append(self.eos_id)
        return np.array(ids, dtype=np.uint16), np.array(starts, dtype=np.int64)

    def _encode_cell(self, ids: list[int], notes: list[list[int]], start: int, pitch_block: int) -> None:
        position_block, duration_block = self.first_id["Position"], self.first_id["Duration"] - 1
        expected, last_duration = start, 0
        for onset, duration, pitch in notes:
            if onset != expected:
                ids.append(position_block + onset - start)
            if duration != last_duration:
                ids.append(duration_block + duration)
            ids.append(pitch_block + pitch)
            expected, last_duration = onset + duration, duration

    def is_bar(self, token: int) -> bool:
        return 0 <= token - self.first_id["Bar"] < self.block_size["Bar"]

    def is_control(self, token: int) -> bool:
        """A token that asks instead of sounding."""
        return bool(self.first_id["Start"] <= token < self.first_id["Bar"])

    def cell_notes(self, ids: np.ndarray, bar_start: int, bar_end: int, is_drum: bool) -> np.ndarray:
        """Notes int64 (n, 3) of the tokens of one cell. Raises ValueError on any token out of place."""
        first, size = self.first_id, self.block_size
        pitch_kind = "PitchDrum" if is_drum else "Pitch"
        notes: list[tuple[int, int, int]] = []
        expected, duration = bar_start, 0
        for token in ids.tolist():
            kind = next(
                (
                    kind
                    for kind in ("Position", "Duration", pitch_kind)
                    if 0 <= token - first[kind] < size[kind]
                ),
                "",
            )
            value = token - first[kind] if kind else 0
            if kind == "Position":
                expected = bar_start + value
            elif kind == "Duration":
                duration = value + 1
            elif not kind or not duration or not bar_start <= expected < bar_end:
                raise ValueError(f"{self[token]} out of place in a cell")
            else:
                notes.append((expected, duration, value))
                expected += duration
        return np.array(notes, dtype=np.int64).reshape(-1, 3)

    def decode_ids(self, ids: Sequence[int] | np.ndarray, tempo_qpm: float = DEFAULT_TEMPO_QPM) -> Score:
        """The score of a piece, without prefix; controls of single cells are passed over. Raises ValueError
        on any token out of place.

        Strict on purpose and written apart from the grammar: it is the judge of whether what was sampled is
        valid.
        """
        first, size = self.first_id, self.block_size
        kind_of = {kind: range(first[kind], first[kind] + size[kind]) for kind in first}
        tracks: list[tuple[int, list[tuple[int, int, int]]]] = []
        changes: list[tuple[int, int, int]] = []
        bar_start, bar_length, track = 0, 0, -1
        expected, duration, explicit = 0, 0, False
        for position, token in enumerate(int(i) for i in ids):
            kind = next(
                (name for name, block in kind_of.items() if token in block),
                "EOS" if token == self.eos_id else "",
            )
            value = token - first[kind] if kind in first else 0
            if kind in CELL_KINDS and track >= 0:
                continue
            if kind in ("Bar", "EOS", "Program") and explicit:
                raise ValueError(f"token {position}: {kind} after a Position or Duration without its Pitch")
            if kind in ("Bar", "EOS"):
                if changes and track != len(tracks) - 1:
                    raise ValueError(f"token {position}: bar with {track + 1} cells, expected {len(tracks)}")
                if kind == "EOS":
                    if position != len(ids) - 1:
                        raise ValueError(f"token {position}: tokens after EOS")
                    break
                bar_start, bar_length, track = bar_start + bar_length, int(self.bar_lengths[value]), -1
                changes.append((bar_start, *self.metres[value]))
            elif kind == "Program":
                track += 1
                if len(changes) == 1:
                    tracks.append((self.programs[value], []))
                if not changes or track >= len(tracks) or tracks[track][0] != self.programs[value]:
                    raise ValueError(
                        f"token {position}: Program {self.programs[value]} does not open the next cell"
                    )
                expected, duration = bar_start, 0
            elif track >= 0 and kind == "Position" and not explicit:
                expected, explicit = bar_start + value, True
                if value >= bar_length:
                    raise ValueError(
                        f"token {position}: Position {value} lies outside a bar of {bar_length} ticks"
                    )
            elif track >= 0 and kind == "Duration":
                duration, explicit = value + 1, True
            elif (
                track >= 0
                and kind in ("Pitch", "PitchDrum")
                and duration
                and (kind == "PitchDrum") == (tracks[track][0] == DRUMS)
            ):
                if expected >= bar_start + bar_length:
                    raise ValueError(f"token {position}: a note after the end of its bar")
                tracks[track][1].append((expected, duration, value))
                expected, explicit = expected + duration, False
            else:
                raise ValueError(f"token {position}: {self[token]} out of place")
        else:
            raise ValueError("the sequence does not end in EOS")
        for _, notes in tracks:
            _check_order(notes)
        kept = [c for i, c in enumerate(changes) if not i or c[1:] != changes[i - 1][1:]]
        parts = [
            (0 if p == DRUMS else p, p == DRUMS, np.array(n, dtype=np.int64).reshape(-1, 3))
            for p, n in tracks
        ]
        return build(parts, kept, self.ticks_per_quarter, self.velocity, tempo_qpm)


def _check_order(notes: list[tuple[int, int, int]]) -> None:
    """Raises ValueError where onsets go back, a note is doubled, or two notes of a pitch overlap."""
    sounding: dict[int, int] = {}
    last = (-1, -1)
    for onset, duration, pitch in notes:
        if (onset, pitch) <= last:
            raise ValueError(f"note at tick {onset}, pitch {pitch} is out of order or doubled")
        if sounding.get(pitch, 0) > onset:
            raise ValueError(f"pitch {pitch} sounds twice at tick {onset}")
        sounding[pitch], last = onset + duration, (onset, pitch)
