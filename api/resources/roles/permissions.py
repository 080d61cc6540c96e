"""Who may do what with roles: to give a role is to give what it may do."""

from api.core.access.policy import Policy
from api.core.access.predicates import role

admin = role("admin")
manager = role("manager", "admin")

POLICY = Policy(
    {
        "read": manager,
        "create": admin,
        "update": admin,
        "delete": admin,
        "restore": admin,
        "export": admin,
        "import": admin,
        "see_deleted": admin,
    }
)
