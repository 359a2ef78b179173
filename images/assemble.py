"""What the Dockerfile runs: install locked packages into a folder, then finish it so that it is the same each time.

Why a program: the base has no shell, and the same inputs must give the same bytes. So file modes come from here and not
from somebody's umask, and modules are compiled here, without a time in them, because the image's file system is
read-only when it runs and compiling at each start would take longer than the start itself.

    python3 assemble.py install LOCK FOLDER
    python3 assemble.py finish IMAGE FOLDER MODULE...      MODULEs are what the image runs
"""

import importlib
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

COMPILED = "pycache"
"""Folder of compiled modules inside the finished one; PYTHONPYCACHEPREFIX names it."""
# Only read by people and type checkers, or by the packages' own tests.
_NEEDLESS = ("bin", "**/__pycache__", "**/*.pyi", "**/*.pyx", "**/*.pxd", "**/*.c", "**/*.h")


def install(lock: Path, folder: Path) -> None:
    """Exactly the wheels that the lock names by hash, and nothing else."""
    options = [
        "--quiet",
        "--require-hashes",
        "--no-deps",
        "--only-binary=:all:",
        "--no-compile",
        "--target",
        str(folder),
    ]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--requirement", str(lock)], check=True)


def finish(image: str, folder: Path, modules: list[str]) -> None:
    """Leave out what is not needed to run, compile, list the contents, fix modes."""
    for pattern in _NEEDLESS:
        for path in sorted(folder.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    _compile(folder, modules)
    _list_contents(image, folder)
    for path in [folder, *sorted(folder.rglob("*"))]:
        runnable = path.is_dir() or path.read_bytes()[:4] == b"\x7fELF"
        path.chmod(0o755 if runnable else 0o644)


def _compile(folder: Path, modules: list[str]) -> None:
    """All of the folder, and of the standard library what the modules load: some bases come without compiled files."""
    sys.path.insert(0, str(folder))
    for module in modules:
        importlib.import_module(module)
    loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    library = {Path(file) for file in loaded if file and file.endswith(".py") and not file.startswith("/build/")}
    sys.pycache_prefix = str(folder / COMPILED)
    for source in sorted(library | set(folder.rglob("*.py"))):
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(str(source), doraise=True, invalidation_mode=mode)


def _list_contents(image: str, folder: Path) -> None:
    sys.path.insert(0, "/build/tools")
    from sbom import write  # type: ignore[import-not-found]  # noqa: PLC0415
    from version import __version__  # type: ignore[import-not-found]  # noqa: PLC0415

    write(image, __version__, folder, Path("/build/dpkg"))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["install", lock, folder]:
            install(Path(lock), Path(folder))
        case ["finish", image, folder, *modules]:
            finish(image, Path(folder), modules)
        case _:
            sys.exit(__doc__)
