# SPDX-License-Identifier: LGPL-2.1-or-later
# The stock libxenvchan at the other end of a link: hostile-peer in its one well-behaved mode.

# stock_link STOCK OURS
stock_link() {
	local status=0
	daemon_stop "$1"
	background "$1" stock "(sleep 120 | hostile-peer $(domid "$2") optional)"
	on "$1" 'pong() { grep -qx PONG /tmp/stock.out; }; eventually 20 pong' || status=1
	on "$1" 'cat /tmp/stock.out; killall hostile-peer sleep; xenstore-rm data/xenmsg'
	return $status
}

test_stock_libxenvchan_serves() { stock_link u2 u1; } # smoke
test_stock_libxenvchan_is_a_client() { stock_link dom0 u2; }

# Stock against stock, so that a failure above is known to be ours.
test_stock_libxenvchan_by_itself() {
	background u2 server "printf 'text hello\\nwait 40000\\nclose\\n' | check-vchan server $(domid u1) data/stock 4096 4096"
	eventually 10 xenstore-exists "/local/domain/$(domid u2)/data/stock/ring-ref"
	on u1 "printf 'gettext 5\\nclose\\n' | check-vchan client $(domid u2) /local/domain/$(domid u2)/data/stock" | grep -qx 'ok hello'
	ended u2 server 0
}
