"""What the README says was found is what the pages say."""

import json
import re

from fewlabels import paths
from fewlabels.book import notebooks


def plain(text: str) -> str:
    """Without marks, and in one line."""
    return re.sub(r"\s+", " ", re.sub(r"\[([^][]*(?:\[[^]]*\][^][]*)?)\]\{\.number\}", r"\1", text))


def answers() -> str:
    """The answers of all frozen chapters."""
    found = []
    for page in sorted(paths.CHAPTERS.glob("*.ipynb")):
        frozen = notebooks.frozen(page) / "execute-results" / "html.json"
        text = json.loads(frozen.read_text(encoding="utf-8"))["result"]["markdown"]
        found += re.findall(r"^::: \{#answer-[^}]*\.answer\}\n(.*?)^:::$", text, re.M | re.S)
    return plain(" ".join(found))


def test_the_findings_of_the_readme_stand_in_the_chapters():
    readme = (paths.ROOT / "README.md").read_text(encoding="utf-8").split("![")[0]
    findings = re.findall(r"^- \*\*[^*]+\*\* (.*?)(?=^- |\Z)", readme, re.M | re.S)
    assert len(findings) == 5
    said = answers()
    for finding in findings:
        assert plain(finding).strip() in said


def test_the_record_that_the_readme_shows_is_there():
    readme = (paths.ROOT / "README.md").read_text(encoding="utf-8")
    record, files = re.search(r"`grep -h (\w+) (\S+) ", readme).groups()
    assert any(record in file.read_text(encoding="utf-8") for file in paths.ROOT.glob(files))


def test_marks_are_taken_off():
    assert plain("gives [99.4%]{.number} of\nthem") == "gives 99.4% of them"
    assert (
        plain("scores [77.6 [77.0, 78.2]%]{.number} (n = 3)") == "scores 77.6 [77.0, 78.2]% (n = 3)"
    )
