from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.error import UsageError

from mlnb.magics.arguments import evaluate, split, unquote


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("  model   --name  tumour ", ["model", "--name", "tumour"]),
        ('m --metrics {"a": 1, "b": [2, 3]} --no-panel', ["m", "--metrics", '{"a": 1, "b": [2, 3]}', "--no-panel"]),
        ("make_pipeline(StandardScaler(), Ridge()).fit(X, y)", ["make_pipeline(StandardScaler(), Ridge()).fit(X, y)"]),
        ('m --description "it\'s (fine"', ["m", "--description", '"it\'s (fine"']),
        (r'm --description "a \" b" c', ["m", "--description", r'"a \" b"', "c"]),
        ("X[:100, 1]", ["X[:100, 1]"]),
    ],
)
def test_split(line: str, words: list[str]) -> None:
    assert split(line) == words


@pytest.mark.parametrize(("line", "closing"), [("(model", r"\)"), ('m --metrics {"a"', "}"), ('--name "x', '"')])
def test_what_is_not_closed_is_said(line: str, closing: str) -> None:
    with pytest.raises(UsageError, match=f"A {closing} is missing"):
        split(line)


@given(st.lists(st.from_regex(r"[a-z0-9_.:@-]+", fullmatch=True)))
def test_plain_words_split_as_in_a_shell(words: list[str]) -> None:
    assert split(" ".join(words)) == shlex.split(" ".join(words))


@given(st.text())
def test_what_python_quotes_is_unquoted_once(text: str) -> None:
    assert unquote(repr(text)) == text


def test_a_quote_that_is_no_python_text_loses_its_quotes_all_the_same() -> None:
    assert unquote(r'"C:\users"') == r"C:\users"


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("x", 5),
        ("x + 1", 6),
        ('{"a": x}', {"a": 5}),
        ("\"{'a': 1}\"", {"a": 1}),
        ('{"a": true, "b": null}', {"a": True, "b": None}),
        ("[x for _ in range(2)]", [5, 5]),
    ],
)
def test_evaluate(word: str, value: object) -> None:
    assert evaluate("--metrics", word, {"x": 5}) == value


@pytest.mark.parametrize(
    ("word", "says"),
    [("y", "name 'y' is not defined"), ("x.z", "AttributeError"), ("x +", "SyntaxError"), ("1/0", "ZeroDivisionError")],
)
def test_what_has_no_value_is_said_with_its_option(word: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        evaluate("--input", word, {"x": 5})
    assert str(caught.value).startswith(f"--input {word}: ")
