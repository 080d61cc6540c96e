"""Who may do what with orders: customers with their own, as far as they do not settle what is paid and sent."""

from api.core.access.policy import Policy
from api.core.access.predicates import owner, role
from api.resources.orders.models import OrderItem

manager = role("manager", "admin")
customer = owner("user_id")

POLICY = Policy(
    {
        "read": customer | manager,
        "create": customer | manager,
        "update": customer | manager,
        "delete": manager,
        "restore": manager,
        "history": customer | manager,
        "export": customer | manager,
        "see_deleted": manager,
    },
    writable={"status": manager},
    parts=(OrderItem,),
)
