# SPDX-License-Identifier: LGPL-2.1-or-later
"""The manual pages of the library say what the headers say, of every function, and their examples compile."""

import errno
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from messaging import BINDIR, BUILDDIR, SOURCES, read_source, tool

PAGES = os.path.join(SOURCES, "doc", "man3")
ERRORS = re.compile(r"\b(" + "|".join(errno.errorcode.values()) + r")\b")


def plain(text):
    return re.sub(r"\s+", " ", text).strip()


def functions():
    """Of each function its prototype, and the comment about it, which may be about several."""
    found, comment = {}, ""
    headers = read_source("include", "xenmsg.h") + read_source("include", "xenmsg-stream.h")
    for said, declared in re.findall(r"/\*(.*?)\*/|^XENMSG_API (?:XENMSG_CHECK )?([^;]*);", headers, re.S | re.M):
        if declared:
            found[re.search(r"(xenmsg_\w+)\(", declared).group(1)] = plain(declared), comment
        else:
            comment = said
    assert len(found) > 40
    return found


def page_of(name):
    """The page of a function, behind a link if it is one."""
    text = read_source("doc", "man3", f"{name}.3")
    link = re.fullmatch(r"\.so man3/(\w+)\.3\n", text)
    return read_source("doc", "man3", f"{link.group(1)}.3") if link else text


def shown(roff):
    """What a reader sees of lines in bold and italics."""
    lines = []
    for line in roff.splitlines():
        macro = re.match(r"\.B(I?) (.*)", line)
        if macro and macro.group(1):
            line = "".join(quoted or word for quoted, word in re.findall(r'"([^"]*)"|(\S+)', macro.group(2)))
        elif macro:
            line = macro.group(2)
        lines.append(re.sub(r"\\f[BIR]|\\&", "", line).replace("\\-", "-").replace("\\e", "\\"))
    return "\n".join(lines)


def test_every_function_has_a_page_with_prototype_and_errors():
    for name, (prototype, comment) in functions().items():
        page = page_of(name)
        names, synopsis = (re.search(rf"^\.SH {title}\n(.*?)^\.SH", page, re.M | re.S)[1] for title in ("NAME", "SYNOPSIS"))
        assert name in re.split(r"[,\s]+", names.partition("\\-")[0]), name
        assert prototype + ";" in plain(shown(synopsis)), name
        lacking = set(ERRORS.findall(comment)) - set(ERRORS.findall(shown(page)))
        assert not lacking, (name, lacking)


def test_each_outcome_is_in_each_table():
    told = set(re.findall(r"^ \*   -(E\w+) ", read_source("include", "xenmsg.h").partition("#include")[0], re.M))
    for *path, row in (("doc", "xenmsg.3", r"^\.TP\n\.B \\-(E\w+)"), ("wire", "outcomes.h", r"^\tOUTCOME\((E\w+)"),
                       ("bindings", "go", "errors.go", r'^\tsyscall\.(E\w+): +"'), ("bindings", "go", "doc.go", r"^//\t(E\w+) ")):
        assert len(told) > 10 and told - set(re.findall(row, read_source(*path).partition("#define OPENINGS")[0], re.M)) == set(), path


def test_there_are_no_pages_of_other_functions():
    known = functions()
    overview = shown(read_source("doc", "xenmsg.3"))
    for file in os.listdir(PAGES):
        name, text = file[:-2], read_source("doc", "man3", file)
        assert name in known, file
        assert f"doc/man3/{file}" in read_source("doc", "local.mk")
        if not text.startswith(".so"):
            assert f".BR {name} (3)" in overview


def test_the_header_says_first_what_a_function_does():
    """In a line of at most 90 letters, before any rule; and it begins with at most 30 lines, the rest being in xenmsg(3)."""
    header = read_source("include", "xenmsg.h")
    introduction = re.search(r"^/\*\n.*?^ \*/", header, re.S | re.M)[0]
    assert introduction.count("\n") < 30
    comments = re.findall(r"/\*((?:(?!\*/).)*)\*/\nXENMSG_API", header, re.S)
    assert len(comments) > 60
    for comment in comments:
        first = comment.replace("\n * ", "\n").strip().split("\n")[0]
        assert len(first) <= 90 and first.endswith("."), first


def commands():
    """Of each command, policy's subcommands too, the words of its help."""
    listed = subprocess.run([tool("xenmsg"), "help"], capture_output=True, text=True, check=True).stdout
    names = [[name] for name in re.findall(r"^  ([a-z]+) +", listed.partition("Commands")[2].partition("\n\n")[0], re.M)]
    names += [["policy", name] for name in ("check", "test", "show", "denied", "reload")]
    return {"-".join(name): subprocess.run([tool("xenmsg"), "help", *name], capture_output=True, text=True, check=True).stdout for name in names}


def test_each_command_has_a_page_that_says_what_its_help_says(tmp_path):
    if not os.path.isdir(os.path.join(BUILDDIR or "", "doc")):
        pytest.skip("pages are looked at where they are made")
    pages = {file[len("xenmsg-"):-2]: pathlib.Path(BUILDDIR, "doc", file).read_text(encoding="utf-8")
             for file in os.listdir(os.path.join(BUILDDIR, "doc")) if re.fullmatch(r"xenmsg-.*\.1", file)}
    helps = commands()
    assert pages.keys() == helps.keys() and len(pages) > 20
    sections = dict(re.findall(r"^\.S[SH] ([^\n]+)\n(.*?)(?=^\.S[SH] )", read_source("doc", "xenmsg.1").replace("\\-", "-"), re.M | re.S))
    for name, text in helps.items():
        own = sections.get({"daemon": "daemon renew"}.get(name, name.replace("-", " ")), text) + sections["OPTIONS"].partition("Several")[2]
        assert [option for option in re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", text, re.M) if option not in own + "--socket"] == [], name
        # What the program adds to each help, the page says in its own words.
        wanted = re.sub(r"^Usage:|^Examples:|^ *--socket .*$|^S may have a unit.*$", "", text, flags=re.M)
        seen = plain(shown(pages[name]))
        lacking = [paragraph for paragraph in re.split(r"\n\s*\n", wanted) if any(word not in seen for word in paragraph.split())]
        assert not lacking, (name, lacking)
        for example in text.partition("Examples:\n")[2].splitlines():
            assert example.strip() in seen, (name, example)
        if shutil.which("groff"):
            (tmp_path / "page.1").write_text(pages[name], encoding="utf-8")
            done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", tmp_path / "page.1"], capture_output=True, check=False)
            assert done.returncode == 0 and done.stderr == b"", (name, done.stderr)


@pytest.mark.parametrize("page", ["xenmsgd.8", "xenmsg-gateway.8", "xensim.1"])
def test_each_option_of_a_help_is_in_its_manual(page):
    text = subprocess.run([tool(page[:-2]), "--help"], capture_output=True, text=True, check=True).stdout
    plain_page = re.sub(r"\\f.", "", read_source("doc", page)).replace("\\-", "-")
    assert [option for option in set(re.findall(r"--[a-z][a-z-]*", text)) if option not in plain_page] == []


@pytest.mark.skipif(not BINDIR, reason="on what is installed")
def test_the_pages_are_installed():
    manuals = os.path.join(os.path.dirname(BINDIR), "share", "man")
    if not os.path.isdir(manuals):
        pytest.skip("manual pages aren't installed where the programs are")
    assert {f"{name}.3" for name in functions()} <= set(os.listdir(os.path.join(manuals, "man3")))
    assert {f"xenmsg-{name}.1" for name in commands()} <= set(os.listdir(os.path.join(manuals, "man1")))


def settings_in(table):
    return re.findall(r'\{(?:"[a-z]+", )?"([a-z-]+)", (?:VALUE_|set_)', read_source(*table.split("/")), re.M)


def test_the_file_with_all_keys_has_each_setting():
    text = read_source("tests", "fuzz", "corpus", "config", "all-keys")
    assert [name for name in settings_in("base/config.c") if not re.search(rf"^ *{name} *=", text, re.M)] == []


@pytest.mark.parametrize("table, page", [("base/config.c", "xenmsgd.conf.5"), ("gateway/settings.c", "xenmsg-gateway.8"),
                                         ("daemon/activation/activation_read.c", "xenmsg-activation.5")])
def test_each_setting_is_in_its_manual(table, page):
    settings = settings_in(table)
    tags = "\n".join(re.findall(r"^\.TP\n(\.B.*)", read_source("doc", page).replace("\\-", "-"), re.M))
    assert len(settings) >= 5
    assert [name for name in settings if not re.search(rf'(?<![a-z-]){name}(?![a-z-])', tags)] == []


def test_each_default_is_the_documented_one():
    source, page = read_source("base", "config.c"), read_source("doc", "xenmsgd.conf.5").replace("\\-", "-")
    named = dict(re.findall(r'^#define (USUAL_\w+) +"(.*)"', source, re.M))
    rows = re.findall(r'^\t\{"\w+", "([a-z-]+)", VALUE_\w+, [^,]+, (?:"([^"]*)"|(\w+)),', source, re.M)
    usual = sorted((name, value or named.get(word, "none")) for name, value, word in rows)
    told = re.findall(r'^\.TP\n\.BR? ([a-z-]+)(?: " \(default (.*)\)")?$', page, re.M)
    assert len(usual) > 20 and sorted((name, value or "none") for name, value in told) == usual
    assert set(re.findall(r"^#([a-z-]+) = (.*)", read_source("packaging", "etc", "xenmsgd.conf"), re.M)) <= set(usual)


def test_each_function_stands_in_an_example():
    pages = [read_source("doc", "man3", file) for file in os.listdir(PAGES)]
    examples = "".join(page.split(".SH EXAMPLES", 1)[1] for page in pages if ".SH EXAMPLES" in page)
    examples += "".join(read_source("examples", file) for file in os.listdir(f"{SOURCES}/examples") if file.endswith(".c"))
    headers = read_source("include", "xenmsg.h") + read_source("include", "xenmsg-stream.h")
    functions = set(re.findall(r"XENMSG_API[^;]*?\b(xenmsg_\w+)\(", headers, re.S))
    assert len(functions) > 90 and {name for name in functions if not re.search(rf"\b{name}\b", examples)} == set()


def test_the_examples_compile(tmp_path):
    count = 0
    for file in os.listdir(PAGES):
        for example in re.findall(r"^\.SH EXAMPLES\n\.nf\n(.*?)^\.fi$", read_source("doc", "man3", file), re.M | re.S):
            source = tmp_path / f"{file}.c"
            headers = "ctype.h", "errno.h", "poll.h", "stdio.h", "stdlib.h", "string.h", "unistd.h", "xenmsg.h", "xenmsg-stream.h"
            source.write_text("".join(f"#include <{header}>\n" for header in headers) + shown(example))
            built = subprocess.run(["cc", "-std=gnu11", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-function", "-Werror",
                                    f"-I{SOURCES}/include", "-c", "-o", tmp_path / "example.o", source], capture_output=True, text=True, check=False)
            assert built.returncode == 0, built.stderr
            count += 1
    assert count == len([file for file in os.listdir(PAGES) if not read_source("doc", "man3", file).startswith(".so")])  # each has one
