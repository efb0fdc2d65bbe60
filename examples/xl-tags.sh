#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Gives domains of xl tags for the host's policy before they run (xenmsg-policy(5), TAGS FROM THE TOOLSTACK), in domain 0:
#
#   xl-tags.sh create NAME CONFIG TAG...    makes the domain, and lets it run when it has its tags
#   xl-tags.sh restore NAME IMAGE TAG...    the same for one that was saved
#   xl-tags.sh set NAME TAG...              gives one that runs other tags; without a TAG it has none
#
# They go with the domain: nothing is to be removed.
set -eu
usage() {
	echo "usage: $0 create|restore NAME FILE TAG... | set NAME TAG..." >&2
	exit 2
}

[ $# -ge 2 ] || usage
verb=$1
name=$2
shift 2
case $verb in
create | restore)
	[ $# -ge 1 ] || usage
	xl "$verb" -p "$1" # paused
	shift
	;;
set) ;;
*) usage ;;
esac

domid=$(xl domid "$name")
if ! xenstore-write "/local/domain/$domid/xenmsg/tags" "$*"; then
	[ "$verb" = set ] || xl destroy "$domid"
	exit 1
fi
[ "$verb" = set ] || xl unpause "$domid"
