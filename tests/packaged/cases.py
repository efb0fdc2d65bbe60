# SPDX-License-Identifier: LGPL-2.1-or-later
"""The cases of tests/packaged/run, in their order. Each takes the host; one that can't be run returns why."""
import re

from machines import HERE

TOP = HERE.parent.parent
CASES = []


def case(function):
    CASES.append(function)
    return function


def on_one(function):
    """Tried on the first Debian alone. What the next one changes are units, users and what apt does; the rest costs minutes there, too."""
    function.on_one = True
    return function


def always(function):
    """Run before a case that is run alone (--only)."""
    function.always = True
    return function


def blocks(name, after=""):
    """The blocks between ``` of a page, behind some words."""
    text = (TOP / name).read_text()
    return re.findall(r"^```\w*\n(.*?)^```$", text.partition(after)[2] if after else text, re.M | re.S)


def line_of(name, beginning):
    """The one line in a page's blocks that begins so, without its comment."""
    found = [line for block in blocks(name) for line in block.splitlines() if line.startswith(beginning)]
    assert len(found) == 1, f"{name} has {len(found)} lines that begin with {beginning}"
    return re.sub(r"\s+#.*", "", found[0])


def install(machine, line, folder="packages"):
    """As printed, in the sources' folder."""
    machine.run("admin", f"cd /rig/{folder}/xenmsg && export DEBIAN_FRONTEND=noninteractive && "
                + line.replace("sudo ", "sudo -E ").replace("apt-get install", "apt-get install --yes"), 1800)


def make_next(machine, *packages):
    """These once more, of a higher version, in /tmp/next."""
    machine.run("root", f"""set -e
        rm -rf /tmp/next && mkdir /tmp/next && cd /tmp/next
        for deb in {" ".join(f"/rig/packages/{name}_*.deb" for name in packages)}; do
            version=$(dpkg-deb -f $deb Version)
            dpkg-deb -R $deb tree
            sed -i "s/^Version: .*/&+next/; s/(= $version)/(= $version+next)/" tree/DEBIAN/control
            dpkg-deb -b tree . && rm -r tree
        done""", 600)


@case
@on_one
def each_printed_block_is_run_or_has_its_reason(_):
    """So that a page can't gain commands that nobody tries."""
    for page in (path.relative_to(TOP).as_posix() for path in (TOP / "README.md", *sorted((TOP / "doc").glob("*.md")))):
        known = BLOCKS.get(page, {})
        if isinstance(known, str):
            continue
        found = [block.splitlines()[0] for block in blocks(page)]
        unknown = [line for line in found if not any(line.startswith(beginning) for beginning in known)]
        gone = [beginning for beginning in known if not any(line.startswith(beginning) for line in found)]
        assert not unknown and not gone, f"{page}: nothing is said of {unknown}; gone: {gone}"
        assert all(isinstance(what, str) or what in CASES for what in known.values())


@case
@always
def a_fresh_debian_boots_as_domain_0(host):
    host.start()
    host.dom0.run("root", "systemctl is-system-running --wait; systemctl --failed; xl list | grep Domain-0")


@case
@always
def a_fresh_debian_boots_as_a_guest(host):
    host.guest_starts()
    assert host.guest.run("root", "cat /sys/hypervisor/type") == "xen\n"


@case
@always
def the_readmes_command_installs_it_and_the_daemon_runs_without_a_reboot(host):
    line = line_of("README.md", "sudo apt-get install")
    for machine in (host.dom0, host.guest):
        install(machine, line)
        machine.becomes("root", "systemctl is-active xenmsgd && xenmsg status")


@case
@always
def groups_are_given_as_the_readme_says(host):
    for machine in (host.dom0, host.guest):
        for user in ("alice", "bob"):
            group = {"alice": "xenmsg", "bob": "xenmsg-admin"}[user]
            machine.run("admin", line_of("README.md", f"sudo usermod -aG {group} alice").replace("alice", user))
            assert group in machine.run(user, "id -Gn").split()


def seen_from_the_readme(text, three, five):
    """The README's domains 3 and 5 are others here."""
    return re.sub(r"\b5(?=[:\s])", str(five), re.sub(r"^from = 3$", f"from = {three}", text, flags=re.M))


@case
def the_readmes_first_commands_work_for_who_may(host):
    """The receiver is in the group xenmsg, the sender in none; the policy is the administrator's."""
    dom0, guest = host.dom0, host.guest
    five = int(dom0.run("root", "xl domid work"))
    commands, policy = (seen_from_the_readme(text, 0, five) for text in blocks("README.md", "## Use it")[:2])
    dom0.becomes("carol", f"xenmsg peers | grep -w {five}")
    denied = dom0.tried("carol", f"xenmsg send {five}:inbox 'hello'")
    assert denied.status in (3, 4), denied.out  # nobody from other domains may, until a rule says so
    guest.run("admin", f"sudo tee /etc/xenmsg/policy.d/readme.conf <<'END'\n{policy}END\nsudo systemctl reload xenmsgd")
    served = {"recv": "inbox", "serve": "upper", "listen": "sort"}
    shown = {"call": "HELLO", "connect": "apple\nfig\npear\n", "ping": "4 of 4 answered", "peers": "work", "endpoints": "upper",
             "status": '"domid":0'}
    dom0.run("carol", "head -c 3000000 /dev/urandom >picture.jpg; printf 'pear\\nfig\\napple\\n' >names.txt")
    for line in commands.splitlines():
        line = re.sub(r"\s+#.*", "", line)
        command = line.split()[1]
        if command in served:
            refused = guest.tried("carol", line)
            assert refused.status == 4, f"{line}: who is in no group has bound it: {refused.status}\n{refused.out}"
            guest.start("alice", line)
            guest.becomes("carol", f"xenmsg endpoints self | grep -w {served[command]}")
        elif command == "watch":
            watching = dom0.start("carol", f"exec {{watch}}< <({line})\nuntil read -t 100 -u $watch line; [[ $line = *print* ]]; do :; done\nkill $!; echo \"$line\"")
            guest.start("alice", "xenmsg recv print")
            assert re.search(rf"up endpoint {five}:print", dom0.end(watching).out), line
        else:
            assert shown.get(command, "") in dom0.run("carol", line), line
    assert command == "status", commands


@case
def who_is_in_no_group_sees_little_and_changes_nothing(host):
    guest = host.guest
    check, = re.findall(r"`(xenmsg policy check [^`]*)`", (TOP / "README.md").read_text())
    assert "allow" in guest.run("bob", check.replace(" 3 ", " 0 "))
    assert guest.tried("carol", "xenmsg policy reload").status == 4
    assert guest.tried("alice", "xenmsg policy reload").status == 4
    guest.run("bob", "xenmsg policy reload")


@case
def the_doctor_finds_everything_well(host):
    for machine, peer in ((host.dom0, "work"), (host.guest, "0")):
        assert "FAIL" not in machine.run("admin", f"sudo xenmsg doctor {peer}")


@case
def a_command_is_started_by_the_first_call_as_the_manual_says(host):
    """xenmsg-activation(5)'s second example, over D-Bus and polkit, in the daemon's unit; an emulated machine is slow."""
    guest, five = host.guest, int(host.dom0.run("root", "xl domid work"))
    page = (TOP / "doc/xenmsg-activation.5").read_text().replace("\\-", "-")
    activation, = re.findall(r"^# /etc/xenmsg/activation.d/uptime.conf.*?\n(.*?)^\.fi$", page, re.M | re.S)
    guest.run("admin", f"""sudo tee /etc/xenmsg/activation.d/uptime.conf <<'END'
{activation}timeout = 5min
END
sudo tee /etc/xenmsg/serve.d/uptime <<'END'
#!/bin/sh
echo "as $(id -un)"
END
sudo chmod 0755 /etc/xenmsg/serve.d/uptime
printf '[rule]\\nfrom = 0\\nto = uptime\\naction = allow\\n' | sudo tee /etc/xenmsg/policy.d/uptime.conf
sudo systemctl reload xenmsgd""")
    assert host.dom0.run("carol", f"xenmsg call --timeout 100 {five}:uptime </dev/null", 150) == "as xenmsg-serve\n"
    guest.run("root", "systemctl is-active xenmsg-serve@uptime")


@case
@on_one
def the_tutorial_works_for_an_ordinary_user(host):
    """On simulated domains, as it says, with the packages for programmers. The pauses become waits."""
    dom0 = host.dom0
    dom0.run("admin", "cd /rig/packages/xenmsg && export DEBIAN_FRONTEND=noninteractive && sudo -E apt-get install --yes "
             "../libxenmsg-dev_*.deb ../python3-xenmsg_*.deb ../xensim_*.deb ../xenmsg-doc_*.deb && "
             "sudo -E apt-get install --yes --no-install-recommends gcc libc6-dev pkg-config", 1800)
    script = """set -e
        mkdir tutorial && cd tutorial
        sleep() {
            if xensim exec 2 -- xenmsg status && [ -e notes.c ]; then
                until xensim exec 2 -- xenmsg endpoints self | grep -qw notes; do command sleep 0.3; done
            else
                until xensim exec 1 -- xenmsg ping --count 1 2; do command sleep 0.3; done
            fi >/dev/null 2>&1
        }
        """
    text = (TOP / "doc/tutorial.md").read_text().replace("timeout=2)", "timeout=200)")  # an emulated machine is slow
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S):
        name = re.match(r"(?:# |/\* )([a-z.]+): ", block)
        script += block if kind == "sh" else f"cat >{name[1]} <<'END-OF-FILE'\n{block}END-OF-FILE\n"
    lines = dom0.run("carol", script, 600).splitlines()
    expected = ["kept", "buy milk", "buy milk", "water the plants", "exit status 3", "exit status 10", "read xenmsg(3)"] + 3 * ["the notes move on Sunday"]
    assert [line for line in lines if line in expected] == expected, lines


@case
@on_one
def the_program_of_pythons_page_works_between_domains(host):
    """Its 5 and db are both the guest; it is in domain 0, run by a user who may bind, as it binds inbox."""
    dom0, guest = host.dom0, host.guest
    five = int(dom0.run("root", "xl domid work"))
    block, = blocks("doc/python.md")
    program = seen_from_the_readme(block, 0, five).replace('"db:', '"work:').replace("timeout=2)", "timeout=200)")
    for machine, who, what in ((guest, 0, "inbox, kv"), (dom0, five, "inbox")):
        machine.run("admin", f"printf '[rule]\\nfrom = {who}\\nto = {what}\\naction = allow\\n' | sudo tee /etc/xenmsg/policy.d/python.conf && "
                    "sudo systemctl reload xenmsgd")
    guest.start("alice", "xenmsg serve kv -- echo blue")
    guest.becomes("carol", "xenmsg endpoints self | grep -w kv")
    running = dom0.start("alice", f"cat >page.py <<'END'\n{program}END\npython3 -u page.py >page.out 2>&1 &\n"
                         "while kill -0 $! && ! grep -q hi page.out; do sleep 0.3; done; kill $!; cat page.out")
    guest.becomes("carol", "xenmsg send 0:inbox hi")
    out = dom0.end(running).out
    assert "blue\n" in out and f"{five} b'hi'\n" in out, out


@case
@on_one
def the_simulators_session_works_for_an_ordinary_user(host):
    session = blocks("doc/xensim.md")[0]
    out = host.dom0.run("carol", """set -e
        pauses=0
        sleep() {
            case $((pauses += 1)) in
            1) until xensim exec 1 -- xenmsg status && xensim exec 2 -- xenmsg status; do command sleep 0.3; done ;;
            2) until xensim exec 2 -- xenmsg endpoints self | grep -qw inbox; do command sleep 0.3; done ;;
            esac >/dev/null 2>&1
        }
        mkdir -p run && export XDG_RUNTIME_DIR=$PWD/run
        """ + session, 300)
    assert re.search(r"^hello$", out, re.M), out


@case
@on_one
def the_commands_of_running_on_xen_work_for_the_administrator(host):
    for block in re.findall(r"^ *<!-- run: \w+ -->\n *```sh\n(.*?)^ *```$", (TOP / "doc/running-on-xen.md").read_text(), re.M | re.S):
        machine = host.dom0 if "xenstore-ls" in block else host.guest
        machine.run("root", "set -e\n" + block)


@case
@on_one
def a_host_is_led_to_others_as_the_page_says(host):
    """domain 0 is hosta, and nats.example, too; everything in the order of the page's blocks."""
    dom0 = host.dom0
    section, = re.findall(r"^## Three hosts$(.*?)^### 4", (TOP / "doc/hosts.md").read_text(), re.M | re.S)
    disable, = re.findall(r"`(sudo systemctl disable [^`]*nats-server)`", section)
    dom0.run("admin", "sudo sh -c 'echo 127.0.0.1 nats.example >>/etc/hosts' && export DEBIAN_FRONTEND=noninteractive && "
             f"sudo -E apt-get install --yes nats-server openssl && {disable} && mkdir nats", 1800)
    printed = re.findall(r"^```\n(.*?)^```$", section, re.M | re.S)
    server = None
    for block in printed:
        if block.startswith("[nats]"):
            dom0.run("admin", f"sudo tee /etc/xenmsg/gateway.conf <<'END'\n{block}END\nsudo xenmsg-gateway --check-config")
        elif block.startswith("[hosts]"):
            dom0.run("admin", f"sudo tee /etc/xenmsg/xenmsgd.conf.d/hosts.conf <<'END'\n{block}END")
        elif " nats-server -c " in block:
            dom0.run("admin", "cp /usr/share/doc/xenmsg/examples/nats/nats-server.conf nats/")
            server = dom0.start("admin", f"cd nats && {block}")
        elif "apt-get install" in block:
            install(dom0, block)
        else:
            dom0.run("admin", f"cd nats && {block}", 300)
    assert server
    dom0.becomes("root", "journalctl -u xenmsg-gateway | grep 'host hosta can be reached through'", 100)
    dom0.becomes("root", "xenmsg hosts | grep hosta")
    assert "FAIL" not in dom0.run("admin", "sudo xenmsg doctor")
    before = dom0.run("root", "systemctl show -p MainPID xenmsg-gateway")
    make_next(dom0, "xenmsg-gateway")
    dom0.run("admin", "cd /tmp/next && sudo -E DEBIAN_FRONTEND=noninteractive apt-get install --yes ./xenmsg-gateway_*.deb", 1800)
    dom0.becomes("root", "systemctl is-active xenmsg-gateway.service && systemctl is-active xenmsg-gateway.socket")
    assert before != dom0.run("root", "systemctl show -p MainPID xenmsg-gateway")
    dom0.becomes("root", "xenmsg hosts | grep hosta")
    dom0.run("root", "systemctl stop xenmsg-gateway; pkill -x nats-server")
    dom0.end(server)


@case
def the_exporters_unit_serves_metrics_once_it_is_enabled(host):
    guest = host.guest
    guest.run("admin", "sudo apt-get install --yes curl && sudo systemctl enable --now xenmsg-exporter", 1800)
    assert "xenmsg_up 1" in guest.run("carol", "for try in $(seq 100); do curl -sf http://127.0.0.1:9470/metrics && exit; sleep 0.3; done; exit 1")


@case
@on_one
def the_socket_is_moved_by_the_drop_in_that_the_manual_prints(host):
    """And all that the package has finds it: reload, exporter, instances that serve, and users who type commands."""
    guest, page = host.guest, (TOP / "doc/xenmsgd.conf.5").read_text()
    drop_in, = re.findall(r"^\.nf\n(\[Socket\]\n.*?)^\.fi$", page, re.M | re.S)
    restart, = re.findall(r'"(systemctl restart xenmsgd\.socket [^"]*)"', page)
    guest.run("admin", f"""set -e
sudo mkdir -p /etc/systemd/system/xenmsgd.socket.d
sudo tee /etc/systemd/system/xenmsgd.socket.d/override.conf <<'END'
{drop_in}END
sudo systemctl daemon-reload
sudo {restart}""")
    guest.becomes("carol", r"xenmsg status --json | grep -E '\"socket\": *\"/run/messages/xenmsg.sock\"'")
    guest.run("admin", "sudo systemctl reload xenmsgd && sudo systemctl restart xenmsg-exporter && sudo systemctl start xenmsg-serve@uptime")
    guest.becomes("carol", "curl -sf http://127.0.0.1:9470/metrics | grep -x 'xenmsg_up 1'")
    guest.becomes("carol", "[ \"$(xenmsg call --timeout 100 self:uptime </dev/null)\" = 'as xenmsg-serve' ]")
    guest.start("alice", "xenmsg recv inbox")  # unless that of before has it still
    host.dom0.becomes("carol", f"xenmsg send {host.dom0.run('root', 'xl domid work').strip()}:inbox moved")
    guest.run("admin", f"sudo rm -r /etc/systemd/system/xenmsgd.socket.d && sudo systemctl daemon-reload && sudo {restart}")


@case
def a_restart_loses_no_connection(host):
    """systemd keeps it for the next process; the receiver, which has asked for no other daemon, goes on. A stop ends it."""
    guest = host.guest
    guest.start("alice", "rm -f got; xenmsg recv --once restarts >got 2>&1; echo \"ended $?\" >>got")
    guest.becomes("carol", "xenmsg send self:restarts before")
    for number in range(3):
        before = guest.run("root", "systemctl show -p MainPID xenmsgd")
        guest.run("admin", "sudo systemctl restart xenmsgd")
        assert before != guest.run("root", "systemctl show -p MainPID xenmsgd")
        assert "NFileDescriptorStore=0" in guest.run("root", "systemctl show -p NFileDescriptorStore xenmsgd")
        guest.becomes("carol", f"xenmsg send self:restarts {number}")
        guest.run("root", "sleep 3")  # else systemd refuses so many starts
    guest.becomes("alice", "[ \"$(echo $(cat got))\" = 'before 0 1 2' ]")
    guest.run("admin", "sudo systemctl stop xenmsgd")
    guest.becomes("alice", "grep 'ended 9' got")
    guest.run("admin", "sudo systemctl reset-failed; sudo systemctl start xenmsgd")
    guest.start("alice", "xenmsg recv inbox")


@case
def an_upgrade_loses_no_connection(host):
    """The packages once more, of a higher version: their daemon hands over, while messages and calls go on, and none fails."""
    guest = host.guest
    make_next(guest, "xenmsg", "libxenmsg1")
    guest.run("alice", "rm -f got calls sent stop")
    receiver = guest.start("alice", "exec xenmsg recv --once numbers >got 2>&1")
    server = guest.start("alice", "exec xenmsg serve --once echo -- cat")
    guest.becomes("carol", "xenmsg endpoints self | grep -qw numbers && xenmsg endpoints self | grep -qw echo")
    sender = guest.start("alice", "n=0; until [ -e stop ]; do echo $((n += 1)); sleep 0.05; done | xenmsg send --lines self:numbers >sent 2>&1; echo \"ended $?\" >>sent")
    caller = guest.start("alice", "until [ -e stop ]; do [ \"$(echo hello | xenmsg call --timeout 100 self:echo 2>&1)\" = hello ] || echo failed; done >calls 2>&1")
    guest.becomes("alice", "[ $(wc -l <got) -ge 5 ]")
    before = guest.run("root", "systemctl show -p MainPID xenmsgd")
    guest.run("admin", "cd /tmp/next && export DEBIAN_FRONTEND=noninteractive && sudo -E apt-get install --yes ./xenmsg_*.deb ./libxenmsg1_*.deb", 1800)
    assert guest.run("root", "dpkg-query -W -f '${Version}' xenmsg").endswith("+next")
    assert before == guest.run("root", "systemctl show -p MainPID xenmsgd")
    guest.run("root", "journalctl -u xenmsgd | grep 'took over from xenmsgd'")
    guest.run("alice", "n=$(wc -l <got); for try in $(seq 200); do [ $(wc -l <got) -gt $((n + 20)) ] && break; sleep 0.3; done; touch stop")
    for process in (sender, caller):
        guest.end(process)
    assert guest.run("alice", "cat sent calls") == "ended 0\n"
    guest.becomes("alice", "[ \"$(cat got)\" = \"$(seq $(wc -l <got))\" ] && [ $(wc -l <got) -gt 20 ]")
    guest.run("root", "pkill -x -u alice -f 'xenmsg recv --once numbers|xenmsg serve --once echo.*'")
    for process in (receiver, server):
        guest.end(process)


@case
def a_guest_is_saved_and_restored(host):
    """xl save and restore: the daemon of the unit goes on, and messages arrive under its new number."""
    dom0, guest = host.dom0, host.guest
    before = guest.run("root", "systemctl show -p MainPID xenmsgd").strip()
    dom0.run("root", "xl save work /var/tmp/work.saved && xl restore /var/tmp/work.saved && rm /var/tmp/work.saved", 300)
    host.join_guest()
    five = int(dom0.run("root", "xl domid work"))
    guest.becomes("carol", f"xenmsg status --json | grep -E '\"domid\": *{five},'")
    dom0.becomes("carol", f"xenmsg send {five}:inbox 'after the restore'")
    assert before == guest.run("root", "systemctl show -p MainPID xenmsgd").strip()
    guest.run("root", "systemctl is-active xenmsg-keeper")


@case
def an_instance_that_serves_calls_ends_with_its_package(host):
    """What was started by hand, too, but for the keeper. Links of what debhelper knows stay until the purge, as Debian's do."""
    guest = host.guest
    guest.run("admin", "sudo systemctl enable --now xenmsg-serve@uptime")
    guest.run("admin", "sudo apt-get remove --yes xenmsg libxenmsg1", 1800)
    left = guest.run("root", "pgrep -a -u xenmsgd,xenmsg-serve; systemctl list-units --plain --no-legend 'xenmsg*'; "
                     "find /etc/systemd /run/systemd -xtype l -name '*xenmsg-serve*'; true")
    assert [line for line in left.splitlines() if "keeper" not in line] == [], left


@case
def purged_packages_leave_nothing(host):
    guest = host.guest
    guest.run("admin", "sudo dpkg --purge xenmsg libxenmsg1", 1800)  # apt no longer knows the library, which the case before has removed
    left = guest.run("root", "find /etc /usr /lib /var/lib -xdev -name '*xenmsg*' ! -path '/var/lib/dpkg/*' ! -path '/usr/share/doc/*'; ls -d /etc/xenmsg; true")
    assert left.splitlines() in ([], ["ls: cannot access '/etc/xenmsg': No such file or directory"]), left


@case
@on_one
def the_last_release_is_upgraded_while_it_runs(host):
    if not host.has_release:
        return "the packages of the last release aren't there"
    guest, line = host.guest, line_of("README.md", "sudo apt-get install")
    install(guest, re.sub(r"libxenmsg\d", "libxenmsg[0-9]", line), "release")  # its library may have had another soname
    guest.run("root", "modprobe -a xen-evtchn xen-gntdev xen-gntalloc && systemctl restart xenmsgd")  # as its page said
    guest.becomes("root", "xenmsg status")
    before = guest.run("root", "dpkg-query -W -f '${Version}' xenmsg")
    install(guest, line)
    assert before != guest.run("root", "dpkg-query -W -f '${Version}' xenmsg")
    five = int(host.dom0.run("root", "xl domid work"))
    guest.becomes("root", "systemctl is-active xenmsgd && xenmsg status")
    host.dom0.becomes("carol", f"xenmsg ping --count 1 {five}")
    return None


# What becomes of each block of the pages, by how its first line begins: the case that runs it, or why none does.
ON_SIMULATOR = "run on the simulator by tests/integration/test_printed.py, and no package changes it"
NO_COMMAND = "it isn't typed"
BLOCKS = {
    "README.md": {
        "dom3$ xenmsg send": "what two terminals show; its like is typed by the_readmes_first_commands_work_for_who_may",
        "xenmsg recv inbox   ": the_readmes_first_commands_work_for_who_may,
        "scripts/demo": "it installs compilers and fetches from a mirror; a fresh clone is another matter than packages",
        "[rule]": the_readmes_first_commands_work_for_who_may,
        "struct xenmsg *conn;": "a fragment; the tutorial has a program",
        "sudo curl": "no release is reached from there: tests/packages/taken runs these lines with what scripts/release make has made",
        "sudo apt-get build-dep": the_readmes_command_installs_it_and_the_daemon_runs_without_a_reboot,
        "./autogen.sh": "from source: scripts/check builds and installs so; its usermod is run by groups_are_given_as_the_readme_says",
    },
    "doc/architecture.md": "no page of commands",
    "doc/first-hour.md": "what a terminal shows: tests/integration/test_first_hour.py types it again",
    "doc/protocol.md": "no page of commands",
    "doc/metrics.md": "its blocks take nginx or stunnel; its unit is tried by the_exporters_unit_serves_metrics_once_it_is_enabled",
    "doc/security.md": "no page of commands",
    "doc/trouble.md": "bpftrace and SystemTap need a kernel's debugging symbols; tests/integration/test_probes.py reads the probes",
    "doc/python.md": {"import asyncio": the_program_of_pythons_page_works_between_domains},
    "doc/go.md": "it takes Go: tests/integration/test_go.py builds its programs with what is installed",
    "doc/vchan.md": "its lines are run by tests/integration/test_vchan.py, which gives the group's right by a rule",
    "doc/rust.md": "it takes rustc: tests/integration/test_rust.py builds its program with what is installed",
    "doc/hosts.md": {
        " host a": NO_COMMAND,
        "umask 077": a_host_is_led_to_others_as_the_page_says,
        "PATH=$PATH:/usr/sbin nats-server": a_host_is_led_to_others_as_the_page_says,
        "sudo apt-get install": a_host_is_led_to_others_as_the_page_says,
        "sudo install -g": a_host_is_led_to_others_as_the_page_says,
        "[nats]": a_host_is_led_to_others_as_the_page_says,
        "[hosts]": a_host_is_led_to_others_as_the_page_says,
        "sudo systemctl enable": a_host_is_led_to_others_as_the_page_says,
        "[out]": "it takes a second Xen host: tests/integration/test_hosts_nats.py, on simulated ones",
        "[rule]": "as [out]",
        "[see]": "as [out]",
        "xenmsg recv --count 1 inbox": "as [out]",
        "xenmsg send hostb/work:inbox": "as [out]",
        "xenmsg hosts": "as [out]",
    },
    "doc/running-on-xen.md": {
        "# /etc/xenmsg/policy.d/50-print.conf": "its like is the README's, in the_readmes_first_commands_work_for_who_may",
        "xenmsg status": the_commands_of_running_on_xen_work_for_the_administrator,
        "xenstore-ls": the_commands_of_running_on_xen_work_for_the_administrator,
        "podman run": "it takes an image: tests/integration/test_container.py gives a container the same, on a simulated host",
        "# /etc/xenmsg/policy.d/10-relay.conf": "it takes two more guests: tests/integration/test_relay.py",
        "cat /sys/module": the_commands_of_running_on_xen_work_for_the_administrator,
        "cat /sys/hypervisor/guest_type": the_commands_of_running_on_xen_work_for_the_administrator,
    },
    "doc/tutorial.md": {
        "": the_tutorial_works_for_an_ordinary_user,
    },
    "doc/xensim.md": {
        "export XENSIM_DIR": the_simulators_session_works_for_an_ordinary_user,
        "xensim run --domains 2": ON_SIMULATOR,
        "printf 'name = ": "tests/peers/run xl_saves_and_restores does this, and more",
        "./autogen.sh && ./configure --enable-only-xensim": "the stage peers of scripts/check builds it so",
        "struct xensim_host host": "examples/xensim-test.c has these calls, and tests/integration/test_sim_header.py runs it",
        "def test_a_guest_says_hello": "tests/integration/test_sim_pytest.py runs it",
    },
}
