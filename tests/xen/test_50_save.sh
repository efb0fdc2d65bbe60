# SPDX-License-Identifier: LGPL-2.1-or-later
# Save and restore of a guest that grants: the third one, which is small. No kernel may complain: the runner looks at the end of
# all tests, too. Those marked "both" run with either xenstored in the check.

save_and_restore() {
	save "$1" /tmp/saved
	xl restore /tmp/saved
	rm /tmp/saved
	is_restored "$1"
}

test_a_failed_save_changes_nothing() { # save
	local before
	spare
	ready u3
	arrives u1 u3
	before=$(domid u3)
	mkdir -p /mnt/small
	mount -t tmpfs -o size=16m none /mnt/small
	! xl save u3 /mnt/small/saved || fail 'that should not fit'
	umount /mnt/small
	[ "$(xl domid u3)" = "$before" ]
	arrives u1 u3
	on u3 '! grep "was restored or migrated" /run/xenmsgd.log' # but its links may have had a pause
}

# This time without the rights of root, from its start, but with the devices that the package gives it.
test_its_daemon_can_be_stopped_restored_again_and_killed() { # save
	spare
	ready u3
	arrives dom0 u3
	save_and_restore u3
	knows_its_domid u3
	on u3 'pidof xenmsg-keeper || pidof @xenmsg-keeper'
	on u3 'stop_daemon; give_to_xenmsgd; export RIG_USER=xenmsgd; start_daemon no; is_xenmsgd $(cat /run/xenmsgd.pid)'
	arrives u1 u3
	save_and_restore u3
	knows_its_domid u3
	on u3 'is_xenmsgd $(cat /run/xenmsgd.pid)'
	arrives dom0 u3
	arrives u3 u1
	daemon_kill u3
	daemon_start u3
	arrives u3 u1
	no_complaint u3
}

# The time that a domain has run jumps when it is restored, which a shell sees at once, and before XenStore tells the daemon.
test_its_daemon_can_be_stopped_before_the_restore_is_known() { # save
	spare
	ready u3
	arrives u1 u3
	arrives u3 dom0
	on u3 'lines_of /run/xenmsgd.log >/tmp/lines; read -r pid </run/xenmsgd.pid; (now; then=$NOW; while [ $((NOW - then)) -lt 4000 ]; do then=$NOW; now; done; kill $pid) &'
	save u3 /tmp/saved
	sleep 5
	xl restore /tmp/saved
	rm /tmp/saved
	is_restored u3
	on u3 'read -r pid </run/xenmsgd.pid; eventually 20 has_ended $pid
		tail -n +$(($(cat /tmp/lines) + 1)) /run/xenmsgd.log >/tmp/since
		grep "a keeper gets the event channels" /tmp/since && ! grep "was restored or migrated" /tmp/since'
	daemon_start u3
	arrives u1 u3
	no_complaint u3
}

# Root has dropped its rights, and the restore needs what the user has.
test_a_daemon_that_was_root_is_restored() { # save
	spare
	on u3 'give_to_xenmsgd'
	daemon_restart u3 '[daemon]' 'user = xenmsgd'
	on u3 'is_xenmsgd $(cat /run/xenmsgd.pid)'
	arrives u1 u3
	save_and_restore u3
	knows_its_domid u3
	arrives u3 u1
	no_complaint u3
}

# The tests' own way into a guest: XenStore tells it nothing of what was written before its kernel has set the watches again.
test_a_guest_does_what_it_was_asked_before_it_resumed() { # both, save
	spare
	save u3 /tmp/saved
	xl restore -p /tmp/saved
	rm /tmp/saved
	is_restored u3 &
	eventually 10 was_asked u3
	xl unpause u3
	wait $!
}
was_asked() { xenstore-exists "/local/domain/$(xl domid "$1")/data/rig"; }
