"""Who may do what with users: everybody with themselves, except for what gives them rights."""

from api.core.access.policy import Policy
from api.core.access.predicates import owner, role
from api.resources.users.models import Profile

admin = role("admin")
manager = role("manager", "admin")
self = owner("id")

POLICY = Policy(
    {
        "read": self | manager,
        "create": admin,
        "update": self | admin,
        "delete": admin,
        "restore": admin,
        "history": self | admin,
        "export": self | manager,
        "import": admin,
        "see_deleted": admin,
    },
    # One's own password is changed where the old one is asked for.
    writable={"is_active": admin, "password": admin, "role_ids": admin},
    parts=(Profile,),
)
