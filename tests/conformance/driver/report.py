"""Collects the outcomes of scenarios and prints them."""

import json
import pathlib

BEGIN, END = "<!-- conformance -->", "<!-- /conformance -->"
MARKS = {"passed": "yes", "failed": "FAILS", "not offered": "not offered", "not run": "not run"}


class Report:
    def __init__(self, scripts):
        self.scripts = scripts
        self.outcomes = {}  # client → scenario → (outcome, reason, seconds)
        self.faults = {}    # client → what went wrong outside scenarios

    def add(self, client, script, outcome, reason, seconds):
        self.outcomes.setdefault(client, {})[script["name"]] = (outcome, reason, round(seconds, 2))
        print(f"{client:12} {script['name']:32} {outcome:12} {seconds:6.2f} s  {reason}", flush=True)

    def add_fault(self, client, reason):
        self.faults.setdefault(client, []).append(reason)
        print(f"{client:12} {reason}", flush=True)

    def failed(self):
        return int(bool(self.faults) or any(outcome == "failed" for row in self.outcomes.values()
                                            for outcome, _, _ in row.values()))

    def rules(self):
        return sorted({rule for script in self.scripts for rule in script["rules"]}, key=lambda rule: int(rule[1:]))

    def of_rule(self, client, rule):
        """The worst outcome of the scenarios of a rule."""
        seen = {self.outcomes[client].get(script["name"], ("not run",))[0]
                for script in self.scripts if rule in script["rules"]}
        return next(kind for kind in ("failed", "not run", "not offered", "passed") if kind in seen)

    def table(self, heads, rows):
        """Markdown."""
        lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
        return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])

    def by_rule(self):
        names = list(self.outcomes)
        return self.table(["rule", *names], [[rule, *(MARKS[self.of_rule(name, rule)] for name in names)]
                                             for rule in self.rules()])

    def by_scenario(self):
        names = list(self.outcomes)
        return self.table(["scenario", "rules", *names], [
            [f"`{script['name']}`", " ".join(script["rules"]),
             *(MARKS[self.outcomes[name].get(script["name"], ("not run",))[0]] for name in names)]
            for script in self.scripts])

    def print_tables(self):
        print("\n" + self.by_scenario() + "\n\n" + self.by_rule())

    def write_page(self, path):
        """Replaces what stands between the markers of a page, in the order of the languages' names."""
        page = pathlib.Path(path)
        before, _, rest = page.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        abouts = self.table(["scenario", "what it shows"],
                            [[f"`{script['name']}`", script["about"]] for script in self.scripts])
        page.write_text(f"{before}{BEGIN}\n\n{self.by_rule()}\n\n{self.by_scenario()}\n\n{abouts}\n\n{END}{after}")

    def write(self, path):
        pathlib.Path(path).write_text(json.dumps({
            "scenarios": [{key: script[key] for key in ("name", "about", "rules")} for script in self.scripts],
            "clients": {client: {name: {"outcome": outcome, "reason": reason, "seconds": seconds}
                                 for name, (outcome, reason, seconds) in row.items()}
                        for client, row in self.outcomes.items()},
            "faults": self.faults}, indent=1) + "\n")
