"""Which language a text is in, of those that can be told without a model: by its script, and by its commonest words."""

from collections import Counter

import regex

SCRIPTS = {  # the language that a script stands for here; a script says no more than that
    "Greek": "el",
    "Cyrillic": "ru",
    "Hebrew": "he",
    "Arabic": "ar",
    "Devanagari": "hi",
    "Thai": "th",
    "Hangul": "ko",
    "Han": "zh",
    "Hiragana": "ja",
    "Katakana": "ja",
}
WORDS = {  # function words that are frequent, and as far as can be not those of a neighbour
    "en": "the of and to in is that it was for on are with as this be by from at have not you which they or an",
    "de": "der die das und ist nicht ein eine zu den von mit sich auf für im dem auch es wird sind als bei oder ich",
    "fr": "le les des et est une du dans que qui pas pour sur au avec ce il sont par plus ne vous nous je elle",
    "es": "el los las y es una del que en por con para no se su al lo como más pero son fue está hay muy",
    "it": "il che di è una non per gli della sono con dei del anche come più nel alla si ma lo questo le ed i",
    "pt": "o os as e é uma que não do da em um para com por mais como dos das ao foi se são você na no",
    "nl": "de het een en van is dat niet op te zijn met voor aan er in ook maar om door bij wordt naar uit ik",
}
LANGUAGES = (*WORDS, *dict.fromkeys(SCRIPTS.values()))
LEAST_HITS, LEAST_SHARE, LEAD = 2, 0.1, 1.5  # of the words of a text in Latin letters
_LETTERS = regex.compile("|".join(rf"(?P<{script}>\p{{{script}}})" for script in ("Latin", *SCRIPTS)))
_WORDS = {language: frozenset(words.split()) for language, words in WORDS.items()}


def guess(text: str) -> str | None:
    """The language that most of a text is in, or None where it cannot be told.

    A script that is not Latin has the letters' majority, and Japanese is Han with at least a tenth of kana. In Latin
    letters the language's function words are at least 2 words and a tenth of all, and half as many again as those of
    any other.
    """
    scripts = Counter(match.lastgroup for match in _LETTERS.finditer(text))
    if not scripts:
        return None
    kana, east = scripts["Hiragana"] + scripts["Katakana"], scripts["Han"]
    if 2 * (kana + east) > scripts.total():
        return "ja" if 10 * kana >= kana + east else "zh"
    script, n = scripts.most_common(1)[0]
    if 2 * n <= scripts.total():
        return None
    return SCRIPTS[script] if script != "Latin" else _by_words(text)


def _by_words(text: str) -> str | None:
    words = regex.findall(r"\p{L}+", text.lower())
    hits = Counter({language: sum(word in known for word in words) for language, known in _WORDS.items()})
    (first, most), (_, next_most) = hits.most_common(2)
    clear = most >= max(LEAST_HITS, LEAST_SHARE * len(words)) and most >= LEAD * next_most
    return first if clear else None
