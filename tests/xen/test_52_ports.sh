# SPDX-License-Identifier: LGPL-2.1-or-later
# A guest as hosts have them: vCPUs, a disk and a NIC came after its links. After a restore its kernel has made all ports anew, and a
# number that the daemon knew may be another one's now. No such port may be closed: a guest without its timer stands still for ever.

# What libxl waits for when a disk or a NIC is attached.
block_and_network_scripts() {
	mkdir -p /etc/xen/scripts
	modprobe -a brd xen-blkback xen-netback
	cat >/etc/xen/scripts/block <<'END'
#!/bin/sh
if [ "$1" = add ]; then
	xenstore-write "$XENBUS_PATH/physical-device" "$(stat -c %t:%T "$(xenstore-read "$XENBUS_PATH/params")")"
	xenstore-write "$XENBUS_PATH/hotplug-status" connected
fi
END
	sed /physical-device/d /etc/xen/scripts/block >/etc/xen/scripts/vif-bridge
	chmod +x /etc/xen/scripts/*
}

# host_like NAME: a guest that can get all that
host_like() {
	block_and_network_scripts
	! xl domid "$1" 2>/dev/null || guest_destroy "$1"
	guest_create "$1" 'vcpus=1' 'maxvcpus=2'
	eventually 120 has_started_or_gone "$1" && guest_is_up "$1" || return
	on "$1" 'modprobe -a xen-blkfront xen-netfront'
}

# gets_all NAME: another vCPU, a disk and a NIC, now
gets_all() {
	xl vcpu-set --ignore-host "$1" 2
	on "$1" 'eventually 10 [ -e /sys/devices/system/cpu/cpu1/online ]; echo 1 >/sys/devices/system/cpu/cpu1/online || :
		eventually 10 grep -q 1 /sys/devices/system/cpu/cpu1/online'
	xl block-attach "$1" phy:/dev/ram0 xvda w
	xl network-attach "$1"
	on "$1" 'eventually 20 [ -b /dev/xvda ]; eventually 20 [ -e /sys/class/net/eth0 ]; ip link set eth0 up'
}

# ports_of NAME: what Linux has bound that isn't a program's, and what Xen knows of timers and calls between CPUs
ports_of() {
	on "$1" "sed -n 's/.* \\(xen-[^ ]* .*\\)/\\1/p' /proc/interrupts | grep -v evtchn: | sort"
	xl dmesg -c >/dev/null
	xl debug-keys e
	xl dmesg | sed -n "/for domain $(domid "$1"):/,/for domain/s/.*\\(s=[56] n=[0-9]*\\).*\\([vV]=[0-9]*\\|\\).*/\\1 \\2/p" | sort
}

lives() {
	on "$1" 'cat /proc/interrupts; dd if=/dev/xvda of=/dev/null bs=64k count=4; taskset 1 sleep 1; taskset 2 sleep 1'
	no_complaint "$1"
	ports_of "$1" >/tmp/ports-after
	diff /tmp/ports-before /tmp/ports-after
}

# restored NAME: with its ports of before, and of what the daemon gives back none is taken from others
restored() {
	ports_of "$1" >/tmp/ports-before
	grep . /tmp/ports-before
	save "$1" /tmp/saved
	xl restore /tmp/saved
	rm /tmp/saved
	is_restored "$1"
	knows_its_domid "$1"
	lives "$1"
}

test_a_restore_without_domain_0_closes_no_port_of_others() { # smoke, save
	daemon_stop dom0
	host_like u3
	ready u3
	arrives u1 u3
	gets_all u3
	restored u3
	arrives u1 u3
	lives u3
}

# Links with domain 0 and with a guest; and pages that are kept, since that guest has them mapped and stands still.
test_a_restore_of_all_links_closes_no_port_of_others() { # both, save
	host_like u3
	daemon_start u3 'idle-close = 1s'
	arrives dom0 u3
	arrives u1 u3
	xl pause u1
	on u3 'keeps() { [ "$(xenmsg status --json | grep -c "\"role\": *\"grants\"")" = 1 ]; }; eventually 30 keeps' # domain 0's
	arrives dom0 u3
	gets_all u3
	restored u3
	xl unpause u1
	arrives u1 u3
	arrives u3 dom0
	daemon_kill u3
	lives u3
	daemon_start u3
	arrives u3 u1
	restored u3
	arrives u1 u3
	daemon_stop u3
	lives u3
	guest_destroy u3
}

# The other way: it maps what another guest grants, which only a PVH guest may. Not among all tests, as of all PVH guests: it needs
# minutes, and dies at its start now and then.
test_a_restore_of_a_pvh_guest_closes_no_port_of_others() { # named, save
	daemon_stop dom0
	spare
	ready u3
	until host_like "$PVH"; do echo 'it has died at its start'; done
	ready "$PVH"
	arrives u3 "$PVH"
	on "$PVH" 'xenmsg status --json | grep "\"role\": *\"maps\""'
	gets_all "$PVH"
	restored "$PVH"
	arrives u3 "$PVH"
	lives "$PVH"
	guest_destroy "$PVH"
}

# Domain 0's clock, which a guest takes over when it is restored, was set back meanwhile, as on a host that is behind: the guest's
# clocks show nothing, and Xen says it.
test_a_restore_to_a_clock_that_is_behind_is_seen_at_once() { # save
	spare
	daemon_restart u3 '[daemon]' 'log-level = debug'
	arrives u1 u3
	save u3 /tmp/saved
	date -s "@$(($(date +%s) - 3600))"
	xl restore /tmp/saved
	date -s "@$(($(date +%s) + 3600))"
	rm /tmp/saved
	is_restored u3
	knows_its_domid u3
	on u3 'grep -e "clocks show" -e "warning: this domain was restored" /run/xenmsgd.log >/tmp/seen; cat /tmp/seen; tail -n 2 /tmp/seen | head -n 1 | grep "clocks show"'
	arrives u1 u3
}
