"""What readers of the chapter import: seeds, the device, checkpoint keys, sentences for the user."""

import random

import numpy as np
import torch

from machinery.console import RunError, run_as_script
from machinery.processes import choose_device

__all__ = ["RunError", "choose_device", "remove_module", "run_as_script", "set_seed"]


def set_seed(seed=1):
    """Seed Python's, NumPy's and PyTorch's random numbers, on every device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def remove_module(state_dict):
    """A new state dict without the leading "module." of (Distributed)DataParallel."""
    return {key.removeprefix("module."): value for key, value in state_dict.items()}
