"""The torchmetrics face: the same numbers as the primitives, one row an image."""

import importlib.util
import pickle
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tests.support.clinical_crops import CLASSES, Folders, read_metadata

from cas_metric import metric as metric_module
from cas_metric import primitives
from cas_metric.domains import load_domain
from cas_metric.encoders import Encoder, load_encoder
from cas_metric.errors import InputError, MissingDependency
from cas_metric.images import load_image, to_tensor
from cas_metric.metric import ClinicalAlignmentScore
from cas_metric.scoring.probe import Probe, fit


@pytest.fixture(scope="module")
def batch(folders: Folders) -> dict:
    """Twelve generated images with their partners."""
    rows = read_metadata(folders.generated)

    def stack(folder) -> torch.Tensor:
        return torch.stack([to_tensor(load_image(folder / r["file_name"]).pixels) for r in rows])

    return {
        "images": stack(folders.generated),
        "labels": [row["label"] for row in rows],
        "prompts": [row["prompt"] for row in rows],
        "references": stack(folders.test),
        "ids": list(range(100, 112)),
    }


@pytest.fixture(scope="module")
def probe(siglip: Encoder, batch: dict) -> Probe:
    with torch.no_grad():
        embeddings = siglip.embed_images(batch["references"])
    labels = [CLASSES.index(label) for label in batch["labels"]]
    return fit(embeddings, labels, CLASSES, fingerprint=siglip.fingerprint)


@pytest.fixture
def metric(siglip: Encoder, probe: Probe, folders: Folders) -> ClinicalAlignmentScore:
    return ClinicalAlignmentScore(siglip, probe, load_domain(folders.domain))


def _part(batch: dict, start: int, stop: int) -> dict:
    return {name: values[start:stop] for name, values in batch.items()}


def test_rows_are_the_primitives(
    metric: ClinicalAlignmentScore, batch: dict, siglip: Encoder, folders: Folders, probe: Probe
) -> None:
    metric.update(**_part(batch, 0, 5))
    metric.update(**_part(batch, 5, 12))
    rows = metric.rows()
    assert rows["id"].tolist() == batch["ids"]
    domain = load_domain(folders.domain)
    with torch.no_grad():
        images = siglip.embed_images(batch["images"])
        references = siglip.embed_images(batch["references"])
    checklists = [domain.checklist_text(label) for label in batch["labels"]]
    labels = torch.tensor([domain.index(label) for label in batch["labels"]])
    expected = {
        "vdc": primitives.vdc(images, siglip.embed_texts(batch["prompts"]).embeddings),
        "ccs": primitives.ccs(images, siglip.embed_texts(checklists).embeddings),
        "dd": primitives.dd(probe.logits(images), labels),
        "sfs": primitives.sfs(images, references),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(rows[name], values.numpy(), atol=1e-5)
    np.testing.assert_allclose(rows["cas"], torch.stack([*expected.values()]).mean(0), atol=1e-5)
    found = metric.compute()
    assert int(found["n"]) == 12
    assert float(found["cas"]) == pytest.approx(rows["cas"].mean())


def test_an_image_counts_once_also_over_ranks(
    metric: ClinicalAlignmentScore, batch: dict, siglip: Encoder, probe: Probe, folders: Folders
) -> None:
    other = ClinicalAlignmentScore(siglip, probe, load_domain(folders.domain))
    metric.update(**_part(batch, 0, 8))
    other.update(**_part(batch, 6, 12))
    metric.merge_state(other)
    assert metric.rows()["id"].tolist() == batch["ids"]
    assert int(metric.compute()["n"]) == 12


#: First image and the one after the last of each rank; 6 and 7 come to both.
SHARES = [(0, 8), (6, 12)]


def test_ranks_synchronise_and_count_an_image_once(
    metric: ClinicalAlignmentScore,
    batch: dict,
    probe: Probe,
    siglip_directory: Path,
    folders: Folders,
    tmp_path: Path,
) -> None:
    files = (siglip_directory, tmp_path / "probe.safetensors", folders.domain)
    probe.save(files[1])
    # Forked, because each would import everything again otherwise; they compute in one thread.
    arguments = (tmp_path, files, batch)
    torch.multiprocessing.start_processes(_rank, arguments, len(SHARES), start_method="fork")
    metric.update(**batch)
    alone = metric.compute()
    for rank, (start, stop) in enumerate(SHARES):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, value in alone.items():
            torch.testing.assert_close(found["named"][name], value, atol=2e-6, rtol=0)
        # Without ids nobody can tell that two images came twice.
        assert int(found["nameless"]["n"]) == 14
        assert int(found["lonely"]["n"]) == 6
        # Afterwards a rank holds its own images again.
        assert found["own"] == list(range(100 + start, 100 + stop))


def _rank(rank: int, folder: Path, files: tuple[Path, Path, Path], batch: dict) -> None:
    """One process of a group: images with ids, images without, and images of the last rank only."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=rank, world_size=len(SHARES)
    )
    directory, probe, domain = files
    encoder = load_encoder(directory, device="cpu")
    metrics = {
        name: ClinicalAlignmentScore(encoder, Probe.load(probe, encoder), load_domain(domain))
        for name in ("named", "nameless", "lonely")
    }
    part = _part(batch, *SHARES[rank])
    metrics["named"].update(**part)
    metrics["nameless"].update(**{name: part[name] for name in part if name != "ids"})
    if rank == 1:
        metrics["lonely"].update(**part)
    found = {name: metric.compute() for name, metric in metrics.items()}
    torch.save({**found, "own": metrics["named"].rows()["id"].tolist()}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_without_ids_every_image_counts_and_reset_forgets(
    metric: ClinicalAlignmentScore, batch: dict
) -> None:
    nameless = {name: values[:2] for name, values in batch.items() if name != "ids"}
    metric.update(**nameless)
    metric.update(**nameless)
    assert int(metric.compute()["n"]) == 4
    metric.reset()
    with pytest.raises(InputError, match="no image"):
        metric.compute()


def test_columns_of_a_frame_do_for_texts(metric: ClinicalAlignmentScore, batch: dict) -> None:
    metric.update(**_part(batch, 0, 5))
    expected = metric.rows()
    metric.reset()
    part = _part(batch, 0, 5)
    columns = {name: pd.Series(part[name], index=range(7, 12)) for name in ("labels", "prompts")}
    metric.update(**(part | columns))
    pd.testing.assert_frame_equal(metric.rows(), expected)


def test_plot_draws_one_bar_or_point_a_score(metric: ClinicalAlignmentScore, batch: dict) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    metric.update(**_part(batch, 0, 3))
    figure, _ = metric.plot()
    assert figure is not None


def test_what_does_not_fit_is_refused(
    metric: ClinicalAlignmentScore, batch: dict, siglip: Encoder, probe: Probe, folders: Folders
) -> None:
    domain = load_domain(folders.domain)
    with pytest.raises(InputError, match="equally many"):
        metric.update(**{**batch, "labels": batch["labels"][:3]})
    with pytest.raises(InputError, match="glaucoma"):
        metric.update(**{**batch, "labels": ["glaucoma"] * 12})
    stranger = Probe(probe.classes, "other", probe.weight, probe.bias)
    with pytest.raises(InputError, match="another encoder"):
        ClinicalAlignmentScore(siglip, stranger, domain)
    classes = Probe(("a", "b"), probe.fingerprint, probe.weight, probe.bias)
    with pytest.raises(InputError, match="tells apart a, b"):
        ClinicalAlignmentScore(siglip, classes, domain)


def test_without_torchmetrics_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    spec = importlib.util.spec_from_file_location("metric_again", metric_module.__file__)
    with pytest.raises(MissingDependency, match="torchmetrics") as caught:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    assert "cas-metric[metrics]" in caught.value.fix


def test_ids_below_0_are_refused(metric: ClinicalAlignmentScore, batch: dict) -> None:
    """They would name no image: those that the metric gives itself are negative."""
    with pytest.raises(InputError, match="ids count from 0"):
        metric.update(**{**batch, "ids": [-1, *batch["ids"][1:]]})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x * 2 - 1, "2 \\+ 0.5"),
        (lambda x: x * 255, "images / 255"),
        (lambda x: (x * 255).to(torch.uint8), "divide 8-bit images by 255"),
        (lambda x: x.masked_fill(x > 0.5, float("nan")), "not numbers"),
        (lambda x: x[:, 0], "channels first"),
    ],
)
@pytest.mark.parametrize("which", ["images", "references"])
def test_ranges_are_checked_like_shapes(
    metric: ClinicalAlignmentScore, batch: dict, which: str, spoil: object, message: str
) -> None:
    part = _part(batch, 0, 3)
    part[which] = spoil(part[which])
    with pytest.raises(InputError, match=message):
        metric.update(**part)
    assert not metric.keys


def test_a_clone_shares_the_encoder_and_counts_for_itself(
    metric: ClinicalAlignmentScore, batch: dict
) -> None:
    metric.update(**_part(batch, 0, 2))
    twin = metric.clone()
    twin.update(**_part(batch, 2, 5))
    assert twin.encoder is metric.encoder
    assert twin.probe is metric.probe
    assert (len(metric.rows()), len(twin.rows())) == (2, 5)
    assert metric.compute()["n"] == 2
    assert twin.compute()["n"] == 5


def test_names_do_for_encoder_domain_and_probe(
    siglip_directory: Path, probe: Probe, folders: Folders, batch: dict, tmp_path: Path
) -> None:
    probe.save(tmp_path / "probe.safetensors")
    named = ClinicalAlignmentScore(
        str(siglip_directory), tmp_path / "probe.safetensors", str(folders.domain)
    )
    named.update(**_part(batch, 0, 2))
    assert len(named.rows()) == 2


def test_a_pickled_metric_goes_on_where_it_was(
    metric: ClinicalAlignmentScore, batch: dict, tmp_path: Path
) -> None:
    metric.update(**_part(batch, 0, 5))
    (tmp_path / "metric.pickle").write_bytes(pickle.dumps(metric))
    again = pickle.loads((tmp_path / "metric.pickle").read_bytes())
    for one in (metric, again):
        one.update(**_part(batch, 5, 12))
    pd.testing.assert_frame_equal(again.rows(), metric.rows())
    assert metric.clone().encoder is metric.encoder
