"""Shuffled batches of packed images, on the device that trains with them."""

from itertools import chain, pairwise

import numpy as np
import torch

from machinery.processes import get_rank, get_world_size

GPU_SHARE = 0.5  # packed images go to the GPU as a whole if they take less of its free memory


def to_images(pixels):
    """uint8 (N, H, W, nc) -> float32 (N, nc, H, W) in [-1, 1], channels_last.

    On a CPU equal to ToTensor and Normalize in every bit, on a GPU to the last but one.
    """
    return pixels.permute(0, 3, 1, 2).float().div_(255).sub_(0.5).div_(0.5)


class FaceBatches:
    """Shuffled batches of packed images, made on the device they are for.

    images: uint8 (N, H, W, nc), such as load_faces gives. If there is room they lie on the GPU as
        they are; else each batch goes there while the one before it is in use.
    batch_size: images in a batch of this process; all world_size processes together take total.
    seed: with the epoch's number it decides the order and the flips, whatever came before.
    horizontal_flip: show each image mirrored every other time, at random.
    source, fingerprint: where the images are from, and what tells them from others; for the run.

    labels, if it is set to a tensor (N, ...), is what is known of each image; a batch is then a pair,
    of images and their labels. None at first.

    len() is the number of batches in an epoch. A short last one is left out; as the order changes
    from epoch to epoch, so do the images in it.
    """

    unit = "images"

    def __init__(
        self, images, batch_size, seed, device, horizontal_flip=False, rank=None, world_size=None,
        source="", fingerprint=0,
    ):  # fmt: skip
        rank = get_rank() if rank is None else rank
        world_size = world_size or get_world_size()
        self.images, self.seed, self.device = images, seed, device
        self.horizontal_flip = horizontal_flip
        self.source, self.fingerprint = source, fingerprint
        self.labels = None
        self.count, self.total = len(images), batch_size * world_size
        self.mine = slice(rank * batch_size, (rank + 1) * batch_size)
        if device.type == "cuda":
            self.upload = torch.cuda.Stream(device)
            if images.nbytes < GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
                self.images = torch.empty(images.shape, dtype=torch.uint8, device=device)
                for first in range(0, len(images), 4096):
                    block = images[first : first + 4096].copy()
                    self.images[first : first + 4096] = torch.from_numpy(block)

    def __len__(self):
        return self.count // self.total

    def epoch(self, epoch, images_seen=0):
        """Yield this process's batches (batch_size, nc, H, W) in [-1, 1], channels_last.

        images_seen: how many of the epoch's images, of all processes, have been used already.
        """
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(len(self.images))
        labels = None if self.labels is None else self.labels[order]
        mirrored = random.random(len(order)) < 0.5 * self.horizontal_flip
        if torch.is_tensor(self.images):
            order = torch.from_numpy(order).to(self.device)
        mirrored = torch.from_numpy(mirrored).to(self.device)
        starts = range(images_seen, len(order) - self.total + 1, self.total)
        totals = [slice(start, start + self.total) for start in starts]
        batches = ((self._fetch(order[total][self.mine]), total) for total in totals)
        for ((pixels, uploaded), total), _ in pairwise(chain(batches, [None])):  # one ahead
            if uploaded:
                torch.cuda.current_stream().wait_event(uploaded)
            images = to_images(pixels)
            if self.horizontal_flip:
                flip = mirrored[total][self.mine, None, None, None]
                images = torch.where(flip, images.flip(3), images)
            if labels is None:
                yield images
            else:
                yield images, labels[total][self.mine].to(self.device)

    def _fetch(self, indices):
        """The pixels (N, H, W, nc) of these images, uint8 on the device, and what to wait for."""
        if torch.is_tensor(self.images):
            return self.images[indices], None
        pixels = torch.from_numpy(self.images[indices])
        if self.device.type != "cuda":
            return pixels.to(self.device), None
        user = torch.cuda.current_stream()
        with torch.cuda.stream(self.upload):
            pixels = pixels.pin_memory().to(self.device, non_blocking=True)
        pixels.record_stream(user)  # its memory is not to be taken back before that is done with it
        return pixels, self.upload.record_event()
