"""One spelling a class over several sets of images."""

import dataclasses

import pandas as pd

from cas_metric.manifest import FolderConfig
from cas_metric.manifest.sources import as_manifest
from cas_metric.scoring.labels import same_labels


def manifest(*labels, domain=None):
    images = [f"{number}.png" for number in range(len(labels))]
    made = as_manifest(pd.DataFrame({"image": images, "label": labels}))
    return dataclasses.replace(made, config=FolderConfig(domain=domain))


def test_the_pack_that_one_set_names_spells_the_labels_of_all():
    first, second = same_labels(
        [manifest("pleural effusion", "Fracture"), manifest("CARDIOMEGALY", "", domain="chexpert")]
    )
    assert first.rows["label"].tolist() == ["Pleural Effusion", "Fracture"]
    assert second.rows["label"].tolist() == ["Cardiomegaly", ""]


def test_without_a_pack_case_alone_is_overlooked():
    for domain in (None, "no such pack"):
        first, second = same_labels([manifest("Mass", "Mass"), manifest("mass", domain=domain)])
        assert second.rows["label"].tolist() == ["Mass"]
        assert "'mass' is Mass" in first.notes[-1]
    assert same_labels([manifest("mass"), manifest("benign")])[0].notes == ()
