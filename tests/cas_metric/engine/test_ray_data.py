"""Ray scores the parts: the bytes of an undisturbed run, also when a worker is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cas_metric.engine.ray_data import _cause
from cas_metric.errors import CasError, InputError
from cas_metric.verbs.demo import draw_world

FILES = ("per_image.parquet", "per_image.csv", "real_per_image.parquet", "floor_per_image.parquet")


def test_what_a_worker_raised_is_told_and_not_what_ray_makes_of_it() -> None:
    inner = InputError("no such image", fix="look again")
    outer = RuntimeError("UserCodeException")
    outer.__cause__ = inner
    assert _cause(outer) is inner
    told = _cause(RuntimeError("Actor died\n  at line 1\nValueError: torn"))
    assert isinstance(told, CasError)
    assert "ValueError: torn" in told.problem
    assert told.fix


def _workers(driver: int) -> list[psutil.Process]:
    return [
        one
        for one in psutil.Process(driver).children(recursive=True)
        if one.name().startswith("ray::MapWorker")
    ]


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_costs_no_byte(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    real, generated = draw_world(tmp_path / "world", "chexpert", 256, 0)
    words = [sys.executable, "-m", "cas_metric.cli", "score", generated, real, "--batch-size", "8"]
    environment = {
        **os.environ,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": "200000000",
        "OMP_NUM_THREADS": "1",
    }
    quiet = {"env": environment, "stdout": subprocess.DEVNULL}
    whole, run = tmp_path / "whole", tmp_path / "run"
    subprocess.run([*words, "--out", whole, "--cache", tmp_path / "a"], check=True, **quiet)
    driver = subprocess.Popen(
        [*words, "--out", run, "--cache", tmp_path / "b", "--engine", "ray"], **quiet
    )
    killed = None
    while driver.poll() is None and killed is None:
        done = len(list(run.glob("rows/*.parquet")))
        workers = _workers(driver.pid) if done >= 2 else []
        if len(workers) == 2:
            killed = done, workers[0].pid
            workers[0].kill()
        time.sleep(0.02)
    assert driver.wait(timeout=600) == 0
    parts = len(list(run.glob("rows/*.parquet")))
    print(f"worker {killed} of two was killed when {killed[0]} of {parts} parts were done")
    assert killed[0] < parts
    for name in FILES:
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
