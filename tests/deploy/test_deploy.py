"""Recipes for clusters: what cannot run here is linted, and every command is one of ours."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.docs.test_documentation import complaint

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent


def run(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, **options
    )


def test_the_docker_file_passes_its_linter() -> None:
    done = run(BIN / "hadolint", DEPLOY / "Dockerfile")
    assert done.returncode == 0, done.stdout


def test_containers_hold_the_versions_that_were_tested() -> None:
    tested = (ROOT / "constraints.txt").read_text().splitlines()
    text = (DEPLOY / "Dockerfile").read_text()
    pins = re.findall(r"\b\w+==[\d.]+", text)
    assert len(pins) == 2
    assert set(pins) <= set(tested)
    for name in ("Dockerfile", "cas-metric.def"):
        for source in re.findall(r"packages/[\w-]+|constraints\.txt", (DEPLOY / name).read_text()):
            assert (ROOT / source).exists()


def test_the_apptainer_definition_has_its_sections() -> None:
    text = (DEPLOY / "cas-metric.def").read_text()
    header = re.match(r"(?:#.*\n)*Bootstrap: docker\nFrom: (\S+)\n", text)
    assert header
    assert f"FROM {header[1]}" in (DEPLOY / "Dockerfile").read_text()
    sections = re.findall(r"^%(\w+)$", text, re.MULTILINE)
    assert sections == ["files", "post", "environment", "runscript", "test", "labels"]
    for name in ("post", "environment", "runscript"):
        (script,) = re.findall(rf"^%{name}\n((?:(?!^%).*\n)*)", text, re.MULTILINE)
        assert run("bash", "-n", input=script).returncode == 0


@pytest.mark.parametrize("number", [None, "3"])
def test_the_array_of_jobs_calls_what_we_have(number: str | None, tmp_path: Path) -> None:
    script = DEPLOY / "slurm-array.sh"
    if shutil.which("shellcheck"):
        done = run("shellcheck", script, ROOT / ".ci" / "run")
        assert done.returncode == 0, done.stdout
    fake = tmp_path / "cas"
    fake.write_text('#!/bin/sh\nfor word; do printf "%s\\n" "$word"; done\n')
    fake.chmod(0o755)
    task = {"SLURM_ARRAY_TASK_ID": number, "SLURM_ARRAY_TASK_COUNT": "16"} if number else {}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = run("bash", script, "gen.parquet", "real", "/shared/run",
               env={"PATH": path, "TMPDIR": "/scratch", **task})  # fmt: skip
    assert done.returncode == 0, done.stderr
    words = ["cas", *done.stdout.splitlines()]
    assert complaint(words) is None
    assert ("--shard" in words) is (number is not None)
    # An unreadable image of a share does not keep the last job from telling of it.
    for code in (2, 3):
        fake.write_text(f"#!/bin/sh\nexit {code}\n")
        ended = run("bash", script, "gen.parquet", "real", "/shared/run",
                    env={"PATH": path, "TMPDIR": "/scratch", **task})  # fmt: skip
        assert ended.returncode == (0 if number and code == 3 else code)
    if number:
        assert words[words.index("--shard") + 1] == "3/16"


def test_the_kubernetes_job_is_valid_and_calls_what_we_have() -> None:
    path = DEPLOY / "kubernetes-job.yaml"
    done = run(BIN / "kubernetes-validate", "--strict", path)
    assert done.returncode == 0, done.stdout + done.stderr
    job = yaml.safe_load(path.read_text())["spec"]
    (container,) = job["template"]["spec"]["containers"]
    (line,) = container["args"]
    command, _, otherwise = line.partition(" || ")
    assert otherwise == "[ $? -eq 3 ]"
    words = shlex.split(command.replace("$((JOB_COMPLETION_INDEX + 1))", "1"))
    assert complaint(words) is None
    assert words[words.index("--shard") + 1] == f"1/{job['completions']}"
