#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A hook of libvirt that gives its Xen domains tags for the host's policy (xenmsg-policy(5), TAGS FROM THE TOOLSTACK).

To be copied to /etc/libvirt/hooks/libxl.d/50-xenmsg, or where libvirt is older than 6.5 to /etc/libvirt/hooks/libxl.
A domain's tags are in its configuration:

  virsh metadata www1 urn:xenmsg:host-policy --config --key xenmsg --set '<tags>web, intranet</tags>'

libvirt calls it when the domain runs already, a moment ago: `virsh start --paused` and `virsh resume` let it run later. If
the tags can't be given, the domain is ended.
"""

import subprocess
import sys
from typing import Optional
from xml.etree import ElementTree


def main(name: str, operation: str, step: str) -> Optional[str]:
    if (operation, step) != ("started", "begin"):
        return None
    domain = ElementTree.parse(sys.stdin.buffer).getroot()
    tags = domain.find("metadata/{urn:xenmsg:host-policy}tags")
    if tags is None:
        return None
    number = domain.get("id", "")
    if not number.isdecimal():
        return f"libvirt doesn't say which number {name} has"
    text = " ".join((tags.text or "").replace(",", " ").split())
    done = subprocess.run(["xenstore-write", f"/local/domain/{number}/xenmsg/tags", text], check=False)
    return f"the tags of {name} can't be written" if done.returncode else None


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit("usage: libvirt-hook.py NAME OPERATION STEP [EXTRA] <CONFIGURATION")
    sys.exit(main(*sys.argv[1:4]))
