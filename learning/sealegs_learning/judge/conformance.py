"""What every judge must do, as tests. Inherit JudgeConformance in a test class and give it the three fixtures.

class TestMyJudge(JudgeConformance):
    @pytest.fixture
    def judge(self): ...          # the judge
    @pytest.fixture
    def task_text(self): ...      # a task that it supports
    @pytest.fixture
    def pairs(self): ...          # at least four pairs of frames whose images differ
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from sealegs_contract.errors import JudgeError
from sealegs_learning.judge.ask import ask
from sealegs_learning.judge.base import Judge, Pair, Preference, compare_all
from sealegs_learning.judge.ledger import Ledger, answer_key

UNKNOWN_TASK = "fold the laundry and put it into the wardrobe"


class _Counting:
    """A judge that counts how many pairs it is asked about."""

    def __init__(self, judge: Judge) -> None:
        self._judge, self.asked = judge, 0
        self.identity, self.prompt_version = judge.identity, judge.prompt_version
        self.supported_tasks, self.order_sensitive, self.paid = judge.supported_tasks, judge.order_sensitive, judge.paid

    def compare_many(self, task_text: str, pairs: Sequence[Pair]) -> Iterator[tuple[int, Preference]]:
        self.asked += len(pairs)
        return self._judge.compare_many(task_text, pairs)


class JudgeConformance:
    """Tests of the protocol; see the module's docstring for the fixtures."""

    def test_it_is_a_judge_with_a_stable_identity(self, judge: Judge) -> None:
        """Identity is one printable line that does not change between calls."""
        assert isinstance(judge, Judge)
        assert judge.identity
        assert judge.identity.isprintable()
        assert judge.identity == judge.identity

    def test_every_pair_is_answered_once(self, judge: Judge, task_text: str, pairs: list[Pair]) -> None:
        """Positions are complete and unique, and abstentions carry one half."""
        answers = list(judge.compare_many(task_text, pairs))
        assert sorted(position for position, _ in answers) == list(range(len(pairs)))
        for _, answer in answers:
            assert 0.0 <= answer.probability_b_better <= 1.0
            assert not answer.abstain or answer.probability_b_better == 0.5
            assert answer.provenance.seconds >= 0.0

    def test_no_pairs_no_answers(self, judge: Judge, task_text: str) -> None:
        """An empty question costs nothing."""
        assert list(judge.compare_many(task_text, [])) == []

    def test_equal_questions_get_equal_answers(self, judge: Judge, task_text: str, pairs: list[Pair]) -> None:
        """Labels can be reproduced."""
        first, second = compare_all(judge, task_text, pairs), compare_all(judge, task_text, pairs)
        assert [(a.probability_b_better, a.status) for a in first] == [
            (a.probability_b_better, a.status) for a in second
        ]

    def test_order_sensitivity_is_declared(self, judge: Judge, task_text: str, pairs: list[Pair]) -> None:
        """A judge that claims not to be order-sensitive gives complementary answers to swapped pairs."""
        if judge.order_sensitive:
            return
        forward = compare_all(judge, task_text, pairs)
        backward = compare_all(judge, task_text, [(b, a) for a, b in pairs])
        for one, other in zip(forward, backward, strict=True):
            assert one.status == other.status
            assert abs(one.probability_b_better + other.probability_b_better - 1.0) < 1e-6

    def test_unknown_tasks_are_refused(self, judge: Judge, pairs: list[Pair]) -> None:
        """A judge with a list of tasks answers nothing outside it."""
        if judge.supported_tasks is None:
            return
        try:
            compare_all(judge, UNKNOWN_TASK, pairs)
        except JudgeError as error:
            assert any(task in str(error) for task in judge.supported_tasks)  # noqa: PT017 - pytest is not imported here
        else:
            raise AssertionError(f"{judge.identity} answered a task that it does not list")

    def test_the_ledger_asks_once(self, judge: Judge, task_text: str, pairs: list[Pair], tmp_path: Path) -> None:
        """Through the ledger, a repeated question is looked up, with the same answer; a swapped one is another."""
        counting = _Counting(judge)
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            first = ask(counting, ledger, task_text, pairs)
            asked = counting.asked
            assert asked == len({answer_key(judge, task_text, pair) for pair in pairs})
            again = ask(counting, ledger, task_text, [*pairs, *pairs])
            assert counting.asked == asked
            assert [a.probability_b_better for a in again] == [a.probability_b_better for a in first] * 2
            ask(counting, ledger, task_text, [(b, a) for a, b in pairs[:1]])
            assert counting.asked == asked + 1
