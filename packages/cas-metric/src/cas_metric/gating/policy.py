"""What a policy file says: the rules that a run must meet, and how sure a decision must be.

.. code-block:: yaml

    confidence: 0.99              # of all decisions of a gate together
    baseline: runs/main           # beside this file; `cas gate --baseline` replaces it
    rules:
      - {metric: cas, at_least: 0.45}
      - {metric: cas, against: baseline, margin: 0.02}
      - {metric: dd, against: floor, margin: 0.1, class: Pneumonia}
      - {metric: low_rate, at_most: 0.4}
      - {metric: failed, at_most: 0}
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from cas_metric.domains.reading import MAX_BYTES, Document, nearest, parse_yaml
from cas_metric.errors import InputError
from cas_metric.files import read_text

#: Shares that are no mean of a column: of images below tau, and of images that failed.
LOW_RATE: Final = "low_rate"
FAILED: Final = "failed"
#: Quantities of which less is better.
LOWER_IS_BETTER: Final = (LOW_RATE, FAILED)
#: Every class in turn, in place of the name of one.
EACH: Final = "each"


class Rule(BaseModel):
    """One demand on a run.

    Attributes:
        metric: A column of scores (its mean is judged), ``low_rate`` or ``failed``.
        at_least: Lowest value allowed.
        at_most: Highest value allowed.
        against: Hold it against the run's ``real`` images, its ``floor``, or a ``baseline`` run,
            case by case.
        margin: By how much it may be worse than that.
        label: ``class`` in the file: judge the images of this class alone; ``each`` for every one.
        method: Judge this method alone; every method of the run by default.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    metric: str
    at_least: FiniteFloat | None = None
    at_most: FiniteFloat | None = None
    against: Literal["real", "floor", "baseline"] | None = None
    margin: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    label: str | None = Field(default=None, alias="class")
    method: str | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Rule:
        given = [self.at_least is not None, self.at_most is not None, self.against is not None]
        if sum(given) != 1:
            raise ValueError("needs exactly one of at_least, at_most and against")
        if self.margin and self.against is None:
            raise ValueError("margin belongs to against: write the limit itself")
        if self.metric in LOWER_IS_BETTER and self.at_least is not None:
            raise ValueError(f"the less {self.metric} the better: write at_most")
        if self.metric == FAILED and self.against is not None:
            raise ValueError("failed is a plain count: write at_most")
        if self.metric == LOW_RATE and self.against in ("real", "floor"):
            raise ValueError("low_rate of Real is its quantile: write at_most")
        return self

    @property
    def text(self) -> str:
        """The demand in words."""
        if self.at_least is not None:
            return f"{self.metric} at least {self.at_least:g}"
        if self.at_most is not None:
            return f"{self.metric} at most {self.at_most:g}"
        slack = f" by more than {self.margin:g}" if self.margin else ""
        word = "above" if self.metric in LOWER_IS_BETTER else "below"
        return f"{self.metric} not {word} {self.against}{slack}"


class Policy(BaseModel):
    """The rules of a gate.

    Attributes:
        confidence: At least so surely no unchanged run fails, all rules together.
        baseline: Run that ``against: baseline`` means.
        rules: All must be met.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.99
    baseline: Path | None = None
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]


def read_policy(path: str | Path) -> Policy:
    """Read a policy; its paths are relative to the file.

    Raises:
        InputError: No YAML, an unknown key or a rule that says nothing, or too much. The message
            names the line.

    Examples:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "policy.yaml"
        >>> _ = file.write_text("rules: [{metric: cas, at_least: 0.4}]")
        >>> read_policy(file).rules[0].text
        'cas at least 0.4'
    """
    place = Path(path)
    if not place.is_file():
        raise InputError(
            f"{place}: no such file", fix="write a policy; `cas gate --help` shows one"
        )
    document = parse_yaml(read_text(place, limit=MAX_BYTES), str(place))
    try:
        policy = Policy.model_validate(document.values)
    except ValidationError as error:
        raise _explain(error, document) from error
    if policy.baseline is None:
        return policy
    return policy.model_copy(update={"baseline": (place.parent / policy.baseline).resolve()})


def _explain(error: ValidationError, document: Document) -> InputError:
    """An unknown key, else the first complaint of pydantic, with its line.

    A misspelt key is also missing under its right name, which says less.
    """
    details = error.errors()
    detail = next((one for one in details if one["type"] == "extra_forbidden"), details[0])
    place = tuple(detail["loc"])
    if detail["type"] == "extra_forbidden":
        key = str(place[-1])
        model = Rule if len(place) > 1 else Policy
        known = [field.alias or name for name, field in model.model_fields.items()]
        fix = nearest(key, known) or f"known keys: {', '.join(known)}"
        return document.error(place, f"unknown key {key!r}", fix.strip())
    where = ".".join(str(part + 1) if isinstance(part, int) else part for part in place)
    message = detail["msg"].removeprefix("Value error, ")
    fix = "`cas gate --help` shows a policy"
    return document.error(place, f"{where or 'policy'}: {message}", fix)
