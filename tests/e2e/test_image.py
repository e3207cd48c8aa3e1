"""What the image is built of is enough: its packages, in a Python environment of their own, run the bento as
its entry point does; and the manifests are Kubernetes."""

import os
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest
import yaml

from tests.conftest import ROOT
from tests.server import Server, free_port

pytestmark = pytest.mark.e2e


def test_the_packages_of_the_image_run_the_service(tiny_line: Path, tmp_path: Path) -> None:
    image = tiny_line / ".ostinato/image"
    python = tmp_path / "env/bin/python"
    subprocess.run(["uv", "venv", "-q", "--python", "3.11", str(tmp_path / "env")], check=True)
    wanted = image / "env/python/requirements.txt"
    subprocess.run(["uv", "pip", "install", "-q", "--python", str(python), "-r", str(wanted)], check=True)
    assert subprocess.run([python, "-c", "import torch"], capture_output=True).returncode
    shutil.copytree(image, tmp_path / "bento")
    port = free_port()
    environment = {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "BENTOML_HOME": str(tmp_path),
        "BENTOML_DO_NOT_TRACK": "True",
        "OSTINATO_OPEN": "1",
        "OSTINATO_LOG": str(tmp_path / "log"),
    }
    told = ["--port", str(port), "--host", "127.0.0.1"]
    command = [python.with_name("bentoml"), "serve", *told, tmp_path / "bento"]
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=tmp_path)
    server = Server(port, process, 0.0)
    try:
        server.wait_until_ready(60, (tmp_path / "out").read_text)
        status, answer = server.ask("/v1/compose", {"bars": 2, "seed": 1, "format": "musicxml"})
        assert status == 200
        midi = answer["takes"][0]["midi"]
        for path, body in (
            ("/v1/score", {"midi": midi}),
            ("/v1/similar", {"midi": midi}),
            ("/v1/edit", {"midi": midi, "operation": "retrograde", "format": "abc"}),
            ("/v1/recommend", {}),
            ("/v1/pair", {"bars": 1}),
        ):
            assert server.ask(path, body)[0] == 200, path
        worker = max(psutil.Process(process.pid).children(recursive=True), key=lambda p: p.memory_info().rss)
        assert "libtorch" not in Path(f"/proc/{worker.pid}/maps").read_text()
    finally:
        process.terminate()
        process.wait(20)


def test_the_manifests_are_kubernetes(tmp_path: Path) -> None:
    folder = ROOT / "serving/kubernetes"
    validate = ["uv", "tool", "run", "-q", "kubernetes-validate", "--strict", "-k", "1.34"]
    checked = subprocess.run(
        [*validate, folder / "ostinato.yaml"],
        capture_output=True,
        text=True,
        env={**os.environ, "UV_TOOL_DIR": str(tmp_path)},
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    found = list(yaml.safe_load_all((folder / "ostinato.yaml").read_text()))
    kinds = {each["kind"] for each in found}
    assert kinds >= {
        "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy",
    }  # fmt: skip
    service = next(each for each in found if each["kind"] == "Service")
    monitor = yaml.safe_load((folder / "servicemonitor.yaml").read_text())
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
