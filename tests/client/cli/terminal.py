"""A terminal for tests: a pty with a size, and the text that is visible on it."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

from harness import BIN


class Screen:
    """The lines of a terminal of some width: carriage return, newline, erase to the end of the line, and wrapping as
    terminals do when a character does not fit."""

    def __init__(self, width):
        self.width = width
        self.lines = [""]
        self.column = 0
        self.drawn = ""  # text since the start of the current line, including wraps
        self.frames = []  # what was drawn each time the line was restarted
        self.wrapped = 0
        self.begun = ""  # an incomplete escape sequence

    def feed(self, text):
        text, self.begun = self.begun + text, ""
        i = 0
        while i < len(text):
            c = text[i]
            if text[i:] in ("\x1b", "\x1b["):
                self.begun = text[i:]
                return
            if text.startswith("\x1b[K", i):
                self.lines[-1] = self.lines[-1][:self.column]
                i += 3
                continue
            assert c != "\x1b", f"an escape sequence that this terminal does not know: {text[i:i + 8]!r}"
            if c == "\r":
                self.frames.append(self.drawn)
                self.drawn = ""
                self.column = 0
            elif c == "\n":
                self.lines.append("")
                self.drawn = ""
                self.column = 0
            else:
                self.drawn += c
                if self.column >= self.width:
                    self.wrapped += 1
                    self.lines.append("")
                    self.column = 0
                line = self.lines[-1]
                self.lines[-1] = line[:self.column] + c + line[self.column + 1:]
                self.column += 1
            i += 1


class Grid:
    """The cells of a terminal that a program draws on as a whole. It must not scroll or wrap."""

    def __init__(self, width, height):
        self.width = width
        self.height = height
        self.rows = [""]
        self.row = self.column = 0
        self.alternate = False  # on the alternate screen
        self.cursor = True
        self.frames = []  # the rows each time the program returned to the first cell of the alternate screen
        self.begun = ""

    @property
    def drawn(self):
        return [row.rstrip() for row in self.rows]

    def escape(self, code):
        if code == "H":
            self.frames.append(self.drawn)
            self.row = self.column = 0
        elif code == "K":
            self.rows[self.row] = self.rows[self.row][:self.column]
        elif code == "J":
            self.rows[self.row] = self.rows[self.row][:self.column]
            del self.rows[self.row + 1:]
        elif code in ("?1049h", "?1049l"):
            self.alternate = code.endswith("h")
            self.rows, self.row, self.column = [""], 0, 0
        elif code in ("?25h", "?25l"):
            self.cursor = code.endswith("h")
        else:
            raise AssertionError(f"an escape sequence that this terminal does not know: {code!r}")

    def feed(self, text):
        text, self.begun = self.begun + text, ""
        i = 0
        while i < len(text):
            c = text[i]
            if c == "\x1b":
                found = re.match(r"\x1b\[([?0-9;]*[A-Za-z])", text[i:])
                if found is None:
                    assert re.fullmatch(r"\x1b(\[[?0-9;]*)?", text[i:]), repr(text[i:i + 8])
                    self.begun = text[i:]
                    return
                self.escape(found[1])
                i += found.end()
                continue
            if c == "\r":
                self.column = 0
            elif c == "\n":
                self.row += 1
                assert not self.alternate or self.row < self.height, "the screen scrolls"
                if self.row == len(self.rows):
                    self.rows.append("")
            else:
                assert not self.alternate or self.column < self.width, "a line wraps"
                row = self.rows[self.row].ljust(self.column)
                self.rows[self.row] = row[:self.column] + c + row[self.column + 1:]
                self.column += 1
            i += 1


class Terminal:
    """A program on a pty of `width` columns; `stdin` and `stderr` are on it too if `whole`. With a `height` its screen
    is a Grid."""

    def __init__(self, command, width, env=None, whole=False, cwd=None, height=None):
        self.primary, secondary = pty.openpty()
        self.height = height
        self.resize(width)
        attributes = termios.tcgetattr(secondary)
        attributes[1] &= ~termios.OPOST  # newlines as written
        termios.tcsetattr(secondary, termios.TCSANOW, attributes)
        other = secondary if whole else subprocess.PIPE
        environment = {**os.environ, "TERM": "xterm", **(env or {})}
        self.process = subprocess.Popen(command, stdin=secondary if whole else None, stdout=secondary, stderr=other,
                                        env=environment, cwd=cwd, text=not whole)
        os.close(secondary)
        self.screen = Screen(width) if height is None else Grid(width, height)
        self.undecoded = b""

    def resize(self, width):
        fcntl.ioctl(self.primary, termios.TIOCSWINSZ, struct.pack("HHHH", self.height or 24, width, 0, 0))
        if hasattr(self, "screen"):
            self.screen.width = width

    def write(self, text):
        os.write(self.primary, text.encode())

    def read_once(self, timeout):
        """Returns False at the end."""
        ready, _, _ = select.select([self.primary], [], [], timeout)
        if not ready:
            raise TimeoutError(f"nothing was printed; so far {vars(self.screen)}")
        try:
            piece = os.read(self.primary, 65536)
        except OSError:
            return False
        if not piece:
            return False
        self.undecoded += piece
        try:
            text, self.undecoded = self.undecoded.decode(), b""
        except UnicodeDecodeError as cut:
            text, self.undecoded = self.undecoded[:cut.start].decode(), self.undecoded[cut.start:]
        self.screen.feed(text)
        return True

    def read_until(self, done, timeout=60):
        deadline = time.monotonic() + timeout
        while not done(self.screen):
            if not self.read_once(max(deadline - time.monotonic(), 0.01)):
                raise EOFError(f"the program ended first; {vars(self.screen)}")

    def finish(self, timeout=60):
        while self.read_once(timeout):
            pass
        self.screen.frames.append(self.screen.drawn)
        return self.process.wait(timeout=timeout)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()
        os.close(self.primary)


def backprop(server, *arguments):
    return [str(BIN / "backprop"), "--server", server.address, *map(str, arguments)]
