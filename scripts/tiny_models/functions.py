"""Function calls in FunctionGemma's format: declarations, requests, calls, responses.

The functions belong to a small drawing program. Their names, and the spelling of 'colour' in
their parameters, vary from dialogue to dialogue, so that a model has to read the declarations.
Parameters and arguments stand in alphabetical order, as FunctionGemma's template sorts them.
"""
from .captions import BACKGROUNDS, COLOURS, Item, POSITIONS, SHAPES, SIZES, article, held_out, item_held_out
from .wordings import colour_word, loose_item, position_words, shape_word

PREAMBLE = "You are a model that can do function calling with the following functions"


def value_text(value):
    """A value as FunctionGemma writes it: strings escaped, numbers and booleans bare."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{value_text(value[k])}" for k in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(value_text(v) for v in value) + "]"
    return f"<escape>{value}<escape>" if isinstance(value, str) else str(value)


def call_text(name, args):
    """One call as the model writes it."""
    return f"<start_function_call>call:{name}{value_text(args)}<end_function_call>"


def response_text(name, result):
    """One result as the program hands it back."""
    return f"<start_function_response>response:{name}{value_text(result)}<end_function_response>"


def _properties(properties):
    parts = []
    for key in sorted(properties):
        p = properties[key]
        text = f"{key}:{{description:<escape>{p['description']}<escape>"
        if p["type"] == "object":
            text += f",properties:{{{_properties(p['properties'])}}}"
            text += ",required:[" + ",".join(f"<escape>{r}<escape>" for r in p["required"]) + "]"
        if "enum" in p:
            text += f",enum:{value_text(p['enum'])}"
        parts.append(text + f",type:<escape>{p['type'].upper()}<escape>}}")
    return ",".join(parts)


def declaration_text(tool):
    """One declaration out of an OpenAI-style tool."""
    f = tool["function"]
    text = f"declaration:{f['name']}{{description:<escape>{f['description']}<escape>"
    p = f["parameters"]
    text += f",parameters:{{properties:{{{_properties(p['properties'])}}}"
    text += ",required:[" + ",".join(f"<escape>{r}<escape>" for r in p["required"]) + "],type:<escape>OBJECT<escape>}}"
    return f"<start_function_declaration>{text}<end_function_declaration>"


def developer_text(tools):
    """The content of the developer turn that declares the tools."""
    return PREAMBLE + "".join(declaration_text(t) for t in tools)


def _field(description, kind="string", **more):
    return {"description": description, "type": kind, **more}


class Function:
    """A function as one dialogue knows it: its name, its schema, and requests that call it."""

    def __init__(self, rng, kind, colour_key):
        names, description, fields, required = KINDS[kind]
        self.kind, self.colour = kind, colour_key
        self.name = rng.choice(names)
        self.text = rng.choice(description)
        self.fields = {self.key(k): self._copy(v) for k, v in fields.items()}
        self.required = sorted(self.key(k) for k in required)

    def key(self, key):
        return self.colour if key == "colour" else key

    def _copy(self, field):
        field = dict(field)
        if "properties" in field:
            field["properties"] = {self.key(k): v for k, v in field["properties"].items()}
            field["required"] = sorted(self.key(k) for k in field["required"])
        return field

    def tool(self):
        """The function in OpenAI's layout."""
        return {"type": "function", "function": {
            "name": self.name, "description": self.text,
            "parameters": {"type": "object", "properties": self.fields, "required": self.required}}}

    def request(self, rng, held):
        """(what the user says, without a full stop; arguments) on the wanted side of the hold-out rule."""
        while True:
            said, args, combination = REQUEST[self.kind](rng)
            if combination is None:
                return said, self._rename(args)
            on_side = item_held_out(*combination) if isinstance(combination[0], Item) else held_out(*combination)
            if on_side == held:
                return said, self._rename(args)

    def _rename(self, args):
        return {self.key(k): self._rename(v) if isinstance(v, dict) else v for k, v in args.items()}


_COLOUR, _SHAPE = _field("The colour."), _field("The shape.")
_SIZE = _field("The size.", enum=list(SIZES))
_PLACE = _field("The place in the picture.")
# kind -> names, descriptions, fields, required fields
KINDS = {
    "draw": (("draw_shape", "add_shape", "paint_shape", "create_shape"),
             ("Draw one shape.", "Draws a coloured shape.", "Add a shape to the picture."),
             {"colour": _COLOUR, "shape": _SHAPE, "size": _SIZE, "position": _PLACE}, ("colour", "shape")),
    "background": (("set_background", "change_background", "fill_background"),
                   ("Set the background.", "Changes the background colour."), {"colour": _COLOUR}, ("colour",)),
    "remove": (("remove_shape", "delete_shape", "erase_shape"), ("Remove a shape.", "Deletes a shape from the picture."),
               {"colour": _COLOUR, "shape": _SHAPE}, ("shape",)),
    "move": (("move_shape", "shift_shape", "put_shape"), ("Move a shape.", "Moves a shape to another place."),
             {"colour": _COLOUR, "shape": _SHAPE, "position": _PLACE}, ("position", "shape")),
    "canvas": (("resize_canvas", "set_canvas_size", "new_canvas"), ("Set the size of the canvas.", "Changes the size of the picture."),
               {"width": _field("The width in pixels.", "integer"), "height": _field("The height in pixels.", "integer")},
               ("height", "width")),
    "save": (("save_picture", "save_file", "write_picture"), ("Save the picture.", "Saves the picture to a file."),
             {"name": _field("The name of the file."), "overwrite": _field("Whether to replace an old file.", "boolean")},
             ("name", "overwrite")),
    "rotate": (("rotate_shape", "turn_shape"), ("Rotate a shape.", "Turns a shape by an angle."),
               {"shape": _SHAPE, "angle": _field("The angle in degrees.", "integer")}, ("angle", "shape")),
    "get": (("get_shape", "find_shape", "look_up"), ("Look up a shape.", "Says which shape is at a place."),
            {"position": _PLACE}, ("position",)),
    "count": (("count_shapes", "get_count"), ("Count shapes.", "Counts the shapes of one kind."),
              {"shape": _SHAPE, "colour": _COLOUR}, ("shape",)),
    "grid": (("show_grid", "set_grid"), ("Show or hide the grid.",), {"visible": _field("Whether the grid is shown.", "boolean"),
                                                                     "step": _field("The distance of the lines.", "integer")},
             ("visible",)),
    "scene": (("draw_scene", "make_picture", "draw_picture"), ("Draw a whole picture.", "Draws a shape on a background."),
              {"background": _field("The background colour."),
               "item": _field("The shape to draw.", "object", properties={"colour": _COLOUR, "shape": _SHAPE, "size": _SIZE},
                              required=["colour", "shape"])}, ("background", "item")),
    "place": (("place_shape", "put_at", "stamp_shape"), ("Place a shape.", "Puts a shape at a point."),
              {"item": _field("The shape to place.", "object", properties={"colour": _COLOUR, "shape": _SHAPE},
                              required=["colour", "shape"]),
               "point": _field("Where to place it.", "object",
                               properties={"x": _field("From the left.", "integer"), "y": _field("From the top.", "integer")},
                               required=["x", "y"])}, ("item", "point")),
    "label": (("add_label", "write_label"), ("Write a label.", "Adds a word to the picture."),
              {"text": _field("The word."),
               "style": _field("How it looks.", "object",
                               properties={"bold": _field("Whether it is bold.", "boolean"), "colour": _COLOUR,
                                           "size": _field("The size in points.", "integer")},
                               required=["bold", "colour", "size"])}, ("style", "text")),
}
FLAT = ("draw", "background", "remove", "move", "canvas", "save", "rotate", "get", "count", "grid")
NESTED = ("scene", "place", "label")
# Their few arguments are too few to hold any out: never what a held-out question is about.
COMMON = ("background", "get", "grid")


def _some(**args):
    return {k: v for k, v in args.items() if v is not None}


def _draw(rng):
    item = Item(rng.choice(SHAPES), rng.choice(COLOURS), rng.choice(SIZES + (None,)), rng.choice(tuple(POSITIONS) + (None,) * 5))
    verb = rng.choice(("draw", "draw", "draw me", "paint", "add", "create", "make", "I want", "please draw"))
    return f"{verb} {loose_item(rng, item)}", _some(
        colour=item.colour, shape=item.shape, size=item.size, position=item.position), (item, None)


def _background(rng):
    c = rng.choice(BACKGROUNDS)
    w = colour_word(rng, c)
    return rng.choice((f"make the background {w}", f"set the background to {w}", f"change the background to {w}",
                       f"paint the background {w}", f"I want {article(w)} {w} background", f"use {article(w)} {w} background",
                       f"fill the background with {w}")), {"colour": c}, None


def _remove(rng):
    c, s = rng.choice(COLOURS + (None,) * 3), rng.choice(SHAPES)
    what = f"{colour_word(rng, c)} {shape_word(rng, s)}" if c else shape_word(rng, s)
    return f"{rng.choice(('remove', 'delete', 'erase', 'take away', 'get rid of'))} the {what}", \
        _some(colour=c, shape=s), (Item(s, c), None)


def _move(rng):
    c, s, p = rng.choice(COLOURS + (None,) * 3), rng.choice(SHAPES), rng.choice(tuple(POSITIONS))
    what = f"{colour_word(rng, c)} {shape_word(rng, s)}" if c else shape_word(rng, s)
    words = "the " + p if rng.random() < 0.5 else p
    where = rng.choice((f"move the {what} to {words}", f"shift the {what} to {words}", f"put the {what} {position_words(rng, p)}"))
    return where, _some(colour=c, shape=s, position=p), (Item(s, c, None, p), None)


def _canvas(rng):
    w, h = (rng.choice((rng.randint(1, 40) * 16, rng.randint(2, 20) * 50, rng.randint(16, 999))) for _ in range(2))
    return rng.choice((f"make the canvas {w} by {h} pixels", f"set the canvas to {w} x {h}", f"resize the canvas to {w} by {h}",
                       f"I need a canvas with width {w} and height {h}", f"change the size of the picture to {w} by {h}",
                       f"set the height to {h} and the width to {w}", f"I need a picture of {w}x{h} pixels")), \
        {"height": h, "width": w}, ("canvas", w, h)


NAMES = ("sunset", "logo", "test", "picture", "shapes", "first", "final", "draft", "poster", "card", "icon", "flag", "art",
         "image", "scene", "garden", "party", "summer", "winter", "holiday", "house", "sketch", "demo", "example", "gift")


def _save(rng):
    n = rng.choice(NAMES) + rng.choice(("", "", str(rng.randint(1, 99)))) + rng.choice((".png", ".png", ".jpg", ""))
    over = rng.random() < 0.5
    base = rng.choice((f"save the picture as {n}", f"save it as {n}", f"write the picture to {n}", f"store the picture as {n}"))
    tail = rng.choice((" and overwrite the old file", " and replace the old one", ", overwrite it if it exists", ", replacing the old file")) \
        if over else rng.choice((" but do not overwrite anything", " without overwriting", " and keep the old file", ", do not replace an old file"))
    return base + tail, {"name": n, "overwrite": over}, ("save", n, over)


def _rotate(rng):
    s, a = rng.choice(SHAPES), rng.choice((rng.randint(1, 36) * 10, rng.randint(1, 8) * 45, rng.randint(1, 359)))
    w = shape_word(rng, s)
    return rng.choice((f"rotate the {w} by {a} degrees", f"turn the {w} by {a} degrees", f"turn the {w} {a} degrees",
                       f"rotate the {w} {a} degrees")), {"angle": a, "shape": s}, ("rotate", s, a)


def _get(rng):
    p = rng.choice(tuple(POSITIONS))
    return rng.choice(("what is {}", "look up what is {}", "find the shape {}", "which shape is {}", "tell me what is {}")).format(
        position_words(rng, p) if p != "centre" else "in the centre"), {"position": p}, None


def _count(rng):
    s, c = rng.choice(SHAPES), rng.choice(COLOURS + (None,) * 5)
    many = (f"{colour_word(rng, c)} " if c else "") + s + ("es" if s == "cross" else "s")
    return rng.choice((f"count the {many}", f"how many {many} are there", f"find out how many {many} there are",
                       f"tell me the number of {many}")), _some(colour=c, shape=s), (Item(s, c), None)


def _grid(rng):
    if rng.random() < 0.4:
        return rng.choice(("hide the grid", "turn the grid off", "switch off the grid", "remove the grid")), \
            {"visible": False}, None
    if rng.random() < 0.3:
        return rng.choice(("show the grid", "turn the grid on", "switch on the grid")), {"visible": True}, None
    n = rng.randint(2, 99)
    return rng.choice((f"show a grid with a step of {n}", f"show the grid with lines every {n} pixels", f"turn the grid on with step {n}")), \
        {"step": n, "visible": True}, None


def _scene(rng):
    bg = rng.choice(BACKGROUNDS)
    item = Item(rng.choice(SHAPES), rng.choice([c for c in COLOURS if c != bg]), rng.choice(SIZES + (None,)))
    w = colour_word(rng, bg)
    ground = rng.choice((f"on {article(w)} {w} background", f"on {w}", f"with {article(w)} {w} background"))
    verb = rng.choice(("draw", "draw me", "paint", "make a picture of", "I want a picture of", "create a picture with", "please draw"))
    return f"{verb} {loose_item(rng, item)} {ground}", \
        {"background": bg, "item": _some(colour=item.colour, shape=item.shape, size=item.size)}, (item, bg)


def _place(rng):
    item, x, y = Item(rng.choice(SHAPES), rng.choice(COLOURS)), rng.randint(0, 640), rng.randint(0, 480)
    what = f"{colour_word(rng, item.colour)} {shape_word(rng, item.shape)}"
    what = f"{article(what)} {what}"
    where = rng.choice((f"at x {x} and y {y}", f"at {x}, {y}", f"at the point {x}, {y}", f"at ({x}, {y})", f"at x={x}, y={y}"))
    return f"{rng.choice(('place', 'put', 'stamp', 'draw', 'set'))} {what} {where}", \
        {"item": {"colour": item.colour, "shape": item.shape}, "point": {"x": x, "y": y}}, (item, None)


def _label(rng):
    text, c, n, bold = rng.choice(NAMES), rng.choice(COLOURS), rng.randint(6, 72), rng.random() < 0.5
    w = colour_word(rng, c)
    look = rng.choice((f"in bold {w}" if bold else f"in plain {w}", f"in {w} and bold" if bold else f"in {w} and not bold",
                       f"in {w} bold letters" if bold else f"in {w} letters that are not bold"))
    q = rng.choice(('"{}"', "{}", "'{}'")).format(text)
    return f"{rng.choice(('write', 'add the label', 'add the word', 'write the word'))} {q} {look}, {rng.choice(('size', 'in size', 'font size'))} {n}", \
        {"style": {"bold": bold, "colour": c, "size": n}, "text": text}, ("label", text, c, n)


REQUEST = {"draw": _draw, "background": _background, "remove": _remove, "move": _move, "canvas": _canvas, "save": _save,
           "rotate": _rotate, "get": _get, "count": _count, "grid": _grid, "scene": _scene, "place": _place, "label": _label}


def functions(rng, kinds):
    """The functions of one dialogue, with names of their own, all spelling 'colour' alike."""
    colour_key = rng.choice(("colour", "colour", "color"))
    return [Function(rng, k, colour_key) for k in kinds]


def say(rng, text):
    """A request as a sentence; politeness varies."""
    form = rng.random()
    if form < 0.5:
        return text[0].upper() + text[1:] + ("?" if text.startswith(("what", "which", "how")) else ".")
    if form < 0.65:
        return text
    if text.startswith(("I ", "what", "which", "how", "please", "tell")):
        return text[0].upper() + text[1:] + rng.choice((", please", "", "."))
    return rng.choice(("Please {}.", "Can you {}?", "Could you {}, please?", "Now {}.", "{}, please.", "please {}")).format(text)

