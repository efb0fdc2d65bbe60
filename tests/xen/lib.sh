# SPDX-License-Identifier: LGPL-2.1-or-later
# What the tests in the rig's dom0 are written with.
: "${GUESTS:=u1 u2}"
: "${SPARE:=u3}" # a third guest, for tests that destroy one or need one more
: "${SYSTEMD:=u4}" # one whose process 1 is systemd
: "${PVH:=u5}" # one that is PVH, and maps what other guests grant
: "${RIG_guesttype:=pv}"
: "${RIG_rounds:=1}"
: "${RIG_xsm:=none}"
SMALL=128
[ "${RIG_arch:-}" != arm64 ] || SMALL=192 # its Linux comes uncompressed, 33 MB
. /rig/domain.sh

# --- guests ---

# NAME.domid there says which one a guest is.
: "${RIG_DOMAINS:=/run/rig}"
domid() {
	local domid=0
	[ "$1" = dom0 ] || read -r domid <"$RIG_DOMAINS/$1.domid"
	echo "$domid"
}

# guest_configure NAME [LINE OF CONFIGURATION...]: writes /run/rig/NAME.cfg
guest_configure() {
	local name=$1 type=$RIG_guesttype memory=208 image=guest systemd=no line
	shift
	[ "$name" != "$SPARE" ] || memory=$SMALL # it is saved and restored, page by page
	[ "$name" != "$PVH" ] || type=pvh memory=$SMALL
	[ "$name" != "$SYSTEMD" ] || image=systemd systemd=yes
	{
		echo "name='$name'"
		echo "type='$type'"
		echo "kernel='/boot/linux'"
		echo "ramdisk='/tmp/$image.cpio'"
		echo "memory=$memory"
		echo 'vcpus=1'
		echo "extra='console=hvc0 quiet loglevel=4 mitigations=off nokaslr random.trust_cpu=on nosoftlockup rdinit=/rig/init rig.name=$name rig.mode=${RIG_mode:-test} rig.systemd=$systemd'"
		echo "on_crash='destroy'"
		echo "on_reboot='destroy'"
		for line; do echo "$line"; done
	} >"/run/rig/$name.cfg"
}

# guest_create NAME [LINE OF CONFIGURATION...]
guest_create() {
	guest_configure "$@"
	xl create -q "/run/rig/$1.cfg" || return
	xl domid "$1" >"/run/rig/$1.domid"
}

guest_is_up() { xenstore-exists "/local/domain/$(domid "$1")/data/rig-up" 2>/dev/null; }
guest_up() { eventually 120 guest_is_up "$1"; }
guest_destroy() { xl destroy "$1"; }

# As Xen's tools say it: on Arm there are none of these commands.
xen_saves() { xl help | grep -q '^ *save '; }

no_zombies() { ! xl list | grep '(null)'; }

# save NAME FILE [-c]. xl gives up after 60 s, and Linux after 20 s if not all programs stand still by then, which a machine as busy as
# this may need. Then the guest goes on, and it's tried again. A program that can't be stopped would show each time.
save() {
	local try
	for try in 1 2 3; do
		! xl save ${3:+"$3"} "$1" "$2" || return 0
		on "$1" 'dmesg -c | tail -n 40'
	done
	return 1
}

# is_restored NAME: it is up again, under its new domid
is_restored() {
	xl domid "$1" >"/run/rig/$1.domid"
	eventually 30 on "$1" 'xenstore-write data/rig-up 1' # with its data, that has gone, too
}
knows_its_domid() {
	on "$1" 'knows_itself() { xenmsg status --json | grep -qE "^ *\"domid\": *'"$(domid "$1")"',"; }; eventually 30 knows_itself'
}
no_complaint() { on "$1" '! dmesg | grep -E -A5 "BUG|Oops|recursive fault"'; }

# on NAME COMMAND: runs it in that domain, for at most ON_SECONDS. The status is the command's; 125: the domain has gone.
: "${ON_SECONDS:=200}"
on() {
	local name=$1 domid
	if [ "$name" = dom0 ]; then
		ON_SECONDS=$ON_SECONDS sh -c ". /rig/domain.sh; $2" </dev/null
	else
		read -r domid <"$RIG_DOMAINS/$name.domid"
		rig-remote run "$domid" "$ON_SECONDS" ". /rig/domain.sh; ON_SECONDS=$ON_SECONDS; $2"
	fi
}

# on_each 'NAME...' COMMAND: in all of them at the same time, with NAME in $name
on_each() {
	local name processes='' status=0
	for name in $1; do
		on "$name" "name=$name; $2" &
		processes="$processes $!"
	done
	for name in $processes; do wait "$name" || status=$?; done
	return $status
}

# --- daemons ---

# Of the PV guests u1 maps (so it must not be saved), the others only grant.
map_of() {
	case $1 in
	u1 | "$PVH") echo yes ;;
	dom0) echo auto ;;
	*) echo no ;;
	esac
}

# daemon_start NAME [LINE OF CONFIGURATION...]
daemon_start() {
	local name=$1 lines='' line
	shift
	for line; do lines="$lines '$line'"; done
	on "$name" "start_daemon $(map_of "$name") $lines"
}

daemon_stop() { on "$1" stop_daemon; }
daemon_kill() { on "$1" 'kill -9 $(cat /run/xenmsgd.pid)'; }
daemon_restart() {
	local name=$1 lines='' line
	shift
	for line; do lines="$lines '$line'"; done
	on "$name" "stop_daemon; start_daemon $(map_of "$name") $lines"
}

# hand_over NAME: its daemon, to the program that is installed. On a machine that is as busy as this the one that is asked may need
# more time than it has, and then nothing has changed.
hand_over() {
	local ON_SECONDS=$((150 * RIG_patience))
	on "$1" 'took_over() { grep -c "took over from" /run/xenmsgd.log; }; has_taken_over() { [ "$(took_over)" -gt "$before" ]; }
		renews() { xenmsg daemon renew 2>/tmp/renewed; }; before=$(took_over); eventually 140 renews && eventually 140 has_taken_over' && return
	on "$1" 'cat /tmp/renewed; tail -n 5 /run/xenmsgd.log'
	return 1
}

# A domain as every test finds it. After one that failed everything is begun anew.
ready() {
	local again=
	[ ! -e /run/rig/again ] || again='killall -9 xenmsgd xenmsg hostile-peer check-xen; xenstore-rm data/fill; rm -f /run/xenmsg/xenmsg.sock;'
	[ "$1" = dom0 ] || again="$again echo 1024 >/sys/module/xen_gntalloc/parameters/limit;"
	on "$1" "$again daemon_is_up || start_daemon $(map_of "$1")"
}

# What every test begins with: the guests, and a daemon in each domain.
setup() {
	local name processes=''
	for name in dom0 $GUESTS; do
		ready "$name" &
		processes="$processes $name:$!"
	done
	for name in $processes; do
		wait "${name#*:}" && continue
		name=${name%:*}
		[ "$name" != dom0 ] || fail 'no daemon in dom0'
		xl domid "$name" >/dev/null 2>&1 || { guest_create "$name" && guest_up "$name"; }
		ready "$name" || fail "no daemon in $name"
	done
	rm -f /run/rig/again
}

# spare: the third guest, without a daemon
spare() {
	is_there "$SPARE" || guest_create "$SPARE"
	guest_up "$SPARE"
}

# pvh_guest: with no daemon yet. Under emulation one dies by a triple fault now and then when it boots.
pvh_guest() {
	local try
	for try in 1 2 3 4 5; do
		is_there "$PVH" || guest_create "$PVH"
		eventually 60 has_started_or_gone "$PVH"
		! guest_is_up "$PVH" || return 0
		echo "$PVH has died at its start, $try"
	done
	return 1
}
has_started_or_gone() { guest_is_up "$1" || ! is_there "$1"; }
is_there() { [ -s "/run/rig/$1.domid" ] && [ "$(xl domid "$1" 2>/dev/null)" = "$(cat "/run/rig/$1.domid")" ]; }

show_state() {
	local name
	xl list
	xenstore-ls -fp /local/domain | grep -e data/xenmsg -e '/name '
	for name in dom0 $GUESTS $SPARE $PVH; do
		[ "$name" = dom0 ] || is_there "$name" || continue
		echo "--- $name"
		on "$name" 'tail -n 200 /run/xenmsgd.log; xenmsg status --json; head -n 9 /tmp/*.counts; dmesg | tail -n 8; ps | grep xenmsg'
	done
}

# --- messages ---

# receiver NAME ENDPOINT [OPTION...]: xenmsg recv in the background
receiver() {
	local name=$1
	shift
	on "$name" "receive $*"
}

# background NAME TAG COMMAND: its output goes into /tmp/TAG.out, its status into /tmp/TAG.status
background() { on "$1" "rm -f /tmp/$2.status; ($3; echo \$? >/tmp/$2.status) >/tmp/$2.out 2>&1 &"; }

# ended NAME TAG STATUS...: what began as TAG has ended, with one of these
ended() {
	local name=$1
	shift
	on "$name" "await $*"
}

# arrives FROM TO: one message from one domain to the other
arrives() {
	receiver "$2" inbox --count 1 --timeout 60
	on "$1" "xenmsg send --timeout 40 $(domid "$2"):inbox 'hello from $1'"
	on "$2" "await inbox 0 && read -r got </tmp/inbox.got && [ \"\$got\" = 'hello from $1' ]"
}

# stream FROM TO TAG: an endless stream of messages that ends by the error it runs into; the receiver is in TO
stream() {
	receiver "$2" "$3" --timeout 200
	background "$1" "$3-sender" "yes 'a line of a stream that has no end' | xenmsg send --lines $(domid "$2"):$3"
	on "$2" "eventually 10 [ -s /tmp/$3.got ]"
}

# traffic ONE OTHER: a rig-traffic in each, which compares all that comes, until traffic_ends
traffic() {
	background "$1" "$1-$2" "$(rig_traffic "$1" "$2" "$1-$2")"
	background "$2" "$1-$2" "$(rig_traffic "$2" "$1" "$1-$2")"
	traffic_goes_on "$@"
}
rig_traffic() { echo "sh -c 'echo \$\$ >/tmp/$3.pid; exec rig-traffic $3 $1 $2 $(domid "$2")'"; }

# traffic_goes_on ONE OTHER: all kinds of it, in both directions. It has more time than goes_on takes, which says how far it came.
traffic_goes_on() {
	local ON_SECONDS=$((150 * RIG_patience))
	on_each "$1 $2" "goes_on $1-$2"
}

# traffic_ends ONE OTHER: all has arrived, once, in order and undamaged, and nobody was told of an error
traffic_ends() { on_each "$1 $2" "kill \$(cat /tmp/$1-$2.pid); await $1-$2 0; echo \"\$name: \$(cat /tmp/$1-$2.out)\""; }

# see_each_other NAME...
see_each_other() {
	local name other others processes='' status=0
	for name; do
		others=
		for other; do [ "$other" = "$name" ] || others="$others $(domid "$other")"; done
		on "$name" "eventually 15 knows $others" &
		processes="$processes $!"
	done
	for name in $processes; do wait "$name" || status=$?; done
	return $status
}
