#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Sends notifications back and forth between two domains that know only a name, as rendezvous.c.
#
#   rendezvous.sh wait NAME            in one domain: answers each notification, until it is interrupted
#   rendezvous.sh begin NAME [COUNT]   in the other one: waits until NAME is bound in some other domain, and begins
set -eu
name=${2:?"usage: rendezvous.sh wait NAME | begin NAME [COUNT]"}

if [ "$1" = wait ]; then
	exec xenmsg recv "$name" --exec 'xenmsg send "$XENMSG_SENDER_DOMID:$XENMSG_ENDPOINT-back" pong'
fi

directory=$(mktemp -d)
trap 'rm -r "$directory"' EXIT
mkfifo "$directory/events" "$directory/answers"

xenmsg watch --json "*:$name" >"$directory/events" &
watch=$!
event=$(grep -m 1 '"domid": *[0-9]' "$directory/events") # the end of the first list is of no domain
kill "$watch" 2>/dev/null || true # the closed pipe may have ended it
domid=$(echo "$event" | sed 's/.*"domid": *\([0-9]*\).*/\1/')
echo "found $name in domain $domid"

count=${3:-10}
xenmsg recv "$name-back" --count "$count" >"$directory/answers" &
exec 3<"$directory/answers"
while ! xenmsg --quiet endpoints self | grep -q "$name-back"; do :; done
i=0
while [ "$i" -lt "$count" ]; do
	xenmsg send "$domid:$name" ping
	read -r answer <&3
	i=$((i + 1))
done
wait
echo "$i there, $i back"
