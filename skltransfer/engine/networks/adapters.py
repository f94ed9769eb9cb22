"""Low-rank adapters (LoRA, Hu et al. 2022) beside the linear maps and convolutions of unfrozen stages.

The only importer of peft, which the extra ``lora`` brings. Must not know heads, targets or the store.
"""

import warnings
from collections.abc import Collection

import torch
from torch import nn

from skltransfer.backbones import Backbone
from skltransfer.exceptions import MissingDependencyError

RANK, ALPHA = 8, 16
BASE, ADDED = ".base_layer.", ".lora_"


def with_adapters(suffix: nn.Module, backbone: Backbone, boundary: int, *, draws: bool = True) -> nn.Module:
    """Put adapters into a private suffix, in place; its own weights no longer require gradients.

    Parameters
    ----------
    suffix : nn.Module
        Copy of the unfrozen stages.
    backbone : Backbone
        The backbone.
    boundary : int
        Number of frozen stages.
    draws : bool, default=True
        If True, adapters start with random weights; else with zeros, which change nothing until they are filled.

    Raises
    ------
    MissingDependencyError
        If peft is not installed.
    ValueError
        If there is nothing to put them beside.
    """
    peft = _peft()
    trained = {name for stage in range(boundary, backbone.n_stages) for name in backbone.stage_parameters(stage)}
    targets = [
        path for path, module in suffix.named_modules() if f"{path}.weight" in trained and _takes_an_adapter(module)
    ]
    if not targets:
        raise ValueError(
            f"adapter='lora' finds no linear map or convolution in {backbone.name!r} after {boundary} frozen stages. "
            "Freeze less, or set adapter=None."
        )
    return _injected(peft, suffix, targets, draws=draws)


def inserted(module: nn.Module, *, draws: bool = True, without: Collection[str] = ()) -> nn.Module:
    """Put adapters beside all linear maps of a frozen module, in place.

    Parameters
    ----------
    module : nn.Module
        Module whose weights require no gradients.
    without : collection of str, default=()
        Paths of linear maps that get none.
    draws : bool, default=True
        If True, adapters start with random weights; else with zeros, which change nothing until they are filled.

    Raises
    ------
    MissingDependencyError
        If peft is not installed.
    """
    found = (path for path, part in module.named_modules() if _takes_an_adapter(part))
    return _injected(_peft(), module, [path for path in found if path not in without], draws=draws)


def _injected(peft, suffix: nn.Module, targets: list[str], *, draws: bool) -> nn.Module:
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GPT-2's transposed maps are recognised with a remark
        adapted_suffix = peft.inject_adapter_in_model(config, suffix, low_cpu_mem_usage=not draws)
    for module in adapted_suffix.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.is_meta:
                setattr(module, name, nn.Parameter(torch.zeros_like(weight, device="cpu"), weight.requires_grad))
    return adapted_suffix


def _peft():
    try:
        import peft
    except ImportError as error:
        raise MissingDependencyError("adapter='lora' needs peft: pip install 'skltransfer[lora]'.") from error
    return peft


def merged(network: nn.Module) -> nn.Module:
    """Add adapters to the weights that they stand beside, in place."""
    for module in network.modules():
        if hasattr(module, "lora_A"):
            module.merge()
    return network


def original_name(name: str) -> str:
    """Name of an entry of the state dict without adapters."""
    return name.replace(BASE, ".")


def adapted(name: str) -> str | None:
    """The weight that an adapter's entry stands beside; None for an entry that is no adapter's."""
    before, found, _ = name.partition(ADDED)
    return f"{before}.weight" if found else None


def _takes_an_adapter(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.groups == 1
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"  # transformers' own, in GPT-2
