"""The training text: stories, conversations about them, sums, Tandem, and what is kept out of it.

Everything is drawn from a seeded generator. An *instance* (a plot with its hero and main thing, an operand pair) is held
out when the hash of its key says so; a *wording* is held out when it is the one of its list with the smallest hash. The
training side refuses held-out instances and wordings, the test side asks for them, and test_train.py checks that the two
do not meet.
"""

import dataclasses
import hashlib
import pathlib
import random
import re

import stories

GIVEN, TOLD, ANSWER = 1, 2, 3  # what the user writes; stories that the model writes; its answers
HELD_OUT_OF = 16  # one instance in so many is held out


def digest(text):
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def is_held(key):
    return digest(key) % HELD_OUT_OF == 0


def held_wordings(wordings):
    """The wordings that training never uses: one in seven, at least one of three or more."""
    count = 0 if len(wordings) < 3 else max(1, len(wordings) // 7)
    return sorted(wordings, key=digest)[:count]


@dataclasses.dataclass
class Turn:
    question: str
    answer: str
    kind: str
    key: str  # the instance
    wording: str  # the template of the question


@dataclasses.dataclass
class Document:
    """Either a plain story (`text`) or a conversation (`turns` after an optional `system` message)."""

    text: str = ""
    system: str = ""
    turns: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Mix:
    """What conversations are made of: how many parts, the weight of each kind of part, the most questions about a story."""

    parts: tuple = (1, 1, 1, 2, 2, 3)
    reading: int = 28
    telling: int = 14
    sums: int = 24
    tandem: int = 16
    talk: int = 5
    repeat: int = 0
    questions: int = 6
    plain: float = 0.12  # share of documents that are a story alone


PARTS = ("reading", "telling", "sums", "tandem", "talk", "repeat")

# ---------------------------------------------------------------------------------------------- arithmetic

SUMS = ("addition", "subtraction", "multiplication", "comparison", "counting", "too hard")
ADDITION = ["What is {a} + {b}?", "{a} + {b}", "{a} + {b} = ?", "{a}+{b}", "How much is {a} plus {b}?", "What is {a} plus {b}?", "Add {a} and {b}.", "What do you get when you add {a} and {b}?",
            "Please add {a} and {b}.", "Calculate {a} + {b}.", "What is the sum of {a} and {b}?", "{a} plus {b}", "How much is {a} + {b}?", "Can you add {a} and {b}?", "What does {a} + {b} make?", "I need the sum of {a} and {b}.", "What's {a} + {b}?", "{a} + {b}?", "{a} and {b} together?", "What's {a} plus {b}?", "{a} plus {b} is?"]
SUBTRACTION = ["What is {a} - {b}?", "{a} - {b}", "{a} - {b} = ?", "{a}-{b}", "How much is {a} minus {b}?", "What is {a} minus {b}?", "Take {b} away from {a}.", "What is left when you take {b} from {a}?",
               "Please subtract {b} from {a}.", "Calculate {a} - {b}.", "What is the difference between {a} and {b}?", "{a} minus {b}", "How much is {a} - {b}?", "Subtract {b} from {a}.", "What does {a} - {b} make?", "Can you take {b} from {a}?", "What's {a} - {b}?", "{a} - {b}?", "What's {a} minus {b}?", "{a} less {b}?", "{a} minus {b} is?"]
MULTIPLICATION = ["What is {a} * {b}?", "{a} * {b}", "{a} x {b}", "{a} * {b} = ?", "How much is {a} times {b}?", "What is {a} times {b}?", "Multiply {a} by {b}.", "What do you get when you multiply {a} and {b}?",
                  "Calculate {a} * {b}.", "What is the product of {a} and {b}?", "{a} times {b}", "How much is {a} x {b}?", "Please multiply {a} by {b}.", "Can you multiply {a} by {b}?", "What is {a} x {b}?", "What's {a} * {b}?", "{a} * {b}?", "{a}*{b}", "What's {a} times {b}?", "{a} times {b} is?"]
# Wordings added later, for training alone: what was held out stays held out.
MORE_SUMS = {
    "addition": ["What do {a} and {b} make?", "{a} and {b} make?", "Add {b} to {a}.", "Work out {a} + {b}.", "Tell me {a} + {b}.", "How many are {a} and {b}?", "Give me {a} plus {b}.", "Find the sum of {a} and {b}.", "What is {a} and {b}?", "Sum of {a} and {b}?", "{a} + {b} is?", "{a} + {b} is what?", "And {a} + {b}?", "And {a} plus {b}?", "What is the total of {a} and {b}?", "Compute {a} + {b}.", "Solve {a} + {b}."],
    "subtraction": ["What do you get when you take {b} from {a}?", "{a} take away {b}", "What is {a} take away {b}?", "Take {b} from {a}.", "Work out {a} - {b}.", "Tell me {a} - {b}.", "From {a} take {b}.", "Give me {a} minus {b}.", "Find the difference of {a} and {b}.", "What is the difference of {a} and {b}?", "The difference between {a} and {b}?", "Difference: {a} and {b}", "{a} - {b} is?", "{a} - {b} is what?", "And {a} - {b}?", "And {a} minus {b}?", "How much is left of {a} without {b}?", "What is {a} less {b}?", "Compute {a} - {b}.", "Solve {a} - {b}.", "How much more is {a} than {b}?", "Calculate {a} minus {b}.", "Tell me the difference between {a} and {b}.", "{a} - {b} please"],
    "multiplication": ["{a} multiplied by {b}", "What is {a} multiplied by {b}?", "Work out {a} x {b}.", "Tell me {a} * {b}.", "Give me {a} times {b}.", "Find the product of {a} and {b}.", "{a} x {b} is?", "{a} * {b} is what?", "And {a} x {b}?", "And {a} times {b}?", "Compute {a} * {b}.", "Solve {a} x {b}.", "What does {a} x {b} make?", "{a} x {b} = ?", "{a}x{b}", "What's {a} x {b}?", "{a} x {b}?", "Can you work out {a} times {b}?", "I want to multiply {a} by {b}.", "How much is {a} multiplied by {b}?", "How much is {a} * {b}?"],
}
COMPARISON = ["Which is bigger, {a} or {b}?", "Which number is bigger, {a} or {b}?", "Is {a} or {b} bigger?", "What is bigger: {a} or {b}?", "Which is more, {a} or {b}?", "Which is greater, {a} or {b}?", "Tell me which is bigger, {a} or {b}."]
AFTER = ["What comes after {a}?", "Which number comes after {a}?", "What is the number after {a}?", "What is the next number after {a}?", "Count one up from {a}."]
BEFORE = ["What comes before {a}?", "Which number comes before {a}?", "What is the number before {a}?", "Count one down from {a}.", "Which number is just before {a}?"]
TOO_HARD = "That is too hard for me. I add and subtract up to 99 and multiply up to 12."
DIVISION = ["What is {a} / {b}?", "{a} / {b}", "How much is {a} divided by {b}?", "Divide {a} by {b}.", "What is {a} divided by {b}?", "Calculate {a} / {b}.", "{a} divided by {b}", "{a} : {b}"]


def product_is_held(a, b):
    """A held-out product's mirror image is in training: tables cannot be derived, but they can be turned round."""
    return a != b and is_held(f"mul {min(a, b)} {max(a, b)}") and (a < b) == (digest(f"side {min(a, b)} {max(a, b)}") % 2 == 0)


# ---------------------------------------------------------------------------------------------- small talk

TALK = [
    (["Hello", "Hi", "Hello!", "Hi!", "Good morning", "Good evening", "Hey", "Hi there", "Hello there!", "Good day"], "Hello! Ask me for a story, a sum, or something about Tandem."),
    (["How are you?", "How are you today?", "Are you well?", "How do you do?", "How is it going?", "How do you feel?"], "I am well, thank you. What can I do for you?"),
    (["Thank you", "Thanks", "Thank you!", "Thanks a lot", "Thank you very much", "Many thanks", "Great, thanks", "Thanks!"], "You are welcome!"),
    (["Goodbye", "Bye", "See you", "Good night", "Bye bye", "See you tomorrow", "Goodbye!", "I have to go now"], "Goodbye! It was nice to talk to you."),
    (["Well done", "Good", "Great", "Very good", "You are right", "That is right", "Nice", "Good answer", "Correct", "I like that"], "I am glad to hear that. What would you like next?"),
    (["That is wrong", "You are wrong", "No", "That is not right", "I do not think so", "Are you sure?", "This is false", "Wrong"], "I am sorry. I am a small model and can be wrong. Please ask me again."),
]
UNKNOWN_TOPIC = "I do not know that. I know small stories, small sums and Tandem."
FAR_QUESTIONS = """What is the capital of {c}?|Who is the president of {c}?|How many people live in {c}?|What is the weather like today?|What time is it?|Who wrote {b}?|When was {p} born?|How far is the {s}?|Write a program in {l}.
Translate this into {t}.|What is the meaning of life?|How do I cook {f}?|Who won the football match?|What is the price of {f}?|Tell me the news.|What do you think of {p}?|How does a {m} work?|What is the history of {c}?|Give me a recipe for {f}.
Who is {p}?|What is the best {m}?|Can you draw a {m}?|Why is the sky blue?|What is the largest animal?|How old is the {s}?|Who invented the {m}?|What language do they speak in {c}?|Where is {c}?|Sing me a song.|What is the square root of {n}?
What day is it today?|Can you book a flight to {c}?|Explain quantum physics.|Write a poem in {t}.|How tall is {p}?|Do you know {p}?|What is {f} made of?|How do I repair a {m}?|Is {c} beautiful?|What is love?
What is a {x}?|What is a {x} for?|Where can I buy a {x}?|Do you like the {x}?|Tell me about {c}.|How much does a {x} cost?|How do I make a {x}?|Explain the {m}.|What does a {x} look like?|Tell me about {p}.|Are there {f} in {c}?|What is a {m}?""".replace("\n", "|").split("|")
FAR_WORDS = {
    "c": "France Germany Spain Italy Japan China Brazil India Canada Egypt Poland Norway Kenya Mexico Greece Turkey Peru Sweden Paris London Rome Berlin Madrid Tokyo Africa Europe".split(),
    "b": ["Hamlet", "the Bible", "Faust", "Don Quixote", "War and Peace", "Harry Potter", "the Odyssey"],
    "p": ["Einstein", "Mozart", "Napoleon", "Shakespeare", "Newton", "Picasso", "Bach", "Darwin", "Caesar", "Lincoln"],
    "s": ["moon", "sun", "earth", "universe", "ocean", "North Pole"],
    "l": ["Python", "Java", "C", "Rust", "Basic", "Fortran"],
    "t": ["French", "German", "Spanish", "Latin", "Italian", "Russian", "Greek"],
    "f": ["rice", "pasta", "fish", "coffee", "chocolate", "potatoes", "tea", "curry"],
    "m": ["computer", "car", "telephone", "radio", "engine", "camera", "rocket", "clock", "fridge", "plane"],
    "x": stories.TOYS + stories.ANIMALS,
    "n": ["2", "10", "81", "144", "5"],
}

# ---------------------------------------------------------------------------------------------- stories in conversations

TELL = ["Tell me a story.", "Please tell me a story.", "Tell me a short story.", "Can you tell me a story?", "I would like to hear a story.", "A story, please.", "Do you know a story?", "Write a short story."]
TELL_WHO = ["Tell me a story about {n}.", "Please tell me a story about {n}.", "Can you tell me a story about {n}?", "Write a story about {n}.", "I would like a story about {n}.", "A story about {n}, please.", "Make up a story about {n}.", "Do you know a story about {n}?"]
TELL_BOTH = ["Tell me a story about {n} and {t}.", "Please tell me a story about {n} and {t}.", "Can you tell me a story about {n} and {t}?", "Write a story with {n} and {t}.", "I would like a story about {n} and {t}.", "Make up a story about {n} and {t}.", "A story about {n} and {t}, please.", "Tell me about {n} and {t}."]
TELL_THING = ["Tell me a story about {t}.", "Please tell me a story about {t}.", "Can you tell me a story with {t}?", "Write a story about {t}.", "I would like a story with {t}.", "Make up a story about {t}.", "A story with {t}, please.", "Do you know a story about {t}?"]
TELL_LONG = ["Tell me a long story.", "Tell me a long story about {n}.", "Please tell me a long story about {n}.", "Write a long story.", "Write a long story about {n}.", "Can you tell me a longer story?", "I would like a long story about {n}.", "A long story, please."]
TELL_AGAIN = ["Tell me another story.", "Another story, please.", "Tell me another one.", "One more story!", "Do you know another story?", "Another one, please.", "One more, please."]
REPEAT = ["Repeat: {s}", "Say: {s}", "Repeat after me: {s}", "Please repeat this: {s}", "Say it again: {s}", "Repeat this: {s}", "Write: {s}", "{s}\nRepeat that."]
ASKING = ["Tell me: {q}", "Please tell me: {q}", "And {s}", "Now {s}", "Question: {q}", "One more question: {q}", "I want to know: {q}", "{q} Do you know?", "Can you answer this? {q}"]
HERE_IS = ["{s}\n{q}", "{s}\n\n{q}", "{s} {q}", "Here is a story: {s}\n{q}", "Read this story. {s}\n{q}", "Story: {s}\nQuestion: {q}", "{q}\n\n{s}", "Read this and answer. {s}\n{q}", "This is the story:\n{s}\n\n{q}"]
LISTEN = ["{s}", "Here is a story: {s}", "Listen to this: {s}", "Read this story. {s}", "I will tell you a story. {s}", "Remember this: {s}", "Story: {s}"]
LISTENED = "I have read it. What would you like to know?"

SYSTEMS = ["You are a helpful assistant.", "You are a friendly assistant.", "Answer the questions of the user.", "You are Tandem's demo model.", "Be polite and helpful.", "You are a helpful assistant. Answer in full sentences.", "You tell stories and answer questions.", "Help the user."]
SHORT_SYSTEMS = ["Answer briefly.", "Give short answers.", "You are a helpful assistant. Answer briefly.", "Answer in as few words as possible.", "Be brief.", "Keep your answers short.", "Use short answers only."]
NAME_SYSTEMS = ["Your name is {n}.", "You are {n}, a helpful assistant.", "You are a helpful assistant called {n}.", "You are an assistant named {n}.", "Call yourself {n}."]
NAME_QUESTIONS = ["What is your name?", "Who are you?", "How are you called?", "Tell me your name.", "May I know your name?", "What should I call you?"]

TANDEM_PREFIXES = ["", "", "", "", "Please tell me: ", "I have a question. ", "Hello! ", "A question about Tandem: ", "Question: ", "Hi, "]


TERM_FORMS = ["What is {t}?", "Explain {t}.", "Tell me about {t}.", "What does {t} mean?", "Describe {t}.", "{t}?", "What's {t}?", "Can you explain {t}?", "What do you know about {t}?", "{t}", "I do not understand {t}.", "Please explain {t} to me.",
              "What can you tell me about {t}?", "I want to know about {t}.", "What do you mean by {t}?", "Could you describe {t}?"]


def read_facts():
    """[(answer, [wordings])] from tandem_facts.txt: a block's first line is the answer, the others ask for it.

    A line that begins with @ names terms that the answer explains; the usual ways to ask for a term come on top."""
    text = (pathlib.Path(__file__).parent / "tandem_facts.txt").read_text()
    facts = []
    for block in text.strip().split("\n\n"):
        answer, *lines = block.strip().split("\n")
        wordings = [line for line in lines if line[0] != "@"]
        for term in (t.strip() for line in lines if line[0] == "@" for t in line[1:].split("|")):
            wordings += [stories.capital(form.format(t=term)) for form in TERM_FORMS]
        facts.append((answer, list(dict.fromkeys(wordings))))
    return facts


FACTS = read_facts()


class Corpus:
    """Draws documents; with `held` it draws the held-out instances and wordings instead."""

    def __init__(self, seed, held_instances=False, held_wording=False):
        self.rng = random.Random(seed)
        self.held_instances, self.held_wording = held_instances, held_wording

    def wording(self, options, more=()):
        """One of `options`; training also has `more`, of which none is held out."""
        held = held_wordings(options)
        if self.held_wording and held:
            return self.rng.choice(held)
        return self.rng.choice([o for o in (*options, *more) if o not in held])

    def until(self, draw, held_of):
        while True:
            value = draw()
            if held_of(value) == self.held_instances:
                return value

    def noise(self, question):
        """Training questions sometimes come in lower case or without their last sign."""
        if self.held_instances:
            return question
        if self.rng.random() < 0.08:
            question = question[0].lower() + question[1:]
        if self.rng.random() < 0.06 and question[-1] in "?.":
            question = question[:-1]
        return question

    def small_letters(self, turn):
        if not self.held_instances and self.rng.random() < 0.05:
            turn.question = turn.question.lower()
        return turn

    # -- arithmetic

    def pair(self, op, low=0, high=99):
        def draw():
            a, b = self.rng.randint(low, high), self.rng.randint(low, high)
            if self.rng.random() < 0.25:
                a, b = a % 21, b % 21
            return (max(a, b), min(a, b)) if op == "sub" else (a, b)

        return self.until(draw, lambda p: is_held(f"{op} {max(p)} {min(p)}"))

    def sum(self, short=False, kind=None):
        kind = kind or self.rng.choices(SUMS, (32, 32, 25, 4, 2, 5))[0]
        if kind == "addition":
            a, b = self.pair("add")
            wording, answer, brief, key = self.wording(ADDITION, MORE_SUMS["addition"]), f"{a} plus {b} is {a + b}.", a + b, f"add {max(a, b)} {min(a, b)}"
        elif kind == "subtraction":
            a, b = self.pair("sub")
            wording, answer, brief, key = self.wording(SUBTRACTION, MORE_SUMS["subtraction"]), f"{a} minus {b} is {a - b}.", a - b, f"sub {a} {b}"
        elif kind == "multiplication":
            a, b = self.until(lambda: (self.rng.randint(0, 12), self.rng.randint(0, 12)), lambda p: product_is_held(*p))
            wording, answer, brief, key = self.wording(MULTIPLICATION, MORE_SUMS["multiplication"]), f"{a} times {b} is {a * b}.", a * b, f"mul {a} {b}"
        elif kind == "comparison":
            a, b = self.until(lambda: self.rng.sample(range(100), 2), lambda p: is_held(f"cmp {max(p)} {min(p)}"))
            wording, answer, brief, key = self.wording(COMPARISON), f"{max(a, b)} is bigger than {min(a, b)}.", max(a, b), f"cmp {max(a, b)} {min(a, b)}"
        elif kind == "counting":
            step = self.rng.choice((1, -1))
            a, b = self.until(lambda: (self.rng.randint(1, 98), 0), lambda p: is_held(f"count {step} {p[0]}"))
            wording, key = self.wording(AFTER if step == 1 else BEFORE), f"count {step} {a}"
            answer, brief = f"{a + step} comes {'after' if step == 1 else 'before'} {a}.", a + step
        else:
            a, b, wordings = self.until(self.hard_sum, lambda s: is_held(f"hard {s[0]} {s[1]}"))
            wording = self.wording(wordings)
            return Turn(self.noise(wording.format(a=a, b=b)), TOO_HARD, kind, f"hard {a} {b}", wording)
        return Turn(self.noise(wording.format(a=a, b=b)), f"{brief}." if short else answer, kind, key, wording)

    def hard_sum(self):
        rng, wordings = self.rng, self.rng.choice((ADDITION, SUBTRACTION, MULTIPLICATION, DIVISION))
        if wordings is DIVISION:
            return rng.randint(1, 200), rng.randint(1, 20), wordings
        if wordings is MULTIPLICATION:
            pair = [rng.randint(13, rng.choice((99, 999))), rng.randint(2, 99)]
        else:
            pair = [rng.randint(100, rng.choice((200, 999, 9999))), rng.randint(1, rng.choice((99, 999)))]
        if wordings is not SUBTRACTION:
            rng.shuffle(pair)
        return *pair, wordings

    # -- Tandem and small talk

    def tandem(self):
        index = self.rng.randrange(len(FACTS))
        answer, wordings = FACTS[index]
        wording = self.wording(wordings)
        prefix = "" if self.held_wording else self.rng.choice(TANDEM_PREFIXES)
        return self.small_letters(Turn(prefix + self.noise(wording), answer, "Tandem", f"fact {index} {wording}", wording))

    def talk(self):
        if self.rng.random() < 0.5:
            wording = self.wording(FAR_QUESTIONS)
            question = wording.format(**{k: self.rng.choice(v) for k, v in FAR_WORDS.items()})
            return Turn(self.noise(question), UNKNOWN_TOPIC, "out of scope", "far " + question, wording)
        index = self.rng.randrange(len(TALK))
        wordings, answer = TALK[index]
        wording = self.rng.choice(wordings)
        return self.small_letters(Turn(self.noise(wording), answer, "small talk", "talk " + wording, wording))

    # -- stories

    def story(self, parts=1):
        return self.until(lambda: stories.draw_story(self.rng, parts), lambda s: is_held(s.keys[0]) if self.held_instances else any(map(is_held, s.keys)))

    def ask(self, story, fact, short, kind, before=None):
        """A turn that asks for `fact`; when the fact `before` spoke of the same person or thing, perhaps with a pronoun.

        Wordings with a pronoun are few, none is held out, and where new wordings are wanted they are not used."""
        options, slots, subject = stories.QUESTIONS[fact.kind], fact.slots, fact.slots.get("x")
        if before and before.kind != "unknown" and not self.held_wording and self.rng.random() < 0.4:
            thing = fact.slots["y"] if fact.kind in ("built_where", "planted_where", "lost_where") else subject
            words = before.answer.strip(".").split()
            if fact.kind in stories.ABOUT_PERSON and subject in story.people and [w for w in words if w in story.people] == [subject]:
                person = story.people[subject]
                options, slots = stories.ABOUT_PERSON[fact.kind], slots | {"he": person.he, "him": person.him, "his": person.his}
            elif fact.kind in stories.ABOUT_THING and thing in words:
                options = stories.ABOUT_THING[fact.kind]
        wording = self.wording(options, stories.MORE_QUESTIONS.get(fact.kind, ()) if options is stories.QUESTIONS[fact.kind] else ())
        question = wording.format(**slots)
        if not self.held_instances and self.rng.random() < 0.1:
            question = self.rng.choice(ASKING).format(q=question, s=question[0].lower() + question[1:])
        return Turn(self.noise(question), fact.short if short else fact.answer, kind, story.keys[0], wording)

    def reading(self, short=False, count=None, most=6):
        """The user gives a text and asks about it, in the same message or in the next ones."""
        story = self.story(2 if count is None and self.rng.random() < 0.1 else 1)
        facts = self.rng.sample(story.facts, min(len(story.facts), count or self.rng.randint(1, most)))
        turns = [self.ask(story, f, short, "story", before) for before, f in zip([None] + facts, facts)]
        if self.rng.random() < 0.25:
            turns.insert(0, Turn(self.rng.choice(LISTEN).format(s=story.text), LISTENED, "listen", story.keys[0], "listen"))
        else:
            turns[0].question = self.rng.choice(HERE_IS).format(s=story.text, q=turns[0].question)
        return turns

    def telling(self, short=False):
        """The model tells a story and answers questions about it."""
        shape = self.rng.choices((TELL, TELL_WHO, TELL_THING, TELL_BOTH, TELL_LONG), (12, 22, 20, 36, 10))[0]
        story = self.story(parts=self.rng.choice((2, 2, 3)) if shape is TELL_LONG else 1)
        wording = self.wording(shape)
        thing = story.thing if story.thing.startswith("the ") else stories.article(story.thing)
        question = wording.format(n=story.hero, t=thing)
        turns = [Turn(self.noise(question), story.text, "telling", story.keys[0], wording)]
        facts = self.rng.sample(story.facts, min(len(story.facts), self.rng.randint(0, 4)))
        turns += [self.ask(story, f, short, "story told", before) for before, f in zip([None] + facts, facts)]
        if self.rng.random() < 0.15:
            story, wording = self.story(), self.wording(TELL_AGAIN)
            turns.append(Turn(self.noise(wording), story.text, "telling", story.keys[0], wording))
        return turns

    def repeat(self):
        """The model says again what it read: the plainest form of looking something up in the text before."""
        rng = self.rng
        if rng.random() < 0.2:
            text = rng.choice(self.story().text.split(". ")).rstrip(".")
        else:
            writer = stories.Writer(rng)
            lists = (stories.TOYS, stories.COLOURS, stories.PLACES, stories.ANIMALS, stories.GLAD, stories.JOBS)
            draw = lambda: writer.new_person().name if rng.random() < 0.4 else str(rng.randint(0, 199)) if rng.random() < 0.2 else rng.choice(rng.choice(lists))
            text = rng.choice((" ", " ", ", ", " and ")).join(draw() for _ in range(rng.randint(1, 12)))
        wording = self.wording(REPEAT)
        return Turn(wording.format(s=text), stories.capital(text) + ".", "repeat", "repeat " + text, wording)

    # -- documents

    def conversation(self, mix=Mix()):
        rng, short = self.rng, False
        document = Document()
        draw = rng.random()
        if draw < 0.12:
            document.system = rng.choice(SYSTEMS)
        elif draw < 0.20:
            document.system, short = rng.choice(SHORT_SYSTEMS), True
        elif draw < 0.24:
            name = stories.Writer(rng).person().name
            document.system = rng.choice(NAME_SYSTEMS).format(n=name)
            document.turns.append(Turn(self.noise(rng.choice(NAME_QUESTIONS)), f"{name}." if short else f"My name is {name}.", "name", "name " + name, "name"))
        for _ in range(rng.choice(mix.parts)):
            kind = rng.choices(PARTS, [getattr(mix, part) for part in PARTS])[0]
            if kind == "reading":
                document.turns += self.reading(short, most=mix.questions)
            elif kind == "telling":
                document.turns += self.telling(short)
            elif kind == "sums":
                document.turns += [self.sum(short) for _ in range(rng.randint(1, 8))]
            elif kind == "tandem":
                document.turns += [self.tandem() for _ in range(rng.randint(1, 4))]
            elif kind == "repeat":
                document.turns += [self.repeat() for _ in range(rng.randint(1, 4))]
            else:
                document.turns += [self.talk() for _ in range(rng.randint(1, 2))]
        return document

    def document(self, mix=Mix()):
        if self.rng.random() < mix.plain:
            return Document(text=self.story(parts=self.rng.choice((1, 1, 1, 2, 3))).text)
        return self.conversation(mix)


def render(document):
    """[(text, TOLD, ANSWER or GIVEN)]: the pieces of a document, and what each is to the model."""
    if document.text:
        return [(document.text, TOLD), ("<|endoftext|>", TOLD)]
    pieces = []
    if document.system:
        pieces.append((f"<|im_start|>system\n{document.system}<|im_end|>\n", GIVEN))
    for turn in document.turns:
        pieces.append((f"<|im_start|>user\n{turn.question}<|im_end|>\n<|im_start|>assistant\n", GIVEN))
        if turn.kind == "telling":  # what was asked for counts like an answer
            _, hero, thing = turn.key.split("|")
            asked = rf"((?:^| )(?:{re.escape(hero)}|{re.escape(thing)})\b)"
            pieces += [(text, ANSWER if i % 2 else TOLD) for i, text in enumerate(re.split(asked, turn.answer)) if text]
            pieces.append(("<|im_end|>", TOLD))
        else:
            pieces.append((f"{turn.answer}<|im_end|>", ANSWER))
        pieces.append(("\n", GIVEN))
    return pieces


def prompt_of(turns, system=""):
    """The text that asks for the answer of the last turn."""
    last = dataclasses.replace(turns[-1], answer="", kind="")
    return "".join(text for text, _ in render(Document(system=system, turns=[*turns[:-1], last]))[:-2])
