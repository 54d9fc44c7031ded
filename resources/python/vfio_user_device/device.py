"""What a device is: its registers, and what happens when they are read and written."""


class AccessError(Exception):
    """There is no such register."""


class Register:
    """A register at `offset`, of 1, 2, 4 or 8 bytes; as an attribute it is its value."""

    def __init__(self, offset, size=4, reset=0, read_only=False):
        if size not in (1, 2, 4, 8) or offset % size:
            raise ValueError(f"a register of {size} bytes at {offset:#x}")
        self.offset, self.size, self.reset, self.read_only = offset, size, reset, read_only
        self.name = None

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, device, owner=None):
        if device is None:
            return self
        return device.__dict__.get(self.name, self.reset)

    def __set__(self, device, value):
        device.__dict__[self.name] = int(value) & ((1 << 8 * self.size) - 1)


class Device:
    """A device; a class of one's own says what it is, and does what it does."""

    #: What it is on PCI.
    vendor_id = 0x1234
    device_id = 0x0001
    class_code = 0xFF0000
    revision_id = 0
    subsystem_vendor_id = 0
    subsystem_id = 0
    #: How many bytes its registers have (BAR 0): a power of two.
    size = 0x1000
    #: How many interrupts it has.
    vectors = 1

    #: Its interrupts, and the guest's memory: the server's.
    irqs = ()
    dma = None

    @property
    def irq(self):
        """The first of its interrupts."""
        return self.irqs[0]

    @classmethod
    def registers(cls):
        """All its registers."""
        found = {}
        for base in reversed(cls.__mro__):
            found.update({k: v for k, v in vars(base).items() if isinstance(v, Register)})
        return sorted(found.values(), key=lambda register: register.offset)

    def _register(self, offset, size):
        for register in self.registers():
            if register.offset == offset and register.size == size:
                return register
        raise AccessError(f"no register of {size} bytes at {offset:#x}")

    def read(self, offset, size):
        """Reads `size` bytes at `offset`."""
        register = self._register(offset, size)
        hook = getattr(self, "read_" + register.name, None)
        return hook() if hook else getattr(self, register.name)

    def write(self, offset, size, value):
        """Writes `size` bytes at `offset`."""
        register = self._register(offset, size)
        hook = getattr(self, "write_" + register.name, None)
        if hook:
            hook(value)
        elif not register.read_only:
            setattr(self, register.name, value)

    def reset(self):
        """The device is as new: all registers have their reset values already."""

    def _reset(self):
        for register in self.registers():
            setattr(self, register.name, register.reset)
        self.reset()
