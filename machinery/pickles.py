"""Pickles of checkpoints: gone through without effect before torch.load opens them."""

import pickle
import re

# What torch.load may make of a pickle. With weights_only=True it allows more, none of it harmful but
# for a call that takes gigabytes of memory, such as bytearray(10**11).
HARMLESS = re.compile(
    r"collections (OrderedDict|Counter)|torch._utils _rebuild_(tensor|tensor_v[23]|parameter)"
    r"|torch (\w+Storage|Size|device|b?float\d+|float8_\w+|u?int\d+|bool)|_codecs encode|__builtin__ set"
)
PATHS = "PosixPath WindowsPath PurePosixPath PureWindowsPath"
# What others keep beside their weights. Nothing of it is made: an Ignored stands for each.
IGNORED = {
    "numpy": "ndarray dtype",
    "numpy.core.multiarray": "scalar _reconstruct",  # NumPy 1
    "numpy._core.multiarray": "scalar _reconstruct",
    "argparse": "Namespace",
    "types": "SimpleNamespace",
    "pathlib": PATHS,
    "pathlib._local": PATHS,  # Python 3.13
    "datetime": "datetime date timedelta timezone",
    "torch.torch_version": "TorchVersion",
    "collections": "defaultdict",
    "__builtin__": "list dict int float",  # what a defaultdict makes
}
IGNORED_NAMES = {f"{module} {name}" for module, names in IGNORED.items() for name in names.split()}


class Ignored(dict):
    """What stands for a value that is not made. It may be called, filled and told its state."""

    def __init__(self, *_):
        pass

    def __setstate__(self, _):
        pass

    __hash__ = object.__hash__  # it may be a key


def plain_dict(*_):
    return {}


# For torch.serialization.safe_globals. It fills no dicts but plain ones.
STAND_INS = [
    (
        plain_dict if "defaultdict" in name else Ignored,
        name.replace("__builtin__", "builtins").replace(" ", "."),
    )
    for name in sorted(IGNORED_NAMES)
]


class WholeNet(ValueError):
    """A pickle is of a net with its code, not of weights."""


class Rehearsal(pickle._Unpickler):  # in C it would take memory for any number that a pickle names
    """Unpickles, but makes no call: it notes what is asked for, and how much the calls would copy."""

    def __init__(self, file):
        super().__init__(file, encoding="latin1")
        self.strange, self.copied = [], 0

    def find_class(self, module, name):
        asked = f"{module} {name}"

        def call(*arguments):
            if asked == "_codecs encode" and arguments[1:] != ("latin1",):  # which NumPy has
                raise ValueError("it asks for another encoding than latin1")
            self.copied += sum(len(each) for each in arguments if hasattr(each, "__len__"))
            return Ignored()

        if asked == "torch.storage UntypedStorage":  # what float8 is kept in; not to be called
            return Ignored()
        if HARMLESS.fullmatch(asked):
            return call
        if asked not in IGNORED_NAMES:
            self.strange.append(asked)
        return Ignored

    def persistent_load(self, saved):  # numbers; before torch 1.6 the classes of nets as well
        return Ignored if isinstance(saved, tuple) and saved[:1] == ("module",) else Ignored()


def check_pickle(file):
    """Go through the pickle that file stands at, to its end.

    Raises WholeNet, or ValueError where it asks for what is not harmless or has calls that would
    take more memory than its size calls for; or what pickle raises where it is damaged.
    """
    start, rehearsal = file.tell(), Rehearsal(file)
    rehearsal.load()
    if any(name.startswith("torch.nn.modules") for name in rehearsal.strange):
        raise WholeNet
    if rehearsal.strange:
        raise ValueError(f"it asks for {rehearsal.strange[0]}")
    if rehearsal.proto > 3:  # torch.load knows no later one
        raise ValueError("it is pickled by another protocol than 2")
    if rehearsal.copied > file.tell() - start:  # the same long string again and again, say
        raise ValueError("its calls would copy more than it holds")
