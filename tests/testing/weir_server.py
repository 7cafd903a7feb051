"""`weir serve` as a child process, for tests and benchmarks in Python."""
import pathlib
import re
import subprocess


class WeirServer:
    """Serves a model on free loopback ports for as long as the `with` statement lasts."""

    def __init__(self, weir, model, *flags):
        self.weir = weir
        self._command = [weir, "serve", "--model", model, "--port", "0", "--metrics-port", "0", *map(str, flags)]

    def __enter__(self):
        self._log = []
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            self._log.append(line)
            if found := re.match(r"serving gRPC on (\S+)", line):
                self.address = found[1]
                return self
        self.process.wait()
        raise RuntimeError(f"weir serve ended with {self.process.returncode}: {''.join(self._log)}")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.stdout.read()
        self.process.wait()

    def command(self, command, *arguments):
        """The command line of a client command that calls this server."""
        return [self.weir, *command.split(), *map(str, arguments), "--server", self.address]

    def run(self, command, *arguments):
        """The standard output of a client command."""
        return subprocess.run(self.command(command, *arguments), stdout=subprocess.PIPE, text=True, check=True).stdout

    def resident_bytes(self):
        """Memory of the server and all its workers, {process id: bytes}."""
        return {pid: _resident_bytes(pid) for pid in [self.process.pid, *_children(self.process.pid)]}


def _children(pid):
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _resident_bytes(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024
