# SPDX-License-Identifier: LGPL-2.1-or-later
# What the tests in the rig's dom0 are written with.
: "${GUESTS:=u1 u2}"
: "${RIG_guesttype:=pv}"

uptime_ms() { sed 's/\([0-9]*\)\.\([0-9]*\) .*/\1\20/' /proc/uptime; }

fail() {
	echo "FAILED: $*"
	exit 1
}

# eventually SECONDS COMMAND...: until it succeeds
eventually() {
	local limit=$(($(uptime_ms) + $1 * 1000))
	shift
	until "$@"; do
		[ "$(uptime_ms)" -lt $limit ] || { echo "still not after the time limit: $*"; return 1; }
		usleep 100000
	done
}

# --- guests ---

domid() { if [ "$1" = dom0 ]; then echo 0; else cat "/run/rig/$1.domid"; fi; }

# guest_create NAME [LINE OF CONFIGURATION...]
guest_create() {
	local name=$1 line
	shift
	{
		echo "name='$name'"
		echo "type='$RIG_guesttype'"
		echo "kernel='/boot/vmlinux'"
		echo "ramdisk='/tmp/guest.cpio'"
		echo 'memory=192'
		echo 'vcpus=1'
		echo "extra='console=hvc0 quiet loglevel=4 mitigations=off nokaslr random.trust_cpu=on rdinit=/rig/init rig.name=$name rig.mode=${RIG_mode:-test}'"
		echo "on_crash='destroy'"
		echo "on_reboot='destroy'"
		for line; do echo "$line"; done
	} >"/run/rig/$name.cfg"
	xl create -q "/run/rig/$name.cfg" || return
	xl domid "$name" >"/run/rig/$name.domid"
}

guest_is_up() { xenstore-exists "/local/domain/$(domid "$1")/data/rig-up" 2>/dev/null; }
guest_up() { eventually 120 guest_is_up "$1"; }
guest_destroy() { xl destroy "$1"; }

# on NAME COMMAND: runs it in that domain, for at most ON_SECONDS
: "${ON_SECONDS:=100}"
on() {
	if [ "$1" = dom0 ]; then
		timeout "$ON_SECONDS" sh -c "$2"
	else
		rig-remote run "$(domid "$1")" "$ON_SECONDS" "$2"
	fi
}

# --- daemons ---

# daemon_start NAME [LINE OF CONFIGURATION...]. Of the PV guests u1 maps (so it must not be saved), the others only grant.
daemon_start() {
	local name=$1 map=no config
	shift
	[ "$name" != u1 ] || map=yes
	[ "$name" != dom0 ] || map=auto
	config=$(printf '[links]\nmap = %s\n' $map; for line; do echo "$line"; done)
	on "$name" "mkdir -p /etc/xenmsg/policy.d; cat >/etc/xenmsg/xenmsgd.conf <<'END'
$config
END
printf '[rule]\\nfrom = *\\nto = *\\naction = allow\\n' >/etc/xenmsg/policy.d/50-test.conf
rm -f /run/xenmsgd.pid; setsid rig-daemon >/dev/null 2>&1 &"
	eventually 20 on "$name" 'xenmsg status >/dev/null 2>&1' || { on "$name" 'tail -n 20 /run/xenmsgd.log; xenmsg status'; return 1; }
}

daemon_runs() { on "$1" 'kill -0 $(cat /run/xenmsgd.pid 2>/dev/null) 2>/dev/null && xenmsg status >/dev/null 2>&1'; }
daemon_stop() { on "$1" 'p=$(cat /run/xenmsgd.pid) && kill $p && while kill -0 $p 2>/dev/null; do usleep 50000; done'; }
daemon_kill() { on "$1" 'kill -9 $(cat /run/xenmsgd.pid)'; }

# What every test begins with: the guests and a daemon in each domain.
setup() {
	local name
	for name in $GUESTS; do
		xl domid "$name" >/dev/null 2>&1 || { guest_create "$name" && guest_up "$name"; }
	done
	for name in $GUESTS; do # what a failed test may have left
		on "$name" 'echo 1024 >/sys/module/xen_gntalloc/parameters/limit; xenstore-rm data/fill 2>/dev/null; true'
	done
	for name in dom0 $GUESTS; do daemon_runs "$name" || daemon_start "$name" || fail "no daemon in $name"; done
}

show_state() {
	local name
	xl list
	xenstore-ls -fp /local/domain | grep -e data/xenmsg -e '/name '
	for name in dom0 $GUESTS; do
		echo "--- $name"
		on "$name" 'tail -n 60 /run/xenmsgd.log; xenmsg status --json; dmesg | tail -n 8; ps | grep xenmsg'
	done
}

# --- messages ---

# receiver NAME ENDPOINT [OPTION...]: xenmsg recv in the background, into /tmp/ENDPOINT.got; its status will be in /tmp/ENDPOINT.status
receiver() {
	local name=$1 endpoint=$2
	shift 2
	on "$name" "rm -f /tmp/$endpoint.got /tmp/$endpoint.status
		(xenmsg recv $endpoint $* >/tmp/$endpoint.got 2>/tmp/$endpoint.err; echo \$? >/tmp/$endpoint.status) &
		i=0; until xenmsg endpoints self | grep -qw $endpoint || [ \$i = 100 ]; do usleep 100000; i=\$((i + 1)); done"
}

# background NAME TAG COMMAND: its output goes into /tmp/TAG.out, its status into /tmp/TAG.status
background() { on "$1" "rm -f /tmp/$2.status; ($3; echo \$? >/tmp/$2.status) >/tmp/$2.out 2>&1 &"; }

# ended NAME TAG STATUS...: what began as TAG has ended, with one of these
ended() {
	local name=$1 tag=$2 status
	shift 2
	on "$name" "i=0; until test -s /tmp/$tag.status || [ \$i = $((ON_SECONDS * 3)) ]; do usleep 300000; i=\$((i + 1)); done"
	status=$(on "$name" "cat /tmp/$tag.status || echo 'nothing: it goes on'")
	for expected; do [ "$status" != "$expected" ] || return 0; done
	echo "$tag ended with $status: $(on "$name" "cat /tmp/$tag.out /tmp/$tag.err 2>/dev/null | tail -n 5")"
	return 1
}

# arrives FROM TO: one message from one domain to the other
arrives() {
	receiver "$2" inbox --count 1 --timeout 30
	on "$1" "xenmsg send --timeout 20 $(domid "$2"):inbox 'hello from $1'"
	ended "$2" inbox 0
	on "$2" "grep -qx 'hello from $1' /tmp/inbox.got"
}

# stream FROM TO TAG: an endless stream of messages that ends by the error it runs into; the receiver is in TO
stream() {
	receiver "$2" "$3" --timeout 100
	background "$1" "$3-sender" "yes 'a line of a stream that has no end' | xenmsg send --lines --timeout 60 $(domid "$2"):$3"
	eventually 10 on "$2" "test -s /tmp/$3.got"
}
