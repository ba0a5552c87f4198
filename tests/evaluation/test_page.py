"""The report's page is complete, agrees with the tables, and needs no other file."""

import base64
import csv
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from deepdft.evaluation.page import write_report

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags closed in order, all addresses, pictures with their captions, and the text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.pictures, self.words, self.ids = [], [], [], [], set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found["id"]} if "id" in found else set()
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        if tag == "img":
            self.pictures.append((found["src"], found["alt"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def report(tmp_path, read):
    def write(*folders, names=None, **options):
        (tmp_path / "report").mkdir(exist_ok=True)
        write_report(tmp_path / "report", *read(folders, names), **options)
        assert {path.name for path in (tmp_path / "report").iterdir()} == {"report.html", "report.md"}
        html = (tmp_path / "report" / "report.html").read_text()
        page = Page(html)
        assert page.open == []
        return html, page, (tmp_path / "report" / "report.md").read_text()

    return write


@pytest.fixture
def study(tmp_path, write_training, write_evaluation):
    """Two runs, their evaluations with pictures, and an ensemble."""
    root = tmp_path / "study"
    for name, errors in (("schnet", (30.0, 10.0)), ("painn", (20.0, 5.0))):
        write_training(root / name, errors, optimizer={"lr": 1e-3 if name == "painn" else 1e-4})
        folder = write_evaluation(
            root / f"{name}_test",
            {f"m{i}": errors[1] * (1 + i / 10) for i in range(9)} | {"odd": 99.0},
            model=name.title(),
            checkpoint=str(root / name),
        )
        for picture in ("worst.png", "worst_2.png"):
            (folder / picture).write_bytes(PNG)
    folder = write_evaluation(root / "dft", None, {f"m{i}": 0.4 + i / 100 for i in range(9)})
    (folder / "spread.png").write_bytes(PNG)
    return root


def test_the_page_holds_all_tables_and_pictures_and_needs_nothing_else(study, report):
    html, page, markdown = report(study, title="A study", subtitle="made today", worst=3)
    assert all(address.startswith("data:") or address.startswith("#") for address in page.addresses)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= page.ids
    for outside in ("http:", "https:", "//cdn", "@import", "url(", "<script", "<link"):
        assert outside not in html
    for expected in (
        "A study",
        "made today",
        "Errors of models",
        "Spread of DFT",
        "Models beside the spread of DFT",
        "Training runs",
        "Settings that differ",
        "Distribution of errors",
        "Learning curves",
        "painn_test: largest errors",
        "dft: widest spreads",
        "optimizer.lr",
        "Painn",
        "deepdft-train x=1",
    ):
        assert expected in page.text
    captions = [caption for _, caption in page.pictures]
    assert captions.count("odd, H2O") == 2
    assert captions.count("m8, H2O") == 2
    assert "m8, where the densities differ most" in captions
    for source, _ in page.pictures:
        kind, _, content = source.removeprefix("data:").partition(";base64,")
        decoded = base64.b64decode(content, validate=True)
        if kind == "image/png":
            assert decoded == PNG
        else:
            assert kind == "image/svg+xml"
            assert ET.fromstring(decoded).tag.endswith("svg")
    assert len(page.pictures) == 2 + 2 * 2 + 1
    assert markdown.startswith("# A study\n")
    assert "| qm9, test | painn_test | Painn | 5 | 2 | 10 |" in markdown


def test_names_are_text_not_markup(tmp_path, report, write_evaluation):
    write_evaluation(tmp_path / "a<b>&$x_1$", {"<i>": 1.0, "m": 2.0})
    html, page, _ = report(tmp_path / "a<b>&$x_1$")
    assert "<i>" not in html
    assert "a<b>&$x_1$: largest errors" in page.text


HOSTILE = "<script>alert(1)</script>|[x](y)\n# `a` *b* _c_ &amp; \x1b[31m$d$"


def test_hostile_names_stay_text_in_html_and_markdown(tmp_path, report, write_evaluation):
    folder = write_evaluation(tmp_path / "e", {"m": 2.0, "n": 1.0})
    with (folder / "errors.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["name", "formula", "eps_mae"], [HOSTILE, "<b>", 2.0], ["n", "H2O", 1.0]])
    html, page, markdown = report(folder, title=HOSTILE, subtitle=HOSTILE, names=[HOSTILE])
    assert "<script" not in html
    assert "alert(1)" in page.text
    assert "<script" not in markdown
    lines = markdown.splitlines()
    assert lines[0].startswith("# &lt;script&gt;")
    (row,) = [line for line in lines if line.startswith("| &lt;script&gt;")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 4  # the bars of three cells
    for markup in ("[x](y)", " `a`", " *b*", " _c_", "\x1b"):
        assert markup not in row
    assert r"\`a\` \*b\* \_c\_ &amp;amp;" in row


def test_runs_alone_and_evaluations_alone_can_be_reported(tmp_path, report, write_training, write_evaluation):
    write_training(tmp_path / "run", ())
    _, page, _ = report(tmp_path / "run")
    assert "Learning curves" not in page.text
    assert page.pictures == []
    write_evaluation(tmp_path / "e", {"a": 1.0})
    _, page, _ = report(tmp_path / "e", worst=0)
    assert "largest errors" not in page.text
    assert len(page.pictures) == 1


def test_many_runs_are_drawn_up_to_a_number_that_is_reported(tmp_path, report, write_training, write_evaluation):
    for i in range(14):
        write_training(tmp_path / "many" / f"run{i}", (20.0 + i, 10.0 + i))
        write_evaluation(tmp_path / "many" / f"test{i}", {"a": 1.0 + i})
    _, page, markdown = report(tmp_path / "many")
    reported = " ".join(caption for _, caption in page.pictures)
    assert "The 6 first of 14" in reported
    assert "The 12 best of 14 runs" in reported
    assert all(f"run{i}" in markdown and f"test{i}" in markdown for i in range(14))
