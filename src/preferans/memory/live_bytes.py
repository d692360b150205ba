"""Count the bytes of all live tensors, operation by operation, real or fake."""

import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

_aten = torch.ops.aten
_RANDOM = {_aten.uniform_.default, _aten.normal_.default}


class LiveBytes(TorchDispatchMode):
    """
    Track live storages and their peak.

    Under [`~torch._subclasses.FakeTensorMode`] tensors have shapes and no content, so a step of any model runs in seconds and needs
    no memory. Tensors that are *not* fake there (token ids and masks, which decide shapes) are computed for real.

    Args:
        granule (`int`, *optional*, defaults to `1`):
            Bytes that a storage is rounded up to; CUDA's caching allocator uses 512.
        scratch (`dict`, *optional*):
            Functions of an operation's arguments that return the bytes it allocates internally, by operation.

    Attributes:
        phase (`str`, *optional*): Current phase for [`~LiveBytes.peaks`]; with `None` no peak is recorded.
        peaks (`dict[str, Counter]`): Bytes of each category at the peak of each phase.
    """

    def __init__(self, granule: int = 1, scratch: dict[Callable, Callable] | None = None):
        super().__init__()
        self.granule, self.scratch = granule, scratch or {}
        self.category = "other"
        self.phase: str | None = None
        self.peaks: dict[str, Counter[str]] = {}
        self.live = 0
        self.by: Counter[str] = Counter()
        self._categories: dict[int, str] = {}

    @contextmanager
    def counted_as(self, category: str):
        """Count new storages inside the `with` block in this category."""
        before, self.category = self.category, category
        try:
            yield
        finally:
            self.category = before

    def assign(self, tensor: torch.Tensor, category: str) -> None:
        """Count a tensor in this category from now on."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, self._size(storage)
        if key not in self._categories:
            self._add(storage, category)
        elif self._categories[key] != category:
            self.by[self._categories[key]] -= size
            self.by[category] += size
            self._categories[key] = category

    def _size(self, storage: torch.UntypedStorage) -> int:
        return -(-storage.nbytes() // self.granule) * self.granule

    def _add(self, storage: torch.UntypedStorage, category: str) -> None:
        key, size = storage._cdata, self._size(storage)
        if key in self._categories or not size:
            return
        self._categories[key] = category
        self.live += size
        self.by[category] += size
        weakref.finalize(storage, self._drop, key, size).atexit = False

    def _drop(self, key: int, size: int) -> None:
        category = self._categories.pop(key)
        self.live -= size
        self.by[category] -= size

    def _note(self, extra: int) -> None:
        if self.phase is None or self.live + extra <= self.peaks.get(self.phase, Counter()).total():
            return
        self.peaks[self.phase] = +self.by
        if extra:
            self.peaks[self.phase]["scratch inside kernels"] = extra

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.prim.device.default:  # more than half of all calls; it allocates nothing
            return function(*args)
        kwargs = kwargs or {}
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        real = bool(inputs) and not any(isinstance(tensor, torch._subclasses.FakeTensor) for tensor in inputs)
        faking = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None
        if faking and real:
            with _disable_current_modes():
                result = function(*args, **kwargs)
        elif faking and inputs and function in _RANDOM:
            result = args[0]
        elif faking and inputs and function is _aten._local_scalar_dense.default:
            return 1.0 if args[0].is_floating_point() else 1
        elif faking and function is _aten.index.Tensor and args[1][0] is not None and args[1][0].dtype == torch.bool:
            result = self._take(args[0], args[1][0])
        elif faking and function is _aten.masked_scatter_backward.default:
            result = args[0].new_empty(args[2])
        else:
            result = function(*args, **kwargs)
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.device.type != "meta":  # "meta" is memory outside the card
                self._add(tensor.untyped_storage(), self.category)
        self._note(self.scratch[function](args) if function in self.scratch else 0)
        return result

    def _take(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Compute `values[mask]` of a fake tensor by its real mask; the kernel lists the positions first."""
        with _disable_current_modes():
            positions = mask.nonzero(as_tuple=True)
        for index in positions:
            self._add(index.untyped_storage(), self.category)
        return values.new_empty((len(positions[0]), *values.shape[mask.dim() :]))
