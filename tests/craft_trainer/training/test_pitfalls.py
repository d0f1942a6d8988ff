"""Pitfalls of finetuning diffusion models, each seen in the field, and the tests that cover them.

The tests stand beside what they test; here is which one is for which pitfall, so that none gets
lost when a test is renamed.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

#: Pitfall to the tests that fail where it is stepped into.
COVERED: dict[str, tuple[str, ...]] = {
    "LoRA targets by bare names also hit self-attention": (
        "test_loading.py::test_lora_is_on_cross_attention_alone_and_in_float32",
    ),
    "LoRA in bfloat16 does not move at 1e-5": (
        "test_loading.py::test_an_update_of_1e_5_survives_on_a_bfloat16_base",
    ),
    "clipping an exhausted iterator of parameters clips nothing": (
        "test_trainer.py::test_clipping_clips_what_the_optimizer_sees",
    ),
    "resuming by load_lora activates a second adapter, and the first gets no gradient": (
        "test_loading.py::test_an_artefact_loads_into_the_one_adapter_that_is_trained",
        "test_resume.py::test_ten_steps_are_five_a_kill_and_five_more",
    ),
    "without its alpha a saved adapter is another one": (
        "test_loading.py::test_alpha_stands_in_the_file",
        "test_loading.py::test_a_fresh_diffusers_pipeline_gives_the_same_images",
    ),
    "calling the raw module of a distributed one averages no gradients": (
        "test_ranks.py::test_two_processes_learn_what_one_with_twice_the_batch_learns",
    ),
    "a graph over all steps that is thrown away": (
        "test_sampling.py::test_prefix_builds_no_graph_and_tail_builds_one_of_k_steps",
        "test_sampling.py::test_gradient_equals_the_written_out_truncation",
    ),
    "truncation drawn anew within a trajectory; a gradient through one branch of guidance": (
        "test_schema.py::test_mistakes_are_named",
        "test_sampling.py::test_stopping_the_unconditional_gradient_keeps_the_value_and_changes_"
        "the_gradient",
    ),
    "a bare scheduler clips samples; spacing decides how noisy the last step is": (
        "test_sampling.py::test_clipping_comes_from_the_models_configuration",
        "test_sampling.py::test_spacing_decides_how_noisy_the_last_step_is",
    ),
    "a schedule on the CPU makes every step of a GPU wait": (
        "test_sampling.py::test_the_schedule_lives_where_the_latents_do",
        "test_forward_process.py::test_the_schedule_lives_where_the_latents_do",
    ),
    "the prediction type of the base model; black images in half precision": (
        "test_forward_process.py::test_the_loss_of_a_v_prediction_model_is_that_of_the_velocity",
        "test_sampling.py::test_gradient_equals_the_written_out_truncation",
        "test_schema.py::test_mistakes_are_named",
    ),
    "tokens of several vectors are spelt out by the pipeline alone; the whole table learns": (
        "test_loading.py::test_a_fresh_diffusers_pipeline_gives_the_same_images",
        "test_families.py::test_sdxl_tokens_of_two_vectors_are_read_back_by_diffusers",
        "test_loading.py::test_only_the_learned_vectors_get_a_gradient",
    ),
    "the prefix dominates the cost, and M independent trajectories cost it M times": (
        "test_estimate.py::test_forwards_are_those_of_a_real_step",
        "test_sampling.py::test_renoising_costs_one_prefix_and_resampling_one_a_repeat",
        "test_sampling.py::test_renoising_is_unbiased_for_the_last_step_gradient",
    ),
    "noise, grids, one reward against another, collapse: rewards rise and images get worse": (
        "test_trainer.py::test_rewards_and_their_gradients_are_logged_per_dimension",
        "test_reward_hacking.py::test_a_statistic_that_leaves_its_band",
        "test_reward_hacking.py::test_the_spectrum_knows_noise_and_grids",
        "test_heldout.py::test_the_artefact_can_be_the_best_weights",
        "test_watch.py::test_the_artefact_holds_the_best_weights_by_the_held_out_encoder",
    ),
}


@pytest.mark.parametrize("pitfall", COVERED)
def test_what_covers_a_pitfall_is_there(pitfall: str) -> None:
    for name in COVERED[pitfall]:
        file, _, function = name.partition("::")
        (path,) = Path(__file__).parents[1].rglob(file)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
