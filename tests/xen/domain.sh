# SPDX-License-Identifier: LGPL-2.1-or-later
# What commands in any of the rig's domains are written with; `on` reads it first. A process is slow to start under emulation,
# a fork alone is not free either: so the loops here keep to what the shell does by itself.

fail() {
	echo "FAILED: $*"
	exit 1
}

# Sets NOW, in milliseconds.
now() {
	read -r NOW _ </proc/uptime
	NOW=${NOW%.*}${NOW#*.}0
}

: "${RIG_patience:=4}" # times what a machine needs that does nothing else and runs one host

# eventually SECONDS COMMAND...: until it succeeds
eventually() {
	local limit
	now
	limit=$((NOW + $1 * 1000 * RIG_patience))
	shift
	until "$@"; do
		now
		[ "$NOW" -lt $limit ] || { echo "still not after the time limit: $*"; return 1; }
		usleep 50000
	done
}

answers() { [ -S /run/xenmsg/xenmsg.sock ] && xenmsg status >/dev/null 2>&1; }
daemon_is_up() { [ -S /run/xenmsg/xenmsg.sock ] && read -r pid 2>/dev/null </run/xenmsgd.pid && kill -0 "$pid" 2>/dev/null; }

# start_daemon MAP [LINE OF CONFIGURATION...]
start_daemon() {
	local map=$1 line
	shift
	mkdir -p /etc/xenmsg/policy.d
	{
		printf '[links]\nmap = %s\nsetup-timeout = 30s\n' "$map"
		for line; do echo "$line"; done
	} >/etc/xenmsg/xenmsgd.conf
	printf '[rule]\nfrom = *\nto = *\naction = allow\n' >/etc/xenmsg/policy.d/50-test.conf
	rm -f /run/xenmsg/xenmsg.sock /run/xenmsgd.pid
	setsid rig-daemon >/dev/null 2>&1 &
	eventually 20 answers || { tail -n 20 /run/xenmsgd.log; return 1; }
}

# As tmpfiles.d has the devices and the directories where the package is installed; its socket is from process 1 there.
give_to_xenmsgd() {
	mkdir -p /run/xenmsgd
	chown -R xenmsgd:xenmsgd /run/xenmsgd /run/xenmsg
	for device in evtchn gntdev gntalloc xenbus; do
		chgrp xenmsgd "/dev/xen/$device" && chmod 0660 "/dev/xen/$device"
	done
}

# is_xenmsgd PID: all its users are that one
is_xenmsgd() { grep -qE '^Uid:([[:space:]]*998){4}$' "/proc/$1/status" && grep -qE '^Gid:([[:space:]]*998){4}$' "/proc/$1/status"; }

has_ended() { ! kill -0 "$1" 2>/dev/null; }
stop_daemon() {
	local pid
	read -r pid </run/xenmsgd.pid && kill "$pid" && eventually 20 has_ended "$pid"
}

# receive ENDPOINT [OPTION...]: xenmsg recv in the background, into /tmp/ENDPOINT.got; its status will be in /tmp/ENDPOINT.status
receive() {
	local endpoint=$1
	shift
	rm -f "/tmp/$endpoint.got" "/tmp/$endpoint.status" "/tmp/$endpoint.err"
	(
		xenmsg recv --verbose "$@" "$endpoint" >"/tmp/$endpoint.got" 2>"/tmp/$endpoint.err"
		echo $? >"/tmp/$endpoint.status"
	) &
	eventually 20 is_decided "$endpoint" && grep -q bound "/tmp/$endpoint.err"
}
is_decided() { grep -q bound "/tmp/$1.err" || [ -s "/tmp/$1.status" ]; }

# has_bound ENDPOINT: some program of this domain
has_bound() { xenmsg endpoints self | grep -qw "$1"; }

# await TAG STATUS...: what began as TAG has ended, with one of these
await() {
	local tag=$1 status expected
	shift
	eventually $((${ON_SECONDS:-200} / RIG_patience)) [ -s "/tmp/$tag.status" ] && read -r status <"/tmp/$tag.status" || status='nothing: it goes on'
	for expected; do [ "$status" != "$expected" ] || return 0; done
	echo "$tag ended with $status: $(cat "/tmp/$tag.out" "/tmp/$tag.err" 2>/dev/null | tail -n 5)"
	return 1
}

# knows DOMID...: this domain's daemon sees all of theirs
knows() {
	local peers domid
	peers=$(xenmsg peers) || return
	for domid; do echo "$peers" | grep -qE "^ *$domid " || return; done
}

pings() { xenmsg ping --count 1 --timeout 5 "$1" >/dev/null 2>&1; }

# goes_on TAG: every count of that rig-traffic has grown
goes_on() {
	local before
	eventually 60 [ -s "/tmp/$1.counts" ] && read -r before <"/tmp/$1.counts" && eventually 80 has_grown_or_ended "$1" "$before" &&
		[ ! -s "/tmp/$1.status" ] && return
	cat "/tmp/$1.out" "/tmp/$1.counts"
	return 1
}
has_grown_or_ended() {
	local count counts
	[ ! -s "/tmp/$1.status" ] || return 0
	read -r counts <"/tmp/$1.counts"
	# shellcheck disable=SC2086
	set -- $counts $2
	[ $# = 12 ] || return
	for count; do
		[ "$1" -gt "$7" ] || return
		shift
		[ $# != 6 ] || return 0
	done
}

lines_of() { wc -l <"$1"; }
has_lines() { [ "$(lines_of "$1")" -gt 1 ]; }
# gets_more FILE: since it was asked the first time
gets_more() {
	[ -e "$1.before" ] || lines_of "$1" >"$1.before"
	[ "$(lines_of "$1")" -gt "$(cat "$1.before")" ]
}
