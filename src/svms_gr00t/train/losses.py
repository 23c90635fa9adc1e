"""One sum of named terms, from which none can go missing."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor


def total_loss(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Float[Tensor, "*b"]:
    """sum_i weight_i * term_i, of a batch's terms or of each sample's. Switch a term off with weight 0.

    Raises KeyError for a term without a weight or a weight without a term: names that do not meet train nothing.
    """
    if terms.keys() != weights.keys():
        raise KeyError(f"the model emits {sorted(terms)} but the phase weighs {sorted(weights)}")
    weighed = [weights[name] * value for name, value in terms.items() if weights[name]]
    return sum(weighed[1:], start=weighed[0])
