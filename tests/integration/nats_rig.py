# SPDX-License-Identifier: LGPL-2.1-or-later
"""What NATS has besides servers: keys and credentials without its tools, a client that speaks the protocol itself, clusters,
and a network that is slow."""

import base64
import contextlib
import json
import socket
import subprocess
import threading
import time

from conftest import TIMEOUT
from gateway_rig import Server, free_port

USER, ACCOUNT, OPERATOR, SEED = 20 << 3, 0, 14 << 3, 18 << 3


def checked(data):
    """With the checksum (CRC-16/XMODEM) behind it, in base 32."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xffff
    return base64.b32encode(data + crc.to_bytes(2, "little")).decode().rstrip("=")


class Key:
    """An nkey: an Ed25519 key, made and used by openssl."""

    def __init__(self, directory, name, kind):
        self.path = directory / f"{name}.key"
        self.openssl("genpkey", "-algorithm", "ed25519", "-out", self.path)
        seed = self.openssl("pkey", "-in", self.path, "-outform", "DER")[-32:]
        public = self.openssl("pkey", "-in", self.path, "-pubout", "-outform", "DER")[-32:]
        self.name, self.public = name, checked(bytes([kind]) + public)
        self.seed = checked(bytes([SEED | kind >> 5, (kind & 31) << 3]) + seed)

    @staticmethod
    def openssl(*words):
        return subprocess.run(["openssl", *words], check=True, capture_output=True).stdout

    def jwt(self, subject, claims):
        """What this key says of another one."""
        def text(value):
            return base64.urlsafe_b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).decode().rstrip("=")
        body = text({"typ": "JWT", "alg": "ed25519-nkey"}) + "." + text(
            {"jti": subject.name, "iat": int(time.time()), "iss": self.public, "sub": subject.public, "name": subject.name,
             "nats": dict(claims, version=2)})
        signed = self.path.with_suffix(".body")
        signed.write_text(body)
        return body + "." + text(self.openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.path, "-in", signed))


def subjects(host):
    """What a host may publish, and subscribe to."""
    return [f"xenmsg.to.*.{host}", f"xenmsg.presence.{host}"], [f"xenmsg.to.{host}.*", "xenmsg.presence.*"]


def with_nkeys(directory, hosts):
    """The configuration of a server with an nkey for each host, and what is said of it in the gateways' settings, by host."""
    users, settings = [], {}
    for host in hosts:
        key = Key(directory, host, USER)
        publish, subscribe = subjects(host)
        users.append(f'{{nkey: "{key.public}", permissions: {{publish: {json.dumps(publish)}, subscribe: {json.dumps(subscribe)}}}}}')
        seed = directory / f"{host}.seed"
        seed.write_text(key.seed + "\n")
        seed.chmod(0o600)
        settings[host] = f"nkey = {key.public}\nnkey-seed = {seed}"
    return f"authorization {{ users: [\n{','.join(users)}]}}\n", settings


def with_credentials(directory, hosts):
    """The same with accounts and JWTs."""
    operator, account = Key(directory, "operator", OPERATOR), Key(directory, "account", ACCOUNT)
    unlimited = {"subs": -1, "data": -1, "payload": -1}
    limits = dict(unlimited, imports=-1, exports=-1, wildcards=True, conn=-1, leaf=-1)
    settings = {}
    for host in hosts:
        user = Key(directory, host, USER)
        publish, subscribe = subjects(host)
        jwt = account.jwt(user, dict(unlimited, type="user", pub={"allow": publish}, sub={"allow": subscribe}))
        path = directory / f"{host}.creds"
        path.write_text(f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
                        f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n")
        path.chmod(0o600)
        settings[host] = f"credentials = {path}"
    config = (f'operator: "{operator.jwt(operator, {"type": "operator"})}"\nresolver: MEMORY\n'
              f'resolver_preload: {{ {account.public}: "{operator.jwt(account, {"type": "account", "limits": limits})}" }}\n')
    return config, settings


class Client:
    """A program that may say anything to a nats-server."""

    def __init__(self, server, user, password):
        self.socket = socket.create_connection(("127.0.0.1", server.port), TIMEOUT)
        self.lines = self.socket.makefile("rb")
        assert self.lines.readline().startswith(b"INFO ")
        self.say("CONNECT " + json.dumps({"verbose": False, "pedantic": False, "headers": True, "user": user, "pass": password}))
        assert self.errors() == []

    def say(self, line, data=None):
        self.socket.sendall(line.encode() + b"\r\n" + (data + b"\r\n" if data is not None else b""))

    def publish(self, subject, data):
        self.say(f"PUB {subject} {len(data)}", data)

    def errors(self):
        """What the server has to say about all before; messages are read and dropped."""
        said = []
        self.say("PING")
        while (line := self.lines.readline()) != b"PONG\r\n":
            assert line, said
            if line.startswith(b"-ERR"):
                said.append(line.decode().strip())
            elif line.startswith(b"MSG"):
                self.lines.read(int(line.split()[-1]) + 2)
        return said

    def message(self):
        """The next one of a subject that was asked for."""
        while not (line := self.lines.readline()).startswith(b"MSG"):
            assert line
        return self.lines.read(int(line.split()[-1]) + 2).decode()

    def close(self):
        self.lines.close()
        self.socket.close()


def cluster(directory, count=3, config=""):
    """Servers with routes to each other."""
    routes = [free_port() for _ in range(count)]
    servers = []
    for index, port in enumerate(routes):
        others = ", ".join(f'"nats://127.0.0.1:{other}"' for other in routes if other != port)
        routed = f'cluster {{ name: c, listen: "127.0.0.1:{port}", routes: [{others}] }}'
        servers.append(Server(directory, f"nats{index}", f"{routed}\n{config}"))
    return servers


class SlowWay(threading.Thread):
    """A way to a server that carries so many bytes a second in each direction, and holds hardly any."""

    BUFFER = 16384

    def __init__(self, server, rate):
        super().__init__(daemon=True)
        self.server, self.rate = server, rate
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    @property
    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                here, _ = self.listener.accept()
                there = socket.create_connection(("127.0.0.1", self.server.port))
                for start, end in ((here, there), (there, here)):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.BUFFER)
                    start.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.BUFFER)
                    threading.Thread(target=self.carry, args=(start, end), daemon=True).start()

    def carry(self, start, end):
        with contextlib.suppress(OSError):
            while data := start.recv(self.BUFFER):
                end.sendall(data)
                time.sleep(len(data) / self.rate)  # this is what is slow here; nothing is waited for
        for side in (start, end):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.close()
