"""The application's extensions, unbound; `create_app()` binds them."""

from flask_migrate import Migrate

from api.core.database.extension import Database

db = Database()
migrate = Migrate(compare_type=True, render_as_batch=False)

__all__ = ["db", "migrate"]
