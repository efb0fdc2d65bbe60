# SPDX-License-Identifier: LGPL-2.1-or-later
# XSM. Debian's Xen for Arm begins with SILO, by which guests may share memory with domain 0 alone. x86's is built without.

restart_all() { for name in $GUESTS; do on "$name" "stop_daemon; start_daemon $1" || return; done; }

is_relayed() {
	on "$1" "peer=\$(xenmsg peers --json $2); echo \"\$peer\"; echo \"\$peer\" | grep -q '\"link\": *\"relayed\"' &&
		echo \"\$peer\" | grep -q 'Xen lets the two share no memory (XSM)'"
}

# Though both may map: the hypervisor refuses, and each of them goes on by itself.
test_guests_that_silo_keeps_apart_talk_through_dom0() { # silo, smoke_silo
	restart_all yes
	see_each_other dom0 u1 u2
	now
	began=$NOW
	arrives u1 u2
	now
	[ $((NOW - began)) -lt 10000 ] || fail "that took $((NOW - began)) ms" # not the time-out of a set-up
	arrives u2 u1
	is_relayed u1 "$(domid u2)"
	is_relayed u2 "$(domid u1)"
	on u1 "xenmsg doctor $(domid u2) | grep 'the hypervisor refuses an event channel'"
	for name in $GUESTS; do daemon_restart "$name"; done
}

test_guests_that_silo_keeps_apart_are_unlinked_with_auto() { # silo
	restart_all auto
	see_each_other dom0 u1 u2
	arrives u2 u1
	is_relayed u2 "$(domid u1)"
	for name in $GUESTS; do daemon_restart "$name"; done
}

# By the default alone: guests of Arm say that they are HVM.
test_guests_without_silo_have_a_link_with_auto() { # direct, smoke_dummy
	[ "$RIG_guesttype" = pvh ] || exit 77 # PV guests don't map by themselves
	on u1 'grep -x HVM /sys/hypervisor/guest_type || grep -x PVH /sys/hypervisor/guest_type'
	restart_all auto
	see_each_other dom0 u1 u2
	arrives u2 u1
	on u2 "xenmsg peers --json $(domid u1) | grep '\"link\": *\"up\"'"
	for name in $GUESTS; do daemon_restart "$name"; done
}

# What is refused of grants alone has no word of its own: a guest whose events pass, by a policy of Flask, would take it for a
# reference that isn't there any more.
test_a_mapping_that_silo_refuses_is_einval() { # silo
	local a
	. /rig/conformance/lib.sh
	programs A u1 B u2
	a=$(ask A share "$(domid u2)" 1 1)
	echo "u1 grants it: $a"
	[ "$(word 1 "$a")" = ok ]
	a=$(ask B map "$(domid u1)" "$(word 3 "$a")" 1 1)
	echo "u2 maps it: $a"
	[ "$a" = 'error 22' ]
	end_programs
}
