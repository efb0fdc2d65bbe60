# SPDX-License-Identifier: LGPL-2.1-or-later
# The daemon as a service: whose process it is, and what it says where it can't run.

restart() {
	daemon_stop "$1"
	daemon_start "$@"
}

test_a_daemon_that_is_not_root_serves() {
	restart u2 '[daemon]' 'user = xenmsg'
	on u2 'grep -E "^Uid:[[:space:]]*998[[:space:]]*998" /proc/$(cat /run/xenmsgd.pid)/status'
	arrives u1 u2
	arrives u2 dom0
	restart u2
}

# refuses COMMAND WORD: after COMMAND xenmsgd ends in u2 with 3 and names WORD
refuses() {
	on u2 "$1; timeout 60 xenmsgd >/tmp/refusal 2>&1; status=\$?; cat /tmp/refusal; [ \$status = 3 ] && grep -q -- '$2' /tmp/refusal"
}

test_without_its_modules_it_says_which() {
	local status=0
	daemon_stop u2
	refuses 'rmmod xen_gntalloc' 'modprobe xen-gntalloc' || status=1
	refuses 'modprobe xen-gntalloc; rmmod xen_gntdev' 'modprobe xen-gntdev' || status=1
	on u2 'modprobe xen-gntdev'
	daemon_start u2
	arrives u1 u2
	return $status
}

test_another_user_is_told_what_to_do() {
	on u2 'su tester -s /bin/sh -c ". /rig/env; xenmsgd --socket /tmp/t.sock" >/tmp/refusal 2>&1; status=$?
		cat /tmp/refusal; [ $status = 3 ] && grep -q "can.t open /dev/xen/gntalloc: Permission denied" /tmp/refusal'
}
