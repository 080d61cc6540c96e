"""The README's tour: every command of it, in its order, on the demo data of a fresh database, answers as printed."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask_migrate import upgrade
from sqlalchemy import create_engine, text

from api.app import create_app
from api.cli.serve import DEMO_DATA
from api.extensions import db

README = Path(__file__).parent.parent / "README.md"


def exchanges():
    """Command and printed answer, of all console blocks."""
    for block in re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL):
        for exchange in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, answer = exchange.partition("\n")
            yield shlex.split(command), answer.rstrip("\n")


@pytest.fixture(scope="module")
def demo(settings):
    """A client of an application on a database of its own, filled as `make run` fills an empty one."""
    engine = create_engine(settings.database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("CREATE DATABASE readme"))
    application = create_app(replace(settings, database_url=settings.database_url.rsplit("/", 1)[0] + "/readme"))
    with application.app_context():
        upgrade()
        result = application.test_cli_runner().invoke(args=["seed", *DEMO_DATA])
        assert result.exit_code == 0, result.output
    yield application.test_client()
    with application.app_context():
        db.session.remove()
        db.engine.dispose()
    with engine.connect() as connection:
        connection.execute(text("DROP DATABASE readme"))
    engine.dispose()


def perform(client, words):
    """What curl would print for this command."""
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
            case "-d":
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
    return response.text + (str(response.status_code) if prints_status else "")


def test_every_command_of_the_tour_answers_as_printed(demo):
    commands = [*exchanges()]
    assert len(commands) > 10
    for words, printed in commands:
        assert perform(demo, words) == printed
