"""Edits on mutated real and random files: the contract holds, the locked half stays, and what cannot be done
says why."""

import numpy as np
import pytest
from symusic import ControlChange, Score, Tempo, TimeSignature, Track

from models.decoding.torch_decoder import TorchDecoder
from models.edit.by_rule import RULES, Rule
from models.edit.edit import LIMITS, NAMES, OPERATIONS, Answer, apply_rule, edit_file, unknown_option
from models.edit.tasks import Edit
from models.fill.fill import fill
from models.fill.request import ContractBroken
from models.judge.style_classifier import Judges, train_labeller
from models.network.config import sized
from models.network.decoder import Network
from models.tokens.tokenizer import CellTokenizer
from music.editing.reshape import with_bars
from music.reading.files import read_midi
from music.reading.midi import read_source
from music.score.errors import UnreadableScore
from music.score.file_cells import FileCells, digest
from music.score.form import to_midi
from tests.conftest import SHARED
from tests.models.decoding.random_fills import RandomDecoder, random_score
from tests.music.score.test_file_cells import TUNE, file_of


@pytest.fixture(scope="module")
def network(tokenizer: CellTokenizer) -> Network:
    import torch

    torch.manual_seed(0)
    return Network(sized("tiny", vocabulary=len(tokenizer), context=256)).eval()


def edited(
    tokenizer: CellTokenizer, network: Network, file: FileCells, edit: Edit, n: int = 1
) -> list[Answer]:
    decoder = TorchDecoder(network, 8)
    return edit_file(tokenizer, {}, lambda requests: fill(decoder, tokenizer, requests), file, edit, n)


def song() -> FileCells:
    """A melody and an accompaniment, six bars, with what performances have: odd onsets, overlaps, pedals,
    tempo changes."""
    file = file_of(*TUNE, *[(5760 + 480 * i, 480, 70 - i) for i in range(12)])
    piano = Track("Piano", 0, False)
    random = np.random.default_rng(3)
    for bar in range(6):
        for pitch in (40, 47, 52):
            piano.notes.append(
                type(file.score.tracks[0].notes[0])(
                    1920 * bar + int(random.integers(0, 12)), 1905, pitch, 60 + bar
                )
            )
    piano.controls.append(ControlChange(100, 64, 127))
    file.score.tracks.append(piano)
    file.score.tempos.append(Tempo(0, 96))
    file.score.tempos.append(Tempo(3000, 80))
    return FileCells.of(read_midi(to_midi(file.score), LIMITS))


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name != "arrange"])
def test_every_operation_changes_its_region_and_nothing_else(
    tokenizer: CellTokenizer, network: Network, operation: str
) -> None:
    file = song()
    edit = Edit(
        operation, (2, 4), None if operation in ("harmonise", "reharmonise") else (0,), strength=1.0, seed=4
    )
    (answer,) = edited(tokenizer, network, file, edit)
    assert answer.contract.kept
    assert answer.changes
    assert {(change["track"], change["bar"]) for change in answer.changes} <= {
        (k, b)
        for k in (range(2, 6) if "harmonise" in operation else [1])
        for b in ((3, 4) if operation != "continue" else range(7, 11))
    }
    back = FileCells.of(read_midi(to_midi(answer.file.score), LIMITS))
    region = np.zeros(file.shape, dtype=bool)
    if operation != "continue":
        region[2:4, 1] = operation == "reharmonise"
        region[2:4, 0] = operation not in ("harmonise", "reharmonise")
    full = np.ones(back.shape, dtype=bool)
    full[: file.shape[0], : file.shape[1]] = region
    assert digest(back, full, tracks=file.shape[1]) == digest(file, region), (
        "what is read back from the MIDI file is what was promised"
    )
    assert [(x.time, round(x.qpm)) for x in back.score.tempos] == [(0, 96), (3000, 80)]


def test_melody_keeps_the_rhythm_and_rhythm_keeps_the_pitches(
    tokenizer: CellTokenizer, network: Network
) -> None:
    file = song()
    (melody,) = edited(tokenizer, network, file, Edit("melody", (1, 5), (1,), seed=1))
    old, new = file.notes(1), melody.file.notes(1)
    assert np.array_equal(np.sort(old[:, [0, 1, 3]], axis=0), np.sort(new[:, [0, 1, 3]], axis=0)), (
        "onsets, lengths and velocities, to the tick"
    )
    assert not np.array_equal(np.sort(old[:, 2]), np.sort(new[:, 2]))
    (rhythm,) = edited(tokenizer, network, file, Edit("rhythm", (1, 5), (0,), seed=1))
    assert rhythm.file.notes(0)[:, 2].tolist() == file.notes(0)[:, 2].tolist()
    assert rhythm.file.notes(0)[:, 0].tolist() != file.notes(0)[:, 0].tolist()


def test_another_density_repeats_pitches_but_keeps_their_order(
    tokenizer: CellTokenizer, network: Network
) -> None:
    file = song()
    (denser,) = edited(
        tokenizer, network, file, Edit("rhythm", (0, 3), (0,), controls={"density": 1.9}, seed=1)
    )
    old, new = file.notes(0)[:12, 2].tolist(), denser.file.notes(0)[:, 2].tolist()
    once = [pitch for i, pitch in enumerate(new[: len(new) - 12]) if not i or pitch != new[i - 1]]
    assert once == old
    assert len(new) - 12 > 1.6 * len(old)


def test_strength_bounds_how_much_changes(tokenizer: CellTokenizer, network: Network) -> None:
    file = song()
    for strength, most in ((0.0, 0), (0.3, 2), (1.0, 6)):
        (answer,) = edited(tokenizer, network, file, Edit("vary", None, (0,), strength=strength, seed=2))
        assert len(answer.changes) <= most
        assert bool(answer.changes) == (strength > 0)


def test_alternatives_differ_and_a_seed_gives_the_same_again(
    tokenizer: CellTokenizer, network: Network
) -> None:
    file = song()
    a, b = edited(tokenizer, network, file, Edit("infill", (1, 3), (0,), seed=9), n=2)
    assert to_midi(a.file.score) != to_midi(b.file.score)
    assert to_midi(
        edited(tokenizer, network, file, Edit("infill", (1, 3), (0,), seed=b.seed))[0].file.score
    ) == to_midi(b.file.score)


def test_restyle_into_another_metre_keeps_the_other_bars(tokenizer: CellTokenizer, network: Network) -> None:
    file = song()
    (answer,) = edited(
        tokenizer,
        network,
        file,
        Edit("restyle", (2, 4), None, style="irish", rhythm="jig", metre="6/8", strength=1.0, seed=3),
    )
    assert answer.contract.kept
    assert answer.file.bars[:, 2:].tolist() == [[4, 4]] * 2 + [[6, 8]] * 2 + [[4, 4]] * 2


def test_arrange_adds_a_track_or_replaces_one(tokenizer: CellTokenizer, network: Network) -> None:
    file = song()
    (added,) = edited(tokenizer, network, file, Edit("arrange", (0, 2), None, instruments=("voice",), seed=3))
    assert added.file.shape[1] == file.shape[1] + 1
    (replaced,) = edited(
        tokenizer, network, file, Edit("arrange", None, (1,), instruments=("fiddle",), seed=3)
    )
    assert replaced.file.score.tracks[1].program == 40
    assert replaced.contract.kept
    with pytest.raises(ValueError, match="one track and no bars"):
        edited(tokenizer, network, file, Edit("arrange", (0, 2), (1,), instruments=("fiddle",)))


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (Edit("infill", (3, 99)), "bars 1 to 7"),
        (Edit("infill", (0, 2), (7,)), "the score has 1 Fiddle, 2 Piano"),
        (Edit("restyle", (0, 2), style="polka"), "known are: chorale, irish"),
        (Edit("rhythm", (0, 2), (0,), metre="3/4"), "all tracks at once"),
        (Edit("arrange", instruments=()), "name one instrument"),
        (Edit("harmonise", melody=5), "there is no track 6"),
        (Edit("infill", (0, 2), controls={"loudness": 3.0}), "unknown control loudness"),
        (Edit("melody", (6, 7), (0,)), "the region is silent"),
    ],
)
def test_what_cannot_be_done_says_why(
    tokenizer: CellTokenizer, network: Network, edit: Edit, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        edited(tokenizer, network, with_bars(song(), 1, at_start=False), edit)


def test_options_of_other_operations_are_named() -> None:
    assert "infill takes no semitones; it takes style" in unknown_option("infill", ["style", "semitones"])
    assert not unknown_option("transpose", ["semitones"])


def mutated(random: np.random.Generator, score: Score) -> Score:
    """A file as people have them: humanised, in another resolution, with metre and tempo changes, doubled
    notes, empty and many tracks, a late start."""
    for _ in range(int(random.integers(0, 5))):
        kind, end = int(random.integers(9)), max(score.end(), 1)
        track = score.tracks[int(random.integers(len(score.tracks)))]
        if kind == 0:
            for note in track.notes:
                note.time, note.duration = (
                    max(0, note.time + int(random.integers(-30, 30))),
                    max(0, note.duration + int(random.integers(-50, 50))),
                )
        elif kind == 1:
            score.time_signatures.append(
                TimeSignature(
                    int(random.integers(0, end + 1)),
                    int(random.choice([1, 2, 3, 4, 5, 6, 7, 12])),
                    int(random.choice([2, 4, 8])),
                )
            )
        elif kind == 2:
            score.tracks.append(Track("empty", int(random.integers(128)), bool(random.random() < 0.3)))
        elif kind == 3:
            track.program, track.is_drum = int(random.integers(128)), bool(random.random() < 0.2)
        elif kind == 4:
            for note in list(track.notes)[:60:3]:
                copy = note.copy()
                copy.time, copy.duration = copy.time + int(random.integers(0, 40)), copy.duration + 10
                track.notes.append(copy)
        elif kind == 5:
            score = score.resample(int(random.choice([4, 24, 96, 100, 120, 384, 480, 960])), 1)
        elif kind == 6:
            score.tempos.append(Tempo(int(random.integers(0, end + 1)), float(random.uniform(30, 240))))
        elif kind == 7 and len(score.tracks) < 100:
            for _ in range(int(random.integers(1, 40))):
                score.tracks.append(track.copy())
        elif kind == 8:
            score = score.shift_time(int(random.integers(0, 3000)))
    score.time_signatures.sort(key=lambda ts: ts.time)
    return score


def random_edit(
    random: np.random.Generator, file: FileCells, seed: int
) -> Edit | tuple[str, Rule, tuple[int, int], tuple[int, ...] | None]:
    operation, first = str(random.choice(NAMES)), int(random.integers(file.shape[0]))
    bars = (first, min(file.shape[0], first + int(random.choice([1, 2, 4]))))
    tracks = (
        None
        if random.random() < 0.2 and file.shape[1] < 5
        else tuple(random.permutation(file.shape[1])[: int(random.integers(1, 4))].tolist())
    )
    metre = str(random.choice(["3/4", "4/4", "6/8", "7/8"]))
    if operation in RULES:
        rule = Rule(
            semitones=int(random.integers(-12, 13)) if operation == "transpose" else None,
            grid=str(random.choice(["1/8", "1/16", "1/8T"])),
            qpm=90.0 if operation == "tempo" else None,
            factor=float(random.choice([0.5, 2, 1.3])) if operation == "stretch" else None,
            metre=metre,
            fit=bool(random.random() < 0.5),
            seed=seed,
        )
        return operation, rule, bars, tracks
    controls = (
        {str(random.choice(["density", "note_length", "syncopation"])): float(random.uniform(0.2, 4))}
        if random.random() < 0.4
        else {}
    )
    return Edit(
        operation,
        None if operation == "arrange" and tracks else bars,
        tracks,
        style=str(random.choice(["", "irish", "chorale"])),
        metre=metre if operation in ("restyle", "rhythm") and tracks is None else "",
        controls=controls,
        strength=float(random.random()),
        length=int(random.integers(1, 4)),
        before=bool(random.random() < 0.5),
        instruments=("fiddle",) if operation == "arrange" else (),
        seed=seed,
    )


def fuzz(tokenizer: CellTokenizer, judges: Judges, scores: list[Score], seeds: range) -> tuple[int, int, int]:
    """(edits done, contracts broken, requests refused) with the worst network there is. Any error but a
    refusal ends it."""
    done = broken = refused = 0
    for seed in seeds:
        random = np.random.default_rng(seed)
        decoder = RandomDecoder(len(tokenizer), 8, seed)
        try:
            data = to_midi(mutated(random, scores[int(random.integers(len(scores)))].copy()))
            source = read_source(data, LIMITS)
            file = FileCells.of(source.score)
            asked = random_edit(random, file, seed)
            if isinstance(asked, Edit):
                (answer,) = edit_file(
                    tokenizer,
                    judges,
                    lambda requests, decoder=decoder: fill(decoder, tokenizer, requests),  # type: ignore[misc]
                    file,
                    asked,
                    source=source,
                )
            else:
                answer = apply_rule(file, asked[0], asked[1], asked[2], asked[3], source)
        except (ValueError, UnreadableScore):
            refused += 1
            continue
        except ContractBroken:
            broken += 1
            continue
        broken += not answer.contract.kept
        read_midi(answer.midi, LIMITS)
        done += 1
    return done, broken, refused


@pytest.mark.parametrize("density", [2.0, 6.0])
def test_a_new_rhythm_keeps_chords_together(
    tokenizer: CellTokenizer, network: Network, density: float
) -> None:
    chords = [(48, 52, 55), (50, 53, 57), (48, 52, 55), (48, 52, 55)]
    notes = [(480 * i, 400, pitch) for i in range(16) for pitch in chords[i // 4]]
    file = file_of(*notes)
    (answer,) = edited(
        tokenizer, network, file, Edit("rhythm", (0, 4), (0,), controls={"density": density}, seed=5)
    )
    after = answer.file.notes(0)
    together = [tuple(after[after[:, 0] == onset, 2].tolist()) for onset in np.unique(after[:, 0])]
    assert [chord for chord, before in zip(together, [None, *together], strict=False) if chord != before] == [
        chords[0],
        chords[1],
        chords[2],
    ]
    assert (len(together) > 16) == (density > 3)


def test_a_new_rhythm_of_a_pitch_struck_twice_at_once_is_valid(
    tokenizer: CellTokenizer, network: Network
) -> None:
    notes = [
        (480 * i + late, 300, pitch)
        for i in range(16)
        for late, pitch in ((0, 60), (6, 60), (0, 64), (6, 67))
    ]  # six ticks apart are one grid step here
    (answer,) = edited(tokenizer, network, file_of(*notes), Edit("rhythm", (0, 2), (0,), seed=1))
    assert answer.contract.kept


def test_what_is_varied_stays_in_the_compass_of_the_part(tokenizer: CellTokenizer, network: Network) -> None:
    file = song()
    (answer,) = edited(tokenizer, network, file, Edit("vary", None, (0,), strength=1.0, seed=6))
    before, after = file.notes(0)[:, 2], answer.file.notes(0)[:, 2]
    assert before.min() - 2 <= after.min() and after.max() <= before.max() + 2


def test_the_contract_holds_for_mutated_random_files(tokenizer: CellTokenizer) -> None:
    random = np.random.default_rng(0)
    scores = [random_score(random) for _ in range(60)]
    judges = {"style": train_labeller(scores, [tokenizer.styles[i % 2] for i in range(60)])}
    done, broken, refused = fuzz(tokenizer, judges, [score.resample(480, 1) for score in scores], range(500))
    assert broken == 0
    assert done > refused


def test_the_contract_holds_for_mutated_real_files(tokenizer: CellTokenizer) -> None:
    archive = SHARED / "data/lieder.tar.gz"
    if not archive.is_file():
        pytest.skip("the song archive is not beside this checkout")
    import itertools
    import tarfile

    with tarfile.open(archive) as tar:
        members = itertools.islice((m for m in tar if m.name.endswith(".mid")), 25)
        scores = [Score.from_midi(tar.extractfile(m).read()) for m in members]  # type: ignore[union-attr]
    done, broken, _ = fuzz(tokenizer, {}, scores, range(60))
    assert broken == 0
    assert done > 20
