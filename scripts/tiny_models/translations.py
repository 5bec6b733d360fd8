"""Captions and short sentences about shapes in German and French.

Genders, articles and adjective endings come from small tables, so that every sentence is
grammatical: 'ein großer roter Kreis', 'une petite étoile verte'.
"""
from .captions import join, position_phrase

# noun, gender
GERMAN_SHAPES = {"circle": ("Kreis", "m"), "square": ("Quadrat", "n"), "triangle": ("Dreieck", "n"),
                 "star": ("Stern", "m"), "heart": ("Herz", "n"), "diamond": ("Raute", "f"),
                 "cross": ("Kreuz", "n"), "ring": ("Ring", "m")}
GERMAN_COLOURS = {"red": "rot", "orange": "orangefarben", "yellow": "gelb", "green": "grün", "blue": "blau",
                  "purple": "violett", "pink": "rosa", "brown": "braun", "black": "schwarz", "white": "weiß",
                  "grey": "grau"}
GERMAN_SIZES = {"small": "klein", "medium": "mittelgroß", "large": "groß"}
GERMAN_POSITIONS = {"top left": "oben links", "top": "oben", "top right": "oben rechts", "left": "links",
                    "centre": "in der Mitte", "right": "rechts", "bottom left": "unten links",
                    "bottom": "unten", "bottom right": "unten rechts"}

FRENCH_SHAPES = {"circle": ("cercle", "m"), "square": ("carré", "m"), "triangle": ("triangle", "m"),
                 "star": ("étoile", "f"), "heart": ("cœur", "m"), "diamond": ("losange", "m"),
                 "cross": ("croix", "f"), "ring": ("anneau", "m")}
# masculine, feminine; orange and marron never change
FRENCH_COLOURS = {"red": ("rouge", "rouge"), "orange": ("orange", "orange"), "yellow": ("jaune", "jaune"),
                  "green": ("vert", "verte"), "blue": ("bleu", "bleue"), "purple": ("violet", "violette"),
                  "pink": ("rose", "rose"), "brown": ("marron", "marron"), "black": ("noir", "noire"),
                  "white": ("blanc", "blanche"), "grey": ("gris", "grise")}
FRENCH_SIZES = {"small": ("petit", "petite"), "large": ("grand", "grande")}
FRENCH_POSITIONS = {"top left": "en haut à gauche", "top": "en haut", "top right": "en haut à droite",
                    "left": "à gauche", "centre": "au centre", "right": "à droite",
                    "bottom left": "en bas à gauche", "bottom": "en bas", "bottom right": "en bas à droite"}

_STRONG = {"m": "er", "f": "e", "n": "es"}


def _inflect(adjective, ending):
    """An adjective with its ending; 'rosa' is never inflected."""
    return adjective if adjective == "rosa" else adjective + ending


def german_phrase(item):
    """'ein großer roter Kreis oben links'."""
    word, gender = GERMAN_SHAPES[item.shape]
    adjectives = [GERMAN_SIZES[item.size]] if item.size else []
    adjectives += [GERMAN_COLOURS[item.colour]] if item.colour else []
    words = ["eine" if gender == "f" else "ein"] + [_inflect(a, _STRONG[gender]) for a in adjectives] + [word]
    return " ".join(words + ([GERMAN_POSITIONS[item.position]] if item.position else []))


def german_caption(scene):
    """The caption in German; the background stands in the dative."""
    text = join((german_phrase(i) for i in scene.items), "und")
    if scene.background:
        text += f" auf einem {_inflect(GERMAN_COLOURS[scene.background], 'en')} Hintergrund"
    return text


def german_sentence(item, what):
    """'Der Kreis ist rot.' / 'Der rote Kreis ist oben links.' / 'Der rote Kreis ist groß.'"""
    word, gender = GERMAN_SHAPES[item.shape]
    the = {"m": "Der", "f": "Die", "n": "Das"}[gender]
    if what == "colour":
        return f"{the} {word} ist {GERMAN_COLOURS[item.colour]}."
    subject = f"{the} {_inflect(GERMAN_COLOURS[item.colour], 'e')} {word}"
    end = GERMAN_SIZES[item.size] if what == "size" else GERMAN_POSITIONS[item.position]
    return f"{subject} ist {end}."


def french_phrase(item):
    """'un grand cercle rouge en haut à gauche'; a middle size follows the noun."""
    word, gender = FRENCH_SHAPES[item.shape]
    form = 0 if gender == "m" else 1
    words = [("un", "une")[form]]
    words += [FRENCH_SIZES[item.size][form]] if item.size in FRENCH_SIZES else []
    words.append(word)
    words += [FRENCH_COLOURS[item.colour][form]] if item.colour else []
    words += ["de taille moyenne"] if item.size == "medium" else []
    return " ".join(words + ([FRENCH_POSITIONS[item.position]] if item.position else []))


def french_caption(scene):
    """The caption in French."""
    text = join((french_phrase(i) for i in scene.items), "et")
    if scene.background:
        text += f" sur un fond {FRENCH_COLOURS[scene.background][0]}"
    return text


def french_sentence(item, what):
    """'Le cercle est rouge.' / 'Le cercle rouge est en haut à gauche.'; before a vowel 'l'étoile'."""
    word, gender = FRENCH_SHAPES[item.shape]
    form = 0 if gender == "m" else 1
    the = "L'" if word[0] in "aeéo" else ("Le ", "La ")[form]
    if what == "colour":
        return f"{the}{word} est {FRENCH_COLOURS[item.colour][form]}."
    subject = f"{the}{word} {FRENCH_COLOURS[item.colour][form]}"
    if what == "size":
        end = FRENCH_SIZES[item.size][form] if item.size in FRENCH_SIZES else "de taille moyenne"
    else:
        end = FRENCH_POSITIONS[item.position]
    return f"{subject} est {end}."


def english_sentence(item, what):
    """The English sentence that the German and French ones translate."""
    if what == "colour":
        return f"The {item.shape} is {item.colour}."
    end = item.size if what == "size" else position_phrase(item.position)
    return f"The {item.colour} {item.shape} is {end}."
