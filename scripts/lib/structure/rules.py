"""What may be, and what is found beyond it."""
from . import source
from .cycles import rings

FILE, FUNCTION, PARAMETERS, CRATE = 350, 80, 7, 12_000
SMALL_FILES = ("engine", "admission", "notify", "scheduler")
# A crate knows only those before it. The binary, which composes them, knows all; the simulator is a program of its own.
ORDER = ("domain", "pricing", "wire", "providers", "store", "scheduler", "admission", "notify", "engine", "lake", "reports", "api-types",
         "gateway", "simulator", "tollway")


def functions(crate):
    for module in crate.modules.values():
        for name, line, lines, parameters in source.functions(module.code):
            yield f"{module.file}:{line} {name}", lines, parameters


def breaches(crates):
    found = []
    for crate in crates:
        if crate.code > CRATE:
            found.append(f"crate {crate.name}: {crate.code} lines of code, at most {CRATE}; move a family of modules into a crate of its own")
        for module in crate.modules.values():
            if crate.name in SMALL_FILES and module.lines > FILE:
                found.append(f"{module.file}: {module.lines} lines, at most {FILE}; divide it by its nouns or steps")
        for place, lines, parameters in functions(crate):
            if lines > FUNCTION:
                found.append(f"{place}: {lines} lines, at most {FUNCTION}; give its steps names")
            if parameters > PARAMETERS:
                found.append(f"{place}: {parameters} parameters, at most {PARAMETERS}; group those that belong together")
        for parent, names, closing in rings(crate.modules):
            where = "::".join((crate.name, *parent))
            found.append(f"{where}: the modules {', '.join(names)} know each other in a ring; break one of these:")
            found.extend(f"    {a} -> {b}  {place}" for a, b, place in closing)
        found.extend(upward(crate))
    return found


def upward(crate):
    if crate.name not in ORDER:
        return [f"crate {crate.name} has no place in the order of crates; give it one in scripts/lib/structure/rules.py"]
    own = ORDER.index(crate.name)
    wrong = [other for other in crate.depends if other in ORDER and ORDER.index(other) >= own]
    return [f"crate {crate.name} depends on {other}, which is above it; move what it needs down" for other in wrong]


def show(crates):
    print(f"{'crate':12} {'code':>7} {'lines':>7} {'with tests':>11} {'files':>6}")
    for crate in crates:
        print(f"{crate.name:12} {crate.code:7} {crate.lines:7} {crate.lines_with_tests:11} {len(crate.modules):6}")
    modules = [module for crate in crates for module in crate.modules.values()]
    print("\nLargest files")
    for module in sorted(modules, key=lambda module: -module.lines)[:12]:
        print(f"{module.lines:5}  {module.file}")
    each = [one for crate in crates for one in functions(crate)]
    print("\nLongest functions")
    for place, lines, _ in sorted(each, key=lambda one: -one[1])[:12]:
        print(f"{lines:5}  {place}")
    print("\nMost parameters")
    for place, _, parameters in sorted(each, key=lambda one: -one[2])[:12]:
        print(f"{parameters:5}  {place}")
    print()
