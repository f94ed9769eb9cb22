"""Which runtime: by the backbone, the dtype, the device and what is installed, never by the number of samples."""

import logging
import warnings
import weakref

import torch

from skltransfer.backbones import Backbone
from skltransfer.engine.inference import compiled, int8
from skltransfer.engine.inference.dtypes import is_native
from skltransfer.engine.inference.runtime import EAGER, FOLDED, Runtime
from skltransfer.exceptions import MissingDependencyError, UnsupportedBackboneError

logger = logging.getLogger("skltransfer")
RUNTIMES = ("eager", "folded", "compiled")
LEAST_PARAMETERS = 1_000_000  # below, compiling takes longer than it can save
_refused: "weakref.WeakKeyDictionary[Backbone, dict[tuple[torch.dtype, bool], str]]" = weakref.WeakKeyDictionary()


def resolve_runtime(
    runtime: str,
    backbone: Backbone,
    dtype: torch.dtype,
    device: torch.device,
    *,
    quantized: bool = False,
    was_fitted: bool = False,
) -> Runtime:
    """The runtime of a name; for ``"auto"``, the fastest one that can run the backbone.

    Parameters
    ----------
    runtime : {"auto", "eager", "folded", "compiled"}
        Name of the runtime.
    backbone : Backbone
        The backbone.
    dtype : torch.dtype
        Dtype of weights and activations.
    device : torch.device
        Device of weights and activations.
    quantized : bool, default=False
        If True, matrix products are computed in 8 bits, which is refused where it is not possible or not faster.
    was_fitted : bool, default=False
        If True, an estimator was fitted with this runtime, and predicts with another one, after a warning, where that
        is not installed.

    Raises
    ------
    MissingDependencyError
        If ``runtime="compiled"`` or 8 bits are asked for, and OpenVINO is not installed.
    UnsupportedBackboneError
        If 8 bits are asked for, and the backbone would not be faster, or cannot be compiled.
    ValueError
        If 8 bits are asked for, and the runtime or the processor cannot compute in them.
    """
    if quantized:
        return _int8_runtime(runtime, backbone, device, was_fitted=was_fitted)
    if runtime == "eager":
        return EAGER
    if runtime == "folded":
        return FOLDED if backbone.is_foldable else EAGER
    if runtime == "compiled" and not compiled.is_installed() and not was_fitted:
        raise MissingDependencyError(
            "runtime='compiled' needs OpenVINO. Install it with: pip install 'skltransfer[fast]'; or set "
            "runtime='auto', which uses it where it is installed."
        )
    other = FOLDED if backbone.is_foldable and dtype == torch.float32 else EAGER
    if runtime == "auto" and backbone.n_parameters < LEAST_PARAMETERS:
        return other
    reason = _reason_against_compiling(backbone, dtype, device, compiled.COMPILED)
    if reason is None:
        return compiled.COMPILED
    if runtime == "compiled":
        verb = "Fitted with runtime='compiled', but" if was_fitted else "runtime='compiled' is not possible:"
        remedy = "Fit again" if was_fitted else f"Set runtime={other.name!r} or 'auto'"
        warnings.warn(
            f"{verb} {reason} The frozen stages run with runtime={other.name!r}. {remedy} to avoid this warning.",
            stacklevel=4,
        )
    return other


def _int8_runtime(runtime: str, backbone: Backbone, device: torch.device, *, was_fitted: bool) -> Runtime:
    try:
        _refuse_int8(runtime, backbone, device, was_fitted=was_fitted)
    except (MissingDependencyError, ValueError) as error:
        if not was_fitted:
            raise
        warnings.warn(
            f"Fitted with dtype='int8', but {error} The frozen stages run in float32. Fit again to avoid this warning.",
            stacklevel=5,
        )
        return EAGER
    return compiled.COMPILED_INT8


def _refuse_int8(runtime: str, backbone: Backbone, device: torch.device, *, was_fitted: bool) -> None:
    if runtime not in ("auto", "compiled"):
        raise ValueError(f"dtype='int8' is computed by OpenVINO, but runtime={runtime!r}. Set runtime='auto'.")
    if not compiled.is_installed():
        raise MissingDependencyError(
            "dtype='int8' needs OpenVINO. Install it with: pip install 'skltransfer[fast]'; or set dtype='auto'."
        )
    if not (was_fitted or int8.is_native()):
        raise ValueError(
            "dtype='int8' would not be faster on this processor, which has no instructions for it (AVX512-VNNI, "
            "AVX-VNNI or AMX-INT8). Set dtype='auto'."
        )
    share = int8.share_in_products(backbone)
    if share < int8.LEAST_SHARE:
        raise UnsupportedBackboneError(
            f"dtype='int8' is for networks of matrix products, such as transformers, but of the weights of "
            f"{backbone.name!r}, {1 - share:.0%} are in convolutions. Set dtype='auto'."
        )
    reason = _reason_against_compiling(backbone, torch.float32, device, compiled.COMPILED_INT8)
    if reason is not None:
        raise UnsupportedBackboneError(f"dtype='int8' is not possible: {reason} Set dtype='auto'.")


def _reason_against_compiling(
    backbone: Backbone, dtype: torch.dtype, device: torch.device, runtime: compiled.CompiledRuntime
) -> str | None:
    if not compiled.is_installed():
        return "OpenVINO is not installed (pip install 'skltransfer[fast]')."
    if device.type != "cpu":
        return f"it is for the CPU, and device is {str(device)!r}."
    if not is_native(dtype, device):
        return f"this processor does not compute {dtype} natively."
    if backbone.modality == "audio" and backbone.is_ragged:
        return f"{backbone.name!r} reads waveforms of any length."
    refused = _refused.setdefault(backbone, {})
    kind = (dtype, runtime.is_quantized)
    if kind not in refused:
        try:
            runtime.prepare(backbone, dtype)
            refused[kind] = ""
        except UnsupportedBackboneError as error:
            refused[kind] = str(error)
            logger.info("%s", error)
    return refused[kind] or None
