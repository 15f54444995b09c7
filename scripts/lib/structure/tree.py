"""The crates of the workspace, their files and their modules."""
import pathlib, re, tomllib
from dataclasses import dataclass, field

from . import source


@dataclass
class Module:
    path: tuple  # below the crate; () is its root
    file: pathlib.Path
    code: str  # without comments, literals and tests
    lines: int
    imports: list = field(default_factory=list)


@dataclass
class Crate:
    name: str
    depends: list
    modules: dict
    code: int  # lines without comments, blank lines and tests
    lines: int  # without tests
    lines_with_tests: int


def crates(root):
    return [crate(folder) for folder in sorted((root / "crates").iterdir()) if (folder / "Cargo.toml").exists()]


def crate(folder):
    manifest = tomllib.loads((folder / "Cargo.toml").read_text())
    files = {path.relative_to(folder / "src"): path.read_text() for path in sorted((folder / "src").rglob("*.rs"))}
    modules = of_files({str(name): text for name, text in files.items()}, folder / "src")
    everything = sum(text.count("\n") for text in files.values())
    lines = sum(module.lines for module in modules.values())
    code = sum(1 for module in modules.values() for line in module.code.split("\n") if line.strip())
    depends = sorted(manifest.get("dependencies", {}))
    return Crate(manifest["package"]["name"], depends, modules, code, lines, everything)


def is_test(name):
    parts = pathlib.PurePath(name).parts
    return "tests" in parts[:-1] or parts[-1] in ("tests.rs", "testing.rs")


def of_files(texts, folder=pathlib.Path()):
    """The modules of a crate's files, by their paths; those of tests are left out."""
    modules, tests = {}, set()
    for name, text in texts.items():
        parts = list(pathlib.PurePath(name).with_suffix("").parts)
        if parts[-1] in ("lib", "main", "mod"):
            parts.pop()
        code, files = source.without_tests(source.blank(text))
        tests.update((*parts, file) for file in files)
        if not is_test(name):
            code_lines = sum(1 for plain, kept in zip(text.split("\n"), code.split("\n")) if not plain.strip() or kept.strip() or is_comment(plain))
            modules[tuple(parts)] = Module(tuple(parts), folder / name, code, code_lines)
    for path in [path for path in modules if any(path[: len(test)] == test for test in tests)]:
        del modules[path]
    for module in modules.values():
        module.imports = list(source.imports(module.code))
    return modules


def is_comment(line):
    return re.match(r"\s*//", line) is not None
