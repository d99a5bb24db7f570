"""Nets that several applications are made of, and one that tells attributes of faces."""

from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from common_tools import set_seed
from machinery.files import atomic_write

EPOCHS, BATCH, RATE, SHIFT = 15, 64, 0.004, 4  # of trained_face_net


class UNet(nn.Module):
    """Images (N, channels_in, H, W) -> (N, channels_out, H, W) in [-1, 1] (Ronneberger et al. 2015,
    arXiv:1505.04597).

    Each stage of the encoder halves the sides and has one of the widths, each of the decoder doubles
    them again; it takes in what the one before it made and, by a skip, what the encoder had at this
    size, so that no detail has to go through the middle. middle: a net for what is smallest. dropout:
    the share of it in the two lowest stages of the decoder.
    """

    def __init__(self, channels_in, channels_out, widths, middle, dropout=0):
        super().__init__()
        first = nn.Conv2d(channels_in, widths[0], 4, 2, 1)
        self.encoder = nn.ModuleList([nn.Sequential(first, nn.LeakyReLU(0.2))])
        self.decoder = nn.ModuleList()
        for narrow, wide in pairwise(widths):
            convolution = nn.Conv2d(narrow, wide, 4, 2, 1, bias=False)
            layers = convolution, nn.BatchNorm2d(wide), nn.LeakyReLU(0.2)
            self.encoder.append(nn.Sequential(*layers))
        for place, (wide, narrow) in enumerate(pairwise(widths[::-1])):
            both = wide if place == 0 else 2 * wide
            convolution = nn.ConvTranspose2d(both, narrow, 4, 2, 1, bias=False)
            layers = [convolution, nn.BatchNorm2d(narrow), nn.ReLU()]
            if dropout and place < 2:
                layers.append(nn.Dropout(dropout))
            self.decoder.append(nn.Sequential(*layers))
        self.middle = middle
        self.last = nn.ConvTranspose2d(2 * widths[0], channels_out, 4, 2, 1)

    def forward(self, images):
        features = [images]
        for stage in self.encoder:
            features.append(stage(features[-1]))
        made = self.middle(features.pop())
        for stage in self.decoder:
            made = torch.cat([stage(made), features.pop()], dim=1)
        return self.last(made).tanh()


def patch_discriminator(channels, width, norm):
    """Images (N, channels, H, W) -> logits (N, 1, H / 4 - 2, W / 4 - 2), each of a patch of 34 x 34 that
    it sees: what the whole shows, others must tell (Isola et al. 2017, arXiv:1611.07004).

    norm: a class of layers such as nn.BatchNorm2d. The paper's patches are 70 x 70, of images of 256.
    """
    layers = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for before, after, stride in [(width, 2 * width, 2), (2 * width, 4 * width, 1)]:
        convolution = nn.Conv2d(before, after, 4, stride, 1, bias=False)
        layers += [convolution, norm(after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 4, 1, 1))


def encoder(widths, count, dropout=0.0):
    """Images (N, 3, H, H) -> `count` numbers of each, (N, count); a stage halves H, the last to 4.

    Its norm looks at each image by itself, so that an image counts the same in any batch.
    """
    layers = [nn.Conv2d(3, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
    for narrow, wide in pairwise(widths):
        convolution = nn.Conv2d(narrow, wide, 4, 2, 1, bias=False)
        layers += [convolution, nn.GroupNorm(widths[0], wide), nn.LeakyReLU(0.2)]
    return nn.Sequential(
        *layers, nn.Dropout(dropout), nn.Conv2d(widths[-1], count, 4), nn.Flatten()
    )


class Residual(nn.Module):
    """Features (N, width, H, W) plus what two convolutions make of them (He et al. 2016,
    arXiv:1512.03385), each followed by a norm, if there is one: a class such as nn.InstanceNorm2d."""

    def __init__(self, width, norm=None):
        super().__init__()
        first, second = (nn.Conv2d(width, width, 3, padding=1, bias=not norm) for _ in range(2))
        layers = [first, nn.PReLU(width), second]
        if norm:
            layers = [first, norm(width), nn.ReLU(), second, norm(width)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features):
        return features + self.layers(features)


def four_by_four(weight):
    """Of a kernel (..., 3, 3) the one (..., 4, 4) that does two things at once: as a transposed convolution,
    turned round, it doubles the sides first; divided by 4, with a stride of 2, it halves them after.
    The same numbers, up to rounding, for less than half of the work."""
    weight = F.pad(weight, [1] * 4)
    weight = weight[..., 1:, :] + weight[..., :-1, :]
    return weight[..., 1:] + weight[..., :-1]


class Doubled(nn.Conv2d):
    """Features (N, C, H, W) with each pixel repeated to 2 x 2, then convolved by 3 x 3."""

    def __init__(self, width_in, width):
        super().__init__(width_in, width, 3, padding=1, bias=False)

    def forward(self, features):
        weight = four_by_four(self.weight).transpose(0, 1).flip(2, 3)
        return F.conv_transpose2d(features, weight, stride=2, padding=1)


def face_net(count):
    """Images (N, 3, 64, 64) in [-1, 1] -> logits of `count` attributes, out of 64 features."""
    widths, layers = [3, 32, 64, 128, 256], []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2)]
    return nn.Sequential(*layers, nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, count))


def place_net(count, width=32):
    """Images (N, 3, 64, 64) in [-1, 1] -> `count` numbers of each, (N, count).

    At its end each of 4 x 4 places has weights of its own, so that it soon finds what is small but
    always at the same place, as glasses in aligned faces are.
    """
    widths, layers = [3, width, 2 * width, 4 * width, 8 * width], []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 4, 2, 1, bias=False), nn.BatchNorm2d(after)]
        layers.append(nn.LeakyReLU(0.2))
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Conv2d(8 * width, count, 4), nn.Flatten())


def trait_net(count, width=24):
    """Images (N, 3, 64, 64) in [-1, 1] -> logits of `count` traits, (N, count).

    It looks three pixels wide before it halves the sides, so that it sees more of what is small, such as
    a smile, than place_net, and takes longer.
    """
    layers = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(0.2)]
    for narrow, wide in pairwise([width, 2 * width, 4 * width, 8 * width]):
        layers += [nn.Conv2d(narrow, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide)]
        layers += [nn.LeakyReLU(0.2), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Dropout(0.2), nn.Conv2d(wide, count, 4), nn.Flatten())


def to_inputs(pixels):
    return torch.as_tensor(pixels).cpu().permute(0, 3, 1, 2).float() / 127.5 - 1


def trained_face_net(pixels, attributes, path, balanced=False, build=face_net):
    """A face_net trained on images, uint8 (N, 64, 64, 3); kept in the file path, for the next time.

    balanced: faces with an attribute count as much as those without, so that it sees what is rare,
    too, and takes it for there more often. build: another function like face_net, to train what it
    gives.
    """
    set_seed(1)
    net = build(attributes.shape[1])
    if Path(path).exists():
        net.load_state_dict(torch.load(path, weights_only=True))
        return net
    labels = torch.tensor(attributes).float()
    share = labels.mean(0).clamp(0.001, 0.999)
    weight = (1 - share) / share if balanced else None
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    size = min(BATCH, len(pixels))
    steps = EPOCHS * (len(pixels) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(pixels))[: len(pixels) // size * size]
        for indices in order.split(size):
            down, right, mirror = torch.randint(-SHIFT, SHIFT + 1, (3,)).tolist()
            batch = to_inputs(pixels[indices]).roll((down, right), (2, 3))
            batch = batch.flip(3) if mirror > 0 else batch
            wanted = labels[indices]
            loss = F.binary_cross_entropy_with_logits(net(batch), wanted, pos_weight=weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with atomic_write(path) as file:
        torch.save(net.state_dict(), file)
    return net
