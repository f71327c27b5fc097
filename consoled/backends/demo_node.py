"""A compute node, simulated: firmware, boot menu, kernel, services, login, panic, SysRq, power.

Its shell is in `demo_shell`.  `demo.DemoBackend` makes one for each console of the role `node` or `flaky`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from random import Random
from typing import Any

from consoled.backends.demo_machine import Ask, Instead, Interrupted, Machine, Press, Script, Step
from consoled.backends.demo_shell import BUILD, COMMAND_LINE, RELEASE, shell

MENU_SECONDS = 3
LOG_LENGTH = 256
"""Messages that the kernel keeps for `dmesg`."""
REBOOT_SECONDS = 10
SYSRQ_SECONDS = 5.0
"""How long after a break a key is a SysRq command (as in Linux, drivers/tty/serial)."""

_KERNEL = (
    f"Linux version {RELEASE} (debian-kernel@lists.debian.org) {BUILD}",
    f"Command line: {COMMAND_LINE}",
    "BIOS-provided physical RAM map:",
    "BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable",
    "BIOS-e820: [mem 0x0000000000100000-0x000000007fffffff] usable",
    "BIOS-e820: [mem 0x0000000100000000-0x000000207fffffff] usable",
    "NX (Execute Disable) protection: active",
    "SMBIOS 3.3.0 present.",
    "DMI: consoled demo node, BIOS 1.4.2 03/01/2024",
    "tsc: Detected 2450.000 MHz processor",
    "ACPI: RSDP 0x000000007FBFA014 000024 (v02 DEMO  )",
    "Zone ranges:",
    "  DMA      [mem 0x0000000000001000-0x0000000000ffffff]",
    "  Normal   [mem 0x0000000100000000-0x000000207fffffff]",
    "smpboot: Allowing 64 CPUs, 0 hotplug CPUs",
    "Kernel/User page tables isolation: disabled",
    "SLUB: HWalign=64, Order=0-3, MinObjects=0, CPUs=64, Nodes=4",
    "rcu: Hierarchical RCU implementation.",
    "Console: colour dummy device 80x25",
    "printk: console [ttyS0] enabled",
    "smp: Bringing up secondary CPUs ...",
    "smp: Brought up 4 nodes, 64 CPUs",
    "devtmpfs: initialized",
    "NET: Registered PF_NETLINK/PF_ROUTE protocol family",
    "PCI: Using configuration type 1 for base access",
    "SCSI subsystem initialized",
    "clocksource: Switched to clocksource tsc",
    "NET: Registered PF_INET protocol family",
    "Trying to unpack rootfs image as initramfs...",
    "Freeing initrd memory: 58824K",
    "Serial: 8250/16550 driver, 4 ports, IRQ sharing enabled",
    "00:03: ttyS0 at I/O 0x3f8 (irq = 4, base_baud = 115200) is a 16550A",
    "nvme nvme0: pci function 0000:41:00.0",
    "nvme nvme0: 32/0/0 default/read/poll queues",
    " nvme0n1: p1 p2 p3",
    "mlx5_core 0000:21:00.0: firmware version: 22.36.1010",
    "mlx5_core 0000:21:00.0 hsn0: Link up",
    "EXT4-fs (nvme0n1p2): mounted filesystem with ordered data mode. Quota mode: none.",
    "systemd[1]: systemd 252.22-1~deb12u1 running in system mode",
    "systemd[1]: Detected architecture x86-64.",
)
_SERVICES = (
    "Reached target local-fs.target - Local File Systems.",
    "Started systemd-journald.service - Journal Service.",
    "Started systemd-udevd.service - Rule-based Manager for Device Events and Files.",
    "Finished systemd-sysctl.service - Apply Kernel Variables.",
    "Reached target network.target - Network.",
    "Started chronyd.service - NTP client/server.",
    "Started munge.service - MUNGE authentication service.",
    "Mounted scratch.mount - /scratch.",
    "Started slurmd.service - Slurm node daemon.",
    "Started ssh.service - OpenBSD Secure Shell server.",
    "Started serial-getty@ttyS0.service - Serial Getty on ttyS0.",
    "Reached target multi-user.target - Multi-User System.",
)
_TRACE = """\
Kernel panic - not syncing: sysrq triggered crash
CPU: {cpu} PID: {pid} Comm: {comm} Not tainted {release} #1 Debian 6.1.76-1
Hardware name: consoled demo node, BIOS 1.4.2 03/01/2024
Call Trace:
 <TASK>
 dump_stack_lvl+0x44/0x5c
 panic+0x118/0x2ed
 sysrq_handle_crash+0x16/0x20
 __handle_sysrq.cold+0x7b/0x118
 {entry}
 entry_SYSCALL_64_after_hwframe+0x64/0xce
 </TASK>
Kernel Offset: 0x2c600000 from 0xffffffff81000000
Rebooting in {seconds} seconds..
"""
ISSUE = """
Debian GNU/Linux 12 {name} ttyS0

This node is simulated by consoled.  login: root, password: demo (or any other).

"""


class Node(Machine):
    """A node with a Linux on it.  It keeps what it is (its memory size, its address) over reboots."""

    def __init__(self, now: float, rate: float, name: str, random: Random) -> None:
        self.name = name
        self.random = random
        self.mac = "02:00:" + ":".join(f"{random.randrange(256):02x}" for _ in range(4))
        self.log: deque[tuple[float, str]] = deque(maxlen=LOG_LENGTH)
        """The kernel's messages since it started, with the seconds after its start."""
        self.kernel_since: float | None = None
        """When the kernel started; None while there is none (firmware, panic, power off)."""
        self._off = False
        self._sysrq_until: float | None = None
        super().__init__(now, rate)

    def main(self) -> Script:
        self.kernel_since = None
        yield from self._firmware()
        yield from self._menu()
        yield from self._kernel()
        yield from self._services()
        self.tty = True
        while True:
            try:
                user = yield from self._login()
                yield from shell(self, user)
            except (Interrupted, EOFError):
                pass  # the getty starts anew

    # ------------------------------------------------------------------------------------------- how it ends

    def panic(self, comm: str) -> Script:
        """Crash, on behalf of the process `comm`, and start again."""
        for line in ("sysrq: Trigger a crash", *self._trace(comm)):
            yield self.printk(line)
        self.kernel_since = None
        yield REBOOT_SECONDS
        yield Instead(self.main())

    def reboot(self) -> Script:
        yield from self._stop()
        yield self.printk("reboot: Restarting system")
        yield Instead(self.main())

    def power_off(self) -> Script:
        yield from self._stop()
        yield self.printk("reboot: Power down")
        self.kernel_since, self._off = None, True
        yield f"\n({self.name} is off: a break or Enter switches it on)\n"
        while (yield Press()) != b"\n":
            pass
        yield Instead(self._power_on())

    def _power_on(self) -> Script:
        self._off = False
        yield Instead(self.main())

    def _stop(self) -> Script:
        for line in reversed(_SERVICES):
            state, unit = line.split(" ", 1)
            if state == "Started":
                yield f"[  OK  ] Stopped {unit}\n"
                yield self.random.uniform(0.01, 0.1)

    def _trace(self, comm: str) -> list[str]:
        entry = "write_sysrq_trigger+0x24/0x40" if comm != "swapper/0" else "serial8250_interrupt+0x5b/0xb0"
        pid = 0 if comm == "swapper/0" else self.random.randrange(1000, 9000)
        cpu = self.random.randrange(64)
        return _TRACE.format(
            release=RELEASE, cpu=cpu, pid=pid, comm=comm, entry=entry, seconds=REBOOT_SECONDS
        ).splitlines()

    # ------------------------------------------------------------------------------------------- a break

    def broke(self, now: float) -> None:
        super().broke(now)
        if self._off:
            self.become(self._power_on())
        elif self.kernel_since is not None:
            # As in Linux, a second break takes the first one back.
            self._sysrq_until = None if self._sysrq_until is not None else now + SYSRQ_SECONDS

    def typed(self, now: float, data: bytes) -> bool:
        until, self._sysrq_until = self._sysrq_until, None
        if until is not None and now < until:
            self._catch_up(now)
            self._sysrq(data[:1])
            data = data[1:]
        return super().typed(now, data)

    def _sysrq(self, key: bytes) -> None:
        match key:
            case b"c":
                self.become(self.panic("swapper/0"))
            case b"b":
                self.blurt(self.printk("sysrq: Resetting"))
                self.become(self.main())
            case b"s":
                self.blurt(self.printk("sysrq: Emergency Sync"))
            case _:
                self.blurt(self.printk("sysrq: HELP : reboot(b) crash(c) sync(s) show-this-help(h)"))

    # ------------------------------------------------------------------------------------------- how it begins

    def printk(self, text: str) -> str:
        """Note a kernel message; the line that the console shows for it."""
        at = self.now - (self.now if self.kernel_since is None else self.kernel_since)
        self.log.append((at, text))
        return f"[{at:12.6f}] {text}\n"

    def _firmware(self) -> Script:
        yield "\nDemo BIOS 1.4.2  (C) consoled\n"
        yield self.random.uniform(0.3, 1.5)
        yield "CPU: 64 cores, 2.45 GHz\n"
        for tested in range(16, 129, 16):
            yield f"\rMemory test: {tested:3} GiB"
            yield self.random.uniform(0.1, 0.2)
        yield f" OK\nNVMe 0: DEMO-SSD 960 GB\nNIC  0: {self.mac}\nBooting from NVMe 0 ...\n"
        yield self.random.uniform(0.2, 0.8)

    def _menu(self) -> Script:
        yield (
            "\n                        GNU GRUB  version 2.06\n\n"
            " +--------------------------------------------------------------------------+\n"
            " |*Debian GNU/Linux                                                         |\n"
            " | Advanced options for Debian GNU/Linux                                    |\n"
            " +--------------------------------------------------------------------------+\n\n"
        )
        left = MENU_SECONDS
        while left:
            yield f"\rThe highlighted entry will be executed automatically in {left}s (Enter: now)."
            second = self.now + 1
            while key := (yield Press(max(0.0, second - self.now))):
                if key == b"\n":
                    left = 1
                    break
            left -= 1
        yield "\n\nLoading Linux " + RELEASE + " ...\nLoading initial ramdisk ...\n"
        yield self.random.uniform(0.5, 1.0)

    def _kernel(self) -> Script:
        self.kernel_since = self.now
        self.log.clear()
        for line in _KERNEL:
            yield self.printk(line)
            yield self.random.expovariate(10)

    def _services(self) -> Script:
        yield "\nWelcome to Debian GNU/Linux 12 (bookworm)!\n\n"
        for line in _SERVICES:
            yield f"[  OK  ] {line}\n"
            yield self.random.expovariate(5)

    def _login(self) -> Generator[Step, Any, str]:
        yield ISSUE.format(name=self.name)
        user = ""
        while not user:
            yield f"{self.name} login: "
            line: bytes = yield Ask()
            user = "".join(filter(str.isprintable, line.decode(errors="replace"))).strip()[:32]
        yield "Password: "
        yield Ask(echo=False)
        return user
