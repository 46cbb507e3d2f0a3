"""Members side by side, and members that fail."""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from threads import mlnb_threads
from waiting import wait_until

from mlnb import Ensemble
from mlnb.errors import MemberError
from mlnb.registry.ensembles.asking import Asking
from mlnb.registry.ensembles.workers import Workers
from mlnb.registry.predictors import predictor

ROWS = np.zeros((3, 2))


class Member:
    """Gives the same probability of "yes" to each row, after a while, or fails."""

    def __init__(self, chance: float, *, seconds: float = 0.0, fails: BaseException | None = None) -> None:
        self.chance, self.seconds, self.fails = chance, seconds, fails
        self.calls = 0

    def __call__(self, rows: Any) -> Any:
        self.calls += 1
        time.sleep(self.seconds)
        if self.fails is not None:
            raise self.fails
        return np.tile([1 - self.chance, self.chance], (len(rows), 1))


def ensemble(*members: Member, combine: Any = "mean", **settings: Any) -> Ensemble:
    return Ensemble(list(members), combine=combine, labels=["no", "yes"], **settings)


@pytest.mark.alone
def test_five_members_take_as_long_as_the_slowest() -> None:
    ours = ensemble(*(Member(0.5, seconds=seconds) for seconds in (0.1, 0.02, 0.06, 0.1, 0.1)))
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        ours.predict(ROWS)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1.3 * 0.1
    assert len(mlnb_threads()) <= 4
    wait_until(lambda: not mlnb_threads())


def test_quick_members_are_asked_on_the_calling_thread() -> None:
    def where() -> str:
        return threading.current_thread().name

    me, asking = where(), Asking()
    questions = dict.fromkeys(("slow", "quick", "other"), where)
    assert asking.ask(questions, rows=10) == {"slow": me, "quick": "mlnb-member", "other": "mlnb-member"}
    assert set(asking._known) == set(questions)
    learnt = {"slow": (10, 0.002), "quick": (10, 0.0001), "other": (10, 0.00001)}
    asking._known.update(learnt)
    assert asking.ask(questions, rows=5) == {"slow": "mlnb-member", "quick": me, "other": me}
    asking._known.update(learnt)  # of more rows nobody knows, but it may take as many times as long
    assert asking.ask(questions, rows=100) == {"slow": "mlnb-member", "quick": "mlnb-member", "other": me}


def test_tasks_share_the_threads_that_are_free() -> None:
    workers, seen = Workers(), []
    for _ in range(50):
        done = threading.Event()
        workers.run(lambda: seen.append(threading.get_ident()), done=done.set)
        assert done.wait(10)
    assert len(set(seen)) < 10  # one, unless the machine stood still for longer than a thread waits
    assert len(mlnb_threads()) < 10
    wait_until(lambda: not mlnb_threads())
    again = threading.Event()
    workers.run(lambda: None, done=again.set)
    assert again.wait(10)


def test_many_callers_at_once() -> None:
    ours = ensemble(*(Member(chance, seconds=0.001) for chance in (0.2, 0.7, 0.9)))
    expected = ours.predict_proba(ROWS)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ours.predict_proba(ROWS), range(200)))
    assert all((one == expected).all() for one in found)


def test_members_have_the_errstate_of_the_caller() -> None:
    def divide(rows: Any) -> Any:
        return rows[:, 0] / 0.0

    with np.errstate(all="ignore"):
        assert np.isnan(
            Ensemble([divide, lambda rows: divide(rows[:2])[[0, 0, 0]]], combine="mean").predict(ROWS)
        ).all()


@pytest.mark.parametrize("combine", ["mean", "vote", "cascade"])
def test_without_a_quorum_one_failure_is_the_failure_of_all(combine: str) -> None:
    ours = ensemble(Member(0.6), Member(0.7, fails=ValueError("no\ncolumn")), Member(0.8), combine=combine)
    with pytest.raises(MemberError, match=r"^Member 'm2' failed: ValueError: no\ncolumn\.$") as caught:
        ours.predict(ROWS)
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_quorum_answers_with_the_rest_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    members = Member(0.6), Member(0.1, fails=SystemExit(3)), Member(0.8)
    ours = ensemble(*members, combine="weighted", weights=[1, 5, 3], quorum=2)
    together = predictor(ours).together
    assert together is not None
    with caplog.at_level(logging.WARNING):
        answer = together(ROWS)
    assert answer.missing == ("m2",)
    assert "Member 'm2' failed" in caplog.text
    assert answer.probabilities is not None
    assert np.allclose(answer.probabilities[:, 1], (0.6 + 3 * 0.8) / 4)  # the weights of those who answered
    assert answer.values.tolist() == ["yes"] * 3
    assert [member.calls for member in members] == [1, 1, 1]
    members[2].fails = OSError("gone")
    with pytest.raises(MemberError, match=r"'m2' failed: SystemExit: 3; so did 'm3'\. Needed are the answers of 2\."):
        ours.predict(ROWS)


def test_a_wrong_number_of_answers_is_a_failure() -> None:
    ours = Ensemble([lambda rows: rows[:1, 0], lambda rows: rows[:, 0]], combine="mean", quorum=1)
    assert ours.answer(ROWS).missing == ("m1",)


def test_those_who_answer_must_have_a_weight() -> None:
    ours = ensemble(Member(0.6, fails=ValueError()), Member(0.5), combine="vote", weights=[1, 0], quorum=1)
    with pytest.raises(MemberError, match="Those who answered, m2, have no weight"):
        ours.predict(ROWS)


def test_a_cascade_goes_on_without_the_member_that_failed() -> None:
    sure = Member(0.99)
    ours = ensemble(
        Member(0, fails=ValueError("a")), sure, Member(0, fails=ValueError("c")), combine="cascade", quorum=1
    )
    assert ours.answer(ROWS).missing == ("m1",)  # the third was not asked
    sure.chance = 0.6
    answer = ours.answer(ROWS)
    assert answer.missing == ("m1", "m3")
    assert answer.values.tolist() == ["yes"] * 3
    sure.fails = ValueError("b")
    with pytest.raises(MemberError, match="'m1' failed: ValueError: a; so did 'm2', 'm3'"):
        ours.answer(ROWS)


@pytest.mark.parametrize("combine", ["mean", "vote", "cascade"])
def test_who_is_missing_in_an_ensemble_within(combine: str) -> None:
    inner = ensemble(Member(0.7), Member(0.2, fails=ValueError("gone")), combine="mean", quorum=1)
    outer = Ensemble({"inner": inner, "other": Member(0.9)}, combine=combine)
    answer = outer.answer(ROWS)
    assert answer.missing == ("inner/m2",)
    assert answer.values.tolist() == ["yes"] * 3


def test_fitting_needs_every_member() -> None:
    ours = ensemble(Member(0.6), Member(0.5, fails=ValueError("x")), combine="weighted", quorum=1)
    with pytest.raises(MemberError, match="'m2' failed"):
        ours.fit(ROWS, ["yes"] * 3)


def test_it_answers_after_a_fork() -> None:
    ours = ensemble(Member(0.6, seconds=0.001), Member(0.7, seconds=0.001))
    ours.predict(ROWS)
    child = os.fork()
    if child == 0:
        os._exit(0 if ours.predict(ROWS).tolist() == ["yes"] * 3 else 1)
    assert os.waitpid(child, 0)[1] == 0
