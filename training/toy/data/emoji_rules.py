"""Hand-written rules: which emoji show one thing, and what it is called."""

from __future__ import annotations

from .label_rules import parse_words, read_rules

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
EMOJI_LABELS = read_rules("emoji_labels")
