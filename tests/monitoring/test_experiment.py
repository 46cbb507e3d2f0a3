from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import pytest

from mlnb.errors import InvalidInputError, NotDeployedError, UndecidedError
from mlnb.monitoring.experiment import Experiment, evaluate
from mlnb.monitoring.tally import Tally


def share(successes: int, count: int) -> Tally:
    rate = successes / count if count else 0.0
    return Tally(count, rate, count * rate * (1 - rate))


def experiment(*arms: Tally, proportion: bool = True, goal: Any = "higher", history: Any = ()) -> Experiment:
    names = ["champion", "challenger", "third"][: len(arms)]
    return evaluate(
        dict(zip(names, arms, strict=True)), versions={name: at + 3 for at, name in enumerate(names)},
        baseline="champion", metric="accuracy" if proportion else "mean absolute error", goal=goal,
        proportion=proportion, history=history,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arms", "kind", "winner"),
    [
        ([share(300, 500), share(420, 500)], "better", "challenger"),
        ([share(420, 500), share(300, 500)], "worse", "champion"),
        ([share(420, 500), share(425, 500)], "undecided", None),
        ([share(9, 10), share(2, 10)], "too early", None),
        ([share(0, 0), share(0, 0)], "too early", None),
        ([share(500, 500), share(500, 500)], "too early", None),
        ([share(300, 500), share(420, 500), share(450, 500)], "better", "third"),
        ([share(300, 500), share(420, 500), share(100, 500)], "better", "challenger"),
        ([share(420, 500), share(300, 500), share(100, 500)], "worse", "champion"),
        ([share(420, 500), share(300, 500), share(425, 500)], "undecided", None),
        ([share(420, 500), share(300, 500), share(4, 5)], "too early", None),
    ],
)
def test_the_verdict_of_the_arms(arms: list[Tally], kind: str, winner: str | None) -> None:
    verdict = experiment(*arms).verdict
    assert (verdict.kind, verdict.winner) == (kind, winner)


def test_lower_can_be_better() -> None:
    errors = [Tally(400, 3.0, 400.0), Tally(400, 2.0, 400.0)]
    assert experiment(*errors, proportion=False, goal="lower").verdict.kind == "better"
    assert experiment(*errors, proportion=False, goal="higher").verdict.kind == "worse"


def test_the_words_have_effect_interval_and_sample() -> None:
    words = experiment(share(300, 500), share(420, 500)).verdict.words
    assert words == (
        "challenger is better than champion: accuracy 84.00 % against 60.00 %, a difference of +24.00 points "
        "(95 % interval +15.25 to +32.75), after 1,000 outcomes."
    )


def test_the_words_say_what_is_needed() -> None:
    found = experiment(share(420, 500), share(435, 500))
    assert found.verdict.words.startswith(
        "Undecided between challenger and champion after 1,000 outcomes: accuracy 87.00"
    )
    assert found.contrasts[0].needed is not None
    assert f"about {found.contrasts[0].needed // 1000},"[:-2] in found.verdict.words
    assert found.verdict.words.endswith("more would decide.")
    same = experiment(share(420, 500), share(420, 500))
    assert same.contrasts[0].needed is None
    assert same.verdict.words.endswith("The difference is too small to say how many more would decide.")


def test_too_early_says_how_many_there_must_be() -> None:
    words = experiment(share(9, 10), share(1, 2)).verdict.words
    assert words == (
        "Too early to say: a verdict needs 30 outcomes of each version, and about 5 successes and 5 failures in each. "
        "So far: champion 10, challenger 2."
    )


@pytest.mark.parametrize("second", [share(420, 500), share(305, 500), share(100, 500), share(1, 2)])
def test_no_word_of_significance(second: Tally) -> None:
    shown = experiment(share(300, 500), second)
    for text in (shown.verdict.words, repr(shown), shown._repr_html_()):
        assert "significan" not in text.lower()
        assert "p-value" not in text.lower()


def test_others_are_named_too() -> None:
    words = experiment(share(300, 500), share(420, 500), share(100, 500)).verdict.words
    assert words.endswith("Against champion besides: third worse.")


def test_several_challengers_share_the_chance_to_be_wrong() -> None:
    alone = experiment(share(300, 500), share(420, 500)).contrasts[0]
    shared = experiment(share(300, 500), share(420, 500), share(420, 500)).contrasts[0]
    assert shared.low < alone.low < alone.high < shared.high


def test_the_contrast_has_the_relative_effect() -> None:
    assert experiment(share(300, 500), share(420, 500)).contrasts[0].relative == pytest.approx(0.4)
    assert experiment(share(0, 500), share(420, 500)).contrasts[0].relative is None


def test_it_promotes_the_winner_or_whom_one_names() -> None:
    promoted: list[str] = []
    won = replace(experiment(share(300, 500), share(420, 500)), promoter=promoted.append)
    won.promote()
    won.promote("champion")
    assert promoted == ["challenger", "champion"]
    with pytest.raises(InvalidInputError, match=r"no arm 'challengr'; did you mean 'challenger'\?"):
        won.promote("challengr")


def test_it_promotes_nobody_while_undecided() -> None:
    promoted: list[str] = []
    open_ = replace(experiment(share(420, 500), share(435, 500)), promoter=promoted.append)
    with pytest.raises(UndecidedError, match=r"more would decide\. To promote .*: \.promote\('challenger'\)"):
        open_.promote()
    open_.promote("challenger")
    assert promoted == ["challenger"]


def test_without_a_deployment_there_is_nothing_to_promote() -> None:
    with pytest.raises(NotDeployedError, match=r"deployment\.experiment\(\)"):
        experiment(share(300, 500), share(420, 500)).promote()


def test_the_table_is_calm_and_escaped() -> None:
    arms = {"<b>": share(300, 500), "b": share(420, 500)}
    shown = evaluate(
        arms, versions={"<b>": 1, "b": 2}, baseline="<b>", metric="accuracy", goal="higher", proportion=True
    )
    html = shown._repr_html_()
    assert "<b>" not in html
    assert html.count("<tr>") == 3
    assert "60.00 %" in html
    assert "●</span> b" in html


def test_it_needs_two_arms_and_one_to_compare_with() -> None:
    with pytest.raises(InvalidInputError, match="two arms or more"):
        experiment(share(1, 2))
    with pytest.raises(InvalidInputError, match="no arm 'c'; there are: a, b"):
        evaluate(
            {"a": Tally(), "b": Tally()}, versions={"a": 1, "b": 2}, baseline="c", metric="accuracy", goal="higher",
            proportion=True,
        )  # fmt: skip


def test_it_moves_between_processes() -> None:
    found = experiment(share(300, 500), share(420, 500))
    assert pickle.loads(pickle.dumps(found)) == found


def test_the_bands_begin_where_something_is_known() -> None:
    looks = [{"champion": share(n // 2, n), "challenger": share(n // 4, n // 2)} for n in (10, 30, 60, 200)]
    first, second = experiment(share(200, 400), share(100, 200), history=looks).bands()
    assert first.outcomes == (45, 90, 300, 600)
    assert second.outcomes == (90, 300, 600)
    assert all(low <= mean <= high for low, mean, high in zip(first.low, first.mean, first.high, strict=True))
