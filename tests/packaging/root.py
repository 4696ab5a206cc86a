"""A Debian in a directory, and the namespaces in which the package is tried. Needs root."""

import ctypes
import fcntl
import os
import pathlib
import shutil
import socket
import struct
import subprocess

CLONE_NEWNS = 0x20000
CLONE_NEWNET = 0x40000000
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
               "DEBIAN_FRONTEND": "noninteractive", "HOME": "/root"}


def own_namespaces():
    """From now on mounts of this process are its own, and its only network is a loopback device."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        up = struct.pack("16sH14x", b"lo", 0x1)  # ifreq: IFF_UP
        fcntl.ioctl(control, 0x8914, up)  # SIOCSIFFLAGS


class Root:
    def __init__(self, path):
        self.path = pathlib.Path(path)

    def __truediv__(self, inside):
        return self.path / str(inside).lstrip("/")

    def unpack(self, archive):
        self.remove()
        self.path.mkdir()
        subprocess.run(["tar", "-C", self.path, "-xf", archive], check=True)

    def copy_to(self, path):
        copy = Root(path)
        copy.remove()
        subprocess.run(["cp", "-a", self.path, path], check=True)
        return copy

    def remove(self):
        if self.path.is_mount() or (self / "proc/self").exists():
            raise RuntimeError(f"{self.path} is in use: something is mounted there")
        shutil.rmtree(self.path, ignore_errors=True)

    def command(self, *command, user=None):
        """The command that runs another one in this root, as root or `user:group`."""
        as_user = [f"--userspec={user}", "--groups="] if user else []
        return ["chroot", *as_user, str(self.path), *map(str, command)]

    def run(self, *command, user=None, check=True, timeout=300, env=None):
        done = subprocess.run(self.command(*command, user=user), env=ENVIRONMENT | (env or {}), text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=timeout)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}")
        return done

    def apt_install(self, *packages, cache):
        """Installs packages with their dependencies; downloads are kept in `cache`."""
        shutil.copy("/etc/resolv.conf", self / "etc/resolv.conf")
        mounts = [(cache, self / "var/cache/apt/archives"), ("/proc", self / "proc")]
        (pathlib.Path(cache) / "partial").mkdir(parents=True, exist_ok=True)
        (self / "etc/apt/apt.conf.d/99test").write_text('APT::Keep-Downloaded-Packages "true";\n'
                                                        'APT::Sandbox::User "root";\n')
        try:
            for source, target in mounts:
                subprocess.run(["mount", "--bind", source, target], check=True)
            self.run("apt-get", "update", "-qq", timeout=600)
            self.run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages, timeout=1200)
        finally:
            for _, target in reversed(mounts):
                subprocess.run(["umount", target], stderr=subprocess.DEVNULL)

    def mode(self, inside):
        """`0700 backpropd:backpropd`"""
        return self.run("stat", "-c", "%04a %U:%G", inside).stdout.strip()
