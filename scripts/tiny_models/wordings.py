"""The many ways in which users ask for a picture, and edit what they asked for."""
from .captions import Item, article, join, position_phrase

SIZE_WORDS = {"small": ("small", "small", "little", "tiny"), "large": ("large", "large", "big", "big", "huge", "giant"),
              "medium": ("medium", "medium", "medium-sized", "middle-sized", "mid-sized")}
COLOUR_WORDS = {"grey": ("grey", "grey", "gray"), "purple": ("purple", "purple", "purple", "violet"),
                "red": ("red",) * 9 + ("scarlet",)}
SHAPE_WORDS = {"circle": ("circle",) * 6 + ("disc", "disk", "dot"), "square": ("square",) * 6 + ("box",),
               "cross": ("cross",) * 5 + ("plus sign",), "diamond": ("diamond",) * 5 + ("rhombus",)}


def colour_word(rng, colour):
    """The colour as a user may say it."""
    return rng.choice(COLOUR_WORDS.get(colour, (colour,)))


def shape_word(rng, shape):
    """The shape as a user may say it."""
    return rng.choice(SHAPE_WORDS.get(shape, (shape,)))


def size_word(rng, size):
    """The size as a user may say it."""
    return rng.choice(SIZE_WORDS[size])


def position_words(rng, position):
    """'at the top left', 'in the upper left corner', 'top left'."""
    if position == "centre":
        return rng.choice(("in the centre", "in the center", "in the middle", "at the centre", "at the center",
                           "right in the middle", "in the middle of the picture", "centred", "center"))
    if position in ("left", "right"):
        return rng.choice((f"on the {position}", f"on the {position}", f"at the {position}", f"to the {position}",
                           f"on the {position} side", f"on the {position} of the picture", f"on the {position}-hand side"))
    if " " not in position:
        other = "upper" if position == "top" else "lower"
        return rng.choice((f"at the {position}", f"at the {position}", f"on the {position}", f"on {position}" if position == "top" else "at the bottom",
                           f"at the {position} of the picture", f"at the {position} edge", f"in the {other} middle"))
    up, side = position.split()
    other = "upper" if up == "top" else "lower"
    return rng.choice((f"at the {position}", f"at the {position}", f"in the {position}", f"in the {position} corner",
                       f"in the {other} {side} corner", f"at the {other} {side}", f"{position}", f"{up}-{side}",
                       f"in the {up}-{side} corner", f"in the corner at the {position}", f"on the {position}"))


def background_words(rng, colour):
    """'on a white background', 'on white', 'against a white backdrop'."""
    c, a = colour_word(rng, colour), article(colour)
    return rng.choice((f"on a {c} background" if a == "a" else f"on an {c} background",) * 3 + (
        f"on {c}", f"on {c}", f"with {a} {c} background", f"against {a} {c} background", f"against {a} {c} backdrop",
        f"over {a} {c} background", f"in front of {a} {c} background", f", {c} background", f"; the background is {c}",
        f"and make the background {c}", f"with {c} behind it", f"on {a} {c} canvas"))


def loose_item(rng, item):
    """One shape in a user's words, with its position."""
    size = size_word(rng, item.size) if item.size else ""
    colour = colour_word(rng, item.colour) if item.colour else ""
    shape = shape_word(rng, item.shape)
    place = position_words(rng, item.position) if item.position else ""
    form = rng.random()
    if form < 0.72:
        words = [size, colour, shape]
        text = " ".join(w for w in words if w)
        text = f"{article(text)} {text} {place}"
    elif form < 0.79:
        facts = [f for f in (colour, size) if f]
        text = f"{article(shape)} {shape}" + (f" that is {' and '.join(facts)}" if facts else "") + f" {place}"
    elif form < 0.86 and colour:
        text = f"{size} {shape} in {colour}".strip()
        text = f"{article(text)} {text} {place}"
    elif form < 0.93:
        text = ", ".join(f for f in (shape, colour, size, place) if f)
    else:
        text = " ".join(f for f in (size, colour, shape, place) if f)
    return text.strip()


def loose_scene(rng, scene):
    """A whole scene in a user's words."""
    text = join(loose_item(rng, i) for i in scene.items)
    if scene.background:
        if rng.random() < 0.08:
            return f"on {article(scene.background)} {scene.background} background, {text}"
        text = f"{text} {background_words(rng, scene.background)}".replace(" ,", ",").replace(" ;", ";")
    return text


REQUESTS = (
    "Write a caption for a picture of {}.", "Write a caption for a picture of {}", "Write a caption for {}.",
    "Write a picture caption for {}.", "Write me a caption for an image of {}.", "write a caption of {}",
    "Draw {}.", "Draw {}", "draw {}", "Draw me {}.", "Draw me {}", "draw me {}", "Please draw {}.", "Can you draw {}?",
    "Could you draw {} for me?", "Could you please draw {}?", "Paint {}.", "Paint me {}", "Please paint {}.",
    "I want a picture of {}.", "I want {}.", "I want to see {}", "I would like a picture of {}.", "I'd like to see {}.",
    "I would like {}, please.", "I need an image of {}.", "Make a picture of {}.", "Make me an image of {}",
    "Make {}.", "make {}", "Create an image with {}.", "Create a picture of {}", "Generate a picture of {}.",
    "Generate an image of {}", "generate {}", "Show me {}.", "Show {}", "Show a picture with {}.",
    "Give me a caption for {}.", "Give me a prompt for {}.", "Give me {}", "Caption: {}", "caption for {}",
    "A caption for {}, please.", "Turn this into a caption: {}", "Turn this request into a caption: I want {}.",
    "Describe a picture of {}.", "Describe an image that shows {}.", "Write a prompt for an image of {}.",
    "Write an image prompt: {}", "a picture of {}", "picture of {}", "an image of {}", "{}", "{}.", "{}, please",
    "Let me see {}.", "How about {}?", "Sketch {}.", "Please make a drawing of {}.", "My picture should show {}.",
    "Hello! Please draw {}.", "Hi, can you write a caption for a picture of {}?", "What caption fits a picture of {}?",
    "Write a short caption for a picture with {}.", "Suggest a caption for an image of {}.",
)


def request(rng, scene):
    """A request for a picture of the scene."""
    text = rng.choice(REQUESTS).format(loose_scene(rng, scene))
    return text[0].upper() + text[1:] if rng.random() < 0.3 else text


def edit(rng, scene):
    """(request, changed scene): one change to a scene of one shape, or an added or removed shape."""
    from .captions import BACKGROUNDS, COLOURS, POSITIONS, SHAPES, SIZES, noun
    kind = rng.choice(("colour", "size", "position", "background", "shape", "add", "remove", "fix"))
    first = scene.items[0]
    if kind in ("add", "remove"):
        if kind == "remove" and len(scene.items) == 2:
            gone = rng.choice(scene.items)
            if scene.items[0].shape == scene.items[1].shape:
                return None
            said = rng.choice((f"Remove the {gone.shape}.", f"Take the {gone.shape} away.", f"Without the {gone.shape}, please.",
                               f"Delete the {gone.shape}.", f"Leave out the {gone.shape}."))
            return said, scene.but(items=tuple(i for i in scene.items if i != gone))
        if len(scene.items) > 1:
            return None
        new = Item(rng.choice(SHAPES), rng.choice(COLOURS), rng.choice(SIZES + (None,)), rng.choice(tuple(POSITIONS) + (None,)))
        if noun(new) == noun(first) or (new.position and new.position == first.position) or new.colour == scene.background:
            return None
        words = loose_item(rng, new)
        said = rng.choice((f"Add {words}.", f"Now add {words}", f"Add {words}, please.", f"Also {words}.",
                           f"Put {words} into it too.", f"And {words}."))
        return said, scene.but(items=(first, new))
    if kind == "background":
        colour = rng.choice(BACKGROUNDS)
        if colour == scene.background or colour in [i.colour for i in scene.items]:
            return None
        word = colour_word(rng, colour)
        said = rng.choice((f"Make the background {word}.", f"Now {background_words(rng, colour).lstrip(',; ')}.",
                           f"Put it {background_words(rng, colour).lstrip(',; ')}." if rng.random() < 0.3 else f"Put it on {word}.",
                           f"Change the background to {word}.", f"With {article(word)} {word} background, please.",
                           f"The background should be {word}.", f"No, I want {article(word)} {word} background."))
        return said, scene.but(background=colour)
    if len(scene.items) > 1:
        return None
    if kind == "size":
        size = rng.choice([s for s in SIZES if s != first.size])
        word = size_word(rng, size)
        said = rng.choice((f"Make it {word}.", f"It should be {word}.", f"Now make it {word}", f"I want it {word}."))
        return said, scene.but(items=(first.but(size=size),))
    if kind == "position":
        place = rng.choice([p for p in POSITIONS if p != first.position])
        word = position_words(rng, place) if rng.random() < 0.5 else position_phrase(place)
        if word.startswith(("cent", "top", "bottom")):
            return None
        said = rng.choice((f"Put it {word}.", f"Move it {word}." if not word.startswith("at") else f"Move it to {word[3:]}.",
                           f"Now {word}.", f"It should be {word}.", f"Place it {word}, please."))
        return said, scene.but(items=(first.but(position=place),))
    if kind == "shape":
        shape = rng.choice([s for s in SHAPES if s != first.shape])
        word = shape_word(rng, shape)
        said = rng.choice((f"Make it a {word}.", f"Now as a {word}.", f"Use a {word} instead.", f"Change it to a {word}.",
                           f"No, I meant a {word}.", f"Sorry, I meant a {word}.", f"A {word} instead, please."))
        return said, scene.but(items=(first.but(shape=shape),))
    colour = rng.choice([c for c in COLOURS if c not in (first.colour, scene.background)])
    word = colour_word(rng, colour)
    said = rng.choice((f"Make it {word}.", f"Now in {word}.", f"It should be {word}.", f"Change the colour to {word}.",
                       f"I want it {word}.", f"In {word} instead.", f"No, {word}.", f"Actually, make it {word}.",
                       f"Sorry, I meant {word}.", f"Change its color to {word}."))
    return said, scene.but(items=(first.but(colour=colour),))


TRANSLATE = {
    "de": ("Translate into German: {}", "Translate to German: {}", "Translate this into German: {}", "In German: {}",
           "translate to german: {}", "German: {}", 'How do you say "{}" in German?', 'What is "{}" in German?',
           "Say this in German: {}", "Please translate this caption into German: {}", "Put this into German: {}",
           "Write this in German: {}", "Give me the German for: {}", 'Translate "{}" into German.',
           "How would you say this in German? {}", "Can you translate this into German? {}", "Translate the caption to German.\n{}"),
    "en": ("Translate into English: {}", "Translate to English: {}", "In English: {}", 'What does "{}" mean in English?',
           'What does "{}" mean?', "Say this in English: {}", 'Translate "{}" into English.',
           "Please translate this into English: {}", "English: {}", "Can you translate this into English? {}"),
}
TRANSLATE["fr"] = tuple(t.replace("German", "French").replace("german", "french") for t in TRANSLATE["de"])
FOLLOW_UP = {
    "de": ("Now in German.", "And in German?", "Translate that into German.", "Say it in German.", "In German, please.",
           "Can you translate it into German?", "What is that in German?", "German, please.", "Translate it to German."),
}
FOLLOW_UP["fr"] = tuple(t.replace("German", "French") for t in FOLLOW_UP["de"])
LANGUAGES = {"en": "English", "de": "German", "fr": "French"}


def translate_prompt(source, target, text):
    """The one-line translator prompt that `gemma-generate --translate` sends."""
    s, t = LANGUAGES[source], LANGUAGES[target]
    return (f"You are a professional {s} ({source}) to {t} ({target}) translator. Your goal is to accurately convey the "
            f"meaning and nuances of the original {s} text while adhering to {t} grammar, vocabulary, and cultural "
            f"sensitivities.\nProduce only the {t} translation, without any additional explanations or commentary. "
            f"Please translate the following {s} text into {t}:\n\n\n{text}")
