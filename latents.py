"""Latent vectors: as text, around one, between two, along the strongest directions, of a photo."""

import json
import math
import re
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

import torch
import torch.nn.functional as F

from machinery.console import RunError
from machinery.image_files import why
from my_dataset import decode_image, face_transform
from sampling import BLOCK, draw_noise, latent_loop

LAST_FACE = 100_000  # of a seed, so that nobody waits for ever
MAX_PHOTO = 20  # MB


def noise_of(text, nz):
    """The noise (1, nz, 1, 1) of what the page gives to copy: "seed 1, face 5" or "[0.1, ...]".

    Face 5 is the fifth that gan_inference.py draws for that seed. Raises RunError for other text.
    """
    if match := re.fullmatch(r"\s*seed (\d{1,10}), face (\d{1,6})\s*", text):
        seed, face = map(int, match.groups())
        if seed < 2**32 and 1 <= face <= LAST_FACE:
            *_, block = draw_noise(face, nz, seed)
            return block[(face - 1) % BLOCK][None]
        raise RunError(
            f"there is no {text.strip()}; seeds go from 0 to 2**32 - 1, faces from 1 to {LAST_FACE}."
        )
    with suppress(ValueError, TypeError, RuntimeError, OverflowError):
        noise = torch.tensor(json.loads(text), dtype=torch.float32)
        if noise.shape == (nz,) and noise.isfinite().all():
            return noise.view(1, nz, 1, 1)
    raise RunError(f'a face is given as "seed 1, face 5" or as a list of {nz} numbers: [0.1, ...].')


def text_of(noise):
    """A noise (1, nz, 1, 1) as text that noise_of, and Python, reads."""
    return json.dumps([round(number, 4) for number in noise.flatten().tolist()])


def nearby(noise, count=24, distance=0.5, seed=1):
    """Noises around one (1, nz, 1, 1): the angle to each is `distance` radians, its length stays."""
    length = noise.norm().clamp(min=1e-6)
    random = torch.Generator().manual_seed(seed)
    # As float64 they are other numbers than a seed's faces, of which this may be one
    other = torch.randn(count, *noise.shape[1:], generator=random, dtype=torch.float64).float()
    other -= noise * (other * noise).sum(1, keepdim=True) / length**2
    other = F.normalize(other, dim=1) * length
    return math.cos(distance) * noise + math.sin(distance) * other


def between(noise, other, steps=8):
    """The way from one noise (1, nz, 1, 1) to another on a great arc: (steps + 1, nz, 1, 1)."""
    return latent_loop(torch.cat([noise, other]), steps)[: steps + 1]


@torch.no_grad()
def directions(generator, count=6, samples=2048, seed=1):
    """The directions of noise in which the faces change most, the strongest first.

    As GANSpace has them for BigGAN (Härkönen et al. 2020, arXiv:2004.02546): the principal components
    of what the first layer makes of many noises, brought back to noise by regression. This layer is
    linear up to its BatchNorm and ReLU; before them the components would be the singular vectors of its
    weights, which do not know how much BatchNorm scales a channel, nor which are mostly cut off. So
    they are taken after the ReLU.

    Returns (count, nz, 1, 1), each of length 1, which is one standard deviation of the noise.
    """
    noise = torch.cat([*draw_noise(samples, generator.main[0].in_channels, seed)])[:samples]
    device = next(generator.parameters()).device
    first = deepcopy(generator.main[:3]).eval()(noise.to(device)).flatten(1).cpu()
    first -= first.mean(0)
    with torch.random.fork_rng(devices=[]):  # of the random projection in it
        torch.manual_seed(seed)
        _, _, components = torch.pca_lowrank(first, count + 6, center=False)
    places = first @ components[:, :count]
    found = F.normalize(places.T @ noise.flatten(1), dim=1)  # places are uncorrelated
    return found[:, :, None, None]


# --- from a photo to a latent vector


def search(generator, photo, discriminator=None, steps=60, starts=4, seed=1):
    """Yield (share done, noise) while a noise is looked for whose face is most like a photo.

    photo: (1, nc, H, W) in [-1, 1], as training has it. Adam from several random noises, the best of
    which goes on alone. Compared are the pixels at several scales and, with a discriminator, its
    features (Larsen et al. 2016, arXiv:1512.09300). The noise stays as long as noise is.
    """
    device = next(generator.parameters()).device
    nz = generator.main[0].in_channels
    generator, discriminator = (net and deepcopy(net).eval() for net in (generator, discriminator))

    def looks(images):
        views = [F.avg_pool2d(images, 2**k) for k in range(int(math.log2(images.shape[-1])) - 1)]
        if discriminator:
            features = images
            for layer in discriminator.main[:-2]:
                features = layer(features)
                if isinstance(layer, torch.nn.LeakyReLU):
                    views.append(features.clone())
        return views

    photo = photo.to(device)
    with torch.no_grad():
        wanted = looks(photo)
        scales = [view.abs().mean().clamp(min=1e-3) for view in wanted]

    def loss(noise):
        parts = zip(looks(generator(noise)), wanted, scales)
        return sum((one - other).abs().mean((1, 2, 3)) / scale for one, other, scale in parts)

    noise = next(draw_noise(64, nz, seed)).to(device)
    with torch.no_grad():
        noise = noise[loss(noise).argsort()[:starts]]
    for part, step_size in enumerate((0.2, 0.1)):
        noise = noise.clone().requires_grad_()
        optimizer = torch.optim.Adam([noise], lr=step_size, betas=(0.9, 0.99))
        for step in range(steps):
            each = loss(noise)
            (noise.grad,) = torch.autograd.grad(each.sum(), noise)
            optimizer.step()
            with torch.no_grad():
                noise *= math.sqrt(nz) / noise.norm(dim=1, keepdim=True)
            yield (part * steps + step + 1) / (2 * steps), noise[each.argmin()][None].detach().cpu()
        noise = noise[each.argmin()][None].detach()


def find(generator, photo, discriminator=None, steps=60):
    """The noise (1, nz, 1, 1) whose face is most like a photo (1, nc, H, W) in [-1, 1]; see search."""
    *_, (_, noise) = search(generator, photo, discriminator, steps)
    return noise


def read_photo(path, image_size=64, nc=3):
    """A photo as training has it, (1, nc, image_size, image_size) in [-1, 1], and how it was cut out.

    That is "aligned" with align_faces.py, if what it needs is installed; "no_face" where it finds
    none and "middle" without it: the middle square. Raises RunError for a file that is no image, or
    too large.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"{path} is no file; choose a photo.")
    if path.stat().st_size > MAX_PHOTO << 20:
        raise RunError(f"{path.name} is larger than {MAX_PHOTO} MB; choose a smaller photo.")
    try:
        photo = decode_image(path.read_bytes())
    except Exception as error:  # Pillow raises many kinds for a broken file
        reason = ": ".join(filter(None, why(error)))
        raise RunError(
            f"{path.name} is not a readable image ({reason}); choose another."
        ) from error
    try:
        from align_faces import aligned

        faces, cut = aligned(photo), "aligned"
    except (ImportError, RunError):
        faces, cut = [photo], "middle"
    if not faces:
        faces, cut = [photo], "no_face"
    mode = {1: "L", 3: "RGB"}[nc]
    return face_transform(image_size, nc)(faces[0].convert(mode))[None], cut
