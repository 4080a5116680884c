"""The grammar of the stories: nine plots, each with questions and answers about what it says.

A plot draws its people, things and places from the lists below and returns a Story: the text and the facts that can be
asked. The wording of a sentence is drawn from several, so that the answer has to be read, not remembered.
"""

import dataclasses

GIRLS = """Anna Lily Mia Emma Sara Rosa Nina Clara Ella Ruth Julia Maya Zoe Eva Lucy Alice Grace Nora Ivy Hanna Olga Tina
Vera Leila Maria Paula Sofia Daisy Betty Molly Carla Dina Freya Greta Heidi Jana Kira Laura Monica""".split()
BOYS = """Tom Ben Sam Max Leo Jack Paul Oscar Peter Adam Noah Luca Hugo Felix David Omar Ivan Karl Simon Eric Theo Bruno
Martin Jonas Victor Oliver Henry Daniel Samir Ravi Anton Carlos Diego Edgar Frank George Hassan Igor Jakob""".split()
SYLLABLES = "ba be bo da do ka ki ko la li lo ma mi mo na ni no ra ri ro sa si so ta ti to va vi vo za zi zo".split()
RELATIVES = ["mother", "father", "grandmother", "grandfather", "aunt", "uncle", "sister", "brother", "teacher", "neighbour"]
COLOURS = "red blue green yellow white black brown grey pink purple orange golden silver".split()
TOYS = """kite ball doll drum book hat scarf ring bell lamp cup basket whistle flute boat train puppet marble coin mirror
bag bottle box brush button candle clock comb flag glove jar key ladder map mask pen pencil pillow ribbon robot rope
shell shoe spoon stone sword top umbrella watch wheel""".split()
PLACES = """in the garden|in the park|in the forest|by the river|on the hill|at the market|in the kitchen|in the barn|on the beach
at school|by the lake|in the attic|in the library|under the bridge|in the cave|in the village|at the mill|in the cellar
on the roof|in the meadow|at the station|by the well|behind the house|under the old oak|in the tent|on the island
in the museum|at the harbour|in the bakery|by the sea|in the castle|at the farm|in the tower|near the church""".replace("\n", "|").split("|")
ANIMALS = "dog cat bird fox goat horse sheep hen puppy bear lion pig cow parrot deer swan".split()
PET_NAMES = "Pip Coco Biscuit Bobo Lucky Bella Rusty".split()
FOODS = "bread soup milk cheese honey rice a_carrot an_apple some_nuts a_fish some_seeds a_biscuit a_pear some_grass".replace("_", "~").split()
PLANTS = "rose|bean|apple tree|carrot|tulip|lemon tree|tomato".split("|")
CONTESTS = [("race", "run"), ("swimming race", "swim"), ("singing contest", "sing"), ("drawing contest", "draw"),
            ("chess game", "play chess"), ("dancing contest", "dance"), ("spelling contest", "spell"), ("jumping contest", "jump")]
PRIZES = "medal cup book bicycle cake crown trophy camera guitar telescope".split()
FEARS = "the dark|thunder|deep water|big dogs|spiders|high places|loud noises|the old house|ghosts|the cold wind".split("|")
COMFORTS = "lantern blanket song whistle candle torch stick teddy_bear story lucky_stone".replace("_", "~").split()
BUILDS = "boat|kite|tree house|raft|cart|bird house|sledge|bridge|tent|windmill|swing".split("|")
MATERIALS = "wood|paper|old boxes|rope|cloth|branches|straw|bamboo".split("|")
TOOLS = "hammer|saw|needle|pot of glue|long nail|strong rope|knife|drill".split("|")
VEHICLES = "bus|train|boat|bicycle|cart|car|tram|horse".split("|")
SIGHTS = "the lions|the ships|the stars|the whales|a circus|a parade|the old castle|the wild horses|a rainbow|the fireworks|the swans|a waterfall".split("|")
WEATHER = [("rain", "It began to rain"), ("snow", "It began to snow"), ("the wind", "A strong wind blew"), ("the fog", "A thick fog came"),
           ("the storm", "A storm came"), ("the heat", "It became very hot")]
TREASURES = "a box of gold coins|a silver crown|an old sword|a golden ring|a music box|a bag of jewels|a book of songs|a little wooden horse|a blue glass egg".split("|")
CLUES = "map letter key note picture riddle postcard".split()
GLAD = "happy proud glad thankful".split()
SAD = "sad worried angry".split()
JOBS = "baker|farmer|doctor|teacher|sailor|painter|builder|gardener|singer|pilot|fisherman|king|queen|shoemaker".split("|")


@dataclasses.dataclass
class Person:
    name: str
    he: str
    him: str
    his: str
    child: str


@dataclasses.dataclass
class Fact:
    """A question that a story answers: its wordings are QUESTIONS[kind], with `slots` filled in."""

    kind: str
    slots: dict
    answer: str
    short: str


@dataclasses.dataclass
class Story:
    keys: list  # what is held out: plot, hero and main thing of each part
    text: str
    facts: list
    hero: str
    thing: str
    people: dict  # name: Person


QUESTIONS = {
    "hero": ["Who is the story about?", "Who is the main character?", "Who is the hero of the story?", "What is the name of the main character?", "About whom is this story?", "Whose story is this?"],
    "had": ["What did {x} have?", "What did {x} own?", "What thing did {x} have?", "Which thing belonged to {x}?", "What was it that {x} had?"],
    "colour": ["What colour was the {x}?", "Which colour did the {x} have?", "Of what colour was the {x}?", "Can you tell me the colour of the {x}?", "The {x} had a colour. Which one?"],
    "gave_before": ["Who gave {x} the {y}?", "Who was the {y} a gift from?", "From whom did {x} get the {y}?", "Where did {x} get the {y} from?", "Who had given the {y} to {x}?"],
    "lost_where": ["Where did {x} lose the {y}?", "Where was the {y} lost?", "In what place did {x} lose the {y}?", "Where was {x} when the {y} was lost?", "At which place was the {y} lost?"],
    "why_felt": ["Why was {x} {y}?", "Why did {x} feel {y}?", "What made {x} {y}?", "For what reason was {x} {y}?", "What was the reason that {x} was {y}?"],
    "helped": ["Who helped {x}?", "Who came to help {x}?", "By whom was {x} helped?", "Which person helped {x}?", "Who gave {x} some help?"],
    "looked_first": ["Where did they look first?", "Where was the {x} not?", "Which place did they search first?", "Where did they search in vain?", "In which place did they look and find nothing?"],
    "found_where": ["Where was the {x} found?", "Where did {y} find the {x}?", "In what place was the {x} found?", "Where was the {x} in the end?", "In which place did {y} find the {x}?"],
    "found_who": ["Who found the {x}?", "Which person found the {x}?", "By whom was the {x} found?", "Who saw the {x} first?", "Who was it that found the {x}?"],
    "thanks": ["What did {x} give to {y}?", "What did {y} get from {x}?", "What did {x} give {y}?", "How did {x} thank {y}?", "With what did {x} thank {y}?"],
    "felt_end": ["How did {x} feel at the end?", "How was {x} at the end?", "What did {x} feel in the end?", "In the end, how did {x} feel?", "How did {x} feel when the story ended?"],
    "met": ["What did {x} meet {y}?", "Which animal did {x} meet?", "What animal did {x} see?", "What kind of animal was in the story?", "Which animal is in the story?", "What animal did {x} find?"],
    "met_where": ["Where did {x} meet the {y}?", "Where was the {y}?", "Where did {x} see the {y}?", "In what place did {x} find the {y}?", "Where did {x} find the {y}?"],
    "gave_food": ["What did {x} give the {y} to eat?", "What did the {y} eat?", "What did the {y} get to eat?", "Which food did {x} give the {y}?", "What food did {x} bring for the {y}?"],
    "named": ["What was the name of the {x}?", "What did {y} call the {x}?", "How was the {x} called?", "Which name did the {x} get?", "What name did {y} give the {x}?"],
    "sleep_where": ["Where did {x} sleep?", "Where could {x} sleep?", "In what place did {x} sleep?", "Where did {x} spend the night?", "Where was the place in which {x} slept?"],
    "allowed": ["Who said that {x} could stay?", "Who let {x} stay?", "By whom was {x} allowed to stay?", "Who allowed {x} to stay?", "Who agreed that {x} could stay?"],
    "make_what": ["What did {x} want to make?", "What did {x} make?", "What was {x} making?", "What thing did {x} want to make?", "What was it that {x} made?"],
    "paid": ["What did {x} give for the {y}?", "What did {x} trade for the {y}?", "How did {x} pay for the {y}?", "What did {x} swap for the {y}?", "For the {y}, what did {x} give away?"],
    "went_where": ["Where did {x} go?", "Where did {x} and {y} go?", "To what place did {x} go?", "Where did the trip lead?", "What place did {x} go to?"],
    "went_how": ["How did {x} and {y} travel?", "How did they get there?", "How did {x} travel?", "By what did they travel?", "What did they travel by?"],
    "went_with": ["With whom did {x} travel?", "Who went with {x}?", "Who travelled with {x}?", "Who was with {x} on the trip?", "Who came along with {x}?"],
    "went_why": ["Why did {x} go there?", "Why did they make the trip?", "What did they want to see?", "What did {x} want to see?", "For what reason did they travel?"],
    "weather": ["What did they hide from?", "Why did they have to hide?", "What happened on the way?", "What stopped them?", "From what did they hide?"],
    "shelter": ["Where did they hide?", "Where did they find shelter?", "Where did they wait?", "In what place did they hide?", "Which place gave them shelter?"],
    "ate": ["What did they eat?", "What did they have to eat?", "Which food did they eat?", "What was there to eat?", "What food did they share?"],
    "afraid": ["What was {x} afraid of?", "Of what was {x} afraid?", "What did {x} fear?", "What scared {x}?", "What frightened {x}?"],
    "fetch": ["What did {x} have to fetch?", "What was {x} sent for?", "What did {x} need to bring?", "Which thing did {x} have to fetch?", "What was {x} to bring back?"],
    "comfort": ["What did {x} get from {y}?", "What did {y} give {x}?", "What helped {x} against the fear?", "Which thing did {y} give {x}?", "What did {x} take along?"],
    "planted": ["What did {x} plant?", "What plant was it?", "Which plant did {x} grow?", "What did {x} grow?", "What was it that {x} planted?"],
    "planted_where": ["Where did {x} plant the {y}?", "Where did the {y} grow?", "Where was the {y} planted?", "In what place did the {y} grow?", "In which place did {x} plant the {y}?"],
    "watered": ["When did {x} water the {y}?", "How often did {x} water the {y}?", "When did the {y} get water?", "At what time did {x} water the {y}?", "When was the {y} watered?"],
    "ate_leaves": ["Who ate the leaves?", "What ate the leaves?", "Which animal ate the leaves?", "By what were the leaves eaten?", "Which animal came at night?"],
    "shared": ["With whom did {x} share?", "Who got a part of it?", "With whom did {x} share it?", "Who was allowed to share it?", "Who shared it with {x}?"],
    "contest": ["What was the contest?", "What did {x} take part in?", "Which contest was it?", "What kind of contest was it?", "In what did {x} take part?"],
    "contest_where": ["Where was the {x}?", "Where did the {x} take place?", "In what place was the {x}?", "Where was the {x} held?", "Where did they hold the {x}?"],
    "won": ["Who won?", "Who won the {x}?", "Who was the winner?", "Who came first?", "Who was the best in the {x}?"],
    "lost": ["Who lost?", "Who lost the {x}?", "Who came second?", "Who did not win?", "Who was beaten in the {x}?"],
    "why_won": ["Why did {x} win?", "Why was {x} the winner?", "How could {x} win?", "For what reason did {x} win?", "What was the reason that {x} won?"],
    "prize": ["What was the prize?", "What did {x} win?", "Which prize did {x} get?", "What did the winner get?", "What did {x} get for winning?"],
    "broke": ["Why did the {x} break?", "What broke the {x}?", "How did the {x} break?", "For what reason did the {x} break?", "What happened to the {x}?"],
    "made_of": ["What was the {x} made of?", "Of what did {y} make the {x}?", "What did {y} use for the {x}?", "From what was the {x} made?", "Which material was the {x} made of?"],
    "built_where": ["Where did {x} build the {y}?", "Where was the {y} built?", "In what place did {x} build the {y}?", "Where did {x} work on the {y}?", "In which place was the {y} made?"],
    "tool": ["What did {x} bring?", "Which tool did {x} bring?", "With what did they mend the {y}?", "What did they use to mend the {y}?", "Which tool helped them?"],
    "clue": ["What did {x} find first?", "What did {x} find {y}?", "Which thing did {x} find first?", "What was the first thing that {x} found?", "At first, what did {x} find?"],
    "clue_where": ["Where did {x} find the {y}?", "Where was the {y}?", "In what place was the {y}?", "Where was the {y} found?", "Where did the {y} lie?"],
    "led": ["Where did the {x} lead?", "To what place did the {x} lead?", "Where did they go with the {x}?", "Which place did the {x} show?", "Where did the {x} tell them to go?"],
    "treasure": ["What was the treasure?", "What did they find?", "What did they find in the end?", "Which treasure did they find?", "What was hidden there?"],
    "gave_end": ["To whom did they give it?", "Who got the treasure?", "Who got it in the end?", "Who was given the treasure?", "In whose hands did it end?"],
    "job": ["What did {x} want to be?", "What was the dream of {x}?", "Which job did {x} want?", "What did {x} dream of?", "What did {x} hope to be one day?"],
    "gift_for": ["For whom was the {y}?", "Who was the {y} for?", "Who got the {y}?", "To whom did {x} give the {y}?", "Who got the present?"],
    "belonged": ["Who had the {x} at first?", "To whom did the {x} belong?", "Who was the owner of the {x}?", "Who was the first owner of the {x}?", "Whose was the {x} at first?"],
    "was_job": ["What was the job of {x}?", "What was {x}?", "What did {x} do for a living?", "Which job did {x} have?", "What was {x} by trade?"],
    "unknown": ["What did {x} eat for breakfast?", "How old is {x}?", "Who is {y}?", "Where is {y}?", "What does {y} have?", "What is the name of the king?", "Where does {x} live?", "What did {y} do?", "How tall is {x}?", "What is the favourite song of {x}?"],
}

# Wordings added later, for training alone: what was held out of QUESTIONS stays held out.
MORE_QUESTIONS = {
    "hero": ["Who is this story about?", "Name the main character.", "Whom is the story about?", "Whose adventure is this?", "What is the main character called?", "Who was it about?"],
    "had": ["What was the thing of {x}?", "What did {x} take everywhere?", "What belonged to {x}?", "Which thing was {x}'s?", "Which thing did {x} own?", "Tell me what {x} had."],
    "colour": ["Tell me the colour of the {x}.", "What was the colour of the {x}?", "Which colour was the {x}?", "Of which colour was the {x}?", "The {x} was what colour?", "What colour did the {x} have?"],
    "gave_before": ["Who had given {x} the {y}?", "From whom was the {y}?", "Whose gift was the {y}?", "Who gave the {y} to {x}?", "Tell me who gave {x} the {y}.", "Who made {x} a gift of the {y}?"],
    "lost_where": ["Where was it that {x} lost the {y}?", "Where did the {y} get lost?", "In which place was the {y} lost?", "Tell me where {x} lost the {y}.", "Where was {x} when {x} lost the {y}?", "Where did {x} play?"],
    "why_felt": ["Why did {x} become {y}?", "Tell me why {x} was {y}.", "What was the reason why {x} felt {y}?", "How come {x} was {y}?", "Why was it that {x} was {y}?", "For what reason did {x} feel {y}?"],
    "helped": ["Who was the helper of {x}?", "Tell me who helped {x}.", "Who was it that helped {x}?", "Whose help did {x} get?", "Which friend helped {x}?", "Who was there to help {x}?"],
    "looked_first": ["Where did they search first?", "Where did they look at first?", "In which place did they look first?", "In which place did they find nothing?", "Where did they find nothing?", "Which place did they look in first?"],
    "found_where": ["Where did they find the {x}?", "Where was the {x} at last?", "Tell me where the {x} was found.", "In which place was the {x}?", "Where did {y} see the {x}?", "At which place was the {x} found?", "Where did the {x} turn up?"],
    "found_who": ["Tell me who found the {x}.", "Who discovered the {x}?", "Who was the one who found the {x}?", "Who saw the {x}?", "Who got the {x} back?", "Who was the finder of the {x}?"],
    "thanks": ["What did {y} get?", "What did {y} get as a thank you?", "What was the gift of {x} to {y}?", "Tell me what {x} gave {y}.", "What did {x} give {y} to say thank you?", "Which thing did {x} give {y}?", "What did {x} give to thank {y}?"],
    "felt_end": ["What was the mood of {x} at the end?", "At the end, how did {x} feel?", "How did {x} feel in the end?", "In the end, how was {x}?", "How did it end for {x}?", "Tell me how {x} felt at the end.", "How was {x} feeling at the end?", "At last, how did {x} feel?"],
    "met": ["What kind of animal did {x} meet?", "What kind of animal did {x} find?", "Whom did {x} meet {y}?", "What animal was it?", "What animal was in the story?", "Tell me which animal {x} met.", "What kind of animal was it?"],
    "met_where": ["Where was the {y} when {x} met it?", "Tell me where {x} met the {y}.", "In which place did {x} see the {y}?", "Where did {x} come across the {y}?", "At what place did {x} meet the {y}?", "Where did {x} and the {y} meet?"],
    "gave_food": ["Which food did the {y} eat?", "What did the {y} have to eat?", "What did {x} feed the {y}?", "Tell me what the {y} ate.", "What food did the {y} get?", "What was the food of the {y}?"],
    "named": ["What was the {x} called?", "What was the {x}'s name?", "Which name did {y} give the {x}?", "Tell me the name of the {x}.", "What name did the {x} get?", "What was its name?", "How did {y} call the {x}?"],
    "sleep_where": ["Where was the bed of {x}?", "Tell me where {x} slept.", "In which place did {x} sleep?", "Where did {x} sleep at night?", "Where could {x} spend the night?", "At night, where was {x}?"],
    "allowed": ["Who said yes?", "Tell me who let {x} stay.", "Who was it that let {x} stay?", "Who agreed to let {x} stay?", "Who gave {x} leave to stay?", "Who said yes to {x}?"],
    "make_what": ["What did {x} want to cook or build?", "Which thing did {x} make?", "What was it that {x} wanted to make?", "Tell me what {x} made.", "What did {x} plan to make?", "What did {x} decide to make?"],
    "paid": ["What did {x} give away for the {y}?", "Tell me what {x} gave for the {y}.", "What was the price of the {y}?", "Which thing did {x} trade for the {y}?", "What did {x} give in return for the {y}?", "With what did {x} pay for the {y}?", "Which thing did {x} give for the {y}?"],
    "went_where": ["Where did the two go?", "Which place did {x} visit?", "Tell me where {x} went.", "Where did {x} travel?", "Where did {x} travel to?", "Where was it that {x} went?", "What was the goal of the trip?"],
    "went_how": ["How did they go?", "How did {x} get there?", "How did {x} and {y} get there?", "Tell me how they travelled.", "How did they travel?", "In what did they travel?"],
    "went_with": ["Who was the friend of {x}?", "Who did {x} travel with?", "Tell me who went with {x}.", "With whom was {x} on the trip?", "Who travelled along with {x}?", "Who came with {x}?"],
    "went_why": ["Why did they go there?", "Why did they travel?", "What was the reason for the trip?", "Tell me what they wanted to see.", "What was it that they wanted to see?", "Why did {x} make the trip?"],
    "weather": ["Why did they hide?", "What was the trouble?", "What made them hide?", "Tell me what they hid from.", "What was the reason to hide?", "Why did they have to stop?"],
    "shelter": ["Where was the shelter?", "Tell me where they hid.", "In which place did they hide?", "Where was it that they hid?", "Where did they stay?", "At what place did they find shelter?"],
    "ate": ["What food did they have?", "Tell me what they ate.", "What did they share?", "What was their food?", "What did they have for food?", "Which food did they have?"],
    "afraid": ["What was it that {x} feared?", "Tell me what {x} was afraid of.", "What did {x} not like?", "What was the fear of {x}?", "Which thing did {x} fear?", "What made {x} afraid?"],
    "fetch": ["What did {x} fetch?", "What was {x} sent to fetch?", "Tell me what {x} had to fetch.", "Which thing was {x} to fetch?", "What did {x} have to bring?", "Which thing did {x} bring home?"],
    "comfort": ["What was it that {y} gave {x}?", "Which thing did {x} get from {y}?", "Tell me what {y} gave {x}.", "What did {y} have for {x}?", "What thing did {y} give {x}?", "What made {x} brave?"],
    "planted": ["What kind of plant did {x} grow?", "Which plant did {x} plant?", "What was the plant of {x}?", "Tell me what {x} planted.", "What plant did {x} have?", "What plant did {x} grow?"],
    "planted_where": ["Where did {x} grow the {y}?", "Where was the {y}?", "Where did the {y} stand?", "Tell me where the {y} was planted.", "At what place did {x} plant the {y}?", "Where was it that {x} planted the {y}?"],
    "watered": ["When did {x} give the {y} water?", "Tell me when {x} watered the {y}.", "How often was the {y} watered?", "How often did the {y} get water?", "At what time was the {y} watered?"],
    "ate_leaves": ["What animal ate the leaves?", "Which animal was it?", "What came in the night?", "Which animal came in the night?", "Tell me who ate the leaves.", "What animal came at night?"],
    "shared": ["Who got some of it?", "Whom did {x} share it with?", "Who shared with {x}?", "Tell me who {x} shared it with.", "Who got some?", "Who also got a part?"],
    "contest": ["What did they do against each other?", "Which contest did {x} take part in?", "What took place?", "Tell me what the contest was.", "What contest did {x} go to?", "What kind of contest did {x} take part in?", "In which contest was {x}?"],
    "contest_where": ["In which place was the {x}?", "Tell me where the {x} was.", "Where was the {x} to be?", "Where did they have the {x}?", "At what place was the {x}?", "Where was it that the {x} was held?"],
    "won": ["Tell me who won.", "Who was first?", "Who won in the end?", "Who won it?", "Who was the winner of the {x}?", "Which one won?", "Who got the prize?"],
    "lost": ["Who was second?", "Who was not the winner?", "Tell me who lost.", "Who did not win the {x}?", "Who was second in the {x}?", "Who lost in the end?", "Who was the loser?"],
    "why_won": ["Tell me why {x} won.", "What was the reason why {x} won?", "How come {x} won?", "How did {x} win?", "For what reason was {x} the winner?", "What helped {x} to win?"],
    "prize": ["What could you win?", "What was it that {x} won?", "What did the winner win?", "Tell me what the prize was.", "Which prize did the winner get?", "What prize was there?", "What did they give the winner?"],
    "broke": ["Why was the {x} broken?", "How come the {x} broke?", "Tell me why the {x} broke.", "What made the {x} break?", "What was the reason that the {x} broke?", "Why did it break?"],
    "made_of": ["What material was the {x}?", "Which material did {y} use?", "Tell me what the {x} was made of.", "Of which material was the {x}?", "What did {y} make the {x} of?", "Of what was the {x} made?"],
    "built_where": ["Where did {x} make the {y}?", "Where was the {y} made?", "In which place was the {y} built?", "Tell me where {x} built the {y}.", "In which place did {x} make the {y}?", "Where was it that {x} built the {y}?"],
    "tool": ["What did {x} come with?", "Which tool did they use?", "What tool did {x} have?", "Tell me what {x} brought.", "Which tool was it?", "What helped them to mend the {y}?"],
    "clue": ["What was it that {x} found {y}?", "Tell me what {x} found first.", "What was found {y}?", "What thing did {x} find first?", "What did {x} find at first?", "What was the first thing {x} saw?"],
    "clue_where": ["In which place was the {y}?", "Where was it that the {y} lay?", "Tell me where the {y} was.", "Where lay the {y}?", "At what place was the {y}?", "Where could {x} find the {y}?"],
    "led": ["Where did the {x} take them?", "Tell me where the {x} led.", "In which place did they have to look?", "Where did they have to look?", "Where did they look in the end?", "What place did the {x} show them?"],
    "treasure": ["What was it that they found?", "What lay there?", "Tell me what they found.", "What did they dig out?", "What did the two find?", "Which thing was the treasure?"],
    "gave_end": ["Who has the treasure now?", "Who was given it?", "Tell me who got it.", "Whom did they give it to?", "To whom did they give the treasure?", "Who got it as a gift?"],
    "job": ["What would {x} like to be?", "What did {x} want to become?", "Tell me what {x} wanted to be.", "What was {x} dreaming of?", "What did {x} hope to become?", "Which job did {x} dream of?", "One day {x} wanted to be what?"],
    "gift_for": ["Tell me who the {y} was for.", "Whom was the {y} for?", "Whom did {x} give the {y}?", "To whom did the {y} go?", "To whom was the {y} given?", "Who was given the {y}?"],
    "belonged": ["Who owned the {x} at first?", "Who owned the {x}?", "Tell me who had the {x}.", "Whose {x} was it?", "Who was it that had the {x}?", "Who had the {x} first?"],
    "was_job": ["Tell me the job of {x}.", "What kind of work did {x} do?", "What was it that {x} did for a living?", "What job did {x} have?", "By trade, what was {x}?", "As what did {x} work?"],
    "unknown": ["What did {y} have?", "Who was {y}?", "Where was {y}?", "What did {x} dream at night?", "What is the name of the town?", "How old is {y}?", "What did {x} drink?", "Where does {y} live?", "Tell me who {y} is.", "What colour is the house of {x}?", "What did {y} say?"],
}

# The same questions when the answer before has just spoken of the person (he, him) or the thing (it).
ABOUT_PERSON = {
    "felt_end": ["How did {he} feel at the end?", "How was {he} at the end?", "In the end, how did {he} feel?"],
    "why_felt": ["Why was {he} {y}?", "Why did {he} feel {y}?", "What made {him} {y}?"],
    "had": ["What did {he} have?", "What thing did {he} have?"],
    "helped": ["Who helped {him}?", "Who came to help {him}?"],
    "afraid": ["What was {he} afraid of?", "What did {he} fear?"],
    "planted": ["What did {he} plant?", "What did {he} grow?"],
    "make_what": ["What did {he} make?", "What did {he} want to make?"],
    "job": ["What did {he} want to be?", "What did {he} dream of?"],
    "went_where": ["Where did {he} go?", "To what place did {he} go?"],
    "went_with": ["Who went with {him}?", "With whom did {he} travel?"],
}
ABOUT_THING = {
    "colour": ["What colour was it?", "Which colour was it?", "And what colour was it?"],
    "found_where": ["Where was it found?", "Where was it in the end?"],
    "found_who": ["Who found it?", "And who found it?"],
    "made_of": ["What was it made of?", "And what was it made of?"],
    "built_where": ["Where was it built?", "And where was it built?"],
    "planted_where": ["Where did it grow?", "Where was it planted?"],
    "lost_where": ["Where was it lost?", "And where was it lost?"],
}

UNKNOWN_ANSWER = "The story does not say."


def article(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def capital(text):
    return text[0].upper() + text[1:]


class Writer:
    """Draws words and collects the facts of one story."""

    def __init__(self, rng):
        self.rng = rng
        self.facts = []
        self.used = set()
        self.people = {}
        self.continued = False
        self.hero = None  # set when the story goes on with the hero of an earlier part

    def pick(self, *options):
        return self.rng.choice(options)

    def fresh(self, options):
        """A word that this story does not use yet."""
        while True:
            word = self.rng.choice(options)
            if word not in self.used:
                self.used.add(word)
                return word

    def person(self):
        if self.hero is not None and not self.facts:
            hero, self.hero = self.hero, None
            return hero
        person = self.new_person()
        self.people[person.name] = person
        return person

    def new_person(self):
        girl = self.rng.random() < 0.5
        if self.rng.random() < 0.04:  # a name nobody has seen: it has to be copied
            name = "".join(self.rng.choice(SYLLABLES) for _ in range(self.rng.choice((2, 2, 3)))).capitalize()
            if name in self.used:
                return self.new_person()
            self.used.add(name)
        else:
            name = self.fresh(GIRLS if girl else BOYS)
        return Person(name, "she", "her", "her", "girl") if girl else Person(name, "he", "him", "his", "boy")

    def fact(self, kind, answer, short=None, **slots):
        short = short if short is not None else answer
        self.facts.append(Fact(kind, slots, capital(answer) + ".", capital(short) + "."))

    def opening(self, hero):
        if self.continued:
            return self.pick("But that was not all.", "The next week something else happened.", f"Some days later {hero.name} had a new adventure.", "But the story goes on.", f"Soon {hero.name} was busy again.")
        age = self.pick("little", "young", "clever", "kind", "brave", "quiet", "small", "curious", "cheerful")
        name = hero.name
        self.fact("hero", f"the story is about {name}", name)
        return self.pick(
            f"Once upon a time there was {article(age)} {hero.child} named {name}.",
            f"Once upon a time there was {article(age)} {hero.child} called {name}.",
            f"Once there was {article(age)} {hero.child} whose name was {name}.",
            f"{name} was {article(age)} {hero.child}.",
            f"Long ago, {article(age)} {hero.child} named {name} lived in a small village.",
            f"Once upon a time, in a small house, there lived {article(age)} {hero.child} named {name}.",
        )

    def ending(self, hero):
        feeling = self.pick(*GLAD)
        self.fact("felt_end", f"{hero.name} felt {feeling} at the end", feeling, x=hero.name)
        return self.pick(f"{hero.name} was very {feeling}.", f"In the end {hero.name} was {feeling}.", f"That evening {hero.name} felt {feeling}.",
                         f"So {hero.name} went home and felt {feeling}.", f"{hero.name} smiled and was {feeling}.")


def lost(w):
    hero, friend = w.person(), w.person()
    thing, colour, relative = w.fresh(TOYS), w.pick(*COLOURS), w.pick(*RELATIVES)
    where, wrong, found = w.fresh(PLACES), w.fresh(PLACES), w.fresh(PLACES)
    sad, reward = w.pick(*SAD), w.fresh(["apple", "cookie", "flower", "sweet", "hug", "drawing", "peach"])
    finder = w.pick(hero, friend)
    n, f = hero.name, friend.name
    text = [w.opening(hero)]
    text += [w.pick(f"{capital(hero.he)} had {article(colour)} {thing}.", f"{n} had {article(colour)} {thing}, and {hero.he} took it everywhere.",
                    f"{capital(hero.he)} owned {article(colour)} {thing}.")]
    text += [w.pick(f"It was a gift from {hero.his} {relative}.", f"{capital(hero.his)} {relative} had given it to {hero.him}.")]
    text += [w.pick(f"One day {n} played {where} and lost the {thing}.", f"One morning {hero.he} was {where}, and there {hero.he} lost the {thing}.",
                    f"But one day, {where}, {hero.he} lost it.")]
    text += [w.pick(f"{n} was {sad} because the {thing} was gone.", f"The {thing} was gone, and {n} was {sad}.")]
    text += [w.pick(f"{f} came to help.", f"{capital(hero.his)} friend {f} helped {hero.him}.", f"Then {f} came by and helped {hero.him} look.")]
    text += [w.pick(f"They looked {wrong}, but the {thing} was not there.", f"First they searched {wrong}, but they found nothing.")]
    text += [w.pick(f"At last {finder.name} found the {thing} {found}.", f"Then {finder.name} looked {found}, and there was the {thing}!",
                    f"In the end {finder.name} saw the {thing} {found}.")]
    text += [w.pick(f"{n} gave {f} {article(reward)}.", f"To say thank you, {n} gave {f} {article(reward)}."), w.ending(hero)]
    w.fact("had", f"{n} had {article(colour)} {thing}", f"{article(colour)} {thing}", x=n)
    w.fact("colour", f"the {thing} was {colour}", colour, x=thing)
    w.fact("gave_before", f"{n} got the {thing} from {hero.his} {relative}", f"{hero.his} {relative}", x=n, y=thing)
    w.fact("lost_where", f"{n} lost the {thing} {where}", where, x=n, y=thing)
    w.fact("why_felt", f"{n} was {sad} because the {thing} was gone", f"because the {thing} was gone", x=n, y=sad)
    w.fact("helped", f"{f} helped {n}", f, x=n)
    w.fact("looked_first", f"they looked {wrong} first", wrong, x=thing)
    w.fact("found_where", f"the {thing} was found {found}", found, x=thing, y=finder.name)
    w.fact("found_who", f"{finder.name} found the {thing}", finder.name, x=thing)
    w.fact("thanks", f"{n} gave {f} {article(reward)}", article(reward), x=n, y=f)
    return hero, thing, text


def pet(w):
    hero, friend = w.person(), w.person()
    animal, name, where, bed = w.fresh(ANIMALS), w.fresh(PET_NAMES), w.fresh(PLACES), w.fresh(["in the kitchen", "in a basket", "by the fire", "in a box", "under the bed", "in the barn", "on a cushion"])
    food, relative = w.pick(*FOODS).replace("~", " "), w.pick(*RELATIVES[:8])
    state, why = w.pick(("hungry", "it had not eaten for days"), ("cold", "it had slept outside"), ("sad", "it was all alone"), ("tired", "it had walked a long way"), ("wet", "it had fallen into the water"), ("lost", "it could not find its home"))
    n = hero.name
    text = [w.opening(hero), w.pick(f"One day {hero.he} met {article(animal)} {where}.", f"{capital(where)}, {n} saw {article(animal)}.", f"One evening {n} found {article(animal)} {where}.")]
    text += [w.pick(f"The {animal} was {state} because {why}.", f"It was {state}, for {why}.")]
    text += [w.pick(f"{n} gave the {animal} {food}.", f"So {n} ran home and brought it {food} to eat.", f"{capital(hero.he)} gave it {food}, and the {animal} ate it all.")]
    text += [w.pick(f"{n} called it {name}.", f"{capital(hero.he)} named the {animal} {name}.", f"Its name, {hero.he} said, was {name}.")]
    text += [w.pick(f'"May {name} stay?" {n} asked. "Yes," said {hero.his} {relative}.', f"{capital(hero.his)} {relative} said that {name} could stay.", f"{n} asked {hero.his} {relative}, and {name} was allowed to stay.")]
    text += [w.pick(f"That night {name} slept {bed}.", f"From then on {name} slept {bed}.")]
    if w.rng.random() < 0.6:
        f = friend.name
        text += [w.pick(f"The next day {f} came to play with {name}.", f"{f} came to see {name} the next day.")]
    text += [w.ending(hero)]
    w.fact("met", f"{n} met {article(animal)}", article(animal), x=n, y=where)
    w.fact("met_where", f"{n} met the {animal} {where}", where, x=n, y=animal)
    w.fact("why_felt", f"the {animal} was {state} because {why}", f"because {why}", x=f"the {animal}", y=state)
    w.fact("gave_food", f"{n} gave the {animal} {food}", food, x=n, y=animal)
    w.fact("named", f"the {animal} was called {name}", name, x=animal, y=n)
    w.fact("allowed", f"{hero.his} {relative} said that {name} could stay", f"{hero.his} {relative}", x=name)
    w.fact("sleep_where", f"{name} slept {bed}", bed, x=name)
    return hero, animal, text


def trip(w):
    hero, friend = w.person(), w.person()
    goal, shelter, vehicle, sight = w.fresh(["the sea", "the city", "the mountains", "the zoo", "the big lake", "the island", "the capital", "the desert", "the harbour", "the old town"]), w.fresh(PLACES), w.pick(*VEHICLES), w.pick(*SIGHTS)
    (weather, began), food = w.pick(*WEATHER), w.pick("bread and cheese", "apples", "sandwiches", "warm soup", "nuts and raisins", "chocolate", "rice cakes", "pears")
    n, f = hero.name, friend.name
    text = [w.opening(hero), w.pick(f"One day {hero.he} went to {goal} with {f}.", f"{n} and {f} decided to go to {goal}.", f"On Sunday {n} travelled to {goal}, and {f} came along.")]
    text += [w.pick(f"They wanted to see {sight}.", f"There {n} wanted to see {sight}."), w.pick(f"They went by {vehicle}.", f"They travelled by {vehicle}, and it took all morning.")]
    text += [w.pick(f"{began}, and they hid {shelter}.", f"On the way there was trouble. {began}, so they found shelter {shelter}.")]
    text += [w.pick(f"There they ate {food}.", f"They were hungry and ate {food}.", f"{f} had {food} in a bag, and they shared it.")]
    text += [w.pick(f"Then {weather} was over, and they saw {sight} at last.", f"When {weather} was over, they went on and saw {sight}."), w.ending(hero)]
    w.fact("went_where", f"{n} went to {goal}", f"to {goal}", x=n, y=f)
    w.fact("went_how", f"they travelled by {vehicle}", f"by {vehicle}", x=n, y=f)
    w.fact("went_with", f"{f} went with {n}", f, x=n)
    w.fact("went_why", f"they wanted to see {sight}", sight, x=n)
    w.fact("weather", f"they hid from {weather}", weather)
    w.fact("shelter", f"they hid {shelter}", shelter)
    w.fact("ate", f"they ate {food}", food)
    return hero, goal, text


def fear(w):
    hero, friend = w.person(), w.person()
    scare, where, fetched, comfort = w.pick(*FEARS), w.fresh(PLACES), w.fresh(TOYS), w.pick(*COMFORTS).replace("~", " ")
    relative = w.pick(*RELATIVES)
    n, f = hero.name, friend.name
    text = [w.opening(hero), w.pick(f"{n} was afraid of {scare}.", f"{capital(hero.he)} feared only one thing: {scare}.")]
    text += [w.pick(f"One evening {hero.his} {relative} sent {hero.him} to fetch a {fetched} that lay {where}.", f"One night {n} had to fetch a {fetched}. It lay {where}.")]
    w.used.add(comfort)
    text += [w.pick(f"{f} gave {hero.him} {article(comfort)}.", f'"Take this," said {f}, and gave {hero.him} {article(comfort)}.', f"Then {f} came and gave {n} {article(comfort)}.")]
    text += [w.pick(f"With it {n} was not afraid any more.", f"It helped {n} to be brave."), w.pick(f"{capital(hero.he)} found the {fetched} and ran home.", f"Soon {hero.he} came back with the {fetched}.")]
    text += [w.ending(hero)]
    w.fact("afraid", f"{n} was afraid of {scare}", scare, x=n)
    w.fact("fetch", f"{n} had to fetch {article(fetched)}", article(fetched), x=n)
    w.fact("clue_where", f"the {fetched} lay {where}", where, x=n, y=fetched)
    w.fact("comfort", f"{f} gave {n} {article(comfort)}", article(comfort), x=n, y=f)
    w.fact("helped", f"{f} helped {n}", f, x=n)
    text[2] = text[2].replace(f"a {fetched}", article(fetched))
    return hero, fetched, text


def garden(w):
    hero, friend = w.person(), w.person()
    plant, where, animal = w.fresh(PLANTS), w.fresh(PLACES), w.fresh(ANIMALS)
    time = w.pick("every morning", "every evening", "every day", "twice a day", "every second day", "every Sunday")
    relative = w.pick(*RELATIVES)
    n, f = hero.name, friend.name
    sad = w.pick(*SAD)
    text = [w.opening(hero), w.pick(f"In spring {hero.he} planted {article(plant)} {where}.", f"{n} got a seed from {hero.his} {relative} and planted it {where}. It was {article(plant)}.")]
    text += [w.pick(f"{capital(hero.he)} watered it {time}.", f"{n} gave it water {time}.")]
    text += [w.pick(f"But one night {article(animal)} came and ate the leaves.", f"Then {article(animal)} ate the leaves in the night.")]
    text += [w.pick(f"{n} was {sad} because the leaves were gone.", f"The leaves were gone, and {n} was {sad}.")]
    text += [w.pick(f"{f} helped {hero.him} to build a fence.", f"{f} came and built a fence with {hero.him}."), w.pick(f"The {plant} grew and grew.", f"After that the {plant} grew tall.")]
    text += [w.pick(f"{n} shared it with {hero.his} {relative}.", f"In summer {hero.he} shared it with {hero.his} {relative}."), w.ending(hero)]
    w.fact("planted", f"{n} planted {article(plant)}", article(plant), x=n)
    w.fact("planted_where", f"{n} planted the {plant} {where}", where, x=n, y=plant)
    w.fact("watered", f"{n} watered the {plant} {time}", time, x=n, y=plant)
    w.fact("ate_leaves", f"{article(animal)} ate the leaves", article(animal))
    w.fact("why_felt", f"{n} was {sad} because the leaves were gone", "because the leaves were gone", x=n, y=sad)
    w.fact("helped", f"{f} helped {n}", f, x=n)
    w.fact("shared", f"{n} shared it with {hero.his} {relative}", f"with {hero.his} {relative}", x=n)
    return hero, plant, text


def contest(w):
    hero, rival = w.person(), w.person()
    (what, verb), where, prize = w.pick(*CONTESTS), w.fresh(PLACES), w.pick(*PRIZES)
    winner, loser = (hero, rival) if w.rng.random() < 0.5 else (rival, hero)
    why = w.pick(f"{winner.he} had practised every day", f"{winner.he} had slept well", f"{winner.he} never gave up", f"{winner.he} had a good teacher", f"{winner.he} stayed calm")
    job = w.pick(*JOBS)
    n = hero.name
    text = [w.opening(hero), w.pick(f"{capital(hero.he)} dreamed of being {article(job)} one day.", f"{n} wanted to be {article(job)}.")]
    text += [w.pick(f"One day there was a {what} {where}.", f"In autumn a {what} was held {where}."), w.pick(f"{n} had to {verb} against {rival.name}.", f"{rival.name} took part too, and {n} had to {verb} well.")]
    text += [w.pick(f"{winner.name} won because {why}.", f"It was close, but {winner.name} won, because {why}."), w.pick(f"The prize was {article(prize)}.", f"{winner.name} got {article(prize)} as a prize.")]
    text += [w.pick(f"{loser.name} came second and shook {winner.his} hand.", f'"Well done," said {loser.name}, who came second.'), w.ending(hero)]
    w.fact("job", f"{n} wanted to be {article(job)}", article(job), x=n)
    w.fact("contest", f"it was a {what}", f"a {what}", x=n)
    w.fact("contest_where", f"the {what} was {where}", where, x=what)
    w.fact("won", f"{winner.name} won the {what}", winner.name, x=what)
    w.fact("lost", f"{loser.name} came second", loser.name, x=what)
    w.fact("why_won", f"{winner.name} won because {why}", f"because {why}", x=winner.name)
    w.fact("prize", f"the prize was {article(prize)}", article(prize), x=winner.name)
    return hero, what, text


def build(w):
    hero, friend = w.person(), w.person()
    thing, material, where, tool = w.fresh(BUILDS), w.pick(*MATERIALS), w.fresh(PLACES), w.pick(*TOOLS)
    cause = w.pick("the wind was too strong", "it was too heavy", "a branch fell on it", "the rain made it wet", "a big dog jumped on it", "the knots were weak")
    colour, sad = w.pick(*COLOURS), w.pick(*SAD)
    n, f = hero.name, friend.name
    text = [w.opening(hero), w.pick(f"One day {hero.he} built a {thing} {where}.", f"{n} had an idea. {capital(where)}, {hero.he} built a {thing}.")]
    text += [w.pick(f"{capital(hero.he)} made it of {material} and painted it {colour}.", f"It was made of {material}, and it was {colour}.")]
    text += [w.pick(f"But the {thing} broke because {cause}.", f"But {cause}, and the {thing} broke."), w.pick(f"{n} was {sad} because the {thing} was broken.", f"Now it was broken, and {n} was {sad}.")]
    text += [w.pick(f"{f} came with {article(tool)}.", f"Then {f} brought {article(tool)}."), w.pick("Together they mended it.", f"They mended the {thing} together.")]
    text += [w.ending(hero)]
    w.fact("make_what", f"{n} wanted to make a {thing}", f"a {thing}", x=n)
    w.fact("built_where", f"{n} built the {thing} {where}", where, x=n, y=thing)
    w.fact("made_of", f"the {thing} was made of {material}", material, x=thing, y=n)
    w.fact("colour", f"the {thing} was {colour}", colour, x=thing)
    w.fact("broke", f"the {thing} broke because {cause}", f"because {cause}", x=thing)
    w.fact("why_felt", f"{n} was {sad} because the {thing} was broken", f"because the {thing} was broken", x=n, y=sad)
    w.fact("tool", f"{f} brought {article(tool)}", article(tool), x=f, y=thing)
    w.fact("helped", f"{f} helped {n}", f, x=n)
    return hero, thing, text


def secret(w):
    hero, friend = w.person(), w.person()
    clue, where, goal, treasure = w.fresh(CLUES), w.fresh(PLACES), w.fresh(PLACES), w.pick(*TREASURES)
    relative = w.pick(*RELATIVES)
    n, f = hero.name, friend.name
    text = [w.opening(hero), w.pick(f"One day {hero.he} found a {clue} {where}.", f"{capital(where)}, {n} found an old {clue}.")]
    text += [w.pick(f"{capital(hero.he)} showed the {clue} to {f}.", f"{f} wanted to see the {clue} too.", f"{n} told {f} about the {clue}.")]
    text += [w.pick(f"The {clue} led them to a place {goal}.", f'"It says that we must look {goal}," said {f}.', f"With the {clue} they knew that they had to look {goal}.")]
    text += [w.pick(f"There they found {treasure}.", f"They dug a deep hole and found {treasure}.", f"After an hour they found {treasure}.")]
    text += [w.pick(f"They gave it to {hero.his} {relative}.", f"{capital(hero.his)} {relative} got it as a gift."), w.ending(hero)]
    w.fact("clue", f"{n} found a {clue}", f"a {clue}", x=n, y=where)
    w.fact("clue_where", f"the {clue} lay {where}", where, x=n, y=clue)
    w.fact("led", f"the {clue} led them to a place {goal}", goal, x=clue)
    w.fact("treasure", f"they found {treasure}", treasure)
    w.fact("helped", f"{f} helped {n}", f, x=n)
    w.fact("gave_end", f"{hero.his} {relative} got it", f"{hero.his} {relative}")
    return hero, clue, text


def present(w):
    hero, friend = w.person(), w.person()
    thing, colour, where = w.fresh(TOYS), w.pick(*COLOURS), w.fresh(PLACES)
    relative, job = w.pick(*RELATIVES), w.pick(*JOBS)
    old = w.fresh(TOYS)
    n, f = hero.name, friend.name
    text = [w.opening(hero), w.pick(f"{capital(hero.he)} wanted to give {hero.his} {relative} a present.", f"{n} looked for a present for {hero.his} {relative}.")]
    text += [w.pick(f"{capital(where)}, {hero.he} saw {article(colour)} {thing}.", f"{capital(hero.he)} saw {article(colour)} {thing} {where}.")]
    text += [w.pick(f"It belonged to {f}, {article(job)}.", f"The owner was {f}, {article(job)}."), w.pick(f"{n} had no money, but {hero.he} had {article(old)}.", f"{n} had only {article(old)} to give.")]
    text += [w.pick(f"So {hero.he} traded the {old} for the {thing}.", f"{f} took the {old} and gave {hero.him} the {thing}.")]
    text += [w.pick(f"{capital(hero.his)} {relative} loved the {thing}.", f"{capital(hero.his)} {relative} was full of joy."), w.ending(hero)]
    w.fact("gift_for", f"the {thing} was for {hero.his} {relative}", f"for {hero.his} {relative}", x=n, y=thing)
    w.fact("colour", f"the {thing} was {colour}", colour, x=thing)
    w.fact("clue_where", f"the {thing} was {where}", where, x=n, y=thing)
    w.fact("belonged", f"the {thing} belonged to {f}", f, x=thing)
    w.fact("paid", f"{n} gave {article(old)} for the {thing}", article(old), x=n, y=thing)
    w.fact("was_job", f"{f} was {article(job)}", article(job), x=f)
    return hero, thing, text


PLOTS = [lost, pet, trip, fear, garden, contest, build, secret, present]


def draw_story(rng, parts=1):
    w = Writer(rng)
    plot = rng.choice(PLOTS)
    hero, thing, text = plot(w)
    facts, keys = w.facts, [f"{plot.__name__}|{hero.name}|{thing}"]
    for _ in range(parts - 1):  # the same hero lives through another plot; only what stays unambiguous can be asked
        w.facts, w.hero, w.continued = [], hero, True
        next_plot = rng.choice([p for p in PLOTS if p is not plot])
        _, next_thing, more = next_plot(w)
        keys.append(f"{next_plot.__name__}|{hero.name}|{next_thing}")
        text += more
        both = {f.kind for f in facts} & {f.kind for f in w.facts}
        facts = [f for f in facts if f.kind not in both] + [f for f in w.facts if f.kind not in both or f.kind == "felt_end"]
    stranger = w.person().name
    if rng.random() < 0.7:
        facts.append(Fact("unknown", {"x": hero.name, "y": stranger}, UNKNOWN_ANSWER, UNKNOWN_ANSWER))
    return Story(keys, " ".join(text), facts, hero.name, thing, w.people)
