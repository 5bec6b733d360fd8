"""Questions about a described scene: what is where, how many, which is larger.

Each `ask_*` function returns (question, answer) about a scene, or None where the drawn question
would have no clear answer. Answers have one fixed spelling; questions have many. Where an answer
has to be worked out, it names what it stands on first: a small model that writes its steps down
needs no more than one of them at a time, and a reader can check them.
"""
from .captions import (COLOURS, POSITIONS, SHAPES, SIZES, article, background_phrase, join, noun, phrase,
                       position_phrase)

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")


def plural(shape):
    """'circles', 'crosses'."""
    return shape + ("es" if shape.endswith("s") else "s")


def spell_colour(rng, colour):
    """The colour as users spell it (sometimes 'gray')."""
    return "gray" if colour == "grey" and rng.random() < 0.3 else colour


def word_colour(rng):
    """'colour' or 'color'."""
    return "colour" if rng.random() < 0.6 else "color"


def name(item):
    """How answers name a shape: 'the red circle'."""
    return f"the {item.colour} {item.shape}"


def cap(text):
    """First letter in upper case."""
    return text[0].upper() + text[1:]


def refer(rng, item, scene):
    """A way for the user to name one shape of the scene without doubt."""
    choices = [name(item)] * 2
    if sum(i.shape == item.shape for i in scene.items) == 1:
        choices.append(f"the {item.shape}")
    if sum(i.colour == item.colour for i in scene.items) == 1:
        choices.append(f"the {item.colour} {rng.choice(('one', 'shape'))}")
    return rng.choice(choices).replace("grey", spell_colour(rng, "grey"))


def describe(rng, scene):
    """The scene in words, as a user would type it."""
    phrases = [phrase(i) for i in scene.items]
    if rng.random() < 0.15:
        phrases = [p.replace("large", "big") for p in phrases]
    ground, a = background_phrase(scene.background), article(scene.background)
    listed = join(phrases)
    there = "are" if len(phrases) > 1 else "is"
    return rng.choice((
        f"A picture shows {listed} {ground}.",
        f"The picture shows {listed} {ground}.",
        f"There {there} {listed} {ground}.",
        f"There {there} {listed}. The background is {scene.background}.",
        f"I have a picture of {listed} {ground}.",
        f"I drew {listed} {ground}.",
        f"Imagine {listed} {ground}.",
        f"In the picture there {there} {listed}. The background is {scene.background}.",
        f"On {a} {scene.background} background there {there} {listed}.",
        f"Here is a scene: {listed} {ground}.",
        f"Scene: {'; '.join(phrases)}; {scene.background} background.",
        f"Scene: {', '.join(phrases)}, {ground}.",
        f"Look at this picture: {listed} {ground}.",
        f"{cap(listed)} {ground}.",
        f"{cap(listed)}. The background is {scene.background}.",
        "A picture with these shapes:\n" + "\n".join("- " + p for p in phrases) + f"\nThe background is {scene.background}.",
    ))


def said_again(reference):
    """A user's reference as answers repeat it."""
    return reference.replace("gray", "grey")


def pick_unique(rng, scene, field):
    """An item that alone has its value of `field`, or None."""
    values = [getattr(i, field) for i in scene.items]
    alone = [i for i in scene.items if values.count(getattr(i, field)) == 1]
    return rng.choice(alone) if alone else None


def absent(rng, scene, field, values):
    """A value that no item of the scene has."""
    return rng.choice([v for v in values if v not in {getattr(i, field) for i in scene.items}])


def looked_for(scene, said, asked, found):
    """'I see a small red circle, blue star? no; a large blue star, blue star? yes'.

    The shapes of the scene as said(item) puts them, up to the one that was found (None: all of them), what is asked for beside each.
    """
    last = scene.items.index(found) if found else len(scene.items)
    return "I see " + "; ".join(f"{said(item)}, {asked}? {'yes' if n == last else 'no'}" for n, item in enumerate(scene.items[:last + 1]))


def ask_colour(rng, scene):
    c = word_colour(rng)
    if rng.random() < 0.1:
        shape = absent(rng, scene, "shape", SHAPES)
        return rng.choice((f"What {c} is the {shape}?", f"Which {c} does the {shape} have?")), \
            f"There is no {shape} in the picture."
    item = pick_unique(rng, scene, "shape")
    if not item:
        return None
    s = item.shape
    return rng.choice((f"What {c} is the {s}?", f"Which {c} is the {s}?", f"What is the {c} of the {s}?",
                       f"Tell me the {c} of the {s}.", f"Which {c} does the {s} have?", f"The {s} is what {c}?",
                       f"What {c} does the {s} have?", f"what {c} is the {s}")), f"The {s} is {item.colour}."


def ask_shape(rng, scene):
    item = pick_unique(rng, scene, "colour")
    if not item:
        return None
    c = spell_colour(rng, item.colour)
    return rng.choice((f"What shape is {c}?", f"Which shape is {c}?", f"What is the {c} shape?",
                       f"What shape is the {c} one?", f"Which shape is the {c} one?", f"What is {c}?",
                       f"What kind of shape is the {c} one?")), f"The {item.colour} shape is {article(item.shape)} {item.shape}."


def ask_where(rng, scene):
    item = rng.choice(scene.items)
    r = refer(rng, item, scene)
    return rng.choice((f"Where is {r}?", f"Where can I find {r}?", f"In which place is {r}?",
                       f"What is the position of {r}?", f"Where do you see {r}?", f"Tell me where {r} is.",
                       f"Can you tell me where {r} is?", f"where is {r}")), \
        f"{cap(said_again(r))} is {position_phrase(item.position)}."


def ask_size(rng, scene):
    item = rng.choice(scene.items)
    r = refer(rng, item, scene)
    return rng.choice((f"How big is {r}?", f"What size is {r}?", f"How large is {r}?", f"What is the size of {r}?",
                       f"Tell me the size of {r}.", f"Which size does {r} have?")), f"{cap(said_again(r))} is {item.size}."


def ask_place(rng, scene, nothing=0.2):
    """nothing: how often a place is asked for where there is nothing."""
    taken = {i.position: i for i in scene.items}
    place = rng.choice(list(taken)) if rng.random() >= nothing else absent(rng, scene, "position", list(POSITIONS))
    p = said = position_phrase(place)
    if rng.random() < 0.3:
        p = p.replace("at the", "in the") if place != "centre" else "in the middle"
    question = rng.choice((f"What is {p}?", f"Which shape is {p}?", f"What do you see {p}?", f"What can be found {p}?",
                           f"Is there something {p}?", f"What's {p}?", f"{cap(p)}, what is there?", f"Tell me what is {p}."))
    found = taken.get(place)
    what = f"{article(noun(found))} {noun(found)}" if found else "nothing"
    return question, f"{looked_for(scene, phrase, said, found)}: {said} there is {what}."


def ask_background(rng, scene):
    c = word_colour(rng)
    return rng.choice((f"What {c} is the background?", f"Which {c} is the background?", f"What is the background {c}?",
                       f"What is the {c} of the background?", "What is the background like?",
                       f"Tell me the background {c}.", f"Which {c} does the background have?",
                       f"what {c} is the background")), f"The background is {scene.background}."


def ask_exists(rng, scene):
    yes = rng.random() < 0.5
    kinds = {(i.colour, i.shape) for i in scene.items}
    if yes:
        colour, shape = rng.choice(sorted(kinds))
    else:  # a near miss half of the time: a colour and a shape that occur, but not together
        near = rng.random() < 0.6
        colours = [i.colour for i in scene.items] if near else COLOURS
        colour, shape = rng.choice(colours), rng.choice([i.shape for i in scene.items] if near else SHAPES)
        if (colour, shape) in kinds:
            return None
    what = f"{article(colour)} {colour} {shape}"
    question = rng.choice((f"Is there {what}?", f"Is there {what} in the picture?", f"Do you see {what}?",
                           f"Can you see {what}?", f"Does the picture show {what}?", f"Is {what} in the scene?"))
    found = next((i for i in scene.items if (i.colour, i.shape) == (colour, shape)), None)
    seen = looked_for(scene, lambda i: f"{article(noun(i))} {noun(i)}", f"{colour} {shape}", found)
    return question, f"{seen}: there is {article(colour) if found else 'no'} {colour} {shape}."


def ask_is_colour(rng, scene):
    item = pick_unique(rng, scene, "shape")
    if not item:
        return None
    colour = item.colour if rng.random() < 0.5 else rng.choice(COLOURS)
    return rng.choice((f"Is the {item.shape} {colour}?", f"Would you say the {item.shape} is {colour}?",
                       f"Is it true that the {item.shape} is {colour}?", f"The {item.shape} is {colour}, right?")), \
        f"The {item.shape} is {item.colour}, so {'yes' if colour == item.colour else 'no'}."


def ask_list(rng, scene):
    question = rng.choice(("What is in the picture?", "What do you see?", "Which shapes are there?",
                           "What shapes are in the picture?", "List the shapes.", "List all the shapes, please.",
                           "What does the picture show?", "Name all the shapes.", "Describe the picture."))
    return question, f"I see {join(phrase(i) for i in scene.items)}."


def count_answer(n, one, many):
    """'There are two circles.'"""
    return f"There {'is' if n == 1 else 'are'} {NUMBERS[n]} {one if n == 1 else many}."


def counted(scene, asked, found, one, many):
    """'I see a small red circle, circle? one; a large blue star, circle? no: there is one circle.'

    Every shape of the scene, what is asked for beside it (nothing where all count), and its number if it counts: so each step
    compares words that stand side by side.
    """
    parts = []
    for item in scene.items:
        number = NUMBERS[1 + found.index(item)] if item in found else "no"
        parts.append(f"{article(noun(item))} {noun(item)}, " + (f"{asked}? {number}" if asked else number))
    answer = count_answer(len(found), one, many)
    return f"I see {'; '.join(parts)}: {answer[0].lower()}{answer[1:]}"


def ask_count(rng, scene):
    kind = rng.choice(("shape", "colour", "size", "all", "both", "not"))
    items = scene.items
    some = rng.choice(items)
    pre = ""
    if kind == "shape":
        s = some.shape if rng.random() < 0.75 else rng.choice(SHAPES)
        asked, one, many, found = s, s, plural(s), [i for i in items if i.shape == s]
    elif kind == "colour":
        c = some.colour if rng.random() < 0.75 else rng.choice(COLOURS)
        asked, one, many, found = c, f"{c} shape", f"{c} shapes", [i for i in items if i.colour == c]
    elif kind == "size":
        z = some.size if rng.random() < 0.75 else rng.choice(SIZES)
        asked, one, many, found = z, f"{z} shape", f"{z} shapes", [i for i in items if i.size == z]
    elif kind == "both":
        c = rng.choice(items).colour
        asked, one, many = f"{c} {some.shape}", f"{c} {some.shape}", f"{c} {plural(some.shape)}"
        found = [i for i in items if (i.colour, i.shape) == (c, some.shape)]
    elif kind == "not":
        c = some.colour
        question = rng.choice((f"How many shapes are not {c}?", f"Count the shapes that are not {c}.",
                               f"How many of the shapes are not {c}?"))
        return question, counted(scene, f"not {c}", [i for i in items if i.colour != c], f"shape that is not {c}", f"shapes that are not {c}")
    else:
        asked, one, many, found = "", "shape", "shapes", items
        pre = rng.choice(("How many shapes are in the picture altogether?", "How many shapes are there in total?", ""))
    question = pre or rng.choice((f"How many {many} are there?", f"How many {many} do you see?", f"Count the {many}.",
                                  f"How many {many} are in the picture?", f"Can you count the {many}?",
                                  f"What is the number of {many}?", f"Tell me how many {many} there are.",
                                  f"how many {many}?", f"How many {many} does the picture have?"))
    return question, counted(scene, asked, found, one, many)


def two(rng, scene):
    """Two different shapes of the scene."""
    return rng.sample(scene.items, 2)


def sizes(*named):
    """'The red circle is small and the blue star is large', from (reference, item)s."""
    return cap(join(f"{said_again(r)} is {item.size}" for r, item in named))


def places(*named):
    """'The red circle is at the top and the blue star is on the right'."""
    return cap(join(f"{said_again(r)} is {position_phrase(item.position)}" for r, item in named))


def larger_or_smaller(rng):
    """(how answers say it, how the user says it)."""
    if rng.random() < 0.6:
        return "larger", rng.choice(("larger", "bigger"))
    return "smaller", "smaller"


def larger_one(a, b, word):
    """The larger (or smaller) of two shapes, None if their sizes are the same."""
    if a.size == b.size:
        return None
    return a if (SIZES.index(a.size) > SIZES.index(b.size)) == (word == "larger") else b


ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "middle", "right")


def axis_words(a, b, axis):
    """'top or middle': where two shapes are in rows (axis 0) or columns (1)."""
    words = (ROWS, COLUMNS)[axis]
    return f"{words[POSITIONS[a.position][axis]]} or {words[POSITIONS[b.position][axis]]}"


def weighed(ra, a, rb, b, word):
    """'The star is small and the ring is medium: small or medium, larger?', from references: what decides stands side by side."""
    return f"{sizes((ra, a), (rb, b))}: {a.size} or {b.size}, {word}?"


def ask_larger(rng, scene):
    if len(scene.items) < 2:
        return None
    a, b = two(rng, scene)
    ra, rb = refer(rng, a, scene), refer(rng, b, scene)
    word, said = larger_or_smaller(rng)
    question = rng.choice((f"Which is {said}, {ra} or {rb}?", f"Which one is {said}: {ra} or {rb}?",
                           f"What is {said}, {ra} or {rb}?", f"Which shape is {said}, {ra} or {rb}?",
                           f"Compare {ra} and {rb}. Which is {said}?", f"{cap(ra)} or {rb}: which is {said}?"))
    found = larger_one(a, b, word)
    which = "neither" if found is None else f"the first, {said_again(ra)}" if found is a else f"the second, {said_again(rb)}"
    return question, f"{weighed(ra, a, rb, b, word)} {which}."


def ask_is_larger(rng, scene):
    if len(scene.items) < 2:
        return None
    a, b = two(rng, scene)
    ra, rb = refer(rng, a, scene), refer(rng, b, scene)
    word, said = larger_or_smaller(rng)
    question = rng.choice((f"Is {ra} {said} than {rb}?", f"Would you say {ra} is {said} than {rb}?",
                           f"Is it true that {ra} is {said} than {rb}?"))
    return question, f"{weighed(ra, a, rb, b, word)} {'yes' if larger_one(a, b, word) is a else 'no'}."


def ask_extreme(rng, scene):
    if len(scene.items) < 2:
        return None
    most = rng.random() < 0.5
    ranked = sorted(scene.items, key=lambda i: SIZES.index(i.size), reverse=most)
    if ranked[0].size == ranked[1].size:
        return None
    said = rng.choice(("largest", "biggest")) if most else "smallest"
    question = rng.choice((f"Which shape is the {said}?", f"What is the {said} shape?", f"Which one is the {said}?",
                           f"Which is the {said} of the shapes?", f"Name the {said} shape."))
    return question, f"I see {join(phrase(i) for i in scene.items)}, so the {noun(ranked[0])} is the {'largest' if most else 'smallest'}."


def relation(a, b):
    """Where a is, seen from b, (in rows, in columns): ('above', 'to the left of'), '' where there is no difference."""
    (ra, ca), (rb, cb) = POSITIONS[a.position], POSITIONS[b.position]
    return ("above" if ra < rb else "below" if ra > rb else "", "to the left of" if ca < cb else "to the right of" if ca > cb else "")


def ask_relation(rng, scene):
    if len(scene.items) < 2:
        return None
    a, b = two(rng, scene)
    ra, rb = refer(rng, a, scene), refer(rng, b, scene)
    question = rng.choice((f"Where is {ra} compared to {rb}?", f"Where is {ra}, seen from {rb}?",
                           f"How does {ra} lie relative to {rb}?", f"Where is {ra} in relation to {rb}?",
                           f"Where does {ra} lie compared with {rb}?"))
    rows, columns = relation(a, b)
    steps = f"{axis_words(a, b, 0)}, {rows or 'level'}; {axis_words(a, b, 1)}, {columns.removesuffix(' of') or 'in line'}"
    found = " and ".join(part for part in (rows, columns) if part)
    return question, f"{places((ra, a), (rb, b))}: {steps}: {said_again(ra)} is {found} {said_again(rb)}."


# What a question can ask for: the axis (0: rows, 1: columns) and on which side of the other shape the first one then is.
SIDES = {"above": (0, -1), "below": (0, 1), "to the left of": (1, -1), "to the right of": (1, 1)}


def ask_is_beside(rng, scene):
    if len(scene.items) < 2:
        return None
    a, b = two(rng, scene)
    ra, rb = refer(rng, a, scene), refer(rng, b, scene)
    word = rng.choice(list(SIDES))
    axis = SIDES[word][0]
    difference = POSITIONS[a.position][axis] - POSITIONS[b.position][axis]
    said = word.replace("to the ", "") if rng.random() < 0.3 else word
    question = rng.choice((f"Is {ra} {said} {rb}?", f"Is it true that {ra} is {said} {rb}?",
                           f"Would you say {ra} is {said} {rb}?"))
    truth = "yes" if SIDES[word][1] * difference > 0 else "no"
    return question, f"{places((ra, a), (rb, b))}: {axis_words(a, b, axis)}, {word.removesuffix(' of')}? {truth}."


def said_of(item, field):
    """'red', 'large', 'a star', 'at the top'."""
    value = getattr(item, field)
    return position_phrase(value) if field == "position" else f"{article(value)} {value}" if field == "shape" else value


def ask_several(rng, scene):
    """One thing about several shapes at once: the place of the star, the ring and the heart."""
    by = rng.choice(("shape", "shape", "colour", "both", "both"))
    if by == "both":
        named = {i: name(i) for i in scene.items}
    else:
        values = [getattr(i, by) for i in scene.items]
        named = {i: f"the {i.shape}" if by == "shape" else f"the {i.colour} one"
                 for i in scene.items if values.count(getattr(i, by)) == 1}
    if not named:
        return None
    field = rng.choice([f for f in ("colour", "shape", "size", "position", "position") if f != by and (by != "both" or f in ("size", "position"))])
    items = rng.sample(list(named), rng.randint(1, len(named)))
    listed = join(named[i] for i in items)
    word = {"colour": word_colour(rng), "shape": "shape", "size": "size", "position": rng.choice(("place", "position"))}[field]
    question = rng.choice((f"What is the {word} of {listed}?", f"Tell me the {word} of {listed}.", f"{word} of {listed}",
                           f"Give me the {word} of {listed}.", f"{cap(word)} of {listed}?"))
    return question, f"{cap(join(f'{named[i]} is {said_of(i, field)}' for i in items))}."


QA = (ask_colour, ask_colour, ask_shape, ask_where, ask_where, ask_size, ask_place, ask_place, ask_background,
      ask_exists, ask_is_colour, ask_list)
COUNTING = (ask_count,)
SEVERAL = (ask_several,)
COMPARING = (ask_larger, ask_is_larger, ask_extreme, ask_relation, ask_is_beside)


def ask(rng, scene, kinds):
    """A question of one of the kinds, or None if none fits this scene."""
    for _ in range(20):
        found = rng.choice(kinds)(rng, scene)
        if found:
            return found
    return None


def put_together(rng, text, question):
    """The description and the first question as one message."""
    form = rng.random()
    if form < 0.65:
        return f"{text} {question}"
    if form < 0.8:
        return f"{text}\n{question}"
    if form < 0.9:
        return f"{text}\n\n{question}"
    return f"{question} {text}"
