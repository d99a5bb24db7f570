"""A picture from a sentence, first small, then larger: StackGAN (Zhang et al. 2017, arXiv:1612.03242).

python -m applications.stackgan                    # train, on drawn faces
python -m applications.stackgan --data-dir data/img_align_celeba.zip  # or on CelebA
python -m applications.stackgan --resume latest    # go on with an interrupted run
python -m applications.stackgan --text "An old woman with long grey hair" --out-dir drawn
python -m applications.stackgan --help             # every constant below is also a flag
"""

import signal
import sys

if __name__ == "__main__":  # until PyTorch is loaded, Ctrl-C ends this in silence
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if not __spec__:  # started as a file, not by -m
        sys.path.append(f"{sys.path[0]}/..")

import os
import zlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from torch import nn

from applications.common import (
    SIDE,
    TrainConfig,
    apply,
    as_pixels,
    checked_device,
    new_folder,
    open_attributes,
    open_net,
    save_figures,
    step,
    texts_of,
    train_or_use,
)
from applications.nets import place_net, trained_face_net, trait_net
from applications.stackgan_nets import SMALL, VALUES, Judge, StackGAN, enlarged
from common_tools import RunError, run_as_script, set_seed
from dcgan import initialize_weights
from drawings.words import (
    TRAITS,
    describe,
    some_of,
    traits_of_celeba,
    traits_of_drawn,
    vocabulary,
)
from machinery.acceleration import autocast, fused_adam
from machinery.batches import FaceBatches, to_images
from machinery.constants import Below1, Count, Free, Place, Rate, Seed, Weight
from machinery.diffaugment import augment
from machinery.ema import WeightAverage
from machinery.figures import descriptors, swd
from machinery.pictures import make_grid, save_picture
from machinery.processes import get_rank
from machinery.run import Run
from my_dataset import MANY_FACES, find_apart, load_faces

Texts = tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]]  # of each --text


@dataclass
class Config(TrainConfig):
    """Learn to draw what a sentence says. With --text and --out-dir: draw yours (--text x --help
    tells more). Every constant can be edited in applications/stackgan.py or given as a flag."""

    data_dir: Free[Place] = MANY_FACES  # folder or .zip of images
    attributes_file: Free[Place] = "data/list_attr_celeba.txt"  # CelebA's, for other images
    num_epochs: Free[Count] = 25  # times through all the images but those that are kept apart
    text_epochs: Count = 4  # of them the first, in which traits are learnt, in words and in images
    small_epochs: Count = 12  # and the next, in which stage I learns; then stage II does
    batch_size: Count = 16  # images in one iteration (of each process, under torchrun)
    nc: Count = 48  # numbers drawn at random around a meaning, that a picture is made of
    nz: Count = 32  # length of the noise
    ngf: Count = 40  # width of stage I
    width: Count = 80  # and of stage II
    ndf: Count = 40  # width of the discriminators
    lr: Rate = 0.0003  # learning rate of Adam for the discriminators; the stages' is twice as high
    lr_text: Rate = 0.004  # and of AdamW for words and traits, falling to 0
    kl: Weight = 0.05  # weight of how far those numbers are from a normal distribution
    named: Weight = 0.4  # weight of whether a picture shows what its sentence names, beside 1 for D
    ema_decay: Below1 = 0.999  # of the moving average of the nets' weights, which is what is used
    out_dir: Free[Place] = "log_gan/stackgan"  # each run gets a folder of its own in here


@dataclass
class Use:
    """Draw what sentences say, in English or Chinese: each becomes a picture of eight faces, those
    of stage II below those of stage I that they were made of."""

    text: Texts  # a sentence such as "A bald man with sunglasses"; or several
    out_dir: Place  # a new folder: one PNG for each sentence
    path_checkpoint: str = ""  # run or file; empty: your newest run, else the released weights
    seed: Seed = 1  # same seed, same faces
    device: str = "auto"  # auto (CUDA or Apple's MPS if there is one), cpu, cuda, cuda:1, mps


METRICS = {
    "loss_traits": "traits of sentences and faces",
    "loss_d": "Loss_D",
    "loss_g": "Loss_G",
    "loss_named": "traits of drawn faces",
    "loss_kl": "KL divergence",
    "d_right": "D(real, right words)",
    "d_wrong": "D(real, wrong words)",
    "d_drawn": "D(drawn)",
}
# Hair whose numbers in TRAITS add up so is never trained on: long red curls, black buns, long straight
# grey hair, purple pigtails ... Who draws them has understood the words
HAIR, APART = ("hair", "length", "shape", "style"), (9, 5)
SHOWN = 8  # faces in a picture
LANGUAGES = "en", "zh"
SAME = torch.tensor([[name == other for other, _ in VALUES] for name, _ in VALUES]).float()


# --- learning


def kept_apart(traits):
    """Whether a face of these traits is never trained on, for its hair."""
    numbers = [TRAITS[name].index(traits[name]) for name in HAIR if name in traits]
    return "hair" in traits and len(numbers) > 1 and sum(numbers) % APART[0] == APART[1]


def open_faces(config, device):
    """The faces of config: those to learn from, as FaceBatches, whose labels are their places in the
    list of traits that is second; third and fourth those kept apart, uint8 (n, 64, 64, 3), and their
    traits; last config with the place where they were found.

    Raises RunError as load_faces does, where traits are not known, and where no face is kept apart.
    """
    source = find_apart(config.data_dir, config.out_dir)
    options = config.max_images, config.skip_bad_images
    images, fingerprint = load_faces(source, config.cache_dir, SIDE, 3, *options)
    config = replace(config, data_dir=os.path.abspath(source))
    traits = open_attributes(config, len(images), traits_of_drawn, traits_of_celeba)
    apart = np.array([kept_apart(each) for each in traits])
    if not apart.any():
        raise RunError(
            f"of {source} no face has hair that is kept apart (grey wavy hair, of CelebA's attributes; of "
            "drawn faces long straight grey hair, black buns and others); add such faces."
        )
    data = FaceBatches(
        images[~apart], config.batch_size, config.seed, device, horizontal_flip=True,
        source=source, fingerprint=zlib.crc32(repr(traits).encode(), fingerprint),
    )  # fmt: skip
    data.labels = torch.arange(len(data.images))
    learnt = [each for each in traits if not kept_apart(each)]
    return data, learnt, images[apart], [each for each in traits if kept_apart(each)], config


def sentences(words, traits):
    """A sentence about some traits of each face: the numbers of its words, (N, L), and which of VALUES
    it names, (N, values).

    The cut of the hair is always named if it has a name, in every other sentence all of the hair: what
    is not named of it tells nothing, so that a colour means the same beside any cut.
    """
    rng = np.random.default_rng(np.random.randint(2**31))
    always = [{*HAIR} if rng.random() < 0.5 else {"style"} for _ in traits]
    named = [some_of(face, rng, always=hair & {*face}) for face, hair in zip(traits, always)]
    texts = [describe(said, rng, LANGUAGES[rng.integers(2)]) for said in named]
    return words.read(texts), torch.tensor(has(named)).float()


def trait_step(real, shown, numbers, named, net, optimizer, config):
    """One iteration of the traits: what do sentences name, what do images show?

    real: (N, 3, 64, 64); shown: which of VALUES they have, (N, values); numbers, named: as of
    sentences(); net: words and trait_net. Returns the METRICS, on the device.
    """
    images = torch.cat([real[::2], enlarged(F.avg_pool2d(real[1::2], 2))])  # as of both stages
    shown = torch.cat([shown[::2], shown[1::2]])
    with autocast(real.device, config.bf16):
        seen = net["traits"](augment(images, "shift")).to(real.dtype)
    loss = F.binary_cross_entropy(net["words"](numbers), named)
    loss = loss + F.binary_cross_entropy_with_logits(seen, shown)
    step(loss, net, optimizer)
    return torch.stack([loss, *torch.zeros(len(METRICS) - 1, device=real.device)]).detach()


def train_step(real, meanings, wrong, named, net, judges, viewer, optimizers, config, second):
    """One iteration of a stage: a step of its D, then one of the stage through the new D.

    real: (N, 3, 64, 64) in [-1, 1]; meanings, wrong: of sentences that fit them and that do not, (N,
    size); named: which of VALUES the first of these name, (N, values); viewer: a trait_net;
    optimizers: of net and judges; second: whether stage II learns. Returns the METRICS, on the device.
    """
    half, (optimizer_g, optimizer_d) = autocast(real.device, config.bf16), optimizers
    stage, judge = (net.second, judges[1]) if second else (net.first, judges[0])
    given = torch.randn(len(real), net.nz, device=real.device, dtype=real.dtype)
    if second:
        with half, torch.no_grad():
            given, _ = net.first(meanings, given)
    else:
        real = F.avg_pool2d(real, 2)

    # (1) D: real with its words, real with others, drawn
    with half:
        drawn, kl = stage(meanings, given)
        features = judge.features(real)
        right, other = judge(features, meanings), judge(features, wrong)
        fake = judge(judge.features(drawn.detach()), meanings)
    loss_d = F.softplus(-right).mean() + (F.softplus(other) + F.softplus(fake)).mean() / 2
    step(loss_d, judge, optimizer_d)

    # (2) The stage: D takes what it draws for real and for what was said; and what is named is seen in it,
    # and no other value of these traits, as with an auxiliary classifier (Dash et al. 2017, arXiv:1703.06412)
    with half:
        loss_g = F.softplus(-judge(judge.features(drawn), meanings)).mean()
        seen = viewer(augment(drawn if second else enlarged(drawn), "shift")).to(real.dtype)
    asked = named @ SAME.to(named)
    told = F.binary_cross_entropy_with_logits(seen, named, asked, reduction="sum") / len(real)
    total = loss_g + config.named * told + config.kl * kl
    step(total, stage, optimizer_g)
    judged = (each.sigmoid().mean() for each in (right, other, fake))
    return torch.stack([torch.zeros_like(kl), loss_d, loss_g, told, kl, *judged]).detach()


def train(config: Config) -> Path:
    """Train as config says, or go on with the run folder config.resume. Returns the run's folder.

    Raises RunError, with a sentence for the user, for bad input and for what stops a Run.
    """
    device = checked_device(config)
    before = config.text_epochs + config.small_epochs
    if config.num_epochs <= before:
        raise RunError(
            f"num_epochs is {config.num_epochs}; it must be more than text_epochs and small_epochs together "
            f"({before}), for only then stage II learns."
        )
    data, traits, pixels, traits_apart, config = open_faces(config, device)
    # Every other face that is kept apart is for the classifier of the figures: it must know such hair
    spare, pixels = pixels[1::2], pixels[::2]
    traits_spare, traits_apart = traits_apart[1::2], traits_apart[::2]
    truth = to_images(torch.tensor(pixels)).to(device)

    set_seed(config.seed)
    net = StackGAN(vocabulary(), config.nc, config.nz, config.ngf, config.width)
    judges = nn.ModuleList([Judge(side, len(VALUES), config.ndf) for side in (SMALL, SIDE)])
    initialize_weights(judges)
    viewer = trait_net(len(VALUES))
    taught = nn.ModuleDict({"words": net.words, "traits": viewer})
    for each in (net, judges, taught):
        each.to(device, memory_format=torch.channels_last)
    optimizers = fused_adam(net, 2 * config.lr, beta1=0.5), fused_adam(judges, config.lr, beta1=0.5)
    # Its decay keeps the meanings of words few and plain: they hold beside words never seen with them
    optimizer_t = torch.optim.AdamW(taught.parameters(), config.lr_text, weight_decay=0.1)
    average, nets = WeightAverage(net, config.ema_decay), (net, judges, viewer, optimizers)
    parts = {"g_model": net, "d_model": judges, "t_model": taught, "g_ema_model": average.net}
    parts |= dict(zip(["g_optimizer", "d_optimizer", "t_optimizer"], [*optimizers, optimizer_t]))
    shown = torch.tensor(has(traits)).float().to(device)
    rng = np.random.default_rng(config.seed)
    named = [some_of(each, rng, always={*HAIR} & {*each}) for each in traits_apart]
    texts = [describe(each, rng, LANGUAGES[place % 2]) for place, each in enumerate(named)]
    numbers_apart = net.words.read(texts).to(device)

    with Run(config, parts, METRICS, data) as run:
        run.save_picture("real.png", lambda: make_grid(to_images(torch.tensor(data.images[:64]))))
        for epoch in run.epochs():
            reading, begun = epoch < config.text_epochs, config.text_epochs
            if second := epoch >= begun + config.small_epochs:
                begun += config.small_epochs
            net.train()
            viewer.train(reading)
            if not reading:  # from here on they stay as they are
                average.net.words.load_state_dict(net.words.state_dict())
            if second:  # and from here on stage I stays as its average is
                net.first.load_state_dict(average.net.first.state_dict())
                net.first.eval()
            for real, places in run.batches():
                faces, has_them = [traits[place] for place in places.tolist()], shown[places]
                faces *= 4 if reading else 1  # words take little time
                numbers, said = (each.to(device) for each in sentences(net.words, faces))
                if reading:
                    for group in optimizer_t.param_groups:
                        group["lr"] = config.lr_text * (1 - run.step / (begun * len(data)))
                    told = numbers, said, taught, optimizer_t
                    run.count(trait_step(real, has_them, *told, config))
                    continue
                with torch.no_grad():
                    meanings = net.words(numbers)
                fits = (1 - has_them) @ said.T == 0
                others = (torch.rand(fits.shape, device=device) + ~fits).argmax(1)  # do not fit
                told = meanings, meanings[others], said
                average.set_share(run.step - begun * len(data))  # of this stage, from its beginning
                run.count(train_step(real, *told, *nets, config, second))
                average.update(net)
            with torch.no_grad():
                some, _ = sentences(net.words, traits[:512])
                some, meanings = net.words(some.to(device)), net.words(numbers_apart)
            average.count_statistics(some.split(64))
            run.end_epoch(partial(picture_of, average.net, truth[:SHOWN], meanings[:SHOWN]))
    if get_rank() == 0:
        print("Training the classifier that the figures need; --resume does it again.", flush=True)
    seen, told = np.concatenate([data.images, spare]), has(traits + traits_spare)
    classifier = trained_face_net(seen, told, run.folder / "classifier.pt", build=place_net)
    set_seed(config.seed)
    small, large = average.net.eval().draw(meanings)
    others = to_images(torch.tensor(data.images[: len(truth)]))
    pictures = {"others": others, "real": truth, "stage I": enlarged(small), "stage II": large}
    rows = figures(classifier, pictures, has(named), has(traits_apart))
    save_figures(run.folder, rows, len(truth))
    return run.folder


def picture_of(net, truth, meanings):
    """The picture of an epoch: faces, and what the stages draw of sentences about them."""
    small, large = net.eval().draw(meanings)
    return make_grid(torch.cat([truth, enlarged(small), large]), len(truth))


def has(traits):
    """Of each face, bool (N, values), which of all values in TRAITS it has."""
    return np.array([[each.get(name) == value for name, value in VALUES] for each in traits])


def figures(classifier, pictures, named, traits):
    """Of each trait, in percent, how often a classifier that had no part in this sees it where a
    sentence names it, in {name: images} of these sentences; and SWD of these images to the real ones.

    right: how often it tells the values of that trait right, on the real ones. pictures: (N, 3, 64,
    64) each; named, traits: bool (N, values), what the sentences name and the real ones have.
    """
    seen = {name: apply(classifier, images.cpu()).numpy() > 0 for name, images in pictures.items()}
    rows, names = {}, np.array([name for name, _ in VALUES])
    for name in [*TRAITS, "all"]:
        part = (names == name) | (name == "all")
        known = traits[:, part].any(1)
        shares = {"right": (seen["real"] == traits)[known][:, part]}
        shares |= {source: each[:, part][named[:, part]] for source, each in seen.items()}
        rows[name] = {each: 100 * float(hits.mean()) for each, hits in shares.items() if hits.size}
    wanted = descriptors(as_pixels(pictures["real"]))
    for source, images in pictures.items():
        for side, distance in swd(descriptors(as_pixels(images)), wanted).items():
            rows.setdefault(f"SWD {side}", {})[source] = distance
    return rows


# --- using it


def use(config: Use) -> list[Path]:
    """Draw what each text of config says; returns the paths of what was written.

    Raises RunError, with a sentence for the user, for bad input.
    """
    net = open_net(config, "stackgan", build)
    texts = texts_of(config.text, "text")
    if not texts:
        raise RunError("text has no sentence; give one, such as --text 'A bald man'.")
    numbers = net.words.read(texts).to(net.words.known.device)
    folder, paths = new_folder(config.out_dir), []
    for place, text in enumerate(texts, 1):
        set_seed(config.seed)
        with torch.no_grad():
            meaning = net.words(numbers[place - 1 : place])
        small, large = net.draw(meaning.expand(SHOWN, -1))
        paths.append(folder / f"{place}.png")
        rows = torch.cat([F.interpolate(small, size=SIDE), large])
        save_picture(make_grid(rows, SHOWN), paths[-1])
        print(f"{paths[-1]}: {text}")
    return paths


def build(weights):
    """The net of a state dict."""
    known = bytes(weights["words.known"].tolist()).decode().split()
    nc = weights["first.augment.layer.weight"].shape[0] // 2
    wide = weights["first.generator.main.0.weight"].shape[0]
    ngf = weights["first.generator.main.9.weight"].shape[0]
    width = weights["second.encoder.2.weight"].shape[0]
    return StackGAN(known, nc, wide - nc, ngf, width)


def main():
    train_or_use(train, Config, use, Use, given_by="text")


if __name__ == "__main__":
    run_as_script(main)
