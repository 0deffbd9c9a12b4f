"""A GPU that is feigned: tensors that say `cuda` and hold no numbers, so that one left on the CPU is found without one.

It has no float64, as Apple's GPUs have none.

PyTorch's `FakeTensorMode` works out the shape, type and device of every result and refuses operations across devices,
as a GPU does. Where code asks for numbers it is told that they are all 1.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves


@contextmanager
def feigned_gpu() -> Iterator[None]:
    """For the block `cuda` is a device. What is made in it holds no numbers, and gradients cannot be asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.nn.init.trunc_normal_", lambda tensor, *_, **__: tensor)  # it looks at numbers
        patch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)  # or autocast stays off
        patch.setattr("torch.cuda.is_bf16_supported", lambda: True)
        patch.setattr(nn.Module, "_apply", _apply)
        patch.setattr(Tensor, "numpy", _numpy)
        with _Ones(allow_non_fake_inputs=True):
            yield


class _Ones(FakeTensorMode):
    """Every tensor is taken to hold ones alone where a shape or a decision depends on its numbers."""

    inside = False  # an operator that is worked out by others, in steps that no GPU takes

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outermost, self.inside = not self.inside, True
        try:
            result = self._result(func, types, args, kwargs)
        finally:
            self.inside = not outermost
        tensors = [x for x in tree_leaves(result) if isinstance(x, Tensor)] if outermost else []
        if any(x.dtype == torch.float64 and x.device.type != "cpu" for x in tensors):
            raise TypeError(f"{func} gives float64 on a GPU, which Apple's lack")
        return result

    def _result(self, func, types, args, kwargs):
        if func in ANSWERS:
            return ANSWERS[func](*args, **(kwargs or {}))
        if func.namespace == "mkldnn" or "for_cpu" in func.__name__:
            raise TypeError(f"{func} is an operator for CPUs")
        if func is torch.ops.aten._to_copy.default:
            args[0].constant = None  # the number that a small one was made of, which would be put on a GPU for real
        return super().__torch_dispatch__(func, types, args, kwargs or {})


def _item(x: Tensor) -> bool | int | float:
    return True if x.dtype == torch.bool else 1.0 if x.is_floating_point() else 1


def _nonzero(x: Tensor) -> Tensor:
    return x.new_empty(x.numel(), x.ndim, dtype=torch.int64)


def _unique(x: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False) -> tuple:
    return x.new_empty(1), x.new_empty(x.shape, dtype=torch.int64), x.new_empty(1, dtype=torch.int64)


def _bincount(x: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    dtype = torch.int64 if weights is None else torch.float64
    return x.new_empty(max(2, minlength), dtype=dtype)


ANSWERS = {
    torch.ops.aten._local_scalar_dense.default: _item,
    torch.ops.aten.nonzero.default: _nonzero,
    torch.ops.aten._unique2.default: _unique,
    torch.ops.aten.bincount.default: _bincount,
}


def _apply(module: nn.Module, fn, recurse: bool = True) -> nn.Module:
    """As PyTorch's, which cannot exchange a parameter's device for a feigned one in place."""
    for child in module.children():
        child._apply(fn)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            module._parameters[name] = nn.Parameter(fn(parameter.detach()), parameter.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = fn(buffer)
    return module


def _numpy(x: Tensor, force: bool = False) -> np.ndarray:
    if x.device.type != "cpu":
        raise TypeError(f"can't convert {x.device} device type tensor to numpy")
    return np.ones(x.shape, str(x.dtype).removeprefix("torch."))
