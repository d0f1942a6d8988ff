"""What the encoder is asked of the real images."""

from pathlib import Path

from tests.support.clinical_crops import read_metadata, write_folders, write_metadata

import cas_metric
from cas_metric.encoders import Encoder


def test_a_question_of_two_prompts_has_an_interval_of_shares(
    siglip: Encoder, tmp_path: Path
) -> None:
    """Two prompts are two cases, of which Student's limits reach far below nothing."""
    folders = write_folders(tmp_path / "data")
    rows = read_metadata(folders.test)
    for row in rows:
        row["prompt"] = f"a picture of {row['label'] == rows[0]['label']}"
    write_metadata(folders.test, rows)
    run = cas_metric.score(
        folders.generated, folders.test, encoder=siglip, cache=tmp_path / "cache"
    )
    found = run.summary["self_test"]["vdc"]
    assert 0 <= found["low"] <= found["score"] <= found["high"] <= 1
