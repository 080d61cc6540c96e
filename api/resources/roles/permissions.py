"""Who may do what with roles: their names are what permissions are given to, and so they are for people to write."""

from api.core.access.policy import Policy
from api.core.access.predicates import in_person, role

admin = role("admin")
manager = role("manager", "admin")

POLICY = Policy(
    {
        "read": manager,
        "create": admin & in_person,
        "update": admin & in_person,
        "delete": admin & in_person,
        "restore": admin & in_person,
        "export": admin,
        "import": admin & in_person,
        "see_deleted": admin,
    }
)
