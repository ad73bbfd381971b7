"""All four kinds of judge pass one suite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sealegs_learning.judge.base import Frame, Judge, Pair
from sealegs_learning.judge.conformance import JudgeConformance
from sealegs_learning.judge.embedded_judge import EmbeddedJudge
from sealegs_learning.judge.endpoint import EndpointConfig, EndpointJudge
from sealegs_learning.judge.oracle import OracleJudge, find_curve
from sealegs_learning.judge.transformers_judge import TransformersConfig, TransformersJudge

TASK = "make it bright"


@pytest.fixture
def pairs(frames: list[Frame]) -> list[Pair]:
    return [(frames[0], frames[5]), (frames[7], frames[2]), (frames[3], frames[4]), (frames[11], frames[1])]


@pytest.fixture
def task_text() -> str:
    return TASK


class TestOracle(JudgeConformance):
    @pytest.fixture
    def judge(self) -> Judge:
        return OracleJudge(np.linspace(0, 1, 12), (TASK,), find_curve("vlm_drawer"), seed=3)


class TestEmbedded(JudgeConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def judge(cls) -> Judge:
        return EmbeddedJudge()

    @pytest.fixture
    def task_text(self) -> str:
        return "open the drawer"


class TestTransformers(JudgeConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def judge(cls, tiny_llava: Path) -> Judge:
        return TransformersJudge(TransformersConfig(str(tiny_llava), prose_tokens=4, answer_tokens=3))


class TestEndpoint(JudgeConformance):
    @pytest.fixture
    def judge(self, chat_server) -> Judge:
        with EndpointJudge(EndpointConfig(chat_server.base_url, "tiny")) as judge:
            yield judge
