"""The demo page: whole or not at all, self-contained, failures named."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from scidiffuse.core.demo import Section, build, table

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
METRICS = {"model": {"wql": 0.125, "crps <exact>": 2.0}, "seasonal naive": {"wql": 0.25, "n": "40"}}


def picture(folder: Path) -> Section:
    (folder / "fan.png").write_bytes(PNG)
    return Section(
        title="Hours & days",
        summary="First.\n\nSecond <b>.",
        figures=[folder / "fan.png"],
        captions=["a < b"],
        metrics=METRICS,
        commands=["scidiffuse x fit", "scidiffuse x forecast"],
    )


def broken(folder: Path) -> Section:
    raise RuntimeError("no <weights>")


def test_table_aligns_and_marks_what_is_absent() -> None:
    assert table(METRICS).splitlines() == [
        "                  wql  crps <exact>   n",
        "model           0.125             2   -",
        "seasonal naive   0.25             -  40",
    ]
    assert table({}) == ""
    assert table({"a": {"n": 123456, "x": 123456.0}}).splitlines()[1] == "a  123456  1.235e+05"


def test_page_holds_everything_and_escapes_it(tmp_path: Path) -> None:
    page = build(tmp_path / "out", {"x": picture})
    text = page.path.read_text(encoding="utf-8")
    assert page.path == tmp_path / "out" / "index.html" and not page.failed
    embedded = re.search(r'src="data:image/png;base64,([^"]+)"', text)
    assert embedded is not None and base64.b64decode(embedded[1]) == PNG
    assert "<h2>Hours &amp; days</h2>" in text and "<p>Second &lt;b&gt;.</p>" in text and "a &lt; b" in text
    assert "<th>crps &lt;exact&gt;</th>" in text and "<td>0.125</td>" in text and "<td>-</td>" in text
    assert "scidiffuse x fit\nscidiffuse x forecast" in text
    assert not re.search(r'(src|href)="(?!data:|#)', text), "the page must not need any other file"
    assert "@media (prefers-color-scheme: dark)" in text
    assert page.sections["x"].seconds > 0


def test_failing_wing_is_named_and_the_others_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = build(tmp_path, {"bad": broken, "good": picture})
    text = page.path.read_text(encoding="utf-8")
    assert dict(page.failed) == {"bad": "RuntimeError: no <weights>"} and list(page.sections) == ["good"]
    assert "failed: RuntimeError: no &lt;weights&gt;" in text and "Hours &amp; days" in text
    out, err = capsys.readouterr()
    assert "bad FAILED" in out and "seasonal naive   0.25" in out and "Traceback" in err


@pytest.mark.parametrize(
    "section", [None, Section("t", "s", figures=[Path("absent.png")]), Section("t", "s", figures=[Path("a.gif")])]
)
def test_unusable_section_is_a_failure(tmp_path: Path, section: Section) -> None:
    assert list(build(tmp_path, {"x": lambda folder: section}).failed) == ["x"]


def test_page_is_replaced_only_when_complete(tmp_path: Path) -> None:
    build(tmp_path, {"x": picture})
    before = (tmp_path / "index.html").read_bytes()

    def interrupted(folder: Path) -> Section:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, {"x": interrupted})
    assert (tmp_path / "index.html").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "x"}


def test_no_wing_makes_an_honest_page(tmp_path: Path) -> None:
    assert "No wing has a demonstration yet" in build(tmp_path, {}).path.read_text(encoding="utf-8")
