# Copyright 2026 The jvlm Authors.
# SPDX-License-Identifier: Apache-2.0
"""How many made-up captions get pycocoevalcap's very tokens; needs it, and Java.

python -m tests.parity.fuzz_ptb [SEED [COUNT]]

Three kinds, COUNT of each: captions like COCO's; the same with contractions, numbers, addresses,
signs and the like in between; and noise.
"""

import random
import sys

from jvlm.metrics.ptb import tokenize
from tests.parity.make_metrics import ODD, coco_tokens

WORDS = """
a man woman dog cat two three people sitting standing on in of the with next to near street red
blue white small large skateboard pizza umbrella baseball kitchen train bus sign frisbee grass
water wave holding riding wearing hat tie shirt laptop phone giraffe zebra bird boat plane sky
clouds building clock tower traffic light parking flowers cake banana sandwich fork bowl couch bed
teddy bear tennis The There It An A Some They
"""
MORE = """
can't won't it's man's men's dogs' isn't I'm you're we've he'll she'd t-shirts two-story
double-decker 2 10 100 1,000 2nd 4th 50% $5 12:30 7:45 USA U.S. UK TV Mr. Mrs. Dr. Jr. vs. a.m. #1
M&Ms "STOP" 'STOP' (left) .. -- ! wii McDonald's 7-Eleven 747 F-16 1950's 1950s '50s mid-air x-ray
3/4 half-eaten ' " 5'10" 6ft naïve crêpe
"""
WORDS, MORE = WORDS.split(), MORE.split()
JOINS = [" "] * 14 + [", ", ". ", ": ", "; ", "-", "/", "'s ", ". The ", ' "', ""]
ENDS = (".", ".", "", " .", "  ", "!", "...", "?")
WRAPS = ("{}'s", '"{}"', "({})", "{}.", "{};", "'{}'", "{}!")
SIGNS = "abcdeinorstABCIST  0123456789.,;:!?'\"-_/()&%$#@*+=<>[]’“”éñ°"


def caption(rng) -> str:
    words = [rng.choice(WORDS) for _ in range(rng.randint(4, 16))]
    if rng.random() < 0.15:
        place = rng.randrange(len(words))
        words[place] = rng.choice(WRAPS).format(words[place])
    comma = ", " if rng.random() < 0.25 else " "
    text = comma.join((words[0], " ".join(words[1:])))
    return (text[0].upper() + text[1:] if rng.random() < 0.7 else text) + rng.choice(ENDS)


def odd(rng) -> str:
    words = [rng.choice(WORDS) for _ in range(rng.randint(4, 12))]
    for _ in range(rng.randint(1, 4)):
        words.insert(rng.randrange(len(words) + 1), rng.choice((*ODD, *MORE)))
    return "".join(word + rng.choice(JOINS) for word in words).strip() + rng.choice((".", ""))


def noise(rng) -> str:
    return "".join(rng.choice(SIGNS) for _ in range(rng.randint(5, 30)))


def main(seed: str = "0", count: str = "8000"):
    rng = random.Random(int(seed))
    for make in (caption, odd, noise):
        captions = [" ".join(make(rng).split()) for _ in range(int(count))]
        want = coco_tokens([captions])[0]
        differ = [c for c, a, b in zip(captions, want, tokenize(captions)) if a != b]
        print(
            f"{make.__name__}: {1 - len(differ) / len(captions):.4%} alike", *differ[:3], sep="\n  "
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
