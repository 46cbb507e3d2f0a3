"""The figures of the README were measured, its links lead somewhere, and its translation says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-TW.md")
RESULTS = ROOT / "tests/benchmarks/RESULTS.md"
SERVERS = {
    "mlnb, one process": "mlnb, one process",
    "mlnb, 1 replica beside a kernel": "mlnb, 1 replica",
    "mlnb, one process, `--accelerate`": "mlnb, one process, accelerated",
    "vetiver, checks off, 2 workers": "vetiver, checks off, 2 workers",
    "FastAPI, pydantic and `predict`, as one writes it": "the seed's design",
    "KServe, 2 workers": "KServe, 2 workers",
    "MLServer, batching": "MLServer, batching",
    "LitServe, batching": "LitServe, batching, 2 API servers",
    "MLflow, 2 workers": "MLflow, 2 workers",
    "BentoML, batching, 2 workers": "BentoML, batching, 2 workers",
    "Ray Serve, batching": "Ray Serve, batching",
}
TOOLS = {  # the columns of the comparison, as they were measured and where their versions stand
    "mlnb": ("mlnb, one process", ""),
    "MLflow": ("MLflow, 2 workers", "mlflow"),
    "BentoML": ("BentoML, batching, 2 workers", "bentoml"),
    "Ray Serve": ("Ray Serve, batching", "ray"),
    "LitServe": ("LitServe, batching, 2 API servers", "litserve"),
    "KServe": ("KServe, 2 workers", "kserve"),
    "vetiver": ("vetiver, checks off, 2 workers", "vetiver"),
}
LARGE = {"": 1, "million": 1_000_000, "萬": 10_000}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def row(text: str, beginning: str) -> list[str]:
    """Return the cells of the one line of a table that begins so, without what they link to."""
    (found,) = [cells(line) for line in text.splitlines() if line.startswith(f"| {beginning}")]
    return [re.sub(r"\[([^\]]*)\]\[[\w-]+\]", r"\1", cell) for cell in found]


def measured(table: str, server: str, column: int) -> str:
    """Return the median that the benchmark wrote."""
    return row(table, f"{server} |")[column].partition(" ")[0]


def tables_of_results() -> list[str]:
    """Return the tables of LogisticRegression and of the forest."""
    heading = r"^## (?:LogisticRegression|RandomForestClassifier\(100\))$"
    return re.split(heading, RESULTS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]


def prose(text: str) -> str:
    """Return it without blocks of code and definitions of links."""
    return re.sub(r"^```.*?^```$|^\[[\w-]+\]: .*$", "", text, flags=re.MULTILINE | re.DOTALL)


def sections(name: str) -> list[str]:
    return re.split(r"^## ", read(name), flags=re.MULTILINE)


def headings(name: str) -> list[str]:
    return [section.splitlines()[0] for section in sections(name)[1:]]


def code(section: str) -> list[str]:
    """Return the blocks of code without comments and spaces, which a translation may change."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s", "", re.sub(r"(^|\s)#.*", "", block)) for block in blocks]


def spans(section: str) -> set[str]:
    return {" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(section))}


def links(section: str) -> set[str]:
    """Return where the links of a section lead, other than to headings, which each language has its own of."""
    text = re.sub(r"`[^`]+`", "", prose(section))
    return set(re.findall(r"\]\(([^)#][^)]*)\)|\]\[([\w-]+)\]", text)) - {(name, "") for name in READMES}


def numbers(section: str) -> list[float]:
    """Return the numbers of a section in order of size, whichever way a language writes millions."""
    text = re.sub(r"`[^`]+`|\]\([^)]*\)|\]\[[\w-]+\]", " ", prose(section))
    found = re.findall(r"(\d[\d,]*(?:\.\d+)?) ?(million|萬)?", text)
    return sorted(float(number.replace(",", "")) * LARGE[unit] for number, unit in found)


def shape(section: str) -> list[int]:
    """Return how many cells each line of the tables has, and how many points there are."""
    return [len(cells(line)) for line in section.splitlines() if line.startswith("|")] + [section.count("\n- ")]


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("ours", SERVERS)
def test_a_row_of_the_serving_table_is_what_was_measured(ours: str) -> None:
    logistic, forest = tables_of_results()
    expected = [measured(table, SERVERS[ours], column) for table, column in [(logistic, 1), (forest, 1), (forest, 4)]]
    stated = row(read("README.md"), f"{ours} |")[1:]
    assert stated == [f"{float(text.replace(',', '')):,.0f}" for text in expected]


@pytest.mark.parametrize(
    ("beginning", "column"),
    [("forest, 64 connections, requests/s", 1), ("forest, start", 6), ("forest, memory", 7)],
)
def test_the_figures_of_the_comparison_are_what_was_measured(beginning: str, column: int) -> None:
    forest = tables_of_results()[1]
    assert row(read("README.md"), beginning)[1:] == [measured(forest, server, column) for server, _ in TOOLS.values()]


@pytest.mark.parametrize("tool", list(TOOLS)[1:])
def test_the_comparison_names_the_version_that_was_measured(tool: str) -> None:
    (compared,) = [section for section in sections("README.md") if section.startswith("Compared with other tools")]
    assert row(compared, "| mlnb |") == ["", *TOOLS]
    environment = TOOLS[tool][1]
    packages = row(RESULTS.read_text(encoding="utf-8").partition("## Versions")[2], f"{environment} |")[1]
    (version,) = re.findall(rf"(?:^|, ){environment} ([\d.]+)", packages)
    assert f"{tool.removesuffix(' Serve')} {version}" in compared


def test_the_sizes_of_images_are_the_same_in_both_tables() -> None:
    text = read("README.md")
    sizes = row(text, "image, of that `python:3.11-slim`")[1:]
    assert sizes == [f"{size} MB" for size in row(text, "image of iris, MB")[1:4]]


@pytest.mark.parametrize("name", READMES)
def test_every_link_leads_to_something_that_is_there(name: str) -> None:
    text = re.sub(r"`[^`]+`", "", prose(read(name)))
    defined = dict(re.findall(r"^\[([\w-]+)\]: (\S+)", read(name), flags=re.MULTILINE))
    used = set(re.findall(r"\]\[([\w-]+)\]", text))
    assert used == set(defined)
    targets = [*re.findall(r"\]\(([^)\s]+)", text), *defined.values()]
    anchors = {f"#{slug(heading)}" for heading in headings(name)}
    assert {target for target in targets if target.startswith("#")} <= anchors
    files = {target for target in targets if not target.startswith(("#", "https://"))}
    assert not {file for file in files if not (ROOT / file).is_file()}


@pytest.mark.parametrize("name", READMES)
def test_every_test_that_is_linked_is_in_its_file(name: str) -> None:
    linked = re.findall(r"^\[[\w-]+\]: (tests/\S+\.py) \"(\w+)\"$", read(name), flags=re.MULTILINE)
    assert len(linked) > len(TOOLS)
    assert not [(file, test) for file, test in linked if f"def {test}(" not in read(file)]


def test_the_translation_has_the_same_sections_and_links() -> None:
    ours, theirs = (read(name) for name in READMES)
    assert len(headings("README.md")) == len(headings("README.zh-TW.md"))
    definitions = [re.findall(r"^\[[\w-]+\]: .*$", text, flags=re.MULTILINE) for text in (ours, theirs)]
    assert definitions[0] == definitions[1]


@pytest.mark.parametrize("number", range(len(sections("README.md"))), ids=["at the top", *headings("README.md")])
def test_a_section_of_the_translation_says_the_same(number: int) -> None:
    ours, theirs = (sections(name)[number] for name in READMES)
    assert code(ours) == code(theirs)
    assert spans(ours) == spans(theirs)
    assert links(ours) == links(theirs)
    assert shape(ours) == shape(theirs)
    assert numbers(ours) == numbers(theirs)
