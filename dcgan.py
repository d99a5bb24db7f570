"""Generator and discriminator of DCGAN (Radford, Metz and Chintala 2016, arXiv:1511.06434)."""

from collections import Counter
from itertools import pairwise

import torch
from torch import nn

IMAGE_SIZES = (32, 64, 128, 256)


def channel_factors(image_size):
    """Width of the feature maps at 4 x 4, 8 x 8, ... up to image_size / 2, in units of ngf or ndf.

    64 gives [8, 4, 2, 1]. A smaller image leaves out the widest stage, a larger one repeats it.
    Raises ValueError for a size that is not in IMAGE_SIZES.
    """
    if image_size not in IMAGE_SIZES:
        raise ValueError(f"image_size is {image_size}; it must be one of {IMAGE_SIZES}")
    sides = [4 * 2**stage for stage in range(6) if 4 * 2**stage < image_size]
    return [min(8, image_size // 2 // side) for side in sides]


def initialize_weights(net, w_mean=0.0, w_std=0.02, b_mean=1, b_std=0.02):
    """Draw convolution weights from N(w_mean, w_std), BatchNorm weights from N(b_mean, b_std)."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, w_mean, w_std)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, b_mean, b_std)
            nn.init.zeros_(module.bias)


class Generator(nn.Module):
    """Noise (N, nz, 1, 1) -> images (N, nc, image_size, image_size) in [-1, 1]."""

    def __init__(self, nz=100, ngf=128, nc=3, image_size=64):
        super().__init__()
        widths = [ngf * factor for factor in channel_factors(image_size)]
        layers = []
        for stage, (width_in, width) in enumerate(pairwise([nz, *widths])):
            stride, padding = (1, 0) if stage == 0 else (2, 1)  # 1 x 1 -> 4 x 4, then doubled
            layers += [
                nn.ConvTranspose2d(width_in, width, 4, stride, padding, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)

    def forward(self, noise):
        return self.main(noise)

    initialize_weights = initialize_weights

    @staticmethod
    def fits(state_dict, in_order=False):
        """Whether the convolutions of a state dict, of any names, could be a generator's: in the
        order that they have, or else in another one unless in_order."""
        weights = chained(state_dict, out=1, into=0, in_order=in_order)
        # In another order, a discriminator read backwards would be one that takes a single number.
        return bool(weights) and (
            in_order or weights[0].shape[0] != 1 or Generator.fits(state_dict, True)
        )

    @classmethod
    def from_state_dict(cls, state_dict):
        """Build the generator that a state dict was saved from; all its sizes are read off there.

        Its layers may have any names. Raises ValueError where it is not that of a DCGAN generator.
        """
        weights = in_chain(state_dict, out=1, into=0)
        nz, (ngf, nc) = weights[0].shape[0], weights[-1].shape[:2]
        generator = built(cls, state_dict, nz, ngf, nc, image_size=2 ** (len(weights) + 1))
        if nc not in (1, 3):
            raise ValueError(f"it draws images of {nc} channels, neither 1 nor 3")
        return generator


class Discriminator(nn.Module):
    """Images (N, nc, image_size, image_size) in [-1, 1] -> P(real), (N, 1, 1, 1) in [0, 1]."""

    def __init__(self, nc=3, ndf=128, image_size=64):
        super().__init__()
        widths = [ndf * factor for factor in reversed(channel_factors(image_size))]
        layers = [nn.Conv2d(nc, ndf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
        for width_in, width in pairwise(widths):
            layers += [
                nn.Conv2d(width_in, width, 4, 2, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        layers += [nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False), nn.Sigmoid()]
        self.main = nn.Sequential(*layers)

    def forward(self, image, logits=False):
        """Probabilities in [0, 1]; with logits=True the values before the sigmoid."""
        return self.main[:-1](image) if logits else self.main(image)

    initialize_weights = initialize_weights

    @staticmethod
    def fits(state_dict, in_order=False):
        """Whether the convolutions of a state dict could be a discriminator's, as Generator's does."""
        weights = chained(state_dict, out=0, into=1, in_order=in_order)
        return bool(weights) and weights[-1].shape[0] == 1  # an encoder gives more

    @classmethod
    def from_state_dict(cls, state_dict):
        """Build the discriminator that a state dict was saved from, as Generator's does."""
        weights = in_chain(state_dict, out=0, into=1)
        ndf, nc = weights[0].shape[:2]
        return built(cls, state_dict, nc, ndf, image_size=2 ** (len(weights) + 1))


# --- the nets of others, whose layers have other names


def layers_of(state_dict):
    """The convolutions of a state dict and its other layers: two dicts, both in its order, of
    {layer: {"weight": tensor, ...}}. What has no weight, a buffer of noise say, is no layer."""
    layers = {}
    for key, value in state_dict.items():
        layer, _, part = key.rpartition(".")
        layers.setdefault(layer, {})[part] = value
    layers = {name: parts for name, parts in layers.items() if "weight" in parts}
    convolutions = {name: parts for name, parts in layers.items() if parts["weight"].ndim == 4}
    return convolutions, {name: layers[name] for name in layers if name not in convolutions}


def chained(state_dict, out, into, in_order):
    """The weights of its convolutions, if all are 4 x 4 and each takes in as many channels as the one
    before it gives: in the order they have or, unless in_order, in another one; [] if not. out and
    into are the axes of their weights that tell."""
    weights = [layer["weight"] for layer in layers_of(state_dict)[0].values()]
    if len(weights) < 2 or any(weight.shape[2:] != (4, 4) for weight in weights):
        return []
    if follow(weights, out, into):
        return weights
    if in_order or follow(weights, into, out):  # the other way: an encoder
        return []
    weights = in_chain(state_dict, out, into)
    return weights if follow(weights, out, into) else []


def follow(weights, out, into):
    return all(one.shape[out] == next_one.shape[into] for one, next_one in pairwise(weights))


def in_chain(state_dict, out, into):
    """The weights of its convolutions, each taking in what the one before it gives; if several may
    come next, the first in the file does. In the file's order if that, or nothing, is a chain."""
    weights = [layer["weight"] for layer in layers_of(state_dict)[0].values()]
    if not weights:
        raise ValueError("it has no convolution weights")
    if follow(weights, out, into):
        return weights
    # An Eulerian path from width to width, each convolution an edge (Hierholzer 1873).
    leaving = {}
    for weight in reversed(weights):
        leaving.setdefault(weight.shape[into], []).append(weight)
    given = Counter(weight.shape[out] for weight in weights)
    starts = [width for width in leaving if len(leaving[width]) > given[width]]
    path, todo = [], [(starts[0] if starts else weights[0].shape[into], None)]
    while todo:
        if edges := leaving.get(todo[-1][0]):
            weight = edges.pop()
            todo.append((weight.shape[out], weight))
        else:
            path.append(todo.pop()[1])
    path = path[-2::-1]  # without the None of the start
    return path if len(path) == len(weights) and follow(path, out, into) else weights


def built(cls, state_dict, *sizes, image_size):
    """The net of these sizes with a state dict's weights; ValueError where they are not its own."""
    for parts in (parts for kind in layers_of(state_dict) for parts in kind.values()):
        for part, value in parts.items():
            if part != "num_batches_tracked" and not value.is_floating_point():
                dtype = value.dtype
                raise ValueError(f"its weights are of {dtype}, not of real floating point numbers")
        if not parts["weight"].numel():
            raise ValueError("it has weights without a number in them")
    try:
        with torch.device("meta"):  # sizes without numbers: strangers' files may claim any
            net = cls(*sizes, image_size=image_size)
        net.load_state_dict(renamed(state_dict, net), assign=True)
        return net.float()
    except RuntimeError as error:  # torch lists all that differs; the first of it will do
        first = str(error).splitlines()[:2][-1].strip().partition(', "')[0]
        raise ValueError(first.rstrip(".")) from error


def renamed(state_dict, net):
    """A state dict under the names of net's: each layer of net's gets the first that has its shape.

    Raises ValueError where it has more or fewer of them, or convolutions with biases.
    """
    ours, theirs = layers_of(net.state_dict()), layers_of(state_dict)
    if any("bias" in parts for parts in theirs[0].values()):
        raise ValueError("its convolutions have biases, which a DCGAN's have not")
    if [*map(len, theirs)] != [*map(len, ours)]:
        counts = (*map(len, theirs), *map(len, ours))
        raise ValueError(
            "it has {} convolutions and {} other layers, not {} and {}".format(*counts)
        )
    names = {}
    for kind, others in zip(ours, theirs):
        left = [*others.values()]
        for layer, parts in kind.items():
            shape = parts["weight"].shape
            fitting = [number for number, each in enumerate(left) if each["weight"].shape == shape]
            taken = left.pop(fitting[0] if fitting else 0)
            names |= {f"{layer}.{part}": value for part, value in taken.items()}
    return names
