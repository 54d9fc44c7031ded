#!/bin/sh
# It ends by itself when its terminal goes.
kill "$(cat program)" 2>/dev/null || true
grep -q "the guest's terminal" terminal
grep -q "the guest's log" log
[ ! -e agent ]
