"""The READMEs and the pages of docs/ against the code and against each other."""

import re
from dataclasses import fields
from inspect import get_annotations, getsource
from posixpath import dirname, join, normpath

import pytest
from conftest import ROOT

import align_faces
import gan_demo
import gan_evaluate
import gan_explore
import gan_inference
from applications import (
    context_encoder,
    cyclegan,
    icgan,
    pix2pix,
    pixeldtgan,
    pose,
    progan,
    srgan,
    stackgan,
)
from machinery.constants import Range, metadata

READMES = ["README.md", "README.zh-CN.md"]
DOCS = sorted(f"docs/{path.name}" for path in (ROOT / "docs").iterdir())
PAGES = [*READMES, *DOCS, "applications/README.md", "applications/README.zh-CN.md"]
ENGLISH = [page for page in PAGES if not page.endswith(".zh-CN.md")]
SCRIPTS = [align_faces, gan_demo, gan_inference, gan_evaluate, gan_explore]
APPLICATIONS = [
    context_encoder,
    srgan,
    pix2pix,
    cyclegan,
    icgan,
    pixeldtgan,
    pose,
    progan,
    stackgan,
]


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def in_chinese(page):
    return page.replace(".md", ".zh-CN.md")


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
    cell = cell.replace(".zh-CN.md", ".md")
    return sorted(re.findall(r"`[^`]*`|\([^)\s]*\.\w+\)|\d[\d.,]*\d|\d", cell))


def links(page):
    """Each link of a page as the path from the repository's root (or URL) and the anchor."""
    for link in re.findall(r"\]\(([^)]+)\)", read(page)):
        path, _, anchor = link.partition("#")
        inside = path and not path.startswith("http")
        yield normpath(join(dirname(page), path)) if inside else path or page, anchor


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub("```.*?```", "", read(page), flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ENGLISH)
def test_both_languages_have_the_same_commands_pictures_tables_and_links(page):
    english, chinese = read(page), read(in_chinese(page))
    assert code_blocks(english) == code_blocks(chinese)
    assert english.count("```") == 2 * len(code_blocks(english))
    picture = r"!\[[^]]*\]\(([^)]*)\)"
    assert re.findall(picture, english) == re.findall(picture, chinese)
    assert len(tables(english)) == len(tables(chinese))
    for ours, theirs in zip(tables(english), tables(chinese)):
        assert {len(row) for row in ours + theirs} == {len(ours[0])}
        assert [[skeleton(cell) for cell in row] for row in ours[1:]] == [
            [skeleton(cell) for cell in row] for row in theirs[1:]
        ]
    for heading in ("\n# ", "\n## ", "\n### "):
        assert f"\n{english}".count(heading) == f"\n{chinese}".count(heading)

    ours, theirs = ([path for path, _ in links(each)] for each in (page, in_chinese(page)))
    assert in_chinese(page) in ours and page in theirs
    theirs.remove(page)  # all others lead to Chinese pages, where there is one
    ours.remove(in_chinese(page))
    assert sorted(in_chinese(path) if path in ENGLISH else path for path in ours) == sorted(theirs)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_into_the_repository_leads_somewhere(page):
    local = [(path, anchor) for path, anchor in links(page) if not path.startswith("http")]
    assert local
    for path, anchor in local:
        assert (ROOT / path).exists(), path
        assert not anchor or anchor in anchors(path), (path, anchor)


def test_the_readmes_are_short_and_name_every_page():
    assert read("README.md").count("\n") <= 230
    assert len(DOCS) == 2 * (len(ENGLISH) - 2)  # beside the READMEs, here and of the applications
    for readme in READMES:
        named = [row[0] for row in tables(read(readme))[-1][1:]]
        pages = [page for page in DOCS if page.endswith(".zh-CN.md") == ("zh-CN" in readme)]
        assert sorted(re.search(r"\((.+)\)", cell)[1] for cell in named) == pages
    for page in DOCS:
        assert READMES["zh-CN" in page] in [path for path, _ in links(page)]


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_tables_list_every_constant_as_the_code_has_it(script):
    """The Chinese tables have the same names, defaults and numbers, as the first test says."""
    listed = [table[1:] for table in tables(read("docs/constants.md"))]
    for config in script.Config.__mro__[:-1]:  # one table for each class that declares some
        names = [f.name for f in fields(config) if f.name in get_annotations(config)]
        declared = r"^    (\w+): [^#\n]*  # (.+)$"  # in one line, where --help finds it
        comments = dict(re.findall(declared, getsource(config), re.MULTILINE))
        ranges = {
            name: note.words
            for name in comments
            for note in metadata(config, name)
            if isinstance(note, Range)
        }
        rows = []
        for name, comment in comments.items():
            default = getattr(config, name)
            cell = "" if default == "" else f"`{default}`"
            rows.append([f"`{name}`", cell, ranges.get(name, ""), comment])
        assert list(comments) == names
        assert rows in listed


@pytest.mark.parametrize("readme", READMES)
def test_ci_runs_the_test_command(readme):
    command = next(block for block in code_blocks(read(readme)) if "pytest" in block)
    assert command in read(".ci/run")


def test_every_flag_in_the_pages_exists():
    known = {f"{script.__name__}.py": {f.name for f in fields(script.Config)} for script in SCRIPTS}
    known["gan_demo.py"].add("recipe")
    for module in APPLICATIONS:
        names = {f.name for config in (module.Config, module.Use) for f in fields(config)}
        known[module.__name__] = names
    every = set.union(*known.values(), {"max_restarts"})  # torchrun's
    flag = r"--(?:no-)?([a-z][a-z0-9-]+)"
    count = 0
    for text in map(read, PAGES):
        commands = re.findall(
            r"^(?:python|torchrun) (?:\S+ )*?(\S+\.py|applications\.\w+)(.*)$",
            "".join(code_blocks(text)),
            re.MULTILINE,
        )
        for script, arguments in commands:
            names = known.get(script) or re.findall(r"^    (\w+): ", read(script), re.MULTILINE)
            flags = {name.replace("-", "_") for name in re.findall(flag, arguments)}
            assert flags <= set(names), (script, flags)
            count += len(flags)
        inline = re.findall(rf"`{flag}", text)
        assert {name.replace("-", "_") for name in inline} <= every
    assert count > 20


def test_what_the_docs_name_of_the_code_is_in_it():
    paths = [*ROOT.glob("*.py"), *ROOT.glob("machinery/*.py")]
    code = "".join(read(path.relative_to(ROOT)) for path in paths)
    named = [
        name
        for page in DOCS
        for name in re.findall(r"`([A-Za-z_][\w.]*)(?:\(.*?\))?`", read(page))
        if not name.endswith(".py") and name not in code
    ]
    assert not named
