"""A vfio-user server ("vfio-user Protocol Specification"): the commands of one client at a time."""

import argparse
import errno
import json
import os
import socket
import struct
import sys
import traceback

from .device import AccessError
from .dma import Dma, DmaError
from .irq import Irq
from .pci import MSIX_SIZE, SIZE as CONFIG_SIZE, ConfigSpace

(VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, GET_REGION_INFO, _, GET_IRQ_INFO, SET_IRQS, REGION_READ,
 REGION_WRITE, DMA_READ, DMA_WRITE, DEVICE_RESET) = range(1, 14)  # fmt: skip

HEADER = struct.Struct("=HHIII")
REPLY, NO_REPLY, FAILED = 1, 1 << 4, 1 << 5
#: What this side takes.
MOST_DATA, MOST_FDS = 1 << 20, 8

BAR0, BAR1, CONFIG, REGIONS = 0, 1, 7, 9
MSIX, IRQS = 2, 5
READ_WRITE = 3


class _Refused(Exception):
    """A command that cannot be done: with an errno."""


class _Ended(Exception):
    """The client is gone, or no client of this protocol."""


def _unpack(form, body):
    form = struct.Struct(form)
    if len(body) < form.size:
        raise _Refused(errno.EINVAL)
    return form.unpack_from(body), body[form.size :]


class Server:
    """Serves a device to whoever connects."""

    def __init__(self, device):
        self._device = device
        self._config = ConfigSpace(device)
        self._msix = bytearray(MSIX_SIZE)
        self._sock, self._waiting, self._next_id = None, [], 0
        self._most_data = MOST_DATA
        device.irqs = [Irq() for _ in range(device.vectors)]
        device.dma = Dma(self._dma_by_message)
        device._reset()

    def serve(self, path):
        """Waits at a socket for one client after the other; ends when the socket's path is gone."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(path)
            listener.listen(1)
            try:
                while True:
                    sock, _ = listener.accept()
                    with sock:
                        self.serve_client(sock)
                    if not os.path.exists(path):
                        return
            finally:
                if os.path.exists(path):
                    os.unlink(path)

    def serve_client(self, sock):
        """Serves a client until it is gone."""
        self._sock, self._waiting = sock, []
        try:
            while True:
                message = self._waiting.pop(0) if self._waiting else self._receive()
                self._answer(*message)
        except (_Ended, ConnectionError):
            pass
        finally:
            self._sock = None
            self._disconnect_irqs()
            self._device.dma.unmap_all()
            self._reset()

    # Messages.

    def _receive_exactly(self, count, with_fds):
        data, fds = b"", []
        while len(data) < count:
            if with_fds and not data:
                part, fds, _, _ = socket.recv_fds(self._sock, count, MOST_FDS)
            else:
                part = self._sock.recv(count - len(data))
            if not part:
                for fd in fds:
                    os.close(fd)
                raise _Ended
            data += part
        return data, fds

    def _receive(self):
        header, fds = self._receive_exactly(HEADER.size, True)
        number, command, size, flags, error = HEADER.unpack(header)
        body = b""
        try:
            if not HEADER.size <= size <= HEADER.size + MOST_DATA + 4096:
                raise _Ended
            if size > HEADER.size:
                body, _ = self._receive_exactly(size - HEADER.size, False)
        except _Ended:
            for fd in fds:
                os.close(fd)
            raise
        return number, command, flags, error, body, fds

    def _send(self, number, command, flags, error, body):
        header = HEADER.pack(number, command, HEADER.size + len(body), flags, error)
        self._sock.sendall(header + body)

    def _answer(self, number, command, flags, _error, body, fds):
        if flags & 0xF:
            raise _Ended  # An answer that nobody has asked for.
        try:
            answer, code = self._do(command, body, fds), 0
        except _Refused as refused:
            answer, code = b"", refused.args[0]
        except AccessError:
            answer, code = b"", errno.EINVAL
        except DmaError:
            answer, code = b"", errno.EFAULT
        except Exception:  # The device's own: the VMM is told, and so is whoever wrote it.
            traceback.print_exc()
            answer, code = b"", errno.EIO
        finally:
            for fd in fds:
                os.close(fd)
        if not flags & NO_REPLY:
            self._send(number, command, REPLY | (FAILED if code else 0), code, answer)

    def _dma_by_message(self, is_write, address, count, data):
        got = b""
        while len(got) < count:
            part = min(count - len(got), self._most_data)
            body = struct.pack("=QQ", address + len(got), part)
            if is_write:
                body += data[len(got) : len(got) + part]
            self._next_id = self._next_id + 1 & 0xFFFF
            command = DMA_WRITE if is_write else DMA_READ
            self._send(self._next_id, command, 0, 0, body)
            while True:
                message = self._receive()
                number, answered, flags, _, answer, _ = message
                if not flags & 0xF:
                    self._waiting.append(message)  # It comes later.
                    continue
                if (number, answered) != (self._next_id, command):
                    raise _Ended
                break
            if flags & FAILED or (not is_write and len(answer) != 16 + part):
                raise DmaError(f"no memory at {address:#x}")
            got += bytes(part) if is_write else answer[16:]
        return got

    # Commands.

    def _do(self, command, body, fds):
        done = {
            VERSION: self._version,
            DMA_MAP: self._dma_map,
            DMA_UNMAP: self._dma_unmap,
            GET_INFO: self._info,
            GET_REGION_INFO: self._region_info,
            GET_IRQ_INFO: self._irq_info,
            SET_IRQS: self._set_irqs,
            REGION_READ: self._region_read,
            REGION_WRITE: self._region_write,
            DEVICE_RESET: self._device_reset,
        }.get(command)
        if done is None:
            raise _Refused(errno.ENOTSUP)
        return done(body, fds)

    def _version(self, body, _):
        (major, minor), text = _unpack("=HH", body)
        if major != 0:
            raise _Refused(errno.EINVAL)
        try:
            asked = json.loads(text.split(b"\0")[0] or b"{}").get("capabilities", {})
            self._most_data = min(MOST_DATA, int(asked.get("max_data_xfer_size", MOST_DATA)))
        except (ValueError, AttributeError, TypeError):
            raise _Refused(errno.EINVAL) from None
        ours = {"max_msg_fds": MOST_FDS, "max_data_xfer_size": MOST_DATA}
        text = json.dumps({"capabilities": ours}).encode() + b"\0"
        return struct.pack("=HH", 0, min(minor, 1)) + text

    def _dma_map(self, body, fds):
        (_, flags, offset, address, size), _ = _unpack("=IIQQQ", body)
        fd = fds.pop(0) if fds else None
        try:
            self._device.dma.map(address, size, flags & READ_WRITE, fd, offset)
        except (DmaError, OSError, ValueError, OverflowError):
            raise _Refused(errno.EINVAL) from None
        return b""

    def _dma_unmap(self, body, _):
        (_, flags, address, size), _ = _unpack("=IIQQ", body)
        if flags & 1 << 2:
            self._device.dma.unmap_all()
        elif flags:
            raise _Refused(errno.ENOTSUP)  # Dirty pages: these are not kept.
        else:
            self._device.dma.unmap(address, size)
        return body[:24]

    def _info(self, _body, _):
        can_reset, is_pci = 1, 2
        return struct.pack("=IIII", 16, can_reset | is_pci, REGIONS, IRQS)

    def _region_size(self, index):
        return {BAR0: self._device.size, BAR1: MSIX_SIZE, CONFIG: CONFIG_SIZE}.get(index, 0)

    def _region_info(self, body, _):
        (_, _, index, _, _, _), _ = _unpack("=IIIIQQ", body)
        if index >= REGIONS:
            raise _Refused(errno.EINVAL)
        size = self._region_size(index)
        return struct.pack("=IIIIQQ", 32, READ_WRITE if size else 0, index, 0, size, 0)

    def _irq_info(self, body, _):
        (_, _, index, _), _ = _unpack("=IIII", body)
        if index >= IRQS:
            raise _Refused(errno.EINVAL)
        by_eventfd, not_resizable = 1, 8
        count = self._device.vectors if index == MSIX else 0
        return struct.pack("=IIII", 16, by_eventfd | not_resizable if count else 0, index, count)

    def _set_irqs(self, body, fds):
        (_, flags, index, start, count), data = _unpack("=IIIII", body)
        none, by_bool, by_eventfd, trigger = 1, 2, 4, 1 << 5
        irqs = self._device.irqs if index == MSIX else []
        if not flags & trigger:
            raise _Refused(errno.ENOTSUP)
        if start + count > len(irqs):
            raise _Refused(errno.EINVAL)
        chosen = irqs[start : start + count]
        if flags & by_eventfd:
            if len(fds) not in (0, count):
                raise _Refused(errno.EINVAL)
            for irq in chosen:
                irq.connect(fds.pop(0) if fds else None)
        elif flags & by_bool:
            if len(data) < count:
                raise _Refused(errno.EINVAL)
            for irq, is_up in zip(chosen, data):
                if is_up:
                    irq.trigger()
        elif flags & none and not count:
            self._disconnect_irqs()
        elif flags & none:
            for irq in chosen:
                irq.trigger()
        return b""

    def _disconnect_irqs(self):
        for irq in self._device.irqs:
            irq.connect(None)

    def _access(self, body):
        (offset, region, count), data = _unpack("=QII", body)
        if count == 0 or count > MOST_DATA or offset + count > self._region_size(region):
            raise _Refused(errno.EINVAL)
        return offset, region, count, data

    def _region_read(self, body, _):
        offset, region, count, _ = self._access(body)
        if region == CONFIG:
            data = self._config.read(offset, count)
        elif region == BAR1:
            data = bytes(self._msix[offset : offset + count])
        else:
            value = int(self._device.read(offset, count))
            data = (value & (1 << 8 * count) - 1).to_bytes(count, "little")
        return struct.pack("=QII", offset, region, count) + data

    def _region_write(self, body, _):
        offset, region, count, data = self._access(body)
        if len(data) != count:
            raise _Refused(errno.EINVAL)
        if region == CONFIG:
            self._config.write(offset, data)
        elif region == BAR1:
            self._msix[offset : offset + count] = data
        else:
            self._device.write(offset, count, int.from_bytes(data, "little"))
        return struct.pack("=QII", offset, region, count)

    def _device_reset(self, _body, _):
        self._reset()
        return b""

    def _reset(self):
        self._config.reset()
        self._msix = bytearray(MSIX_SIZE)
        self._device._reset()


def main(device, argv=None):
    """The command line of a device: `--socket PATH`, where it waits for VMMs."""
    about = (device.__doc__ or "A vfio-user device.").strip()
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--socket", required=True, metavar="PATH", help="where to listen")
    path = parser.parse_args(argv).socket
    try:
        Server(device()).serve(path)
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}")
    except KeyboardInterrupt:
        pass
