"""Damaged and hostile checkpoints: each opens with exactly its weights, or is refused in a sentence."""

import _codecs
import argparse
import io
import pickle
import random
import resource
import shutil
import sys
import zipfile
from collections import Counter

import numpy as np
import pytest
import torch
from conftest import assert_same_run

from common_tools import RunError
from dcgan import Discriminator, Generator
from machinery.checkpoints import load_checkpoint, load_file, newest_checkpoint
from machinery.pickles import Ignored
from sampling import load_generator


@pytest.fixture
def whole():
    """The bytes of a small checkpoint, and its nets."""
    nets = {"g_model_state_dict": Generator(4, 2, 1, 32).state_dict()}
    nets |= {"d_model_state_dict": Discriminator(1, 2, 32).state_dict()}
    return saved({**nets, "epoch": 3}), nets


def saved(checkpoint, **options):
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer, **options)
    return buffer.getvalue()


def outcome(path, data, nets):
    """Whether these bytes are "opened", "changed" or "refused" in one sentence."""
    path.write_bytes(data)
    try:
        checkpoint = load_checkpoint(path)
    except RunError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return "refused"
    for net, weights in nets.items():
        opened = checkpoint.get(net, {})
        same_names = opened.keys() == weights.keys()
        if not (same_names and all(torch.equal(opened[name], weights[name]) for name in weights)):
            return "changed"
    return "opened"


def damaged(data, kind):
    """The same bytes with one bit turned over, or a piece of them cut out, doubled or moved."""
    start, end = sorted(random.sample(range(len(data)), 2))
    end = min(end, start + random.choice([1, 16, 256, 4096]))
    piece, place = data[start:end], random.randrange(len(data))
    if kind == "flip":
        flipped = data[place] ^ 1 << random.randrange(8)
        return data[:place] + bytes([flipped]) + data[place + 1 :]
    if kind == "cut out":
        return data[:start] + data[end:]
    if kind == "inserted":
        return data[:place] + piece + data[place:]
    return data[:place] + piece + data[place + len(piece) :]


def test_a_damaged_checkpoint_is_opened_right_or_refused(whole, tmp_path, long):
    random.seed(1)
    data, nets = whole
    path = tmp_path / "checkpoint.pkl"
    assert outcome(path, data, nets) == "opened"
    for part in range(50):
        assert outcome(path, data[: len(data) * part // 50], nets) == "refused"
    tried = Counter()
    for _ in range(20_000 if long else 2_000):
        kind = random.choice(["flip", "flip", "cut out", "inserted", "written over"])
        tried[kind, outcome(path, damaged(data, kind), nets)] += 1
    print(f"\n{tried.total()} changes to a checkpoint: {dict(tried)}")
    assert not any(result == "changed" for _, result in tried)
    assert tried["flip", "refused"] > tried["flip", "opened"] > 0


def test_the_old_format_is_said_to_have_no_checksums(whole, tmp_path, capsys, long):
    random.seed(1)
    nets = whole[1]
    data = saved(nets, _use_new_zipfile_serialization=False)
    path = tmp_path / "old.pkl"
    assert outcome(path, data, nets) == "opened"
    assert f"{path} is of a format without checksums" in capsys.readouterr().out
    tried = {outcome(path, damaged(data, "flip"), nets) for _ in range(2_000 if long else 200)}
    assert "changed" in tried  # as the sentence says


class Call:
    """What calls a function when it is unpickled."""

    def __init__(self, function, *arguments, state=None):
        self.call = function, arguments, state

    def __reduce__(self):
        return self.call


def repacked(data, method=zipfile.ZIP_STORED, attributes=0):
    """A checkpoint's zip made anew; the parts that hold numbers get these attributes."""
    packed, source = io.BytesIO(), zipfile.ZipFile(io.BytesIO(data))
    with zipfile.ZipFile(packed, "w") as archive:
        for name in source.namelist():
            part = zipfile.ZipInfo(name)
            part.compress_type = method
            part.external_attr = attributes if "/data/" in name else 0
            archive.writestr(part, source.read(name))
    return packed.getvalue()


def test_a_checkpoint_that_was_packed_anew_is_opened(whole, tmp_path):
    data, nets = whole
    assert outcome(tmp_path / "checkpoint.pkl", repacked(data), nets) == "opened"


def wide(width):
    """A generator's state dict whose last convolutions have a width that the first ones lack."""
    sizes = {0: (1, 1), 3: (1, 1), 6: (1, width), 9: (width, 1)}
    return Generator(1, 2, 1, 32).state_dict() | {
        f"main.{layer}.weight": torch.zeros(*size, 4, 4) for layer, size in sizes.items()
    }


def claiming(count):
    """A tensor of the old format, without checksums, that claims so many numbers and has few."""
    data = saved({"main.0.weight": torch.zeros(70_000)}, _use_new_zipfile_serialization=False)
    return data.replace((70_000).to_bytes(4, "little"), count.to_bytes(4, "little"))


def doubled(times):
    """Bytes whose hexadecimal digits are taken again and again."""
    return Call(_codecs.encode, doubled(times - 1), "hex") if times else b"a"


def copies(function, *arguments):
    """What calls a function 20,000 times; the pickle holds its arguments once."""
    return {"epoch": [Call(function, *arguments) for _ in range(20_000)]}


HOSTILE = {
    "os.system": lambda: saved(Call(__import__("os").system, "touch was_here")),
    "eval": lambda: saved(Call(eval, "open('was_here', 'w')")),
    "a pickle": lambda: pickle.dumps(Call(eval, "open('was_here', 'w')"), 2),
    "20 GB of bytes": lambda: saved({"epoch": Call(bytearray, 20 * 10**9)}),
    "20 GB of bytes, in the old format": lambda: saved(
        {"epoch": Call(bytearray, 20 * 10**9)}, _use_new_zipfile_serialization=False
    ),
    "40 GB of numbers": lambda: saved({"epoch": Call(torch.FloatTensor, 10**10)}),
    "20 GB of storage": lambda: saved({"epoch": Call(torch.UntypedStorage, 20 * 10**9)}),
    "20 GB as float8": lambda: saved(
        {"main.0.weight": torch.zeros(1).to(torch.float8_e5m2).expand(2 * 10**6, 10**3, 4, 4)}
    ),
    "a number as a billion weights": lambda: saved(
        {"main.0.weight": torch.zeros(1).expand(10**6, 10**3, 4, 4)}
    ),
    "weights without numbers": lambda: saved(
        {"main.0.weight": torch.empty(10**6, 10**3, 4, 4, device="meta")}
    ),
    "sparse weights": lambda: saved(
        {"main.0.weight": torch.sparse_coo_tensor(torch.zeros(4, 1), [1.0], (10**6, 10**3, 4, 4))}
    ),
    "400 MB, compressed": lambda: repacked(
        saved({"main.0.weight": torch.zeros(10**8)}), zipfile.ZIP_DEFLATED
    ),
    "numbers as folders, which torch.load leaves unread": lambda: repacked(
        saved(Generator(2, 1, 1, 32).state_dict()), attributes=16
    ),
    "8 GB, in the old format": lambda: claiming(2 * 10**9),
    "another protocol": lambda: saved({"epoch": Call(eval, "1")}, pickle_protocol=4),
    "a net of 2 GB": lambda: saved(wide(2000)),
    "20 GB as a NumPy array": lambda: saved({"epoch": Call(np.ndarray, (20 * 10**9,), "b")}),
    "2 GB as a NumPy scalar": lambda: saved(
        {"epoch": Call(np.float64(0).__reduce__()[0], Call(np.dtype, "V2000000000"))}
    ),
    "a NumPy array made anew": lambda: saved(
        {"epoch": Call(np.arange(2).__reduce__()[0], np.ndarray, (10**10,), b"b")}
    ),
    "a NumPy array of other numbers": lambda: saved(
        {"epoch": Call(np.ndarray, (1,), state=(1, (10**10,), np.dtype("b"), False, b"1"))}
    ),
    "NumPy's own code": lambda: saved({"epoch": Call(np.fromfile, "strangers.pkl")}),
    "bytes doubled 35 times": lambda: saved({"epoch": doubled(35)}),
    "a long string 20,000 times": lambda: saved(copies(_codecs.encode, "a" * 10**6, "latin1")),
    "a long tuple 20,000 times": lambda: saved(copies(torch.Size, (1,) * 10**5)),
    "code in a Namespace": lambda: saved(argparse.Namespace(a=Call(eval, "open('was_here', 'w')"))),
    "code as a Namespace's state": lambda: saved(
        Call(argparse.Namespace, state={"__setstate__": Call(eval, "open('was_here', 'w')")})
    ),
    "another Namespace from now on": lambda: (
        b"\x80\x02cargparse\nNamespace\n}X\x0c\0\0\0__setstate__K\1sb."
    ),
    "a defaultdict that calls": lambda: saved(
        Call(__import__("collections").defaultdict, Call(eval, "open('was_here', 'w')"))
    ),
    "the header of a safetensors file of 1 TB": lambda: (
        (100).to_bytes(8, "little")
        + b'{"a.weight":{"dtype":"F32","shape":[250000000000],"data_offsets":[0,1000000000000]}}'.ljust(
            100
        )
    ),
}


def most_memory():
    """The most bytes that this process has ever taken."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_checkpoint_is_refused_without_effect(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ("strangers.safetensors" if "safetensors" in name else "strangers.pkl")
    path.write_bytes(HOSTILE[name]())
    before = most_memory()
    with pytest.raises(RunError) as error:
        load_generator(path, load_file(path))
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert most_memory() - before < 200 * 2**20
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("around", ["bare", "in a dict", "in a tuple"])
def test_a_whole_net_is_told_from_damage(tmp_path, zipped, around):
    net = Generator(4, 2, 1, 32)
    optimizer = torch.optim.Adam(net.parameters())
    content = {"bare": net, "in a dict": {"epoch": 3, "model": net}, "in a tuple": (net, optimizer)}
    data = saved(content[around], _use_new_zipfile_serialization=zipped)
    (tmp_path / "whole.pth").write_bytes(data)
    with pytest.raises(RunError, match=r"holds a whole net with its code.*torch\.save\(net\."):
        load_file(tmp_path / "whole.pth")


def test_what_lies_beside_the_weights_is_not_made(whole, tmp_path):
    beside = {"array": np.zeros(3), "args": argparse.Namespace(a=1), "loss": np.float64(1)}
    torch.save(whole[1] | beside, tmp_path / "checkpoint.pkl")
    opened = load_file(tmp_path / "checkpoint.pkl")
    assert [type(opened[name]) for name in beside] == [Ignored] * 3
    assert not any(opened[name] or vars(opened[name]) for name in beside)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("net", ["g_model_state_dict", "d_model_state_dict"])
def test_weights_that_are_not_finite_are_noticed(whole, tmp_path, net, value):
    _, nets = whole
    nets[net]["main.0.weight"][0, 0, 0, 0] = value
    torch.save(nets, tmp_path / "checkpoint.pkl")
    with pytest.raises(RunError, match=rf"not finite \(main\.0\.weight in {net}\)"):
        load_checkpoint(tmp_path / "checkpoint.pkl")


@pytest.mark.parametrize("bad", [["3"], ["3", "2"]])
def test_resuming_passes_over_damaged_checkpoints(start, finish, untouched, tmp_path, bad):
    folder = tmp_path / "run"
    shutil.copytree(untouched.parent.parent, folder)
    run = folder / "log_gan/run1"
    for number in bad:
        path = run / f"checkpoint_{number}_epoch.pkl"
        data = path.read_bytes()
        path.write_bytes(data[:-5000] + bytes(1) + data[-4999:])
    finished, printed = finish(folder)
    assert_same_run(finished, untouched)
    for number in bad:
        assert f"checkpoint_{number}_epoch.pkl is not a checkpoint that can be opened" in printed
    assert newest_checkpoint(run)[0].name == "checkpoint_3_epoch.pkl"
