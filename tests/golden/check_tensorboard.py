#!/usr/bin/env python3
"""Checks that TensorBoard reads in a stage's event files what its metrics file says.

    check_tensorboard.py STAGE.tensorboard [STAGE.metrics.jsonl]

Prints every tag with its number of points, its first and its last value. With the metrics file,
exits 1 unless every number of every step is there, once, at its step. Needs the tensorboard
package; run by hand, never in CI.
"""

import argparse
import json
import math
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def numbers(value, prefix=""):
    for key, value in value.items():
        tag = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from numbers(value, f"{tag}/")
        elif isinstance(value, (int, float)) and tag != "step":
            yield tag, value


def expected(path):
    with open(path) as lines:
        for line in lines:
            step = json.loads(line)
            for tag, value in numbers(step):
                yield tag, step["step"], value


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("events")
    parser.add_argument("metrics", nargs="?")
    args = parser.parse_args()

    accumulator = EventAccumulator(args.events, size_guidance={"scalars": 0}).Reload()
    found = {tag: accumulator.Scalars(tag) for tag in accumulator.Tags()["scalars"]}
    for tag, points in sorted(found.items()):
        print(f"{tag:<44} {len(points):>6}  {points[0].value:.6g} -> {points[-1].value:.6g}")
    if args.metrics is None:
        return 0 if found else 1

    read = {(tag, point.step): point.value for tag, points in found.items() for point in points}
    count = sum(len(points) for points in found.values())
    wrong = [
        (tag, step, value, read.get((tag, step)))
        for tag, step, value in expected(args.metrics)
        if not math.isclose(read.get((tag, step), math.nan), value, rel_tol=1e-6, abs_tol=1e-38)
    ]
    said = len(list(expected(args.metrics)))
    print(f"{said} numbers in the metrics file, {count} points in the events, {len(wrong)} differ")
    for difference in wrong[:10]:
        print("  %s at step %d: %r in the metrics file, %r in the events" % difference)
    return 1 if wrong or said != count else 0


if __name__ == "__main__":
    sys.exit(main())
