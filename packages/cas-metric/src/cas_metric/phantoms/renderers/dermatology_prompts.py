"""Prompts of the phantom skin photographs: body part, skin tone and lesion in plain words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from cas_metric.phantoms.base import FindingSpec

Truth = Mapping[str, Any]

_NUMBERS: Final = (
    "", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    "twelve",
)  # fmt: skip


def sentence(spec: FindingSpec) -> str:
    """The prompt of a specification: one sentence, at most 40 words."""
    finding, nuisance, style = spec.finding, spec.nuisance, spec.seed % 3
    site, tone = nuisance["site"], nuisance["tone"]
    opening = (
        f"Photograph of the {site}, {tone} skin",
        f"{tone.capitalize()} skin of the {site}",
        f"Close-up of {tone} skin on the {site}",
    )[spec.seed // 3 % 3]
    if not finding:
        return f"{opening}: clear bare skin."
    where = "" if spec.label in _EVERYWHERE else f", {_position(finding['place'])}"
    return f"{opening}, {spec.label.lower()}: {_PHRASES[spec.label](finding, style)}{where}."


#: Classes whose sign has one place by nature or fills the frame.
_EVERYWHERE: Final = (
    "Acne", "Erythema Multiforme", "Folliculitis", "Lichen Planus", "Lupus Erythematosus",
    "Pityriasis Rosea", "Prurigo Nodularis", "Sarcoidosis", "Scabies", "Vitiligo",
)  # fmt: skip


def _position(place: tuple[float, float]) -> str:
    """The part of the frame in words."""
    x, y = place
    row = "upper" if y < -0.15 else "lower" if y > 0.15 else ""
    column = "left" if x < -0.15 else "right" if x > 0.15 else ""
    if not row and not column:
        return "in the centre"
    return f"{row} {column}".strip() + ("" if row and column else " side")


def _number(count: int) -> str:
    return _NUMBERS[count] if count < len(_NUMBERS) else "many"


def _of(count: int, noun: str) -> str:
    """A number and its noun, e.g. ``three patches``."""
    if count == 1:
        return f"one {noun}"
    return f"{_number(count)} {noun}{'es' if noun.endswith('ch') else 's'}"


def _acne(f: Truth, style: int) -> str:
    many, kind, colour = _number(f["count"]), f["variant"], f["colour"]
    return (
        f"{many} small {colour} bumps, {kind}, on oily skin",
        f"{many} clogged-pore bumps and {colour} pimples, {kind}, oily shine",
        f"oily skin with {many} scattered pimples and comedones, {colour}, {kind}",
    )[style]


def _actinic_keratosis(f: Truth, style: int) -> str:
    size, colour, crust = f["size"], f["colour"], f["variant"]
    return (
        f"{size} rough {colour} patch with {crust} yellowish crust, gritty like sandpaper",
        f"one {size} dry {colour} spot under a {crust} gritty yellowish crust",
        f"{size} coarse scaly patch, {colour}, {crust} yellow crust, sandpaper surface",
    )[style]


def _allergic_contact_dermatitis(f: Truth, style: int) -> str:
    size, shape, colour = f["size"], f["variant"], f["colour"]
    blisters = _of(f["count"], "blister")
    return (
        f"{shape} {colour} patch with straight edges, {blisters}, weepy",
        f"{size} {shape} {colour} weepy rash of the contact site with {blisters}",
        f"weepy {colour} patch, {shape} with straight borders, {blisters}",
    )[style]


def _basal_cell_carcinoma(f: Truth, style: int) -> str:
    size, middle, vessels = f["size"], f["variant"], _of(f["count"], "fine red vessel")
    return (
        f"{size} pearly shiny nodule with rolled rim, {middle}, {vessels}",
        f"{size} smooth translucent pearly bump, raised edge, {middle} and {vessels}",
        f"round glossy pearly nodule, {size}, {vessels}, {middle}",
    )[style]


def _eczema(f: Truth, style: int) -> str:
    patches, colour = _of(f["count"], f"ill-defined {f['colour']} patch"), f["colour"]
    surface = {"flaky": "dry and flaky", "scratched": "dry with scratch marks"}[f["variant"]]
    return (
        f"{patches} fading into the skin, {surface}",
        f"{patches}, blurred borders, {surface}",
        f"{_of(f['count'], 'patch')} of {colour} skin with vague edges, {surface}",
    )[style]


def _erythema_multiforme(f: Truth, style: int) -> str:
    number, colour, bullseye = f["count"], f["colour"], f"{f['size']} bull's-eye spot"
    return (
        f"{_of(number, 'round target lesion')}, dark center, pale ring, {colour} outer ring",
        f"{_of(number, bullseye)} of concentric rings, {colour} outside, pale ring, dark center",
        f"{_of(number, 'target')} with dark center, pale ring and {colour} rim",
    )[style]


def _folliculitis(f: Truth, style: int) -> str:
    number, colour = f["count"], f["colour"]
    return (
        f"{_of(number, 'small yellow pustule')} on {colour} base, each pierced by a hair",
        f"{_of(number, 'pus-filled bump')} around hair follicles, {colour} collar, central hair",
        f"cluster of {_of(number, 'yellow-white pustule')}, {colour} halo, hair in each",
    )[style]


def _granuloma_annulare(f: Truth, style: int) -> str:
    size, colour = f["size"], f["colour"]
    ring = "ring" if f["variant"] == "complete" else "open ring"
    return (
        f"{_of(f['count'], f'{size} {ring}')} of small smooth {colour} papules",
        f"{colour} papules forming {_of(f['count'], f'{size} {ring}')}, smooth, clear center",
        f"{_of(f['count'], f'{size} beaded {ring}')}, firm smooth {colour} bumps around clear skin",
    )[style]


def _keloid(f: Truth, style: int) -> str:
    size, colour, claws = f["size"], f["colour"], _of(f["count"], "claw-like extension")
    return (
        f"{size} raised shiny {colour} scar with {claws}",
        f"{size} smooth rubbery {colour} overgrown scar, {claws}",
        f"thick shiny {colour} scar tissue, {size}, {claws}",
    )[style]


def _lichen_planus(f: Truth, style: int) -> str:
    colour, layout = f["colour"], f["variant"]
    return (
        f"{_of(f['count'], f'{colour} polygonal papule')}, {layout}, flat-topped and shiny with "
        "fine white lines",
        f"{_of(f['count'], f'flat-topped {colour} bump')}, {layout}, angular, shiny, white lines",
        f"{layout} {colour} polygons, {_of(f['count'], 'shiny papule')} crossed by white lines",
    )[style]


def _lupus_erythematosus(f: Truth, style: int) -> str:
    size, colour, surface = f["size"], f["colour"], f["variant"]
    return (
        f"{size} {surface} {colour} butterfly rash across nose and cheeks",
        f"butterfly-shaped {colour} rash over both cheeks and the nose, {surface}, {size}",
        f"{surface} {colour} malar rash, {size} wings on both cheeks joined across the nose",
    )[style]


def _melanoma(f: Truth, style: int) -> str:
    size, border = f["size"], f["variant"]
    shades = " and ".join(f["shades"])
    return (
        f"{size} asymmetric black and brown patch with {border} border, {shades} areas",
        f"{size} irregular mole, {border} edges, shades of brown, black, {shades}",
        f"asymmetric multicolored lesion, {size}, {border} border, dark brown, black and {shades}",
    )[style]


def _mycosis_fungoides(f: Truth, style: int) -> str:
    colour, size = f["colour"], f["size"]
    return (
        f"{_of(f['count'], f'{size} wrinkled {colour} patch')} like cigarette paper",
        f"{_of(f['count'], f'large irregular {colour} patch')}, dry finely wrinkled surface",
        f"{_of(f['count'], f'broad {colour} patch')} with cigarette-paper wrinkles, {size}",
    )[style]


def _pityriasis_rosea(f: Truth, style: int) -> str:
    colour, ovals = f["colour"], _of(f["count"], "smaller oval")
    return (
        f"{colour} herald patch and {ovals} in a Christmas tree pattern, collarette scale",
        f"one large {colour} herald patch, {ovals} along skin lines, fine scale ring inside",
        f"{colour} oval herald patch with collarette scale, {ovals} in slanting rows",
    )[style]


def _prurigo_nodularis(f: Truth, style: int) -> str:
    colour, top = f["colour"], f["variant"]
    return (
        f"{_of(f['count'], f'{colour} dome-shaped nodule')} with dark rims and {top} tops",
        f"{_of(f['count'], f'firm {top} nodule')}, {colour} domes with dark brown borders",
        f"{_of(f['count'], 'hard dome')} with dark borders, {colour}, {top}",
    )[style]


def _psoriasis(f: Truth, style: int) -> str:
    size, colour, shape = f["size"], f["colour"], f["variant"]
    return (
        f"{_of(f['count'], f'{size} {shape} {colour} plaque')} with thick silvery scales",
        f"{_of(f['count'], f'well-demarcated {colour} plaque')}, {shape}, thick silvery scale",
        f"sharply bounded {colour} skin under thick silvery scales, "
        f"{_of(f['count'], f'{size} {shape} plaque')}",
    )[style]


def _sarcoidosis(f: Truth, style: int) -> str:
    size, colour, noun = f["size"], f["colour"], f["variant"].removesuffix("s")
    return (
        f"{_of(f['count'], f'smooth firm {colour} {noun}')}, {size}",
        f"{_of(f['count'], f'{size} {colour} {noun}')} with smooth rubbery surface",
        f"smooth {colour} raised skin, {_of(f['count'], f'{size} firm {noun}')}",
    )[style]


def _scabies(f: Truth, style: int) -> str:
    size, burrows, bumps = f["size"], f["count"], _of(f["papules"], "small bump")
    colour = f["colour"]
    return (
        f"{_of(burrows, 'wavy burrow')} with dark end dots, {colour}, and {bumps}",
        f"{_of(burrows, 'thin wavy line')} in {colour} skin, burrow ridges, {bumps}",
        f"{_of(burrows, f'{size} winding burrow')}, {colour} edges, {bumps} nearby",
    )[style]


def _squamous_cell_carcinoma(f: Truth, style: int) -> str:
    size, colour = f["size"], f["colour"]
    crater = {"keratin": "rough white keratin", "bleeding": "bleeding crust"}[f["variant"]]
    return (
        f"{size} firm {colour} nodule, crater filled with {crater}",
        f"{size} crusted crater with raised {colour} rim and {crater}",
        f"rough {colour} crater-like tumor, {size}, thick rim, {crater}",
    )[style]


def _vitiligo(f: Truth, style: int) -> str:
    size, colour = f["size"], f["colour"]
    return (
        f"{_of(f['count'], f'{size} {colour} patch')} with sharp borders, normal texture",
        f"{_of(f['count'], f'sharply bounded {colour} patch')} of lost pigment, {size}",
        f"{_of(f['count'], f'{size} irregular {colour} patch')}, well-defined, smooth skin",
    )[style]


_PHRASES: Final[Mapping[str, Callable[[Truth, int], str]]] = {
    "Acne": _acne,
    "Actinic Keratosis": _actinic_keratosis,
    "Allergic Contact Dermatitis": _allergic_contact_dermatitis,
    "Basal Cell Carcinoma": _basal_cell_carcinoma,
    "Eczema": _eczema,
    "Erythema Multiforme": _erythema_multiforme,
    "Folliculitis": _folliculitis,
    "Granuloma Annulare": _granuloma_annulare,
    "Keloid": _keloid,
    "Lichen Planus": _lichen_planus,
    "Lupus Erythematosus": _lupus_erythematosus,
    "Melanoma": _melanoma,
    "Mycosis Fungoides": _mycosis_fungoides,
    "Pityriasis Rosea": _pityriasis_rosea,
    "Prurigo Nodularis": _prurigo_nodularis,
    "Psoriasis": _psoriasis,
    "Sarcoidosis": _sarcoidosis,
    "Scabies": _scabies,
    "Squamous Cell Carcinoma": _squamous_cell_carcinoma,
    "Vitiligo": _vitiligo,
}
