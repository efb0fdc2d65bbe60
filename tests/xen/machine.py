# SPDX-License-Identifier: LGPL-2.1-or-later
"""The machines that QEMU emulates for tests/xen/run, and what Xen, Linux and the guests are told on each."""

# What both have. The memory of domain 0 is the same everywhere, so the tests meet the same room.
QEMU = ["-accel", "tcg,thread=multi,tb-size=512", "-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none", "-no-reboot"]
LINUX = "console=hvc0 nosoftlockup rdinit=/rig/init quiet loglevel=4 mitigations=off nokaslr random.trust_cpu=on panic=5"
XEN = "loglvl=warning guest_loglvl=warning dom0_max_vcpus=1"
MIB = 1 << 20


class Amd64:
    """A PC."""

    qemu = "qemu-system-x86_64"
    triplet = "x86_64-linux-gnu"
    guests = "pv"
    xsm = [""]  # Debian's is built without it
    # eager-fpu: with lazy switching, TCG corrupts AVX registers. The rest saves time or is of no use under emulation.
    xen = (f"console=com1 com1=115200,8n1 {XEN} spec-ctrl=no,eager-fpu=yes xpti=no pv-l1tf=false smap=0 smep=0 pcid=0 cpufreq=none "
           "watchdog=0 iommu=0 vga=text-80x25 dom0_mem=1200M,max:1200M")
    # rdrand: without it getrandom() blocks for seconds after the start. A PVH guest needs a CPU with virtualization.
    cpu_pv = "qemu64,+rdrand,+ssse3,+sse4.1,+sse4.2,+popcnt"
    cpu_pvh = "max,-rdtscp"
    cpu_both = cpu_pv + ",+svm,+npt,+nrip-save"  # of a host that runs a PVH guest beside PV ones

    def cpu(self, guests, also_pvh):
        return self.cpu_pvh if guests == "pvh" else self.cpu_both if also_pvh else self.cpu_pv

    def shared(self, tag, path):
        """A folder that Linux mounts by 9p."""
        return ["-virtfs", f"local,path={path},mount_tag={tag},security_model=none,id={tag}"]

    def boot_linux(self, image, initrd, linux):
        """Without Xen."""
        return ["-kernel", str(image / "linux"), "-initrd", str(initrd), "-append", linux.replace("hvc0", "ttyS0")]

    def boot(self, image, initrd, linux, xen, _memory):
        return ["-kernel", str(image / "xen"), "-append", f"{self.xen} {xen}", "-initrd", f"{image / 'linux'} {linux},{initrd}"]


class Arm64:
    """QEMU's own board. There is no PCI in domain 0."""

    qemu = "qemu-system-aarch64"
    triplet = "aarch64-linux-gnu"
    guests = "pvh"
    xsm = ["silo", "dummy"]  # as Debian has it, and without
    # Domain 0's memory is mapped 1:1, in large pieces: 1200 MiB leave it "48MB unallocated".
    xen = f"{XEN} bootscrub=0 dom0_mem=1024M"

    def cpu(self, _guests, _also_pvh):
        return "neoverse-n1"

    def shared(self, tag, path):
        return ["-fsdev", f"local,id={tag},path={path},security_model=none", "-device", f"virtio-9p-device,fsdev={tag},mount_tag={tag}"]

    def boot_linux(self, image, initrd, linux):
        """Without Xen."""
        return ["-M", "virt,gic-version=3", "-kernel", str(image / "linux"), "-initrd", str(initrd), "-append", linux.replace("hvc0", "ttyAMA0")]

    def boot(self, image, initrd, linux, xen, memory):
        # Xen lies at the beginning of the memory and the device tree behind it. Linux and its initial file system go to the top: in the
        # middle they leave no piece that is large enough for domain 0.
        top = 0x40000000 + memory * MIB
        return [
            "-M", "virt,virtualization=on,gic-version=3", "-kernel", str(image / "xen"), "-append", f"{self.xen} {xen}",
            "-device", f"guest-loader,addr={top - 320 * MIB:#x},kernel={image / 'linux'},bootargs={linux}",
            "-device", f"guest-loader,addr={top - 256 * MIB:#x},initrd={initrd}",
        ]  # fmt: skip


MACHINES = {"amd64": Amd64(), "arm64": Arm64()}
