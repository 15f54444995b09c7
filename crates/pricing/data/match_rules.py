"""How genai-prices recognises a name, as the plain rules of prices.json.

"=text" equals, "^text" starts with, "$text" ends with, "*text" contains; "#" in a text is one digit. A list: any of them;
{"all": […]}: all; {"not": …}: none. Texts are lower-case, and so is the name they are held against. There are no regular
expressions: those of the package become such rules here, once, and what cannot is an error here and not at run time.
"""

import re


def rule(clause):
    kind = type(clause).__name__
    if kind in ("ClauseOr", "ClauseAnd"):
        parts = [rule(part) for part in (clause.or_ if kind == "ClauseOr" else clause.and_)]
        if kind == "ClauseAnd":
            return {"all": parts}
        flat = [text for part in parts for text in (part if isinstance(part, list) else [part])]
        return flat if len(flat) > 1 else flat[0]
    if kind == "ClauseRegex":
        return regex_rule(clause.regex)
    sigil, field = {
        "ClauseEquals": ("=", "equals"),
        "ClauseStartsWith": ("^", "starts_with"),
        "ClauseEndsWith": ("$", "ends_with"),
        "ClauseContains": ("*", "contains"),
    }[kind]
    return literal(sigil, getattr(clause, field).lower())


def literal(sigil, text):
    if "#" in text:
        raise SystemExit(f"the model name {text!r} contains '#', which is the digit wildcard of prices.json")
    return sigil + text


def regex_rule(pattern):
    """A regular expression as plain rules; names are matched in lower case. Stops at what it cannot express."""
    tokens = list(re._parser.parse(pattern))
    unable = SystemExit(f"the regular expression {pattern!r} has no translation yet; extend regex_rule in {__file__}")
    begins = tokens and str(tokens[0][0]) == "AT" and str(tokens[0][1]) == "AT_BEGINNING"
    if not begins:
        raise unable
    tokens = tokens[1:]
    if len(tokens) == 1 and str(tokens[0][0]) == "ASSERT_NOT":
        (direction, inner), inner_tokens = tokens[0][1], list(tokens[0][1][1])
        anything = inner_tokens and str(inner_tokens[0]) == "(MAX_REPEAT, (0, MAXREPEAT, [(ANY, None)]))"
        if direction != 1 or not anything:
            raise unable
        texts = expand(inner_tokens[1:], unable)
        return {"not": [("$" + text[:-1]) if text.endswith("\0") else "*" + text for text in texts]}
    rules = [("=" + text[:-1]) if text.endswith("\0") else "^" + text for text in expand(tokens, unable)]
    return rules if len(rules) > 1 else rules[0]


def expand(tokens, unable):
    """All texts that the tokens match, digits as '#', the end of the name as NUL."""
    texts = [""]
    for op, arg in tokens:
        op = str(op)
        if op == "LITERAL":
            step = [chr(arg)]
        elif op == "IN" and [str(part) for part in arg] == ["(CATEGORY, CATEGORY_DIGIT)"]:
            step = ["#"]
        elif op == "IN" and all(str(part[0]) == "LITERAL" for part in arg):
            step = [chr(part[1]) for part in arg]
        elif op == "MAX_REPEAT" and arg[1] != re._parser.MAXREPEAT and arg[1] <= 12:
            once = expand(arg[2], unable)
            step = [""] if arg[0] == 0 else []
            grown = [""]
            for count in range(1, arg[1] + 1):
                grown = [left + right for left in grown for right in once]
                step += grown if count >= arg[0] else []
        elif op == "SUBPATTERN":
            step = expand(arg[3], unable)
        elif op == "BRANCH":
            step = [text for branch in arg[1] for text in expand(branch, unable)]
        elif op == "AT" and str(arg) == "AT_END":
            step = ["\0"]
        else:
            raise unable
        # An upper-case letter never matches a lower-cased name.
        texts = [left + right for left in texts for right in step if right == right.lower()]
    return texts
