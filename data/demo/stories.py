"""The storyteller's grammar: a story is a template whose slots are filled once and then kept. No torch.

A slot is written `{slot}`, or `{Slot}` for a capital letter. `tell` fills the slots at random;
`is_story` says whether a text can be made by the same grammar, with names, things and pronouns kept.
"""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass


def words(text: str) -> tuple[str, ...]:
    """The words of a text without punctuation."""
    return tuple(text.split())


STORYTELLER_REFUSAL = "I can only tell little stories. Ask me: Tell me a story about a fox."

GIRLS = words(
    "Mia Lily Emma Anna Zoe Ruby Nora Ella Clara Lucy Rosa Maya Ida Luna Alice Eva Sofia Leah Nina Amy Hana "
    "Maria Olivia Sara Tara Wendy Yuki Greta Frida Daisy"
)
BOYS = words(
    "Tom Ben Leo Max Finn Oscar Sam Jack Noah Paul Theo Hugo Emil Adam Felix Omar Ravi Peter Jonas David "
    "Luis Kenji Milo Otto Simon Tim Victor Willy Anton Bruno"
)
ANIMALS = words(
    "fox rabbit bear cat dog mouse owl frog hedgehog squirrel duck turtle horse lion tiger elephant penguin "
    "dragon wolf goat sheep pig cow monkey panda koala otter beaver badger mole deer donkey crow parrot "
    "dolphin whale crab snail bee ant spider unicorn kitten puppy dinosaur"
)
THINGS = words(
    "robot teapot cloud star snowman train boat kite pumpkin toaster computer car moon tree lamp chair"
)
PEOPLE = {
    "princess": "she", "queen": "she", "witch": "she", "prince": "he", "king": "he", "knight": "",
    "pirate": "", "wizard": "he", "baker": "", "farmer": "", "sailor": "", "astronaut": "", "scientist": "",
}  # fmt: skip
PRONOUNS = {
    "she": {"sub": "she", "obj": "her", "pos": "her", "child": "girl"},
    "he": {"sub": "he", "obj": "him", "pos": "his", "child": "boy"},
}
TRAITS = words("little brave clever kind curious happy shy old young tiny cheerful gentle")

OPENING = "{begin} there was {a_trait} {noun} called {name}. {home} {hobby}"
MIDDLE = "{when}, {problem}"
ENDING = "{thanks} {close}"
STORY = f"{OPENING} {MIDDLE} {ENDING}"

SLOTS: dict[str, tuple[str, ...]] = {
    "begin": ("Once upon a time", "Long ago", "Many years ago", "In a land far away", "Not so long ago"),
    "a_trait": tuple(("an " if trait[0] in "aeiou" else "a ") + trait for trait in TRAITS),
    "home": ("{Sub} lived {place}.", "{Pos} home was {place}.", "{Name} lived {place}."),
    "place": (
        "in a small house by the sea", "at the edge of a dark forest", "on top of a green hill",
        "in a quiet village", "near a blue lake", "under an old oak tree", "in a big and busy town",
        "on a small island", "beside a slow river", "in a valley full of flowers", "behind the old mill",
        "in a cave with a round door",
    ),
    "hobby": (
        "Every day {sub} liked to {activity}.", "{Sub} loved to {activity}.", "{Name} loved to {activity}.",
    ),
    "activity": (
        "sing songs", "pick berries", "watch the clouds", "dance in the rain", "bake apple pies",
        "climb tall trees", "look at the stars", "swim in the cold water", "paint pictures",
        "plant flowers", "read old books", "play the drum", "fly a kite", "collect shiny stones",
    ),
    "when": (
        "One morning", "One sunny day", "One windy night", "One winter day", "One evening", "One rainy day",
        "On the first day of spring", "Late one night",
    ),
    "problem": (
        "{name} could not find {pos} {item}. {Sub} looked {search}, but it was not there. {helper} "
        "Together they looked again, and they found the {item} {hidden}.",
        "{name} lost {pos} way in the {wild}. It grew dark, and {sub} was {afraid}. {helper} "
        "The {friend} knew the way and led {obj} home by the light of the {light}.",
        "a storm broke the {building}. {Name} tried to mend it alone, but it was too hard. {helper} "
        "They worked {long}, and soon the {building} was as good as new.",
        "{name} found a {baby} that had lost its mother. {Name} gave it {food} and kept it warm. {helper} "
        "They searched {search} until the {baby} was with its mother again.",
        "a big stone rolled in front of {pos} door. {Name} pushed and pushed, but the stone did not move. "
        "{helper} They used {lever}, and at last the stone rolled away.",
        "{name} wanted to cook a soup, but there was no {food} in the house. {Sub} was very hungry. {helper} "
        "The {friend} had {food} to share, and they cooked a big pot of soup.",
        "{name} heard a strange noise in the {wild}. {Sub} was {afraid}, but {sub} went to look. {helper} "
        "Together they saw that it was only {noise}, and they laughed {long}.",
        "{name} wanted to cross the river, but the bridge was gone. The water was deep and cold. {helper} "
        "They built a boat from {stuff}, and it carried them safely to the other side.",
        "{name} planted a seed, but it did not grow. {Sub} waited {long}, and {sub} was sad. {helper} "
        "They gave the seed water and sang to it, and soon there was a {colour} flower.",
        "the {light} did not shine any more. Everyone in the village was {afraid}. {helper} "
        "They climbed the highest hill and polished the {light} with {cloth} until it was bright again.",
        "it was the birthday of {name}, but nobody came. {Sub} sat alone and was sad. {helper} "
        "The {friend} had made a cake with {food}, and they danced {long}.",
        "{name} found an old map. It showed a treasure in the {wild}. {helper} "
        "They dug with {shovel} and found a box with a {colour} {item}.",
    ),
    "item": (
        "hat", "key", "lantern", "drum", "ring", "book", "scarf", "bell", "flute", "ball", "crown", "clock",
    ),
    "search": ("everywhere", "under every leaf", "high and low", "in every corner", "all day long"),
    "hidden": (
        "in a hollow tree", "under the bed", "in the tall grass", "on the roof", "behind a bush",
        "in an empty nest", "at the bottom of the well",
    ),
    "wild": ("forest", "fog", "mountains", "deep snow", "old garden", "desert", "swamp"),
    "afraid": ("afraid", "worried", "very sad", "a little scared"),
    "light": ("moon", "evening star", "old lighthouse"),
    "building": ("roof", "fence", "bridge", "boat", "tower", "mill"),
    "long": ("all day", "until the sun went down", "for hours", "the whole night", "for a long time"),
    "baby": ("small bird", "lost lamb", "grey kitten", "baby seal", "tiny duckling"),
    "food": ("bread", "milk", "honey", "carrots", "apples", "nuts", "cheese"),
    "lever": ("a long rope", "a strong branch", "an iron bar", "an old oar"),
    "cloth": ("a soft cloth", "an old sock", "warm water", "a clean brush"),
    "shovel": ("an old spoon", "a silver shovel", "their bare hands", "a rusty spade"),
    "noise": (
        "the wind in a bottle", "a sleeping giant", "a frog with a cold", "an old door", "a broken drum",
    ),
    "stuff": ("old wood", "reeds", "a big barrel", "leaves and rope", "three logs"),
    "colour": ("red", "blue", "golden", "silver", "green", "purple"),
    "helper": (
        'Then {a_kind} {friend} came by. "{offer}" said the {friend}.',
        "Just then {name} met {a_kind} {friend}. \"{offer}\" the {friend} said.",
        'But {a_kind} {friend} saw {obj} and said, "{offer_end}"',
    ),
    "a_kind": ("a kind", "a wise", "a friendly", "an old", "a big", "a small", "a funny"),
    "friend": (
        "owl", "beaver", "bear", "goose", "swan", "stork", "mole", "giant", "fairy", "gardener", "shepherd",
        "miller", "fisherman", "elf", "raven", "snail",
    ),
    "offer": ("Do not worry,", "I can help you,", "Let us do it together,", "Two are better than one,"),
    "offer_end": ("Do not worry.", "I can help you.", "Let us do it together.", "Two are better than one."),
    "thanks": (
        '"Thank you," said {name}.', "{Name} was very happy.", '"What a day," said {name} and smiled.',
        "{Name} gave the {friend} a big hug.", "{Name} thanked the {friend} with a song.",
    ),
    "close": (
        "From that day on, {name} and the {friend} were best friends.",
        "And {name} never felt alone again.",
        "That night {name} slept well and dreamed of {dream}.",
        "And if you go there today, you can still see {name} and the {friend} together.",
        "After that, {sub} always helped others too.",
    ),
    "dream": ("the stars", "new adventures", "the sea", "a golden city", "flying"),
}  # fmt: skip

ANY_HERO = (
    "Tell me a story", "Tell me a story.", "tell me a story", "Tell me a story, please.", "A story please",
    "Please tell me a story.", "Can you tell me a story?", "story", "I want to hear a story", "Another story",
    "Tell me another story", "Tell me another one", "Write a story", "Write a short story.", "A new story!",
    "Tell me a bedtime story", "Once upon a time", "One more story, please", "I would like a story.",
)  # fmt: skip
SOME_HERO = (
    "Tell me a story about {hero}", "Tell me a story about {hero}.", "tell me a story about {hero}",
    "A story about {hero} please", "A story about {hero}", "Please tell me a story about {hero}.",
    "Can you tell me a story about {hero}?", "Write a story about {hero}", "Now a story about {hero}",
    "I want to hear a story about {hero}", "Another story about {hero}", "story about {hero}",
    "Tell me a tale of {hero}", "Tell me another one about {hero}", "Tell me something about {hero}.",
)  # fmt: skip


@dataclass(frozen=True)
class Hero:
    """Whom a story is about. `noun` is what, `pronoun` is `she` or `he`, `trait` is a word or empty."""

    noun: str
    name: str
    pronoun: str
    trait: str = ""

    def slots(self) -> dict[str, str]:
        """The slots of a story that its hero settles."""
        fixed = {"noun": self.noun, "name": self.name, **PRONOUNS[self.pronoun]}
        if self.trait:
            fixed["a_trait"] = f"{article(self.trait)} {self.trait}"
        return fixed


def article(word: str) -> str:
    """The indefinite article that goes before the word."""
    return "an" if word[0] in "aeiou" else "a"


def capital(words: str) -> str:
    """The same words with a capital first letter."""
    return words[0].upper() + words[1:]


def made_up_word(rng: random.Random) -> str:
    """Two or three syllables that mean nothing, so that a model learns to copy any word."""
    syllables = (rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3)))
    return "".join(syllables) + rng.choice(("", "", "n", "r", "l", "x", "t", "s"))


def random_hero(rng: random.Random) -> Hero:
    """A child, animal, thing or person with a usual name that fits the pronoun."""
    noun = rng.choice(rng.choices((("child",), ANIMALS, THINGS, tuple(PEOPLE)), (30, 45, 10, 15))[0])
    pronoun = PEOPLE.get(noun) or rng.choice(("she", "he"))
    name = rng.choice(GIRLS if pronoun == "she" else BOYS)
    return Hero(PRONOUNS[pronoun].get(noun, noun), name, pronoun)


def requested_hero(rng: random.Random) -> tuple[str, Hero]:
    """Words that ask for a hero, such as `a brave fox called Ruby`, and a hero who fits them."""
    hero = random_hero(rng)
    form = rng.choices(("noun", "name", "both", "plural"), (45, 35, 15, 5))[0]
    if form in ("name", "both") and rng.random() < 0.3:
        hero = Hero(hero.noun, made_up_word(rng).capitalize(), hero.pronoun)
    if form == "name":
        hero = Hero(PRONOUNS[hero.pronoun]["child"], hero.name, hero.pronoun)
        return rng.choice((hero.name, hero.name, hero.name, hero.name.lower())), hero
    if form == "plural":
        hero = Hero(rng.choice([word for word in ANIMALS if word[-1] not in "xfsh"]), hero.name, hero.pronoun)
        return hero.noun + "s", hero
    if rng.random() < 0.25:
        hero = Hero(made_up_word(rng), hero.name, hero.pronoun)
    if rng.random() < 0.2:
        hero = Hero(hero.noun, hero.name, hero.pronoun, rng.choice(TRAITS))
    asked = f"{hero.trait} {hero.noun}".strip()
    asked = f"{rng.choice((article(asked), article(asked), article(asked), 'the'))} {asked}"
    return (f"{asked} {rng.choice(('called', 'named'))} {hero.name}" if form == "both" else asked), hero


def tell(rng: random.Random, hero: Hero) -> str:
    """A story about the hero, 60 to 110 words."""
    bound = hero.slots()

    def fill(match: re.Match[str]) -> str:
        slot = match[1]
        key = slot.lower()
        if key not in bound:
            options = [option for option in SLOTS[key] if (key, option) != ("friend", hero.noun)]
            bound[key] = re.sub(r"\{(\w+)\}", fill, rng.choice(options))
        return bound[key] if slot == key else capital(bound[key])

    return re.sub(r"\{(\w+)\}", fill, STORY)


def story_turn(rng: random.Random) -> tuple[str, str]:
    """A request for a story, and a story that fits it."""
    if rng.random() < 0.3:
        return rng.choice(ANY_HERO), tell(rng, random_hero(rng))
    words, hero = requested_hero(rng)
    return rng.choice(SOME_HERO).format(hero=words), tell(rng, hero)


def is_story(text: str, noun: str | None = None, name: str | None = None) -> bool:
    """Whether the grammar makes exactly this text, for the given noun and name where given."""
    start = re.match(r".*? there was an? \w+ ([\w ]+) called (\w+)\.", text)
    if not start or noun not in (None, start[1]) or name not in (None, start[2]):
        return False
    heroes = (Hero(start[1], start[2], pronoun) for pronoun in PRONOUNS)
    return any(end == len(text) for hero in heroes for end, _ in _matches(STORY, text, 0, hero.slots()))


def _matches(
    template: str, text: str, at: int, bound: dict[str, str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Every way in which `template` makes a part of `text` that starts at `at`: its end and the slots."""
    literal, opening, rest = template.partition("{")
    if not text.startswith(literal, at):
        return
    at += len(literal)
    if not opening:
        yield at, bound
        return
    slot, _, rest = rest.partition("}")
    for end, inner in _slot_matches(slot, text, at, bound):
        yield from _matches(rest, text, end, inner)


def _slot_matches(
    slot: str, text: str, at: int, bound: dict[str, str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """The same for one slot. Those with a capital letter are always among the bound ones."""
    if slot not in SLOTS or slot in bound:
        value = bound[slot.lower()]
        value = value if slot in bound else capital(value)
        if text.startswith(value, at):
            yield at + len(value), bound
        return
    for option in SLOTS[slot]:
        for end, inner in _matches(option, text, at, bound):
            yield end, {**inner, slot: text[at:end]}
