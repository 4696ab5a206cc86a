"""How a run is shown while it is under way: a bar of rich or tqdm, lines of text, or in a notebook
a loss curve that grows.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any, Callable, Union

from backprop import results
from backprop.errors import invalid

Display = Callable[[results.TrainingEvent], None]

REFRESH_SECONDS = 0.1
MAX_POINTS = 512  # of a curve; when it is full, every other point is dropped


@contextlib.contextmanager
def show(kind: Union[bool, str]) -> Iterator[Display]:
    """A display of the events of a run; closed when the block ends.

    kind: False, True (the best that fits), "bar", "rich", "tqdm", "text" or "notebook".
    """
    if kind is False or kind == "":
        yield lambda event: None
        return
    if kind is True:
        kind = "notebook" if in_notebook() else "bar"
    if kind == "bar":
        kind = next((name for name in ("rich", "tqdm") if _installed(name)), "text")
        if not sys.stderr.isatty():
            kind = "text"
    displays: dict[str, Callable[[], Any]] = {
        "rich": _Rich, "tqdm": _Tqdm, "text": _Text, "notebook": LossCurve}
    if kind not in displays:
        raise invalid("progress", f"expected one of bar, {', '.join(displays)}; got {kind!r}")
    display = displays[kind]()
    try:
        yield display.show
    finally:
        display.close()


def _installed(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def in_notebook() -> bool:
    """Whether this process is a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def line_of(progress: results.Progress) -> str:
    parts = [f"epoch {progress.epoch}", f"loss {progress.metrics.loss:.4g}"]
    if progress.metrics.accuracy is not None:
        parts.append(f"accuracy {progress.metrics.accuracy:.3f}")
    if progress.validation is not None:
        parts.append(f"validation {progress.validation.loss:.4g}")
    return ", ".join(parts)


def end_of(summary: results.TrainingSummary) -> str:
    text = f"{summary.stop_reason} after {summary.iterations} iterations, {summary.elapsed:.2f} s"
    if summary.metrics is not None:
        text += f": loss {summary.metrics.loss:.4g}"
        if summary.metrics.accuracy is not None:
            text += f", accuracy {summary.metrics.accuracy:.3f}"
    return text


class _Text:
    """A line at most every second, to standard error."""

    def __init__(self) -> None:
        self._next = 0.0

    def show(self, event: results.TrainingEvent) -> None:
        if event.progress is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + 1
            p = event.progress
            print(f"{p.iteration}/{p.total_iterations}: {line_of(p)}", file=sys.stderr)
        if event.summary is not None:
            print(end_of(event.summary), file=sys.stderr)

    def close(self) -> None:
        pass


class _Rich:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bar: Any = Progress(BarColumn(), MofNCompleteColumn(),
                                  TextColumn("{task.description}"), console=Console(stderr=True))
        self._task: Any = None
        self._bar.start()

    def show(self, event: results.TrainingEvent) -> None:
        if isinstance(event.body, results.RunStarted):
            self._task = self._bar.add_task("", total=event.body.total_iterations)
        elif isinstance(event.body, results.Progress):
            if self._task is None:
                self._task = self._bar.add_task("", total=event.body.total_iterations)
            self._bar.update(self._task, completed=event.body.iteration,
                             description=line_of(event.body))
        elif self._task is not None:
            self._bar.update(self._task, completed=event.body.iterations,
                             description=end_of(event.body))

    def close(self) -> None:
        self._bar.stop()


class _Tqdm:
    def __init__(self) -> None:
        from tqdm import tqdm

        self._bar: Any = tqdm(unit="it", file=sys.stderr)

    def show(self, event: results.TrainingEvent) -> None:
        if isinstance(event.body, results.RunStarted):
            self._bar.reset(total=event.body.total_iterations)
        elif isinstance(event.body, results.Progress):
            self._bar.total = event.body.total_iterations
            self._bar.set_postfix_str(line_of(event.body), refresh=False)
            self._bar.update(event.body.iteration - self._bar.n)
        else:
            self._bar.set_postfix_str(end_of(event.body), refresh=False)
            self._bar.update(event.body.iterations - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class LossCurve:
    """The loss as an SVG in the output of a notebook's cell, redrawn while the run is under way."""

    WIDTH, HEIGHT, MARGIN = 480, 240, 36

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self._html: Any = HTML
        self._handle: Any = display(HTML(self.svg([], [], "")), display_id=True)
        self._training: list[tuple[int, float]] = []
        self._validation: list[tuple[int, float]] = []
        self._every = 1
        self._count = 0
        self._next = 0.0
        self._text = ""

    def show(self, event: results.TrainingEvent) -> None:
        progress = event.progress
        if progress is not None:
            self._count += 1
            self._text = line_of(progress)
            if self._count % self._every == 0:
                self._training.append((progress.iteration, progress.metrics.loss))
                if progress.validation is not None:
                    self._validation.append((progress.iteration, progress.validation.loss))
            if len(self._training) >= MAX_POINTS:
                self._training, self._validation = self._training[::2], self._validation[::2]
                self._every *= 2
        summary = event.summary
        if summary is not None:
            self._text = end_of(summary)
            if summary.metrics is not None:
                self._training.append((summary.iterations, summary.metrics.loss))
        if summary is not None or time.monotonic() >= self._next:
            self._next = time.monotonic() + REFRESH_SECONDS
            self._draw()

    def _draw(self) -> None:
        if self._handle is not None:
            self._handle.update(self._html(self.svg(self._training, self._validation, self._text)))

    def close(self) -> None:
        self._draw()

    @classmethod
    def svg(cls, training: list[tuple[int, float]], validation: list[tuple[int, float]],
            text: str) -> str:
        points = training + validation
        right = max([x for x, _ in points], default=1)
        top = max([y for _, y in points], default=1.0) or 1.0
        wide, high = cls.WIDTH - 2 * cls.MARGIN, cls.HEIGHT - 2 * cls.MARGIN

        def line(curve: list[tuple[int, float]], color: str) -> str:
            at = " ".join(f"{cls.MARGIN + wide * x / right:.1f},"
                          f"{cls.HEIGHT - cls.MARGIN - high * max(y, 0) / top:.1f}"
                          for x, y in curve)
            return f'<polyline points="{at}" fill="none" stroke="{color}" stroke-width="1.5"/>'

        left, bottom = cls.MARGIN, cls.HEIGHT - cls.MARGIN
        return (
            f'<svg class="backprop-loss" width="{cls.WIDTH}" height="{cls.HEIGHT}" '
            'font-family="sans-serif" font-size="11" fill="currentColor">'
            f'<path d="M{left},{cls.MARGIN}V{bottom}H{cls.WIDTH - left}" fill="none" '
            'stroke="gray"/>'
            f'<text x="{left - 4}" y="{cls.MARGIN + 4}" text-anchor="end">{top:.3g}</text>'
            f'<text x="{left - 4}" y="{bottom}" text-anchor="end">0</text>'
            f'<text x="{cls.WIDTH - left}" y="{bottom + 14}" text-anchor="end">{right}</text>'
            + line(training, "#1f77b4") + line(validation, "#ff7f0e")
            + f'<text x="{left}" y="{cls.MARGIN - 12}">{text}</text></svg>')


