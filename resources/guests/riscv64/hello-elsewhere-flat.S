# hello-elsewhere-flat: `hello-flat` for a board whose 16550 is at 0x12000000, and which
# does not ask where it is.
#
# The VMM should show, given a row for a serial port there: `Hello from axvmm's
# guest`, and end with status 0.
# Boot: flat, at kernel_load_addr.

.set UART, 0x12000000
    .include "hello.S"
