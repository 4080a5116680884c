"""What the emulated network promises. All bounds are from below: a busy machine makes a network slower, never faster."""

import pathlib
import signal
import subprocess
import sys
import unittest

from with_network import Network, NoRights

DELAY_MS, RATE_GBIT = 2, 0.2
BULK = 1 << 20
HERE = pathlib.Path(__file__).resolve().parent

# Sends back what it gets, message by message: sizes in, sizes out.
SERVER = """
import socket, sys
listener = socket.create_server((sys.argv[1], 7000))
print("listening", flush=True)
connection = listener.accept()[0]
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
stream = connection.makefile("rb")
while size := int.from_bytes(stream.read(4), "little"):
    data = stream.read(size)
    connection.sendall(data[::-1] if size < 100 else data[:1])
"""
CLIENT = f"""
import socket, sys, time
connection = socket.create_connection((sys.argv[1], 7000))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
def exchange(data, answer):
    start = time.monotonic()
    connection.sendall(len(data).to_bytes(4, "little") + data)
    got = b""
    while len(got) < len(answer):
        got += connection.recv(len(answer) - len(got))
    assert got == answer
    return time.monotonic() - start
print(min(exchange(b"ab", b"ba") for _ in range(20)), exchange(b"x" * {BULK}, b"x"))
connection.sendall(bytes(4))
"""


def namespaces():
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout


class NetworkTest(unittest.TestCase):
    def setUp(self):
        try:
            with Network(["probe"], 0, 1):
                pass
        except (NoRights, FileNotFoundError) as error:
            self.skipTest(f"no emulated network here: {error}")

    def test_messages_take_their_time(self):
        with Network(["a", "b", "c"], DELAY_MS, RATE_GBIT) as network:
            server = subprocess.Popen([*network.prefix("c"), sys.executable, "-c", SERVER, network.address("c")],
                                      stdout=subprocess.PIPE, text=True)
            self.addCleanup(server.stdout.close)
            self.addCleanup(server.kill)
            self.assertEqual(server.stdout.readline(), "listening\n")
            client = subprocess.run([*network.prefix("a"), sys.executable, "-c", CLIENT, network.address("c")],
                                    capture_output=True, text=True, timeout=120)
            self.assertEqual(client.returncode, 0, client.stderr)
            self.assertEqual(server.wait(60), 0)
            fastest, bulk = map(float, client.stdout.split())
        self.assertGreaterEqual(fastest, 2 * DELAY_MS / 1e3)
        self.assertGreaterEqual(bulk, BULK * 8 / (RATE_GBIT * 1e9) + 2 * DELAY_MS / 1e3)

    def test_nothing_is_left_when_it_ends_or_is_interrupted(self):
        with Network(["a", "b"], 0, 1) as network:
            self.assertIn(network.namespace("a"), namespaces())
        self.assertNotIn(network.namespace("a"), namespaces())
        for signum in (signal.SIGINT, signal.SIGTERM):
            command = subprocess.Popen([sys.executable, HERE / "with_network.py", "--nodes", "a,b", "--", sys.executable, "-c",
                                        "print('ready', flush=True); input()"],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.addCleanup(command.stdout.close)
            self.addCleanup(command.stdin.close)
            self.assertEqual(command.stdout.readline(), "ready\n")
            self.assertIn(f"tandem-{command.pid}-a", namespaces())
            command.send_signal(signum)
            self.assertEqual(command.wait(60), 130)
            self.assertNotIn(f"tandem-{command.pid}-", namespaces())

    def test_command_gets_prefixes_and_its_exit_status_is_kept(self):
        done = subprocess.run([sys.executable, HERE / "with_network.py", "--nodes", "x,y", "--", "sh", "-c",
                               "$NODE_Y ip addr show to $ADDRESS_Y; exit 5"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 5, done.stderr)
        self.assertIn("inet 10.213.78.2/32", done.stdout)

    def test_nonsense_is_refused(self):
        for nodes, delay, rate in ((["a", "a"], 0, 1), (["a b"], 0, 1), ([], 0, 1), (["a"], -1, 1), (["a"], 0, 0)):
            with self.assertRaises(ValueError):
                Network(nodes, delay, rate)


def main():
    result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromTestCase(NetworkTest))
    if not result.wasSuccessful():
        sys.exit(1)
    if len(result.skipped) == result.testsRun:
        sys.exit(77)


main()
