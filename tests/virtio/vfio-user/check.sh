#!/bin/sh
# Linux finds it on the bus, and its registers where the BAR is.
device=$(grep -l 0x5678 /sys/bus/pci/devices/*/device)
device=${device%/device}
[ "$(cat "$device/vendor")" = 0x1234 ]
echo 1 >"$device/enable"
bar=$(head -n 1 "$device/resource" | cut -d ' ' -f 1)
[ "$(devmem "$bar")" = 0x61646472 ]
sum=$(printf '0x%x' $((bar + 4)))
devmem "$sum" 32 5
devmem "$sum" 32 6
[ "$(devmem "$sum")" = 0x0000000B ]
# MSI-X, which nobody here has a driver for.
[ "$(dd if="$device/config" bs=1 skip=64 count=1 2>/dev/null | hexdump -e '"%x"')" = 11 ]
