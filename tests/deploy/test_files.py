"""What is deployed: every file fits its schema, the program, and the other files."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from asr.commands import serve
from server import keys, metrics, resume
from server.probes import PATHS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
UNIT = (DEPLOY / "asr.service").read_text("utf-8")
KUBERNETES = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
SCHEMAS = "1.33"  # of Kubernetes
FOREIGN = {"kustomization.yaml", "prometheus-adapter.yaml"}  # for programs outside the cluster


def options(words: list[str]) -> argparse.Namespace:
    """What `asr serve` makes of its arguments; wrong ones end the test."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    serve.add_arguments(parser)
    return parser.parse_args(words)


def documents() -> Iterator[dict[str, Any]]:
    """Every object that is applied to a cluster."""
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra `oracles`")
    for path in KUBERNETES:
        if path.name not in FOREIGN:
            yield from yaml.safe_load_all(path.read_text("utf-8"))


def one(kind: str, name: str = "asr") -> dict[str, Any]:
    """An object of the manifests."""
    (found,) = (d for d in documents() if (d["kind"], d["metadata"]["name"]) == (kind, name))
    return found


def container() -> dict[str, Any]:
    """The server's."""
    (only,) = one("Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(only)


def image_arguments() -> list[str]:
    """What the image itself tells `asr serve`."""
    words = re.findall(r'"([^"]+)"', DOCKERFILE.rpartition("ENTRYPOINT")[2])
    assert words[:2] == ["asr", "serve"]
    return words[2:]


# The image


def test_everything_that_is_copied_exists_and_is_let_through() -> None:
    """A file that is gone, or kept from the builder, breaks the build."""
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {word for line in copied for word in line.split()}
    allowed = set(
        re.findall(r"^!(\S+)$", (DEPLOY / "Dockerfile.dockerignore").read_text(), re.MULTILINE)
    )
    assert {"asr", "server", "constraints.txt"} <= sources
    assert [name for name in sources if not (ROOT / name).exists()] == []
    assert sources == allowed


def test_the_image_does_not_run_as_root_and_stops_in_order() -> None:
    """Nobody's mistake in a container is root's; the signal is the one that drains."""
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", DOCKERFILE, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE
    told = options(image_arguments())
    assert (told.host, told.log_format) == ("0.0.0.0", "json")  # noqa: S104
    assert f"EXPOSE {told.port}\n" in DOCKERFILE
    probe = re.search(r"HEALTHCHECK .*127\.0\.0\.1:(\d+)(/\w+)'", DOCKERFILE)
    assert probe
    assert (int(probe[1]), probe[2] in PATHS) == (told.port, True)


def test_the_dockerfile_is_as_hadolint_wants_it() -> None:
    """What the linter knows about images, we need not learn in production."""
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if linter is None:
        pytest.skip("hadolint comes with the extra `oracles`")
    done = subprocess.run(
        [linter, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


# The unit


def test_the_unit_is_one_that_systemd_understands(tmp_path: Path) -> None:
    """Directives that are misspelt are ignored by systemd, and protect nothing."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed (Debian: apt install systemd)")
    unit = tmp_path / "asr.service"  # with a program that exists here
    unit.write_text(UNIT.replace("/opt/asr/bin/asr serve", "/bin/true serve"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_starts_what_there_is_and_gives_it_time_to_drain() -> None:
    """Its options are ours, and systemd does not kill before the last words are said."""
    start = re.search(r"^ExecStart=\S+ serve (.+)$", UNIT, re.MULTILINE)
    stop = re.search(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert start
    assert set(re.findall(r"/opt/asr/\w+", UNIT)) == {"/opt/asr/bin"}  # all that pip makes there
    assert stop
    told = options(shlex.split(start[1]))
    assert told.keys is not None
    assert int(stop[1]) > told.drain_seconds + 5 + 10  # last words, and the supervisor's patience
    assert "\nKillMode=mixed\n" in UNIT


# Kubernetes


def test_every_manifest_fits_its_schema() -> None:
    """Unknown fields are refused, too."""
    validator = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate comes with the extra `oracles`"
    )
    kinds = []
    for document in documents():
        kinds.append(document["kind"])
        if document["kind"] != "PodMonitor":  # the Prometheus operator's own
            validator.validate(document, SCHEMAS, strict=True)
    assert {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"} <= set(kinds)


def test_the_checker_of_manifests_would_find_a_misspelt_field() -> None:
    """Kubernetes drops what it does not know; the schemas above must not."""
    validator = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate comes with the extra `oracles`"
    )
    wrong = one("Deployment")
    wrong["spec"]["template"]["spec"]["terminationGraceSeconds"] = 330
    with pytest.raises(validator.ValidationError):
        validator.validate(wrong, SCHEMAS, strict=True)


def test_all_manifests_are_applied() -> None:
    """A file that is not listed is one that everybody believes to be there."""
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra `oracles`")
    listed = yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text())["resources"]
    assert set(listed) == {path.name for path in KUBERNETES} - FOREIGN


def test_pods_start_what_there_is() -> None:
    """Options, environment and probes are the program's."""
    pod = container()
    told = options([*image_arguments(), *pod["args"]])
    assert pod["ports"] == [{"name": "http", "containerPort": told.port}]
    assert told.store.startswith(f"redis://{one('Service', 'asr-redis')['metadata']['name']}:")
    assert {entry["name"] for entry in pod["env"]} == {keys.ENVIRONMENT, resume.SECRET_VARIABLE}
    probes = [pod[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")]
    assert [probe["path"] for probe in probes] == ["/readyz", "/readyz", "/healthz"]
    assert {probe["path"] for probe in probes} <= set(PATHS)


def test_pods_have_time_to_drain() -> None:
    """The kubelet kills when the grace is over, whatever is being said."""
    pod = container()
    told = options([*image_arguments(), *pod["args"]])
    before = float(pod["lifecycle"]["preStop"]["exec"]["command"][-1])
    grace = one("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > before + told.drain_seconds + 5 + 10


def test_everything_points_at_the_same_pods() -> None:
    """A service, budget or monitor with another label finds nothing, and says nothing."""
    labels = one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert one("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert one("Service")["spec"]["selector"] == labels
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert one("PodMonitor")["spec"]["selector"]["matchLabels"] == labels
    (port,) = one("Service")["spec"]["ports"]
    assert port["targetPort"] == container()["ports"][0]["name"]
    redis = one("Deployment", "asr-redis")["spec"]["template"]["metadata"]["labels"]
    assert one("Service", "asr-redis")["spec"]["selector"] == redis
    policy = one("NetworkPolicy", "asr-redis")["spec"]
    assert policy["podSelector"]["matchLabels"] == redis
    assert policy["ingress"][0]["from"][0]["podSelector"]["matchLabels"] == labels


def test_the_autoscaler_reads_a_figure_that_there_is() -> None:
    """By the name that the adapter gives it, made of a histogram of ours."""
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with the extra `oracles`")
    adapter = yaml.safe_load((DEPLOY / "kubernetes/prometheus-adapter.yaml").read_text())
    (rule,) = adapter["rules"]["custom"]
    spec = one("HorizontalPodAutoscaler")["spec"]
    assert spec["metrics"][0]["pods"]["metric"]["name"] == rule["name"]["as"]
    known = {f"{f.name}{end}" for f in metrics.FAMILIES for end in ("_bucket", "_count")}
    used = set(re.findall(r"asr_\w+", rule["metricsQuery"] + rule["seriesQuery"]))
    assert used == {"asr_queue_delay_seconds_bucket", "asr_queue_delay_seconds_count"} <= known
    (endpoint,) = one("PodMonitor")["spec"]["podMetricsEndpoints"]
    assert endpoint["path"] in PATHS
