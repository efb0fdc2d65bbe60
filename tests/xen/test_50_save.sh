# SPDX-License-Identifier: LGPL-2.1-or-later
# Save and restore of a guest that grants. No kernel may complain: the runner looks at the end of all tests, too.

no_complaint() { on "$1" '! dmesg | grep -E -A5 "BUG|Oops|recursive fault"'; }
knows_its_domid() { on "$1" 'xenmsg status --json' | grep -qE "^ *\"domid\": *$(domid "$1"),"; }
no_zombies() { ! xl list | grep '(null)'; }

save_and_restore() {
	xl save "$1" /tmp/saved
	[ $# = 1 ] || "$2"
	xl restore /tmp/saved
	rm /tmp/saved
	xl domid "$1" >"/run/rig/$1.domid"
	eventually 30 on "$1" true
}

sender_has_ended() { ended u1 flow-sender 5 8; }

test_a_failed_save_changes_nothing() {
	local before
	arrives u1 u2
	before=$(domid u2)
	mkdir -p /mnt/small
	mount -t tmpfs -o size=16m none /mnt/small
	! xl save u2 /mnt/small/saved || fail 'that should not fit'
	umount /mnt/small
	[ "$(xl domid u2)" = "$before" ]
	receiver u2 inbox --count 1 --timeout 30
	on u1 "xenmsg send --timeout 20 $before:inbox again"
	ended u2 inbox 0
	on u2 '! grep restored /run/xenmsgd.log'
}

test_a_restored_guest_is_reached_under_its_new_domid() {
	arrives dom0 u2
	stream u1 u2 flow
	save_and_restore u2 sender_has_ended
	eventually 30 knows_its_domid u2
	arrives u1 u2
	arrives u2 dom0
	eventually 10 no_zombies
	no_complaint u2
}

test_its_daemon_can_be_stopped_and_killed_afterwards() {
	on u2 'pidof xenmsg-keeper || pidof @xenmsg-keeper'
	daemon_stop u2
	daemon_start u2
	arrives u1 u2
	save_and_restore u2
	eventually 30 knows_its_domid u2
	arrives dom0 u2
	daemon_kill u2
	daemon_start u2
	arrives u2 u1
	no_complaint u2
}
