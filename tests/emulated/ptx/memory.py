"""Memory that knows what was allocated and what was written: reading or writing anything else raises."""

import numpy as np

SHIFT = np.uint64(40)  # an allocation begins at a multiple of 2^40
SHARED_WINDOW = 1 << 60  # generic addresses of shared memory


class Fault(Exception):
    """An access that a GPU might punish, or not."""


class Bytes:
    """One allocation."""

    def __init__(self, size: int, name: str) -> None:
        self.name = name
        self.data = np.zeros(size, np.uint8)
        self.written = np.zeros(size, bool)

    def _places(self, offsets: np.ndarray, size: int) -> np.ndarray:
        if (offsets % size).any():
            raise Fault(f"{self.name}: an access of {size} bytes is not aligned")
        if offsets.size and (offsets.min() < 0 or offsets.max() + size > len(self.data)):
            raise Fault(f"{self.name}: bytes {offsets.min()} .. {offsets.max() + size} of {len(self.data)}")
        return offsets[:, None] + np.arange(size)

    def load(self, offsets: np.ndarray, size: int) -> np.ndarray:
        """uint8 [offsets, size]"""
        places = self._places(offsets, size)
        if not self.written[places].all():
            raise Fault(f"{self.name}: bytes are read that nothing wrote, or that are still on their way")
        return self.data[places]

    def store(self, offsets: np.ndarray, values: np.ndarray) -> None:
        places = self._places(offsets, values.shape[1])
        self.data[places] = values
        self.written[places] = True

    def expect(self, offsets: np.ndarray, size: int) -> None:
        """What is there is gone, what comes is not here yet."""
        self.written[self._places(offsets, size)] = False


class Global:
    """The GPU's memory: arrays, each an allocation of its own, so that one past the end is a fault."""

    def __init__(self) -> None:
        self._allocations: list[Bytes] = []

    def put(self, values: np.ndarray) -> int:
        """A copy of an array; its address."""
        raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        address = self.room(raw.size)
        self._allocations[-1].data[:] = raw
        self._allocations[-1].written[:] = True
        return address

    def room(self, size: int) -> int:
        """`size` bytes that nobody has written."""
        self._allocations.append(Bytes(size, f"array {len(self._allocations) + 1}"))
        return len(self._allocations) << int(SHIFT)

    def get(self, address: int, shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
        """What was written there, all of it."""
        found = self._allocations[(address >> int(SHIFT)) - 1]
        if not found.written.all():
            raise Fault(f"{found.name}: {np.count_nonzero(~found.written)} bytes were not written")
        return found.data.view(dtype).reshape(shape).copy()

    def _of(self, addresses: np.ndarray) -> tuple[Bytes, np.ndarray]:
        numbers = addresses >> SHIFT
        if not 0 < numbers[0] <= len(self._allocations) or (numbers != numbers[0]).any():
            raise Fault(f"addresses {[hex(a) for a in addresses[:4]]} are in no one array")
        return self._allocations[int(numbers[0]) - 1], (addresses & np.uint64((1 << 40) - 1)).astype(np.int64)

    def load(self, addresses: np.ndarray, size: int) -> np.ndarray:
        allocation, offsets = self._of(addresses)
        return allocation.load(offsets, size)

    def store(self, addresses: np.ndarray, values: np.ndarray) -> None:
        allocation, offsets = self._of(addresses)
        allocation.store(offsets, values)


class Shared:
    """A block's shared memory, by 32-bit address; 0 is not one."""

    def __init__(self, size: int) -> None:
        self.bytes = Bytes(size, "shared memory")

    def offsets(self, addresses: np.ndarray) -> np.ndarray:
        return addresses.astype(np.int64) & 0xFFFFFFFF

    def load(self, addresses: np.ndarray, size: int) -> np.ndarray:
        return self.bytes.load(self.offsets(addresses), size)

    def store(self, addresses: np.ndarray, values: np.ndarray) -> None:
        self.bytes.store(self.offsets(addresses), values)
