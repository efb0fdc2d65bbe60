# SPDX-License-Identifier: LGPL-2.1-or-later
# The measurements of bench/run --xen: the chain against raw libxenvchan, each with rings of 64 KiB which the server's domain
# grants. A line for each goes to /out/bench: PAIR chain|raw MODE SIZE MESSAGES NANOSECONDS.

: "${RUNS:=3}"
: "${SECONDS_EACH:=3}" # a round trip takes tens of milliseconds there

chain() { on "$1" "bench-chain client $(domid "$2") $3 $4 $SECONDS_EACH"; }

raw() {
	local path
	now
	path="/local/domain/$(domid "$2")/data/bench$NOW"
	background "$2" raw "bench-raw server $(domid "$1") $path 65536"
	eventually 10 xenstore-exists "$path/event-channel"
	on "$1" "bench-raw client $(domid "$2") $path $3 $4 $SECONDS_EACH"
	ended "$2" raw 0
}

between() {
	local run workload how
	on "$2" 'killall bench-chain; bench-chain server >/tmp/bench.out 2>&1 &'
	eventually 10 on "$2" 'grep -q ready /tmp/bench.out'
	eventually 20 chain "$1" "$2" rtt 64
	run=0
	while [ $run -lt "$RUNS" ]; do
		for workload in 'rtt 64' 'stream 64' 'stream 1024' 'stream 65536'; do
			for how in raw chain; do
				# shellcheck disable=SC2086
				echo "$1-$2 $how $workload $($how "$1" "$2" $workload)" >>/out/bench
			done
		done
		run=$((run + 1))
	done
}

bench_between_guests() { between u1 u2; }
bench_between_dom0_and_guest() { between dom0 u2; }
