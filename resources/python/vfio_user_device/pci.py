"""The configuration space of a PCI device (PCI Local Bus 3.0, 6.1 and 6.8.2)."""

import struct

SIZE = 256
#: BAR 1 has MSI-X: its table, and the pending bits.
MSIX_SIZE, MSIX_PENDING = 0x1000, 0x800
MOST_VECTORS = MSIX_PENDING // 16
_MSIX_AT = 0x40


class ConfigSpace:
    """Bytes, and which of their bits may be written."""

    def __init__(self, device):
        if device.size < 16 or device.size & (device.size - 1):
            raise ValueError(f"size is a power of two, 16 or more, and not {device.size:#x}")
        if not 1 <= device.vectors <= MOST_VECTORS:
            raise ValueError(f"vectors are 1 to {MOST_VECTORS}, and not {device.vectors}")
        self._device = device
        self.reset()

    def reset(self):
        """As after power on."""
        device = self._device
        self._bytes, self._mask = bytearray(SIZE), bytearray(SIZE)
        self._put(0x00, struct.pack("<HH", device.vendor_id, device.device_id))
        self._put(0x04, struct.pack("<HH", 0, 1 << 4), struct.pack("<HH", 0x0406, 0))
        self._put(0x08, struct.pack("<I", device.class_code << 8 | device.revision_id))
        self._put(0x10, bytes(4), struct.pack("<I", -device.size & 0xFFFFFFFF))
        self._put(0x14, bytes(4), struct.pack("<I", -MSIX_SIZE & 0xFFFFFFFF))
        self._put(0x2C, struct.pack("<HH", device.subsystem_vendor_id, device.subsystem_id))
        self._put(0x34, bytes([_MSIX_AT]))
        self._put(0x3C, bytes(1), b"\xff")
        msix = struct.pack("<BBHII", 0x11, 0, device.vectors - 1, 1, MSIX_PENDING | 1)
        self._put(_MSIX_AT, msix, struct.pack("<BBH", 0, 0, 0xC000))

    def _put(self, at, value, mask=b""):
        self._bytes[at : at + len(value)] = value
        self._mask[at : at + len(mask)] = mask

    def read(self, offset, count):
        """Reads bytes."""
        return bytes(self._bytes[offset : offset + count])

    def write(self, offset, data):
        """Writes those bits that may be written."""
        for at, new in enumerate(data, offset):
            mask = self._mask[at]
            self._bytes[at] = self._bytes[at] & ~mask & 0xFF | new & mask
