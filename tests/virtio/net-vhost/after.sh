#!/bin/sh
kill "$(cat httpd.pid)"
grep '^vhost-' threads
