"""Retrosynthesis: how a molecule can be made from what can be bought.

Templates are read from mapped reactions, a one-step model chooses among them, a search strings them together, and PDVN
trains the one-step model on what the searches find.

>>> found = extract(reactions)                                           # templates
>>> policy = TemplatePolicy.for_dataset(found).fit(reactions, seed=0)
>>> result = plan("CC(=O)Nc1ccc(O)cc1", Inventory.read("stock.smi"), policy)
>>> result.best, result.write("routes")
"""

from .config import PDVNConfig, PolicyConfig
from .generate import Candidates, generate_and_plan
from .inventory import Inventory
from .pdvn import PDVNResult, Round, imitate, pdvn_train
from .plan import Plan, Plans, plan
from .policy import Suggestion, TemplatePolicy
from .routes import Made, Route, Step
from .templates import Extraction, TemplateError, Templates, apply, extract, recovery, template_of
from .values import DualValues

__all__ = [
    "Candidates",
    "DualValues",
    "Extraction",
    "Inventory",
    "Made",
    "PDVNConfig",
    "PDVNResult",
    "Plan",
    "Plans",
    "PolicyConfig",
    "Round",
    "Route",
    "Step",
    "Suggestion",
    "TemplateError",
    "TemplatePolicy",
    "Templates",
    "apply",
    "extract",
    "generate_and_plan",
    "imitate",
    "pdvn_train",
    "plan",
    "recovery",
    "template_of",
]
