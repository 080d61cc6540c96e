"""How gunicorn serves the peers that are WSGI: as its documentation recommends, with threads."""

from __future__ import annotations

import os

bind = f"{os.environ['BIND_HOST']}:{os.environ['PORT']}"
worker_class = "gthread"
workers = int(os.environ["WORKERS"])
threads = int(os.environ["THREADS"])
keepalive = 5
control_socket_disable = True
