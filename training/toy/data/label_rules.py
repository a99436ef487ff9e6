"""Hand-written rules that turn names of furniture models into short labels.

A label says what a thing is, never how it looks: colours, materials, sizes and brands go, so that
a caption cannot reveal which of several designs is meant.
"""

from __future__ import annotations


def parse_rules(text: str) -> dict[str, str]:
    """Lines "label = name; name" (indented lines continue) -> name -> label.

    >>> parse_rules("car = smart car; blue_car")
    {'smart car': 'car', 'blue_car': 'car'}
    """
    rules = {}
    for line in text.replace("\n    ", " ").strip().splitlines():
        label, _, names = line.partition(" = ")
        rules |= dict.fromkeys(names.split("; "), label)
    return rules


def parse_words(text: str) -> frozenset[str]:
    """Words separated by white space."""
    return frozenset(text.split())


def parse_phrases(text: str) -> tuple[str, ...]:
    """Phrases separated by ";", without line breaks."""
    return tuple(" ".join(phrase.split()) for phrase in text.split(";"))


# Words that describe a design; they are removed wherever they stand.
DESIGN_WORDS = parse_words(
    """
    alder apple bamboo bended black blue brown burlap chambord classic clear concept
    concrete contemporary curly double electronic full green grey hanging high indian indoor
    iron island japanese large light little low lower mini modern oak old open opened orange
    oriental osaka outdoor oval painted pedestal plastic purple quadruple rattan rectangle
    red rigged round rounded ryokan siamese small sport square stone teak teck trestles
    triple upper vertical wall white winchester wire wireless wood wooden yellow
    """
)

# Furniture categories and parts of names that are no free-standing, recognisable things.
EXCLUDED_CATEGORIES = frozenset({"doors and windows", "staircases"})
EXCLUDED_NAME_PARTS = parse_phrases(
    """
    air conditioning; arrow ; artwork; bathmat; bill ; carpet; chimney;
    contemporary living room; cooktop; corner cabinet; curtain; diving board; doormat;
    elevator; emergency sign; entry ; fluorescent; frame ; garden faucet; hedge; hood;
    induction cooker; intercom; island extension; letter tray; male; mannequin; newspaper;
    parking slot; pedestrian crossing; plug; porch; porch column; radiator; rail crossing;
    railing; rails; rug; shower curtain; shower door; shower head; sidewalk; smoke detector;
    socket; spotlight; swimming pool; switch; tatami; towel rack; track lights;
    wall flat tv; wall hanger; window blind
    """
)

# Whole furniture names (in lower case) with a label of their own.
FURNITURE_LABELS = parse_rules(
    """
angle grinder = grinder
ashtray = hashtray
bath = corner bathtub
bed = captain's bed; day bed
beech tree = copper beech
bench = little bank; wood bank
bicycle = bike
box = cardboard box; open cardboard box
bus = city bus
camera = reflex camera
car = chevrolet; concept sedan 01; concept sedan 02; concept sedan 02 sport; ford focus; peugeot
    308 cc; renault scenic; seat leon; smart car; suv; vw new beetle
chair = class seat; relax chair
child chair = children chair
child table = children table
clay pot = pottery
coat hanger = clothes hanger; wire coathanger
coffee maker = coffee brewer; coffee machine
computer = apple imac 1998; apple imac 2004
cup = coffee cup; coffee mug
cupcake = cup cake
desk = desk table
dog = bulldog
dryer = dryer machine
exercise bike = indoor bike
fan = table fan
folding screen = screen
forklift = fork lift
french press = coffee press
fruit bowl = bowl with fruits
futon = futon couch
game console = playstation
grill = stone grill device
high chair = baby high chair
kitchen island = island
kitchen scale = electronic scale
knife = kitchen knife
laptop = apple ibook
lawn mower = mower
lipstick = lip stick
mailbox = letters box
maple tree = japanese maple; sycamore maple
marquee tent = barnum
mobile phone = apple iphone
motorbike = yamaha yzr r6
oil bottles = oil servers
ottoman = armchair ottoman
palm tree = bended coconut tree; coconut tree
paper lantern = japanese lantern
pen holder = penbox
pendant lamp = hanging light
pinball machine = flipper
ping pong bat = table tennis bat
ping pong table = table tennis
place setting = plate, glass and cutlery; plate, glasses and cutlery
plant = decorative plant
playground = children game
playhouse = child hut
pouf = puff
printer = inkjet printer and scanner
punching bag = punching ball
puzzle cube = rubik's cube
refrigerator = fridge; large fridge
remote control = tv remote control
salad bowl = bowl with salad
shoe = mocassin
shoes = sneakers; woman shoes
shorts = short
snowy pine = blue pine under snow; pine under snow
sofa = couch; sofa 2 seats; sofa 3 seats
sofa bed = convertible sofa bz; opened convertible sofa bz
speaker = mp3 base; mp3 station
stone lantern = stone lantern
street lamp = classic lamppost; park light; street light
surveillance camera = cctv
table = glass table; technical table
tall cabinet = high cabinet
toilet = toilets unit
toilet paper = toilet paper dispenser
trash can = bullet trash can; dustbin; park trashcan; residential trashcan
trestle table = table on trestles
trunk = trunck
tv cabinet = television cabinet
washbasin = basin; small lavatory
washing machine = clothes washing machine
water heater = electric water heater; gaz water heater
whiteboard = white board
"""
)

# Words in the names of models that show a brand; kept out of sample pictures.
BRAND_NAMES = parse_words(
    """
    apple chevrolet ford ibook imac iphone peugeot playstation renault rubik's seat smart vw
    yamaha
    """
)
