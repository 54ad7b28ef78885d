"""Prints each turn of a measurement and the medians: `medians.py FOLDER`, with one file a measurement in it and one report
of `tidegate bench --json` a line."""
import json
import pathlib
import statistics
import sys


def figures(reports, part):
    """Requests a second, p50 and p99 of each turn."""
    found = [report[part] for report in reports if report.get(part)]
    return [(f["perSecond"], f["latencyMs"]["p50"], f["latencyMs"]["p99"], sum(f["failures"].values())) for f in found]


def row(name, turns):
    if not turns:
        print(f"{name:24} not measured")
        return None
    middle = [statistics.median(column) for column in zip(*turns)]
    each = ", ".join(f"{turn[0]:.0f}" for turn in turns)
    print(f"{name:24} {middle[0]:>9.0f}/s  p50 {middle[1]:>7.2f} ms  p99 {middle[2]:>8.2f} ms  failures {sum(t[3] for t in turns)}  ({each})")
    return middle


def main(folder):
    reports = {}
    for path in pathlib.Path(folder).iterdir():
        if path.suffix == "" and path.name.split("-")[0] in {"bare", "tidegate", "floor", "open", "async"}:
            reports[path.name] = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    for connections in (1, 64, 256):
        bare = row(f"bare, {connections}", figures(reports.get(f"bare-{connections}", []), "gateway"))
        ours = row(f"tidegate, {connections}", figures(reports.get(f"tidegate-{connections}", []), "gateway"))
        if bare and ours:
            print(f"{'':24} {ours[0] / bare[0]:.2f} of the bare one's throughput")
    with_floor = reports.get("floor-1", [])
    floor = row("kafka alone, 1", figures(with_floor, "floor"))
    ours = row("tidegate, 1", figures(with_floor, "gateway"))
    if floor and ours:
        print(f"{'':24} {ours[1] / floor[1]:.2f} of the p50 of Kafka alone")
    for name in ("open-1000", "open-4700", "async-1000"):
        row(name, figures(reports.get(name, []), "gateway"))


if __name__ == "__main__":
    main(sys.argv[1])
