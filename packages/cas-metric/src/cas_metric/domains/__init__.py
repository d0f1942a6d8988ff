"""Domain packs: the classes, checklists and prompt schema of a modality, in one YAML file.

A pack is data: anyone who holds images of another modality writes one file and scores with it.
"""

from cas_metric.domains.loading import (
    DomainSummary,
    list_domains,
    load_domain,
    pack_file,
    parse_domain,
    user_directory,
)
from cas_metric.domains.model import Domain, DomainClass, RankingCriteria
from cas_metric.domains.prompts import PromptField, PromptSchema
from cas_metric.domains.template import new_pack

__all__ = [
    "Domain",
    "DomainClass",
    "DomainSummary",
    "PromptField",
    "PromptSchema",
    "RankingCriteria",
    "list_domains",
    "load_domain",
    "new_pack",
    "pack_file",
    "parse_domain",
    "user_directory",
]
