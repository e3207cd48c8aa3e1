"""The whole line for real on the tiny profile: dvc repro, registry, gate, bento, and the served bento."""

import base64
import json
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file
from symusic import Score

from models.align.parts import Heard
from models.bundle import BundleError, copy_bundle, digest_of, open_bundle
from models.tokens.labels import Labels
from monitoring.log import EventLog
from music.analysis.voices import parallels, voice_grid
from music.score.form import bar_table, normalise, note_array
from pipelines.release.gate import judge
from pipelines.running.params import load_params
from tests.conftest import SHARED, copy_checkout, environment, run
from tests.server import Server, free_port, served

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tiny_line: Path) -> Iterator[Server]:
    with served(tiny_line, OSTINATO_DRIFT_EVERY_S="1", OSTINATO_DRIFT_MIN_ROWS="5") as running:
        yield running


def test_every_output_is_there_and_the_bundle_is_sealed(tiny_line: Path) -> None:
    metrics = json.loads((tiny_line / "reports/metrics.json").read_text())
    assert metrics["validity"] == 1.0
    assert 0 < metrics["nats_per_note"] < metrics["uniform_nats_per_note"]
    listed = json.loads((tiny_line / "samples/index.json").read_text())
    assert {"compose", "continue", "infill", "harmonise", "one voice"} == {
        sample["task"] for sample in listed
    }
    for sample in listed:
        assert Score.from_midi((tiny_line / "samples" / sample["file"]).read_bytes()).note_num() > 0
        assert (tiny_line / "samples" / sample["file"]).with_suffix(".png").is_file()
    assert {"key", "density", "syncopation", "density of a bar"} <= set(metrics["obedience"])
    assert {"continue 8 bars", "infill 4 bars", "harmonise"} <= set(metrics["fill"])
    assert metrics["structure"]["4 bars"]["test"] > 0
    assert abs(metrics["decoder"]["eight_bit_lost"]) < 0.05
    bundle = open_bundle(tiny_line / "bundle")
    assert bundle.lineage["licence"] == "non-commercial"
    assert "Licence class: non-commercial" in (tiny_line / "bundle/MODEL_CARD.md").read_text()
    assert bundle.network.parameter_count() == metrics["training"]["parameters"]


def test_training_was_tracked_with_its_data(tiny_line: Path) -> None:
    code = (
        "import mlflow, json; from pipelines.running.tracking import open_experiment; e = open_experiment();"
        "r = [r for r in mlflow.MlflowClient().search_runs([e]) if r.info.run_name == 'pretrain'][0];"(
            "print(json.dumps([sorted(r.data.metrics), r.data.tags.get('DVC_STAGE'), "
            "[d.dataset.digest for d in r.inputs.dataset_inputs], r.data.params.get('batch_size')]))"
        )
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tiny_line,
        env=environment(tiny_line),
        capture_output=True,
        text=True,
        check=True,
    )
    names, stage, digests, batch = json.loads(done.stdout.splitlines()[-1])
    assert {"train_loss", "learning_rate", "tokens_per_s", "valid_nats_per_note"} <= set(names)
    assert any(name.startswith("system/") for name in names)
    assert (stage, batch, len(digests)) == ("pretrain", "8", 2)


def test_a_second_run_computes_nothing_and_changes_nothing(tiny_line: Path) -> None:
    before = run(tiny_line, "versions").stdout
    done = run(tiny_line, "repro")
    assert "Running stage" not in done.stdout
    assert run(tiny_line, "versions").stdout == before
    assert before.count("promoted") == 1


def test_composing_gives_what_was_asked_and_the_same_again(server: Server) -> None:
    request = {
        "style": "irish",
        "metre": "6/8",
        "bars": 5,
        "key": "D major",
        "seed": 11,
        "n": 2,
        "tempo": 96,
        "instruments": ["fiddle"],
    }
    status, answer = server.ask("/v1/compose", request)
    assert status == 200
    again = server.ask("/v1/compose", request)[1]
    assert [take["midi"] for take in answer["takes"]] == [take["midi"] for take in again["takes"]]
    assert answer["takes"][0]["midi"] != answer["takes"][1]["midi"]
    score = Score.from_midi(base64.b64decode(answer["takes"][0]["midi"]))
    assert [(int(n), int(d)) for _, _, n, d in bar_table(score)] == [(6, 8)] * 5
    assert [track.program for track in score.tracks] == [40]
    assert round(score.tempos[0].qpm) == 96
    card = answer["takes"][0]["scorecard"]
    assert card["obeyed"]["bars"] and card["obeyed"]["metre"]
    assert 0 <= card["percentile"] <= 100


def test_controls_and_locks_are_asked_over_http(server: Server) -> None:
    locks = {"scale": "D major", "lowest": 60, "highest": 79, "grid": "1/8"}
    request = {
        "metre": "4/4",
        "bars": 3,
        "instruments": ["fiddle"],
        "controls": {"density": 2, "polyphony": 1},
        "bar_controls": [{"bar": 3, "density": 0.5}],
        "locks": locks,
        "guidance": 1.5,
        "seed": 4,
    }
    status, answer = server.ask("/v1/compose", request)
    assert status == 200, answer
    notes = note_array(Score.from_midi(base64.b64decode(answer["takes"][0]["midi"])).tracks[0])
    assert set((notes[:, 2] % 12).tolist()) <= {2, 4, 6, 7, 9, 11, 1}
    assert notes[:, 2].min() >= 60 and notes[:, 2].max() <= 79
    assert not (notes[:, :2] % 6).any()
    assert answer["takes"][0]["scorecard"]["asked"]["density"] == "1.75-2.25 notes per quarter"
    for wrong, message in (
        ({"locks": {"scale": "H"}}, "tonics"),
        ({"locks": {"lowest": 61, "highest": 61, "scale": "C major"}}, "no pitch of the scale"),
        ({"bar_controls": [{"bar": 9}]}, "no bar 9"),
        ({"track_controls": [{}, {}]}, "name the instruments"),
    ):
        status, answer = server.ask(
            "/v1/compose", {"metre": "4/4", "bars": 3, "instruments": ["fiddle"]} | wrong
        )
        assert status == 422
        assert message in answer["error"]["message"]


def test_parallels_are_kept_from_where_it_is_asked(server: Server) -> None:
    found = {}
    for led in (True, False):
        status, answer = server.ask(
            "/v1/compose",
            {
                "metre": "4/4",
                "bars": 8,
                "instruments": ["fiddle"] * 4,
                "controls": {"polyphony": 1},
                "locks": {"scale": "C major", "voice_leading": led},
                "seed": 2,
                "n": 6,
            },
        )
        assert status == 200, answer
        scores = [Score.from_midi(base64.b64decode(take["midi"])) for take in answer["takes"]]
        found[led] = sum(len(parallels(voice_grid(score, score.tpq // 2))) for score in scores)
    assert found[True] * 4 < found[False], found


def test_the_best_of_some_drafts_is_answered_and_can_be_had_again(server: Server, tiny_line: Path) -> None:
    rewards, won = open_bundle(tiny_line / "bundle").rewards, {}
    request = {
        "style": "irish",
        "key": "D major",
        "metre": "4/4",
        "bars": 4,
        "instruments": ["fiddle"],
        "seed": 5,
        "n": 4,
    }
    for best_of in (1, 6):
        status, answer = server.ask("/v1/compose", request | {"best_of": best_of})
        assert status == 200, answer
        scores = [
            normalise(Score.from_midi(base64.b64decode(take["midi"])), ticks_per_quarter=12, velocity=80)
            for take in answer["takes"]
        ]
        won[best_of] = [rewards.total(Heard(score, Labels("irish", "", "D major", 4))) for score in scores]
    assert all(few <= many for few, many in zip(won[1], won[6], strict=True)) and won[1] != won[6], won
    for take in answer["takes"]:
        assert (
            server.ask("/v1/compose", request | {"seed": take["seed"], "n": 1})[1]["takes"][0]["midi"]
            == take["midi"]
        )
    status, answer = server.ask("/v1/compose", request | {"n": 8, "best_of": 8})
    assert status == 422 and "at most 32 are written at once" in answer["error"]["message"]


def test_many_at_once_get_what_each_gets_alone(server: Server) -> None:
    asked = [
        {"metre": "4/4", "bars": 2 + seed % 3, "seed": seed, "instruments": ["fiddle"]} for seed in range(8)
    ]
    alone = [server.ask("/v1/compose", request)[1]["takes"][0]["midi"] for request in asked]
    with ThreadPoolExecutor(8) as pool:
        together = list(
            pool.map(lambda request: server.ask("/v1/compose", request)[1]["takes"][0]["midi"], asked)
        )
    assert together == alone


def fiddle_tune(bars: int = 8) -> str:
    """Base64 MIDI of an even tune in 4/4, 480 ticks a quarter, with a pedal and a name."""
    from symusic import ControlChange, Note, TimeSignature, Track

    score = Score(480)
    score.time_signatures.append(TimeSignature(0, 4, 4))
    track = Track("Mine", 40, False)
    for i in range(4 * bars):
        track.notes.append(Note(480 * i, 470, 62 + (i * 5) % 12, 77))
    track.controls.append(ControlChange(960, 64, 127))
    score.tracks.append(track)
    return base64.b64encode(bytes(score.dumps_midi())).decode()


def test_an_edit_changes_its_region_and_the_answer_proves_it(server: Server, tiny_line: Path) -> None:
    midi = fiddle_tune()
    status, answer = server.ask(
        "/v1/edit", {"midi": midi, "operation": "infill", "bars": [3, 4], "tracks": [1], "n": 2, "seed": 3}
    )
    assert status == 200, answer
    first, second = answer["alternatives"]
    assert first["contract"]["equal"] and first["contract"]["cells_kept"] == 6
    assert {change["bar"] for change in first["changes"]} == {3, 4}
    assert first["midi"] != second["midi"]
    assert answer["scorecard_before"]["nats_per_note"] > 0 and first["scorecard"]["nats_per_note"] > 0
    old, new = (
        note_array(Score.from_midi(base64.b64decode(data)).tracks[0]) for data in (midi, first["midi"])
    )
    outside = [notes[(notes[:, 0] < 3840) | (notes[:, 0] >= 7680)].tolist() for notes in (old, new)]
    assert outside[0] == outside[1]
    assert (
        server.ask(
            "/v1/edit",
            {"midi": midi, "operation": "infill", "bars": [3, 4], "tracks": [1], "n": 2, "seed": 3},
        )[1]["alternatives"][0]["midi"]
        == first["midi"]
    )


def test_restyling_looks_for_the_style_with_the_judges_of_the_bundle(server: Server, tiny_line: Path) -> None:
    judge = open_bundle(tiny_line / "bundle").judges["style"]
    surer = []
    for style in judge.labels[:2]:
        status, answer = server.ask(
            "/v1/edit",
            {"midi": fiddle_tune(), "operation": "restyle", "style": style, "strength": 1.0, "seed": 2},
        )
        assert status == 200, answer
        written = normalise(
            Score.from_midi(base64.b64decode(answer["alternatives"][0]["midi"])),
            ticks_per_quarter=12,
            velocity=80,
        )
        surer.append(judge.log_probabilities([written])[0])
    assert surer[0][0] - surer[0][1] > surer[1][0] - surer[1][1]


def test_an_edit_starts_from_an_earlier_answer_and_history_tells_the_chain(
    server: Server, tiny_line: Path
) -> None:
    first = server.ask("/v1/edit", {"midi": fiddle_tune(), "operation": "transpose", "semitones": 2})[1][
        "alternatives"
    ][0]
    second = server.ask("/v1/edit", {"parent": first["id"], "operation": "vary", "strength": 0.5, "seed": 1})[
        1
    ]["alternatives"][0]
    status, undone = server.ask(
        "/v1/edit", {"parent": first["id"], "operation": "transpose", "semitones": -2}
    )
    assert status == 200
    notes = [
        note_array(Score.from_midi(base64.b64decode(data)).tracks[0]).tolist()
        for data in (fiddle_tune(), undone["alternatives"][0]["midi"])
    ]
    assert notes[0] == notes[1]
    told = run(tiny_line, "history", second["id"]).stdout.splitlines()
    assert [line.split()[1] for line in told] == [first["id"], second["id"]]
    logged = (tiny_line / ".ostinato/log").glob("*.jsonl")
    assert "Mine" not in "".join(
        base64.b64decode(row.body["midi"]).decode("latin-1")
        for _ in logged
        for row in EventLog(tiny_line / ".ostinato/log").rows()
        if row.endpoint == "edit" and "midi" in row.body
    )
    composed = server.ask("/v1/compose", {"metre": "4/4", "bars": 2, "instruments": ["fiddle"], "seed": 1})[
        1
    ]["takes"][0]
    assert server.ask("/v1/edit", {"parent": composed["id"], "operation": "retrograde"})[0] == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"operation": "infill", "semitones": 2}, "infill takes no semitones"),
        ({"operation": "polish"}, "infill"),
        ({"operation": "infill", "bars": [7, 99]}, "bars 1 to 8"),
        ({"operation": "infill", "tracks": [4]}, "the score has 1 Mine"),
        ({"operation": "restyle", "style": "polka"}, "known are"),
        ({"operation": "transpose", "semitones": 120}, "reach"),
        ({"operation": "transpose"}, "one of semitones"),
        ({"operation": "infill", "bars": [5, 2]}, "the first lies after the last"),
        ({"operation": "infill", "parent": "nobody"}, "one of the two"),
    ],
)
def test_edits_that_cannot_be_done_say_why(server: Server, body: dict[str, object], message: str) -> None:
    status, answer = server.ask("/v1/edit", {"midi": fiddle_tune()} | body)
    assert status == 422
    assert message in answer["error"]["message"]
    assert server.ask("/v1/edit", {"parent": "nobody", "operation": "vary"})[0] == 422


def test_a_client_that_goes_away_cancels_its_edit(server: Server) -> None:
    import http.client

    body = json.dumps({"midi": fiddle_tune(60), "operation": "vary", "strength": 1.0, "n": 8, "seed": 1})
    begin = time.monotonic()
    status, _ = server.ask("/v1/edit", json.loads(body))
    whole = time.monotonic() - begin
    assert status == 200
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("POST", "/v1/edit", body, {"content-type": "application/json"})
    time.sleep(min(0.3, whole / 4))
    connection.close()
    deadline = time.monotonic() + whole
    while time.monotonic() < deadline and not (
        found := re.search(
            r'ostinato_edits_total{contract="cancelled",model="\w+",operation="vary"} 1.0',
            server.ask("/metrics")[1],
        )
    ):
        time.sleep(0.05)
    assert found


def test_a_file_is_edited_on_the_command_line(tiny_line: Path, tmp_path: Path) -> None:
    tune = tmp_path / "tune.abc"
    tune.write_text("X:1\nT:Mine\nM:4/4\nL:1/8\nK:D\n" + "DEFG ABcd|" * 8 + "\n")
    told = run(tiny_line, "edit", str(tune), "infill", "--bars", "3-4", "--seed", "2").stdout
    assert "kept" in told
    assert re.search(r"nats per note \d+\.\d\d -> \d+\.\d\d", told)
    assert (tmp_path / "tune.infill.mid").is_file()
    again = run(tiny_line, "edit", str(tune), "infill", "--bars", "3-4", check=False)
    assert again.returncode == 1
    assert "--force" in again.stderr
    assert (
        "infill takes no qpm"
        in run(tiny_line, "edit", str(tune), "infill", "--qpm", "90", check=False).stderr
    )


def test_similar_finds_a_piece_again_in_another_key_and_says_why(server: Server, tiny_line: Path) -> None:
    catalogue = open_bundle(tiny_line / "bundle").catalogue
    tokenizer = open_bundle(tiny_line / "bundle").tokenizer
    row = next(row for row, item in enumerate(catalogue.items) if item.style == "irish" and item.bars >= 16)
    moved = tokenizer.decode_ids(catalogue.tokens[row]).shift_pitch(2)
    status, answer = server.ask(
        "/v1/similar",
        {"midi": base64.b64encode(bytes(moved.dumps_midi())).decode(), "k": 5, "with_midi": True},
    )
    assert status == 200, answer
    first = answer["found"][0]
    assert first["item"]["id"] == catalogue.items[row].id and first["likeness"] > 0.99
    assert f"same metre ({first['item']['metre']})" in first["why"]["text"]
    assert Score.from_midi(base64.b64decode(first["item"]["midi"])).note_num() == first["item"]["notes"]
    by_id = server.ask(
        "/v1/similar",
        {"id": first["item"]["id"], "bars": [1, 8], "filters": {"labels": {"style": ["irish"]}}},
    )[1]
    assert first["item"]["id"] not in [hit["item"]["id"] for hit in by_id["found"]]
    assert {hit["item"]["style"] for hit in by_id["found"]} == {"irish"}
    assert all(hit["matches"][0]["query_bars"] == [1, 8] for hit in by_id["found"])


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("similar", {}, "one of midi and id"),
        ("similar", {"id": "nobody"}, "never there, or was removed"),
        ("similar", {"id": "nobody", "filters": {"labels": {"mood": ["sad"]}}}, "never there"),
        ("recommend", {"likes": ["nobody"]}, "never there"),
        ("recommend", {"compose": True}, "at least one liked item"),
        ("feedback", {"user": "ann@example.org", "item": "x", "event": "like"}, "user"),
        ("feedback", {"user": "ann", "item": "nobody", "event": "like"}, "never there"),
        ("feedback", {"user": "ann", "item": "x", "event": "rating"}, "a rating has a value"),
        ("recommend", {"likes": ["x"] * 10_001}, "10000"),
    ],
)
def test_questions_about_nothing_say_so(
    server: Server, path: str, body: dict[str, object], message: str
) -> None:
    status, answer = server.ask(f"/v1/{path}", body)
    assert status == 422
    assert message in json.dumps(answer["error"])


def test_feedback_moves_recommendations_counts_once_and_can_be_forgotten(
    server: Server, tiny_line: Path
) -> None:
    catalogue = open_bundle(tiny_line / "bundle").catalogue
    chorales = [item.id for item in catalogue.items if item.style == "chorale"]
    fresh = server.ask("/v1/recommend", {"user": "new-1"})[1]
    assert len(fresh["found"]) == 10 and "is new" in fresh["warnings"][0]
    for n, item in enumerate(chorales[:6]):
        assert server.ask("/v1/feedback", {"user": "ann", "item": item, "event": "like", "key": f"k{n}"})[1][
            "stored"
        ]
    assert (
        server.ask("/v1/feedback", {"user": "ann", "item": chorales[0], "event": "like", "key": "k0"})[1][
            "stored"
        ]
        is False
    )
    server.ask("/v1/feedback", {"user": "ann", "item": chorales[6], "event": "dislike"})
    mine = server.ask("/v1/recommend", {"user": "ann", "k": 10, "diversity": 0.0})[1]
    styles = [each["item"]["style"] for each in mine["found"]]
    assert (
        mine["likes"] == 6
        and mine["dislikes"] == 1
        and styles.count("chorale") > sum(each["item"]["style"] == "chorale" for each in fresh["found"])
    )
    assert not {each["item"]["id"] for each in mine["found"]} & set(chorales[:7])
    assert chorales[6] not in {
        each["item"]["id"]
        for each in server.ask("/v1/recommend", {"user": "ann", "k": 100, "repeat": True})[1]["found"]
    }
    assert all(abs(sum(each["spoke"].values()) - 1) < 0.02 for each in mine["found"])
    composed = server.ask("/v1/recommend", {"user": "ann", "compose": True, "takes": 1})[1]["composed"][0]
    assert composed["asked"]["style"] == "chorale" and composed["scorecard"]["nats_per_note"] > 0
    assert server.ask("/v1/feedback", {"user": "ann", "item": composed["id"], "event": "like"})[1]["stored"]
    assert server.ask("/v1/recommend", {"user": "ann"})[1]["likes"] == 7
    run(tiny_line, "forget", "ann")
    assert "is new" in server.ask("/v1/recommend", {"user": "ann"})[1]["warnings"][0]


def test_own_pieces_are_offered_and_removed_while_the_service_runs(
    server: Server, tiny_line: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.abc").write_text("X:1\nT:Mine\nM:4/4\nL:1/8\nK:D\n" + "DEFG ABcd|dcBA GFED|" * 8 + "\n")
    said = run(
        tiny_line, "catalogue", "add", str(tmp_path), "--licence", "public-domain", "--style", "mine"
    ).stdout
    assert "1 pieces added" in said
    found = server.ask("/v1/similar", {"id": "own/mine.abc"})
    assert found[0] == 200
    assert "own/mine.abc" in run(tiny_line, "similar", str(tmp_path / "mine.abc")).stdout
    run(tiny_line, "catalogue", "remove", "own/mine.abc")
    assert server.ask("/v1/similar", {"id": "own/mine.abc"})[0] == 422


def test_alignment_is_reported_by_part_with_what_it_cost(tiny_line: Path) -> None:
    table = json.loads((tiny_line / "reports/metrics.json").read_text())["alignment"]
    assert {"style", "key", "cadence", "fifths", "originality"} <= set(table["parts"])
    assert all(
        row["low"] <= row["worth_after"] - row["worth_before"] <= row["high"]
        for row in (*table["parts"].values(), table["kept_out"])
    )
    assert 0.5 < table["nats_per_note"]["ratio"] < 2 and 0 < table["distinct"]["after"] <= 1
    takes = pq.read_table(tiny_line / "data/align/takes.parquet").to_pylist()
    report = json.loads((tiny_line / "reports/align_report.json").read_text())
    assert len(takes) == report["own"]["takes"] == 16 and report["people"]["comparisons"] == 0
    assert all(Score.from_midi(row["midi"]).note_num() for row in takes if row["reward"] > 0.3)
    before, after = (
        load_file(tiny_line / f"data/{stage}/model.safetensors") for stage in ("finetune", "align")
    )
    assert any((before[name] != after[name]).any() for name in before)


def test_a_pair_is_offered_blind_compared_once_and_found_in_the_snapshot(
    server: Server, tiny_line: Path
) -> None:
    status, pair = server.ask("/v1/pair", {"seed": 5})
    assert status == 200, pair
    assert (
        pair["asked"]["style"]
        and len(pair["takes"]) == 2
        and pair["takes"][0]["midi"] != pair["takes"][1]["midi"]
    )
    first, second = (take["id"] for take in pair["takes"])
    assert server.ask("/v1/feedback", {"user": "eva", "event": "prefer", "item": second, "over": first})[1][
        "stored"
    ]
    for wrong, message in (
        ({"item": second, "over": "nobody"}, "no answer 'nobody'"),
        ({"item": second, "over": second}, "two takes of one answer"),
        ({"item": second}, "name the other take"),
    ):
        status, answer = server.ask("/v1/feedback", {"user": "eva", "event": "prefer"} | wrong)
        assert status == 422 and message in json.dumps(answer["error"])
    assert server.ask("/v1/wins")[1]["duels"] == [], "two takes of one model are no duel"
    said = run(tiny_line, "snapshot").stdout
    assert "1 comparisons" in said
    (row,) = pq.read_table(tiny_line / "data/feedback/preferences.parquet").to_pylist()
    assert (row["chosen_id"], row["side"], json.loads(row["asked"])["style"]) == (
        second,
        "second",
        pair["asked"]["style"],
    )
    for path in (tiny_line / "data/feedback").glob("*.parquet"):
        path.unlink()  # the line of this checkout was made without feedback


def test_scoring_gives_a_surprise_for_every_bar(server: Server, tiny_line: Path) -> None:
    midi = base64.b64encode(next((tiny_line / "samples").glob("0*.mid")).read_bytes()).decode()
    status, answer = server.ask("/v1/score", {"midi": midi})
    assert status == 200
    assert len(answer["surprise_per_bar"]) == answer["bars"] == 4
    assert sum(answer["surprise_per_bar"]) / answer["notes"] == pytest.approx(
        answer["scorecard"]["nats_per_note"], abs=0.01
    )


def test_the_model_says_what_it_is(server: Server, tiny_line: Path) -> None:
    status, answer = server.ask("/v1/model")
    assert (status, answer["model"], answer["version"]) == (
        200,
        open_bundle(tiny_line / "bundle").digest,
        "1",
    )
    assert "irish" in answer["known"]["styles"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/compose", {"style": "polka"}, 422, "known are"),
        ("/v1/compose", {"bars": 0}, 422, "greater than"),
        ("/v1/compose", {"key": "H"}, 422, "tonics"),
        ("/v1/compose", {"bars": 64, "instruments": ["fiddle"] * 5}, 422, "at most 256"),
        ("/v1/compose", {"instruments": ["kazoo"]}, 422, "unknown instrument"),
        ("/v1/compose", {"bar": 4}, 422, "known are style"),
        ("/v1/score", {"midi": "####"}, 422, "base64"),
        ("/v1/score", {"midi": base64.b64encode(b"MThd junk").decode()}, 422, "damaged"),
        ("/v1/nothing", {}, 404, "/v1/compose"),
    ],
)
def test_bad_requests_are_told_what_to_do(
    server: Server, path: str, body: dict[str, object], status: int, message: str
) -> None:
    found, answer = server.ask(path, body)
    assert found == status
    assert message in answer["error"]["message"]


def test_a_score_of_two_hundred_million_ticks_is_refused_at_once(server: Server) -> None:
    score = Score(480)
    from symusic import Note, Track

    track = Track()
    track.notes.append(Note(200_000_000, 480, 60, 80))
    score.tracks.append(track)
    begin = time.monotonic()
    status, answer = server.ask("/v1/score", {"midi": base64.b64encode(bytes(score.dumps_midi())).decode()})
    assert status == 422
    assert "at most" in answer["error"]["message"]
    assert time.monotonic() - begin < 2


def test_everything_is_logged_and_counted_and_drift_is_watched(server: Server, tiny_line: Path) -> None:
    for seed in range(6):
        assert server.ask("/v1/compose", {"bars": 1, "seed": seed})[0] == 200
    rows = list(EventLog(tiny_line / ".ostinato/log").rows())
    answered = {row.request_id for row in rows if row.kind == "answer"}
    assert answered <= {row.request_id for row in rows if row.kind == "request"}
    assert all(
        row.model and (row.descriptors or "error" in row.body)
        for row in rows
        if row.kind == "answer" and row.endpoint not in ("similar", "recommend")
    )
    time.sleep(2.5)
    text = server.ask("/metrics")[1]
    for name in (
        "ostinato_requests_total",
        "ostinato_request_seconds_bucket",
        "ostinato_tokens_total",
        "ostinato_takes_total",
        "ostinato_nats_per_note_bucket",
        "ostinato_descriptor_sum",
        "ostinato_drift_status",
    ):
        assert re.search(rf"^{name}{{", text, flags=re.MULTILINE), name
    assert 'status="5xx"' not in text
    done = run(tiny_line, "drift")
    assert "outputs of model" in done.stdout


def test_bogus_urls_make_no_new_series(server: Server) -> None:
    def count() -> int:
        return server.ask("/metrics")[1].count("\n")

    server.ask("/v1/x0")
    before = count()
    for i in range(30):
        assert server.ask(f"/v1/x{i}/{i}")[0] == 404
    assert count() <= before + 2


def test_feedback_survives_a_kill_right_after_its_answer(tiny_line: Path, tmp_path: Path) -> None:
    item = open_bundle(tiny_line / "bundle").catalogue.items[0].id
    with served(tiny_line, OSTINATO_LOG=str(tmp_path / "log")) as doomed:
        status, answer = doomed.ask("/v1/feedback", {"user": "ann", "item": item, "event": "like"})
        children = psutil.Process(doomed.process.pid).children(recursive=True)
        for process in [*children, psutil.Process(doomed.process.pid)]:
            process.kill()
        assert status == 200 and answer["stored"]
    rows = [row for row in EventLog(tmp_path / "log").rows() if row.kind == "feedback"]
    assert [(row.request_id, row.body["item"]) for row in rows] == [(answer["request_id"], item)]


def test_a_port_in_use_is_told(tiny_line: Path, server: Server) -> None:
    done = run(tiny_line, "serve", "--port", str(server.port), check=False)
    assert done.returncode == 1
    assert "choose another with --port" in done.stderr


def test_the_image_is_light_non_root_checked_and_without_secrets(tiny_line: Path) -> None:
    image = tiny_line / ".ostinato/image"
    dockerfile = (image / "env/docker/Dockerfile").read_text()
    assert re.search(r"^USER bentoml$", dockerfile, flags=re.MULTILINE)
    assert "HEALTHCHECK" in dockerfile
    assert not re.search(r"(?i)password|secret_key|token=", dockerfile)
    requirements = (image / "env/python/requirements.txt").read_text().lower()
    assert not re.search(r"mlflow|dvc|lightning|music21|partitura", requirements)
    assert (image / f"models/ostinato/{open_bundle(tiny_line / 'bundle').tag}/model.safetensors").is_file()
    assert not (image / "src/models/network/training.py").exists()


def test_second_model_is_refused_forced_and_rolled_back(tiny_line: Path, tmp_path: Path) -> None:
    top = tmp_path / "again"
    shutil.copytree(tiny_line, top, symlinks=True)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "run", "-S", "finetune.max_steps=20", "-S", "align.method=none"],
        cwd=top,
        env=environment(top),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert run(top, "register").stdout.startswith("version 2")
    refused = run(top, "promote", check=False)
    assert refused.returncode == 1
    assert "FAIL  worse_nats_upper_bound" in refused.stderr
    assert "champion stays version 1" in refused.stderr
    assert "--force needs --reason" in run(top, "promote", "--force", check=False).stderr
    run(top, "promote", "--force", "--reason", "trying the worse one")
    assert "champion: version 1 (was 2)" in run(top, "rollback", "--reason", "it was worse").stdout
    listing = run(top, "versions").stdout
    for word in ("refused", "forced", "rolled back", "trying the worse one"):
        assert word in listing
    assert re.search(r"1  \w{16}  champion", listing)
    assert re.search(r"2  \w{16}  previous", listing)


def test_people_compare_two_models_and_the_loop_learns_from_them(tiny_line: Path, tmp_path: Path) -> None:
    top = tmp_path / "improved"
    shutil.copytree(tiny_line, top, symlinks=True)
    params = (top / "params.yaml").read_text()
    (top / "params.yaml").write_text(params.replace("fewest_new: 20 ", "fewest_new: 3 "))
    compared = subprocess.run(
        [
            sys.executable,
            "-m",
            "pipelines.commands.app",
            "rate",
            "--pairs",
            "4",
            "--bars",
            "4",
            "--seed",
            "3",
            "--log",
            "said",
        ],
        cwd=top,
        env=environment(top),
        input="1\n2\n=\n1\n",
        capture_output=True,
        text=True,
    )
    assert compared.returncode == 0, compared.stderr
    assert (top / "rate/first.mid").is_file() and (top / "rate/second.png").is_file()
    assert "no two models have been compared yet" in compared.stdout
    before = len(run(top, "versions").stdout)
    done = run(top, "improve", "--log", "said")
    assert "version 2 is registered, not promoted" in done.stdout
    assert len(run(top, "versions").stdout) > before
    told = (top / "reports/improve.md").read_text()
    assert "Learned from 3 comparisons of 1 users" in told and "| style |" in told
    assert "nothing to do: 0 new" in run(top, "improve", "--log", "said").stdout
    against = ["rate", "--against", "2", "--pairs", "2", "--bars", "4", "--seed", "9", "--log", "said"]
    duel = subprocess.run(
        [sys.executable, "-m", "pipelines.commands.app", *against],
        cwd=top,
        env=environment(top),
        input="1\n1\n",
        capture_output=True,
        text=True,
    )
    assert re.search(r"\w{16} against \w{16}: \d won, \d lost, 0 alike", duel.stdout), (
        duel.stdout + duel.stderr
    )
    with served(
        top,
        OSTINATO_RIVAL=str(top / ".ostinato/bundles" / open_bundle(top / "bundle").tag),
        OSTINATO_LOG=str(top / "said"),
    ) as rivals:
        pair = rivals.ask("/v1/pair", {"style": "irish", "bars": 4})[1]
        assert (
            rivals.ask(
                "/v1/feedback",
                {
                    "user": "eva",
                    "event": "tie",
                    "item": pair["takes"][0]["id"],
                    "over": pair["takes"][1]["id"],
                },
            )[0]
            == 200
        )
        (found,) = rivals.ask("/v1/wins")[1]["duels"]
        assert (
            found["won"] + found["lost"] == 2
            and found["tied"] == 1
            and found["low"] < found["rate"] < found["high"]
        )


def test_two_promotes_at_once_leave_one_champion_and_a_whole_log(tiny_line: Path, tmp_path: Path) -> None:
    top = tmp_path / "race"
    shutil.copytree(tiny_line, top, symlinks=True)
    command = [
        sys.executable,
        "-m",
        "pipelines.commands.app",
        "promote",
        "--version",
        "1",
        "--force",
        "--reason",
        "race",
    ]
    both = [
        subprocess.Popen(
            command, cwd=top, env=environment(top), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    assert [process.wait(180) for process in both] == [0, 0]
    assert len((top / ".ostinato/promotions.jsonl").read_text().splitlines()) == 1, (
        "version 1 was champion already: nothing to log"
    )


@pytest.mark.parametrize("stage", ["pretrain", "finetune", "align"])
def test_a_killed_training_resumes_to_the_same_weights(tiny_line: Path, tmp_path: Path, stage: str) -> None:
    top = tmp_path / "killed"
    shutil.copytree(tiny_line, top, symlinks=True)
    shutil.rmtree(top / f"data/{stage}")
    process = subprocess.Popen(
        [sys.executable, "-m", f"pipelines.{stage}"],
        cwd=top,
        env=environment(top),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while (
        not list((top / f".ostinato/{stage}").glob("*/last.ckpt"))
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (top / f"data/{stage}/model.safetensors").exists(), (
        "the run must be killed before it ends for this test to mean anything"
    )
    done = subprocess.run(
        [sys.executable, "-m", f"pipelines.{stage}"],
        cwd=top,
        env=environment(top),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    resumed, unbroken = (load_file(where / f"data/{stage}/model.safetensors") for where in (top, tiny_line))
    apart = {
        name: float(abs(resumed[name] - unbroken[name]).max())
        for name in unbroken
        if (resumed[name] != unbroken[name]).any()
    }
    assert not apart, (
        apart,
        [json.loads((where / f"data/{stage}/training.json").read_text()) for where in (top, tiny_line)],
    )
    looks = sorted((tiny_line / f"reports/{stage}/plots/metrics").glob("valid_*.tsv"))
    assert looks and all(
        (top / look.relative_to(tiny_line)).read_text() == look.read_text() for look in looks
    ), "each look after the kill is as it would have been"
    assert not list((top / f".ostinato/{stage}").glob("*/last.ckpt"))


@pytest.mark.parametrize("stage", ["ingest", "prepare", "tokenise", "evaluate"])
def test_a_stage_killed_half_way_is_run_again_and_ends_whole(
    tiny_line: Path, tmp_path: Path, stage: str
) -> None:
    top = tmp_path / "stage"
    shutil.copytree(tiny_line, top, symlinks=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "-f", "-s", stage],
        cwd=top,
        env=environment(top),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(4)
    import os

    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = run(top, "repro", check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    open_bundle(top / "bundle")


def test_two_repros_at_once_do_not_harm_each_other(tiny_line: Path, tmp_path: Path) -> None:
    top = tmp_path / "two"
    shutil.copytree(tiny_line, top, symlinks=True)
    first = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "-f", "-s", "prepare"],
        cwd=top,
        env=environment(top),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(3)
    second = run(top, "repro", check=False)
    first.wait(180)
    assert second.returncode == 0 or "another `dvc repro` is at work" in second.stderr
    assert run(top, "repro").returncode == 0


def test_the_champion_is_exported_for_other_engines(tiny_line: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    run(tiny_line, "export", str(tmp_path / "hf"), "--format", "hf")
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "hf").eval()
    ids = torch.randint(0, theirs.config.vocab_size, (1, 40))
    with torch.inference_mode():
        torch.testing.assert_close(
            theirs(ids).logits, open_bundle(tiny_line / "bundle").network(ids), atol=1e-3, rtol=1e-3
        )
    assert (
        "is not known"
        in run(tiny_line, "export", str(tmp_path / "x"), "--format", "gguf", check=False).stderr
    )


def test_a_folder_of_songs_is_learned_on_top_of_the_champion(tiny_line: Path, tmp_path: Path) -> None:
    packed = SHARED / "data/lieder.tar.gz"
    if not packed.exists():
        pytest.skip("the Lieder archive lies beside the checkout in development and CI only")
    top = tmp_path / "mine"
    shutil.copytree(tiny_line, top, symlinks=True)
    with tarfile.open(packed) as archive:
        archive.extractall(
            tmp_path / "songs",
            members=[m for m in archive.getmembers() if m.name.endswith(".mid")][:60],
            filter="data",
        )
    assert (
        "no licence class"
        in run(
            top, "finetune", str(tmp_path / "songs"), "--name", "lieder", "--licence", "mine", check=False
        ).stderr
    )
    (top / "params.yaml").write_text(
        (top / "params.yaml").read_text().replace("max_steps: 40", "max_steps: 20")
    )
    run(
        top,
        "finetune",
        str(tmp_path / "songs"),
        "--name",
        "lieder",
        "--licence",
        "public-domain",
        "--style",
        "lied",
        "--method",
        "lora",
        "--steps",
        "20",
    )
    metrics = json.loads((top / "reports/metrics.json").read_text())
    assert metrics["training"]["pretrain"]["steps"] == 0
    assert metrics["by_collection"]["lieder"]["pieces"] > 0
    assert "lied" in open_bundle(top / "bundle").tokenizer.styles
    assert run(top, "register").stdout.startswith("version 2")


def test_a_changed_bundle_is_refused(tiny_line: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_line / "bundle", tmp_path / "bundle")
    (tmp_path / "bundle/config.json").write_text("{}")
    with pytest.raises(BundleError, match=r"changed after it was sealed \(config.json\)"):
        open_bundle(tmp_path / "bundle")
    (tmp_path / "bundle/config.json").unlink()
    with pytest.raises(BundleError, match=r"lacks config.json"):
        open_bundle(tmp_path / "bundle")


def test_a_bundle_of_an_older_format_can_be_compared_with_but_not_served(
    tiny_line: Path, tmp_path: Path
) -> None:
    old = tmp_path / "bundle"
    shutil.copytree(tiny_line / "bundle", old)
    manifest = json.loads((old / "bundle.json").read_text())
    (old / "judges.safetensors").unlink()
    del manifest["files"]["judges.safetensors"]
    manifest |= {"format": 1, "digest": digest_of(manifest["files"])}
    (old / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="has format 1"):
        open_bundle(old)
    found = open_bundle(old, older=True)
    (tmp_path / "copy").mkdir()
    copy_bundle(found, tmp_path / "copy")
    assert open_bundle(tmp_path / "copy", older=True).digest == found.digest
    verdict = judge(open_bundle(tiny_line / "bundle"), found, load_params(tiny_line / "params.yaml").gate)
    assert {check.name for check in verdict.checks} >= {"worse_nats_upper_bound", "latency_ratio"}


def test_commands_before_there_is_anything_say_what_to_run(tmp_path: Path) -> None:
    top = copy_checkout(tmp_path / "empty")
    for command, message in (
        (["serve", "--port", str(free_port())], "no champion yet: run `make repro`"),
        (["promote"], "no version is registered yet"),
        (["rollback"], "no previous champion"),
        (["register"], "no bundle in bundle"),
    ):
        done = run(top, *command, check=False)
        assert done.returncode == 1
        assert message in done.stderr


def test_a_misspelt_param_stops_the_line_before_any_work(tmp_path: Path) -> None:
    top = copy_checkout(tmp_path / "wrong")
    params = (top / "params.yaml").read_text()
    (top / "params.yaml").write_text(params.replace("  batch_size: 8 ", "  batch_sise: 8 "))
    done = run(top, "repro", check=False)
    assert done.returncode == 1
    assert "did you mean 'batch_size'" in done.stderr
    (top / "params.yaml").write_text(
        params.replace(
            "licences: [public-domain, permissive, share-alike, unstated, non-commercial]  # classes",
            "licences: [public-domain]  # classes",
        ).replace("max_pieces_per_source: 0", "max_pieces_per_source: 3")
    )
    done = run(top, "repro", check=False)
    assert done.returncode == 1
    assert "no piece has a licence class that prepare.licences lets in" in done.stderr + done.stdout
