"""Who may do what with tags."""

from api.core.access.policy import Policy
from api.core.access.predicates import anyone, role

manager = role("manager", "admin")

POLICY = Policy(
    {
        "read": anyone,
        "create": manager,
        "update": manager,
        "delete": manager,
        "restore": manager,
        "history": manager,
        "export": manager,
        "import": manager,
        "see_deleted": manager,
    }
)
