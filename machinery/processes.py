"""Several processes: a pool that decodes images, and a job of torchrun that trains one set of nets.

Without torchrun each function of the second half does what one process needs.
"""

import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import uuid
from contextlib import contextmanager, redirect_stdout

import torch
import torch.distributed as dist

from machinery.console import RunError, Stopped


def cores():
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux, where a container may have fewer than there are
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_in_processes(function, items, chunk):
    """Yield function(list of `chunk` items) for all items, in order; all cores work on it."""
    from torch.utils.data import DataLoader

    chunks = -(-len(items) // chunk)
    return DataLoader(
        items,
        batch_size=chunk,
        collate_fn=function,
        num_workers=min(cores(), chunks // 8),  # a few items are not worth a process
        worker_init_fn=_depend_on_parent,
        generator=torch.Generator(),  # its own, so that the global random numbers stay as they are
    )


def _depend_on_parent(_worker):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def end_with_parent():  # one that is killed reads no more: a worker would wait for it for good
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def choose_device(name="auto"):
    """The torch.device of that name; "auto" is CUDA or Apple's MPS if there is one, else the CPU.

    In a job of torchrun each process of a machine gets a GPU of its own.
    Raises RunError for a device that this machine does not have.
    """
    if name == "auto":
        mps = torch.backends.mps.is_available() and not in_job()  # gloo does not know MPS
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    if in_job() and name == "mps":
        raise RunError("device mps cannot be used by several processes; try cpu.")
    if in_job() and name == "cuda":
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        torch.zeros(1, device=name).item()  # which one that only knows shapes has not
    except Exception as error:  # each kind of device has its own for not being there
        reason = str(error).splitlines()[0].partition(". ")[0][:200]
        raise RunError(f"device {name} cannot be used here ({reason}); try cpu.") from error
    device = torch.device(name)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


training = threading.Lock()


@contextmanager
def alone():
    """Let no other thread train inside the block, since all share one set of random numbers.

    Raises RunError where one does already.
    """
    if not training.acquire(blocking=False):
        raise RunError(
            "another run is being trained in this process; wait for its end, or train in another one."
        )
    try:
        yield
    finally:
        training.release()


# --- a job of torchrun


class LostError(RunError):
    """Another process of the job has ended."""


_training = []  # not empty once the first iteration is near
_stores = []  # torchrun's, which outlives the processes


@contextmanager
def joined_processes():
    """Inside the block, work together with the other processes of this torchrun job, if it is one.

    Only rank 0 prints. Yields the run that this job had begun, told by remember_run, before a
    process ended and torchrun started all of them again; "" if there is none.
    """
    if not {"RANK", "LOCAL_RANK"} <= set(os.environ):  # some launchers set one of them
        yield ""
        return
    store, rank, world_size = next(dist.rendezvous("env://"))
    if store.check(["a mistake"]):
        sys.exit(2)  # what was wrong before will be wrong again
    generation = _generation(store, rank, world_size)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo",
        store=dist.PrefixStore(f"generation {generation}", store),
        rank=rank,
        world_size=world_size,
    )
    try:
        with redirect_stdout(None if rank else sys.stdout):
            _stores.append(store)
            yield os.fsdecode(store.get("run")) if store.check(["run"]) else ""
    except (RunError, SystemExit) as error:
        code = getattr(error, "code", 2)
        if isinstance(error, Stopped) or code == 0:  # --help: all processes come to it, too
            traceback.clear_frames(error.__traceback__)  # of variables, a CUDA graph among them
            _leave()
            raise
        error.told = store.add(f"errors of {generation}", 1) > 1  # the first one to come says it
        if code == 2 and not (isinstance(error, LostError) or error.told or _training):
            store.set("a mistake", "")
        raise
    _leave()  # not after an error: with NCCL it would wait for all the others


def _leave():
    gc.collect()  # a graph that holds the group's communication has to go before the group
    dist.destroy_process_group()


def _generation(store, rank, world_size):
    """How many times torchrun has started this job, as all of its processes agree.

    When it starts them again, its store still holds the addresses of those that ended (torch 2.11
    to 2.15), and each machine's restart count is its own. So rank 0 counts, and greets the others
    by names that nobody had before.
    """
    if rank == 0:
        generation = store.add("generation", 1)
        for other in range(1, world_size):
            name = store.get(f"{generation} {other}").decode()  # waits for it
            store.set(f"{generation} {name}", "welcome")
        return generation
    name, generation = uuid.uuid4().hex, None
    while not store.check([f"{generation} {name}"]):
        if (newest := store.add("generation", 0)) != generation:
            generation = newest
            store.set(f"{generation} {rank}", name)
        time.sleep(0.02)
    return generation


def remember_run(folder):
    """Note which run this job trains, for its processes when torchrun starts them again."""
    for store in _stores:
        store.set("run", os.fsencode(folder))


def begin_training():
    """From here on an error is no mistake of the user's: torchrun may start the job again."""
    _training.append(True)


def in_job():
    """Whether this process is inside joined_processes, and torchrun has started it."""
    return dist.is_available() and dist.is_initialized()


def get_rank():
    """The number of this process among all of the job. Rank 0 writes the files."""
    return dist.get_rank() if in_job() else 0


def get_world_size():
    """How many processes train together."""
    return dist.get_world_size() if in_job() else 1


@contextmanager
def first_on_each_machine():
    """Run the block in one process of each machine, then in its others."""
    later = in_job() and os.environ["LOCAL_RANK"] != "0"
    if later:
        largest(0)
    yield
    if in_job() and not later:
        largest(0)


def from_rank_0(function):
    """Call function in rank 0 alone. Returns what it returned, in every process.

    Where it ends in a RunError or in an exit (of --help), all of them do.
    """
    if not in_job():
        return function()
    result = [None]
    if get_rank() == 0:
        try:
            result = [function()]
        except (RunError, SystemExit) as error:
            result = [error]
    with _others_alive():
        dist.broadcast_object_list(result, device=torch.device("cpu"))
    if isinstance(result[0], (RunError, SystemExit)):
        raise result[0]
    return result[0]


def largest(number):
    """The largest of the processes' numbers, once all of them have called this."""
    result = torch.tensor(number)
    if in_job():
        with _others_alive():
            dist.all_reduce(result, dist.ReduceOp.MAX)
    return result.item()


def average(tensors):
    """Replace each tensor by its mean over all processes; they travel as one."""
    if tensors and get_world_size() > 1:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _others_alive():
            dist.all_reduce(flat)
        means = (flat / get_world_size()).split([tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, means):
            tensor.copy_(mean.view_as(tensor))


def average_gradients(net):
    """Make all processes step as if one had seen all their images."""
    average([each.grad for each in net.parameters() if each.grad is not None])


def average_statistics(net):
    """Merge what the BatchNorm layers of each process have seen; training itself needs it not."""
    average([buffer for buffer in net.buffers() if buffer.is_floating_point()])


@contextmanager
def _others_alive():
    try:
        yield
    except RuntimeError as error:
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise  # CapturedStep goes on without a graph
        reason = str(error).splitlines()[0][:100]
        raise LostError(
            f"the processes of this job have lost each other ({reason}); if another one has ended, "
            "it or torchrun says why."
        ) from error
