"""Miniature copies of the four clinical data sets in their true layout, with drawn images.

Nothing in them is medical: pictures are coloured squares, rows are made up.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

FITZPATRICK_COLUMNS = (
    *("md5hash", "fitzpatrick_scale", "fitzpatrick_centaur", "label", "nine_partition_label"),
    *("three_partition_label", "qc", "url", "url_alphanum"),
)

#: As they stand in the public CSV; the last two are not among the 20.
CONDITIONS = (
    *("acne", "actinic keratosis", "allergic contact dermatitis", "basal cell carcinoma"),
    *("eczema", "erythema multiforme", "folliculitis", "granuloma annulare", "keloid"),
    *("lichen planus", "lupus erythematosus", "melanoma", "mycosis fungoides"),
    *("pityriasis rosea", "prurigo nodularis", "psoriasis", "sarcoidosis", "scabies"),
    *("squamous cell carcinoma", "vitiligo", "urticaria", "seborrheic keratosis"),
)

CHEXPERT_FINDINGS = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion"),
    *("Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion"),
    *("Pleural Other", "Fracture", "Support Devices"),
)
CHEXPERT_COLUMNS = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_FINDINGS]

BREAKHIS_FOLDERS = {
    "A": "benign/SOB/adenosis",
    "F": "benign/SOB/fibroadenoma",
    "PT": "benign/SOB/phyllodes_tumor",
    "TA": "benign/SOB/tubular_adenoma",
    "DC": "malignant/SOB/ductal_carcinoma",
    "LC": "malignant/SOB/lobular_carcinoma",
    "MC": "malignant/SOB/mucinous_carcinoma",
    "PC": "malignant/SOB/papillary_carcinoma",
}


def write_image(path: Path, seed: int) -> None:
    """A patterned square that no other seed repeats."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((32, 32), Image.Resampling.NEAREST).save(path)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path


def fitzpatrick17k(root: Path, *, per_class: int = 5, images: bool = True, seed: int = 0) -> Path:
    """``fitzpatrick17k.csv`` with shuffled rows, and ``images/{md5hash}.jpg``. Returns the CSV."""
    rng = np.random.default_rng(seed)
    counts = [per_class + i % 3 for i in range(len(CONDITIONS))]
    labels = rng.permutation(np.repeat(CONDITIONS, counts))
    rows = []
    for number, label in enumerate(labels):
        md5 = rng.bytes(16).hex()
        scale = int(rng.choice([-1, 1, 2, 3, 4, 5, 6]))
        rows.append(
            [md5, scale, scale, label, "inflammatory", "non-neoplastic", "", "http://x", ""]
        )
        if images:
            write_image(root / "images" / f"{md5}.jpg", number)
    return write_csv(root / "fitzpatrick17k.csv", FITZPATRICK_COLUMNS, rows)


def chexpert_row(path: str, view: str = "Frontal", **findings: str) -> list[str]:
    """One row; findings by name with ``_`` for a space, blank unless given."""
    values = {name.replace("_", " "): value for name, value in findings.items()}
    cells = [values.get(name, "") for name in CHEXPERT_FINDINGS]
    return [path, "Female", "60", view, "AP" if view == "Frontal" else "", *cells]


def chexpert(top: Path, *, per_class: int = 8, images: bool = True, valid: bool = True) -> Path:
    """``CheXpert-v1.0-small`` below ``top``; rows that the rule leaves out are mixed in."""
    base = top / "CheXpert-v1.0-small"
    positives = ("No_Finding", "Cardiomegaly", "Pneumonia", "Pleural_Effusion")
    for table, offset in (("train", 1), ("valid", 60001)):
        rows, patient = [], offset
        for finding in positives:
            for number in range(per_class):
                folder = f"CheXpert-v1.0-small/{table}/patient{patient:05d}/study1"
                rows.append(chexpert_row(f"{folder}/view1_frontal.jpg", **{finding: "1.0"}))
                if number % 2:  # a second image of the same patient
                    rows.append(
                        chexpert_row(f"{folder}/view2_frontal.jpg", Edema="1.0", **{finding: "1.0"})
                    )
                patient += 1
        left_out = [
            {"view": "Lateral", "Cardiomegaly": "1.0"},
            {"Cardiomegaly": "1.0", "Pneumonia": "1.0"},
            {"Pneumonia": "1.0", "Pleural_Effusion": "-1.0"},
            {"Edema": "1.0"},
        ]
        for extra in left_out:
            folder = f"CheXpert-v1.0-small/{table}/patient{patient:05d}/study1"
            rows.append(chexpert_row(f"{folder}/view1_frontal.jpg", **extra))
            patient += 1
        if table == "train" or valid:
            write_csv(base / f"{table}.csv", CHEXPERT_COLUMNS, rows)
            for number, row in enumerate(rows if images else []):
                write_image(top / row[0], offset + number)
    return base


def breakhis(root: Path, *, slides: int = 3, per_slide: int = 4, doubled: bool = True) -> Path:
    """``BreaKHis_v1`` with every class at 100x and 40x; slide 14-13412 under two labels."""
    breast = root / ("BreaKHis_v1/BreaKHis_v1" if doubled else "BreaKHis_v1")
    breast = breast / "histology_slides" / "breast"
    seed = 0
    for code, folder in BREAKHIS_FOLDERS.items():
        names = [f"14-{2000 + 10 * i}{code}" for i in range(slides)]
        if code in ("DC", "LC"):
            names[0] = "14-13412"
        branch = "B" if folder.startswith("benign") else "M"
        for slide in names:
            for magnification in (40, 100):
                for number in range(1, per_slide + 1):
                    stem = f"SOB_{branch}_{code}-{slide}-{magnification}-{number:03d}"
                    where = f"{folder}/SOB_{branch}_{code}_{slide}/{magnification}X/{stem}.png"
                    write_image(breast / where, seed)
                    seed += 1
    return breast


def origa(root: Path, *, normal: int = 20, glaucoma: int = 8, form: str = "list") -> Path:
    """``Images/*.jpg`` with the table of either form; cropped copies lie beside, as in the wild."""
    rows = []
    for number in range(1, normal + glaucoma + 1):
        name, label = f"{number:03d}.jpg", int(number > normal)
        write_image(root / "Images" / name, number)
        write_image(root / "Images_Cropped" / name, number)
        if form == "list":
            rows.append(["OD", name, "0.5", "AB"[number % 2], label])
        else:
            rows.append([f"E:\\Origa\\Images\\{name}", "Origa", "True", "0.5", "0.1", "0.2", label])
    if form == "list":
        header = ["Eye", "Filename", "ExpCDR", "Set", "Glaucoma"]
        return write_csv(root / "OrigaList.csv", header, rows)
    header = ["Image", "Source", "Cropped", "CDR", "Ecc-Cup", "Ecc-Disc", "Label"]
    return write_csv(root / "origa_info.csv", header, rows)
