# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenmsg exporter: what a scraper gets, and what everybody else gets."""

import base64
import contextlib
import http.client
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import ssl
import subprocess
import urllib.parse
import urllib.request

import pytest

from gateway_rig import free_port, running
from messaging import EXIT_DENIED, EXIT_USAGE, SOURCES, deliver, eventually, read_source, stopped
from renewing import renew
from test_shares import cpu_of


def stop(process):
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) in (-signal.SIGTERM, 128 + signal.SIGTERM)


def begin(node, host, *options):
    """An exporter that says where it listens, in words and for scripts."""
    process = node.popen("exporter", "--listen", f"tcp:{host}:0", *options)
    process.port = int(re.search(r"listens on port (\d+)", process.stderr.readline().decode()).group(1))
    assert process.stdout.readline() == f"tcp:{host}:{process.port}\n".encode()
    return process


@pytest.fixture(name="exporter")
def an_exporter_on_tcp(one, two):
    two.receiver("inbox")
    one.send("2:inbox", "x")
    process = begin(one, "127.0.0.1")
    process.node = one
    yield process
    stop(process)


def ask(exporter, method="GET", path="/metrics", headers=None, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", exporter.port, timeout=30)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def test_more_clients_than_descriptors_cost_no_cpu_and_get_turns(exporter):
    resource.prlimit(exporter.pid, resource.RLIMIT_NOFILE, (32, 32))
    idle = [socket.create_connection(("127.0.0.1", exporter.port)) for _ in range(40)]
    told = exporter.stderr.readline()
    assert b"can't accept a client: Too many open files" in told
    before = cpu_of(exporter.pid)
    assert b"can't accept a client" in exporter.stderr.readline()  # a second later
    assert cpu_of(exporter.pid) - before < 0.2
    for connection in idle:
        connection.close()
    assert ask(exporter)[0] == 200


def test_a_silent_daemon_holds_up_only_those_that_ask_for_it(exporter):
    """They get their answer, once it has gone on, or that it doesn't."""
    with stopped(exporter.node.pid), contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(socket.create_connection(("127.0.0.1", exporter.port), timeout=60)) for _ in range(3)]
        for client in waiting:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        waiting[0].close()
        assert ask(exporter, path="/")[0] == 404
        assert select.select(waiting[1:], [], [], 0)[0] == []
        for client in waiting[1:]:
            assert b"\nxenmsg_up 0\n" in b"".join(iter(lambda: client.recv(65536), b""))  # pylint: disable=cell-var-from-loop
    assert "\nxenmsg_up 1\n" in ask(exporter)[2]


def test_who_sends_its_request_slowly_is_let_go(exporter):
    """Fifty seconds after it has come, and not ten after its last byte."""
    with socket.create_connection(("127.0.0.1", exporter.port)) as client:
        client.settimeout(0.5)

        def is_let_go():
            with contextlib.suppress(TimeoutError):
                client.sendall(b"G")
                return not client.recv(1)
            return False
        with contextlib.suppress(ConnectionError):
            eventually(is_let_go, "it is closed", 90)
    assert ask(exporter)[0] == 200


@pytest.mark.unless(relayed="direct")
def test_a_scrape_is_what_status_prints(exporter):
    status, headers, text = ask(exporter)
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "xenmsg_up 1\n" in text and 'xenmsg_link_up{domid="2"} 1\n' in text
    printed = exporter.node.xenmsg("status", "--metrics").stdout.decode()
    assert re.findall("^# (.*)", text, re.M) == re.findall("^# (.*)", printed, re.M)
    assert ask(exporter, path="/metrics?x=1")[0] == 200
    assert ask(exporter, method="HEAD")[::2] == (200, "")


def test_an_endpoint_counts_what_is_opened_and_what_is_refused(one, two):
    inbox = two.receiver("inbox")
    one.send("2:inbox", "x")
    two.write_policy("[rule]\nfrom = 1\nto = inbox\naction = deny\n", name="00-deny.conf")
    assert two.xenmsg("policy", "reload").returncode == 0
    one.send("2:inbox", "x", exit_code=EXIT_DENIED)
    text = two.xenmsg("status", "--metrics").stdout.decode()
    assert 'xenmsg_endpoint_opens_total{endpoint="inbox"} 1\n' in text
    assert int(re.search(r'xenmsg_endpoint_refusals_total\{endpoint="inbox"\} (\d+)', text).group(1)) >= 1


def test_an_endpoint_counts_messages_and_bytes_both_ways(one, two):
    two.popen("serve", "rev", "--", "rev", binds="rev")
    two.popen("listen", "echo", "--", "cat", binds="echo")
    for _ in range(3):
        assert one.xenmsg("call", "2:rev", data=b"x" * 100).returncode == 0
    assert one.xenmsg("connect", "2:echo", data=bytes(50000)).stdout == bytes(50000)
    def number(name, endpoint):
        text = two.xenmsg("status", "--metrics").stdout.decode()
        return int(re.search(rf'xenmsg_endpoint_{name}_total\{{endpoint="{endpoint}"\}} (\d+)', text).group(1))
    assert number("messages", "rev") == 3
    assert 300 <= number("received_bytes", "rev") < 1000 and 300 <= number("sent_bytes", "rev") < 1000
    # What was read counts when the daemon has noticed.
    eventually(lambda: number("received_bytes", "echo") == number("sent_bytes", "echo") == 50000, "both ways are counted")


def counters(node):
    text = node.xenmsg("status", "--metrics", "--all").stdout.decode()
    return {name: float(value) for name, value in re.findall(r"^(xenmsg_\w+(?:_total|_count)(?:\{.*?\})?) (\S+)$", text, re.M)}


@pytest.mark.unless(renewed="renews")
def test_what_short_lived_programs_have_done_stays_counted(one):
    def round_trip():
        receiver = one.popen("recv", "--count", "1", "inbox", binds="inbox")
        one.send("self:inbox", "x")
        assert receiver.wait(60) == 0
        topic = one.popen("publish", "--stay", "1h", "news", "x", binds="news")
        assert one.xenmsg("subscribe", "--count", "1", "self:news").returncode == 0
        stop(topic)

    def seen():
        with contextlib.ExitStack() as stack:
            for command in (("recv", "inbox"), ("publish", "--stay", "1h", "news", "x")):
                stack.callback(stop, one.popen(*command, binds=command[-1] if len(command) == 2 else "news"))
            stack.callback(stop, one.popen("subscribe", "self:news"))
            return counters(one)

    round_trip()
    before = seen()
    names = [f'xenmsg_account_sent_messages_total{{kind="uid",id="{os.getuid()}"}}', 'xenmsg_endpoint_messages_total{endpoint="inbox"}',
             'xenmsg_endpoint_taken_seconds_count{endpoint="inbox"}', 'xenmsg_endpoint_published_total{endpoint="news"}',
             "xenmsg_work_passes_total"]
    assert all(before[name] >= 1 for name in names), before
    renew(one)
    round_trip()
    after = seen()
    assert all(after[name] > before[name] for name in names), (before, after)
    assert {name for name, value in before.items() if after.get(name, value) < value} == set()


def test_what_a_domain_has_sent_stays_counted_over_a_hand_over(nodes):
    one, two = nodes(1, 2).values()
    deliver(two, one)
    before = one.account("peer", 2)["sent"]["bytes"]
    assert before > 0
    renew(one)
    assert one.account("peer", 2)["sent"]["bytes"] >= before


def test_who_asks_for_another_host_is_refused(exporter):
    """A browser here may be made to ask 127.0.0.1 by a page of anybody, but it then asks for that page's host."""
    for name in ("127.0.0.1", "127.0.0.1:9470", "localhost", "LocalHost:1", "[::1]:9470", "127.1.2.3"):
        assert ask(exporter, headers={"Host": name})[0] == 200, name
    for name in ("evil.example", "evil.example:9470", "127.0.0.1.evil.example", "10.0.0.1", "[::2]", "[", "x" * 2000, ""):
        assert ask(exporter, headers={"Host": name})[0] == 403, name


def test_whoever_may_connect_asks_a_public_one(one):
    """By a number or its own name: a page's host is neither."""
    process, own = begin(one, "0.0.0.0", "--public"), socket.gethostname()
    for name in ("127.0.0.1", "10.0.0.1:9470", "[fe80::1]:9470", "localhost", own, f"{own.upper()}:9470"):
        status, _, text = ask(process, headers={"Host": name})
        assert status == 200 and "xenmsg_up 1" in text, (name, text)
    for name in (f"{own}.evil.example", "evil.example", "", "x" * 300):
        status, _, text = ask(process, headers={"Host": name})
        assert status == 403 and "xenmsg_up 1" not in text, (name, text)


def test_other_requests_are_refused_in_words(exporter):
    status, _, text = ask(exporter, path="/")
    assert status == 404 and "/metrics" in text
    assert ask(exporter, path="/metrics/")[0] == 404
    for method in ("POST", "PUT", "DELETE"):
        status, headers, text = ask(exporter, method=method, body=b"x" if method != "DELETE" else None)
        assert status == 405 and headers["Allow"] == "GET, HEAD" and "GET" in text
    assert ask(exporter, method="TRACE")[0] in (405, 501)
    assert ask(exporter, headers={"X-Long": "x" * 9000})[0] in (400, 431)
    assert ask(exporter, path="/" + "x" * 9000)[0] in (400, 414)
    assert ask(exporter, method="POST", body=b"x" * 2000)[0] == 413
    with socket.create_connection(("127.0.0.1", exporter.port), timeout=30) as raw:
        raw.sendall(b"\0\1\2 nonsense\r\n\r\n")
        answer = raw.recv(4096)
        assert not answer or re.match(rb"HTTP/1\.[01] [45]", answer), answer
    assert ask(exporter)[0] == 200


def test_a_daemon_that_is_gone_is_down(exporter):
    exporter.node.stop()
    status, _, text = ask(exporter)
    assert status == 200 and "\nxenmsg_up 0\n" in text and "xenmsg_link" not in text


def test_a_unix_socket_has_owner_and_group_and_goes_at_the_end(one, tmp_path):
    path = tmp_path / "metrics.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))  # as after a crash: nobody listens
    process = one.popen("exporter", "--listen", f"unix:{path}")

    def scraped():
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            try:
                client.connect(str(path))
            except (ConnectionRefusedError, FileNotFoundError):
                return False
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: client.recv(65536), b""))

    assert b"xenmsg_up 1" in eventually(scraped, "it listens")
    assert path.stat().st_mode & 0o777 == 0o660
    taken = one.xenmsg("exporter", "--listen", f"unix:{path}")
    assert taken.returncode == 1 and b"Address already in use" in taken.stderr
    assert path.exists()
    stop(process)
    assert not path.exists()


BAD_PLACES = (
    ("tcp:127.0.0.1:65536", b"at most 65535"), ("tcp:127.0.0.1:99999999999999999999", b"port"),
    ("tcp:127.0.0.1:x", b"a port is a number"), ("tcp:127.0.0.1", b"HOST:PORT"), ("tcp::80", b"HOST:PORT"),
    ("tcp:0.0.0.0:9470", b"without --public only this machine's own"), ("tcp:[::]:9470", b"without --public only this machine's own"),
    ("tcp:localhost:9470", b"a number like"), ("unix:", b"takes a PATH"), ("unix:/" + "x" * 107, b"at most 107"),
    ("9470", b"must begin with"), ("", b"needs a value"))


def test_a_bad_place_is_refused_in_words(alone):
    for where, words in BAD_PLACES:
        done = alone.xenmsg("exporter", "--listen", where)
        assert done.returncode == EXIT_USAGE and words in done.stderr, done


def test_it_must_be_told_where_to_listen(alone):
    for words in ([], ["--listen", "tcp:127.0.0.1:0", "more"]):
        assert alone.xenmsg("exporter", *words).returncode == EXIT_USAGE


@pytest.mark.unless(relayed="direct")
@pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed")
def test_prometheus_scrapes_it(exporter, tmp_path):
    port = free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text("global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
                      f"scrape_configs: [{{job_name: xenmsg, static_configs: [{{targets: ['127.0.0.1:{exporter.port}']}}]}}]\n")
    log = open(tmp_path / "prometheus.log", "wb")
    with log, running("prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
                      f"--web.listen-address=127.0.0.1:{port}", stdout=log, stderr=log):
        def value(query):
            url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
            try:
                with urllib.request.urlopen(url, timeout=30) as answer:
                    found = json.load(answer)["data"]["result"]
            except OSError:
                return None
            return found and found[0]["value"][1]

        assert eventually(lambda: value('up{job="xenmsg"} == 1'), "it was scraped") == "1"
        assert eventually(lambda: value("xenmsg_up"), "and read") == "1"
        # A scrape that took too long has none of them.
        assert int(eventually(lambda: value('xenmsg_link_sent_messages_total{domid="2"}'), "the messages")) >= 1
        assert eventually(lambda: value('xenmsg_link_round_trip_seconds_bucket{domid="2",le="+Inf"}'), "the round trips")


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_the_alerts_come_when_they_should():
    for how, rules in (("check", "xenmsg.rules.yml"), ("test", "xenmsg.rules.test.yml")):
        done = subprocess.run(["promtool", how, "rules", os.path.join(SOURCES, "packaging", "monitoring", rules)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_rules_and_dashboard_use_metrics_that_there_are():
    known = {}
    for name, kind in re.findall(r"^\| `(\w+)` \| (\w+) \|", read_source("doc", "metrics.md"), re.M):
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            known[name + suffix] = kind
    dashboard = json.loads(read_source("packaging", "monitoring", "xenmsg-dashboard.json"))
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    queries += re.findall("expr: (.*)", read_source("packaging", "monitoring", "xenmsg.rules.yml"))
    used = {name for query in queries for name in re.findall(r"\bxenmsg_\w+", query)}
    assert len(used) > 10 and used <= known.keys(), used - known.keys()


def page_block(first, replaced):
    """The block of doc/metrics.md that begins so, with other places and ports."""
    block = next(text for text in read_source("doc", "metrics.md").split("```\n") if text.startswith(first))
    for old, new in replaced:
        assert old in block
        block = block.replace(old, str(new))
    return block


def openssl(*words):
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def scrape(port, context, **headers):
    """The status of the answer and whether it has metrics; None: there is none."""
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=30)
    try:
        connection.request("GET", "/metrics", headers=headers)
        answer = connection.getresponse()
        return answer.status, b"xenmsg_up 1" in answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not there")
def test_the_scrape_by_tls_is_one_that_prometheus_takes(tmp_path):
    files = [tmp_path / name for name in ("ca.pem", "prometheus.crt", "prometheus.key")]
    (tmp_path / "prometheus.yml").write_text(page_block("scrape_configs:", [(f"/etc/prometheus/{file.name}", file) for file in files]))
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=ca", "-keyout", files[2], "-out", files[0])
    shutil.copy(files[0], files[1])
    done = subprocess.run(["promtool", "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


STUNNEL = shutil.which("stunnel4") or shutil.which("stunnel")


@pytest.mark.skipif(not (STUNNEL and shutil.which("openssl")), reason="stunnel or openssl is not there")
def test_stunnel_in_front_lets_in_who_has_a_certificate(one, tmp_path):
    """As doc/metrics.md has it."""
    port, path = free_port(), tmp_path / "metrics.sock"
    for authority in ("ca", "stranger"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={authority}", "-addext", "keyUsage=keyCertSign",
                "-keyout", tmp_path / f"{authority}.key",
                "-out", tmp_path / f"{authority}.pem")
    (tmp_path / "names").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    for name, authority in (("hosta", "ca"), ("prometheus", "ca"), ("other", "stranger")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", tmp_path / f"{name}.key", "-out", tmp_path / "request")
        openssl("x509", "-req", "-in", tmp_path / "request", "-CA", tmp_path / f"{authority}.pem", "-CAkey", tmp_path / f"{authority}.key",
                "-extfile", tmp_path / "names", "-out", tmp_path / f"{name}.crt")
        (tmp_path / f"{name}.pem").write_text((tmp_path / f"{name}.key").read_text() + (tmp_path / f"{name}.crt").read_text())
    block = page_block("foreground", (("/run/xenmsg-exporter/metrics.sock", path), ("/etc/stunnel/hosta.pem", tmp_path / "hosta.pem"),
                                       ("/etc/stunnel/ca.pem", tmp_path / "ca.pem"), ("accept = 9470", f"accept = 127.0.0.1:{port}")))
    (tmp_path / "conf").write_text(f"pid =\nsyslog = no\n{block}")
    one.popen("exporter", "--listen", f"unix:{path}")

    def context(name):
        made = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        if name:
            made.load_cert_chain(str(tmp_path / f"{name}.pem"))
        return made
    with running(STUNNEL, tmp_path / "conf"):
        eventually(lambda: scrape(port, context("prometheus")) == (200, True), "stunnel passes them on")
        assert scrape(port, context(None)) is None, "who has no certificate"
        assert scrape(port, context("other")) is None, "whose certificate is another authority's"


@pytest.mark.skipif(not (shutil.which("nginx") and shutil.which("openssl")), reason="nginx or openssl is not there")
def test_nginx_in_front_has_tls_and_a_password(one, tmp_path):
    """As doc/metrics.md has it."""
    port, path = free_port(), tmp_path / "metrics.sock"
    block = page_block("server {", (
        ("/run/xenmsg-exporter/metrics.sock", path), ("/etc/ssl/certs/hosta.pem", tmp_path / "cert"),
        ("/etc/ssl/private/hosta.key", tmp_path / "key"), ("/etc/nginx/metrics.htpasswd", tmp_path / "passwords"),
        ("listen 9470", f"listen 127.0.0.1:{port}")))
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=hosta", "-addext", "subjectAltName=IP:127.0.0.1",
            "-addext", "keyUsage=digitalSignature,keyCertSign", "-keyout", tmp_path / "key", "-out", tmp_path / "cert")
    (tmp_path / "passwords").write_text("prometheus:{PLAIN}secret\n")
    logs = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (tmp_path / "conf").write_text(f"user root; daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}}\n"
                                   f"http {{ access_log off; {logs}\n{block}}}\n")
    one.popen("exporter", "--listen", f"unix:{path}")
    with running("nginx", "-p", tmp_path, "-c", tmp_path / "conf"):
        def scraped(password):
            login = base64.b64encode(f"prometheus:{password}".encode()).decode()
            return scrape(port, ssl.create_default_context(cafile=str(tmp_path / "cert")), Authorization=f"Basic {login}")
        eventually(lambda: scraped("secret") == (200, True), "nginx serves them")
        assert scraped("wrong") == (401, False)
