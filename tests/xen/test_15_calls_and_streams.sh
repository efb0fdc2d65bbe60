# SPDX-License-Identifier: LGPL-2.1-or-later
# Calls and byte streams between domains.

# calls FROM TO: an answer to what was asked, from a server that is told who asks; and an error that it answers with
calls() {
	on "$2" '(xenmsg serve ask -- sh -c '"'"'read -r question; echo "$XENMSG_SENDER_DOMID asks $question"; [ "$question" != nonsense ]'"'"' \
			>/tmp/ask.out 2>&1; echo $? >/tmp/ask.status) &
		eventually 20 has_bound ask'
	[ "$(on "$1" "xenmsg call --timeout 40 $(domid "$2"):ask 'the way'")" = "$(domid "$1") asks the way" ]
	on "$1" "xenmsg call --timeout 40 $(domid "$2"):ask nonsense; [ \$? = 10 ]"
	on "$2" 'killall xenmsg; await ask 143'
}

test_a_call_between_guests() { calls u1 u2; } # smoke, smoke_silo
test_a_call_between_guests_with_the_other_role() { calls u2 u1; } # smoke_dummy
test_a_call_from_dom0_to_guest() { calls dom0 u2; }
test_a_call_from_guest_to_dom0() { calls u1 dom0; }

# pours FROM TO: 3 MB one way, and what the other end says after them comes back
pours() {
	local sums
	on "$2" '(xenmsg listen pipe -- md5sum >/tmp/pipe.out 2>&1; echo $? >/tmp/pipe.status) & eventually 20 has_bound pipe'
	sums=$(on "$1" "head -c 3000000 /dev/urandom >/tmp/pipe.in; timeout 180 xenmsg connect $(domid "$2"):pipe </tmp/pipe.in
		md5sum </tmp/pipe.in; rm /tmp/pipe.in")
	on "$2" 'killall xenmsg'
	# shellcheck disable=SC2086
	set -- $sums
	[ $# = 4 ] && [ ${#1} = 32 ] && [ "$1" = "$3" ]
}

test_a_stream_between_guests() { pours u1 u2; }
test_a_stream_between_guests_with_the_other_role() { pours u2 u1; }
test_a_stream_from_dom0_to_guest() { pours dom0 u1; } # smoke, smoke_silo
test_a_stream_from_guest_to_dom0() { pours u2 dom0; }

# Neither u2 nor u3 may map, so domain 0's daemon relays.
test_two_guests_that_only_grant_talk_through_dom0() { # both, smoke_both
	spare
	ready u3
	see_each_other dom0 u2 u3
	arrives u2 u3
	arrives u3 u2
	calls u2 u3
	pours u3 u2
	on u2 "xenmsg ping --count 1 $(domid u3) && xenmsg peers | grep -q relayed"
	daemon_stop dom0
	on u2 "xenmsg send --timeout 40 $(domid u3):inbox x; [ \$? = 5 ]"
	daemon_start dom0
	see_each_other dom0 u2 u3
	arrives u2 u3
}
