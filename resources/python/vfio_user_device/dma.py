"""The guest's memory."""

import mmap
import os


class DmaError(Exception):
    """There is no memory, or it may not be used so."""


class _Area:
    def __init__(self, address, size, flags, memory):
        self.address, self.size, self.flags, self.memory = address, size, flags, memory


class Dma:
    """Memory by the guest's addresses; `ask(is_write, address, count, data)` is for areas that are
    there by messages only."""

    READ, WRITE = 1, 2

    def __init__(self, ask):
        self._areas, self._ask = [], ask

    def read(self, address, length):
        """Reads `length` bytes."""
        return b"".join(self._pieces(self.READ, address, length, None))

    def write(self, address, data):
        """Writes bytes."""
        for _ in self._pieces(self.WRITE, address, len(data), memoryview(bytes(data))):
            pass

    def _pieces(self, access, address, length, data):
        if length < 0:
            raise DmaError(f"{length} bytes")
        # All of it is there before anything is done.
        pieces, at, left = [], address, length
        while left:
            area = self._area(at)
            if area is None or not area.flags & access:
                raise DmaError(f"no memory at {at:#x}")
            count = min(left, area.address + area.size - at)
            pieces.append((area, at, count))
            at, left = at + count, left - count
        for area, at, count in pieces:
            part = None if data is None else data[at - address : at - address + count]
            if area.memory is None:
                yield self._ask(access == self.WRITE, at, count, part)
            elif part is None:
                yield area.memory[at - area.address : at - area.address + count]
            else:
                area.memory[at - area.address : at - area.address + count] = part
                yield b""

    def _area(self, address):
        for area in self._areas:
            if area.address <= address < area.address + area.size:
                return area
        return None

    def map(self, address, size, flags, fd, offset):
        """The VMM gives an area, in a file or by messages; the file is closed."""
        try:
            end = address + size
            if size == 0 or any(a.address < end and address < a.address + a.size for a in self._areas):
                raise DmaError(f"{size:#x} bytes at {address:#x}")
            memory = None
            if fd is not None:
                prot = (flags & self.READ and mmap.PROT_READ) | (flags & self.WRITE and mmap.PROT_WRITE)
                memory = mmap.mmap(fd, size, mmap.MAP_SHARED, prot, offset=offset)
            self._areas.append(_Area(address, size, flags, memory))
        finally:
            if fd is not None:
                os.close(fd)

    def unmap(self, address, size):
        """The VMM takes an area back."""
        for area in self._areas:
            if (area.address, area.size) == (address, size):
                self._areas.remove(area)
                if area.memory is not None:
                    area.memory.close()
                return
        raise DmaError(f"no area of {size:#x} bytes at {address:#x}")

    def unmap_all(self):
        """The VMM takes all back."""
        for area in list(self._areas):
            self.unmap(area.address, area.size)
