# SPDX-License-Identifier: LGPL-2.1-or-later
# The rig itself, and each daemon by itself.

test_every_domain_answers() {
	for name in $GUESTS; do
		[ "$(on "$name" 'xenstore-read domid')" = "$(domid "$name")" ]
		! on "$name" 'exit 3' || fail 'the status of a remote command is lost'
	done
}

test_every_daemon_is_up() { # smoke, smoke_silo
	for name in dom0 $GUESTS; do
		on "$name" 'xenmsg status --json' | grep -q "\"domid\": *$(domid "$name")"
	done
}
