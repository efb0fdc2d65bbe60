# SPDX-License-Identifier: LGPL-2.1-or-later
# The units as they are installed, in a guest with systemd as its process 1. It comes with the first test and goes with the last.

unit() { on u4 "$1"; }

# shows PROPERTY=VALUE...: of the service, soon
shows() {
	local property properties=
	for property; do properties="$properties -p ${property%%=*}"; done
	unit "shown() { systemctl show xenmsgd.service $properties >/tmp/shown; for each in $*; do grep -qx -- \"\$each\" /tmp/shown || return; done; }
		eventually 30 shown || { cat /tmp/shown; tail /run/xenmsgd.log; dmesg | tail; exit 1; }"
}

systemd_guest() {
	xl domid u4 >/dev/null 2>&1 || guest_create u4
	guest_up u4
}

allow_all() { unit 'mkdir -p /etc/xenmsg/policy.d; printf "[rule]\nfrom = *\nto = *\naction = allow\n" >/etc/xenmsg/policy.d/50-test.conf'; }

test_systemd_loads_the_modules_and_starts_the_daemon() {
	systemd_guest
	shows ActiveState=active SubState=running NRestarts=0
	unit 'grep -c -E "^xen_(evtchn|gntdev|gntalloc) " /proc/modules | grep -x 3'
	allow_all
	unit 'systemctl reload xenmsgd'
	arrives u4 u1
	arrives dom0 u4
}

test_systemd_starts_a_killed_daemon_again() {
	systemd_guest
	allow_all
	unit 'kill -9 $(systemctl show --value -p MainPID xenmsgd)'
	shows ActiveState=active SubState=running NRestarts=1
	arrives u4 u1
}

test_systemd_starts_the_daemon_for_who_comes_to_its_socket() {
	systemd_guest
	unit 'systemctl stop xenmsgd && systemctl start xenmsgd.socket && ! pidof xenmsgd && xenmsg status >/dev/null'
	shows ActiveState=active
	unit 'systemctl stop xenmsgd.socket xenmsgd; systemctl start xenmsgd'
}

# What trying again can't mend is tried once.
test_systemd_does_not_start_the_daemon_again_and_again() {
	systemd_guest
	unit 'systemctl stop xenmsgd; rmmod xen_gntalloc; ! systemctl start xenmsgd'
	shows ActiveState=failed NRestarts=0 ExecMainStatus=3
	usleep 5000000 # longer than RestartSec
	shows ActiveState=failed NRestarts=0 ExecMainStatus=3
	unit 'grep -c "modprobe xen-gntalloc" /run/xenmsgd.log | grep -x 1'
	unit 'modprobe xen-gntalloc; echo nonsense >/etc/xenmsg/xenmsgd.conf; ! systemctl start xenmsgd'
	shows ActiveState=failed NRestarts=0 ExecMainStatus=2
	unit 'rm /etc/xenmsg/xenmsgd.conf; systemctl start xenmsgd'
}

# As the manual advises: not root, the device's group by udev; and a guest that is saved.
test_systemd_restarts_a_restored_daemon_that_is_not_root() {
	systemd_guest
	allow_all
	unit 'printf "[daemon]\nuser = xenmsg\n" >/etc/xenmsg/xenmsgd.conf; systemctl restart xenmsgd'
	unit 'ls -l /dev/xen/evtchn | grep -E "^crw-rw---- .* root +xenmsg "'
	unit 'grep "^Uid:" /proc/$(systemctl show --value -p MainPID xenmsgd)/status | grep -vE "[[:space:]]0"'
	arrives u1 u4
	xl save u4 /tmp/saved
	xl restore /tmp/saved
	rm /tmp/saved
	xl domid u4 >/run/rig/u4.domid
	eventually 30 on u4 'xenstore-write data/rig-up 1'
	unit 'knows_itself() { xenmsg status --json | grep -qE "^ *\"domid\": *'"$(domid u4)"',"; }; eventually 30 knows_itself'
	arrives dom0 u4
	unit 'systemctl restart xenmsgd && pidof xenmsg-keeper'
	arrives u1 u4
	unit '! dmesg | grep -E -A5 "BUG|Oops|recursive fault"'
	guest_destroy u4
}
