# hello-flat: `hello` as the flat binary that AxVisor's guests are: it runs where
# it is loaded, at a multiple of 2 MiB.
#
# The VMM should show: `Hello from axvmm's guest`, and end with status 0.
# Boot: flat, at kernel_load_addr.

    .include "hello.S"
