"""From a checkpoint to faces: the generator that it holds, noise, and what the one makes of the other."""

from pathlib import Path

import torch

from dcgan import Generator
from machinery.checkpoints import checkpoint_paths, load_checkpoint, newest_checkpoint
from machinery.console import RunError
from machinery.constants import RUNS
from machinery.files import numbered

RELEASED = Path(__file__).parent / "checkpoints"
BLOCK = 64  # noises drawn at a time, so that a seed's n-th face is the same for any number of them


def find_checkpoint(path):
    """The (path, checkpoint) of a file or a run folder; if path is empty, of the newest there is.

    Raises RunError where there is none.
    """
    path = path or newest_run_or_released()
    return newest_checkpoint(path) if Path(path).is_dir() else (path, load_checkpoint(path))


def newest_run_or_released():
    """The newest run folder that has a checkpoint, else the file of the released weights.

    Raises RunError where there is neither.
    """
    for _, run in reversed(numbered(RUNS, "run")):
        if checkpoint_paths(run):
            return run
    for released in sorted(RELEASED.glob("*.pkl")):
        return released
    raise RunError(
        f"neither a run in {RUNS} nor {RELEASED.name} has a checkpoint; train one with python "
        "gan_demo.py, or name a file with --path-checkpoint."
    )


def load_generator(path, checkpoint, raw=False):
    """The Generator of a checkpoint from path: the average of its weights, if it has one and not raw.

    Raises RunError where its weights are not of one.
    """
    own = checkpoint["g_model_state_dict"]
    try:
        return Generator.from_state_dict(
            own if raw else checkpoint.get("g_ema_model_state_dict", own)
        )
    except ValueError as error:
        raise RunError(f"{path} holds no DCGAN generator: {error}.") from error


def draw_noise(count, nz, seed):
    """Yield noise (64, nz, 1, 1) until there is enough for count faces; from the CPU, since other
    devices have other random numbers."""
    random = torch.Generator().manual_seed(seed)
    for _ in range(0, count, BLOCK):
        yield torch.randn(BLOCK, nz, 1, 1, generator=random)


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
