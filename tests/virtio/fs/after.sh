#!/bin/sh
# shellcheck disable=SC2010,SC2012,SC2086,SC2164 # names of our own; `sh -e` runs it
# What the guest has done is here, and nothing beside it.
(cd share && md5sum -c sums moved.sums)
[ "$(readlink share/made/dangling)" = nowhere ]
[ ! -e share/few ]
[ "$(ls share/many | wc -l)" = 10000 ]
[ ! -e share/new ]
[ ! -e share/device ]
[ "$(cat secret)" = outside ]
[ "$(cat aside/file)" = 'as it was' ]
[ "$(ls aside | tr '\n' ' ')" = 'dir file ' ]
# The layer for changes has gone.
[ -z "$(ls -d "${TMPDIR:-/tmp}"/axvmm-?????? 2>/dev/null)" ]
