import numpy as np
import pandas as pd
from tests.support.rankings import draw

from cas_metric.statistics.position_bias import position_bias
from cas_metric.statistics.preference import Rankings, parse_rankings


def test_places_known_for_a_few_rankings_are_judged_by_these():
    rng = np.random.default_rng(5)
    ranks, places = (np.concatenate([rng.permutation(3) + 1 for _ in range(30)]) for _ in "rp")
    table = pd.DataFrame({"case": np.repeat(range(30), 3), "method": list("ABC") * 30})
    table = table.assign(rank=ranks, position=places.astype(str))
    few = table.assign(position=table["position"].where(table["case"] < 10, " "))
    found = position_bias(parse_rankings(few), exchanges=99)
    assert found == position_bias(parse_rankings(table[table["case"] < 10]), exchanges=99)
    assert found.n == 10
    assert position_bias(parse_rankings(table.assign(position=""))) is None


def test_an_empty_column_of_positions_is_no_column():
    table = pd.DataFrame({"case": [1, 1], "method": ["A", "B"], "rank": [1, 2], "position": None})
    assert parse_rankings(table).positions is None


def test_position_bias_is_found_and_not_invented():
    rng = np.random.default_rng(10)
    rankings = draw(n_cases=300, raters=1, seed=11)
    shown = rng.permuted(np.tile(np.arange(1.0, 5.0), (300, 1)), axis=1)
    fair = position_bias(rankings._replace(positions=shown))
    assert fair.p > 0.01
    biased = position_bias(rankings._replace(ranks=shown, positions=shown))
    assert biased.p < 1e-3  # as small as 2,000 exchanges can say
    assert biased.top1[1] == 1.0
    assert biased.mean_rank == {1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0}
    assert position_bias(rankings) is None


def test_raters_who_saw_one_order_are_one_witness_of_it():
    rng = np.random.default_rng(13)
    alarms = 0
    for run in range(120):
        cases = np.repeat(np.arange(12), 6)
        worth = rng.normal(size=(12, 3))[cases]
        ranks = np.argsort(np.argsort(-worth - 0.3 * rng.gumbel(size=worth.shape), axis=1), axis=1)
        orders = rng.permuted(np.tile(np.arange(1.0, 4.0), (12, 1)), axis=1)[cases]
        data = Rankings(("A", "B", "C"), cases, np.tile(np.arange(6), 12), ranks + 1.0, orders)
        alarms += position_bias(data, exchanges=99, seed=run).p < 0.05
    assert alarms / 120 < 0.12


def test_a_method_always_in_one_place_is_confounded():
    rankings = draw(n_cases=50, raters=1, m=3, seed=14)
    found = position_bias(rankings._replace(positions=np.tile([1.0, 2.0, 3.0], (50, 1))))
    assert found.confounded == ("A", "B", "C")
    assert np.isnan(found.p)
