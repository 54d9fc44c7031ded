"""Interrupts: eventfds of the VMM's."""

import os
import struct


class Irq:
    """An interrupt; it goes nowhere as long as the VMM has not said where."""

    def __init__(self):
        self._fd = None

    def trigger(self):
        """Interrupts once."""
        if self._fd is not None:
            try:
                os.write(self._fd, struct.pack("=Q", 1))
            except BlockingIOError:
                pass  # It is as full as can be: the VMM sees it anyway.

    def connect(self, fd):
        """From now on it is this eventfd; `None`: nothing."""
        if self._fd is not None:
            os.close(self._fd)
        self._fd = fd
