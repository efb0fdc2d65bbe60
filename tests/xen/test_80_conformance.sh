# SPDX-License-Identifier: LGPL-2.1-or-later
# Xen's libraries answer here as tests/conformance/answers says, which xensim is held to as well. Between the two xenstoreds
# there are differences: answers.xenstored has the cases in which C xenstored says something else. Those marked "both" run with
# either in the check. Versions of Xen differ, too: answers.4.20 has the cases in which that one does, whichever store it has, and
# answers.4.20.oxenstored those with this one; answers.aarch64 those of Arm; answers is of 4.17 on x86.

destroy() { have_ended u2 && guest_destroy "$SPARE"; }
recreate() {
	if [ "${2:-}" = preserve ]; then guest_create "$SPARE" "on_crash='preserve'"; else guest_create "$SPARE"; fi
	guest_up "$SPARE"
}
pause() { xl pause "$(domid "$1")"; }
unpause() { xl unpause "$(domid "$1")"; }
crash() { on "$1" '(sleep 5; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &'; }
power_off() { have_ended "$1" && on "$1" 'setsid sh -c "sleep 3; kill -9 -1; poweroff -f" >/dev/null 2>&1 &'; }
zombies() { xl list | grep -c '(null)'; }
checkpoint() {
	save "$SPARE" /tmp/saved -c >&2
	rm -f /tmp/saved
}
save_and_restore() {
	save "$SPARE" /tmp/saved >&2
	xl restore /tmp/saved >&2
	rm -f /tmp/saved
	is_restored "$SPARE"
}

conformance() {
	local expected=/rig/conformance/answers version each
	version=$(cat /sys/hypervisor/version/major /sys/hypervisor/version/minor 2>/dev/null | paste -sd . -)
	. /rig/conformance/lib.sh
	. /rig/conformance/cases.sh
	for each in "$(uname -m)" "$RIG_store" "$version" "$version.$RIG_store"; do
		! grep -qx -- "--- $1" "/rig/conformance/answers.$each" 2>/dev/null || expected=/rig/conformance/answers.$each
	done
	sed -n "/^--- $1\$/,/^---/p" "$expected" | sed '1d; /^---/d' >/tmp/expected
	set +ex
	{ "case_$1"; end_programs; } >/tmp/answers
	set -ex
	mkdir -p /out/conformance
	{ echo "--- $1" && cat /tmp/answers; } >"/out/conformance/$1"
	diff /tmp/expected /tmp/answers
}

# The third guest is the second one of those cases that destroy it.
conformance_with_the_spare() {
	spare
	conformance_with "$SPARE" "$1"
}

# conformance_with NAME CASE: u2 is that guest
conformance_with() {
	mkdir -p /run/rig/cases
	ln -sf ../u1.domid "../$1.domid" /run/rig/cases
	ln -sf "../$1.domid" /run/rig/cases/u2.domid
	RIG_DOMAINS=/run/rig/cases
	conformance "$2"
}

test_conformance_grants() { conformance grants; } # smoke, direct, smoke_dummy
# Without the daemon, whose links take pages.
test_conformance_grant_limit() { daemon_stop u1 && conformance grant_limit; } # direct
test_conformance_event_channels() { conformance event_channels; } # direct
test_conformance_event_ring() { conformance event_ring; } # direct
test_conformance_a_killed_mapper() { conformance a_killed_mapper; } # smoke, direct, smoke_dummy
test_conformance_a_killed_granter() { conformance a_killed_granter; } # direct
test_conformance_a_destroyed_granter() { conformance_with_the_spare a_destroyed_granter; } # direct
test_conformance_a_destroyed_mapper() { conformance_with_the_spare a_destroyed_mapper; } # direct
test_conformance_control() { conformance_with_the_spare control; } # direct
test_conformance_control_zombie() { conformance_with_the_spare control_zombie; } # direct
test_conformance_store_permissions() { conformance store_permissions; } # both
test_conformance_store_watches() { conformance store_watches; } # both, smoke, smoke_dummy
test_conformance_store_discovery() { conformance store_discovery; } # both
test_conformance_store_transactions() { conformance store_transactions; } # both
test_conformance_store_transaction_reads() { conformance store_transaction_reads; } # both
test_conformance_store_corners() { conformance store_corners; } # both
test_conformance_store_limits() { conformance store_limits; } # both
test_conformance_a_checkpoint() { conformance_with_the_spare a_checkpoint; } # save
test_conformance_a_restore() { conformance_with_the_spare a_restore; } # save
test_conformance_a_granter_forks() { conformance a_granter_forks; } # direct
test_conformance_mappings_of_a_pv_guest() { conformance mappings_of_a_pv_guest; } # direct, pv
test_conformance_mappings_of_a_pvh_guest() { pvh_guest && conformance_with "$PVH" mappings_of_a_pvh_guest; } # direct
test_conformance_references() { conformance references; } # direct
test_conformance_event_corners() { conformance event_corners; } # direct
test_conformance_a_dead_peers_port() { conformance_with_the_spare a_dead_peers_port; } # direct
test_conformance_raw_store() { conformance raw_store; } # both
test_conformance_store_orders() { conformance store_orders; } # both
test_conformance_store_sizes() { conformance store_sizes; } # both
test_conformance_found_functions() { conformance found_functions; } # direct
test_conformance_foreign_memory() { conformance foreign_memory; } # direct
test_conformance_virqs() { conformance virqs; } # direct, pv
test_conformance_kernel_ports() { conformance kernel_ports; } # direct, pv
test_conformance_resources() { conformance resources; } # direct, pv
test_conformance_toolstack() { conformance_with_the_spare toolstack; }
test_conformance_grant_copy() { conformance grant_copy; } # direct
test_conformance_a_paused_watcher() { conformance_with_the_spare a_paused_watcher; }
test_conformance_home() { conformance home; } # pv
test_conformance_a_crash() { conformance_with_the_spare a_crash; } # direct, both, panic
test_conformance_a_power_off() { conformance_with_the_spare a_power_off; } # direct
test_conformance_a_destroyed_home() { conformance_with_the_spare a_destroyed_home; }
test_conformance_suspension() { conformance_with_the_spare suspension; } # both, save

# Without xenstored a program of domain 0 has its virtual interrupt, as on xensim from the beginning, and hears of each end. The
# host is of no use after that.
test_the_interrupt_of_xenstored() { # named
	local domid guest
	. /rig/conformance/lib.sh
	spare
	guest=$(domid "$SPARE")
	program C dom0
	ask C evtchn-open
	[ "$(ask C bind-virq 0 3)" = 'error 17' ]
	kill -9 "$(cat /run/xenstored/xenstored.pid 2>/dev/null || pidof oxenstored || pidof xenstored)"
	is_free() { ask C bind-virq 0 3 | grep -q ok; }
	eventually 30 is_free
	ask C shut-domain-down "$guest" 3
	[ "$(ask C poll 0 30000)" = 'ok 1' ]
	ask C pending 0
	ask C domain-end "$guest"
	end_program C
	# Without a xenstored the runner would wait forever for what the guests say: the host goes off when the result is out.
	setsid sh -c 'sleep 20; echo done >>/out/results; sync; poweroff -f' >/dev/null 2>&1 &
}
