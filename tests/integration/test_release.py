# SPDX-License-Identifier: LGPL-2.1-or-later
"""scripts/release: nobody has to remember where a version or an address stands, nor what a release must be."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

from messaging import SOURCES, read_source

FILES = ("AUTHORS", "MAINTAINERS", "NEWS", "README.md", "configure.ac", "debian", "packaging", "systemd", "doc", "bindings/python/pyproject.toml", "bindings/rust/Cargo.toml",
         "bindings/rust/Cargo.lock", "include/xenmsg.h", "tests/integration/test_printed.py", "scripts/release")
VERSION, = re.findall(r"^AC_INIT\(\[xenmsg\], \[([^]]*)\]", read_source("configure.ac"), re.M)


@pytest.mark.skipif(not os.path.exists(os.path.join(SOURCES, ".git")), reason="git knows which files there are")
def test_every_file_is_in_the_tarball():
    """Named by itself, NAME.c and NAME.in perhaps as NAME, by a wildcard, or with a folder of which no file is named."""
    files = subprocess.run(["git", "ls-files"], cwd=SOURCES, capture_output=True, text=True, check=True).stdout.splitlines()
    lists = "".join(read_source(file) for file in files if file.endswith(".mk") or file in ("Makefile.am", "configure.ac"))
    words = {word.removesuffix("/") for word in re.findall(r"[\w.+@/-]+", lists)} | {"COPYING", "Makefile.am", "configure.ac"}
    wildcards = re.findall(r"\$\(wildcard \$\(srcdir\)/([^)]*)\)", lists)
    unnamed = [file for file in files if not {file, re.sub(r"\.(c|in)$", "", file)} & words
               and not any(pathlib.PurePath(file).match(each) for each in wildcards)]
    apart = {parent for file in set(files) - set(unnamed) for parent in pathlib.PurePath(file).parents}
    whole = {pathlib.PurePath(word) for word in words} - apart
    missing = [file for file in unnamed if file[0] != "." and not whole & set(pathlib.PurePath(file).parents)]
    assert len(files) > 1000 and missing == []


class Tree:
    """A copy of what has a version or an address."""

    def __init__(self, path):
        self.path, self.environment = path, dict(os.environ)
        for name in FILES:
            source, target = pathlib.Path(SOURCES) / name, path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)

    def release(self, *words):
        return subprocess.run([self.path / "scripts/release", *words], capture_output=True, text=True, check=False, env=self.environment)

    def succeeds(self, *words):
        done = self.release(*words)
        assert done.returncode == 0, done.stderr

    def fails(self, *words):
        """What it says against it."""
        done = self.release(*words)
        assert done.returncode == 1, done
        return [line.removeprefix("release: ") for line in done.stderr.splitlines()]

    def edit(self, name, before, after):
        text = (self.path / name).read_text()
        assert before in text
        (self.path / name).write_text(text.replace(before, after, 1))

    def git(self, *words):
        return subprocess.run(["git", *words], cwd=self.path, env=self.environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(name="tree")
def copied_tree(tmp_path):
    tree = Tree(tmp_path / "xenmsg")
    tree.succeeds("check")
    return tree


def test_each_file_with_another_version_is_named(tree):
    for name, line in (("debian/changelog", 1), ("packaging/xenmsg.spec", None), ("packaging/local.mk", None), ("bindings/python/pyproject.toml", None),
                       ("bindings/rust/Cargo.lock", 7), ("doc/man3/xenmsg_send.3", 2)):
        tree.edit(name, VERSION, "9.8.7")
        said, = tree.fails("check")
        assert re.fullmatch(rf"{name}:{line or '[0-9]+'} says 9\.8\.7, not {re.escape(VERSION)}", said), said
        tree.edit(name, "9.8.7", VERSION)
    tree.edit("configure.ac", VERSION, "9.8.7")
    assert f"debian/changelog:1 says {VERSION}, not 9.8.7" in tree.fails("check")


def test_a_version_is_written_into_all_files(tree):
    tree.succeeds("set", "9.8.7")
    tree.succeeds("check")
    assert (tree.path / "packaging/yocto/xenmsg_9.8.7.bb").exists()
    assert "#define XENMSG_VERSION 0x090807u" in (tree.path / "include/xenmsg.h").read_text()
    assert "librust-xenmsg-9.8-dev" in (tree.path / "debian/control").read_text()
    assert tree.fails("set", "9.8") == ["9.8 is no version: three numbers"]
    # what has been released keeps its entries
    tree.edit("debian/changelog", "UNRELEASED", "unstable")
    tree.succeeds("set", "9.8.8")
    tree.succeeds("check")
    for name in ("debian/changelog", "packaging/xenmsg.spec"):
        text = (tree.path / name).read_text()
        assert 0 <= text.index("9.8.8") < text.index("9.8.7"), name


def test_an_address_is_written_into_all_files(tree):
    tree.edit("MAINTAINERS", "developers@", "somebody@")
    tree.edit("MAINTAINERS", "security@", "holes@")
    tree.edit("MAINTAINERS", "invalid/bugs", "invalid/issues")
    assert {line.split(":")[0] for line in tree.fails("check")} >= {"debian/control", "debian/copyright", "packaging/xenmsg.spec", "doc/security.md",
                                                                   "AUTHORS", "configure.ac", "bindings/python/pyproject.toml", "doc/xenmsg.1"}
    tree.succeeds("addresses")
    tree.succeeds("check")
    assert "<holes@xenmsg.invalid>" in (tree.path / "doc/security.md").read_text()


@pytest.fixture(name="signer")
def repository_with_a_key(tree):
    """The tree as a repository, and keys of its own, the second of which is git's, in a short path: gpg's socket is there."""
    home = tempfile.mkdtemp(prefix="gpg-")
    tree.environment.update(GNUPGHOME=home, GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null")
    for name in ("Any Body <anybody@xenmsg.test>", "Some Body <somebody@xenmsg.test>"):
        subprocess.run(["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", name, "ed25519", "sign"],
                       env=tree.environment, check=True, capture_output=True)
    tree.git("init", "--quiet")
    for name, value in (("user.name", "Some Body"), ("user.email", "somebody@xenmsg.test"), ("commit.gpgsign", "false")):
        tree.git("config", name, value)
    yield tree
    subprocess.run(["gpgconf", "--kill", "all"], env=tree.environment, check=False)
    shutil.rmtree(home, ignore_errors=True)


def commit(tree):
    """All that there is, for which everything has passed."""
    (tree.path / ".gitignore").write_text("/build-check\n")
    tree.git("add", "--all")
    tree.git("commit", "--quiet", "--message", "as it is")
    (tree.path / "build-check").mkdir(exist_ok=True)
    (tree.path / "build-check/passed").write_text(tree.git("rev-parse", "HEAD") + "\n")


def give_key(tree, name):
    """MAINTAINERS has its fingerprint."""
    said = subprocess.run(["gpg", "--with-colons", "--list-keys", name], env=tree.environment, capture_output=True, text=True, check=True).stdout
    path = tree.path / "MAINTAINERS"
    path.write_text(re.sub("^key .*", "key        " + re.search(r"^fpr:+(\w+):", said, re.M)[1], path.read_text(), flags=re.M))


HAS_KEYS = pytest.mark.skipif(not shutil.which("gpg") or not shutil.which("git"), reason="gpg or git isn't there")


def keys_in(tree, path):
    said = subprocess.run(["gpg", "--with-colons", "--show-keys", path], env=tree.environment, capture_output=True, text=True, check=True).stdout
    return re.findall(r"^uid:.* <(\w+)@xenmsg\.test>", said, re.M)


@HAS_KEYS
def test_one_key_is_published_which_made_the_signature(signer, tmp_path):
    """Since apt trusts all that it's given."""
    tree, folder = signer, tmp_path / "made"
    folder.mkdir()
    (folder / "xenmsg.tar.xz").touch()
    for name in ("somebody", "anybody"):
        assert re.fullmatch(r"the key is [0-9A-F]{40}, of which MAINTAINERS says nothing: key \w+", tree.fails("sign", str(folder))[0])
        give_key(tree, name)
        tree.succeeds("sign", str(folder))
        assert keys_in(tree, folder / "key.asc") == [name]
        tree.git("config", "user.signingkey", "anybody@xenmsg.test")
    # asked for before anything is made
    tree.git("config", "user.signingkey", "nobody@xenmsg.test")
    assert tree.fails("make", str(tmp_path / "more"))[-1].startswith("gpg can't sign with the key of nobody@xenmsg.test: ")
    assert not (tmp_path / "more").exists()


@HAS_KEYS
def test_a_tag_is_signed_of_what_is_ready_and_of_nothing_else(signer):
    tree = signer
    for name, unreleased, released in (("NEWS", f"xenmsg {VERSION} (not released)\n", f"xenmsg {VERSION}\n"), ("debian/changelog", "UNRELEASED", "unstable")):
        if unreleased in (tree.path / name).read_text():
            tree.edit(name, unreleased, released)
    text = (tree.path / "MAINTAINERS").read_text()
    commit(tree)
    settings = [line.split(None, 1) for line in text.splitlines() if line[0] != "#"]
    assert {f"{name} in MAINTAINERS is an example: {value}" for name, value in settings} <= set(tree.fails("tag"))
    (tree.path / "MAINTAINERS").write_text(text.replace("xenmsg.invalid", "xenmsg.test").replace("security@", "holes@"))
    give_key(tree, "somebody")
    tree.succeeds("addresses")
    assert keys_in(tree, tree.path / "debian/upstream/signing-key.asc") == ["somebody"]
    commit(tree)
    for name, before, after, says in (("NEWS", f"xenmsg {VERSION}\n", f"xenmsg {VERSION} (not released)\n", f'NEWS doesn\'t begin with "xenmsg {VERSION}" alone'),
                                      ("debian/changelog", "unstable", "UNRELEASED", "debian/changelog says UNRELEASED"),
                                      ("MAINTAINERS", "holes@xenmsg.test", "holes@xenmsg.example", "security in MAINTAINERS is an example: holes@xenmsg.example"),
                                      ("bindings/python/pyproject.toml", VERSION, "9.8.7", f"bindings/python/pyproject.toml:8 says 9.8.7, not {VERSION}")):
        tree.edit(name, before, after)
        if name == "MAINTAINERS":
            tree.succeeds("addresses")
        commit(tree)
        assert tree.fails("tag") == [says]
        tree.git("revert", "--no-edit", "HEAD")
        assert tree.fails("tag") == ["scripts/check --all hasn't passed for this commit"]
    (tree.path / "build-check/passed").write_text(tree.git("rev-parse", "HEAD"))
    (tree.path / "more").touch()
    assert tree.fails("tag") == ["there are changes that aren't committed"]
    (tree.path / "more").unlink()
    tree.succeeds("tag")
    assert tree.git("tag", "--list") == f"v{VERSION}"
    tree.git("verify-tag", f"v{VERSION}")
    assert tree.fails("tag") == [f"the tag v{VERSION} is there already"]
