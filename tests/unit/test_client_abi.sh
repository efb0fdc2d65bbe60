#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# The libraries offer to programs what their descriptions say, and a change of that would be seen.
set -eu
top=${srcdir:-.}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
library=.libs/libxenmsg.so
"$top/scripts/abi" "$library" || exit $?
for each in libvchan-xenmsg libxenmsg-vchan; do
	"$top/scripts/abi" --description "$top/vchan/$each.abi" ".libs/$each.so" || exit $?
done
for gone in xenmsg_send XENMSG_LEND 'int timeout_ms' 'xenmsg_done)'; do
	grep -vF "$gone" "$top/libclient/libxenmsg.abi" >"$work/abi"
	if "$top/scripts/abi" --description "$work/abi" "$library" >"$work/said" 2>&1; then
		echo "$gone is in the library and not in the description, and that was not seen" >&2
		exit 1
	fi
	grep -qF -- "+" "$work/said" && grep -qF "$gone" "$work/said"
done
