# SPDX-License-Identifier: LGPL-2.1-or-later
# Daemons, programs and domains come, go, stop and die. Those marked "both" run with either xenstored in the check.

nothing_is_left_in_xenstore() {
	local name
	for name in dom0 $GUESTS; do ! xenstore-exists "/local/domain/$(domid "$name")/data/xenmsg" || return; done
}

start_in_order() {
	local name
	on_each "dom0 $GUESTS" stop_daemon
	eventually 10 nothing_is_left_in_xenstore
	for name; do daemon_start "$name"; done
	see_each_other dom0 $GUESTS
}

test_found_with_dom0_first() { # both
	start_in_order dom0 u1 u2
	arrives u1 u2
}

test_found_with_dom0_last() { # both
	start_in_order u2 u1 dom0
	arrives u2 dom0
}

test_found_with_dom0_between() {
	start_in_order u1 dom0 u2
	arrives u2 u1
}

test_without_a_daemon_in_dom0() { # both, direct
	daemon_stop dom0
	daemon_restart u1
	see_each_other u1 u2
	arrives u1 u2
	on u1 'xenmsg send --timeout 40 0:inbox x; [ $? = 5 ]'
}

sees() { on "$1" "eventually 15 knows $(domid "$2")"; }

test_a_killed_daemon_ends_sends_and_is_found_again() { # smoke
	stream u2 u1 flow
	daemon_kill u1
	ended u2 flow-sender 5 8
	daemon_start u1
	sees u2 u1
	arrives u2 u1
}

test_a_killed_program_ends_sends() {
	stream dom0 u2 flow
	on u2 'killall -9 xenmsg'
	ended dom0 flow-sender 3 8
	arrives dom0 u2
}

# It could come back, as after a save: hence the short resume-for.
test_a_destroyed_domain_ends_sends_and_leaves_no_zombie() { # both, smoke
	spare
	for name in dom0 u1; do daemon_restart $name 'resume-for = 5s'; done
	ready u3
	stream u1 u3 flow
	stream dom0 u3 flow0
	guest_destroy u3
	ended u1 flow-sender 5 8
	ended dom0 flow0-sender 5 8
	eventually 10 no_zombies
	spare
	ready u3
	sees u1 u3
	arrives u1 u3
	arrives u3 dom0
	for name in dom0 u1; do daemon_restart $name; done
}

test_a_paused_domain_gets_everything_later() {
	receiver u2 many --count 500 --timeout 120
	xl pause u2
	background u1 sender "seq 1 500 | xenmsg send --lines $(domid u2):many"
	usleep 3000000 # the length of the pause
	on u1 '! test -s /tmp/sender.status'
	xl unpause u2
	ended u1 sender 0
	on u2 'await many 0 && seq 1 500 | cmp - /tmp/many.got'
}

is_called() { on "$1" 'called() { xenmsg status --json | grep -q "\"name\": *\"'"$2"'\""; }; eventually 10 called'; }

test_a_renamed_domain_knows_its_name() { # both
	xl rename u1 work
	is_called u1 work
	xl rename work u1
	is_called u1 u1
}

sends_to() { on "$1" "eventually 20 xenmsg send --timeout 40 $2 'by name'"; }

test_guests_know_each_other_by_the_names_that_dom0_gives() { # both
	receiver u2 inbox --count 1 --timeout 120
	sends_to u1 u2:inbox
	ended u2 inbox 0
	xl rename u2 press
	receiver u2 inbox --count 1 --timeout 120
	sends_to u1 press:inbox
	ended u2 inbox 0
	xl rename press u2
}
