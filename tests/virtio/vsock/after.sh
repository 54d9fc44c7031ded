#!/bin/sh
grep 'gave back 4194304 bytes' echoed
grep '2097152 bytes came back as they were sent' sent
# The socket goes with the guest.
[ ! -e guest.sock ]
kill "$(cat sender)" 2>/dev/null || true
rm guest.sock_1000
