"""The watchers for real: Prometheus and Alertmanager from Debian scrape a served bento; rules, alerts and
dashboard are asked of them."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.e2e.programs import need
from tests.server import Server, free_port, served, wait

pytestmark = pytest.mark.e2e
WATCH = ROOT / "monitoring"


@pytest.fixture(scope="module")
def server(tiny_line: Path) -> Iterator[Server]:
    with served(tiny_line, OSTINATO_DRIFT_EVERY_S="1", OSTINATO_DRIFT_MIN_ROWS="5") as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A live Prometheus with the committed rules and config, only the addresses changed; and an
    Alertmanager."""
    need("prometheus", "prometheus-alertmanager")
    folder = tmp_path_factory.mktemp("prometheus")
    config = yaml.safe_load((WATCH / "prometheus/prometheus.yml").read_text())
    port, alert_port = free_port(), free_port()
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{server.port}"]
    config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{alert_port}"]
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    shutil.copy(WATCH / "prometheus/rules.yml", folder)
    commands = [
        [
            "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        [
            "prometheus-alertmanager",
            f"--config.file={WATCH}/alertmanager/alertmanager.yml",
            f"--storage.path={folder}/am",
            f"--web.listen-address=127.0.0.1:{alert_port}",
            "--cluster.listen-address=",
        ],
    ]
    processes = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=(folder / "log").open("ab"))
        for command in commands
    ]
    address = f"http://127.0.0.1:{port}"
    try:
        wait(lambda: get(f"{address}/-/ready") is not None, 30)
        wait(lambda: get(f"http://127.0.0.1:{alert_port}/-/ready") is not None, 30)
        make_traffic(server)
        wait(
            lambda: (
                bool(query(address, "ostinato_drift_status"))
                and bool(query(address, "ostinato:request_seconds:p95"))
            ),
            60,
        )
        yield address
    finally:
        for process in processes:
            process.terminate()
            process.wait(20)


def make_traffic(server: Server) -> None:
    for seed in range(8):
        status, answer = server.ask("/v1/compose", {"bars": 2, "seed": seed})
        assert status == 200
        assert server.ask("/v1/score", {"midi": answer["takes"][0]["midi"]})[0] == 200
        time.sleep(0.5)
    server.ask("/v1/compose", {"bars": -1})
    server.ask("/v1/model")
    time.sleep(3)
    server.ask("/v1/compose", {"bars": 2, "seed": 99})
    time.sleep(3)


def get(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())
    except OSError:
        return None


def query(address: str, expression: str) -> list[Any]:
    with urllib.request.urlopen(
        f"{address}/api/v1/query?{urllib.parse.urlencode({'query': expression})}", timeout=10
    ) as answer:
        found = json.load(answer)
    assert found["status"] == "success", found
    return list(found["data"]["result"])


def test_the_target_is_up(prometheus: str) -> None:
    assert [row["value"][1] for row in query(prometheus, 'up{job="ostinato"}')] == ["1"]


def test_every_rule_is_healthy(prometheus: str) -> None:
    groups = json.loads(get(f"{prometheus}/api/v1/rules") or "{}")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    written = yaml.safe_load((WATCH / "prometheus/rules.yml").read_text())["groups"]
    assert len(rules) == sum(len(group["rules"]) for group in written)
    assert {rule["health"] for rule in rules} == {"ok"}


def test_every_recording_rule_has_data(prometheus: str) -> None:
    for group in yaml.safe_load((WATCH / "prometheus/rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                assert query(prometheus, rule["record"]), rule["record"]


def test_every_query_of_the_dashboard_returns_data(prometheus: str) -> None:
    board = json.loads((WATCH / "grafana/dashboards/ostinato.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(expressions) > 10
    empty = [expression for expression in expressions if not query(prometheus, expression)]
    assert not empty


def test_values_are_what_the_service_did(prometheus: str) -> None:
    assert float(query(prometheus, 'sum(ostinato_takes_total{valid="true"})')[0]["value"][1]) >= 9
    assert (
        query(prometheus, 'sum(ostinato_requests_total{endpoint="compose", status="4xx"})')[0]["value"][1]
        == "1"
    )
    assert not query(prometheus, 'ostinato_requests_total{status="5xx"}')


def test_the_alertmanager_is_known_to_prometheus(prometheus: str) -> None:
    found = json.loads(get(f"{prometheus}/api/v1/alertmanagers") or "{}")
    assert len(found["data"]["activeAlertmanagers"]) == 1


@pytest.mark.parametrize(
    "command",
    [
        ["promtool", "check", "config", "monitoring/prometheus/prometheus.yml"],
        ["promtool", "check", "rules", "monitoring/prometheus/rules.yml"],
        ["promtool", "test", "rules", "monitoring/prometheus/rules_test.yml"],
        ["amtool", "check-config", "monitoring/alertmanager/alertmanager.yml"],
    ],
)
def test_the_tools_accept_the_configuration(command: list[str]) -> None:
    need(command[0])
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_file_is_valid_and_refuses_to_start_without_passwords(
    tiny_line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("docker-compose")
    monkeypatch.setenv(
        "OSTINATO_IMAGE_CONTEXT", str(tiny_line / ".ostinato/image")
    )  # docker-compose asks that the build context is there
    for name in ("POSTGRES_PASSWORD", "STORE_PASSWORD", "GRAFANA_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    refused = subprocess.run(["docker-compose", "config"], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "in .env" in refused.stderr
    for name in ("POSTGRES_PASSWORD", "STORE_PASSWORD", "GRAFANA_PASSWORD"):
        monkeypatch.setenv(name, "x")
    done = subprocess.run(["docker-compose", "config"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "healthcheck" in done.stdout


def test_metrics_text_is_accepted_by_promtool(server: Server) -> None:
    need("promtool")
    text = server.ask("/metrics")[1]
    ours = "\n".join(line for line in text.splitlines() if "ostinato_" in line) + "\n"
    done = subprocess.run(["promtool", "check", "metrics"], input=ours, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
