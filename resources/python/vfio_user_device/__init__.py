"""Devices for virtual machines: vfio-user servers in a few lines."""

from .device import AccessError, Device, Register
from .dma import Dma, DmaError
from .irq import Irq
from .server import Server, main

__all__ = ["AccessError", "Device", "Dma", "DmaError", "Irq", "Register", "Server", "main"]
