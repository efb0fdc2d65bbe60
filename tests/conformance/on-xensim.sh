#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# on-xensim.sh CASE...: runs these cases (all without any) on the simulated host that XENSIM_DIR names, whose domains 1 and 2 are
# the guests u1 and u2. xensim and check-xen are on the PATH.
here=$(dirname "$0")
conformance_dir=$here
. "$here/lib.sh"
. "$here/cases.sh"

domid() {
	case $1 in
	dom0) echo 0 ;;
	u1) echo 1 ;;
	*) echo "$u2" ;;
	esac
}
u2=2
# Long enough for a program to ask, on a busy machine.
destroy() { have_ended u2 && xensim destroy "$u2" --linger "$([ "$case" = a_destroyed_home ] && echo 3000 || echo 10)"; }
recreate() { u2=$(xensim create ${2:+--on-crash "$2"}); }
pause() { xensim pause "$(domid "$1")"; }
unpause() { xensim unpause "$(domid "$1")"; }
crash() { xensim crash "$(domid "$1")"; }
power_off() { have_ended "$1" && xensim shutdown "$(domid "$1")"; }
checkpoint() { xensim checkpoint "$u2"; }
save_and_restore() { xensim suspend "$u2" && u2=$(xensim resume "$u2"); }
zombies() { xensim list --json | grep -o '"zombies": *[0-9]*' | grep -o '[0-9]*$'; }

on() { xensim exec "$(domid "$1")" -- sh -c "$2"; }

for case in ${*:-$conformance_cases}; do
	echo "--- $case"
	[ "$case" != mappings_of_a_pv_guest ] || u2=$(xensim create --type pv)
	"case_$case"
	end_programs
done
