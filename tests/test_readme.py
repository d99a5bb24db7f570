"""The two READMEs against the code and against each other."""

import re
from dataclasses import fields

import pytest
from conftest import ROOT

import gan_demo
import gan_evaluate
import gan_inference

READMES = ["README.md", "README.zh-CN.md"]
SCRIPTS = [gan_demo, gan_inference, gan_evaluate]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def code_blocks(text):
    return re.findall(r"^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def tables(text):
    """Each table as a list of rows of cells, without the ruler below its head."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [
        [
            [cell.strip() for cell in line[1:-1].split("|")]
            for line in block.splitlines()
            if "---" not in line
        ]
        for block in blocks
    ]


def skeleton(cell):
    """What of a cell is the same in every language: code, links and numbers."""
    return sorted(re.findall(r"`[^`]*`|\([^)\s]*\.\w+\)|\d[\d.,]*\d|\d", cell))


def test_both_languages_have_the_same_commands_pictures_and_tables():
    english, chinese = map(read, READMES)
    assert code_blocks(english) == code_blocks(chinese)
    assert len(code_blocks(english)) >= 8
    picture = r"!\[[^]]*\]\(([^)]*)\)"
    assert re.findall(picture, english) == re.findall(picture, chinese)
    assert len(tables(english)) == len(tables(chinese)) >= 4
    for ours, theirs in zip(tables(english), tables(chinese)):
        assert [[skeleton(cell) for cell in row] for row in ours[1:]] == [
            [skeleton(cell) for cell in row] for row in theirs[1:]
        ]
    assert english.count("\n## ") == chinese.count("\n## ")
    assert "(README.zh-CN.md)" in english and "(README.md)" in chinese


@pytest.mark.parametrize("readme", READMES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_the_tables_list_every_constant_with_its_default(readme, script):
    expected = [
        (f"`{field.name}`", "" if field.default == "" else f"`{field.default}`")
        for field in fields(script.Config)
    ]
    listed = [[(row[0], row[1]) for row in table[1:]] for table in tables(read(readme))]
    assert expected in listed


@pytest.mark.parametrize("readme", READMES)
def test_every_link_into_the_repository_leads_somewhere(readme):
    text = read(readme)
    links = re.findall(r"\]\(([^)]+)\)", text)
    local = [link for link in links if not link.startswith(("http", "#"))]
    assert local and all((ROOT / link).exists() for link in local), local
    sections = re.findall(r"^## (.+)$", text, re.MULTILINE)
    anchors = {"#" + section.lower().replace(" ", "-") for section in sections}
    assert {link for link in links if link.startswith("#")} <= anchors


@pytest.mark.parametrize("readme", READMES)
def test_ci_runs_the_test_command(readme):
    command = next(block for block in code_blocks(read(readme)) if "pytest" in block)
    assert command in read(".ci/run")


def test_every_flag_in_the_readmes_exists():
    names = {field.name for script in SCRIPTS for field in fields(script.Config)}
    names |= {field.name for field in fields(gan_demo.Call)}
    calls = re.findall(r"gan_\w+\.py(.*)", "".join(code_blocks(read("README.md"))))
    flags = set(re.findall(r"--([a-z][a-z-]+)", " ".join(calls)))
    assert len(flags) > 10
    assert {flag.replace("-", "_") for flag in flags} <= names
