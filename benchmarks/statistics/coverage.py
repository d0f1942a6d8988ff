"""Coverage of every printed interval, and false alarms and power of every warning and test.

    python benchmarks/statistics/coverage.py [--half confirm] [--repetitions 2000] [--only WORD]

Prints two Markdown tables and, last, what lies outside the bounds: intervals that cover less than
93% or more than 97% from ten cases on, and false-alarm rates above 6%.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.statistics import alarms, intervals
from benchmarks.statistics.simulated import HALVES
from cas_metric.statistics.rounding import fixed, percent
from cas_metric.statistics.tables import markdown_table

#: What coverage of a nominal 95% is held to from ten cases on, and a false-alarm rate of 5%.
LOWEST, HIGHEST, FALSE_ALARMS = 0.93, 0.97, 0.06


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--half", choices=HALVES, default="confirm")
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--part", choices=("all", "intervals", "tests"), default="all")
    parser.add_argument("--only", default="", help="simulations whose name holds this word")
    arguments = parser.parse_args()
    half = HALVES[arguments.half]
    found, told, outside = [], [], []
    rng = np.random.default_rng(half.seed)
    for names, size, trial in intervals.simulations(half, rng):
        if arguments.part != "tests" and any(arguments.only in name for name in names):
            for one in intervals.measure(names, size, trial, arguments.repetitions):
                found.append(one)
                print(one, file=sys.stderr, flush=True)
                outside += _outside(one)
    for name, size, test in alarms.simulations(half, np.random.default_rng(half.seed + 1)):
        if arguments.part != "intervals" and arguments.only in name:
            alarm = alarms.measure(name, size, test, arguments.repetitions)
            told.append(alarm)
            print(alarm, file=sys.stderr, flush=True)
            if alarm.false > FALSE_ALARMS:
                outside.append(f"{name}, {size}: false alarms {percent(alarm.false)}")
    rows = [
        [c.name, c.size, percent(c.covered), fixed(c.width), fixed(c.relative, 2), percent(c.none)]
        for c in found
    ]
    headings = ["interval", "n", "covered", "mean width", "/ 3.92 sd", "none printed"]
    print(markdown_table(headings, rows))
    rows = [[a.name, a.size, percent(a.false), a.effect, percent(a.power)] for a in told]
    print("\n" + markdown_table(["test", "n", "false alarms", "of an effect of", "found"], rows))
    print("\nOutside the bounds:")
    print("\n".join(f"- {line}" for line in outside) or "- nothing")


def _outside(one: intervals.Coverage) -> list[str]:
    small = int(one.size.split()[0]) < 10
    if small or math.isnan(one.covered) or LOWEST <= one.covered <= HIGHEST:
        return []
    return [f"{one.name}, {one.size}: covered {percent(one.covered)}"]


if __name__ == "__main__":
    main()
