"""How close images are to real ones in the features of trained nets, by torch-fidelity.

Inception gives FID (Heusel et al. 2017) and KID (Binkowski et al. 2018), VGG16 gives precision and
recall (Kynkaanniemi et al. 2019).
"""

import warnings
import zlib
from dataclasses import dataclass

import torch
from torch.utils.data import Subset

from machinery.console import RunError
from machinery.processes import choose_device


@dataclass(frozen=True)
class Net:
    """A trained net, its weights, and what its features give."""

    title: str
    figures: str  # in words
    metrics: tuple[str, ...]  # and as torch-fidelity names them
    name: str  # torch-fidelity's name of the net
    url: str  # of the weights that it loads
    constant: str  # the constant that names a file of them


NETS = [
    Net(
        "Inception",
        "FID and KID",
        ("fid", "kid"),
        "inception-v3-compat",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
        "weights-inception-2015-12-05-6726825d.pth",
        "inception_weights",
    ),
    Net(
        "VGG16",
        "precision and recall",
        ("prc",),
        "vgg16",
        "https://download.pytorch.org/models/vgg16-397923af.pth",
        "vgg_weights",
    ),
]
FIGURES = {  # how we and torch-fidelity name them, and the factor between
    "FID": ("frechet_inception_distance", 1),
    "KID": ("kernel_inception_distance_mean", 1000),
    "+-": ("kernel_inception_distance_std", 1000),
    "precision": ("precision", 1),
    "recall": ("recall", 1),
}


def usable_nets(config):
    """Those of NETS whose weights can be loaded: from config's file, else from the network.

    What the others give is left out, with a note. Raises RunError where a file that config names is
    not of its net, or where no net is left.
    """
    from torch_fidelity.utils import (  # slow to load
        create_feature_extractor,
        resolve_feature_layer_for_metric,
    )

    usable, lacking = [], {}
    for net in NETS:
        path = getattr(config, net.constant) or None
        layer = resolve_feature_layer_for_metric(net.metrics[0], feature_extractor=net.name)
        options = {"feature_extractor_weights_path": path, "cuda": False, "verbose": False}
        try:
            if path:  # torch-fidelity would run what code there is in the file
                torch.load(path, weights_only=True)
            create_feature_extractor(net.name, [layer], **options)
            usable.append(net)
        except Exception as error:  # many kinds, for a file that is damaged or of something else
            reason = error if isinstance(error, OSError) else "damaged, or of another net"
            lacking[net] = RunError(
                f"the weights of {net.title} cannot be loaded from {path or 'the network'} "
                f"({reason}); get {net.url} and name the file with "
                f"--{net.constant.replace('_', '-')}."
            )
            if path:
                raise lacking[net] from error
    if not usable:
        raise lacking[NETS[0]]
    for net, error in lacking.items():
        print(f"Going on without {net.figures}, since {error}", flush=True)
    return usable


def feature_figures(pixels, others, nets, config):
    """What nets, from usable_nets(config), give, as a dict with keys of FIGURES.

    pixels: generated images, others: real ones; uint8 (N, H, W, C). The features of others are kept
    in config.cache_dir. KID is x 1000, and +- its spread.
    """
    import torch_fidelity  # slow to load

    def dataset(images):
        images = torch.tensor(images).permute(0, 3, 1, 2).expand(-1, 3, -1, -1)
        return Subset(images, range(len(images)))

    size = "x".join(map(str, others.shape))
    cache_name = f"{zlib.crc32(others.tobytes()):08x}-{size}"
    found = {}
    for net in nets:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of more workers than cores
            found |= torch_fidelity.calculate_metrics(
                input1=dataset(pixels),  # the generated ones, for precision and recall
                input2=dataset(others),
                input2_cache_name=cache_name,
                cache_root=config.cache_dir,
                kid_subset_size=min(1000, len(pixels)),
                feature_extractor=net.name,
                feature_extractor_weights_path=getattr(config, net.constant) or None,
                cuda=choose_device(config.device).type == "cuda",
                verbose=False,
                **dict.fromkeys(net.metrics, True),
            )
    return {
        figure: factor * found[name] for figure, (name, factor) in FIGURES.items() if name in found
    }
