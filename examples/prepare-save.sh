#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A toolstack tells all guests to prepare for a save, and counts who is ready, as prepare-save.c.
#
#   prepare-save.sh host COUNT [SECONDS]   in domain 0: waits until COUNT guests are ready (30 s), and prints how many are
#   prepare-save.sh guest COMMAND          in each guest: runs COMMAND each time
#
# What is kept comes again when a daemon was restarted meanwhile: COMMAND must be fit to run twice.
set -eu
usage="usage: $0 host COUNT [SECONDS] | guest COMMAND"
argument=${2:?"$usage"}

if [ "$1" = guest ]; then
	export COMMAND="$argument"
	exec xenmsg subscribe 0:prepare-save --exec '
		round=$(cat)
		sh -c "$COMMAND" && xenmsg send --wait --timeout 10 0:ready-to-save "$round" && echo prepared'
elif [ "$1" != host ]; then
	echo "$usage" >&2
	exit 2
fi

seconds=${3:-30}
round=$(date +%s.%N)
xenmsg publish --stay "$seconds" prepare-save "$round" & # it is kept for latecomers
publisher=$!
trap 'kill "$publisher" 2>/dev/null || true' EXIT
# Each guest counts once, by the domid that the hypervisor tells, and what is of another time doesn't.
{ timeout "$seconds" xenmsg recv --quiet ready-to-save --format '%{domid} %{payload}' || true; } | {
	ready=" "
	count=0
	while [ "$count" -lt "$argument" ] && read -r domid answer; do
		case "$ready" in *" $domid "*) continue ;; esac
		[ "$answer" = "$round" ] || continue
		ready="$ready$domid "
		count=$((count + 1))
		echo "domain $domid is ready"
	done
	echo "$count of $argument are ready"
	[ "$count" -ge "$argument" ]
}
