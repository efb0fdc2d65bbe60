# SPDX-License-Identifier: LGPL-2.1-or-later
"""scripts/check-floors finds each kind of breach in a copy of the product."""

import pathlib
import re
import shutil
import subprocess
import sys

from messaging import SOURCES

SOURCE = pathlib.Path(SOURCES)

def copy(top):
    for part in ("base", "daemon", "libclient", "wire", "include", "gateway", "cli", "sim", "vchan"):
        shutil.copytree(SOURCE / part, top / part)

def check(top):
    done = subprocess.run([sys.executable, SOURCE / "scripts/check-floors", top], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout

BREACHES = [
    ("daemon/switch/hop.c", '#include "daemon/link/link.h"', "switch includes from a floor above"),
    ("daemon/switch/hop.c", '#include "../link/link.h"', "switch includes from a floor above"),
    ("daemon/switch/hop.c", "#  include <daemon/link/link.h>", "switch includes from a floor above"),
    ("base/log.c", '#include "daemon/serve/router.h"', "base includes what isn't among its parts"),
    ("daemon/serve/router.c", '#include "daemon/main/daemon.h"', "serve includes from a floor above"),
    ("daemon/something.c", "", "it is on no floor"),
    ("base/z.c", "", "it is one of 21 .c files in its folder"),
    ("daemon/link/link.c", '#include "daemon/switch/hop_internal.h"', "hop_internal.h is for daemon/switch/ alone"),
    ("daemon/link/link.c", "int hop_something(struct hop *hop, int what);", "hop_something() is declared by hand"),
    ("daemon/link/link.c", "extern int hop_another(struct hop *hop,\n\t\t\t int what);", "hop_another() is declared by hand"),
    ("daemon/switch/hop.c", '#include "cli/cli.h"', "daemon includes what isn't among its parts"),
    ("wire/ring.c", '#include "base/log.h"', "wire includes what isn't among its parts"),
    ("gateway/gateway.c", '#include "daemon/switch/hop.h"', "gateway includes what isn't among its parts"),
    ("libclient/helpers.c", '#include "libclient/conn.h"', "helpers includes from a floor above"),
    ("cli/cmd_send.c", '#include "../libclient/conn.h"', "cli includes what isn't among its parts"),
    ("sim/hypervisor/grant.c", '#include "wire/ring.h"', "sim includes what isn't among its parts"),
    ("sim/store/path.c", '#include "sim/hypervisor/hv.h"', "store includes from a floor above"),
    ("sim/toolstack/fault.c", '#include "sim/hypervisor/hv_internal.h"', "hv_internal.h is for sim/hypervisor/ alone"),
    ("wire/ring.c", "#include <uthash.h>", "include wire/ut.h"),
    ("sim/commands/xensim.c", "struct ring_words {\n\tint here;\n};", "ring_words is the name of something else in wire/ring.h"),
    ("daemon/xen/store.c", "#inc\\\nlude <daemon/link/link.h>", "xen includes from a floor above"),
    ("daemon/xen/store.c", '/* why */ #include "../peers/peers.h"', "xen includes from a floor above"),
    ("daemon/xen/store.c", '#import "daemon/local/local.h"', "xen includes from a floor above"),
    ("daemon/xen/vchan.c", "#include LINK_HEADER", "a macro says what is included"),
    ("daemon/serve/report.c", '#include "daemon/serve/viewer.c"', "it includes what is no header"),
    ("daemon/policy/policy.c", "static void call(void)\n{\n\textern void hop_something(struct hop *hop);\n}",
     "hop_something is declared by hand"),
    ("daemon/link/relay.c", "extern const struct hop_traits hop_traits[HOP_KINDS];", "hop_traits is declared by hand"),
    ("sim/toolstack/report.c", "void hv_domain_unpause(struct hv_domain *domain);", "hv_domain_unpause() is declared by hand"),
    ("daemon/xen/store.h", "void links_free(struct links *links);", "links_free() is of daemon/link/"),
    ("daemon/switch/ledger.c", "static void end(struct hop *hop)\n{\n\thop_retire(hop, 0);\n}", "ledger calls hop, which is above it"),
    ("daemon/hosts/conversation_memory.c", "static void end(struct hosts *hosts)\n{\n\thosts_free(hosts);\n}",
     "conversation_memory, hosts call each other"),
    ("daemon/link/pings.c", "static int look(struct link *link)\n{\n\treturn link->hop->error;\n}", "error is the switch's field of a hop"),
    ("daemon/local/stream.c", "static int look(struct stream *stream)\n{\n\treturn stream->hop.in.missing;\n}",
     "in is the switch's field of a hop"),
    ("daemon/serve/viewer.c", "static int look(struct session *session)\n{\n\treturn session_hop(session)->board;\n}",
     "board is the switch's field of a hop"),
    ("daemon/link/busy_poll.h", "static inline int look(struct hop *first)\n{\n\treturn first->beyond;\n}",
     "beyond is the switch's field of a hop"),
    ("daemon/peers/names.c", "static int end(struct peers *peers)\n{\n\treturn repair_watch(peers);\n}", "names calls peers_repair, which is above it"),
    ("daemon/topic/meant.c", 100 * "\n", "call each other, and have"),
    ("daemon/registry/past.c", "struct heavy {\n\tbool one, two, three, four, five;\n\tbool six, seven, eight, nine;\n};",
     "struct heavy has 9 flags, more than 8"),
    ("gateway/gateway.c", "enum hop { HOP_ONE };", "hop is the name of something else in daemon/switch/hop.h"),
]

def test_each_breach_is_found_and_nothing_else(tmp_path):
    copy(tmp_path)
    assert check(tmp_path)[0] == 0
    for path, line, _ in BREACHES:
        with (tmp_path / path).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    status, said = check(tmp_path)
    assert status == 1
    for path, _, reason in BREACHES:
        assert any(each.startswith(path) and reason in each for each in said.splitlines()), (path, reason, said)
    assert len(said.splitlines()) == len(BREACHES)

def test_a_room_that_outgrows_its_budget_is_named_with_figures(tmp_path):
    copy(tmp_path)
    (tmp_path / "scripts").mkdir()
    budgets = (SOURCE / "scripts/budgets").read_text(encoding="utf-8")
    for room, less, has in (("cli", "cli 1 999 999", r"cli has \d+ lines, .* lets it have 1:"), ("wire", "wire 99999 1 999", r"wire has \d+ files, .* have 1:"),
                            ("base", "base 99999 999 2", r"base has \d+ members of struct \w+, .* have 2:"),
                            ("settings", "settings 3", r"settings has \d+ settings, .* have 3:"),
                            ("joints", "joints 5", r"joints has \d+ calls between the rooms of daemon/, .* have 5:")):
        lines = [line for line in budgets.splitlines() if line.split()[0] in ("cli", "wire", "base", "settings", "joints")]
        (tmp_path / "scripts/budgets").write_text("".join(f"{less if line.split()[0] == room else line}\n" for line in lines))
        status, said = check(tmp_path)
        assert status == 1 and re.fullmatch(rf"{has} take something away\n", said), said
