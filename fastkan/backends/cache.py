"""Values computed once from a tensor and kept until the tensor changes: answers about grids, packed weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary


def _state(tensor: Tensor) -> tuple[Any, ...]:
    """Changes when a tensor is written to, moved, or given another one's data. (What writes through `.data` escapes it.)"""
    return tensor._version, tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride()


def capturing(tensor: Tensor) -> bool:
    """True while a CUDA graph is captured on the tensor's device: then nothing may make the host wait."""
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


class VersionedCache:
    """Values made from tensors, one a tensor and setting, freed with the tensor.

    Tensors made under torch.inference_mode() have no version that would tell of a write, so theirs are made at every call.
    """

    def __init__(self) -> None:
        self._entries: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._captured: list[Any] = []

    def get(self, tensor: Tensor, setting: Any, make: Callable[[Tensor], Any]) -> Any:
        """The value of make(tensor), made now or earlier."""
        if tensor.is_inference():
            return make(tensor)
        if capturing(tensor):
            return make(tensor)  # in the graph, which may be run after the tensor has changed
        state, entries = _state(tensor), self._entries.get(tensor)
        if entries is None or entries[0] != state:
            entries = (state, {})
            self._entries[tensor] = entries
        if setting not in entries[1]:
            value = make(tensor)
            entries[1][setting] = (value, *_made_here(tensor))
        value, stream, made = entries[1][setting]
        _wait_here(value, stream, made)
        return value

    def known(self, tensor: Tensor, setting: Any) -> Any:
        """The value if it is cached and still valid, or None. It is then never freed, because a CUDA graph that is being
        captured uses it.
        """
        if tensor.is_inference():
            return None
        state, entries = _state(tensor), self._entries.get(tensor)
        if entries is None or entries[0] != state or setting not in entries[1]:
            return None
        value, stream, made = entries[1][setting]
        _wait_here(value, stream, made)
        self._captured.append(value)
        return value

    def forget(self, tensor: Tensor) -> None:
        """Make the values anew when they are next asked for: after a write through `.data`."""
        self._entries.pop(tensor, None)

    def __len__(self) -> int:
        return len(self._entries)


def _made_here(tensor: Tensor) -> tuple[Any, Any]:
    """The stream that makes a value, and an event after it."""
    if not tensor.is_cuda:
        return None, None
    stream, made = torch.cuda.current_stream(tensor.device), torch.cuda.Event()
    made.record(stream)
    return stream, made


def _wait_here(value: Any, stream: Any, made: Any) -> None:
    """Make the current stream wait for the stream that made the value, and keep the value's memory until both are done."""
    if stream is None or not isinstance(value, Tensor):
        return
    current = torch.cuda.current_stream(value.device)
    if current != stream:
        current.wait_event(made)
        value.record_stream(current)
