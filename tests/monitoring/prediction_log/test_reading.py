from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from monitoring.prediction_log.events import NOW, event, events

from mlnb.errors import InvalidInputError
from mlnb.monitoring.outcomes import Label
from mlnb.monitoring.prediction_log import LogSettings, PredictionLog, find, labelled, read
from mlnb.monitoring.prediction_log.opening import LogUnavailableError


def written(settings: LogSettings, *given: Any) -> None:
    with PredictionLog(settings) as log:
        log.put(list(given))


def test_nothing_was_ever_logged(settings: LogSettings) -> None:
    table = read(settings, "iris")
    assert table.empty
    assert "prediction" in table.columns
    assert find(settings, "iris", ["a"]) == {}
    assert labelled(settings, "iris") == []
    assert settings.file is None or not settings.file.exists()


def test_a_request_with_many_rows_has_many(settings: LogSettings) -> None:
    written(
        settings,
        event("a", rows=2, inputs=((1.0, 2.0), (3.0, 4.0)), prediction=(0.5, 1.5)),
        event("b", rows=0, inputs=None, prediction=None, status=422, error="No"),
        event("c", rows=2, inputs=[{"x0": 5.0}, {"x1": 6.0}], prediction=(1, 2), at=NOW + 1),
    )
    table = read(settings, "iris")
    assert table["request_id"].tolist() == ["a", "a", "b", "c", "c"]
    assert table["rows"].tolist() == [2, 2, 0, 2, 2]
    assert table["x0"].tolist()[:2] == [1.0, 3.0]
    assert np.isnan(table["x0"].tolist()[2])
    assert table["x1"].tolist()[4] == 6.0
    assert table["prediction"].dropna().tolist() == [0.5, 1.5, 1, 2]
    assert table["error"].tolist()[2] == "No"


def test_numbers_stay_what_they_are_beside_requests_that_were_refused(file: LogSettings) -> None:
    refused = event("no", rows=0, inputs=None, prediction=None, status=422, error="No", at=NOW + 1)
    written(file, event("a", inputs=[[3, "x", True, 0.5]], prediction=(7,), at=NOW + 1e-7 / 3), refused)
    table = read(file, "iris")
    assert table["prediction"].dtype == table["x0"].dtype == "Int64"
    assert table["prediction"].tolist() == [7, pd.NA]
    assert (table["x1"].tolist(), table["x2"].tolist()) == (["x", None], [True, None])
    assert table["x3"].dtype == float
    assert table["error"].tolist() == [None, "No"]
    assert table["label"].tolist() == [None, None]
    assert table["rows"].dtype == table["version"].dtype == int
    assert [moment.nanosecond for moment in table["at"]] == [0, 0]
    assert str(table["at"].dt.tz) == "UTC"


def test_a_table_without_gaps_is_plain(file: LogSettings) -> None:
    written(file, event("a", inputs=[[3, 1.5]], prediction=(7,)))
    table = read(file, "iris")
    assert [table[name].dtype.kind for name in ("x0", "x1", "prediction")] == ["i", "f", "i"]


def test_which_ones(settings: LogSettings) -> None:
    written(settings, *events(10), event("other", model="other"), event("old", version=2, at=NOW - 7200))

    def chosen(**wanted: Any) -> list[str]:
        return list(read(settings, "iris", **wanted)["request_id"])

    assert chosen(version=2) == ["old"]
    assert chosen(limit=2) == ["r8", "r9"]
    assert chosen(limit=0) == []
    assert chosen(until=NOW - 3600) == ["old"]
    assert chosen(since=NOW + 0.0045, until=NOW + 0.0065) == ["r5", "r6"]
    assert chosen(since=timedelta(hours=1), limit=1) == ["r9"]
    assert chosen(until=datetime.fromtimestamp(NOW - 60, UTC)) == ["old"]
    assert chosen(until=datetime.fromtimestamp(NOW - 60, UTC).isoformat()) == ["old"]
    assert chosen(since=pd.Timestamp.now() + pd.Timedelta(days=1)) == []
    assert chosen(since="1h", limit=1) == ["r9"]
    assert chosen(until="60 min") == ["old"]


@pytest.mark.parametrize(
    "wrong", [{"since": "soon"}, {"since": "1 fortnight"}, {"until": float("nan")}, {"since": True}, {"limit": -1}]
)
def test_wrong_questions(file: LogSettings, wrong: dict[str, Any]) -> None:
    written(file, event("a"))
    with pytest.raises(InvalidInputError, match=rf"The log's '{next(iter(wrong))}' is"):
        read(file, "iris", **wrong)


@pytest.mark.parametrize(
    ("inputs", "names", "columns"),
    [
        ([[1.0, 2.0]], ("a", "b"), {"a": 1.0, "b": 2.0}),
        ([[1.0, 2.0]], None, {"x0": 1.0, "x1": 2.0}),
        ([[1.0, 2.0]], ("a",), {"a": [1.0, 2.0]}),
        (["a text"], ("text",), {"text": "a text"}),
        (["a text"], None, {"text": "a text"}),
        ([[1.0, 2.0]], ("rows", "label"), {"input rows": 1.0, "input label": 2.0}),
        (np.ones((1, 2)), ("a", "b"), {"a": 1.0, "b": 1.0}),
        (pd.DataFrame({"b": ["x"]}), ("b",), {"b": "x"}),
        (np.zeros((1, 2, 2)), ("tensor",), {"tensor": [[0.0, 0.0], [0.0, 0.0]]}),
    ],
)
def test_columns_of_inputs(file: LogSettings, inputs: Any, names: Any, columns: dict[str, Any]) -> None:
    with PredictionLog(file) as log:
        if names is not None:
            log.name_fields("iris", 3, names)
        log.put([event("a", inputs=inputs)])
    row = read(file, "iris").iloc[0]
    assert {name: row[name] for name in columns} == columns


def test_found_by_id(settings: LogSettings) -> None:
    with PredictionLog(settings) as log:
        log.put(events(6000))
        log.put([event("same", at=NOW), event("same", at=NOW + 9, prediction=("later",))])
        log.put([event("p", prediction=(float("nan"),), probabilities=np.array([[0.25, 0.75]]))])
        log.flush()
        log.put([event("jumped", at=NOW + 1e8), event("back", at=3.0)])
        log.put([event("r5", model="other", prediction=("no",))])
        log.put_labels("iris", [Label("r7", label="setosa")])
        log.flush()
        wanted = ["r5", "r7", "r5999", "same", "p", "jumped", "back", "unknown"]
        found = find(settings, "iris", wanted)
    assert sorted(found) == sorted(wanted[:-1])
    r5 = found["r5"].event
    assert (r5.version, r5.at, r5.inputs, r5.replica) == (3, NOW + 0.005, [[5.1, 3.5]], 2)
    assert r5.prediction is not None
    assert r5.prediction.tolist() == ["setosa"]
    assert found["r5"].label is None
    assert found["r7"].label == Label("r7", label="setosa")
    later, probable = found["same"].event.prediction, found["p"].event.probabilities
    assert later is not None
    assert later.tolist() == ["later"]
    assert probable is not None
    assert probable.tolist() == [[0.25, 0.75]]
    assert find(settings, "iris", []) == {}
    assert len(find(settings, "iris", [f"r{number}" for number in range(6000)])) == 6000


def test_small_writes_share_a_batch(file: LogSettings) -> None:
    with PredictionLog(file) as log:
        for number in range(20):
            log.put([event(f"r{number}", at=NOW + number)])
            assert log.flush()
        log.put([event("much later", at=NOW + 3600)])
        assert log.flush()
    import sqlite3

    assert file.file is not None
    with sqlite3.connect(file.file) as connection:
        sizes = [len(ids) // 4 for (ids,) in connection.execute("SELECT ids FROM mlnb_batches ORDER BY id")]
    connection.close()
    assert sizes == [20, 1]
    assert len(find(file, "iris", ["r0", "r19", "much later"])) == 3


def test_a_server_that_is_not_there() -> None:
    from waiting import free_port

    settings = LogSettings(url=f"postgresql://me:secret@127.0.0.1:{free_port()}/d")
    with pytest.raises(LogUnavailableError, match="cannot be read") as caught:
        read(settings, "iris")
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database(file: LogSettings) -> None:
    assert file.file is not None
    file.file.parent.mkdir()
    file.file.write_text("no database" * 1000)
    with pytest.raises(LogUnavailableError, match="not a database"):
        find(file, "iris", ["a"])
