"""What made-up users, products and orders are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FIRST_NAMES: Final = (
    "Ada", "Alan", "Amara", "Anna", "Barbara", "Ben", "Carlos", "Chloe", "Dana", "David", "Edsger", "Elena", "Emma",
    "Farid", "Fatima", "Felix", "Grace", "Hana", "Hugo", "Ines", "Ivan", "Jade", "James", "Joan", "Jonas", "Kenji",
    "Lena", "Liam", "Linus", "Lucia", "Magda", "Maria", "Mateo", "Mei", "Mia", "Nadia", "Noah", "Olga", "Omar", "Paul",
    "Priya", "Ravi", "Rosa", "Sam", "Sofia", "Tara", "Tim", "Tom", "Uma", "Vera", "Yara", "Zoe",
)  # fmt: skip
LAST_NAMES: Final = (
    "Adams", "Ali", "Andersen", "Bauer", "Becker", "Brown", "Chen", "Clark", "Cohen", "Costa", "Davis", "Dubois",
    "Evans", "Fischer", "Garcia", "Green", "Hansen", "Hoffmann", "Hopper", "Ivanova", "Jansen", "Johnson", "Kaya",
    "Keller", "Kim", "Klein", "Kowalski", "Kumar", "Lambert", "Larsen", "Laurent", "Lopez", "Lovelace", "Martin",
    "Mendes", "Meyer", "Moreau", "Murphy", "Nguyen", "Novak", "Okafor", "Park", "Patel", "Perez", "Petit", "Rossi",
    "Santos", "Sato", "Schmidt", "Silva", "Singh", "Smith", "Tanaka", "Taylor", "Torres", "Turing", "Virtanen", "Weber",
    "White", "Wilson", "Wood", "Young",
)  # fmt: skip

# Telephone codes, and how often a user lives there.
COUNTRIES: Final = {
    "United Kingdom": ("44", 30), "Germany": ("49", 16), "France": ("33", 13), "Netherlands": ("31", 8),
    "Spain": ("34", 7), "Italy": ("39", 6), "Ireland": ("353", 5), "Belgium": ("32", 4), "Switzerland": ("41", 3),
    "Sweden": ("46", 3), "Poland": ("48", 2), "Portugal": ("351", 2), "Japan": ("81", 1),
}  # fmt: skip
BIOS: Final = (
    "Collects mugs.", "Runs a small café.", "Buys for an office of twelve.", "Prefers delivery on Fridays.",
    "Always looking for a present.", "Writes reviews.", "Came for the lamps and stayed.",
)  # fmt: skip

# What a role is for, and how many of a thousand users hold it.
ROLES: Final = {
    "customer": ("Buys.", 960),
    "support": ("Answers customers, sees orders.", 25),
    "manager": ("Changes products and prices.", 12),
    "admin": ("May do everything.", 3),
}

CHANNELS: Final = {"web": 62, "mobile": 28, "store": 7, "phone": 3}
COLOURS: Final = (
    "black", "blue", "brown", "cream", "green", "grey", "orange", "pink", "purple", "red", "turquoise", "white",
    "yellow",
)  # fmt: skip
MATERIALS: Final = (
    "bamboo", "beech", "ceramic", "cork", "cotton", "enamel", "felt", "glass", "leather", "linen", "oak", "porcelain",
    "rattan", "steel", "stoneware", "wool",
)  # fmt: skip
STYLES: Final = (
    "Classic", "Compact", "Everyday", "Folding", "Handmade", "Heritage", "Large", "Light", "Little", "Modern", "Nordic",
    "Plain", "Retro", "Rustic", "Slim", "Striped", "Travel", "Vintage",
)  # fmt: skip
TAGS: Final = (
    "bestseller", "clearance", "eco", "exclusive", "fragile", "gift", "handmade", "limited", "new", "outdoor", "sale",
    "seasonal", "set", "vegan", "vintage", "wedding",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shelf:
    """A category: the code that its stock-keeping units begin with, its prices in pence, and what stands there."""

    code: str
    cheapest: int
    dearest: int
    things: tuple[str, ...]


SHELVES: Final = {
    "Kitchen": Shelf("KIT", 250, 8_900, ("Mug", "Teapot", "Bowl", "Cutting Board", "Jug", "Cake Stand", "Colander")),
    "Lighting": Shelf("LIG", 900, 24_900, ("Lamp", "Lantern", "Night Light", "Candle Holder", "Fairy Lights")),
    "Stationery": Shelf("STA", 95, 3_500, ("Notebook", "Pencil Case", "Card Set", "Desk Tidy", "Calendar")),
    "Toys": Shelf("TOY", 300, 6_500, ("Puzzle", "Kite", "Train", "Doll", "Building Blocks", "Spinning Top")),
    "Garden": Shelf("GAR", 400, 19_900, ("Planter", "Watering Can", "Bird House", "Trowel", "Wind Chime")),
    "Textiles": Shelf("TEX", 600, 15_900, ("Cushion", "Blanket", "Tea Towel", "Apron", "Table Runner", "Curtain")),
    "Bags": Shelf("BAG", 500, 17_900, ("Tote Bag", "Lunch Bag", "Backpack", "Purse", "Wash Bag")),
    "Furniture": Shelf("FUR", 4_900, 129_900, ("Stool", "Shelf", "Side Table", "Chair", "Coat Rack", "Bench")),
    "Decoration": Shelf("DEC", 250, 9_900, ("Vase", "Picture Frame", "Wall Clock", "Mirror", "Garland", "Bunting")),
    "Bath": Shelf("BAT", 250, 5_900, ("Soap Dish", "Towel", "Bath Mat", "Tumbler", "Storage Jar")),
}
