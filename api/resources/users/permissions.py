"""Who may do what with users: everybody with themselves, except for what gives them rights."""

from api.core.access.policy import Policy
from api.core.access.predicates import in_person, owner, role
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
    # One's own names and password are changed where the old password is asked for. What lets somebody in, or gives
    # rights, is for people: an API key that could set it would be as good as a login.
    writable={
        "username": admin,
        "email": admin,
        "is_active": admin & in_person,
        "password": admin & in_person,
        "role_ids": admin & in_person,
    },
    parts=(Profile,),
)
