"""The README's tour: every command of it, in its order, on the demo data of a fresh database, answers as printed."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask_migrate import upgrade
from sqlalchemy import create_engine, text

from api.cli.serve import DEMO_DATA
from api.extensions import db
from tests.apps import create_app
from tests.callers import as_caller
from tests.docs.test_documents import execute, gives_

README = Path(__file__).parent.parent / "README.md"


def exchanges():
    """Command and printed answer, of all console blocks."""
    for block in re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL):
        for exchange in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = exchange.rstrip("\n").split("\n")
            end = next(end for end in range(1, len(lines) + 1) if is_complete("\n".join(lines[:end])))
            yield "\n".join(lines[:end]), "\n".join(lines[end:])


LOGIN = re.compile(
    r"(?P<name>[A-Z]+)=\$\((?P<curl>curl .*) \| "
    r"""python3 -c 'import json, sys; print\(json\.load\(sys\.stdin\)\["(?P<field>\w+)"\]\)'\)"""
)


def is_complete(command):
    """Whether no quote is open, as it is in the middle of a body of several lines."""
    try:
        shlex.split(command)
    except ValueError:
        return False
    return True


@pytest.fixture(scope="module")
def demo(settings):
    """A client of an application on a database of its own, filled as `make run` fills an empty one."""
    engine = create_engine(settings.migration_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE readme"))
    url = settings.migration_url.rsplit("/", 1)[0] + "/readme"
    application = create_app(replace(settings, database_url=url, migration_url=""))
    with application.app_context():
        upgrade()
        result = application.test_cli_runner().invoke(args=["seed", *DEMO_DATA])
        assert result.exit_code == 0, result.output
    yield as_caller(application.test_client(), None)
    with application.app_context():
        db.session.remove()
        db.engine.dispose()
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE readme"))
    engine.dispose()


def matches(printed, answer):
    """Whether `answer` is as `printed`, in which `…` stands for what differs each time."""
    return re.fullmatch(".*".join(map(re.escape, printed.split("…"))), answer) is not None


def perform(client, words, variables):
    """What this command would print."""
    words = [re.sub(r"\$([A-Z]+)", lambda name: variables[name[1]], word) for word in words]
    if words[0] == ".venv/bin/flask":
        return client.application.test_cli_runner().invoke(args=words[1:]).output.rstrip("\n")
    assert words[0] == "curl"
    method, headers, body, prints_status, url = None, {}, None, False, ""
    rest = iter(words[1:])
    for word in rest:
        match word:
            case "-s":
                pass
            case "-X":
                method = next(rest)
            case "-H":
                name, _, value = next(rest).partition(": ")
                headers[name] = value
            case "-d" | "--data-binary":
                body = next(rest)
            case "-w":
                assert next(rest) == r"%{http_code}\n"
                prints_status = True
            case _:
                url = word
    parts = urlsplit(url)
    assert parts.netloc == "127.0.0.1:8000"
    response = client.open(
        parts.path, method=method or ("POST" if body else "GET"), query_string=parts.query, headers=headers, data=body
    )
    return (response.text + (str(response.status_code) if prints_status else "")).rstrip("\n")


def test_every_command_of_the_tour_answers_as_printed(demo):
    commands = [*exchanges()]
    assert len(commands) > 10
    variables = {}
    for command, printed in commands:
        if login := LOGIN.fullmatch(command):
            answer = perform(demo, shlex.split(login["curl"]), variables)
            variables[login["name"]] = json.loads(answer)[login["field"]]
        else:
            assert matches(printed, perform(demo, shlex.split(command), variables)), command
    (script,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    with demo.application.app_context():
        execute(script, {"gives_": gives_})
        db.session.remove()
