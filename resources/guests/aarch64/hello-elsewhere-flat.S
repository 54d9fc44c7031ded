# hello-elsewhere-flat: `hello-flat` for a board whose PL011 is at 0x2800d000, and which
# does not ask where it is.
#
# The VMM should show, given a row for a serial port there: `Hello from axvmm's
# guest`, and end with status 0.
# Boot: flat, at kernel_load_addr.

.set UART, 0x2800d000
    .include "hello.S"
