"""Which device, and which dtype: resolved once, refused rather than replaced."""

import logging
import weakref

import torch

from skltransfer._system.forks import Lock
from skltransfer.backbones import Backbone
from skltransfer.engine.processes import processes
from skltransfer.engine.storing.memory import ActivationStore

logger = logging.getLogger("skltransfer")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
INT8 = "int8"  # of matrix products alone: what goes in and comes out is in float32
DTYPE_NAMES = (*DTYPES, INT8)
LEAST_COSINE = 0.999
_faithful: "weakref.WeakKeyDictionary[Backbone, bool]" = weakref.WeakKeyDictionary()
_lock = Lock()


def resolve_device(device: str) -> torch.device:
    """``"auto"`` is CUDA where there is one, else the CPU; in each of several processes its own; another name is taken
    at its word.

    Raises
    ------
    ValueError
        If the device is not there.
    """
    if device == "auto":
        return processes().device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved).cpu()  # the meta device is one that nothing comes back from
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device={device!r} is not available here ({reason}). Use device='auto' or 'cpu'.") from None
    return resolved


def resolve_dtype(
    dtype: str, backbone: Backbone, device: torch.device, store: ActivationStore | None = None
) -> torch.dtype:
    """``"auto"`` is bfloat16 where the processor computes it natively and this backbone's features survive it.

    A store that other processes share remembers what one of them found.
    """
    if dtype == INT8:
        return torch.float32
    if dtype != "auto":
        return DTYPES[dtype]
    return torch.bfloat16 if is_native(torch.bfloat16, device) and _survives(backbone, store) else torch.float32


def is_native(dtype: torch.dtype, device: torch.device) -> bool:
    """True if the device computes in this dtype without emulation."""
    if dtype == torch.float32:
        return True
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def _survives(backbone: Backbone, store: ActivationStore | None) -> bool:
    """True if features in bfloat16 point where those in float32 do: cosine of at least 0.999 on 8 random inputs."""
    with _lock:
        if backbone not in _faithful:
            question = f"bfloat16 {backbone.fingerprint} {torch.__version__} {torch.backends.cpu.get_cpu_capability()}"
            known = None if store is None else store.answer(question)
            _faithful[backbone] = _least_cosine(backbone) >= LEAST_COSINE if known is None else known
            if not _faithful[backbone]:
                logger.info("the features of %s do not survive bfloat16: dtype='auto' is float32", backbone.name)
            if store is not None and known is None:
                store.put_answer(question, _faithful[backbone])
        return _faithful[backbone]


def least_cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    """Least cosine between rows, which may have several axes."""
    return torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1)).min().item()


def _least_cosine(backbone: Backbone) -> float:
    inputs, features = backbone.example(8), []
    with torch.inference_mode():
        for dtype in (torch.float32, torch.bfloat16):
            x = inputs.to(dtype) if inputs.is_floating_point() else inputs
            for start in range(backbone.n_stages):
                x = backbone.prefix(start, start + 1, dtype)(x)
            features.append(backbone.pooling_at(backbone.n_stages, backbone.pooling)(x.float()))
    return least_cosine(*features)
