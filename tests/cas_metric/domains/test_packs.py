"""The shipped packs say what Tables 7-10 of the paper say."""

from __future__ import annotations

import pytest
import yaml

from cas_metric.domains import list_domains, load_domain
from cas_metric.domains.loading import find_pack
from cas_metric.errors import InputError

SKIN = ("Location", "Lesion Type", "Shape/Size", "Color", "Texture")
TISSUE = ("Tissue Context", "Lesion Type", "Shape/Size", "Color", "Texture")
DISC = ("Optic Disc", "Rim", "Vessels", "Peripapillary Region", "Overall Fundus")
SHIPPED = {"fitzpatrick17k": SKIN, "chexpert": SKIN, "breakhis": TISSUE, "origa": DISC}

CLASSES = {
    "fitzpatrick17k": """Acne|Actinic Keratosis|Allergic Contact Dermatitis|Basal Cell Carcinoma|
        Eczema|Erythema Multiforme|Folliculitis|Granuloma Annulare|Keloid|Lichen Planus|
        Lupus Erythematosus|Melanoma|Mycosis Fungoides|Pityriasis Rosea|Prurigo Nodularis|
        Psoriasis|Sarcoidosis|Scabies|Squamous Cell Carcinoma|Vitiligo""",
    "chexpert": "No Finding|Cardiomegaly|Pneumonia|Pleural Effusion",
    "breakhis": """Adenosis|Fibroadenoma|Phyllodes Tumor|Tubular Adenoma|Ductal Carcinoma|
        Lobular Carcinoma|Mucinous Carcinoma|Papillary Carcinoma""",
    "origa": "Normal|Glaucoma",
}

#: Every cell whose row the table's layout broke, as the table reads once it is put together.
REPAIRED = [
    (
        "fitzpatrick17k",
        "Squamous Cell Carcinoma",
        "Location",
        "Sun-exposed areas (face, ears, lips, hands), scars",
    ),
    (
        "fitzpatrick17k",
        "Mycosis Fungoides",
        "Shape/Size",
        "Irregular patches/plaques; tumors can be large",
    ),
    (
        "fitzpatrick17k",
        "Mycosis Fungoides",
        "Color",
        "Pink-red to reddish-brown; dark/hyperpigmented on dark skin",
    ),
    (
        "fitzpatrick17k",
        "Folliculitis",
        "Texture",
        "Dome-shaped, often fluid-filled top; crusts if ruptured",
    ),
    (
        "fitzpatrick17k",
        "Vitiligo",
        "Texture",
        "Normal skin texture (no scaling or thickening), only color is lost",
    ),
    (
        "fitzpatrick17k",
        "Granuloma Annulare",
        "Location",
        "Hands, feet, wrists, ankles; occasionally trunk/limbs",
    ),
    (
        "breakhis",
        "Lobular Carcinoma",
        "Texture",
        "Loose discohesive pattern; subtle infiltrative spread; monotonous small cells",
    ),
    (
        "breakhis",
        "Papillary Carcinoma",
        "Texture",
        "Frond-like branching surface; layered epithelium; delicate core structures",
    ),
]


@pytest.mark.parametrize("name", SHIPPED)
def test_every_class_of_the_table_in_its_order(name):
    expected = tuple(part.strip() for part in CLASSES[name].split("|"))
    assert load_domain(name).class_names == expected


@pytest.mark.parametrize("name", SHIPPED)
def test_every_attribute_of_the_table(name):
    for item in load_domain(name).classes:
        missing = ("Texture",) if item.name == "Erythema Multiforme" else ()
        assert tuple(item.checklist) == tuple(a for a in SHIPPED[name] if a not in missing)


@pytest.mark.parametrize(("name", "label", "attribute", "text"), REPAIRED)
def test_repaired_cells(name, label, attribute, text):
    item = next(item for item in load_domain(name).classes if item.name == label)
    assert item.checklist[attribute] == text


@pytest.mark.parametrize("name", SHIPPED)
def test_attribution_and_repairs_are_stated(name):
    domain = load_domain(name)
    assert "CRAFT: Clinical Reward-Aligned Finetuning" in domain.source
    assert "Chung" in domain.source
    assert domain.license == "CC BY 4.0"
    assert domain.notes
    assert not domain.embedded


def test_no_remains_of_the_table_layout():
    for name in SHIPPED:
        text = find_pack(name).read_text(encoding="utf-8")
        for remains in ("<b>", "\t", "Continued on", "“", "”"):
            assert remains not in text


def test_checklist_text_is_one_string_in_table_order():
    assert load_domain("chexpert").checklist_text("cardiomegaly") == (
        "Cardiomegaly. Location: Central chest (Mediastinum/Heart); "
        "Lesion Type: Enlargement of the cardiac silhouette; "
        "Shape/Size: Globular or widened heart shadow; width >50% of rib cage; "
        "Color: Enlarged central white opacity; "
        "Texture: Smooth, distinct heart borders; vascular congestion may be present"
    )


@pytest.mark.parametrize(
    ("name", "spelling", "label"),
    [
        ("fitzpatrick17k", "lupus erythematosus", "Lupus Erythematosus"),
        ("fitzpatrick17k", "squamous cell carcinoma", "Squamous Cell Carcinoma"),
        ("chexpert", "Pleural_Effusion", "Pleural Effusion"),
        ("chexpert", "no finding", "No Finding"),
        ("origa", "Non-Glaucoma", "Normal"),
        ("breakhis", "phyllodes_tumor", "Phyllodes Tumor"),
        *(
            ("breakhis", code, label)
            for code, label in zip(
                ("A", "F", "PT", "TA", "DC", "LC", "MC", "PC"),
                CLASSES["breakhis"].replace("\n", "").split("|"),
                strict=True,
            )
        ),
    ],
)
def test_labels_as_they_stand_on_disk(name, spelling, label):
    domain = load_domain(name)
    assert domain.canonical(spelling) == label.strip()
    assert domain.class_names[domain.index(spelling)] == label.strip()


def test_unknown_label_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'Pleural Effusion'"):
        load_domain("chexpert").canonical("plural effusion")


@pytest.mark.parametrize("name", SHIPPED)
def test_pack_equals_its_yaml(name):
    """Nothing is lost or added between file and model (PyYAML's own loader as the oracle)."""
    raw = yaml.safe_load(find_pack(name).read_text(encoding="utf-8"))
    domain = load_domain(name)
    assert [dict(item.checklist) for item in domain.classes] == [
        item["checklist"] for item in raw["classes"]
    ]
    assert [list(item.synonyms) for item in domain.classes] == [
        item.get("synonyms", []) for item in raw["classes"]
    ]
    assert domain.prompt_schema is not None
    assert list(domain.prompt_schema.template) == raw["prompt_schema"]["template"]


def test_every_listed_pack_is_valid():
    packs = list_domains()
    assert set(SHIPPED) <= {pack.name for pack in packs}
    assert [pack.problem for pack in packs if pack.origin == "shipped" and pack.problem] == []


def test_a_pack_on_the_network_is_not_read_offline() -> None:
    pytest.importorskip("aiohttp")
    with pytest.raises(InputError, match="--offline uses none"):
        load_domain("https://localhost:9/pack.yaml", offline=True)
