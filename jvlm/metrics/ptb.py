# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Penn Treebank tokens of captions, as pycocoevalcap's Java tokenizer gives them.

The rules describe what that program makes of text: brackets become -lrb-, contractions are split
(do n't, dog 's, can not), known abbreviations keep their full stop, numbers, addresses and
emoticons stay whole, and what is punctuation only is dropped. As there, the longest match counts,
and a word may depend on the line that follows. Known differences: accents written as HTML entities,
line separators other than \n, and scripts that came into Unicode after 2012.
"""

import re
from collections.abc import Sequence

_DROPPED = frozenset(("''", "'", "``", "`", "?", "!", ",", ":", ";", '"'))

# Letters. Python counts superscripts and fractions among \w, but no combining marks.
_L = (
    r"(?:[^\W\d_²³¹¼-¾⁰-₟⅐-\u218f①-⓿❶-➓㈀-㋿\U00010000-\U0010ffff]|[\u0300-\u036f\xad]"
    r"|&[aeiouAEIOU](?:acute|grave|uml);)"
)
_W = rf"(?:{_L}|\d)"
_HYPHEN = r"[-_\u058a\u2010\u2011]"
_Q = "['\u2019]"
_QUOTES = "“”«»‘’‹›‛"

# A full stop belongs to these words always: those that may end a sentence, ...
_ENDINGS = """
al ala apr ariz assn aug bancorp bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est
etc ext feb fla fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb
nev nov oct okla penn plc pte ptes pty rd rt sep sept seq sq sr sys tel tenn thu thurs tue tues univ
va vt wed wis wisc wyo
"""
# ... and titles and the like, ...
_TITLES = """
adj adm adv alex assoc asst atty attys ave brig capt cf cie cmdr col cpl dept det dr drs elec ens ft
gen gov govs hon insp jos lieut lt maj messrs mfg mlle mme mr mrs ms msgr mt mtg natl pfc ph\\.d ph
pres prof profs pvt rep reps rev sen sens sfc sgt spc st ste supt supts treas vs wm
"""
# ... to these where they begin with a capital, ...
_CAPITALISED = "ark az del ill la mass miss ore pa tex wash"
# ... to these before a number, ...
_BEFORE_NUMBERS = "art ca fig figs no nos op pp prop"
# ... and to a single letter, unless one of these begins a sentence behind it.
_STARTERS = """
A About According Additionally After An As At But Earlier He Her Here However If In It Last Many
More Mr\\. Ms\\. Now Once One Other Our She Since So Some Such That The Their Then There These They
This We What When While Yet You
"""
_FILES = """
bat bmp c cgi class cpp dll docx? exe gif gz h html? jar java jpe?g mov pdf php pl png ppt ps py sql
tar txt wav x xml zip
"""


def _any(words: str) -> str:
    """One of these words."""
    return rf"(?:{'|'.join(words.split())})"


_NUMBER = r"(?:\d+(?:[.,:\xad]\d+)*|(?:[.,:\xad]\d+)+)"
_AREA = r"(?:\d{2,4}[- \xa0]|\(\d{2,3}\)[ \xa0]?)"
_COUNTRY = r"\d{2,4}[- \xa0]"
_CLITIC = r"(?i:[smdt]|re|ve|ll)(?![A-Za-z])"
_ELISION = rf"(?:[A-HJ-XZ]{_Q}(?!{_CLITIC}){_L}{{2,}}|[dlno]{_Q}(?!{_CLITIC})[A-Za-z0-9]{{2,}})"
_NAME = (
    rf"(?:{_L}+[aeiouyAEIOUY]{_Q}[aeiouA-Z]{_L}*"
    rf"|(?i:c{_Q}mon|cap{_Q}n|e{_Q}er|ev{_Q}ry|nat{_Q}l|ne{_Q}er|s{_Q}mores|li'l|c{_Q}est))"
)
_ACRONYM = r"[A-Za-z](?:\.[A-Za-z])+\."
_PART = rf"(?:{_ELISION}|{_ACRONYM}|{_W}+)"
_URL = r"[^\s\"<>|(){}\xa0]"
_END = r"[^\s\"<>|(){}\xa0.!?,\-\u2013\u2014]"
_TAG = r"[A-Za-z][A-Za-z0-9_:.-]*"
_VALUE = r"(?: *= *(?:\"[^\"\n]*\"|'[^'\n]*'))?"

# Of what matches at a place the longest is the token, the first of several.
_TOKENS = [
    re.compile(pattern)
    for pattern in (
        # Words; with a hyphen, an elision, full stops or marks between their parts, or slashes.
        rf"{_W}+",
        rf"(?!(?i:n{_Q}t)){_PART}(?:{_HYPHEN}{_PART})+|[A-Za-z0-9][A-Za-z0-9.,]*(?:-[A-Za-z0-9]+)+",
        rf"{_L}{_W}*(?:[.!?]{_L}{_W}*)+",
        r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}",
        _ELISION,
        _NAME,
        rf"(?i:(?:[djl]|ol|dunkin|somethin){_Q}|y{_Q}(?={_L}))(?!(?i:[smd]|re|ve|ll))",
        rf"(?i:{_Q}(?:em|cause|till?)|{_Q}n{_Q}|'n(?=\s)|\u2019n|'t(?=is|was))",
        rf"{_Q}\d\ds|{_Q}\d\d(?=\s)",
        rf"(?i:n['\u2019\u2018`]t)(?!{_L})",
        # Abbreviations.
        rf"(?i:{_any(_ENDINGS)}|{_any(_TITLES)})\.",
        rf"(?=[A-Z])(?i:{_any(_CAPITALISED)})\.",
        rf"(?i:{_any(_BEFORE_NUMBERS)})\.(?=\s*\d)",
        rf"[A-Za-z]\.(?!\s+{_any(_STARTERS)}\s)",
        _ACRONYM,
        rf"(?:{_W}+(?:{_HYPHEN}{_W}+)*|{_W}+(?:\.{_W}+)*|{_ELISION}|[A-Z]+&[A-Z]+)\.(?=[,;:])",
        # Names.
        r"[A-Z]+(?:(?:&|&amp;)[A-Z]+)+",
        r"[CcFf]#|[Cc]\+\+",
        rf"[A-Za-z0-9]+(?:\.[A-Za-z0-9]+)*\.(?i:{_any(_FILES)})(?=[\s,.!?])",
        r"[A-Z]{1,3}\$",
        rf"@[A-Za-z_][A-Za-z0-9_]*|#{_L}+",
        # Numbers.
        rf"[-+]?{_NUMBER}",
        r"(?:\d{1,4}[- \xa0])?\d{1,4}[/⁄]\d{1,4}",
        rf"(?:\+{_COUNTRY}{_AREA}?|(?:{_COUNTRY})?{_AREA})\d{{3,4}}[- \xa0]?\d{{3,5}}",
        # Addresses and markup.
        rf"https?://{_URL}+{_END}|HTTPS?://{_URL}+{_END}",
        r"www\.(?:[^\s\"<>|.!?(){},/]+\.)+[a-zA-Z]{2,4}",
        rf"(?:www\.(?:[^\s\"<>|.!?(){{}},/]+\.)+[a-zA-Z]{{2,4}}|(?:{_L}{_W}*\.)+(?:com|net|org|edu))"
        rf"/{_URL}+{_END}",
        r"<?[A-Za-z0-9][^\s\"<>|()\xa0{}]*@(?:[^\s\"<>|(){}.\xa0]+\.)*[^\s\"<>|(){}.\xa0]+>?",
        rf"</?{_TAG}>|<{_TAG}(?: +(?:{_TAG}{_VALUE})?)* */?>|<[!?][A-Za-z-][^>\n]*>",
        r"(?i:&(?:amp|lt|gt|quot|apos|nbsp|mdash|ndash);)|&#\d+;",
        # Faces.
        r"[<>]?[:;=][-o'*]?[)(\]\[{|\\DPpdO@](?![A-Za-z0-9])",
        r"[-^x=~>']_[-^x=~<']|\([-^x=~>'][-_.][-^x=~<']\)",
        # Signs that stay together.
        rf"[?!]+|_+|\*+|@+|#+|<<|>>|--+|\.{{3,}}|''|``|[{_QUOTES}]{{2}}",
        r"(?i:['\u2019](?:[smd]|re|ve|ll)(?![A-Za-z]))|(?i:\u2019(?:[smd]|re|ve|ll))",
    )
]
_SIGN = re.compile(
    r"[$-'*+,./:-?\\^`|~¡-©¬®-´¶-¹»¿×÷;·‖-‗‘-‥‰-⁞⁰-₎₤℀-⅏⅐-⅞←-⯿、。・！-／：-＠［-｀｛-･￠-￦()\[\]{}\"]"
)
_ENDS = re.compile(rf"(?i:{_any(_ENDINGS)})\.(?=-?{_W}(?!\.?{_W}))")
_SPLIT = {"cannot": 3, "gonna": 3, "gotta": 3, "wanna": 3, "lemme": 3, "gimme": 3}
_SUFFIX = re.compile(rf"{_Q}{_L}")
_NOT = re.compile(r"['\u2019\u2018`][tT]")
_PLAIN = re.compile(r"[a-z]+(?=[ \n])")
_CONTRACTION = re.compile(r"(?i:n?['\u2019\u2018`](?:[smdt]|re|ve|ll))")
_BREAKS = str.maketrans(dict.fromkeys("\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", " "))
_PLAIN_QUOTES = str.maketrans(
    dict.fromkeys("“«", "``")
    | dict.fromkeys("”»", "''")
    | dict.fromkeys("‘‹‛", "`")
    | dict.fromkeys("’›", "'")
)
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_SIGNS = str.maketrans(
    _BRACKETS
    | dict.fromkeys(f"{_QUOTES}–—―…")
    | dict.fromkeys("€¤₠", "$")
    | {"£": "#", "¢": "cents", "¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
)
_INSIDE = str.maketrans({" ": "\xa0", "(": "-lrb-", ")": "-rrb-", "\xad": None})
_ENTITIES = dict.fromkeys(("&quot;", "&nbsp;", "&mdash;", "&ndash;"), "") | {
    "&amp;": "&",
    "&lt;": "<",
    "&gt;": ">",
}


def tokenize(captions: Sequence[str]) -> list[str]:
    """Captions as lower-case tokens without punctuation, joined by single spaces.

    A caption that ends in a letter and a full stop ('plan b.') loses it where the next one begins
    with The, A, It ..., as in pycocoevalcap, which gives the tokenizer all captions as one text.
    """
    text = "\n".join(caption.translate(_BREAKS) for caption in captions) + "\n"
    text = text.replace("&apos;", "\u2019")
    lines, line, place = [], [], 0
    while place < len(text):
        char = text[place]
        if char == "\n":
            lines.append(" ".join(line))
            line = []
            place += 1
        elif char == " ":
            place += 1
        else:
            place, tokens = _next(text, place)
            line += [token for token in tokens if not _is_dropped(token)]
    return lines


def _is_dropped(token: str) -> bool:
    """Whether it is punctuation, or nothing; five dashes are something."""
    return token in _DROPPED or not (token.strip("-.") or len(token) > 4 and "-" in token)


def _next(text: str, place: int) -> tuple[int, list[str]]:
    """(the place behind what comes next, its tokens)."""
    match = _PLAIN.match(text, place)
    if match and match[0] not in _SPLIT:
        return match.end(), [match[0]]
    match = _ENDS.match(text, place)
    if match:
        return match.end(), [match[0].lower()]
    end, kind = place, None
    for pattern in _TOKENS:
        match = pattern.match(text, place)
        if match and match.end() > end:
            end, kind = match.end(), pattern
    if kind is None:
        sign = text[place].translate(_SIGNS)
        return place + 1, [sign if sign != text[place] or _SIGN.match(sign) else ""]
    token = text[place:end].lower()
    if kind is _TOKENS[0]:
        if token in _SPLIT and not _SUFFIX.match(text, end):
            return end, [token[: _SPLIT[token]], token[_SPLIT[token] :]]
        # don't: the n belongs to what follows.
        if len(token) > 1 and token[-1] == "n" and _NOT.match(text, end):
            end, token = end - 1, token[:-1]
    elif _CONTRACTION.fullmatch(token):
        token = token.replace("\u2019", "'").replace("\u2018", "`")
    elif not token.strip(_QUOTES):
        token = token.translate(_PLAIN_QUOTES)
    elif token.startswith("&"):
        token = _ENTITIES.get(token, token)
    return end, [token.replace("&amp;", "&").translate(_INSIDE)]
