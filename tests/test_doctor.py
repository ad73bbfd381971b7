"""`sealegs doctor` on this machine, and each finding on a machine that lacks something."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sealegs import doctor


def test_this_machine_can_run_the_demo() -> None:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "sealegs", "doctor", "--json"], capture_output=True, text=True, timeout=120, check=False
    )
    assert time.perf_counter() - began < 60
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert {"Python", "ROS 2", "rendering", "torch", "onnxruntime", "GPU", "real-time priority"} <= set(checks)
    assert checks["rendering"]["state"] == "ok"
    assert checks["torch"]["found"].startswith("2.13.0")
    assert checks["onnxruntime"]["found"].endswith("; providers: cpu")
    assert [check["name"] for check in checks.values() if check["state"] != "ok" and not check["fix"]] == []


def test_the_table_names_what_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from sealegs.commands.doctor import Config, run

    found = [doctor.Check("Python", "ok", "3.11"), doctor.Check("paint", "fails", "dry", "buy [some] more")]
    monkeypatch.setattr(doctor, "examine", lambda folder: found)
    assert run(Config()) == 2
    printed = capsys.readouterr().out
    assert "The demo cannot run: paint." in printed
    assert "buy [some] more" in printed


def test_a_trial_that_crashes_is_a_finding() -> None:
    assert doctor.try_python("print(1); print('last')") == doctor.Trial(True, "last")
    assert doctor.try_python("raise ValueError('no')") == doctor.Trial(False, "ValueError: no")
    killed = doctor.try_python("import os; os.kill(os.getpid(), 11)")
    assert not killed.worked
    assert "signal 11" in killed.text


def test_a_trial_that_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TRIAL_TIMEOUT_S", 0.3)
    assert doctor.try_python("import time; time.sleep(60)") == doctor.Trial(False, "no answer within 0 s")


def test_rendering_without_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    check = doctor.check_rendering()
    assert check.state == "fails"
    assert "apt-get install -y libosmesa6" in check.fix


def test_missing_packages_name_their_extra() -> None:
    check = doctor.check_package("x", "no-such-distribution", "sim")
    assert (check.state, check.fix) == ("fails", "pip install 'sealegs[sim]'")


def test_little_space_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    1000000 kB\n")
    low = doctor.check_memory(tmp_path / "meminfo")
    assert low.state == "fails"
    assert low.found.startswith("1.0 GB available")
    monkeypatch.setattr(doctor, "MINIMUM_DISK_GB", 1e9)
    assert doctor.check_disk(tmp_path).state == "fails"
    assert doctor.check_shared_memory(tmp_path / "none").state == "fails"


def test_the_optional_is_no_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for check in (doctor.check_gpu(), doctor.check_display(), doctor.check_realtime()):
        assert check.state == "lacks"
        assert check.fix
    monkeypatch.setenv("DISPLAY", ":7")
    assert doctor.check_display().found == ":7"


def test_onnxruntime_s_providers_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ["1.31.1", {"tensorrt": "did not start", "cuda": "", "cpu": ""}]
    monkeypatch.setattr(doctor, "try_python", lambda code: doctor.Trial(True, json.dumps(answer)))
    check = doctor.check_onnxruntime()
    assert (check.state, check.found) == ("lacks", "1.31.1; providers: tensorrt (does not start), cuda, cpu")
    assert "pip install 'sealegs[gpu]'" in check.fix
    answer[1] = {"cuda": "", "cpu": ""}
    assert doctor.check_onnxruntime().state == "ok"
    monkeypatch.setattr(doctor, "installed", lambda: {"onnxruntime", "onnxruntime-gpu", "numpy"})
    assert "overwrite each other" in doctor.check_onnxruntime().fix
    monkeypatch.setattr(doctor, "try_python", lambda code: doctor.Trial(False, "No module named 'onnxruntime'"))
    assert doctor.check_onnxruntime().state == "fails"
