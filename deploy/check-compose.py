"""Our own rules for docker-compose.kafka.yml, which no schema knows. Run by scripts/check-compose in the root."""

import re
import sys
import tomllib
from pathlib import Path

from ruamel.yaml import YAML

FILE = "docker-compose.kafka.yml"
services = YAML(typ="safe").load(Path(FILE).read_text())["services"]
wrong = []


def check(condition, text):
    if not condition:
        wrong.append(text)


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


def constant(path, pattern):
    return re.search(pattern, Path(path).read_text(), re.MULTILINE).group(1)


def asked(service):
    """Whether its health check asks something."""
    return "test" in service.get("healthcheck", {})


for name, service in services.items():
    image, tag = service["image"].split(":")
    check(re.search(r"\d", tag) and tag != "latest", f"{name}: the image has no version: {service['image']}")
    check("ALL" in service.get("cap_drop", []), f"{name}: keeps capabilities")
    check("no-new-privileges:true" in service.get("security_opt", []), f"{name}: may gain privileges")
    check(not service.get("privileged"), f"{name}: is privileged")
    check(service.get("user", "1:1").split(":")[0] not in ("0", "root"), f"{name}: runs as root")
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    check({"cpus", "memory"} <= limits.keys(), f"{name}: has no limits of processor and memory")
    waited_for = [s for s in services.values() if name in s.get("depends_on", {})]
    ends = any(s["depends_on"][name]["condition"] == "service_completed_successfully" for s in waited_for)
    check(asked(service) or ends, f"{name}: has no health check")
    check(not ends or service.get("restart") == "no", f"{name}: is waited for until it ends, and would be started again")
    for port in service.get("ports", []):
        check(port.startswith("127.0.0.1:"), f"{name}: {port} is open to other machines")
    for other, how in service.get("depends_on", {}).items():
        check(other in services, f"{name}: depends on {other}, which is not there")
        healthy = how["condition"] == "service_healthy"
        check(not healthy or asked(services[other]), f"{name}: waits for the health of {other}, which has no check")
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        check(not source.startswith(".") or Path(source).is_file(), f"{name}: {source} is not in the repository")
        check(not source.startswith(".") or volume.endswith(":ro"), f"{name}: may write {source}")

# One version of a thing in the whole repository.
for service, expected in {
    "kafka": constant("scripts/kafka", r"^KAFKA_VERSION=(.*)$"),
    "registry": constant("scripts/kafka", r"^REGISTRY_VERSION=(.*)$"),
    "gateway-a": constant("Cargo.toml", r'^version = "(.*)"$'),
}.items():
    found = services[service]["image"].split(":")[1]
    check(found == expected, f"{service}: version {found}, and {expected} elsewhere in the repository")
rust = constant("rust-toolchain.toml", r'^channel = "(.*)"$')
check(f"FROM rust:{rust}-" in Path("Dockerfile").read_text(), f"Dockerfile: does not build with Rust {rust}")

# The ways in: the balancer, and Jaeger's page.
published = {name: service["ports"] for name, service in services.items() if "ports" in service}
expected = {"balancer": ["127.0.0.1:8080:8080"], "jaeger": ["127.0.0.1:16686:16686"]}
check(published == expected, f"published ports: {published} instead of {expected}")

# A container that is killed before its role has stopped would cut what the grace time is for.
settings = tomllib.loads(Path("services/tidegate/default.toml").read_text())
ours = tomllib.loads(Path("deploy/tidegate.toml").read_text())
for role in ("gateway", "worker", "scheduler", "notifier"):
    grace = seconds(ours[role].get("grace", settings[role]["grace"]))
    for name in (f"{role}-a", f"{role}-b"):
        given = seconds(services[name]["stop_grace_period"])
        check(given > grace, f"{name}: is killed after {given} s, and {role}.grace is {grace} s")

for line in wrong:
    print(f"{FILE}: {line}", file=sys.stderr)
if wrong:
    sys.exit(1)
print(f"our rules for {len(services)} services: ok")
