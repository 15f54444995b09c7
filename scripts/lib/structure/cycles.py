"""Which modules know which, and the rings among siblings."""
from collections import defaultdict


def edges(modules):
    """{(from, to): "file:line"} between modules of a crate, re-exports followed."""
    exported = {
        path: {name: (target, module) for target, name, _, is_public in module.imports if is_public}
        for path, module in modules.items()
        for module in [module]
    }
    found = {}
    for path, module in modules.items():
        for target, _, line, _ in module.imports:
            to = resolve(target, path, modules, exported)
            if to is not None and to != path:
                found.setdefault((path, to), f"{module.file}:{line}")
    return found


def resolve(target, here, modules, exported, seen=()):
    """The module that defines what a path names; None: it is of another crate."""
    first, rest = target[0], target[1:]
    if first == "crate":
        at = ()
    elif first == "self":
        at = here
    elif first == "super":
        at = here[:-1]
        while rest and rest[0] == "super":
            at, rest = at[:-1], rest[1:]
    elif (*here, first) in modules:
        at, rest = (*here, first), rest
    else:
        return None
    while rest and (*at, rest[0]) in modules:
        at, rest = (*at, rest[0]), rest[1:]
    if rest and at in exported and rest[0] in exported[at] and (at, rest[0]) not in seen:
        through, _ = exported[at][rest[0]]
        return resolve(through, at, modules, exported, (*seen, (at, rest[0]))) or at
    return at if at in modules else None


def rings(modules):
    """Each ring of siblings, with the imports that close it: [(parent, names, [(from, to, place)])]."""
    by_parent = defaultdict(lambda: defaultdict(dict))
    for (source, to), place in edges(modules).items():
        depth = 0
        while depth < min(len(source), len(to)) and source[depth] == to[depth]:
            depth += 1
        # One of them is above the other.
        if depth in (len(source), len(to)):
            continue
        by_parent[source[:depth]][source[depth]].setdefault(to[depth], place)
    found = []
    for parent, graph in sorted(by_parent.items()):
        for names in components(graph):
            inside = [(a, b, graph[a][b]) for a in names for b in graph[a] if b in names]
            found.append((parent, names, sorted(inside)))
    return found


def components(graph):
    """Sets of more than one node that reach each other."""
    reach = {}
    for node in graph:
        seen, stack = set(), list(graph[node])
        while stack:
            if (at := stack.pop()) not in seen:
                seen.add(at)
                stack.extend(graph.get(at, ()))
        reach[node] = seen
    done = set()
    for node in sorted(graph):
        ring = {other for other in reach[node] if node in reach.get(other, ())}
        if node not in done and len(ring) > 1:
            done |= ring
            yield sorted(ring)
