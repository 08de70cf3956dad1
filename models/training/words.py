"""Words that the made texts are made of: real names, plain nouns and made-up words, each on one side of a fixed split.

What it is for: drawing names and values such that no entity word of a held-out text was ever seen in training: a word
belongs to the held-out side iff its checksum says so, and a `Draw` only hands out words of its own side. What may not
enter: sentences and schemas.
"""

# ruff: noqa: SIM905 - word lists read better as text than as quoted words
from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass


def _phrases(text: str) -> list[str]:
    """The phrases of a text, which bars part."""
    return text.replace("\n", "").split("|")


FIRST_NAMES = """
Maria João Ana Pedro Sofia Lucas Emma Liam Olivia Noah Ava Ethan Mia James Charlotte Benjamin Amelia Henry Harper
Daniel Ella Jack Grace Samuel Chloe David Lily Joseph Zoe Carter Nora Owen Hannah Wyatt Leah John Stella Luke Hazel
Julian Aurora Leo Lucy Isaac Anna Gabriel Caroline Anthony Genesis Thomas Kennedy Charles Alice Bob Carol Dave Eve
Frank Heidi Ivan Judy Mallory Oscar Peggy Trent Victor Walter Yuki Hiro Kenji Aiko Sakura Wei Li Ming Jun Mei Priya
Arjun Rohan Ananya Vikram Deepa Raj Fatima Omar Ali Layla Yusuf Amira Hassan Zainab Kwame Ama Chidi Ngozi Tunde Zola
Thabo Lars Ingrid Sven Astrid Björn Freya Erik Linnéa Jürgen Günter Anke Heike Klaus Ulrike François Amélie Chloé
René Zoé Benoît Élodie Pierre Camille José Lucía Andrés Inés Martín Sofía Diego Elena Pablo Carmen Giulia Marco
Chiara Luca Alessia Matteo Paolo Olga Dmitri Natalia Sergei Irina Boris Katya Mikhail Zofia Jakub Agnieszka Piotr
Tereza Ondřej Eszter László Ioana Mihai Eleni Nikos Yannis Aylin Mehmet Elif Emre Siobhan Niamh Sean Aoife Rhys
Megan Callum Isla Nina Tom Sara Ben Kate Max Julia Paul Laura Mark Peter Susan Robert Linda Michael Karen Ken Grace
Ada Alan Ruth Rosa Hugo Iris Felix Clara Simon Vera
""".split()
LAST_NAMES = """
Silva Santos Oliveira Souza Pereira Costa Ferreira Almeida Smith Johnson Williams Brown Jones Miller Davis Wilson
Anderson Taylor Moore Jackson Martin Lee Thompson White Harris Clark Lewis Robinson Walker Young Allen King Wright
Scott Hill Green Adams Baker Nelson Carter Mitchell Roberts Turner Phillips Campbell Parker Evans Edwards Collins
Stewart Morris Murphy Cook Rogers Morgan Cooper Peterson Reed Bailey Bell Kelly Howard Ward Cox Richardson Wood
Watson Brooks Gray García Rodríguez Martínez Hernández López González Pérez Sánchez Ramírez Torres Müller Schmidt
Schneider Fischer Weber Meyer Wagner Becker Hoffmann Schäfer Koch Bauer Dubois Lefèvre Moreau Laurent Girard Rossi
Russo Ferrari Bianchi Ricci Marino Greco Novak Kowalski Nowak Horváth Nagy Popescu Ivanov Petrov Smirnov Tanaka
Suzuki Sato Watanabe Ito Yamamoto Nakamura Kim Park Choi Chen Wang Zhang Liu Huang Nguyen Tran Patel Singh Sharma
Gupta Khan Ahmed Hassan Okafor Mensah Diallo Nkosi Larsson Nilsson Andersen Hansen Jensen Berg Lindqvist Virtanen
Korhonen O'Brien McCarthy MacDonald Lovelace Turing Hopper Curie Darwin Newton Doe Fox Stone Rivers Blake Frost Hale
Marsh Quinn Vance York Zimmer
""".split()
CITIES = _phrases("""
Porto|Lisbon|Madrid|Barcelona|Paris|Lyon|Berlin|Munich|Hamburg|Vienna|Zurich|Geneva|Rome|Milan|Naples|Athens|
Istanbul|Cairo|Nairobi|Lagos|Accra|Dakar|Cape Town|Tokyo|Osaka|Kyoto|Seoul|Beijing|Shanghai|Hong Kong|Singapore|
Bangkok|Hanoi|Jakarta|Manila|Mumbai|Delhi|Chennai|Karachi|Dubai|Tehran|Sydney|Melbourne|Perth|Auckland|London|
Leeds|Bristol|Oxford|Cambridge|Glasgow|Edinburgh|Dublin|Cork|Oslo|Bergen|Stockholm|Malmö|Copenhagen|Aarhus|
Helsinki|Tampere|Tallinn|Riga|Vilnius|Warsaw|Kraków|Prague|Brno|Budapest|Bucharest|Sofia|Belgrade|Zagreb|Ljubljana|
New York|Boston|Chicago|Seattle|Portland|Denver|Austin|Dallas|Houston|Miami|Atlanta|San Francisco|Los Angeles|
San Diego|Toronto|Montréal|Vancouver|Ottawa|Mexico City|Bogotá|Lima|Quito|Santiago|Buenos Aires|Montevideo|
São Paulo|Rio de Janeiro|Salvador|Recife|Salzburg|Ghent|Antwerp|Brussels|Amsterdam|Utrecht|Rotterdam|Valencia|
Seville|Bilbao|Faro|Braga|Coimbra|Nice|Marseille|Bordeaux|Lille|Turin|Venice|Florence|Cologne|Dresden|Leipzig|Bonn|
Basel|Bern|Graz|Springfield|Riverside|Greenville|Kingston|Newport
""")
COUNTRIES = _phrases("""
Portugal|Spain|France|Germany|Italy|Austria|Norway|Sweden|Denmark|Finland|Poland|Greece|Turkey|Egypt|Kenya|Nigeria|
Ghana|Senegal|Japan|China|India|Vietnam|Thailand|Indonesia|Brazil|Argentina|Chile|Peru|Colombia|Mexico|Canada|
Ireland|Scotland|Iceland|Estonia|Latvia|Croatia|Hungary|Romania|Bulgaria|Morocco|Tunisia|Ethiopia|New Zealand|
Australia|South Korea|United States|Netherlands|Belgium|Switzerland|Cuba|Malta|Cyprus|Nepal|Jordan|Oman|Qatar|
Uruguay
""")
JOBS = _phrases("""
nurse|teacher|engineer|software engineer|doctor|lawyer|baker|chef|pilot|farmer|carpenter|plumber|electrician|
painter|architect|dentist|journalist|photographer|designer|data scientist|accountant|librarian|musician|actor|
writer|editor|chemist|biologist|physicist|astronaut|mechanic|driver|bus driver|taxi driver|waiter|barista|florist|
gardener|tailor|jeweller|translator|product manager|project manager|sales manager|police officer|firefighter|
soldier|sailor|fisherman|butcher|hairdresser|veterinarian|pharmacist|psychologist|economist|historian|judge|clerk|
cashier|security guard|web developer|systems administrator|consultant|analyst|recruiter|researcher|professor|
student|surgeon|paramedic|midwife
""")
NOUNS = """
lamp table chair desk sofa shelf mirror clock kettle toaster blender mixer oven pan pot knife spoon fork plate cup
mug bottle glass bowl basket box bag backpack suitcase wallet belt hat scarf glove jacket coat shirt sweater dress
skirt shoe boot sandal sock watch ring necklace bracelet phone laptop tablet keyboard mouse monitor printer camera
speaker headphones charger cable battery drone scooter bicycle helmet tent blanket pillow mattress candle vase
carpet curtain towel brush soap shampoo drill hammer saw wrench ladder bucket hose rake shovel pen pencil notebook
folder stapler scissors ruler globe map guitar piano violin drum flute ball racket net puzzle kite doll robot car
train rocket book magazine poster frame sticker
""".split()
ADJECTIVES = """
red blue green yellow black white silver golden small large compact portable wooden steel leather cotton woolen
ceramic glass vintage modern classic deluxe folding electric wireless smart quiet bright soft heavy light waterproof
organic handmade recycled royal mini super ultra turbo magic silent hidden lost frozen broken secret distant eternal
crimson ancient wild gentle bitter sweet northern southern eastern western old new last first final endless hollow
burning
""".split()
THEMES = """
river mountain forest ocean storm garden winter summer autumn spring night morning shadow light star moon sun fire
stone wind rain snow dream song dance bridge harbor island valley desert castle tower mirror road door window letter
crown sword wolf raven fox lion bear eagle whale horse rose lily oak pine ember echo silence memory journey promise
stranger daughter son queen king captain sailor thief painter clockmaker orchard lighthouse market library kingdom
horizon
""".split()
FOODS = """
tomatoes onions garlic basil rice pasta flour sugar salt pepper butter milk eggs cheese bread chicken beef pork
salmon tuna shrimp beans lentils carrots potatoes spinach kale apples bananas lemons oranges cherries grapes honey
vanilla cinnamon ginger cumin paprika oregano thyme mushrooms peppers cucumber avocado yogurt cream oats almonds
walnuts chocolate coffee tea mint parsley coriander olives tofu noodles corn peas leeks celery
""".split()
TOPICS = """
python rust java javascript golang sql linux docker excel photoshop marketing sales finance design writing cooking
hiking chess tennis football swimming yoga painting photography gardening travel music jazz history science physics
biology chemistry math politics health fitness news sport fashion technology security privacy hardware software
mobile cloud games movies books art nature pets family school work home outdoor kitchen office garden sale gift
winter summer new eco vegan
""".split()
LANGUAGES = """
English Spanish Portuguese French German Italian Dutch Swedish Norwegian Danish Finnish Polish Czech Hungarian Greek
Turkish Arabic Hebrew Persian Hindi Urdu Bengali Tamil Thai Vietnamese Chinese Japanese Korean Swahili Zulu Russian
Ukrainian Romanian Croatian Irish Welsh Icelandic Latin
""".split()
COMPANY_TAILS = (
    "Labs Inc Ltd GmbH Group Systems Works Foods Motors Media Bank Studio Partners Logistics Energy & Co".split()
)
STREET_TAILS = "Street Road Avenue Lane Square Boulevard Drive Way Court Alley".split()
PLACE_TAILS = "Hall Centre Park Theatre Museum Hotel Library Arena Club Gallery Garden Café".split()
DOMAINS = "com org net io pt de co.uk fr app dev example.com mail.com".split()

_REAL = [
    word
    for words in (FIRST_NAMES, LAST_NAMES, CITIES, COUNTRIES, JOBS, NOUNS, ADJECTIVES, THEMES, FOODS, TOPICS, LANGUAGES)
    for phrase in words
    for word in phrase.lower().split()
    if word.isalpha() and len(word) > 3
]
_ONSETS = "b br c ch cl cr d dr f fl fr g gl gr h j k kl kr l m n p pl pr qu r s sh sk sl sp st t th tr v w y z".split()
_VOWELS = "a e i o u a e i o ai au ea ee ie oo ou á é ó ü".split()
_CODAS = ["", "", "", "", "n", "r", "l", "s", "m", "t", "k", "nd", "rt", "st", "x", "ck", "ng", "lm"]
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _blended(rng: random.Random) -> str:
    """The front of one real word and the back of another, so that all word pieces are written now and then."""
    front, back = rng.choice(_REAL), rng.choice(_REAL)
    return front[: rng.randint(2, len(front) - 1)] + back[-rng.randint(2, len(back) - 1) :]


def is_held_out(word: str) -> bool:
    """True iff this entity word is kept for the held-out texts: about one word in ten."""
    return zlib.crc32(word.lower().encode()) % 10 == 0


@dataclass(frozen=True, slots=True)
class Draw:
    """Draws words of one side of the split; all randomness comes from `rng`."""

    rng: random.Random
    held_out: bool

    def word(self, make: Callable[[], str]) -> str:
        """The first made word that lies wholly on this side."""
        while True:
            made = make()
            if all(is_held_out(part) == self.held_out for part in made.split() if part.isalpha() and len(part) > 2):
                return made

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.rng.random() < probability

    def of(self, *choices: str) -> str:
        """One of the choices, whatever its side: for words that are no entities."""
        return self.rng.choice(choices)

    def listed(self, words: list[str]) -> str:
        """An entity word of the list, on this side."""
        return self.word(lambda: self.rng.choice(words))

    def coined(self, *, capital: bool = True, syllables: tuple[int, int] = (2, 3)) -> str:
        """A made-up word; now and then one that no syllables explain, so that copying is of tokens, not of habits."""

        def make() -> str:
            rng = self.rng
            roll = rng.random()
            if roll < 0.35:
                spelled = _blended(rng)
            elif roll < 0.43:
                spelled = "".join(rng.choices(_LETTERS, k=rng.randint(3, 8)))
            else:
                count = rng.randint(*syllables)
                spelled = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(count)) + rng.choice(_CODAS)
            return spelled.capitalize() if capital else spelled

        return self.word(make)

    def loosely(self, words: list[str]) -> str:
        """Mostly a word of the list; else one that nobody has seen, spelled in the same case."""
        return self.listed(words) if self.chance(0.75) else self.coined(capital=words[0][0].isupper())

    def digits(self, count: int) -> str:
        """A digit string that does not begin with 0."""
        return str(self.rng.randint(1, 9)) + "".join(self.rng.choices("0123456789", k=count - 1))
