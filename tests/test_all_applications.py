"""The command that trains all applications, with trainings that take no time."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image

from applications import all as everything
from common_tools import RunError

FAILS = (
    r"^SRGAN has not been trained to its end \(exit 2"
    r"\); mend what it says above, and run this again: it goes on from there.$"
)


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The names and flags of what is trained, each in no time; "fails" is the name that fails."""
    called, failing = [], {}

    def train_one(name, flags):
        called.append((name, flags))
        run = Path(flags[flags.index("--out-dir") + 1], "run1")
        run.mkdir(parents=True, exist_ok=True)
        (run / "checkpoint_0_epoch.pkl").touch()
        if name in failing:
            return 2
        Image.new("RGB", (2, 2)).save(run / "epoch_000.png")
        figures = {"as it is": {"SWD": 9.876}, "<b>": {"SWD": 1, "PSNR": 20}}
        (run / "figures.json").write_text(json.dumps({"images": 1234, "figures": figures}))
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(everything, "train_one", train_one)
    return called, failing


def test_all_are_trained_in_the_order_of_the_chapter_and_shown(trained, capsys):
    called, _ = trained
    page = everything.train_all(everything.Config(device="cpu"))
    assert " ".join(everything.NAMES) == (
        "pose cyclegan pixeldtgan srgan progan stackgan context_encoder pix2pix icgan"
    )
    assert called == [
        (name, ["--out-dir", str(Path("log_gan", name)), "--device", "cpu"])
        for name in everything.NAMES
    ]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "Training Pose (1 of 9)" and len(printed) == 10
    assert printed[9] == f"All nine are shown on {page}; open it in a browser."
    text = page.read_text()
    assert [*everything.NAMES.values()] == re.findall("<h2>(.*)</h2>", text)
    for picture in re.findall('<img src="(.*)">', text):
        assert (page.parent / picture).exists()
    assert text.count("<img") == 9 == text.count("Trained in 0 minutes.")
    assert text.count("On 1,234 images") == 9
    assert "<tr><th>as it is<td>9.88<td>\n<tr><th>&lt;b&gt;<td>1.00<td>20.00" in text
    assert all(
        (Path(everything.__file__).parent / f"{name}.py").exists() for name in everything.NAMES
    )


def test_a_run_that_went_on_after_its_figures_has_not_ended(trained, capsys):
    called, _ = trained
    everything.train_all(everything.Config())
    os.utime("log_gan/pose/run1/figures.json", (0, 0))
    for name, text in {"srgan": "{", "progan": "[]", "icgan": ""}.items():
        Path("log_gan", name, "run1/figures.json").write_text(text)
    everything.train_all(everything.Config())
    assert [name for name, _ in called[9:]] == ["pose", "srgan", "progan", "icgan"]
    assert all(flags[:2] == ["--resume", "latest"] for _, flags in called[9:])
    run = Path("log_gan/pix2pix/run1")
    assert f"Pix2Pix (8 of 9) has been trained: {run}" in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_waits_until_the_training_has_saved(tmp_path, number):
    """Ctrl-C comes to both processes, SIGTERM to the one that is named."""
    (tmp_path / "applications").mkdir()
    (tmp_path / "applications/pose.py").write_text(
        "import signal, sys, time\n"
        "def save(*_):\n"
        "    time.sleep(1), open('saved', 'w'), sys.exit(130)\n"
        "for each in (signal.SIGINT, signal.SIGTERM):\n"
        "    signal.signal(each, save)\n"
        "open('begun', 'w'), time.sleep(60)\n"
    )
    command = f"import sys; sys.path.append({str(ROOT)!r}); from applications import all as a; "
    command += "a.run_as_script(lambda: a.train_one('pose', []))"
    (tmp_path / "main.py").write_text(command)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "main.py"], cwd=tmp_path, start_new_session=True
    )
    while not (tmp_path / "begun").exists():
        time.sleep(0.1)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.terminate()
    assert process.wait(timeout=30) == 128 + number
    assert (tmp_path / "saved").exists()


def test_what_has_not_ended_goes_on_and_what_has_is_not_trained_again(trained):
    called, failing = trained
    failing["srgan"] = True
    with pytest.raises(RunError, match=FAILS):
        everything.train_all(everything.Config())
    assert len(called) == 4
    page = Path("log_gan/applications.html")
    assert page.read_text().count("<h2>") == 3
    failing.clear()
    everything.train_all(everything.Config())
    assert called[4][1][:2] == ["--resume", "latest"] and len(called) == 10
    assert page.read_text().count("<h2>") == 9
