# SPDX-License-Identifier: LGPL-2.1-or-later
# Byte streams between domains.

# pours FROM TO: 3 MB one way, and what the other end says after them comes back
pours() {
	local sum
	on "$2" 'rm -f /tmp/pipe.*; (xenmsg listen pipe -- sh -c "sha256sum" >/tmp/pipe.out 2>&1; echo $? >/tmp/pipe.status) &
		i=0; until xenmsg endpoints self | grep -qw pipe || [ $i = 100 ]; do usleep 100000; i=$((i + 1)); done'
	on "$1" "head -c 3000000 /dev/urandom >/tmp/pipe.in; timeout 90 xenmsg connect $(domid "$2"):pipe </tmp/pipe.in >/tmp/pipe.back"
	sum=$(on "$1" 'sha256sum </tmp/pipe.in; rm /tmp/pipe.in')
	[ ${#sum} -gt 60 ]
	[ "$(on "$1" 'cat /tmp/pipe.back')" = "$sum" ]
	on "$2" 'killall xenmsg'
}

test_a_stream_between_guests() { pours u1 u2; }
test_a_stream_from_guest_to_dom0() { pours u2 dom0; }
