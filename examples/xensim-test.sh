#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Tests two programs that speak through a vchan, each in a domain of its own, and what is there when their domain is destroyed:
#
#   xensim run --domains 2 -- xensim-test.sh
#
# Here both are vchan-pump (tests/peers of xenmsg): it moves its input into the vchan, and what comes out of the vchan to its output.
set -eu
fail() {
	echo "xensim-test.sh: $*" >&2
	exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bytes=1000000
server=data/test                 # as its own domain names it
client=/local/domain/1/data/test # as all others do

# Data go both ways and arrive as they were sent.
head -c $bytes /dev/urandom >"$work/to-server"
head -c $bytes /dev/urandom >"$work/to-client"
xensim exec 1 -- vchan-pump server 2 $server $bytes <"$work/to-client" >"$work/at-server" &
pid=$!
xensim exec 2 -- vchan-pump client 1 $client $bytes <"$work/to-server" >"$work/at-client" || fail "the client has failed"
wait $pid || fail "the server has failed"
cmp "$work/to-server" "$work/at-server"
cmp "$work/to-client" "$work/at-client"

# No page of either is left.
[ "$(xensim list --json | grep -o '"used_pages": *[0-9]*' | grep -o '[0-9]*$' | sort -u)" = 0 ] || fail "pages are left"

# A guest doesn't write to the home of another.
! xensim exec 2 -- xenstore-write $client 1 2>/dev/null || fail "a guest has written to the home of another"

# A destroyed domain says no good-bye, but its nodes have gone with it.
xensim exec 1 -- vchan-pump server 2 $server 1 </dev/null >/dev/null &
pid=$!
until xensim exec 0 -- xenstore-exists $client/ring-ref; do sleep 0.05; done
xensim destroy 1
! wait $pid || fail "the server has outlived its domain"
! xensim exec 0 -- xenstore-exists $client || fail "its nodes are left"
echo "all is well"
