"""A Debian in a directory that runs under a systemd of its own, in namespaces."""

import os
import pathlib
import subprocess
import tempfile
import time

from root import ENVIRONMENT

BOOT = pathlib.Path(__file__).with_name("boot")
# They are about the machine, which is not this systemd's, or about a console, which it does not have.
MASKED = ["systemd-modules-load.service", "systemd-sysctl.service", "systemd-udevd.service",
          "systemd-logind.service", "systemd-remount-fs.service", "console-getty.service", "getty.target",
          "dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount",
          "sys-kernel-config.mount", "sys-fs-fuse-connections.mount", "systemd-timesyncd.service",
          "systemd-networkd.service", "systemd-resolved.service", "tmp.mount"]


class Booted:
    """A context manager: boots, and at the end kills every process and removes the cgroup."""

    def __init__(self, root):
        self.root = root

    def __enter__(self):
        for unit in MASKED:
            link = self.root / f"etc/systemd/system/{unit}"
            if not link.is_symlink():
                link.symlink_to("/dev/null")
        self.mounted = tempfile.TemporaryDirectory()
        subprocess.run(["mount", "-t", "cgroup2", "cgroup2", self.mounted.name], check=True)
        self.group = pathlib.Path(self.mounted.name, f"backpropd-package-test.{os.getpid()}")
        self.group.mkdir()
        enter = f"echo $$ >'{self.group}/cgroup.procs' && exec \"$@\""
        self.log = open(self.root.path.with_suffix(".boot.log"), "w+")
        self.process = subprocess.Popen(
            ["sh", "-c", enter, "sh", "unshare", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--fork",
             "--kill-child", BOOT, self.root.path],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        try:
            self.wait_until_running()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if (self.group / "cgroup.kill").exists():
            (self.group / "cgroup.kill").write_text("1")
        self.process.kill()
        self.process.wait()
        self.log.close()
        deadline = time.monotonic() + 10
        while "populated 1" in (self.group / "cgroup.events").read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        for folder, _, _ in os.walk(self.group, topdown=False):
            os.rmdir(folder)
        subprocess.run(["umount", self.mounted.name], check=True)
        self.mounted.cleanup()

    def init(self):
        """The process id of its systemd, seen from outside."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return children.split()[0] if children else None

    def wait_until_running(self):
        deadline = time.monotonic() + 60
        while True:
            if self.init() is not None:
                # "degraded" is an end of the boot as well: a unit of Debian's has failed here.
                state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
                if state in ("running", "degraded"):
                    return
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.log.seek(0)
                raise AssertionError(f"systemd did not start:\n{self.log.read()}")
            time.sleep(0.1)

    def run(self, *command, check=True, timeout=120):
        done = subprocess.run(
            ["nsenter", "--target", self.init(), "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wd",
             "--", *map(str, command)],
            env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}\n"
                                 f"{self.journal()}")
        return done

    def show(self, name):
        """A property of the unit backpropd.service."""
        return self.run("systemctl", "show", "--property", name, "--value", "backpropd").stdout.strip()

    def journal(self):
        return self.run("journalctl", "--no-pager", "--output", "cat", "--unit", "backpropd", check=False).stdout
