"""Stage 1: prompts and checklists from a multimodal language model (§3.1, Appendix B).

The label of an image goes into the question as a constraint, the domain pack's schema decides
which answers are accepted, and what is not accepted is listed and never passed on.
"""

from craft_trainer.enrichment.checklists import draft_pack, questions_for_checklists
from craft_trainer.enrichment.questions import enriched_prompt, question
from craft_trainer.enrichment.results import Enrichment, write_enrichment
from craft_trainer.enrichment.rows import TrainingRows, read_rows

__all__ = [
    "Enrichment",
    "TrainingRows",
    "draft_pack",
    "enriched_prompt",
    "question",
    "questions_for_checklists",
    "read_rows",
    "write_enrichment",
]
