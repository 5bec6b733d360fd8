"""Training dialogues and held-out questions, in Gemma's turn format.

A dialogue is a list of messages {"role", "content"}; the model's messages are what is learned,
and in an evaluation the last one is the expected answer. `held` chooses the side of the hold-out
rule (captions.held_out): training never draws a held-out combination, evaluation nothing else.
"""
from dataclasses import dataclass, field

from . import functions as fn
from . import scene_tasks as st
from .captions import (POSITIONS, Scene, article, caption, item_held_out, join, noun, phrase, position_phrase,
                       sample_caption_scene, sample_item, sample_scene, scene_on_side)
from .corpus import VOCABULARIES
from .smalltalk import small_talk
from .translations import (english_sentence, french_caption, french_sentence, german_caption, german_sentence)
from .wordings import FOLLOW_UP, TRANSLATE, edit, request, translate_prompt

TASKS = ("qa", "counting", "comparing", "caption", "german", "french", "call_flat", "call_nested", "call_several",
         "call_response", "multi_turn")


@dataclass
class Dialogue:
    """Messages with roles user, model and tool, `tools` being OpenAI-style functions.

    A model's message has `content`, or `tool_calls` as OpenAI writes them; a tool's has `name` and, as `content`, the result.
    """
    task: str
    messages: list = field(default_factory=list)
    tools: list = field(default_factory=list)

    def add(self, user, model):
        """One exchange; `model` is a text, or the calls as [(name, arguments)]."""
        reply = {"role": "model"}
        if isinstance(model, str):
            reply["content"] = model
        else:
            reply["tool_calls"] = [{"type": "function", "function": {"name": n, "arguments": a}} for n, a in model]
        self.messages += [{"role": "user", "content": user.strip()}, reply]


def message_text(message):
    """What a message looks like inside its turn."""
    if message["role"] in ("tool", "developer"):
        return fn.response_text(message["name"], message["content"])
    calls = [c["function"] for c in message.get("tool_calls", ())]
    return message.get("content", "") + "".join(fn.call_text(c["name"], c["arguments"]) for c in calls)


def segments(dialogue):
    """The dialogue as [(text, learned?)]; the texts joined are what a chat template renders.

    A tool's response follows the call inside the model's turn, as in FunctionGemma's format;
    with role "developer" it is a turn of its own, which other programs do.
    """
    out = []
    if dialogue.tools:
        out.append((f"<start_of_turn>developer\n{fn.developer_text(dialogue.tools)}<end_of_turn>\n", False))
    roles = [m["role"] for m in dialogue.messages] + [None]
    open_turn = False
    for message, following in zip(dialogue.messages, roles[1:]):
        role, text = message["role"], message_text(message)
        if role == "tool":
            out.append((text, False))
        elif role == "model":
            if not open_turn:
                out.append(("<start_of_turn>model\n", False))
            open_turn = following == "tool"
            out.append((text + ("" if open_turn else "<end_of_turn>"), True))
            if not open_turn:
                out.append(("\n", False))
        else:
            out.append((f"<start_of_turn>{role}\n{text}<end_of_turn>\n", False))
    return out


def prompt_and_answer(dialogue):
    """The templated text up to the last answer (without <bos>), and that answer."""
    parts = segments(dialogue)
    last = max(i for i, (_, learned) in enumerate(parts) if learned)
    return "".join(t for t, _ in parts[:last]), parts[last][0].removesuffix("<end_of_turn>")


# --- scenes -------------------------------------------------------------------------------

def _count_for(rng, kinds):
    least = 2 if kinds is st.COMPARING else 1
    return rng.choice([n for n in (1, 2, 2, 3, 3, 3, 4, 4, 5) if n >= least])


def scene_dialogue(rng, held, task, kinds, questions):
    """Questions about one described scene."""
    while True:
        scene = sample_scene(rng, _count_for(rng, kinds), held, few_kinds=rng.random() < 0.5)
        d = Dialogue(task)
        text = st.describe(rng, scene)
        for n in range(questions):
            found = st.ask(rng, scene, kinds)
            if found is None:
                break
            d.add(st.put_together(rng, text, found[0]) if n == 0 else found[0], found[1])
        if len(d.messages) == 2 * questions:
            return d


def list_dialogue(rng, turns):
    """Plain lists of shapes, counted or looked up by place: the densest way to learn to compare words."""
    by_place = rng.random() < 0.35
    d = Dialogue("qa" if by_place else "counting")
    for _ in range(turns):
        few = rng.random() < 0.6
        shapes, colours = (rng.sample(st.SHAPES, 3), rng.sample(st.COLOURS, 3)) if few else (st.SHAPES, st.COLOURS)
        places = rng.sample(list(POSITIONS), 6) if by_place else [None] * 6
        items = [sample_item(rng, None, False, shapes=shapes, colours=colours, positions=(place,)) for place in places[:rng.randint(2, 6)]]
        scene = Scene(tuple(dict.fromkeys(i for i in items if i)), None)
        if scene.items:
            question, answer = st.ask_place(rng, scene, nothing=0.4) if by_place else st.ask_count(rng, scene)
            d.add(st.put_together(rng, st.cap(join(phrase(i) for i in scene.items)) + ".", question), answer)
    return d


def mixed_scene_dialogue(rng, held, questions):
    """Questions of all kinds about one scene, sometimes a caption or a correction among them."""
    while True:
        scene = sample_scene(rng, rng.choice((2, 2, 3, 3, 3, 4, 4, 5)), held, few_kinds=rng.random() < 0.4)
        d = Dialogue("multi_turn")
        text = st.describe(rng, scene)
        for n in range(questions):
            kind = rng.random()
            if kind < 0.1 and n:
                said, scene = _correction(rng, scene, held)
                if said is None:
                    break
                d.add(*said)
                continue
            if kind < 0.2:
                found = (rng.choice(("Write a caption for it.", "Write a caption for this picture.", "Give me a caption.",
                                     "What would be a good caption?", "Caption, please.", "Turn this into a caption.",
                                     "Sum it up as a caption.", "Write a caption.")), caption(scene))
            else:
                found = st.ask(rng, scene, (st.QA, st.COUNTING, st.COMPARING)[min(2, int(rng.random() * 3.2))])
                if found is None:
                    break
            d.add(st.put_together(rng, text, found[0]) if n == 0 else found[0], found[1])
        if len(d.messages) == 2 * questions:
            return d


def _correction(rng, scene, held):
    """((what the user says, the answer), changed scene)."""
    for _ in range(60):
        item = rng.choice(scene.items)
        new = sample_item(rng, scene.background, held)
        if new is None:
            continue
        field_name = rng.choice(("colour", "size", "position"))
        changed = item.but(**{field_name: getattr(new, field_name)})
        others = [i for i in scene.items if i is not item]
        if (changed == item or item_held_out(changed, scene.background) != held or changed.colour == scene.background
                or changed.position in [o.position for o in others]
                or (changed.colour, changed.shape) in [(o.colour, o.shape) for o in others]):
            continue
        r = st.refer(rng, item, scene)
        value = getattr(changed, field_name)
        if field_name == "position":
            value = position_phrase(value)
        said = rng.choice((f"Sorry, {r} is {value}.", f"No, {r} is {value}.", f"Correction: {r} is {value}.",
                           f"I made a mistake: {r} is {value}.", f"Actually, {r} is {value}."))
        scene = scene.but(items=tuple(changed if i is item else i for i in scene.items))
        return (said, f"Now it is {phrase(changed)}. I see: {caption(scene)}."), scene
    return None, scene


# --- captions and translations ------------------------------------------------------------

_CAPTION_IN = {"en": caption, "de": german_caption, "fr": french_caption}
_SENTENCE_IN = {"en": english_sentence, "de": german_sentence, "fr": french_sentence}


def caption_dialogue(rng, held, turns):
    """A request for a picture, answered by its caption; then changes and translations."""
    while True:
        scene = sample_caption_scene(rng, held)
        d = Dialogue("caption" if turns == 1 else "multi_turn")
        d.add(request(rng, scene), caption(scene))
        for _ in range(turns - 1):
            if rng.random() < 0.4:
                language = rng.choice(("de", "fr"))
                d.add(rng.choice(FOLLOW_UP[language]), _CAPTION_IN[language](scene))
                continue
            found = edit(rng, scene)
            if found is None or not scene_on_side(found[1], held):
                break
            scene = found[1]
            d.add(found[0], caption(scene))
        if len(d.messages) == 2 * turns:
            return d


def _translation(rng, held, source, target):
    """(source text, target text)."""
    if rng.random() < 0.25:
        item = sample_item(rng, None, held, positions=tuple(POSITIONS) if rng.random() < 0.6 else (None,))
        what = rng.choice(("position", "size") if item.position else ("colour", "size"))
        # The size sentence says no place, so it is that shorter combination that counts.
        spoken = item if what == "position" else item.but(position=None)
        if item_held_out(spoken, None) != held:
            return _translation(rng, held, source, target)
        return _SENTENCE_IN[source](spoken, what), _SENTENCE_IN[target](spoken, what)
    scene = sample_caption_scene(rng, held)
    return _CAPTION_IN[source](scene), _CAPTION_IN[target](scene)


def translation_dialogue(rng, held, language, turns):
    """Translations between English and one other language; in training several in a row."""
    d = Dialogue("german" if language == "de" else "french")
    formal = rng.random() < (0.2 if held else 0.1)
    for _ in range(turns):
        source, target = ("en", language) if rng.random() < 0.8 else (language, "en")
        text, answer = _translation(rng, held, source, target)
        if rng.random() < 0.15 and not text.endswith("."):
            text += "."
        d.add(translate_prompt(source, target, text) if formal and not d.messages else rng.choice(TRANSLATE[target]).format(text), answer)
        if not held and turns > 1 and rng.random() < 0.3:
            language = "fr" if language == "de" else "de"
    return d


# --- function calls -----------------------------------------------------------------------

def _tools(rng, wanted, held=False):
    """Functions that include the wanted kinds, in a random order, with up to one or two others."""
    others = [k for k in fn.FLAT + fn.NESTED if k not in wanted]
    # Two functions that draw would leave open which one to call.
    if set(wanted) & {"draw", "scene", "place"}:
        others = [k for k in others if k not in ("draw", "scene", "place")]
    kinds = list(wanted) + rng.sample(others, rng.choice((0, 0, 1, 1, 2) if held else (0, 0, 0, 1, 1, 2)) if len(wanted) == 1 else rng.choice((0, 0, 0, 0, 1)))
    rng.shuffle(kinds)
    return {f.kind: f for f in fn.functions(rng, kinds)}


def call_dialogue(rng, held, task, turns):
    """Requests answered by one call each."""
    pool = fn.NESTED if task == "call_nested" else fn.FLAT
    if held:
        pool = [k for k in pool if k not in fn.COMMON]
    tools = _tools(rng, [rng.choice(pool)], held)
    d = Dialogue(task, tools=[f.tool() for f in tools.values()])
    kinds = [k for k in tools if k in pool]
    for n in range(turns):
        f = tools[rng.choice(kinds if n == turns - 1 else list(tools))]
        said, args = f.request(rng, held)
        d.add(fn.say(rng, said), [(f.name, args)])
    return d


def several_dialogue(rng, held, turns):
    """Two or three requests in one message, answered by as many calls in that order."""
    flat = [k for k in fn.FLAT + fn.NESTED if k not in ("get", "count")]
    first = rng.choice([k for k in flat if k not in fn.COMMON])
    second = rng.choice([k for k in flat if k == first or not {k, first} <= {"draw", "scene", "place"}])
    tools = _tools(rng, list(dict.fromkeys((first, second))))
    d = Dialogue("call_several", tools=[f.tool() for f in tools.values()])
    usable = [k for k in tools if k not in ("get", "count")]
    for _ in range(turns):
        kinds = [first] + [rng.choice(usable) for _ in range(1 if rng.random() < 0.75 else 2)]
        rng.shuffle(kinds)
        pairs = [(tools[k], *tools[k].request(rng, held)) for k in kinds]
        said = [p[1] for p in pairs]
        form = rng.random()
        if form < 0.5:
            text = ", ".join(said[:-1]) + rng.choice((" and ", " and then ", ", then ", ", and ")) + said[-1]
            text = fn.say(rng, text)
        elif form < 0.8:
            text = " ".join(s[0].upper() + s[1:] + "." for s in said)
        else:
            text = "; ".join(said)
        d.add(text, [(f.name, args) for f, _, args in pairs])
    return d


def response_dialogue(rng, held, turns):
    """Questions, each with its call, the program's response, and the answer in words."""
    wanted = list(dict.fromkeys(rng.choice(("get", "get", "count", "count", "draw", "save")) for _ in range(min(turns, 2))))
    tools = _tools(rng, wanted, held)
    d = Dialogue("call_response", tools=[t.tool() for t in tools.values()])
    for _ in range(turns):
        _respond(rng, held, d, tools[rng.choice(wanted)])
    return d


def _respond(rng, held, d, f):
    """One request to f with the call, a result and the answer, at the end of the dialogue."""
    said, args = f.request(rng, held)
    d.add(fn.say(rng, said), [(f.name, args)])
    if f.kind == "get":
        item = sample_item(rng, None, held, positions=(args["position"],))
        if item and rng.random() < 0.85:
            result = {f.colour: item.colour, "shape": item.shape, "size": item.size}
            answer = f"There is {article(noun(item))} {noun(item)} {position_phrase(item.position)}."
        else:
            result, answer = {"found": False}, f"There is nothing {position_phrase(args['position'])}."
    elif f.kind == "count":
        n = rng.randint(0, 6)
        colour = args.get(f.colour)
        pre = colour + " " if colour else ""
        result, answer = {"count": n}, st.count_answer(n, pre + args["shape"], pre + st.plural(args["shape"]))
    else:
        ok = rng.random() < 0.7
        result = {rng.choice(("done", "success", "ok")): ok}
        if f.kind == "draw":
            what = f"{args[f.colour]} {args['shape']}"
            answer = f"Done, I have drawn the {what}." if ok else f"I am sorry, I could not draw the {what}."
        else:
            answer = f"Done, the picture is saved as {args['name']}." if ok else f"I am sorry, I could not save {args['name']}."
    response = {"role": "tool", "name": f.name, "content": result}
    if rng.random() < 0.3 and not held:
        response["role"] = "developer"
    d.messages += [response, {"role": "model", "content": answer}]


def repeat_dialogue(rng, turns):
    """Words, numbers and file names to be said again: the plainest way to learn to copy what a user wrote."""
    d = Dialogue("repeat")
    words = rng.choice(VOCABULARIES)
    for _ in range(turns):
        parts = []
        for _ in range(rng.randint(1, 9)):
            kind = rng.random()
            number = str(rng.randint(0, rng.choice((9, 99, 999, 9999))))
            parts.append(number if kind < 0.35 else f"{rng.choice(words)}{number}.png" if kind < 0.5 else rng.choice(words))
        text = rng.choice((" ", " ", ", ")).join(parts)
        d.add(rng.choice(("Repeat: {}", "repeat: {}", "Say: {}", "Repeat after me: {}", "Please repeat this: {}", "Copy this: {}",
                          'Say "{}"', "Repeat the following.\n{}")).format(text), text)
    return d


def talk_dialogue(rng):
    """Small talk, often around a request; with declared functions now and then."""
    d = Dialogue("small_talk")
    for _ in range(rng.choice((1, 1, 2, 3, 4))):
        if rng.random() < 0.3:
            scene = sample_caption_scene(rng, False)
            d.add(request(rng, scene), caption(scene))
        else:
            d.add(*small_talk(rng, rng.choice(VOCABULARIES)))
    if rng.random() < 0.1:
        d.messages = d.messages[:0]
        d.tools = [f.tool() for f in _tools(rng, [rng.choice(fn.FLAT)]).values()]
        d.add(*small_talk(rng, rng.choice(VOCABULARIES)))
    return d


# What training draws: (share at first, share afterwards, maker). Scenes take longest to learn, and what other tasks stand on is
# copying: these come first.
MIXTURE = (
    (0.24, 0.13, lambda rng: scene_dialogue(rng, False, "qa", st.QA, rng.randint(4, 8))),
    (0.08, 0.09, lambda rng: scene_dialogue(rng, False, "counting", st.COUNTING, rng.randint(2, 4))),
    (0.14, 0.08, lambda rng: list_dialogue(rng, rng.randint(3, 5))),
    (0.16, 0.12, lambda rng: scene_dialogue(rng, False, "comparing", st.COMPARING, rng.randint(3, 6))),
    (0.14, 0.13, lambda rng: mixed_scene_dialogue(rng, False, rng.randint(3, 6))),
    (0.08, 0.03, lambda rng: scene_dialogue(rng, False, "several", st.SEVERAL, rng.randint(3, 6))),
    (0.08, 0.09, lambda rng: caption_dialogue(rng, False, rng.choice((1, 1, 2, 3, 4)))),
    (0.02, 0.11, lambda rng: translation_dialogue(rng, False, rng.choice(("de", "fr")), rng.randint(2, 6))),
    (0.02, 0.05, lambda rng: call_dialogue(rng, False, "call_flat", rng.randint(4, 8))),
    (0.02, 0.05, lambda rng: call_dialogue(rng, False, "call_nested", rng.randint(3, 7))),
    (0.00, 0.07, lambda rng: several_dialogue(rng, False, rng.randint(2, 4))),
    (0.00, 0.03, lambda rng: response_dialogue(rng, False, rng.randint(2, 5))),
    (0.10, 0.01, lambda rng: repeat_dialogue(rng, rng.randint(1, 4))),
    (0.00, 0.03, lambda rng: talk_dialogue(rng)),
)
BASICS_POOLS = 8  # pools of training that draw the first shares


def mixed_dialogue(rng, late=False):
    """One dialogue of the mixture."""
    return rng.choices([row[2] for row in MIXTURE], [row[late] for row in MIXTURE])[0](rng)


def training_dialogue(rng, pool):
    """One dialogue for training: several exchanges, so that every token read teaches something."""
    return mixed_dialogue(rng, pool >= BASICS_POOLS)


def question(rng, task):
    """One held-out question of a task; the last message is the expected answer."""
    if task == "qa":
        return scene_dialogue(rng, True, task, st.QA, 1)
    if task == "counting":
        return scene_dialogue(rng, True, task, st.COUNTING, 1)
    if task == "comparing":
        return scene_dialogue(rng, True, task, st.COMPARING, 1)
    if task == "caption":
        return caption_dialogue(rng, True, 1)
    if task in ("german", "french"):
        return translation_dialogue(rng, True, task[:2].replace("ge", "de"), 1)
    if task in ("call_flat", "call_nested"):
        return call_dialogue(rng, True, task, 1)
    if task == "call_several":
        return several_dialogue(rng, True, 1)
    if task == "call_response":
        return response_dialogue(rng, True, 1)
    return mixed_scene_dialogue(rng, True, rng.randint(2, 4)) if rng.random() < 0.5 else caption_dialogue(rng, True, rng.randint(2, 4))
