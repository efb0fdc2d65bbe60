# SPDX-License-Identifier: LGPL-2.1-or-later
# The units as they are installed, in a guest with systemd as its process 1.
# On one host: it comes with the first test and goes with the last.

unit() { on u4 "$1"; }

# shows PROPERTY=VALUE...: of the service, soon
shows() {
	local property properties=
	for property; do properties="$properties -p ${property%%=*}"; done
	unit "shown() { systemctl show xenmsgd.service $properties >/tmp/shown; for each in $*; do grep -qx -- \"\$each\" /tmp/shown || return; done; }
		eventually 30 shown || { cat /tmp/shown; tail /run/xenmsgd.log; dmesg | tail; exit 1; }"
}

systemd_guest() {
	[ -e /tmp/systemd.cpio ] || exit 77 # of the other Debians and architectures tests/packaged has whole systems
	xl domid u4 >/dev/null 2>&1 || guest_create u4
	guest_up u4
}

allow_all() { unit 'mkdir -p /etc/xenmsg/policy.d; printf "[rule]\nfrom = *\nto = *\naction = allow\n" >/etc/xenmsg/policy.d/50-test.conf'; }

test_systemd_loads_the_modules_and_starts_the_daemon() { # smoke
	systemd_guest
	shows ActiveState=active SubState=running NRestarts=0
	unit 'grep -c -E "^xen_(evtchn|gntdev|gntalloc) " /proc/modules | grep -x 3'
	allow_all
	unit 'systemctl reload xenmsgd'
	arrives u4 u1
	arrives dom0 u4
}

# By the package's files alone: a user of its own, three groups, and the devices for it.
test_systemd_gives_the_daemon_a_user_and_the_devices() { # smoke
	systemd_guest
	unit 'grep -E "^(xenmsgd|xenmsg|xenmsg-admin):" /etc/group | wc -l | grep -x 3'
	devices_are_lent root
	unit 'ls -ld /run/xenmsgd | grep -E "^drwx------ .* xenmsgd +xenmsgd "; ls -ld /run/xenmsg | grep -E "^drwxr-xr-x .* root +root "'
	unit 'ls -l /run/xenmsg/xenmsg.sock | grep -E "^srw-rw-rw- .* root +xenmsg "; ls -l /run/xenmsg/keeper.sock | grep -E "^srw------- .* xenmsgd "'
	unit 'uid=$(id -u xenmsgd) && [ "$uid" != 0 ] && grep -E "^(Uid|Gid|Groups|CapEff|CapBnd|NoNewPrivs|Seccomp):" /proc/$(systemctl show --value -p MainPID xenmsgd)/status >/tmp/status
		cat /tmp/status; grep -qE "^Uid:([[:space:]]*$uid){4}$" /tmp/status && grep -qE "^CapBnd:[[:space:]]0+$" /tmp/status'
	# Programs of all users are named: /proc isn't closed to it.
	unit 'su tester -s /bin/sh -c "exec $(command -v xenmsg) watch" >/dev/null 2>&1 &
		named() { xenmsg status --json | grep -q "\"comm\": *\"xenmsg-watch\""; }; eventually 30 named && kill $!'
}

# devices_are_lent GROUP: to the daemon's user, beside that group, and to nobody else
devices_are_lent() {
	shows ActiveState=active
	unit 'may() { su "$1" -s /bin/sh -c ": <>/dev/xen/$device"; }
		cd /dev/xen; ls -l; for device in evtchn gntdev gntalloc xenbus; do
			ls -l $device | grep -E "^crw-rw---- .* root +'"$1"' " || exit 1; may xenmsgd || exit 1; [ '"$1"' = tester ] || ! may tester || exit 1
		done'
}

# As Qubes has them: by a rule of udev's, which comes to them while the daemon starts, they are a group's, whose programs need them.
test_systemd_takes_the_devices_from_nobody() {
	systemd_guest
	unit 'mkdir -p /etc/udev/rules.d; echo "KERNEL==\"xen/*\", GROUP=\"tester\", MODE=\"0660\"" >/etc/udev/rules.d/99-others.rules; udevadm control --reload
		systemctl stop xenmsgd; cd /dev/xen; for device in evtchn gntdev gntalloc xenbus; do
			set -- $(stat -c "%t %T" $device); rm $device; mknod -m 0600 $device c $((0x$1)) $((0x$2))
		done
		udevadm trigger --action=add --subsystem-match=misc; systemctl start xenmsgd && su tester -s /bin/sh -c ": <>/dev/xen/evtchn"'
	devices_are_lent tester
	unit 'udevadm trigger --action=add --subsystem-match=misc; udevadm settle; systemctl restart xenmsgd
		su tester -s /bin/sh -c ": <>/dev/xen/evtchn"'
	devices_are_lent tester
	guest_destroy "$SYSTEMD"
}

# A host that goes down: what saves its guests has a daemon beside it until its end.
test_systemd_ends_the_daemon_after_the_domains() {
	systemd_guest
	unit 'printf "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\nExecStop=/bin/sh -c \"sleep 2; xenmsg ping --count 1 0 && systemctl is-active xenmsgd && echo it-was-there\"\nEnvironmentFile=/run/rig/environment\nStandardOutput=tty\nTTYPath=/dev/hvc0\n" >/etc/systemd/system/xendomains.service
		systemctl daemon-reload && systemctl start xendomains && xenmsg ping --count 1 0 && systemctl --no-block poweroff'
	eventually 60 has_gone "$SYSTEMD"
	grep it-was-there "/out/guest/guest-$SYSTEMD.log"
}
has_gone() { ! is_there "$1"; }

# Devices are root's alone when they are made: the unit sees to it.
test_systemd_gives_the_daemon_its_devices_at_each_start() {
	systemd_guest
	allow_all
	unit 'systemctl stop xenmsgd; chown root:root /dev/xen/*; chmod 0600 /dev/xen/*; systemctl start xenmsgd'
	shows ActiveState=active NRestarts=0
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

# What the daemon's user may not have: its log and the doctor name the same cure.
test_systemd_names_the_cure_of_what_is_denied() {
	systemd_guest
	unit 'systemctl stop xenmsgd.socket xenmsgd; echo >/etc/xenmsg/xenmsgd.conf; chown root:root /etc/xenmsg/xenmsgd.conf /dev/xen/gntalloc
		chmod 0640 /etc/xenmsg/xenmsgd.conf; chmod 0600 /dev/xen/gntalloc; ! xenmsg doctor >/tmp/doctor; cat /tmp/doctor
		! systemctl start xenmsgd; cure="chgrp xenmsgd /etc/xenmsg/xenmsgd.conf && chmod g+rX /etc/xenmsg/xenmsgd.conf"
		grep -F "mend: $cure" /tmp/doctor && grep -F "$cure" /run/xenmsgd.log && sh -c "$cure" &&
		cure=$(sed -n "s/.*mend: \(systemd-tmpfiles .*\)/\1/p" /tmp/doctor) && chmod 0600 /dev/xen/gntalloc && sh -c "$cure" &&
		systemctl start xenmsgd && xenmsg status >/dev/null && rm /etc/xenmsg/xenmsgd.conf'
}

# Two sockets for one daemon, from when it is started anew; the rig has no gateway to come to the second.
test_systemd_hands_over_a_socket_for_the_gateway() { # smoke
	systemd_guest
	unit 'systemctl enable xenmsg-gateway.socket && systemctl restart xenmsgd'
	shows ActiveState=active NRestarts=0
	unit 'ls -l /run/xenmsg/gateway.sock | grep -E "^srw------- .* xenmsg-gateway "
		inode=$(sed -n "s| /run/xenmsg/gateway.sock$||p" /proc/net/unix | sed "s/.* //")
		ls -l /proc/$(systemctl show --value -p MainPID xenmsgd)/fd | grep "socket:\[$inode\]" && xenmsg status >/dev/null'
	unit 'systemctl disable xenmsg-gateway.socket; systemctl stop xenmsgd xenmsg-gateway.socket; systemctl start xenmsgd'
}

# After the first installation modules-load.d has been gone through already.
test_systemd_loads_a_module_for_the_daemon_at_its_start() { # smoke
	systemd_guest
	allow_all
	unit 'systemctl stop xenmsgd && rmmod xen_gntalloc && systemctl start xenmsgd'
	shows ActiveState=active NRestarts=0
	arrives dom0 u4
}

# By the drop-in of the manual page; who uses the default path finds the daemon nonetheless.
test_systemd_moves_the_socket() {
	systemd_guest
	allow_all
	unit '. /rig/env; mkdir -p /etc/systemd/system/xenmsgd.socket.d
		sed -n "/^\[Socket\]$/,/^[.]fi$/{/^[.]fi$/!p}" "$XENMSG_PREFIX/share/man/man5/xenmsgd.conf.5" >/etc/systemd/system/xenmsgd.socket.d/override.conf
		cat /etc/systemd/system/xenmsgd.socket.d/override.conf; systemctl daemon-reload; systemctl restart xenmsgd.socket xenmsgd'
	shows ActiveState=active NRestarts=0
	unit 'xenmsg status --json | grep "\"socket\".*/run/messages/xenmsg.sock" && systemctl reload xenmsgd && xenmsg status --socket /run/messages/xenmsg.sock >/dev/null'
	unit 'mkdir -p /etc/xenmsg/serve.d && printf "#!/bin/sh\necho moved\n" >/etc/xenmsg/serve.d/moved && chmod 0755 /etc/xenmsg/serve.d/moved
		answered() { [ "$(xenmsg call --timeout 30 self:moved </dev/null)" = moved ]; }
		shown() { wget -q -O - http://127.0.0.1:9470/metrics | grep -q "^xenmsg_up 1$"; }
		systemctl start xenmsg-serve@moved xenmsg-exporter && eventually 60 answered && eventually 60 shown
		status=$?; systemctl stop xenmsg-serve@moved xenmsg-exporter; exit $status'
	unit 'rm -r /etc/systemd/system/xenmsgd.socket.d; systemctl daemon-reload; systemctl restart xenmsgd.socket xenmsgd
		xenmsg status --json | grep "\"socket\".*/run/xenmsg/xenmsg.sock"'
}

# What trying again can't mend is tried once.
test_systemd_does_not_start_the_daemon_again_and_again() {
	systemd_guest
	unit 'systemctl stop xenmsgd; rmmod xen_gntalloc; mkdir -p /etc/modprobe.d; echo blacklist xen_gntalloc >/etc/modprobe.d/test.conf; ! systemctl start xenmsgd'
	shows ActiveState=failed NRestarts=0 ExecMainStatus=3
	usleep 5000000 # longer than RestartSec
	shows ActiveState=failed NRestarts=0 ExecMainStatus=3
	unit 'grep -c "modprobe xen-gntalloc" /run/xenmsgd.log | grep -x 1'
	unit 'rm /etc/modprobe.d/test.conf; modprobe xen-gntalloc; echo nonsense >/etc/xenmsg/xenmsgd.conf; ! systemctl start xenmsgd'
	shows ActiveState=failed NRestarts=0 ExecMainStatus=2
	unit 'rm /etc/xenmsg/xenmsgd.conf; systemctl start xenmsgd'
}

# activate ENDPOINT USER UNIT: by the next reload
activate() {
	unit "mkdir -p /etc/xenmsg/activation.d; printf '[activate]\nendpoint = $1\nuser = $2\nunit = $3\ntimeout = 150s\n' >/etc/xenmsg/activation.d/$1.conf"
}

# make_unit NAME COMMAND: a service of the user tester, who is in no group of xenmsg's
make_unit() {
	unit ". /rig/env; printf '[Service]\nUser=tester\nExecStart=%s\n' '$2' >/etc/systemd/system/$1.service"
}

# The first message starts a unit, over D-Bus, by the rule for polkit that the package has; all of these are started by it, too.
test_systemd_starts_a_unit_for_the_first_message() {
	systemd_guest
	allow_all
	make_unit letters "/bin/sh -c \". /rig/env; exec xenmsg recv --count 2 letters >/tmp/letters.got\""
	activate letters tester letters.service
	activate uptime xenmsg-serve xenmsg-serve@uptime.service
	unit 'mkdir -p /etc/xenmsg/serve.d; printf "#!/bin/sh\nread -r up _ </proc/uptime && echo \"up \$up as \$(id -un)\"\n" >/etc/xenmsg/serve.d/uptime
		chmod 0755 /etc/xenmsg/serve.d/uptime; systemctl daemon-reload; systemctl reload xenmsgd && ! pidof dbus-daemon polkitd &&
		xenmsg endpoints self | grep letters | grep activatable'
	on u1 "xenmsg send --timeout 150 $(domid u4):letters 'the first'"
	unit 'systemctl is-active letters.service && grep -x "the first" /tmp/letters.got && xenmsg endpoints self | grep letters | grep running'
	on dom0 "xenmsg send --timeout 100 $(domid u4):letters 'the second'"
	unit 'grep -x "the second" /tmp/letters.got && [ "$(stat -c %U /tmp/letters.got)" = tester ]'
	on u1 "xenmsg call --timeout 150 $(domid u4):uptime </dev/null | grep '^up .* as xenmsg-serve$'"
	unit 'systemctl stop xenmsg-serve@uptime.service'
}

# fails ENDPOINT REASON: one error for who sends to it from another domain, soon, and the reason in the daemon's log
fails() {
	on u1 "now; started=\$NOW; xenmsg send --timeout 140 $(domid u4):$1 x >/tmp/refusal 2>&1; status=\$?; now
		cat /tmp/refusal; [ \$status = 3 ] && [ \$(wc -l </tmp/refusal) = 1 ] && [ \$((NOW - started)) -lt 60000 ]"
	unit "grep -F 'endpoint $1: $2' /run/xenmsgd.log || { tail /run/xenmsgd.log; exit 1; }"
}

test_systemd_fails_to_start_a_unit_with_one_error() {
	systemd_guest
	allow_all
	make_unit broken /nonexistent
	make_unit ends /bin/false
	for name in broken ends absent; do activate $name tester $name.service; done
	unit 'systemctl daemon-reload; systemctl reload xenmsgd'
	fails broken 'the unit has failed'
	fails ends 'the unit has failed'
	fails absent 'systemd: Unit absent.service not found'
	unit 'rm /etc/xenmsg/activation.d/*; systemctl reload xenmsgd'
}

# Of its user's requests, whatever makes them, only what the first message does. A mistake in a file doesn't keep the others back.
test_systemd_starts_for_the_daemon_only_what_is_activated() {
	systemd_guest
	make_unit named '/bin/sleep 1000'
	make_unit other '/bin/sleep 1000'
	activate named tester named.service
	unit 'echo "[activate" >/etc/xenmsg/activation.d/mistake.conf; systemctl daemon-reload
		asks() { su xenmsgd -s /bin/sh -c "systemctl --no-ask-password $*" 2>/tmp/denied; }
		denied() { ! asks "$@" && grep "Interactive authentication" /tmp/denied; }
		denied start other.service && asks start named.service && systemctl is-active named.service && denied stop named.service &&
		systemctl is-active named.service && ! systemctl is-active other.service && systemctl stop named.service; status=$?
		cat /tmp/denied; rm /etc/xenmsg/activation.d/*; exit $status'
}

# Not root, by the unit; and a guest that is saved. The keeper is a service's.
test_systemd_restarts_a_restored_daemon() { # save
	systemd_guest
	allow_all
	unit 'systemctl restart xenmsgd; ! systemctl is-active xenmsg-keeper.service'
	arrives u1 u4
	save u4 /tmp/saved
	xl restore /tmp/saved
	rm /tmp/saved
	is_restored u4
	knows_its_domid u4
	arrives dom0 u4
	unit 'systemctl is-active xenmsg-keeper.service && grep -E "^Uid:([[:space:]]*0){4}$" /proc/$(systemctl show --value -p MainPID xenmsg-keeper)/status'
	unit '! systemctl stop xenmsg-keeper.service && systemctl is-active xenmsg-keeper.service'
	unit 'systemctl restart xenmsgd && systemctl is-active xenmsg-keeper.service'
	arrives u1 u4
	no_complaint u4
}

has_gone() { ! xl domid "$1" >/dev/null 2>&1; }

# Whoever goes with the system closes what it holds; so the keeper mustn't go, and mustn't be waited for.
test_systemd_ends_a_restored_system_without_harm() { # save
	unit 'systemctl is-active xenmsg-keeper.service'
	unit 'systemctl --no-block poweroff' || true # it may be gone before its answer
	eventually 200 has_gone u4
	! grep -hE 'BUG|Oops|recursive fault|Waiting for process' /out/guest/*u4*.log || fail 'the keeper was killed'
}
