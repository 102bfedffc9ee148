"""Made-up film titles and blurbs whose words follow the planted factors."""

GENRES: dict[str, tuple[str, ...]] = {
    "Action": ("Strike", "Convoy", "Bullet", "Runaway", "Detonator", "Pursuit", "Fury", "Vanguard"),
    "Adventure": ("Expedition", "Island", "Compass", "Voyage", "Summit", "Treasure", "Caravan", "Horizon"),
    "Animation": ("Kite", "Toybox", "Paper Moon", "Sparrow", "Balloon", "Snowglobe", "Fox", "Puppet"),
    "Comedy": ("Wedding", "Roommate", "Neighbour", "Vacation", "Mix-Up", "Uncle", "Parade", "Diner"),
    "Crime": ("Heist", "Ledger", "Syndicate", "Alibi", "Informant", "Vault", "Dockyard", "Verdict"),
    "Documentary": ("Glacier", "Factory", "Choir", "Reef", "Archive", "Marathon", "Harvest", "Orchestra"),
    "Drama": ("Orchard", "Letter", "Homecoming", "Winter", "Daughter", "River", "Promise", "Porch"),
    "Family": (
        "Puppy",
        "Treehouse",
        "Holiday",
        "Grandfather",
        "Schoolyard",
        "Campfire",
        "Circus",
        "Lighthouse",
    ),
    "Fantasy": ("Crown", "Dragon", "Oracle", "Enchantment", "Raven", "Amulet", "Kingdom", "Labyrinth"),
    "Horror": ("Cellar", "Asylum", "Whisper", "Coven", "Mirror", "Hollow", "Séance", "Scarecrow"),
    "Mystery": ("Cipher", "Lodger", "Portrait", "Disappearance", "Keyhole", "Manor", "Witness", "Fog"),
    "Romance": ("Kiss", "Serenade", "Café", "Paris Affair", "Summer", "Rendezvous", "Violin", "Balcony"),
    "Sci-Fi": ("Galaxy", "Android", "Signal", "Colony", "Paradox", "Orbit", "Singularity", "Starship"),
    "Thriller": ("Deadline", "Double", "Hostage", "Passenger", "Frequency", "Stranger", "Trap", "Protocol"),
    "War": ("Trench", "Battalion", "Armistice", "Bridge", "Squadron", "Siege", "Frontline", "Letter Home"),
    "Western": ("Saddle", "Canyon", "Sheriff", "Stagecoach", "Prairie", "Gunslinger", "Railroad", "Outpost"),
}

MOODS: tuple[str, ...] = (
    "Silent", "Crimson", "Golden", "Broken", "Midnight", "Gentle", "Electric", "Forgotten",
    "Burning", "Distant", "Crooked", "Velvet", "Frozen", "Reckless", "Hidden", "Lonely",
    "Restless", "Savage", "Tender", "Hollow", "Wild", "Quiet", "Scarlet", "Endless",
)  # fmt: skip

_PATTERNS = (
    "The {mood} {noun}",
    "{mood} {noun}",
    "{noun} of the {mood}",
    "{a} {mood} {noun}",
    "The Last {mood} {noun}",
)


def film(
    mood: str, noun: str, genres: tuple[str, ...], pattern: int, sequel: int, year: int
) -> tuple[str, str]:
    """Title with its year, as MovieLens writes it, and a blurb of one sentence."""
    name = _PATTERNS[pattern % len(_PATTERNS)].format(a=_article(mood), mood=mood, noun=noun)
    numeral = f" {sequel}" if sequel > 1 else ""
    kinds = " and ".join(g.lower() for g in genres)
    return f"{name}{numeral} ({year})", f"{_article(mood)} {mood.lower()} {kinds} film: {noun.lower()}."


def _article(word: str) -> str:
    return "An" if word[0] in "AEIOU" else "A"


def num_patterns() -> int:
    return len(_PATTERNS)
