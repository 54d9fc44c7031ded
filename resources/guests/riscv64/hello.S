# hello: prints one line and powers off.
#
# The VMM should show: `Hello from axvmm's guest`, and end with status 0.
# Boot: ELF at its physical addresses.

    .include "start.inc"
    .include "console.inc"
    .include "power.inc"

main:
    print "Hello from axvmm's guest\n"
    ret
