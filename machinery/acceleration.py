"""What makes a training step fast."""

import torch

from machinery.console import RunError


def autocast(device, bf16):
    """A context in which the nets compute in bfloat16, if bf16 is set and the device has units for it.

    Weights, optimizers and BatchNorm's statistics stay float32.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16 and has_bf16(device.type))


def has_bf16(kind):
    """Whether a kind of device ("cuda", "cpu", ...) computes in bfloat16 by itself, here.

    On a CPU without such units PyTorch would emulate them, at a fraction of float32's speed.
    """
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "cpu":
        units = getattr(torch.cpu, "get_capabilities", dict)()  # not all versions can tell
        return any(units.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def fused_adam(net, lr, beta1, beta2=0.999):
    """Adam that updates all weights of a net at once.

    Its learning rate is a tensor on the net's device, so that a scheduler which changes it reaches
    a step recorded by CapturedStep.
    """
    device = next(net.parameters()).device
    options = {"betas": (beta1, beta2), "fused": True, "capturable": device.type == "cuda"}
    return torch.optim.Adam(net.parameters(), lr=torch.tensor(lr, device=device), **options)


def load_optimizer(optimizer, saved):
    """Take over a saved optimizer state: moments, and options such as the learning rate.

    What belongs to this machine's device (fused, capturable, ...) stays as it was made. Raises KeyError
    or ValueError where it does not fit.
    """
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"param_groups": groups, "state": saved["state"]})
    for group, old in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        for name in old.keys() - {"params", "fused", "foreach", "capturable", "differentiable"}:
            if torch.is_tensor(group.get(name)):
                group[name].fill_(old[name])
            else:
                group[name] = old[name]
    for parameter, state in optimizer.state.items():
        for name, value in state.items():  # a fused step needs the weights' memory layout
            if torch.is_tensor(value) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)


def captured(step, device):
    """The step as it runs fastest on this device: a CapturedStep on CUDA, else as it is."""
    if device.type != "cuda":
        return step
    torch.backends.cudnn.benchmark = True  # measure which algorithm is fastest
    return CapturedStep(step)


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
        self.calls, self.graph, self.numbers = 0, None, None
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
        graph, reason = torch.cuda.CUDAGraph(), None
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
            reason = str(cause).splitlines()[0]  # and no more of it: it holds the graph's memory
        if reason:
            self.real = self.noise = self.numbers = None
            graph.reset()
            restore_random_numbers(reason)
            print(f"Going on without a CUDA graph, since none can be recorded ({reason}).")


def restore_random_numbers(reason):
    """Let the GPU draw random numbers again after a failed recording.

    Up to torch 2.11 its generator believes itself in the recording for good (pytorch issue 171263), so
    it gets a new state. Raises RunError where that does not help.
    """
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    try:
        fresh = torch.Generator(generator.device).manual_seed(generator.initial_seed())
        generator.graphsafe_set_state(fresh)
        torch.rand(1, device=generator.device)
    except RuntimeError as error:
        raise RunError(
            f"no CUDA graph can be recorded ({reason}), and PyTorch {torch.__version__} cannot go on "
            "after such a failure; install a newer one."
        ) from error
