#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# A chat between domains, as chat.c: each line of standard input goes to everybody who has the room open.
#
#   chat.sh [ROOM]
set -u
room=${1:-chat}

xenmsg recv "$room" --exec 'printf "%s: %s\n" "${XENMSG_SENDER_NAME:-domain $XENMSG_SENDER_DOMID}" "$(cat)"' &
recv=$!
trap 'kill "$recv"' EXIT

while IFS= read -r line; do
	xenmsg peers --json | grep -o '"domid":[0-9]*' | grep -o '[0-9]*$' | while read -r domid; do
		xenmsg endpoints "$domid" --json 2>/dev/null | grep -q "\"name\":\"$room\"" || continue
		xenmsg send "$domid:$room" "$line" || echo "domain $domid didn't get that" >&2
	done
done
