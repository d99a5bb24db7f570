"""The nets of StackGAN: one that reads sentences, two that draw, and the discriminator of both.

What a sentence means is told by numbers, one for each value that a trait of a face can have: hair black,
hair grey, ..., a smile, none.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from applications.common import SIDE
from applications.nets import Residual
from common_tools import RunError
from dcgan import Generator, initialize_weights
from drawings.words import TRAITS, near, tokens
from machinery.diffaugment import augment

VALUES = [(name, value) for name, values in TRAITS.items() for value in values]
SHAPES = torch.tensor([name not in ("hair", "skin") for name, _ in VALUES]).float()  # not colours
SMALL = SIDE // 2  # side of stage I's pictures


class Words(nn.Module):
    """Sentences as numbers of words, (N, L), -> their meaning, (N, size): how sure it is that they name
    each of VALUES.

    A convolution sees a word and two at either side ("long hair", "no long beard"); what is named at any
    place is named. So words mean the same beside others that they were never seen with. known: all words;
    kept with the weights.
    """

    def __init__(self, known, size, width=96):
        super().__init__()
        self.numbers = {word: number for number, word in enumerate(known, 1)}  # 0 is no word
        letters = list(" ".join(known).encode())
        self.register_buffer("known", torch.tensor(letters, dtype=torch.uint8))
        self.embed = nn.Embedding(len(known) + 1, 48, padding_idx=0)
        first, last = nn.Conv1d(48, width, 5, padding=2), nn.Conv1d(width, size, 1)
        self.layers = nn.Sequential(first, nn.ReLU(), last)
        nn.init.constant_(last.bias, -6)  # a place names nothing, as long as it has not learnt to

    def read(self, texts):
        """Texts -> numbers of their words, (N, L). Raises RunError for a word that is not known."""
        rows = [tokens(text) for text in texts]
        for word in (word for row in rows for word in row or ["nothing"]):
            if word not in self.numbers:
                raise RunError(
                    f"text has {word}, which these weights do not know; what they know near it: "
                    f"{', '.join(near(word))}."
                )
        rows = [[self.numbers[word] for word in row] for row in rows]
        length = max(map(len, rows))
        return torch.tensor([row + [0] * (length - len(row)) for row in rows])

    def forward(self, numbers):
        places = self.layers(self.embed(numbers).transpose(1, 2))
        return places.masked_fill(numbers[:, None] == 0, -torch.inf).logsumexp(2).sigmoid()


class Augment(nn.Module):
    """Meanings (N, size) -> numbers around them, (N, nc), drawn from a normal distribution that they
    decide, and its KL divergence from the standard one: near sentences give near pictures."""

    def __init__(self, size, nc):
        super().__init__()
        self.layer = nn.Linear(size, 2 * nc)
        nn.init.normal_(self.layer.weight, std=0.5)  # what is named is heard from the beginning,
        nn.init.constant_(self.layer.bias[nc:], -2)  # beside what is drawn at random

    def forward(self, meanings):
        mean, log_variance = self.layer(meanings).to(meanings.dtype).chunk(2, dim=1)
        kl = (mean.square() + log_variance.exp() - log_variance - 1).mean() / 2
        return mean + (log_variance / 2).exp() * torch.randn_like(mean), kl


class StageI(nn.Module):
    """Meanings (N, size) and noise (N, nz) -> images (N, 3, 32, 32) in [-1, 1], and the KL divergence.

    Colours are told to the last layer alone, as a scale and a shift of each map that it sees (Dumoulin
    et al. 2017, arXiv:1610.07629), so that a bun keeps its shape in a colour that it was never seen in.
    """

    def __init__(self, size, nc, nz, ngf):
        super().__init__()
        self.augment, self.generator = Augment(size, nc), Generator(nz + nc, ngf, 3, SMALL)
        self.tint = nn.Linear(size + nz, 2 * ngf)

    def forward(self, meanings, noise):
        codes, kl = self.augment(meanings * SHAPES.to(meanings))
        maps = self.generator.main[:-3](torch.cat([noise, codes], 1)[..., None, None])
        tint = self.tint(torch.cat([meanings, noise], 1))
        scale, shift = tint[..., None, None].chunk(2, dim=1)
        return self.generator.main[-3:](maps * (1 + scale) + shift), kl


class StageII(nn.Module):
    """Meanings (N, size) and images of stage I -> images (N, 3, 64, 64), and the KL divergence.

    The meaning is joined to what an encoder sees of them, and residual blocks tell what to add to the
    enlarged images: corrections and detail. (The paper's make the whole image, which takes longer.)
    """

    def __init__(self, size, nc, width):
        super().__init__()
        half, norm = width // 2, nn.BatchNorm2d
        self.augment = Augment(size, nc)
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, half, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(half, width, 4, 2, 1, bias=False), norm(width), nn.ReLU()),
        )
        self.decoder = nn.Sequential(
            *(nn.Conv2d(width + nc, width, 3, padding=1, bias=False), norm(width), nn.ReLU()),
            *(Residual(width, norm), Residual(width, norm)),
            *(nn.ConvTranspose2d(width, half, 4, 2, 1, bias=False), norm(half), nn.ReLU()),
            *(nn.ConvTranspose2d(half, half // 2, 4, 2, 1, bias=False), norm(half // 2), nn.ReLU()),
            nn.Conv2d(half // 2, 3, 3, padding=1),
        )
        nn.init.zeros_(self.decoder[-1].weight)

    def forward(self, meanings, small):
        codes, kl = self.augment(meanings)
        return enlarged(small) + self.decoder(join(self.encoder(small), codes)), kl


def enlarged(small):
    """Images of stage I (N, 3, 32, 32), twice as large."""
    return F.interpolate(small, scale_factor=2, mode="bilinear")


def join(features, codes):
    """Features (N, C, H, W) with the same codes (N, D) at every place: (N, C + D, H, W)."""
    height, width = features.shape[2:]
    return torch.cat([features, codes[..., None, None].expand(-1, -1, height, width)], 1)


class StackGAN(nn.Module):
    """The nets that are used: words, stage I and stage II."""

    def __init__(self, known, nc, nz, ngf, width):
        super().__init__()
        size = len(VALUES)
        self.words, self.nz = Words(known, size), nz
        self.first, self.second = StageI(size, nc, nz, ngf), StageII(size, nc, width)
        initialize_weights(self.first.generator)

    def forward(self, meanings):
        """Meanings (N, size) -> pictures of both stages, (N, 3, 32, 32) and (N, 3, 64, 64)."""
        noise = torch.randn(len(meanings), self.nz, device=meanings.device)
        small, _ = self.first(meanings, noise)
        return small, self.second(meanings, small)[0]

    @torch.no_grad()
    def draw(self, meanings):
        """What forward gives, in blocks that need little memory."""
        return [torch.cat(each) for each in zip(*map(self, meanings.split(100)))]


class Judge(nn.Module):
    """Whether an image is real and a sentence its own: features(images) and meanings -> logits (N,)."""

    def __init__(self, side, size, ndf):
        super().__init__()
        widths = [ndf * min(2**stage, 8) for stage in range((side // 4).bit_length() - 1)]
        layers = [nn.Conv2d(3, ndf, 4, 2, 1), nn.LeakyReLU(0.2)]
        for narrow, wide in pairwise(widths):
            convolution = nn.Conv2d(narrow, wide, 4, 2, 1, bias=False)
            layers += [convolution, nn.BatchNorm2d(wide), nn.LeakyReLU(0.2)]
        self.layers, wide = nn.Sequential(*layers), widths[-1]
        self.compress = nn.Linear(size, size)
        both = nn.Conv2d(wide + size, wide, 1), nn.LeakyReLU(0.2), nn.Conv2d(wide, 1, 4)
        self.both = nn.Sequential(*both)

    def features(self, images):
        return self.layers(augment(images, "shift"))

    def forward(self, features, meanings):
        return self.both(join(features, self.compress(meanings))).flatten().to(meanings.dtype)
