"""Reads Rust far enough: comments and literals blanked, tests cut out, functions and imports found."""
import re

CODE = re.compile(
    r"""//[^\n]*|/\*(?:[^*]|\*(?!/))*\*/|b?c?r(\#*)"(?:.|\n)*?"\1|b?c?"(?:\\(?:.|\n)|[^"\\])*"|b?'(?:\\(?:x..|u\{[^}]*\}|.)|[^\\'\n])'""",
    re.VERBOSE,
)
TEST = re.compile(r"#\[cfg\((?:all\()?test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:pub(?:\([a-z]+\))? )?")
FUNCTION = re.compile(r"\bfn\s+([A-Za-z_]\w*)\s*(?=[<(])")
USE = re.compile(r"^[ \t]*(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);", re.M)
INLINE = re.compile(r"(?<![\w:])((?:crate|super|self)(?:::[A-Za-z_]\w*)+)")


def blank(text):
    """The same text with comments and literals replaced by blanks, line breaks kept."""
    return CODE.sub(lambda match: re.sub(r"[^\n]", " ", match.group(0)), text)


def closing(text, at, pair):
    """The index after the bracket that closes the one at `at`."""
    depth = 0
    for index in range(at, len(text)):
        if text[index] == pair[0]:
            depth += 1
        elif text[index] == pair[1]:
            depth -= 1
            if depth == 0:
                return index + 1
    return len(text)


def without_tests(code):
    """The code with each item under #[cfg(test)] blanked, and the names of the modules that are files of tests."""
    files = set()
    at = 0
    while match := TEST.search(code, at):
        end = match.end()
        declared = re.compile(r"mod\s+(\w+)\s*;").match(code, end)
        if declared:
            files.add(declared.group(1))
        brace, semicolon = code.find("{", end), code.find(";", end)
        is_block = brace >= 0 and (semicolon < 0 or brace < semicolon)
        stop = closing(code, brace, "{}") if is_block else semicolon + 1
        code = code[: match.start()] + re.sub(r"[^\n]", " ", code[match.start() : stop]) + code[stop:]
        at = stop
    return code, files


def split(text):
    """At the commas that are in no brackets."""
    parts, depth, begun = [], 0, 0
    for index, letter in enumerate(text):
        if letter in "({[<":
            depth += 1
        elif letter in ")}]" or letter == ">" and text[index - 1] not in "-=":
            depth -= 1
        elif letter == "," and depth == 0:
            parts.append(text[begun:index])
            begun = index + 1
    return [part for part in (*parts, text[begun:]) if part.strip()]


def functions(code):
    """(name, line, lines, parameters without self) of each function that has a body."""
    for match in FUNCTION.finditer(code):
        at = match.end()
        if code[at] == "<":
            at = generics_end(code, at)
            at = code.find("(", at)
        end = closing(code, at, "()")
        parameters = split(code[at + 1 : end - 1])
        takes = [one for one in parameters if not re.match(r"\s*(?:&\s*)?(?:'\w+\s+)?(?:mut\s+)?self\b", one)]
        brace, semicolon = code.find("{", end), code.find(";", end)
        if brace < 0 or 0 <= semicolon < brace:
            continue
        begins = code.count("\n", 0, match.start())
        ends = code.count("\n", 0, closing(code, brace, "{}"))
        yield match.group(1), begins + 1, ends - begins + 1, len(takes)


def generics_end(code, at):
    depth = 0
    for index in range(at, len(code)):
        if code[index] == "<":
            depth += 1
        elif code[index] == ">" and code[index - 1] not in "-=":
            depth -= 1
            if depth == 0:
                return index + 1
    return len(code)


def expanded(tree, before=()):
    """The paths of a use tree, each with the name that it gets: (("crate", "a", "B"), "B")."""
    tree = tree.strip()
    if "{" in tree:
        head, inner = tree.split("{", 1)
        path = (*before, *(part.strip() for part in head.split("::") if part.strip()))
        for one in split(inner.rsplit("}", 1)[0]):
            yield from expanded(one, path)
        return
    name = None
    if re.search(r"\sas\s", tree):
        tree, name = re.split(r"\s+as\s+", tree)
    parts = tuple(part.strip() for part in tree.split("::") if part.strip())
    path = (*before, *parts)
    if path and path[-1] == "self":
        path = path[:-1]
    if path:
        yield path, name or path[-1]


def imports(code):
    """(path, name, line, is re-exported) of each use, and of each path in the code that begins with crate, super or self."""
    for match in USE.finditer(code):
        line = code.count("\n", 0, match.start(2)) + 1
        for path, name in expanded(match.group(2)):
            yield path, name, line, bool(match.group(1))
    rest = USE.sub(lambda match: re.sub(r"[^\n]", " ", match.group(0)), code)
    for match in INLINE.finditer(rest):
        yield tuple(match.group(1).split("::")), None, rest.count("\n", 0, match.start()) + 1, False
