"""What makes a training step fast on a GPU, and lets several processes train one pair of nets."""

import os
import sys
import time
import uuid
from contextlib import contextmanager, redirect_stdout

import torch
import torch.distributed as dist

from common_tools import RunError, choose_device

# --- one GPU


def autocast(device, bf16):
    """A context in which the nets compute in bfloat16, if bf16 is set and the GPU can; else none."""
    usable = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16 and usable)


def fused_adam(net, lr, beta1):
    """Adam that updates all weights of a net at once.

    Its learning rate is a tensor on the net's device, so that a scheduler which changes it reaches
    a step recorded by CapturedStep.
    """
    device = next(net.parameters()).device
    options = {"betas": (beta1, 0.999), "fused": True, "capturable": device.type == "cuda"}
    return torch.optim.Adam(net.parameters(), lr=torch.tensor(lr, device=device), **options)


def load_optimizer(optimizer, saved):
    """Take over the moments of a saved optimizer state; its options stay as they were made.

    Those belong to this machine's device. Raises KeyError or ValueError where it does not fit.
    """
    optimizer.load_state_dict({**optimizer.state_dict(), "state": saved["state"]})
    for parameter, state in optimizer.state.items():
        for name in ("exp_avg", "exp_avg_sq"):  # a fused step needs the weights' memory layout
            state[name] = torch.empty_like(parameter).copy_(state[name])


class CapturedStep:
    """step(real, noise) on a GPU, recorded as one CUDA graph: hundreds of kernels, one launch.

    The first calls run step as it is; it warms up in them, and they count like any other. Then it
    is recorded and from there on replayed, with new images and noise in the place of the recorded
    ones. All that step does beside launching kernels (Python code, prints) happens no more.

    Where it cannot be recorded, each call runs step as it is, and one line says why; with
    required=True that is a RuntimeError.
    """

    WARM_UP = 3

    def __init__(self, step, required=False):
        self.step, self.required = step, required
        self.calls, self.graph = 0, None
        self.stream = torch.cuda.Stream()

    def __call__(self, real, noise):
        self.calls += 1
        if self.calls <= self.WARM_UP:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):  # a graph is recorded on a stream of its own
                numbers = self.step(real, noise)
            torch.cuda.current_stream().wait_stream(self.stream)
            return numbers
        if self.calls == self.WARM_UP + 1:
            self._record(real, noise)
        if self.graph is None:
            return self.step(real, noise)
        self.real.copy_(real)
        self.noise.copy_(noise)
        self.graph.replay()
        return self.numbers.clone()

    def _record(self, real, noise):
        self.real, self.noise = real.clone(), noise.clone()
        graph = torch.cuda.CUDAGraph()
        back = torch.cuda.stream(torch.cuda.current_stream())  # to it, even if recording fails
        try:
            with (
                back,
                torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"),
            ):
                self.numbers = self.step(self.real, self.noise)
            self.graph = graph
        except RuntimeError as error:
            if self.required:
                raise
            cause = error.__context__ or error  # the end of a failed recording fails as well
            reason = str(cause).splitlines()[0]
            print(f"Going on without a CUDA graph, since none can be recorded ({reason}).")


# --- several processes, started by torchrun; without it each function does what one process needs


@contextmanager
def joined_processes():
    """Inside the block, work together with the other processes of this torchrun job, if it is one.

    Only rank 0 prints. Yields whether torchrun has started the job before, and a process had ended.
    """
    if "LOCAL_RANK" not in os.environ:
        yield False
        return
    store, rank, world_size = next(dist.rendezvous("env://"))
    generation = _generation(store, rank, world_size)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo",
        store=dist.PrefixStore(f"generation {generation}", store),
        rank=rank,
        world_size=world_size,
    )
    with redirect_stdout(None if rank else sys.stdout):
        yield generation > 1 or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    dist.destroy_process_group()  # not after an error: with NCCL it would wait for all the others


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


def in_job():
    """Whether this process is inside joined_processes, and torchrun has started it."""
    return dist.is_available() and dist.is_initialized()


def get_rank():
    """The number of this process among all of the job. Rank 0 writes the files."""
    return dist.get_rank() if in_job() else 0


def get_world_size():
    """How many processes train together."""
    return dist.get_world_size() if in_job() else 1


def own_device(name):
    """choose_device(name), but each process of a machine gets a GPU of its own."""
    if in_job() and torch.cuda.is_available() and name in ("auto", "cuda"):
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    device = choose_device(name)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return device


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
    """Call function in rank 0 alone. Returns what it returned, in every process."""
    result = [function() if get_rank() == 0 else None]
    if in_job():
        with _others_alive():
            dist.broadcast_object_list(result, device=torch.device("cpu"))
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
    if get_world_size() > 1:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with _others_alive():
            dist.all_reduce(flat)
        means = (flat / get_world_size()).split([tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, means):
            tensor.copy_(mean.view_as(tensor))


def average_gradients(net):
    """Make all processes step as if one had seen all their images."""
    average([parameter.grad for parameter in net.parameters()])


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
        reason = str(error).splitlines()[0]
        raise RunError(
            f"the processes of this job have lost each other ({reason}); if another one has ended, "
            "it or torchrun says why."
        ) from error


def job_name():
    """What tells this torchrun job from others, also after torchrun restarted it; "" without one."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "")
    return f"process {os.getppid()}" if name == "none" else name
