"""The application for a gunicorn of the tests, whose clients are all an admin."""

from api.app import create_app
from tests.callers import ADMIN, accept_callers, served_as

app = served_as(accept_callers(create_app()), ADMIN)
