# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rest of `bench/run --all`: connections that are carried for programs that know nothing of Xen, and what links and channels
cost."""

import os
import re
import resource
import statistics
import subprocess
import time

from contenders import missing_program, parse
from host import Failed, Group, Host, cpu_seconds, free_port, listens_at_port, wait_until

# ---- programs that know nothing of Xen, and what carries their connections ----

NGINX = """daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log stderr crit; events {{ worker_connections 1024; }}
http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
scgi_temp_path {dir}/s; server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 "hello\\n"; }} }} }}
"""


class Redis:
    key, label, requests = "redis", "redis-benchmark, 50 clients, GET", 20000

    def missing(self):
        return missing_program("redis-server", "redis-server") or missing_program("redis-benchmark", "redis-tools")

    def start(self, group, port):
        group.start(1, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                    stdout=subprocess.DEVNULL)

    def measure(self, host, port):
        out = host.run(0, "redis-benchmark", "-h", "127.0.0.1", "-p", port, "-c", 50, "-n", self.requests, "-t", "get", "--csv")
        return float(re.search(r'^"GET","([\d.]+)"', out, re.M)[1])


class Ab:
    key, label, requests = "ab", "ab, 100 clients, a connection for each request", 2000

    def missing(self):
        return missing_program("/usr/sbin/nginx", "nginx-light") or missing_program("ab", "apache2-utils")

    def start(self, group, port):
        path = group.host.new_name()
        os.mkdir(path)
        with open(f"{path}/nginx.conf", "w", encoding="ascii") as file:
            file.write(NGINX.format(dir=path, port=port))
        group.start(1, "/usr/sbin/nginx", "-p", path, "-c", f"{path}/nginx.conf")

    def measure(self, host, port):
        out = host.run(0, "ab", "-q", "-s", 10, "-n", self.requests, "-c", 100, f"http://127.0.0.1:{port}/")
        if int(re.search(r"^Failed requests:\s+(\d+)", out, re.M)[1]):
            raise Failed("requests have failed")
        return float(re.search(r"^Requests per second:\s+([\d.]+)", out, re.M)[1])


def with_children(pids):
    """nginx's worker does the work."""
    found = list(pids)
    for pid in pids:
        try:
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
        except FileNotFoundError:
            pass
    return found


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_once(host, application, carrier):
    """Requests a second, and the CPU time of all processes for each."""
    with Group(host) as server, Group(host) as between:
        port = free_port()
        application.start(server, port)
        wait_until(lambda: listens_at_port(port), application.label)
        entry = carrier.carry(between, port)
        pids = with_children(server.pids() + between.pids())
        client, others = children_seconds(), cpu_seconds(pids)
        rate = application.measure(host, entry)
        return rate, (children_seconds() - client + cpu_seconds(pids) - others) / application.requests


def forward(host, chosen, options, progress):
    """Rows of what carried programs' connections, beside what carries nothing: TCP over loopback, directly."""
    carriers = []
    for one in chosen:
        for ring in options.rings if one.has_rings else [None]:
            if hasattr(one, "carry"):
                carriers.append(one())
                carriers[-1].start(host, ring)
    rows = []
    for application in (Redis(), Ab()):
        why = application.missing()
        if why:
            rows.append({"application": application.key, "label": application.label, "skipped": why})
            continue
        rates, cpu, failed = {}, {}, {}
        for run in range(options.runs):
            for carrier in carriers:
                key = carrier.key, carrier.ring
                if key in failed:
                    continue
                progress.say(f"run {run + 1} of {options.runs}: {application.label}, {carrier.label}")
                try:
                    rate, used = measure_once(host, application, carrier)
                    rates.setdefault(key, []).append(rate)
                    cpu.setdefault(key, []).append(used)
                except (Failed, subprocess.TimeoutExpired) as error:
                    failed[key] = str(error)
        direct = statistics.median(rates[("tcp", None)]) if ("tcp", None) in rates else None
        for carrier in carriers:
            key = carrier.key, carrier.ring
            row = {"application": application.key, "label": application.label, "carrier": carrier.key, "ring": carrier.ring,
                   "carrier_label": {"tcp": "directly", "xenmsg-stream": "xenmsg forward"}.get(carrier.key, carrier.label)}
            if key in rates:
                row.update(median=statistics.median(rates[key]), all=rates[key], cpu=statistics.median(cpu[key]))
                row["ratio"] = row["median"] / direct if direct else None
            if key in failed:
                row["failed"] = failed[key]
            rows.append(row)
    return rows


# ---- links and channels ----

LINKS = (1, 10, 100, 500)
BUSY = 4  # links that others use meanwhile
CHANNELS = (0, 100, 1000, 10000)
EACH = 200  # channels on one connection
HUB = "[links]\nring-size = 16K\n"
MANY = HUB + "[limits]\nmax-channels = 262144\nmax-queued-bytes = 6G\n"


def memory_kib(pid):
    """A daemon's own memory, and that of the rings which it has mapped."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith(("RssAnon:", "RssShmem:")))


def idle_share(pids, seconds=2.0):
    """The part of a CPU that these processes take while nobody does anything."""
    before, start = cpu_seconds(pids), time.monotonic()
    time.sleep(seconds)  # what happens meanwhile is what is measured
    return (cpu_seconds(pids) - before) / (time.monotonic() - start)


def linked(host, domid):
    return sum(link["state"] == "up" for link in host.status(domid)["links"])


def measure_links(build, count, options):
    """Domain 0 with links to so many guests, which all start at once."""
    host = Host(build, domains=count)
    try:
        hub = host.start_daemon(0, HUB, side=0)
        alone = memory_kib(hub.pid)
        start = time.monotonic()
        guests = [host.start_daemon(domid, HUB, wait=False, side=1) for domid in range(1, count + 1)]
        # Asking takes CPU time from it.
        wait_until(lambda: linked(host, 0) == count, f"links with {count} guests", 120, pause=count / 1000)
        took = time.monotonic() - start
        row = {"links": count, "seconds": took, "memory_kib": memory_kib(hub.pid) - alone, "idle": idle_share([hub.pid])}
        domains = host.list()
        row["requests"] = statistics.mean(domains[domid]["xenstore"]["requests"] for domid in range(1, count + 1))
        with Group(host) as group:
            group.others = [hub, guests[0]]
            group.serve(1, host.tool("bench-chain"), "server", domid=1)
            row.update(on_one_link(host, group, 0, 1, options))
            if count > BUSY:
                row.update(beside_busy_links(host, group, options))
        return row
    finally:
        host.stop()


def round_trips(host, group, client, server, options):
    trips = [parse(host.run(0, host.tool("bench-chain"), "client", server, "rtt", 64, options.seconds, domid=client, pids=group.pids()))
             for _ in range(options.runs)]
    return {name: statistics.median(one[key] for one in trips) / 1e9 for name, key in (("rtt", "p50"), ("p99", "p99"))}


def beside_busy_links(host, group, options):
    """A round trip while programs of other guests send to domain 0, 1 KiB at a time and as much as they can. They take CPU time
    from it, too."""
    with Group(host) as busy:
        busy.serve(0, host.tool("bench-chain"), "server", domid=0)
        for domid in range(2, 2 + BUSY):
            busy.start(1, host.tool("bench-chain"), "client", 0, "stream", 1024, 600, domid=domid, stdout=subprocess.DEVNULL)
        # each has found its way
        wait_until(lambda: sum(link["rx"]["messages"] > 100 for link in host.status(0)["links"]) >= BUSY, "the busy links")
        found = round_trips(host, group, 0, 1, options)
    return {f"busy_{name}": value for name, value in found.items()}


def on_one_link(host, group, client, server, options):
    """What a message costs there, whatever else the daemons have."""
    rates = [parse(host.run(0, host.tool("bench-chain"), "client", server, "stream", 64, options.seconds, domid=client,
                            pids=group.pids())) for _ in range(options.runs)]
    return {**round_trips(host, group, client, server, options),
            "rate": statistics.median(one["messages"] / one["ns"] * 1e9 for one in rates)}


def measure_channels(build, count, options):
    """Two domains whose programs hold so many channels, and one more that works."""
    host = Host(build, domains=2)
    try:
        both = [host.start_daemon(domid, MANY) for domid in (1, 2)]
        with Group(host) as group:
            group.others = both
            group.serve(1, host.tool("bench-chain"), "server", min(count, EACH), domid=2)
            # makes the link
            host.run(0, host.tool("bench-chain"), "client", 2, "rtt", 64, 0.01, domid=1)
            before = [memory_kib(daemon.pid) for daemon in both]
            row = {"channels": count}
            if count:
                holder = group.start(0, host.tool("bench-chain"), "hold", 2, min(count, EACH), max(1, count // EACH), domid=1, stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE)
                words = holder.stdout.readline().split()
                if not words:
                    raise Failed(f"{count} channels can't be held")
                row["seconds"] = int(words[0]) / 1e9
                row["memory_kib"] = max(memory_kib(daemon.pid) - was for daemon, was in zip(both, before))
            row["idle"] = idle_share([daemon.pid for daemon in both])
            row.update(on_one_link(host, group, 1, 2, options))
        return row
    finally:
        host.stop()


def scale(build, options, progress):
    found = {"links": [], "channels": []}
    for kind, counts, measure in (("links", LINKS, measure_links), ("channels", CHANNELS, measure_channels)):
        for count in counts:
            progress.say(f"{count} {kind}")
            try:
                found[kind].append(measure(build, count, options))
            except Failed as error:
                found[kind].append({kind: count, "failed": str(error)})
    return found


# ---- the tables ----

def show(document):
    before = None
    for row in document.get("forward", []):
        if row["application"] != before:
            before = row["application"]
            print(f"\n{row['label'] + ', requests a second':60}{'ring':>5}{'median':>10}{'of direct':>11}{'CPU each':>12}")
        if "skipped" in row:
            print(f"skipped: {row['skipped']}")
        elif "median" in row:
            print(f"{row['carrier_label']:60}{row['ring'] or '':>5}{row['median']:>10.0f}{row['ratio'] or 0:>11.2f}"
                  f"{row['cpu'] * 1e6:>9.1f} µs{'  (some runs failed)' if 'failed' in row else ''}")
        else:
            print(f"{row['carrier_label']:60}{row['ring'] or '':>5}  failed: {row['failed']}")
    for kind, rows in document.get("scale", {}).items():
        print(f"\n{kind:10}{'made in':>10}{'memory each':>14}{'CPU idle':>10}{'round trip':>14}{'p99':>10}{'64 B':>12}"
              + (f"{'beside busy links':>20}{'p99':>10}" if kind == "links" else ""))
        for row in rows:
            if "failed" in row:
                print(f"{row[kind]:<10}failed: {row['failed']}")
                continue
            made = f"{row['seconds'] * 1e3:.1f} ms" if "seconds" in row else ""
            memory = f"{row['memory_kib'] / row[kind]:.1f} KiB" if row.get("memory_kib") else ""
            busy = f"{row['busy_rtt'] * 1e6:>17.1f} µs{row['busy_p99'] * 1e6:>7.0f} µs" if "busy_rtt" in row else ""
            print(f"{row[kind]:<10}{made:>10}{memory:>14}{row['idle'] * 100:>8.2f} %{row['rtt'] * 1e6:>11.1f} µs"
                  f"{row['p99'] * 1e6:>7.0f} µs{row['rate'] / 1e6:>8.2f} M/s{busy}")
