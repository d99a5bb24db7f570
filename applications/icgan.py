"""Hair colour, glasses and the like on demand: IcGAN (Perarnau et al. 2016, arXiv:1611.06355).

python -m applications.icgan                       # train; CelebA if it is there, else drawn faces
python -m applications.icgan --data-dir my_faces.zip --attributes-file my_attributes.txt
python -m applications.icgan --resume latest       # go on with an interrupted run
python -m applications.icgan --input photo.jpg --out-dir changed --set Eyeglasses=1 Blond_Hair=1
python -m applications.icgan --input noise --out-dir faces  # faces of nobody, changed in all ways
python -m applications.icgan --help                # every constant below is also a flag
"""

import signal
import sys

if __name__ == "__main__":  # until PyTorch is loaded, Ctrl-C ends this in silence
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if not __spec__:  # started as a file, not by -m
        sys.path.append(f"{sys.path[0]}/..")

import zlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from PIL import Image, ImageDraw
from torch import nn

from applications.common import (
    SIDE,
    TrainConfig,
    UseConfig,
    checked_device,
    middle_square,
    new_folder,
    open_attributes,
    open_images,
    open_net,
    save_figures,
    step,
    texts_of,
    train_or_use,
    use_on_pictures,
)
from applications.nets import encoder, trained_face_net
from common_tools import RunError, run_as_script, set_seed
from dcgan import Discriminator, Generator, initialize_weights
from drawings import faces
from gan_demo import contrast_loss
from machinery.acceleration import autocast, fused_adam
from machinery.batches import to_images
from machinery.constants import Below1, Count, Free, Place, Rate, Seed, Share, Weight
from machinery.diffaugment import augment
from machinery.ema import WeightAverage
from machinery.pictures import make_grid, save_picture, to_pictures
from machinery.processes import get_rank
from machinery.run import Run
from my_dataset import CELEBA_DIR

Words = tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]]  # of each --set
NINE = "Black_Hair,Blond_Hair,Brown_Hair,Gray_Hair,Eyeglasses,Bangs,Smiling,Male,Young"
HAIR = {"Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"}  # a face has one of them, or none
ROWS = 8  # faces in a picture of an epoch, or in a grid


@dataclass
class Config(TrainConfig):
    """Learn to change attributes of faces. With --input and --out-dir: change yours (--input x
    --help tells more). Every constant can be edited in applications/icgan.py or given as a flag."""

    data_dir: Free[Place] = CELEBA_DIR  # folder or .zip of images
    attributes_file: Free[Place] = "data/list_attr_celeba.txt"  # CelebA's, for data_dir's images
    attributes: str = NINE  # what to learn: names in that file, with commas between
    num_epochs: Free[Count] = 16  # times through all the images but the tenth that is kept apart
    gan_epochs: Count = 12  # of them the first, in which all learn but the encoder of noise
    batch_size: Count = 8  # images in one iteration (of each process, under torchrun)
    nz: Count = 64  # length of the noise
    ngf: Count = 40  # width of the generator
    ndf: Count = 48  # width of the discriminator
    width: Count = 28  # width of the encoders
    lr: Rate = 0.0002  # learning rate of the generator's and the discriminator's Adam
    lr_e: Rate = 0.001  # and of the encoders'
    real_label: Share = 0.9  # D's target for real images, and G's for its own
    match_contrast: Weight = 10.0  # holds G's colors and contrast to real ones, as in gan_demo.py
    obey: Weight = 1.0  # weight of D's loss on attributes, for G and for D
    reconstruct: Weight = 1.0  # weight of real images' squared error, beside that of the noise
    ema_decay: Below1 = 0.999  # of the moving average of the nets' weights, which is what is used
    out_dir: Free[Place] = "log_gan/icgan"  # each run gets a folder of its own in here


@dataclass
class Use(UseConfig):
    """Change attributes of faces: the middle square of each picture is encoded, and drawn anew with
    64 x 64 pixels."""

    input: Place  # a picture, or a folder of them; or noise: a grid of new faces, a change a column
    set: Words = ()  # what to change, such as Eyeglasses=1 Smiling=0; all else stays
    strength: Weight = 1.5  # of a change: 1 is what the generator has learnt, 2 exaggerates
    seed: Seed = 1  # of what is drawn from noise


METRICS = {
    "loss_d": "Loss_D",
    "loss_g": "Loss_G",
    "loss_told": "attributes, real",
    "loss_obey": "attributes, drawn",
    "loss_y": "attributes, encoded",
    "loss_z": "noise",
    "loss_reconstruct": "reconstruction",
    "d_real": "D(real)",
    "d_drawn": "D(drawn)",
}


class IcGAN(nn.Module):
    """The nets that are used: a generator, and the encoders of its noise z and its attributes y.

    names: of the attributes; kept with the weights, so that their file tells what can be changed.
    """

    def __init__(self, names, nz, ngf, width):
        super().__init__()
        self.attributes, self.nz = names, nz
        count, letters = len(names), list(",".join(names).encode())
        self.register_buffer("names", torch.tensor(letters, dtype=torch.uint8))
        self.generator = Generator(nz + count, ngf)
        widths = [width, 2 * width, 4 * width, 8 * width]
        # Half the size tells the attributes as well, in a third of the time
        small = nn.AvgPool2d(2), encoder(widths[1:], count, dropout=0.3)
        self.encoders = nn.ModuleDict({"z": encoder(widths, nz), "y": nn.Sequential(*small)})

    def forward(self, codes):
        return self.generator(codes)

    def encode(self, images):
        """Images (N, 3, 64, 64) in [-1, 1] -> noise (N, nz) and attributes (N, k), -1 or 1."""
        told = self.encoders["y"](images)
        return self.encoders["z"](images), (told > 0) * 2.0 - 1

    def draw(self, noise, attributes):
        """Noise (N, nz) and attributes (N, k) -> images (N, 3, 64, 64) in [-1, 1]."""
        return self.generator(join(noise, attributes))


def join(noise, attributes):
    """The generator's input: (N, nz) and (N, k) -> (N, nz + k, 1, 1)."""
    return torch.cat([noise, attributes], 1)[..., None, None]


class Judge(nn.Module):
    """This repository's discriminator, which also tells the attributes: images (N, 3, 64, 64) ->
    logits of being real (N, 1, 1, 1) and of each attribute (N, k), float32.

    The paper's sees the attributes beside the image. To be asked for them (Odena et al. 2017,
    arXiv:1610.09585) makes it look for what is rare, such as glasses, too.
    """

    def __init__(self, count, ndf):
        super().__init__()
        self.judge, self.tell = Discriminator(3, ndf, SIDE), nn.Conv2d(8 * ndf, count, 4)

    def forward(self, images):
        *layers, last, _ = self.judge.main
        features = nn.Sequential(*layers)(augment(images, "shift"))
        return last(features).float(), self.tell(features).flatten(1).float()


def changed(attributes, chosen, values, names):
    """Attributes (N, k), those chosen set to their values; a hair colour that is put on takes the
    place of the other ones.

    chosen: bool, (N, k) or (k,); values: -1 or 1, the same; names: of the attributes.
    """
    hair = torch.tensor([name in HAIR for name in names], device=attributes.device)
    new = torch.where(chosen, values, attributes)
    dyed = (chosen & hair & (new > 0)).any(-1, keepdim=True)
    return torch.where(dyed & hair & ~chosen, -1.0, new)


def train_step(real, labels, net, discriminator, optimizers, config, encoding):
    """One iteration of the GAN and the encoder of attributes; if encoding, of that of the noise.

    real: (N, 3, 64, 64) in [-1, 1]; labels: (N, k), -1 or 1; optimizers: of the generator, the
    discriminator and the encoders. Returns the METRICS, on the device.
    """
    half, device, (count, k) = autocast(real.device, config.bf16), real.device, labels.shape
    noise = torch.randn(count, config.nz, device=device, dtype=real.dtype)
    # Faces as they are asked for: half of them with one attribute of a real face changed
    chosen = F.one_hot(torch.randint(k, [count], device=device), k) > 0
    chosen &= torch.rand(count, 1, device=device) < 0.5
    wanted = changed(labels, chosen, -labels, net.attributes)

    def loss(logits, label):
        label = torch.as_tensor(label, dtype=logits.dtype).to(logits).expand_as(logits)
        return F.binary_cross_entropy_with_logits(logits, label)

    optimizer_g, optimizer_d, optimizer_e = optimizers
    zero = torch.zeros((), device=device)
    if encoding:
        # The paper's encoder learns from drawn faces, whose noise is known. How real ones come out
        # counts here, too: their noise is not known, but what is drawn from it is to be like them
        with half:
            with torch.no_grad():
                drawn = net.draw(noise, wanted)
            encode = net.encoders["z"]
            loss_z = F.mse_loss(encode(drawn).float(), noise)
            again = net.draw(encode(real), labels).float()
        loss_reconstruct = F.mse_loss(again, real)
        step(loss_z + config.reconstruct * loss_reconstruct, encode, optimizer_e)
        return torch.stack([*[zero] * 5, loss_z, loss_reconstruct, zero, zero]).detach()

    # (1) D: real or drawn? And which attributes have the real ones?
    with half:
        drawn = net.draw(noise, wanted)
        logits_real, told = discriminator(real)
        logits_drawn, _ = discriminator(drawn.detach())
    loss_told = loss(told, (labels + 1) / 2)
    loss_d = loss(logits_real, config.real_label) + loss(logits_drawn, 0.0)
    step(loss_d + config.obey * loss_told, discriminator, optimizer_d)

    # (2) The encoder of attributes, from real faces
    encode = net.encoders["y"]
    with half:
        loss_y = F.mse_loss(encode(augment(real, "shift")).float(), labels)
    step(loss_y, encode, optimizer_e)

    # (3) G: D takes its faces for real, and sees in them what was asked for
    with half:
        logits, told = discriminator(drawn)
    loss_g, loss_obey = loss(logits, config.real_label), loss(told, (wanted + 1) / 2)
    total = loss_g + config.match_contrast * contrast_loss(drawn, real) + config.obey * loss_obey
    step(total, net.generator, optimizer_g)
    judged = logits_real.sigmoid().mean(), logits_drawn.sigmoid().mean()
    return torch.stack([loss_d, loss_g, loss_told, loss_obey, loss_y, zero, zero, *judged]).detach()


def train(config: Config) -> Path:
    """Train as config says, or go on with the run folder config.resume. Returns the run's folder.

    Raises RunError, with a sentence for the user, for bad input and for what stops a Run.
    """
    device = checked_device(config)
    data, kept_apart, config = open_images(config, device)
    names, labels = asked_attributes(config, len(data.images) + len(kept_apart))
    if config.num_epochs <= config.gan_epochs:
        raise RunError(
            f"num_epochs is {config.num_epochs}; it must be more than gan_epochs "
            f"({config.gan_epochs}), for only then the noise of a photo is learnt."
        )
    labels, labels_apart = np.split(labels, [len(data.images)])
    data.labels = torch.tensor(labels).float() * 2 - 1
    data.fingerprint = zlib.crc32(labels.tobytes(), data.fingerprint)
    truth = to_images(torch.tensor(kept_apart)).to(device)

    set_seed(config.seed)
    net = IcGAN(names, config.nz, config.ngf, config.width)
    discriminator = Judge(len(names), config.ndf)
    initialize_weights(net.generator)
    initialize_weights(discriminator)
    for each in (net, discriminator):
        each.to(device, memory_format=torch.channels_last)
    optimizer_g = fused_adam(net.generator, config.lr, beta1=0.5)
    optimizer_d = fused_adam(discriminator, config.lr, beta1=0.5)
    optimizer_e = fused_adam(net.encoders, config.lr_e, beta1=0.9)
    average = WeightAverage(net, config.ema_decay)
    parts = {"g_model": net, "d_model": discriminator, "g_ema_model": average.net}
    parts |= {"g_optimizer": optimizer_g, "d_optimizer": optimizer_d, "e_optimizer": optimizer_e}
    nets = net, discriminator, (optimizer_g, optimizer_d, optimizer_e)
    fixed_noise = torch.randn(len(truth[:ROWS]), config.nz).to(device)  # until noise is encoded

    with Run(config, parts, METRICS, data) as run:
        run.save_picture("real.png", lambda: make_grid(to_images(torch.tensor(data.images[:64]))))
        for epoch in run.epochs():
            encoding = epoch >= config.gan_epochs
            if encoding:  # from here on what has been learnt stays as its average is
                net.generator.load_state_dict(average.net.generator.state_dict())
                net.encoders["y"].load_state_dict(average.net.encoders["y"].state_dict())
            net.generator.train(not encoding)
            for real, labels_real in run.batches():
                average.set_share(run.step)
                run.count(train_step(real, labels_real, *nets, config, encoding))
                average.update(net)
            if not encoding:
                some = data.labels[torch.randint(len(data.labels), (8, 64))].to(device)
                average.count_statistics(
                    join(torch.randn(64, config.nz, device=device), each) for each in some
                )
            noise = None if encoding else fixed_noise
            run.end_epoch(partial(rows_of, average.net, truth[:ROWS], noise))
    if get_rank() == 0:
        print("Training the classifier that the figures need; --resume does it again.", flush=True)
    classifier = trained_face_net(data.images, labels, run.folder / "classifier.pt", True)
    save_figures(run.folder, figures(average.net, classifier, truth, labels_apart), len(truth))
    return run.folder


def asked_attributes(config, count):
    """The names that config asks for, and which of its images have them, bool (count, k).

    Raises RunError where the attributes of an image are not known.
    """
    names = list(dict.fromkeys(name.strip() for name in config.attributes.split(",")))
    rows = open_attributes(config, count, faces.attributes)
    for name in names:
        if name not in rows[0]:
            raise RunError(
                f"attributes has {name or 'an empty name'}, which is not told of these images; told "
                f"are {', '.join(rows[0])}."
            )
    return names, np.array([[row[name] for name in names] for row in rows])


@torch.no_grad()
def each_changed(net, noise, attributes, strength=Use.strength):
    """Drawn faces (N, 1 + k, 3, 64, 64): as they are, and with each attribute the other way.

    strength: how far beyond the -1 and 1 of the training it is set (Lample et al. 2017,
    arXiv:1706.00409, slide attributes so). What is rare among photos is seen more often with 1.5.
    """
    versions, others = [attributes], -strength * attributes.sign()
    for one in torch.eye(attributes.shape[1], device=noise.device) > 0:
        versions.append(changed(attributes, one, others, net.attributes))
    return torch.stack([net.draw(noise, version) for version in versions], 1)


@torch.no_grad()
def rows_of(net, images, noise=None):
    """The picture of an epoch: images, what is drawn of them, and that with each attribute changed.

    noise: what to draw instead of the images' own noise, as long as no encoder knows that.
    """
    encoded, attributes = net.eval().encode(images)
    drawn = each_changed(net, encoded if noise is None else noise, attributes)
    return make_grid(torch.cat([images[:, None], drawn], 1).flatten(0, 1), 1 + drawn.shape[1])


@torch.no_grad()
def figures(net, classifier, truth, labels):
    """Of each attribute, in percent of the images, what a classifier sees that had no part in this.

    right: photos whose attribute it tells as the labels do; redrawn: photos that show it drawn anew
    as they did before; before: those drawn anew that show the other value, as chance has it; after:
    the same once it is asked for; kept: of all other attributes, how many then stay as they were.
    truth: (N, 3, 64, 64) in [-1, 1]; labels: bool (N, k).
    """
    names = net.eval().attributes
    seen, wanted, labels = [], [], torch.tensor(labels)
    for images in truth.split(50):
        noise, attributes = net.encode(images)
        shown = torch.cat([images[:, None], each_changed(net, noise, attributes)], 1).cpu()
        seen.append(classifier.eval()(shown.flatten(0, 1)).unflatten(0, shown.shape[:2]) > 0)
        wanted.append(attributes.cpu() < 0)
    (photos, drawn, *after), wanted = torch.cat(seen).unbind(1), torch.cat(wanted)
    rows = {}
    for k, name in enumerate(names):
        others = [other for other in names if other != name and not {other, name} <= HAIR]
        others = [names.index(other) for other in others]
        shares = {
            "right": photos[:, k] == labels[:, k],
            "redrawn": photos[:, k] == drawn[:, k],
            "before": drawn[:, k] == wanted[:, k],
            "after": after[k][:, k] == wanted[:, k],
            "kept": after[k][:, others] == drawn[:, others],
        }
        rows[name] = {
            column: 100 * float(hits.double().mean()) if hits.numel() else 100.0  # of no others
            for column, hits in shares.items()
        }
    means = np.mean([list(row.values()) for row in rows.values()], 0).tolist()
    return rows | {"mean": dict(zip(shares, means))}


# --- using it


def use(config: Use) -> list[Path]:
    """Change each face that config names; returns the paths of what was written.

    Raises RunError, with a sentence for the user, for bad input.
    """
    net = open_net(config, "icgan", build)
    chosen, values = asked(config.set, net.attributes)

    def change(attributes):
        new = changed(attributes.cpu(), chosen, config.strength * values, net.attributes)
        return new.to(net.names.device)

    if config.input != "noise" or Path(config.input).exists():
        return use_on_pictures(config, lambda picture: change_picture(net, picture, change))
    set_seed(config.seed)
    noise = torch.randn(ROWS, net.nz).to(net.names.device)
    attributes = torch.full((ROWS, len(chosen)), -1.0)
    for one in torch.eye(len(chosen)).flip(0) > 0:  # half get it; of hair, the first colours stay
        some = one & (torch.rand(ROWS, 1) < 0.5)
        attributes = changed(attributes, some, -attributes, net.attributes)
    path = new_folder(config.out_dir) / "faces.png"
    faces = each_changed(net, noise, change(attributes), config.strength)
    save_picture(captioned(faces, net.attributes), path)
    print(f"{ROWS} faces, each as it is and with every change, are in {path}")
    return [path]


def build(weights):
    """The net of a state dict."""
    names = bytes(weights["names"].tolist()).decode().split(",")
    nz = weights["generator.main.0.weight"].shape[0] - len(names)
    ngf = weights["generator.main.12.weight"].shape[0]
    width = weights["encoders.z.0.weight"].shape[0]
    return IcGAN(names, nz, ngf, width)


def asked(words, names):
    """What NAME=0 and NAME=1 ask for: bool (k,), which of the names, and -1 or 1, (k,), the values.

    words: as texts_of takes them. Raises RunError for anything else, and for what cannot be both.
    """
    values, words = torch.zeros(len(names)), texts_of(words, "set")
    for word in words:
        name, _, value = word.partition("=")
        if name not in names or value not in ("0", "1"):
            raise RunError(
                f"set has {word}, which is no NAME=0 or NAME=1 of what these weights can change: "
                f"{', '.join(names)}."
            )
        values[names.index(name)] = 2.0 * int(value) - 1
    hair = [word for word in words if word.removesuffix("=1") in HAIR]
    if len(hair) > 1 or (values != 0).sum() < len({*words}):
        raise RunError(f"set has {', '.join(words)}: a face cannot be all of that; ask for less.")
    return values != 0, values


@torch.no_grad()
def change_picture(net, picture, change):
    """The middle square of a PIL image (RGB) of any size at 64 x 64, and the face drawn of it.

    change: from the attributes (1, k) that are seen in it to those that are wanted.
    """
    images = middle_square(picture, net.names.device)
    noise, attributes = net.encode(images)
    return tuple(to_pictures(torch.cat([images, net.draw(noise, change(attributes))])))


def captioned(rows, names):
    """The faces of each_changed as a picture (a PIL image), with the names above their columns."""
    large = F.interpolate(rows.flatten(0, 1), scale_factor=2, mode="bicubic")
    grid = make_grid(large, rows.shape[1])
    picture = Image.new("RGB", (grid.width, grid.height + 16))
    picture.paste(grid, (0, 16))
    for column, name in enumerate(["as drawn", *names]):
        ImageDraw.Draw(picture).text((column * (2 * SIDE + 2) + 4, 3), name, "white")
    return picture


def main():
    train_or_use(train, Config, use, Use)


if __name__ == "__main__":
    run_as_script(main)
