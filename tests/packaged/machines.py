# SPDX-License-Identifier: LGPL-2.1-or-later
"""A Xen host in QEMU (TCG), whose domains were never prepared: a fresh Debian as domain 0, and another one as a guest of it."""
import base64
import importlib.util
import os
import pathlib
import socket
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
PATIENCE = float(os.environ.get("XENMSG_TEST_PATIENCE", "1"))
LINUX = "root=/dev/vda console=hvc0 quiet loglevel=1 mitigations=off nokaslr random.trust_cpu=on systemd.show_status=0 net.ifnames=0"


def amd64():
    """That machine of tests/xen: what it says to Xen and QEMU serves here, too."""
    spec = importlib.util.spec_from_file_location("xen_machine", HERE.parent / "xen" / "machine.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Amd64


class Gone(Exception):
    """The machine doesn't answer any more."""


class Failed(Exception):
    """A command did something else than it should."""


class Result:
    def __init__(self, command, status, out):
        self.command, self.status, self.out = command, status, out


class Machine:
    """Runs commands in one of the domains, each as a user who logs in for it."""

    def __init__(self, name, path, log):
        self.name, self.path, self.log = name, path, log
        self.line, self.pending, self.answers, self.last = None, b"", {}, 0

    def connect(self, seconds):
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.line = socket.socket(socket.AF_UNIX)
                self.line.connect(str(self.path))
                return
            except OSError:
                self.line.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def read(self, deadline, what):
        """Takes what has come, for at most until then."""
        self.line.settimeout(max(deadline - time.monotonic(), 0.01))
        try:
            came = self.line.recv(65536)
        except TimeoutError:
            raise Gone(f"{self.name}: no answer to {what}") from None
        if not came:
            raise Gone(f"{self.name}: it has ended, before an answer to {what}")
        *lines, self.pending = (self.pending + came).split(b"\n")
        for line in lines:
            words = line.split()
            if len(words) >= 3 and words[1] == b"=" and words[0].isdigit():
                out = base64.b64decode(words[3]) if len(words) > 3 else b""
                self.answers[int(words[0])] = (int(words[2]), out.decode(errors="replace"))

    def up(self, seconds):
        deadline = time.monotonic() + seconds * PATIENCE
        while 0 not in self.answers:
            self.read(deadline, "its start")
        del self.answers[0]

    def start(self, user, command):
        """Begins a command; its number."""
        self.last += 1
        text = base64.b64encode(command.encode()).decode()
        for at in range(0, len(text), 700):
            self.line.sendall(f"{self.last} + {text[at:at + 700]}\n".encode())
        self.line.sendall(f"{self.last} {user}\n".encode())
        print(f"[{self.name} {self.last}] {user}$ {command}", file=self.log, flush=True)
        return self.last, command

    def end(self, started, seconds=300):
        """Its result, when it has ended."""
        number, command = started
        deadline = time.monotonic() + seconds * PATIENCE
        while number not in self.answers:
            self.read(deadline, command)
        status, out = self.answers.pop(number)
        print(f"[{self.name} {number}] status {status}\n{out}", file=self.log, flush=True)
        return Result(command, status, out)

    def tried(self, user, command, seconds=300):
        return self.end(self.start(user, command), seconds)

    def run(self, user, command, seconds=300):
        """What it prints; it has to succeed."""
        result = self.tried(user, command, seconds)
        if result.status:
            raise Failed(f"{self.name}, {user}$ {command}\nstatus {result.status}\n{result.out}")
        return result.out

    def becomes(self, user, command, seconds=60):
        """Waits until it succeeds."""
        return self.run(user, f"until ({command}) >/tmp/becomes.$$ 2>&1; do\n[ $SECONDS -lt {int(seconds * PATIENCE)} ] || {{ tail -n 20 /tmp/becomes.$$; exit 1; }}\n"
                              "sleep 0.5\ndone", seconds + 300)


class Host:
    """The machine that Xen runs on. Its disks are thrown away at the end; ROOTS is what make-roots has made, RIG is the disk "rig"."""

    def __init__(self, roots, rig, out, has_release):
        self.roots, self.rig, self.out, self.has_release, self.process = roots, rig, out, has_release, None
        self.log = (out / "commands.log").open("w")
        self.dom0 = Machine("dom0", out / "dom0.sock", self.log)
        self.guest = Machine("guest", out / "guest.sock", self.log)

    def start(self):
        machine = amd64()
        command = [
            "nice", "-n", "5", "qemu-system-x86_64", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", machine.cpu_pv, "-m", "2600", "-smp", "1",
            "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot",
            "-serial", f"file:{self.out}/console.log",
            "-kernel", str(self.roots / "xen.elf"), "-append", f"{machine.xen} dom0_mem=1300M,max:1300M",
            "-initrd", f"{self.roots / 'vmlinux'} {LINUX} rig.role=dom0,{self.roots / 'initrd'}",
            "-device", "virtio-serial",
        ]  # fmt: skip
        for image in (self.roots / "dom0.img", self.roots / "guest.img", self.rig):
            command += ["-drive", f"file={image},format=raw,if=virtio,snapshot=on,cache=unsafe"]
        for machine in (self.dom0, self.guest):
            command += ["-chardev", f"socket,id={machine.name},path={machine.path},server=on,wait=off",
                        "-device", f"virtserialport,chardev={machine.name},name=rig.{machine.name}"]  # fmt: skip
        with (self.out / "qemu.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.dom0.connect(10)
        self.guest.connect(10)
        self.dom0.up(1200)

    def guest_starts(self):
        """As an administrator of domain 0 would have it, but for the kernel, which lies beside the guest's disk."""
        settings = ("name = 'work'", "type = 'pv'", "kernel = '/rig/vmlinux'", "ramdisk = '/rig/initrd'", "memory = 384", "vcpus = 1",
                    # Debian's script takes so many processes that a busy machine doesn't end it in libxl's 40 s.
                    "disk = ['phy:/dev/vdb,xvda,w,script=/rig/block', 'phy:/dev/vdc,xvdb,r,script=/rig/block']",
                    f"extra = '{LINUX} rig.role=guest'", "on_crash = 'destroy'")  # fmt: skip
        self.dom0.run("root", "cat >/etc/xen/work.cfg <<'END'\n" + "\n".join(settings) + "\nEND\nxl create /etc/xen/work.cfg")
        self.join_guest()
        self.guest.up(1200)

    def join_guest(self):
        """Leads its console to its serial line."""
        self.dom0.run("root", """
            [ ! -e /run/rig/join.pid ] || kill $(cat /run/rig/join.pid)
            for try in $(seq 100); do
                tty=$(xenstore-read /local/domain/$(xl domid work)/console/tty) && [ -n "$tty" ] && break; sleep 0.2; done
            exec 9<>/dev/virtio-ports/rig.guest
            setsid cat <&9 >"$tty" & echo $! >/run/rig/join.pid
            setsid cat "$tty" >&9 & echo $! >>/run/rig/join.pid
            disown -a""")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
