#!/usr/bin/env python3
"""An emulated network: hosts (network namespaces) on a switch with a delay and a rate.

    with Network(["a", "b", "c"], delay_ms=0.25, rate_gbit=1) as network:
        subprocess.run([*network.prefix("a"), "ping", "-c", "1", network.address("b")])

or, as a command, with the prefixes in NODE_A, NODE_B and the addresses in ADDRESS_A, ADDRESS_B:

    with_network.py --nodes a,b --delay-ms 0.25 --rate-gbit 1 -- sh -c '$NODE_A ping -c 1 $ADDRESS_B'

Each host has a TUN device whose packets a process of this program, the relay, carries over: the kernels at hand have no
netem. A packet leaves its host when the one before it has been sent at the host's rate, and arrives a delay later, or
when the receiving host's rate allows it. So a message of n bytes takes n / rate + delay and never less; what the relay
and the scheduler of this machine add comes on top. A host that sends faster finds its device's queue full, as with a
real card. Packets are large by default (9000 bytes), with which the relay takes half a core at a full Gbit/s; TCP starts
with a window that does not hold back a frame of 100 KB.

Needs the right to make namespaces and devices (CAP_NET_ADMIN and CAP_SYS_ADMIN, as root has them); NoRights says so.
Everything is gone when the context ends, also after Ctrl-C and SIGTERM.
"""

import argparse
import ctypes
import fcntl
import heapq
import os
import re
import select
import signal
import struct
import subprocess
import sys
import time

SUBNET = "10.213.78"
# Packets of a host that may wait for its rate: more, and its device is not read.
QUEUE_S = 0.002
READ_AT_ONCE = 16


class NoRights(Exception):
    pass


def ip(*arguments):
    done = subprocess.run(["ip", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        raise NoRights(f"ip {' '.join(map(str, arguments))}: {done.stderr.strip()} (it takes CAP_NET_ADMIN and CAP_SYS_ADMIN)")


def open_tun(name):
    """A TUN device without packet headers of its own; it is gone when the descriptor is closed."""
    tunsetiff, iff_tun, iff_no_pi = 0x400454CA, 0x0001, 0x1000
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, tunsetiff, struct.pack("16sH22x", name.encode(), iff_tun | iff_no_pi))
        except OSError:
            os.close(fd)
            raise
    except OSError as error:
        raise NoRights(f"/dev/net/tun: {error} (it takes CAP_NET_ADMIN)") from error
    return fd


class Relay:
    """Carries packets between the TUN devices `fds`; that of host n has the address SUBNET.(n + 1). Runs until it is killed."""

    def __init__(self, fds, delay_s, bytes_per_s):
        self.fds, self.delay, self.bytes_per_s = fds, delay_s, bytes_per_s
        self.sent = [0.0] * len(fds)      # when the last packet of a host has left it
        self.arrived = [0.0] * len(fds)   # when the last packet to a host has arrived
        self.flying = []                  # heap of (arrival, number, host, packet)
        self.number = 0

    def run(self):
        while True:
            now = time.monotonic()
            while self.flying and self.flying[0][0] <= now:
                _, _, host, packet = heapq.heappop(self.flying)
                self.write(host, packet)
                now = time.monotonic()
            # A host whose rate is used up is read again when what it sent has left.
            full = [sent - QUEUE_S for sent in self.sent if sent - now > QUEUE_S]
            ready = [fd for fd, sent in zip(self.fds, self.sent) if sent - now <= QUEUE_S]
            events = full + [self.flying[0][0]] if self.flying else full
            timeout = max(0.0, min(events) - time.monotonic()) if events else None
            for fd in select.select(ready, [], [], timeout)[0]:
                self.read(self.fds.index(fd))

    def read(self, source):
        for _ in range(READ_AT_ONCE):
            try:
                packet = os.read(self.fds[source], 65536)
            except BlockingIOError:
                return
            if len(packet) < 20 or packet[0] >> 4 != 4:
                continue  # IPv6 asks for neighbours and routers that are not here
            host = packet[19] - 1
            if packet[16:19] != bytes(map(int, SUBNET.split("."))) or not 0 <= host < len(self.fds):
                continue
            duration = len(packet) / self.bytes_per_s
            self.sent[source] = max(time.monotonic(), self.sent[source]) + duration
            self.arrived[host] = max(self.sent[source] + self.delay, self.arrived[host] + duration)
            self.number += 1
            heapq.heappush(self.flying, (self.arrived[host], self.number, host, packet))

    def write(self, host, packet):
        try:
            os.write(self.fds[host], packet)
        except OSError:
            pass  # the host went away, or has no room: lost, as on any network


def relay_in_child(fds, delay_s, bytes_per_s):
    """The relay in a process of its own, which ends with this one. Returns its id."""
    parent = os.getpid()
    child = os.fork()
    if child != 0:
        return child
    try:
        set_pdeathsig, set_timerslack = 1, 29
        libc = ctypes.CDLL(None)
        libc.prctl(set_pdeathsig, signal.SIGKILL, 0, 0, 0)
        libc.prctl(set_timerslack, 1, 0, 0, 0)  # nanoseconds; else a wait takes 50 us longer
        if os.getppid() != parent:
            os._exit(0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:  # a network waits for no program
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except PermissionError:
            pass
        Relay(fds, delay_s, bytes_per_s).run()
    finally:
        os._exit(1)


class Network:
    def __init__(self, nodes, delay_ms, rate_gbit, mtu=9000):
        if not 0 < len(nodes) < 255 or len(set(nodes)) != len(nodes) or not all(re.fullmatch(r"\w+", node) for node in nodes):
            raise ValueError(f"nodes are 1 to 254 different names of letters and digits, not {nodes}")
        if not delay_ms >= 0 or not rate_gbit > 0 or not 576 <= mtu <= 65000:
            raise ValueError(f"delay {delay_ms} ms must not be negative, rate {rate_gbit} Gbit/s positive, mtu {mtu} 576 to 65000")
        self.nodes, self.delay_s, self.bytes_per_s, self.mtu = list(nodes), delay_ms / 1e3, rate_gbit * 1e9 / 8, mtu
        self.namespaces, self.fds, self.relay = [], [], None

    def prefix(self, node):
        """What to put before a command that is to run on `node`."""
        return ["ip", "netns", "exec", self.namespace(node)]

    def address(self, node):
        return f"{SUBNET}.{self.nodes.index(node) + 1}"

    def namespace(self, node):
        return f"tandem-{os.getpid()}-{node}"

    def __enter__(self):
        try:
            for index, node in enumerate(self.nodes):
                self.add_host(node, f"td{os.getpid() % 10**7}x{index}")
            self.relay = relay_in_child(self.fds, self.delay_s, self.bytes_per_s)
        except BaseException:
            self.__exit__()
            raise
        return self

    def add_host(self, node, device):
        namespace = self.namespace(node)
        ip("netns", "add", namespace)
        self.namespaces.append(namespace)
        self.fds.append(open_tun(device))
        ip("link", "set", device, "mtu", self.mtu, "netns", namespace)
        ip("-n", namespace, "link", "set", "lo", "up")
        ip("-n", namespace, "link", "set", device, "up")
        ip("-n", namespace, "addr", "add", f"{self.address(node)}/32", "dev", device)
        ip("-n", namespace, "route", "add", f"{SUBNET}.0/24", "dev", device, "initcwnd", "64", "initrwnd", "64")

    def __exit__(self, *_):
        if self.relay is not None:
            os.kill(self.relay, signal.SIGKILL)
            os.waitpid(self.relay, 0)
            self.relay = None
        while self.fds:
            os.close(self.fds.pop())
        while self.namespaces:
            subprocess.run(["ip", "netns", "del", self.namespaces.pop()], capture_output=True)


def stop_at_sigterm():
    def leave(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, leave)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=lambda text: text.split(","), required=True)
    parser.add_argument("--delay-ms", type=float, default=0.25, help="one way")
    parser.add_argument("--rate-gbit", type=float, default=1.0, help="of each host, each way")
    parser.add_argument("--mtu", type=int, default=9000)
    parser.add_argument("command", nargs="+", help="after --")
    options = parser.parse_args()
    stop_at_sigterm()
    try:
        with Network(options.nodes, options.delay_ms, options.rate_gbit, options.mtu) as network:
            environment = dict(os.environ)
            for node in options.nodes:
                environment[f"NODE_{node.upper()}"] = " ".join(network.prefix(node))
                environment[f"ADDRESS_{node.upper()}"] = network.address(node)
            with subprocess.Popen(options.command, env=environment) as program:
                try:
                    return program.wait()
                except KeyboardInterrupt:
                    program.terminate()
                    program.wait()
                    return 130
    except (NoRights, ValueError) as error:
        print(f"with_network: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
