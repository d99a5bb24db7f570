"""From a checkpoint to faces: the generator that it holds, noise, and what the one makes of the other."""

import re
from functools import partial
from itertools import chain, islice
from pathlib import Path

import torch

from dcgan import Discriminator, Generator
from machinery.checkpoints import (
    bad_weight,
    checkpoint_paths,
    load_file,
    newest_checkpoint,
    trained_runs,
)
from machinery.console import RunError
from machinery.constants import RUNS

RELEASED = Path(__file__).parent / "checkpoints"
SUFFIXES = (".pkl", ".pth", ".pt", ".ckpt", ".bin", ".tar", ".safetensors")  # of files of weights
OURS = {"g_ema_model_state_dict", "g_model_state_dict", "d_model_state_dict"}
DEEPEST = 8  # how many keys may lead to the weights
BLOCK = 64  # noises drawn at a time, so that a seed's n-th face is the same for any number of them


def find_checkpoint(path):
    """The (path, content) of a file, of a run's newest checkpoint, or of the one file of weights in
    a folder; if path is empty, of the newest run that has one, else of the released weights.

    Raises RunError where there is none, or it cannot be opened.
    """
    path = find_place(path)
    return newest_checkpoint(path) if Path(path).is_dir() else (path, load_file(path))


def find_place(path):
    """The run folder or the file that find_checkpoint opens. Raises RunError where there is none."""
    if path and Path(path).is_dir() and not checkpoint_paths(path):
        if RELEASED.exists() and RELEASED.samefile(path):
            weights = released(path)
        else:
            weights = generators(filter(is_weights, Path(path).iterdir()))
        if len(weights) > 1:
            names = few([each.name for each in weights])
            raise RunError(
                f"{path} has more than one file of weights in it ({names}); name one of them."
            )
        if not weights and (newest := next(trained_runs(path), None)):
            raise RunError(f"{path} has no checkpoint in it, but runs have; name one, as {newest}.")
        path = weights[0] if weights else path
    if path:
        return path
    if newest := next(chain(trained_runs(RUNS), released()), None):
        return newest
    raise RunError(
        f"neither a run in {RUNS} nor {RELEASED.name} has a checkpoint; train one with python "
        "gan_demo.py, or name a file with --path-checkpoint."
    )


def is_weights(path):
    """Whether a file's name is one of weights, and not hidden, as those that a Mac leaves in a zip."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def released(folder=None):
    """The released weights of a generator; those of the applications lie beside them."""
    return generators(Path(folder or RELEASED).glob("celeba*.pkl"))


def generators(paths):
    """Some paths in order, without those that belong to another one of them as its discriminator."""
    paths = sorted(paths)
    return [path for path in paths if not any(path in places_of_d(other) for other in paths)]


def places_of_d(path):
    """Where the discriminator of the generator at path lies, if it has a file of its own:
    celeba_64_d.pkl beside celeba_64.pkl, netD_epoch_9.pth beside netG_epoch_9.pth."""
    names = f"{path.stem}_d{path.suffix}", path.name.replace("netG", "netD")
    return [path.with_name(name) for name in names if name != path.name]


def load_generator(path, checkpoint, raw=False):
    """The Generator that a file holds, at path: the average of its weights, if it has one and not raw.

    checkpoint: what the file holds; the weights may lie anywhere in it, under any names.
    Raises RunError where there is none, or its weights are not finite.
    """
    generator = find_net(path, checkpoint, Generator, raw)
    if generator is None:
        keys = few(
            name_of((*place, key))
            for place, each in dicts_in(checkpoint)
            for key in each
            if not (isinstance(each[key], (dict, list, tuple)) and each[key])
        )
        ours = isinstance(checkpoint, dict) and "g_model_state_dict" in checkpoint
        other = "; another script has trained it (one of applications, say), so draw with that one"
        raise RunError(
            f"{path} has no DCGAN generator in it; its keys are {keys or 'none'}{other * ours}."
        )
    return generator


def find_discriminator(path, checkpoint, like=None):
    """The Discriminator in the file at path, else in one of places_of_d; None if there is none.

    checkpoint: what the file at path holds; like: the run's, whose sizes one beside it must have; a line
    then says that it is taken. One that cannot be used is passed over, and a line says so, too.
    Raises RunError as find_net does.
    """
    if net := find_net(path, checkpoint, Discriminator):
        return net
    for beside in filter(Path.is_file, places_of_d(Path(path))):
        try:
            net = find_net(beside, load_file(beside), Discriminator)
            if net and like:
                if sizes_of(net) != sizes_of(like):
                    raise RunError(f"{beside} has other sizes than this run's.")
                print(f"The discriminator is that of {beside}.")
        except (RunError, OSError) as error:
            print(f"Going on without the discriminator beside {path}: {error}")
        else:
            if net:
                return net
    return None


def sizes_of(net):
    return [value.shape for value in net.state_dict().values()]


def find_net(path, checkpoint, net, raw=False):
    """The net, Generator or Discriminator, that the file at path holds; None if it has none.

    If there are several, it is an average, unless raw; then one of our names; then the first. One
    that cannot be built, an average without BatchNorm's statistics say, is passed over.
    Raises RunError where none can be built, or a weight is not finite.
    """
    found = nets_in(checkpoint, partial(net.fits, in_order=True)) or nets_in(checkpoint, net.fits)
    if not found:
        return None
    names = sorted(found, key=lambda name: (is_average(name) == raw, name not in OURS))
    kind, first_error = net.__name__.lower(), None
    for name in names:
        try:
            built = net.from_state_dict(found[name])
            break
        except ValueError as error:
            first_error = first_error or error
    else:
        raise RunError(f"{path} holds no DCGAN {kind}: {first_error}.") from first_error
    if len(names) > 1 and not (name == names[0] and OURS.issuperset(names)):
        print(f"{path} has more than one {kind} in it ({few(found)}); {name} is taken.")
    if bad := bad_weight(found[name]):
        raise RunError(f"{path} has weights that are not finite ({bad}); use an earlier one.")
    return built


def is_average(name):
    """Whether a name says so, in a word of its own: "female" has an ema in it, too."""
    words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
    return bool({"ema", "avg", "average", "averaged"} & words)


def nets_in(checkpoint, fits):
    """The state dicts in what a file holds that fit, by name: whole dicts of tensors, or the tensors
    of one whose keys begin alike, as in {"generator.0.weight": ..., "discriminator.0.weight": ...}.
    """
    found = {}
    for place, each in dicts_in(checkpoint):
        keys = [key for key in each if isinstance(key, str) and torch.is_tensor(each[key])]
        whole = ".".join(map(str, place)) in OURS  # with more in it, it is an application's
        for depth in range(DEEPEST):
            groups = {}
            for key in keys:
                beginning = (*place, *key.split(".", depth)[:depth])
                groups.setdefault(beginning, {})[key] = each[key]
            fitting = {
                name_of(beginning): groups[beginning]
                for beginning in groups
                if fits(groups[beginning]) and not (whole and len(groups) > 1)
            }
            if fitting:
                found |= fitting
                break
    return found


def dicts_in(value):
    """Yield every dict in what a file holds, and every list as a dict by index, each with the keys
    that lead to it."""
    todo, seen = [((), value)], set()
    while todo:
        place, value = todo.pop()
        if not isinstance(value, (dict, list, tuple)) or id(value) in seen or len(place) > DEEPEST:
            continue
        seen.add(id(value))
        each = value if isinstance(value, dict) else dict(enumerate(value))
        yield place, each
        todo += [((*place, key), item) for key, item in reversed(each.items())]


def name_of(place):
    """The keys that lead to something as one name; strangers may have chosen them."""
    keys = (str(key)[:99] if isinstance(key, (str, int)) else "?" for key in place)
    return "".join(filter(str.isprintable, ".".join(keys)))


def few(names):
    """The first of some names, for a sentence."""
    first = list(islice(names, 6))
    return ", ".join(first[:5]) + " and others" * (len(first) > 5)


def draw_noise(count, nz, seed):
    """Yield noise (64, nz, 1, 1) until there is enough for count faces; from the CPU, since other
    devices have other random numbers."""
    random = torch.Generator().manual_seed(seed)
    for _ in range(0, count, BLOCK):
        yield torch.randn(BLOCK, nz, 1, 1, generator=random)


def latent_walk(noise, z_idx, steps=61):
    """Move one coordinate of one noise (1, nz, 1, 1) from -3 to 3; gives (steps, nz, 1, 1)."""
    walk = noise.repeat(steps, 1, 1, 1)
    walk[:, z_idx, 0, 0] = torch.linspace(-3, 3, steps)
    return walk


def latent_loop(noise, steps=16):
    """Go from each noise (N, nz, 1, 1) to the next and from the last to the first, on great arcs.

    Spherical interpolation (Shoemake 1985), since noise of many dimensions lies near a sphere: the
    straight way would leave it. Gives (N * steps, nz, 1, 1).
    """
    start, end = noise.flatten(1), noise.roll(-1, dims=0).flatten(1)
    cosine = torch.nn.functional.cosine_similarity(start, end)[:, None, None]
    angle = torch.acos(cosine.clamp(-0.9999, 0.9999))
    t = torch.arange(steps)[None, :, None] / steps
    arc = torch.sin((1 - t) * angle) * start[:, None] + torch.sin(t * angle) * end[:, None]
    return (arc / torch.sin(angle)).reshape(-1, noise.shape[1], 1, 1)


@torch.no_grad()
def generate(generator, noise):
    """Noise (N, nz, 1, 1) -> images (N, nc, H, W) in [-1, 1], from BatchNorm's running statistics.

    So a face does not depend on its neighbours, and the generator is left as it was.
    """
    was_training = generator.training
    generator.eval()
    images = generator(noise)
    generator.train(was_training)
    return images
