"""Hand-written rules: which emoji show one thing, and what it is called."""

from __future__ import annotations

from .label_rules import parse_rules, parse_words

# Emoji that show one thing.
EMOJI_CATEGORIES = frozenset(
    {"Activities", "Animals & Nature", "Food & Drink", "Objects", "Travel & Places"}
)
EMOJI_EXTRA_SUBCATEGORIES = frozenset({"face-costume"})
EMOJI_EXCLUDED_SHORT_NAMES = parse_words(
    """
    barely_sunny bridge_at_night bubbles chart city_sunrise city_sunset cityscape clock1
    clock10 clock1030 clock11 clock1130 clock12 clock1230 clock130 clock2 clock230 clock3
    clock330 clock4 clock430 clock5 clock530 clock6 clock630 clock7 clock730 clock8 clock830
    clock9 clock930 clubs compression construction cyclone diamonds e-mail
    envelope_with_arrow euro feet first_quarter_moon flower_playing_cards fog foggy hamsa
    hankey hearts hotel imp inbox_tray incoming_envelope japan last_quarter_moon loud_sound
    love_hotel low_battery mailbox_with_mail mailbox_with_no_mail medical_symbol microbe
    milky_way money_with_wings moon mostly_sunny motorway mount_fuji mountain_railway mute
    national_park nazar_amulet new_moon night_with_stars no_bell ocean outbox_tray
    partly_sunny_rain pig_nose placard pound smoking sound spades speaker stars
    statue_of_liberty sunrise sunrise_over_mountains suspension_railway tokyo_tower
    waning_crescent_moon waning_gibbous_moon waxing_crescent_moon wedding wind_blowing_face
    yen
    """
)

# Short names of emoji whose official name is no plain noun, or names a design.
EMOJI_LABELS = parse_rules(
    """
airplane = airplane_arriving; airplane_departure
alien = alien
apple = apple; green_apple
backpack = school_satchel
badminton racket = badminton_racquet_and_shuttlecock
ballot box = ballot_box_with_ballot
banknotes = dollar
basketball = basketball
bath = bathtub
beach umbrella = beach_with_umbrella; umbrella_on_ground
bear face = polar_bear
bee = bee
beer glass = beer
beer glasses = beers
billiard ball = 8ball
blossom = cherry_blossom; white_flower
book = closed_book
boot = boot; hiking_boot
box = package
bricks = bricks
bus = oncoming_bus; trolleybus
cake slice = cake
calendar = calendar; spiral_calendar_pad
camel = camel; dromedary_camel
camera = camera_with_flash
camping tent = camping
cane = probing_cane
cap = billed_cap
car = blue_car; car; oncoming_automobile
castle = european_castle
chain link = link
chart = bar_chart; chart_with_downwards_trend; chart_with_upwards_trend
chick = baby_chick; hatched_chick
chicken leg = poultry_leg
computer = desktop_computer
corn cob = corn
crane = building_construction
crescent moon = first_quarter_moon_with_face; last_quarter_moon_with_face
cup = coffee
cutlery = fork_and_knife
dinosaur = sauropod; t-rex
disc = cd; dvd
dog = guide_dog; poodle; service_dog
drum = drum_with_drumsticks
eggplant = eggplant
file box = card_file_box
fish = tropical_fish
fishing rod = fishing_pole_and_fish
flashlight = flashlight
folder = file_folder; open_file_folder
fried egg = fried_egg
game controller = video_game
gift = gift
giraffe = giraffe_face
glass = tumbler_glass
glasses = eyeglasses
globe = earth_africa; earth_americas; earth_asia
goblin mask = japanese_goblin
handbag = purse
hat = womans_hat
headphones = headphones
helmet = helmet_with_white_cross; military_helmet
high heel = high_heel
hockey stick = field_hockey_stick_and_ball; ice_hockey_stick_and_puck
hot spring = hotsprings
hourglass = hourglass_flowing_sand
house = derelict_house_building; house; house_buildings; house_with_garden
kick scooter = scooter
kitchen timer = timer_clock
knife = hocho
koala face = koala
lacrosse stick = lacrosse
ladybug = ladybug
laptop = computer
leafy greens = leafy_green
leaves = fallen_leaf
light bulb = bulb
lightning bolt = zap
locomotive = steam_locomotive
logs = wood
loudspeaker = loudspeaker
magnifying glass = mag; mag_right
mahjong tile = mahjong
mailbox = mailbox_closed; postbox
mantel clock = mantelpiece_clock
meat = meat_on_bone
medal = first_place_medal; medal; second_place_medal; sports_medal; third_place_medal
megaphone = mega
microphone = studio_microphone
mobile phone = calling
moon = full_moon
moon face = full_moon_with_face; new_moon_with_face
motorbike = racing_motorcycle
motorboat = motor_boat; speedboat
mountain = snow_capped_mountain
nest = empty_nest; nest_with_eggs
newspaper = rolled_up_newspaper
noodle bowl = ramen
notebook = ledger; notebook_with_decorative_cover
notepad = memo; spiral_note_pad
ogre mask = japanese_ogre
oil lamp = diya_lamp
padlock = closed_lock_with_key; lock; lock_with_ink_pen; unlock
paella pan = shallow_pan_of_food
page = bookmark_tabs; page_facing_up; page_with_curl
paint palette = art
paper cup = cup_with_straw
paper lantern = izakaya_lantern
paperclips = linked_paperclips
pen nib = black_nib
phone = phone
phone receiver = telephone_receiver
picture frame = frame_with_picture
pine tree = evergreen_tree
ping pong bat = table_tennis_paddle_and_ball
pizza slice = pizza
place setting = knife_fork_plate
plant = potted_plant
playing card = black_joker
police car = oncoming_police_car
post horn = postal_horn
post office = european_post_office
pufferfish = blowfish
puzzle piece = jigsaw
rain cloud = rain_cloud
reception bell = bellhop_bell
rice bowl = rice
rice plant = ear_of_rice
rickshaw = auto_rickshaw
robot = robot_face
rugby ball = rugby_football
ruler = straight_ruler
sake bottle = sake
salad bowl = green_salad
sandal = sandal
satellite dish = satellite_antenna
saw = carpentry_saw
scooter = motor_scooter
seashell = shell
set square = triangular_ruler
ship = passenger_ship
shirt = shirt; womans_clothes
shoe = athletic_shoe; mans_shoe; womans_flat_shoe
shop = convenience_store; department_store
shopping cart = shopping_trolley
siren light = rotating_light
snowman = snowman_without_snow
soap = soap
sofa = couch_and_lamp
speech bubble = left_speech_bubble
star = six_pointed_star; star; star2
steak = cut_of_meat
stone head = moyai
stop sign = octagonal_sign
suitcase = luggage
sun = sunny
sun face = sun_with_face
swimsuit = one-piece_swimsuit
target board = dart
taxi = oncoming_taxi
teacup = tea
tennis ball = tennis
theatre masks = performing_arts
thread spool = thread
thundercloud = lightning; thunder_cloud_and_rain
ticket = admission_tickets
toilet paper = roll_of_paper
traffic light = traffic_light; vertical_traffic_light
train = bullettrain_front; bullettrain_side; light_rail; metro; station
tram = railway_car; train
trash can = wastebasket
tree = deciduous_tree
trousers = jeans
truck = articulated_lorry; truck
tv = tv
umbrella = closed_umbrella; umbrella_with_rain_drops
van = minibus
vase = amphora
water pistol = gun
whale = whale
wheelchair = manual_wheelchair; motorized_wheelchair; person_in_motorized_wheelchair
wire globe = globe_with_meridians
x-ray picture = x-ray
zebra = zebra_face
"""
)
