# SPDX-License-Identifier: LGPL-2.1-or-later
# The daemon as a service: whose process it is, what it says where it can't run, and what the doctor says.

test_a_daemon_that_is_not_root_serves() { # smoke
	daemon_restart u2 '[daemon]' 'user = xenmsgd'
	on u2 'is_xenmsgd $(cat /run/xenmsgd.pid)'
	arrives u1 u2
	arrives u2 dom0
	daemon_restart u2
}

test_a_daemon_in_dom0_that_is_not_root_serves() {
	daemon_restart dom0 '[daemon]' 'user = xenmsgd'
	on dom0 'is_xenmsgd $(cat /run/xenmsgd.pid)'
	arrives u1 dom0
	arrives dom0 u2
	daemon_restart dom0
}

# A program of another version takes over, and can't read what it is handed. What it has opened by then stays: it grants rings.
test_a_daemon_that_begins_afresh_grants_rings() { # both
	on u2 'program=$(command -v xenmsgd) && cp $program /tmp/xenmsgd && cat >/tmp/other <<END && chmod +x /tmp/other && mv /tmp/other $program
#!/bin/sh
if [ "\$1" = --take-over ]; then
	rest=\${2#*:}; shift 2
	for image in 5 6 7 8; do case :\$rest: in *:\$image:*) ;; *) break ;; esac; done
	set -- --take-over "\$image:\$rest" "\$@"
	eval "exec \$image</dev/null"
fi
exec /tmp/xenmsgd "\$@"
END
		xenmsg daemon renew; cp /tmp/xenmsgd /tmp/other; mv /tmp/other $program; eventually 30 grep "this one begins afresh" /run/xenmsgd.log && eventually 30 answers'
	arrives u1 u2
	arrives u2 dom0
	on u2 'xenmsg status --json | grep -c "\"role\": *\"grants\"" | grep -x 2'
	hand_over u2
	arrives u1 u2
	daemon_restart u2
}

# As the unit has it: xenstored's socket is shut to it, and it reaches XenStore by its group's /dev/xen/xenbus.
test_a_daemon_in_dom0_that_never_was_root_serves() { # both
	on dom0 'stop_daemon; give_to_xenmsgd; export RIG_USER=xenmsgd; start_daemon auto
		! su xenmsgd -s /bin/sh -c "[ -w /run/xenstored/socket ]" && is_xenmsgd $(cat /run/xenmsgd.pid)'
	see_each_other dom0 u1 u2
	arrives u1 dom0
	arrives dom0 u2
	on dom0 'chown -R root:root /run/xenmsg /run/xenmsgd; chmod 0600 /dev/xen/evtchn /dev/xen/gntdev /dev/xen/gntalloc /dev/xen/xenbus'
	daemon_restart dom0
	arrives dom0 u2
}

# Whoever they are, and wherever they listen.
test_daemons_of_root_and_of_its_own_user_exclude_each_other() {
	on u2 'stop_daemon; give_to_xenmsgd; export RIG_USER=xenmsgd; start_daemon no
		timeout 120 xenmsgd --socket /tmp/s >/tmp/refusal 2>&1; [ $? = 1 ] && grep -q "there can be only one" /tmp/refusal'
	daemon_restart u2
	on u2 'su xenmsgd -s /bin/sh -c "timeout 120 xenmsgd --socket /tmp/s" >/tmp/refusal 2>&1; [ $? = 1 ] && grep -q "there can be only one" /tmp/refusal'
	on u2 'stop_daemon; chown -R root:root /run/xenmsg /run/xenmsgd
		su xenmsgd -s /bin/sh -c "timeout 120 xenmsgd --socket /tmp/s" >/tmp/refusal 2>&1; status=$?
		cat /tmp/refusal; [ $status = 3 ] && grep -q "can.t lock /run/xenmsgd" /tmp/refusal'
	on u2 'chmod 0600 /dev/xen/evtchn /dev/xen/gntdev /dev/xen/gntalloc /dev/xen/xenbus'
	daemon_start u2
	arrives u1 u2
}

# refuses NAME COMMAND WORD AFTERWARDS: after COMMAND xenmsgd ends there with 3 and names WORD
refuses() {
	on "$1" "$2
		timeout 120 xenmsgd >/tmp/refusal 2>&1; status=\$?
		$4
		cat /tmp/refusal; [ \$status = 3 ] && grep -q -- '$3' /tmp/refusal && [ \$(wc -l </tmp/refusal) -le 3 ]"
}

test_without_its_modules_it_says_which() {
	daemon_stop u2
	refuses u2 'rmmod xen_gntalloc' 'modprobe xen-gntalloc' 'modprobe xen-gntalloc'
	refuses u2 'rmmod xen_gntdev' 'modprobe xen-gntdev' 'modprobe xen-gntdev'
	refuses u2 'mv /dev/xen/evtchn /dev/xen/away' 'modprobe xen-evtchn' 'mv /dev/xen/away /dev/xen/evtchn'
	daemon_start u2
	arrives u1 u2
}

test_without_xenstore_it_says_so() {
	daemon_stop u2
	refuses u2 'mv /dev/xen/xenbus /dev/xen/away; umount -l /proc/xen' /dev/xen/xenbus 'mv /dev/xen/away /dev/xen/xenbus; mount -t xenfs xenfs /proc/xen'
	daemon_start u2
	daemon_stop dom0
	refuses dom0 'mv /run/xenstored /run/away; mv /dev/xen/xenbus /dev/xen/away; umount -l /proc/xen' xenstored \
		'mv /run/away /run/xenstored; mv /dev/xen/away /dev/xen/xenbus; mount -t xenfs xenfs /proc/xen'
	daemon_start dom0
	arrives dom0 u2
}

test_another_user_is_told_what_to_do() {
	on u2 'su tester -s /bin/sh -c ". /rig/env; xenmsgd --socket /tmp/t.sock" >/tmp/refusal 2>&1; status=$?
		cat /tmp/refusal; [ $status = 3 ] && grep -q "can.t open /dev/xen/gntalloc: Permission denied; .*systemd-tmpfiles --create --prefix=/dev/xen xenmsg.conf" /tmp/refusal'
}

# healthy NAME PEER: every step of the doctor goes well
healthy() {
	on "$1" "xenmsg doctor $(domid "$2") >/tmp/doctor; status=\$?; cat /tmp/doctor
		for step in xen events grants maps xenstore daemon 'peer $(domid "$2")'; do grep -q \"^ok    \$step \" /tmp/doctor || exit 1; done
		[ \$status = 0 ] && grep -q 'XenStore answers: this is domain $(domid "$1")\$' /tmp/doctor"
}

test_the_doctor_finds_everything_well_in_a_guest() { healthy u1 u2; } # direct
test_the_doctor_finds_everything_well_in_dom0() { healthy dom0 u1; }

# ill NAME STATUS STEP WORD: the first that fails is that step, and it is said how to mend it
ill() {
	on "$1" "xenmsg doctor >/tmp/doctor; status=\$?; cat /tmp/doctor
		[ \$status = $2 ] && grep FAIL /tmp/doctor | head -n 1 | grep -q '^FAIL  $3 ' && grep -q 'mend: .*$4' /tmp/doctor"
}

test_the_doctor_says_what_to_mend() {
	daemon_stop u2
	ill u2 9 daemon 'systemctl start xenmsgd'
	on u2 'rmmod xen_gntalloc'
	ill u2 1 grants 'modprobe xen-gntalloc' || { on u2 'modprobe xen-gntalloc'; return 1; }
	on u2 'modprobe xen-gntalloc'
	daemon_start u2
}
