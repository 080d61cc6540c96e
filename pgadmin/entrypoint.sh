#!/bin/sh
# Fills the variables of servers.json, so that .env stays the one place that names user and database.
set -eu
/venv/bin/python3 -c 'import os, sys; sys.stdout.write(os.path.expandvars(sys.stdin.read()))' \
  < /preset/servers.json > "$PGADMIN_SERVER_JSON_FILE"
exec /entrypoint.sh "$@"
