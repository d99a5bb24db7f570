"""Every sentence that a user can get to see, and what brings it up."""

import ast
import errno
import io
import json
import os
import re
import shutil
import signal
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import torch
import tyro
from conftest import ROOT, save_images
from filelock import FileLock
from safetensors.torch import save_file
from test_features import cut_network, stand_in

import align_faces
import gan_demo
import gan_evaluate
import gan_explore
import gan_inference
import machinery.run
import sampling
from common_tools import run_as_script
from dcgan import Discriminator, Generator
from faults.test_checkpoints import Call, copies, doubled, repacked, saved
from faults.test_images import forbid
from faults.test_together import make_infinite, spoil_weights
from machinery import batches, files, processes
from machinery.checkpoints import load_checkpoint
from my_dataset import load_faces

SMALL = "--image-size 32 --nz 8 --ngf 8 --ndf 8 --batch-size 8 --num-epochs 1 --device cpu"
MAINS = {
    "gan_demo.py": gan_demo.main,
    "gan_inference.py": lambda: gan_inference.sample(tyro.cli(gan_inference.Config)),
    "gan_evaluate.py": gan_evaluate.main,
    "gan_explore.py": gan_explore.main,
    "align_faces.py": align_faces.main,
}

# A command, what happens meanwhile (#), and the sentence that ends it, with exit code 2. The ... of
# a sentence is what torch, Pillow, the system or the machine's folders put there.
ERRORS = """
gan_demo.py --lr 2
    lr is 2.0; it must be above 0 and at most 1.
gan_demo.py --image-size 48
    image_size is 48; it must be 32, 64, 128 or 256.
gan_demo.py --nc 2
    nc is 2; it must be 1 (gray) or 3 (RGB).
gan_demo.py --diffaugment colour
    diffaugment is colour; it must be empty, or of color, translation, cutout, shift with commas between.
gan_demo.py --device meta
    device meta cannot be used here (...); try cpu.
gan_demo.py --device cuda:99
    device cuda:99 cannot be used here (...); try cpu.
gan_evaluate.py --vgg-weights vgg16.pth
    a file of weights is named for --inception, which is not asked for; add it.
gan_demo.py --data-dir missing
    data_dir missing does not exist; name a folder or .zip of images.
gan_demo.py --data-dir texts
    data_dir texts has no images in it (.bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .pgm, .png, .ppm, .tif, .tiff, .webp).
gan_demo.py --data-dir phone
    data_dir phone has no images in it (.bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .pgm, .png, .ppm, .tif, .tiff, .webp; passed over: 2 .heic).
gan_demo.py --data-dir images  # it may not be read
    data_dir images cannot be opened (Permission denied); allow it to be read or name another.
gan_demo.py --data-dir disk  # its lost+found may not be read
    1 of 9 images in disk cannot be read: 1 folder that cannot be opened (lost+found/); mend them or, for a new run, remove them or leave them out with --skip-bad-images.
gan_demo.py --data-dir broken.zip
    data_dir broken.zip cannot be opened as a zip (File is not a zip file); download it again, or name a folder or another .zip.
gan_demo.py --data-dir damaged
    3 of 11 images in damaged cannot be read: 2 of an unknown format (a page.png, broken.jpg), 1 cut short (cut.png); mend them or, for a new run, remove them or leave them out with --skip-bad-images.
gan_demo.py --data-dir all_damaged --skip-bad-images
    none of the images in all_damaged can be read: 1 of an unknown format (broken.jpg); name others.
gan_demo.py --data-dir images --batch-size 27
    images gives 26 images, fewer than one batch of 27; use more images or lower batch_size.
gan_demo.py --data-dir images --out-dir images/000.png
    images/000.png could not be written: images/000.png is a file; name a new folder.
gan_demo.py --data-dir images --out-dir full  # no space is left
    full could not be written (No space left on device); what was saved before is intact: free some space or choose another folder, and run again or resume.
gan_demo.py --data-dir images --init-from missing.pkl
    checkpoint missing.pkl does not exist; name a file or a folder.
gan_demo.py --data-dir images --init-from several
    several has more than one file of weights in it (a.pkl, b.pth); name one of them.
gan_demo.py --data-dir images --ngf 16 --init-from weights.pkl
    the nets of init_from weights.pkl have other sizes than this run's; give theirs: --nz 8 --ngf 8 --nc 3 --image-size 32
gan_demo.py --data-dir images  # the loss becomes infinite
    the loss is not finite in epoch 0, iteration 1, and no checkpoint is there yet; start a new run with a lower lr.
gan_demo.py --data-dir images  # the weights become infinite
    after iteration 3 weights are not finite (main.0.weight in g_model_state_dict), and no checkpoint is there yet; start a new run with a lower lr.
gan_demo.py --resume diverging  # the loss becomes infinite
    the loss is not finite in epoch 2, iteration 1; the last good checkpoint is diverging/checkpoint_1_epoch.pkl: --resume goes on from there, and if this comes again, start a new run with a lower lr.
gan_demo.py --data-dir images  # another one trains in this process
    another run is being trained in this process; wait for its end, or train in another one.
gan_demo.py --data-dir images --nz 1000000000000
    there is not enough memory for this; lower batch_size or num_img, or image_size, nz, ngf and ndf of a new run.
gan_demo.py --data-dir images/forbidden/faces  # a folder above it may not be entered
    images/forbidden/faces cannot be used (Permission denied); allow it to be read and written, or name another place.
gan_demo.py --resume with_a_folder  # its metrics.csv is a folder
    with_a_folder/metrics.csv cannot be used (Is a directory); look at what is there, or name another place.
gan_demo.py --data-dir images  # a constant has no type
    real_labels in Config has no type, so it is no constant; write real_labels: float = ..., or what type it has.
gan_demo.py --data-dir images --match-contrast inf
    match_contrast is inf; it must be from 0 to 1000.
gan_demo.py --data-dir data/drawn_faces.zip  # they are damaged
    data_dir data/drawn_faces.zip cannot be opened as a zip (File is not a zip file); delete it, and it is drawn again.
gan_demo.py --data-dir images --device hpu
    device hpu cannot be used here (...); try cpu.
gan_demo.py --data-dir images  # another machine has other images
    images holds other images here than on another machine.
gan_demo.py --data-dir images  # another process dies
    the processes of this job have lost each other (Connection closed by peer); if another one has ended, it or torchrun says why.
gan_demo.py --resume latest --out-dir images
    images has no run to go on with; start one without --resume.
gan_demo.py --resume=
    resume is empty; name a run folder, or "latest".
gan_demo.py --data-dir im\0ages
    data_dir has a null character in it; write it without.
gan_demo.py --data-dir=
    data_dir is empty; it must be a path.
gan_demo.py --resume edited
    edited is no run to go on with: its config.json cannot be read (batch_size is '5'; it must be a whole number.).
gan_demo.py --resume log_gan/run1  # another process trains it
    log_gan/run1 is in use: another process trains it; wait for its end or start a new run.
gan_demo.py --resume images
    images is no run to go on with: it has no config.json; name a run's folder, as log_gan/run1, or give a file to --init-from.
gan_demo.py --data-dir images --out-dir images/runs
    out_dir images/runs lies in data_dir images, so the next run would train on the pictures of this one; name another place for one of them.
gan_demo.py --resume log_gan/run1 --diffaugment=
    diffaugment is nothing, but log_gan/run1 was trained with shift; leave it as it was or start a new run.
gan_demo.py --resume log_gan/run1 --seed 2
    seed is 2, but log_gan/run1 was trained with 1; leave it as it was or start a new run.
gan_demo.py --resume log_gan/run1 --num-epochs 1
    num_epochs is 1, but log_gan/run1 is further already; ask for more.
gan_demo.py --resume begun
    begun has no checkpoint in it; name another folder.
gan_demo.py --resume with_an_encoder --num-epochs 3
    training cannot go on from with_an_encoder/checkpoint_1_epoch.pkl: it lacks optimizer states, or it has other nets than this script with config.json; start a new run.
gan_demo.py --resume without_optimizers
    training cannot go on from without_optimizers/checkpoint_1_epoch.pkl: it lacks optimizer states, or it has other nets than this script with config.json; start a new run.
gan_demo.py --resume of_another_net
    training cannot go on from of_another_net/checkpoint_1_epoch.pkl: it lacks optimizer states, or it has other nets than this script with config.json; start a new run.
gan_demo.py --resume half_a_config
    half_a_config is no run to go on with: its config.json cannot be read (...).
gan_demo.py --resume of_changed_images
    the images in images are not those that of_changed_images was trained on; bring those back, name the place where they are, or start a new run with --init-from of_changed_images.
gan_inference.py --num-img 0
    num_img is 0; it must be 1 or more.
gan_inference.py --seed -1
    seed is -1; it must be from 0 to 2**32 - 1.
gan_inference.py --path-checkpoint weights.pkl --device cuda:99
    device cuda:99 cannot be used here (...); try cpu.
gan_inference.py --path-checkpoint weights.pkl --walk -1
    walk is -1; this z_idx must be from 0 to 7 for weights.pkl.
gan_inference.py --path-checkpoint weights.pkl --walk 8
    walk is 8; this z_idx must be from 0 to 7 for weights.pkl.
gan_inference.py --path-checkpoint images
    images has no checkpoint in it; name another folder.
gan_inference.py  # neither a run nor released weights
    neither a run in nowhere nor checkpoints has a checkpoint; train one with python gan_demo.py, or name a file with --path-checkpoint.
gan_inference.py --path-checkpoint text.pkl
    text.pkl is not a checkpoint that can be opened: it is damaged, or it holds more than tensors and plain values; use another one.
gan_inference.py --path-checkpoint empty.pkl
    empty.pkl is not a checkpoint that can be opened: it is damaged, or it holds more than tensors and plain values; use another one.
gan_inference.py --path-checkpoint several
    several has more than one file of weights in it (a.pkl, b.pth); name one of them.
gan_inference.py --path-checkpoint of_others
    of_others/checkpoint_0_epoch.pkl is no checkpoint of a run: it has no g_model_state_dict; name another one.
gan_inference.py --path-checkpoint a_whole_net.pkl
    a_whole_net.pkl holds a whole net with its code, which is not run here; where it came from, save its weights alone: torch.save(net.state_dict(), 'state_dict.pth'), where net is the net in what torch.load('a_whole_net.pkl', weights_only=False) gives.
gan_inference.py --path-checkpoint torch_script.pt
    torch_script.pt holds a whole net with its code, which is not run here; where it came from, save its weights alone: torch.save(net.state_dict(), 'state_dict.pth'), where net is the net in what torch.jit.load('torch_script.pt') gives.
gan_inference.py --path-checkpoint weights.safetensors  # safetensors is not installed
    weights.safetensors is a safetensors file; install what opens it: pip install safetensors.
gan_inference.py --path-checkpoint cut_short.pkl
    cut_short.pkl is not a checkpoint that can be opened: it is damaged, or it holds more than tensors and plain values (File is not a zip file); use another one.
gan_inference.py --path-checkpoint one_bit_turned.pkl
    one_bit_turned.pkl is not a checkpoint that can be opened: it is damaged, or it holds more than tensors and plain values (the checksum of its part archive/data/0 is wrong); use another one.
gan_inference.py --path-checkpoint compressed.pkl
    compressed.pkl is not a checkpoint that can be opened: it is damaged, or it holds more than tensors and plain values (its parts are compressed, or folders by their attributes); use another one.
gan_inference.py --path-checkpoint code.pkl
    code.pkl is not a checkpoint that can be opened: it is damaged, or it holds more than tensors and plain values (it asks for __builtin__ eval); use another one.
gan_inference.py --path-checkpoint another_encoding.pkl
    another_encoding.pkl is not a checkpoint that can be opened: it is damaged, or it holds more than tensors and plain values (it asks for another encoding than latin1); use another one.
gan_inference.py --path-checkpoint copied.pkl
    copied.pkl is not a checkpoint that can be opened: it is damaged, or it holds more than tensors and plain values (its calls would copy more than it holds); use another one.
gan_inference.py --path-checkpoint expanded.pkl
    expanded.pkl is not a checkpoint that can be opened: it is damaged, or it holds more than tensors and plain values (a tensor is larger than its numbers); use another one.
gan_inference.py --path-checkpoint list.pkl
    list.pkl has no DCGAN generator in it; its keys are 0, 1.
gan_inference.py --path-checkpoint no_nets.pkl
    no_nets.pkl has no DCGAN generator in it; its keys are epoch.
gan_inference.py --path-checkpoint nothing.pkl
    nothing.pkl has no DCGAN generator in it; its keys are none.
gan_inference.py --path-checkpoint numbered.pkl
    numbered.pkl has no DCGAN generator in it; its keys are 0, 1, 2, 3, 4 and others.
gan_inference.py --path-checkpoint linear.pkl
    linear.pkl has no DCGAN generator in it; its keys are weight, bias.
gan_inference.py --path-checkpoint two_channels.pkl
    two_channels.pkl holds no DCGAN generator: it draws images of 2 channels, neither 1 nor 3.
gan_inference.py --path-checkpoint discriminator.pkl
    discriminator.pkl has no DCGAN generator in it; its keys are netD.main.0.weight, netD.main.2.weight, netD.main.3.weight, netD.main.3.bias, netD.main.3.running_mean and others.
gan_inference.py --path-checkpoint application.pkl
    application.pkl has no DCGAN generator in it; its keys are g_model_state_dict.encoder.weight, ...; another script has trained it (one of applications, say), so draw with that one.
gan_inference.py --path-checkpoint biases.pkl
    biases.pkl holds no DCGAN generator: its convolutions have biases, which a DCGAN's have not.
gan_inference.py --path-checkpoint without_norms.pkl
    without_norms.pkl holds no DCGAN generator: it has 4 convolutions and 0 other layers, not 4 and 3.
gan_inference.py --path-checkpoint complex.pkl
    complex.pkl holds no DCGAN generator: its weights are of torch.complex64, not of real floating point numbers.
gan_inference.py --path-checkpoint without_numbers.pkl
    without_numbers.pkl holds no DCGAN generator: it has weights without a number in them.
gan_demo.py --data-dir images --init-from only_parameters.pkl
    only_parameters.pkl holds no DCGAN discriminator: Missing key(s) in state_dict: "main.3.running_mean".
gan_inference.py --path-checkpoint two_widths.pkl
    two_widths.pkl holds no DCGAN generator: ....
gan_inference.py --path-checkpoint log_gan
    log_gan has no checkpoint in it, but runs have; name one, as log_gan/run1.
gan_inference.py --path-checkpoint nan.pkl
    nan.pkl has weights that are not finite (main.0.weight); use an earlier one.
gan_inference.py --path-checkpoint weights.pkl --save-images images
    save_images images has files in it already; name a new folder.
gan_inference.py --path-checkpoint weights.pkl --save-images images/000.png
    images/000.png could not be written: images/000.png is a file; name a new folder.
gan_inference.py --path-checkpoint weights.pkl --save-images images/000.png/faces
    images/000.png/faces could not be written: images/000.png is a file; name a new folder.
gan_evaluate.py --path-checkpoint weights.pkl --data-dir images --seed -1
    seed is -1; it must be from 0 to 2**32 - 1.
gan_evaluate.py --path-checkpoint weights.pkl --data-dir images --num-img 3
    num_img is 3; it must be 8 or more.
gan_evaluate.py --path-checkpoint weights.pkl --data-dir mixed
    mixed gives 8 images; 16 or more are needed, to compare two halves.
gan_evaluate.py --path-checkpoint images
    images has no checkpoint in it; name another folder.
gan_evaluate.py --path-checkpoint text.pkl
    text.pkl is not a checkpoint that can be opened: it is damaged, or it holds more than tensors and plain values; use another one.
gan_evaluate.py --path-checkpoint half_a_config
    half_a_config/config.json does not tell which images its run was trained on; name some with --data-dir.
gan_evaluate.py --path-checkpoint weights.pkl --data-dir damaged
    3 of 11 images in damaged cannot be read: 2 of an unknown format (a page.png, broken.jpg), 1 cut short (cut.png); mend them or, for a new run, remove them or leave them out with --skip-bad-images.
gan_evaluate.py --path-checkpoint weights.pkl --data-dir images --inception --inception-weights missing.pth
    the weights of Inception cannot be loaded from missing.pth ([Errno 2] No such file or directory: 'missing.pth'); get https://github.com/...pth and name the file with --inception-weights.
gan_evaluate.py --path-checkpoint weights.pkl --data-dir images --inception --inception-weights weights.pkl
    the weights of Inception cannot be loaded from weights.pkl (damaged, or of another net); get https://github.com/...pth and name the file with --inception-weights.
gan_explore.py --port 0
    port is 0; it must be from 1 to 65535.
gan_explore.py  # the page is open already
    port 7860 of 127.0.0.1 cannot be used (Address already in use); if the page is open already, use that, else name another with --port.
gan_explore.py --port 57860  # gradio is not installed
    the page needs gradio (import of gradio halted; None in sys.modules); pip install -r requirements-explore.txt installs it.
gan_explore.py --port 57860 --path-checkpoint linear.pkl
    linear.pkl has no DCGAN generator in it; its keys are weight, bias.
gan_explore.py --port 57860 --path-checkpoint text.pkl
    text.pkl is not a checkpoint that can be opened: it is damaged, or it holds more than tensors and plain values; use another one.
align_faces.py
    photos is empty; it must be a path.
align_faces.py --photos missing
    photos missing does not exist; name a folder or .zip of images.
align_faces.py --photos images  # facenet-pytorch is not installed
    a face detector is needed (...); install it: pip install -r requirements-faces.txt.
align_faces.py --photos images --out-dir images/faces
    out_dir images/faces lies in photos images, so its faces would be photos the next time; name another place for one of them.
align_faces.py --photos images --out-dir texts
    out_dir texts has files in it but no faces.csv; name a new folder.
align_faces.py --photos images --out-dir of_other_photos
    of_other_photos/faces.csv is of other photos than images; name a new out_dir.
align_faces.py --photos images --out-dir of_another
    of_another/faces.csv is of other photos than images has by the same names, as 000.png; name a new out_dir.
align_faces.py --photos images --out-dir half_a_table
    half_a_table/faces.csv cannot be read (other columns); name a new out_dir.
align_faces.py --photos changed --out-dir images/000.png
    images/000.png could not be written: images/000.png is a file; name a new folder.
"""

# A command that goes on to its end, and what it says on the way. (That no CUDA graph can be recorded
# is said in tests/test_acceleration.py.)
NOTES = """
gan_demo.py --data-dir images
    Training on cpu with 26 images of images, 3 iterations of 8 images an epoch; results go to log_gan/run...
gan_demo.py --data-dir images
    Done. Draw new faces with: python .../gan_inference.py --path-checkpoint log_gan/run...
gan_demo.py  # there is no CelebA
    No CelebA at data/img_align_celeba or data/img_align_celeba.zip (get img_align_celeba.zip from ... and put it there); going on with drawn faces.
gan_demo.py --data-dir images  # Ctrl-C
    Stopped after 1 iterations, all of it saved. Go on with: python .../gan_demo.py --resume log_gan/run...
gan_demo.py --resume log_gan/run1
    log_gan/run1 has all of its 2 epochs; with more, as --num-epochs 4, it goes on.
gan_demo.py --resume log_gan/run1 --num-epochs 3
    Going on on cpu with 26 images of .../changed, 3 iterations of 8 images an epoch; results go to log_gan/run1
gan_inference.py --path-checkpoint weights.pkl --device cpu
    Drawing on cpu with weights.pkl
gan_evaluate.py --path-checkpoint weights.pkl --data-dir images --num-img 8 --device cpu
    8 images of each kind, seed 1; the real ones out of 26 from images
gan_evaluate.py --path-checkpoint log_gan/run1 --data-dir images --num-img 8 --device cpu
    Best by SWD: log_gan/run1/checkpoint_..._epoch.pkl
gan_evaluate.py --path-checkpoint weights.pkl --data-dir images --num-img 8 --device cpu
    Its first 8 faces, each above the real image most like it: evaluations/...
gan_evaluate.py --path-checkpoint newest_damaged --num-img 8 --device cpu
    Leaving out a checkpoint, since newest_damaged/checkpoint_1_epoch.pkl is not a checkpoint that can be opened: it is damaged, or it holds more than tensors and plain values (...); use another one.
gan_evaluate.py --path-checkpoint weights.pkl --data-dir images --num-img 8 --device cpu --inception  # no network for VGG16
    Going on without precision and recall, since the weights of VGG16 cannot be loaded from the network (<urlopen error no network>); get https://download.pytorch.org/...pth and name the file with --vgg-weights.
gan_demo.py --data-dir damaged --skip-bad-images
    3 of 11 images in damaged cannot be read: 2 of an unknown format (a page.png, broken.jpg), 1 cut short (cut.png); going on without them.
gan_demo.py --data-dir mixed
    Passed over in mixed: 2 .heic, 1 .psd; convert them to use them too.
gan_demo.py --data-dir images  # it was packed in three other ways
    Removed images-32x1-....npy from data/cache; of one folder or zip the 3 packed files used last are kept.
gan_demo.py --data-dir images  # the packed images are of others
    data/cache/images-32x3-....npy is damaged or of other images (...); packing again.
gan_demo.py --data-dir images  # three processes
    All processes together take 24 images an iteration; smaller batches draw better faces (docs/several-gpus.md), so consider a lower batch_size.
gan_demo.py --resume changed_metrics  # its metrics.csv was changed
    changed_metrics/metrics.csv is not as a run leaves it: it is damaged, or its columns are others; it is kept as metrics_....csv, and the curves begin here.
gan_demo.py --resume changed_metrics  # its metrics.csv was changed
    changed_metrics/metrics.csv cannot be drawn as curves (...).
gan_demo.py --data-dir images --init-from weights.pkl
    weights.pkl has no DCGAN discriminator; this run's starts from random weights. (One of its sizes in weights_d.pkl would be taken.)
gan_demo.py --data-dir images --tensorboard  # D has won for long
    D has been nearly always right for long, so G learns little from it; docs/reading-the-curves.md says what to do.
gan_demo.py --resume newest_damaged
    Looking for an older checkpoint, since newest_damaged/checkpoint_1_epoch.pkl is not a checkpoint that can be opened: it is damaged, or it holds more than tensors and plain values (...); use another one.
gan_inference.py --path-checkpoint old.pkl
    old.pkl is of a format without checksums; damage would not show.
gan_inference.py --path-checkpoint weights.safetensors
    weights.safetensors is of a format without checksums; damage would not show.
gan_inference.py --path-checkpoint two_generators.pkl
    two_generators.pkl has more than one generator in it (netG, netG_ema); netG_ema is taken.
gan_inference.py --path-checkpoint only_parameters_ema.pkl
    only_parameters_ema.pkl has more than one generator in it (netG, ema); netG is taken.
gan_inference.py --path-checkpoint two_generators.pkl --raw
    two_generators.pkl has more than one generator in it (netG, netG_ema); netG is taken.
align_faces.py --photos mixed --out-dir faces_of_mixed
    Passed over in mixed: 2 .heic, 1 .psd; convert them to use them too.
align_faces.py --photos damaged --out-dir faces_of_damaged
    Not readable in damaged: 2 of an unknown format (a page.png, broken.jpg), 1 cut short (cut.png).
align_faces.py --photos damaged --out-dir faces_of_damaged
    0 faces of 11 photos are in faces_of_damaged; left out: 8 no face in the photo, 3 not readable (faces_of_damaged/faces.csv, faces_of_damaged/overview.png).
align_faces.py --photos images --out-dir found_everywhere  # a face is found everywhere
    Train on them with: python gan_demo.py --data-dir found_everywhere
align_faces.py --photos images --out-dir stopped  # Ctrl-C while a face is found
    Stopped; what is done is saved in stopped. The same command goes on.
"""


def other_images(monkeypatch):
    monkeypatch.setattr(machinery.run, "largest", lambda number: number + 1)


def lost_process(monkeypatch):
    def all_reduce(*_):
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(processes, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)


def others_packed(_):
    load_faces("images", "data/cache", 32)
    load_faces("changed", "data/cache", 32)
    cache = Path("data/cache")
    shutil.copy(next(cache.glob("changed-*")), next(cache.glob("images-32x3-*")))


def packed_in_other_ways(_):
    shutil.rmtree("data/cache", ignore_errors=True)
    for number in range(3):
        load_faces("images", "data/cache", 32, nc=1, max_images=number)


def training_already(monkeypatch):
    lock = FileLock("log_gan/run1/.lock")
    lock.acquire()
    monkeypatch.setattr(
        files, "FileLock", lambda *_, **__: FileLock("log_gan/run1/.lock", timeout=0)
    )
    monkeypatch.setattr(gan_demo, "held", lock, raising=False)


def three_processes(monkeypatch):
    monkeypatch.setattr(batches, "get_world_size", lambda: 3)


def winning_discriminator(monkeypatch):
    step, lead = gan_demo.train_step, torch.tensor([0, 0, 200.0, 0, 0])
    monkeypatch.setattr(gan_demo, "train_step", lambda *arguments: step(*arguments) + lead)


def drawn_before(_):
    Path("data/drawn_faces.zip").parent.mkdir(exist_ok=True)
    with zipfile.ZipFile("data/drawn_faces.zip", "w") as archive:
        for path in Path("images").iterdir():
            archive.write(path)


def ctrl_c(monkeypatch):
    step = gan_demo.train_step

    def train_step(*arguments):
        signal.raise_signal(signal.SIGINT)
        return step(*arguments)

    monkeypatch.setattr(gan_demo, "train_step", train_step)


def nothing_to_draw_with(monkeypatch):
    monkeypatch.setattr(sampling, "RUNS", "nowhere")
    monkeypatch.setattr(sampling, "RELEASED", Path("checkpoints"))


def only_inception(monkeypatch):
    stand_in(monkeypatch, "inception-v3-compat")
    cut_network(monkeypatch)


def no_space(monkeypatch):
    def mkdir(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", mkdir)


def training_in_a_thread(monkeypatch):
    lock = threading.Lock()
    lock.acquire()
    monkeypatch.setattr(processes, "training", lock)


def metrics_folder(_):
    shutil.copytree("changed_metrics", "with_a_folder")
    Path("with_a_folder/metrics.csv").unlink()
    Path("with_a_folder/metrics.csv").mkdir()


def not_entered(monkeypatch):
    exists = Path.exists

    def forbidden(path):
        if path.parent.name == "forbidden":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", forbidden)


def constant_without_type(monkeypatch):
    monkeypatch.setattr(gan_demo.Config, "real_labels", 1.0, raising=False)


def damaged_drawings(_):
    Path("data").mkdir(exist_ok=True)
    Path("data/drawn_faces.zip").write_bytes(b"PK cut short")


def port_in_use(monkeypatch):
    def create_server(_):
        raise OSError(errno.EADDRINUSE, "Address already in use (while attempting to bind)")

    monkeypatch.setattr(gan_explore.socket, "create_server", create_server)


def face_everywhere(monkeypatch):
    monkeypatch.setattr(align_faces, "find_faces", lambda *_: [(align_faces.TEMPLATE, 1)])
    monkeypatch.setattr(align_faces, "sharpness", lambda _: 1)


def ctrl_c_on_a_face(monkeypatch):
    def find_faces(*_):
        monkeypatch.setattr(align_faces, "find_faces", lambda *_: [])  # a second one would end it
        signal.raise_signal(signal.SIGINT)
        return []

    monkeypatch.setattr(align_faces, "find_faces", find_faces)


def no_detector(monkeypatch):
    align_faces.detector.cache_clear()
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)


def no_safetensors(monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)


MEANWHILE = {
    "no space is left": no_space,
    "safetensors is not installed": no_safetensors,
    "the page is open already": port_in_use,
    "gradio is not installed": lambda patch: patch.setitem(sys.modules, "gradio", None),
    "facenet-pytorch is not installed": no_detector,
    "a face is found everywhere": face_everywhere,
    "Ctrl-C while a face is found": ctrl_c_on_a_face,
    "the loss becomes infinite": lambda _: make_infinite(1),
    "its metrics.csv is a folder": metrics_folder,
    "its metrics.csv was changed": lambda _: Path("changed_metrics/metrics.csv").write_text("a;b"),
    "another one trains in this process": training_in_a_thread,
    "a folder above it may not be entered": not_entered,
    "a constant has no type": constant_without_type,
    "they are damaged": damaged_drawings,
    "the weights become infinite": lambda _: spoil_weights(2),
    "another machine has other images": other_images,
    "another process dies": lost_process,
    "the packed images are of others": others_packed,
    "another process trains it": training_already,
    "it was packed in three other ways": packed_in_other_ways,
    "it may not be read": lambda patch: forbid(patch, "images"),
    "its lost+found may not be read": lambda patch: forbid(patch, "disk/lost+found"),
    "three processes": three_processes,
    "D has won for long": winning_discriminator,
    "there is no CelebA": drawn_before,
    "Ctrl-C": ctrl_c,
    "no network for VGG16": only_inception,
    "neither a run nor released weights": nothing_to_draw_with,
}


def rows(table):
    lines = table.strip().splitlines()
    return [
        pytest.param(command, sentence.strip(), id=command)
        for command, sentence in zip(lines[::2], lines[1::2], strict=True)
    ]


def run_in(folder, monkeypatch, capsys, command):
    """Run a command of the tables; gives its exit code, what it prints, and its errors."""
    command, _, meanwhile = command.partition("#")
    script, *flags = command.split()
    if script == "gan_demo.py" and "--resume" not in flags:
        flags = [*SMALL.split(), *flags]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [script, *flags])
    monkeypatch.setattr(gan_demo, "train_step", gan_demo.train_step)  # so that it is put back
    if meanwhile:
        MEANWHILE[meanwhile.strip()](monkeypatch)
    code = 0
    try:
        run_as_script(MAINS[script])
    except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()


def matches(sentence, text):
    return re.fullmatch(re.escape(sentence).replace(re.escape("..."), ".*"), text)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A folder with all that the commands name."""
    folder = tmp_path_factory.mktemp("scene")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_images()
        make_weights()
        make_runs()
    return folder


def make_images():
    save_images(Path("images"), 26)
    save_images(Path("changed"), 26, suffix=".jpg")
    for folder in ("damaged", "mixed", "disk"):
        save_images(Path(folder), 8)
    for folder in ("texts", "phone", "all_damaged", "disk/lost+found"):
        Path(folder).mkdir()
    Path("texts/notes.txt").touch()
    for name in ("phone/1.heic", "phone/2.heic", "mixed/1.heic", "mixed/2.heic", "mixed/3.psd"):
        Path(name).touch()
    for folder in ("damaged", "all_damaged"):
        Path(folder, "broken.jpg").write_bytes(b"broken")
    Path("damaged/a page.png").write_bytes(b"<html>404 not found</html>")
    Path("damaged/cut.png").write_bytes(Path("images/000.png").read_bytes()[:-60])
    columns = ",".join(align_faces.COLUMNS)
    for folder, table in (
        ("of_another", f"{columns}\n,000.png{',' * 10},no face in the photo,1\n"),
        ("of_other_photos", f"{columns}\n,others.jpg{',' * 10},no face in the photo,\n"),
        ("half_a_table", "file,photo\n,000.png\n"),
    ):
        Path(folder).mkdir()
        Path(folder, "faces.csv").write_text(table)
    Path("broken.zip").write_bytes(b"PK\3\4 cut short")


def make_weights():
    generator = Generator(8, 8, 3, 32).state_dict()
    application = {"encoder.weight": torch.zeros(8, 3, 4, 4)} | {
        f"generator.{name}": value for name, value in generator.items()
    }
    parameters = {name: generator[name] for name, _ in Generator(8, 8, 3, 32).named_parameters()}
    files = {
        "weights": generator,
        "code": Call(eval, "1"),
        "expanded": {"main.0.weight": torch.zeros(1).expand(10**9)},
        "list": [1, 2],
        "no_nets": {"epoch": 1},
        "numbered": dict(enumerate(generator.values())),
        "linear": torch.nn.Linear(2, 2).state_dict(),
        "two_channels": Generator(8, 8, 2, 32).state_dict(),
        "a_whole_net": Generator(8, 8, 3, 32),
        "discriminator": {"netD": Discriminator(3, 8, 32).state_dict()},
        "nothing": {},
        "application": {"g_model_state_dict": application},
        "biases": generator | {"main.0.bias": torch.zeros(32)},
        "without_norms": {name: generator[name] for name in generator if generator[name].ndim == 4},
        "complex": {name: value.to(torch.complex64) for name, value in generator.items()},
        "without_numbers": generator | {"main.0.weight": torch.zeros(0, 32, 4, 4)},
        "only_parameters": {
            "netG": generator,
            "netD": dict(Discriminator(3, 8, 32).named_parameters()),
        },
        "two_widths": generator | {"main.1.bias": torch.zeros(8)},
        "two_generators": {"netG": generator, "netG_ema": {**generator}},
        "only_parameters_ema": {"netG": generator, "ema": parameters},
        "another_encoding": doubled(1),
        "copied": copies(torch.Size, (1,) * 100),
        "nan": generator | {"main.0.weight": torch.full((8, 32, 4, 4), torch.nan)},
    }
    for name, content in files.items():
        Path(f"{name}.pkl").write_bytes(saved(content))
    data = bytearray(saved(generator))
    Path("cut_short.pkl").write_bytes(data[:5000])
    Path("compressed.pkl").write_bytes(repacked(data, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        place = archive.getinfo("archive/data/0").header_offset + 1000
    data[place] ^= 1
    Path("one_bit_turned.pkl").write_bytes(data)
    Path("old.pkl").write_bytes(saved(generator, _use_new_zipfile_serialization=False))
    with zipfile.ZipFile("torch_script.pt", "w") as archive:
        archive.writestr("torch_script/constants.pkl", b"")  # none but TorchScript has it
    save_file(generator, "weights.safetensors")
    for name in ("several/a.pkl", "several/b.pth", "of_others/checkpoint_0_epoch.pkl"):
        Path(name).parent.mkdir(exist_ok=True)
        shutil.copy("weights.pkl", name)
    Path("text.pkl").write_text("a text")
    Path("empty.pkl").touch()


def make_runs():
    sizes = {"image_size": 32, "nz": 8, "ngf": 8, "ndf": 8, "batch_size": 8, "device": "cpu"}
    run = gan_demo.train(gan_demo.Config(data_dir="changed", num_epochs=2, **sizes))
    for name in ("without_optimizers", "of_another_net", "half_a_config", "of_changed_images"):
        shutil.copytree(run, name)
    for name in (
        "newest_damaged",
        "begun",
        "edited",
        "diverging",
        "changed_metrics",
        "with_an_encoder",
    ):
        shutil.copytree(run, name)
    checkpoint = load_checkpoint(run / "checkpoint_1_epoch.pkl")
    other = checkpoint | {"g_model_state_dict": {"weight": torch.zeros(1)}}
    torch.save(other, "of_another_net/checkpoint_1_epoch.pkl")
    more = checkpoint | {"e_model_state_dict": {"weight": torch.zeros(1)}}
    torch.save(more, "with_an_encoder/checkpoint_1_epoch.pkl")
    del checkpoint["g_optimizer_state_dict"]
    torch.save(checkpoint, "without_optimizers/checkpoint_1_epoch.pkl")
    Path("half_a_config/config.json").write_text("{")
    path = Path("newest_damaged/checkpoint_1_epoch.pkl")
    path.write_bytes(path.read_bytes()[:-9])
    for path in Path("begun").glob("*.pkl"):
        path.unlink()
    for name, change in [
        ("of_changed_images", {"data_dir": "images"}),
        ("edited", {"batch_size": "5"}),
        ("diverging", {"num_epochs": 3}),
    ]:
        path = Path(name, "config.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | change, indent=2))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("command", "sentence"), rows(ERRORS))
def test_an_error_is_one_sentence(scene, monkeypatch, capsys, command, sentence):
    before = contents(scene)
    code, _, error = run_in(scene, monkeypatch, capsys, command)
    after = contents(scene)
    for path in before:  # nothing lost or changed, but that a run goes on
        assert after[path] == before[path] or after[path].startswith(before[path]), path
    assert code == 2
    lines = [line for line in error.splitlines() if "images/s" not in line]  # of the progress bar
    assert len(lines) == 1
    assert matches(f"{command.split()[0]}: {sentence}", lines[0]), lines[0]


@pytest.mark.parametrize(("command", "sentence"), rows(NOTES))
def test_a_note_is_said_on_the_way(scene, monkeypatch, capsys, command, sentence):
    code, printed, error = run_in(scene, monkeypatch, capsys, command)
    assert code == (130 if "Ctrl-C" in command else 0), error
    assert any(matches(sentence, line) for line in (printed + error).splitlines()), printed


def test_the_tables_have_every_sentence_of_the_code():
    elsewhere = (  # or of one word
        "is not a readable image", "Going on without a CUDA graph", "cannot go on after such a failure",
        "device mps cannot be used by several processes",
        "; if it was moved meanwhile, go on in",
        "has other images than the run was trained on",  # tests/test_evaluate.py
        "is another run's by now",  # tests/test_run.py
        # tests/test_training.py
        "); give one for each.", "Going on without the discriminator beside",
        "has other sizes than this run's.", "The discriminator is that of",
        # of the page: tests/test_explore.py
        "in a browser; Ctrl-C ends it.", "is not in the list of", "MB; choose a smaller photo.", "is no file; choose a photo.",
        "; seeds go from", "a face is given as", "; it must be from 0 to",
    )  # fmt: skip
    for script in [*ROOT.glob("*.py"), *ROOT.glob("machinery/*.py"), *ROOT.glob("drawings/*.py")]:
        for node in ast.walk(ast.parse(script.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("RunError", "print"):
                inside = (piece for argument in node.args for piece in ast.walk(argument))
                pieces = [str(piece.value) for piece in inside if isinstance(piece, ast.Constant)]
                longest = max(pieces, key=len, default="").strip()
                if " " in longest and not longest.startswith(elsewhere):
                    assert longest in ERRORS + NOTES
