"""Every example of the users' documents does what the document says.

    python     is executed, in an empty database and one namespace a section; `# → 3` is what its statement must give
    console    `curl` commands are sent to the application; it must answer what the document shows
    bash       `flask` commands are run in the order of the document
    diff       is applied to a copy of the project

`…` in what a document shows stands for anything.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from tokenize import COMMENT, generate_tokens
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg2
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from api import config, create_app
from api.core.database import retention
from api.core.http.views import ALLOW_LISTS
from api.extensions import db

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENTS = [path for path in (PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))) if path.is_file()]
# What Python has made of the files goes along: the copy would be compiled anew.
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "instance", ".env.local", ".*_cache", ".hypothesis")
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)


# -- documents --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A fenced block, and the last line of the text in front of it."""

    language: str
    code: str
    before: str


@dataclass(frozen=True)
class Section:
    title: str
    content: str

    def sections(self, level: int) -> list[Section]:
        """The parts below headings of a level, at least 2: a comment in code looks like a heading of level 1."""
        parts = re.split(rf"^{'#' * level} (.+)\n", self.content, flags=re.MULTILINE)
        return [Section(title, content) for title, content in zip(parts[1::2], parts[2::2], strict=True)]

    def section(self, level: int, title: str) -> Section:
        return next(section for section in self.sections(level) if section.title == title)

    def blocks(self, language: str) -> list[Block]:
        return [
            Block(language, dedent(found["code"]), self.content[: found.start()].rstrip().rpartition("\n")[2])
            for found in FENCE.finditer(self.content)
            if found["language"] == language
        ]

    def code(self, language: str) -> str:
        return "\n".join(block.code for block in self.blocks(language))


def read(name: str) -> Section:
    return Section(name, (PROJECT / "docs" / name).read_text(encoding="utf-8"))


def matches(shown: str, actual: str) -> bool:
    """Whether `actual` is what is shown, where `…` is anything."""
    return re.fullmatch(".*".join(map(re.escape, shown.split("…"))), actual, re.DOTALL) is not None


# -- links ------------------------------------------------------------------------------------------------------------


def anchors(markdown: str) -> set[str]:
    """The anchors that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", markdown), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_link_leads_somewhere(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", path.read_text(encoding="utf-8"))):
        if re.match(r"https?:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


# -- Python examples --------------------------------------------------------------------------------------------------


class _Asserting(ast.NodeTransformer):
    """Turns `statement  # → value` into an assertion; the comment may also stand on the line below the statement."""

    def __init__(self, code: str) -> None:
        comments = [token for token in generate_tokens(StringIO(code).readline) if token.type == COMMENT]
        self.expected = {
            (token.start[0], token.start[1] if token.line.strip() == token.string else None): token.string[4:]
            for token in comments
            if token.string.startswith("# → ")
        }

    def visit(self, node: ast.AST) -> Any:
        # Statements within come first, so that a comment behind the last of them is theirs.
        self.generic_visit(node)
        if not isinstance(node, ast.stmt) or node.end_lineno is None:
            return node
        for place in ((node.end_lineno, None), (node.end_lineno + 1, node.col_offset)):
            if place in self.expected:
                return self._asserted(node, self.expected.pop(place))
        return node

    def _asserted(self, node: ast.stmt, expected: str) -> ast.stmt | list[ast.stmt]:
        raised = expected.removeprefix("raises ")
        if raised != expected:
            assertion = ast.parse(f"with raises_({raised!r}): pass").body[0]
            assertion.body = [node]  # type: ignore[attr-defined]
            return assertion
        if isinstance(node, ast.Expr):
            call = ast.parse(f"gives_(None, {expected!r})").body[0]
            call.value.args[0] = node.value  # type: ignore[attr-defined]
            return call
        assert isinstance(node, ast.Assign), ast.unparse(node)
        return [node, ast.parse(f"gives_({ast.unparse(node.targets[0])}, {expected!r})").body[0]]


def gives_(value: Any, expected: str) -> None:
    assert matches(expected, repr(value)), f"{value!r} is not {expected}"


@contextmanager
def raises_(expected: str) -> Iterator[None]:
    with pytest.raises(Exception) as caught:
        yield
    name, _, message = expected.partition(": ")
    assert type(caught.value).__name__ == name
    assert not message or str(caught.value) == message


def execute(code: str, namespace: dict[str, Any]) -> None:
    asserting = _Asserting(code)
    tree = ast.fix_missing_locations(asserting.visit(ast.parse(code)))
    assert not asserting.expected, f"of no statement: {asserting.expected}"
    exec(compile(tree, f"<example>\n{code}", "exec", dont_inherit=True), namespace)  # noqa: S102 - the examples are ours


def run_section(app: Flask, title: str, tmp_path: Path) -> None:
    """Execute the Python blocks of a section of the database guide, with the names and the rows that it promises."""
    guide = read("DATABASE.md")
    titles = [section.title for section in guide.sections(2)]
    namespace = app.make_shell_context() | {"gives_": gives_, "raises_": raises_, "__name__": "example"}
    if titles.index(title) > titles.index("Querying Data"):
        execute(guide.section(2, "Querying Data").section(3, "Sample Data").code("python"), namespace)
    for block in guide.section(2, title).blocks("python"):
        script = re.match(r"# (\w+\.py)\n", block.code)
        if script is None:
            execute(block.code, namespace)
            continue
        (tmp_path / script[1]).write_text(block.code, encoding="utf-8")
        printed = python(PROJECT, app.config["SQLALCHEMY_DATABASE_URI"], str(tmp_path / script[1])).stdout
        assert printed.strip() == block.code.rpartition("# → ")[2].strip()


def python(project: Path, url: str, *arguments: str, standard_input: str = "") -> subprocess.CompletedProcess[str]:
    """A Python of its own, with the project or a copy of it, on the database at `url`."""
    known = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    own = {"DATABASE_URL": url, "APP_ENV": "test", "LOG_LEVEL": "WARNING", "PYTHONPATH": str(project)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=known | own,
        input=standard_input,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


def begin_with_id_1() -> None:
    tables = ", ".join(table.name for table in db.metadata.sorted_tables)
    with db.owner_transaction() as owner:
        owner.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))


EXECUTED = [section for section in read("DATABASE.md").sections(2) if section.blocks("python")]
MIGRATIONS = "Database Migrations"
ISOLATED = [section.title for section in EXECUTED if "db.Model)" in section.code("python")]


@pytest.fixture(autouse=True)
def purgers_as_before(monkeypatch):
    """An example registers a purger; other tests get those that there were."""
    monkeypatch.setattr(retention, "_PURGERS", dict(retention._PURGERS))


@pytest.mark.parametrize(
    "title", [section.title for section in EXECUTED if section.title not in {*ISOLATED, MIGRATIONS}]
)
def test_the_database_guide_shows_what_happens(database, tmp_path, title):
    begin_with_id_1()
    run_section(database, title, tmp_path)
    db.session.rollback()


@pytest.mark.parametrize("title", ISOLATED)
def test_the_database_guide_shows_models_that_work(migrated_url, title):
    """In a process of its own: the models of the examples must not stay among the application's."""
    python(PROJECT, migrated_url, "-c", f"from {__name__} import *; in_its_own_process({title!r})")


def in_its_own_process(title: str) -> None:
    app = create_app()
    with app.app_context(), TemporaryDirectory() as directory:
        run_section(app, title, Path(directory))


# -- migrations -------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project."""
    return Path(shutil.copytree(PROJECT, tmp_path / "project", ignore=NOT_COPIED))


@contextmanager
def new_database(url: str, name: str, copy_of: str = "template0") -> Iterator[str]:
    """The URL of a database of this name on the server at `url`, during the block."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE {copy_of}")
        try:
            yield f"{url.rpartition('/')[0]}/{name}"
        finally:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def scratch_url(server) -> Iterator[str]:
    """An empty database of this test alone."""
    with new_database(server.url, "scratch") as url:
        yield url


@pytest.fixture(scope="module")
def migrated(server) -> Iterator[str]:
    """The name of a database that has all migrations and nothing else."""
    with new_database(server.url, "migrated") as url:
        python(PROJECT, url, "-c", RUN_FLASK, standard_input="flask db upgrade")
        yield "migrated"


@pytest.fixture
def migrated_url(server, migrated) -> Iterator[str]:
    """A database of this test alone that has all migrations."""
    with new_database(server.url, "scratch", copy_of=migrated) as url:
        yield url


def run_flask_commands(app: Flask, commands: str) -> str:
    """Run each line `flask …`; what all of them printed."""
    printed = []
    for command in re.findall(r"^flask (.+)$", commands, re.MULTILINE):
        result = app.test_cli_runner().invoke(args=shlex.split(command))
        assert result.exit_code == 0, f"flask {command}\n{result.output}\n{result.exception!r}"
        printed.append(result.output)
    return "\n".join(printed)


RUN_FLASK = f"import sys; from {__name__} import *; print(run_flask_commands(create_app(), sys.stdin.read()))"


def head_of(project: Path) -> str:
    return str(ScriptDirectory(str(project / "migrations")).get_current_head())


def test_the_migration_commands_work_in_their_order(project, scratch_url):
    commands = read("DATABASE.md").section(2, MIGRATIONS).code("bash").replace("<revision>", head_of(project))
    python(project, scratch_url, "-c", RUN_FLASK, standard_input=f"flask db upgrade\n{commands}")


def test_the_history_commands_work(database):
    history = read("DATABASE.md").section(2, "Advanced Features").section(3, "History")
    printed = run_flask_commands(database, history.code("bash"))
    assert printed.count("emove what is from before") + printed.count("Removed what is from before") == 2


def apply_diff(project: Path, diff: str) -> None:
    """Replace one place of a file; the first line names the file."""
    name, _, hunk = diff.removeprefix("--- ").partition("\n")
    lines = [(line[:1], line[1:]) for line in hunk.splitlines()]
    path = project / name
    content = path.read_text(encoding="utf-8")
    old = "\n".join(line for sign, line in lines if sign in " -")
    assert content.count(old) == 1, f"{name} has not exactly one place that reads\n{old}"
    path.write_text(content.replace(old, "\n".join(line for sign, line in lines if sign in " +")), encoding="utf-8")


def write_migration(project: Path, revision: str, code: str) -> None:
    header = f"import sqlalchemy as sa\nfrom alembic import op\nrevision = {revision!r}\n"
    path = project / "migrations" / "versions" / f"{revision}.py"
    path.write_text(f"{header}down_revision = {head_of(project)!r}\n{code}", encoding="utf-8")


def test_the_worked_migrations_fit_their_models_and_go_both_ways(project, migrated_url):
    before = head_of(project)
    with closing(psycopg2.connect(migrated_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO users (username, email) VALUES ('john', 'j@example.com'), ('jane', 'd@example.com')"
        )
        cursor.execute(
            "INSERT INTO profiles (user_id, full_name) SELECT id, 'Jane Doe' FROM users WHERE username = 'jane'"
        )
    examples = [part for part in read("DATABASE.md").section(2, MIGRATIONS).sections(3) if part.blocks("diff")]
    assert len(examples) == 4
    for number, example in enumerate(examples):
        for block in example.blocks("diff"):
            apply_diff(project, block.code)
        write_migration(project, f"example{number}", example.code("python"))
    there_and_back = f"flask db upgrade\nflask db check\nflask db downgrade {before}\nflask db upgrade\n"
    python(project, migrated_url, "-c", RUN_FLASK, standard_input=there_and_back)
    with closing(psycopg2.connect(migrated_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT username, display_name FROM users ORDER BY id")
        assert cursor.fetchall() == [("john", "john"), ("jane", "Jane Doe")]


# -- curl -------------------------------------------------------------------------------------------------------------


def commands_of(console: str) -> Iterator[tuple[str, str]]:
    """Each `$ command`, which may go over several lines as in a shell, and the output that is shown below it."""
    for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        command = lines.pop(0)
        while command.endswith("\\") or command.count("'") % 2:
            command = f"{command.removesuffix(chr(92))}\n{lines.pop(0)}"
        yield re.sub(r"\n +", " ", command), "\n".join(lines).strip()


def curl_arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    for flags in (("-s", "--silent"), ("-i", "--include"), ("-G", "--get")):
        parser.add_argument(*flags, action="store_true")
    parser.add_argument("-X", "--request")
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("-d", "--data")
    parser.add_argument("--json")
    parser.add_argument("--data-urlencode", action="append", default=[])
    parser.add_argument("-o", "--output")
    parser.add_argument("-w", "--write-out")
    parser.add_argument("url")
    return parser


@dataclass
class Terminal:
    """A shell whose only program is curl, and `jq -r` behind it."""

    client: FlaskClient
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, console: str) -> None:
        """Each `$ command` with the output that is shown below it."""
        for command, shown in commands_of(console):
            self._command(command, shown)

    def _command(self, command: str, shown: str) -> None:
        assigned = re.fullmatch(r"(\w+)=(?:\$\((curl .*) \| jq -r \.(\w+)\)|(.+))", command)
        if assigned is None:
            options, response = self._curl(command)
            self._compare(options, response, shown)
        elif assigned[2]:
            self.variables[assigned[1]] = str(self._curl(assigned[2])[1].json[assigned[3]])
        else:
            (self.variables[assigned[1]],) = shlex.split(assigned[4])

    def _curl(self, command: str) -> tuple[argparse.Namespace, TestResponse]:
        expanded = re.sub(r"\$(\w+)", lambda name: self.variables[name[1]], command)
        options = curl_arguments().parse_args(shlex.split(expanded)[1:])
        assert not re.search(r"[ \"<>{}\[\]]", options.url), f"not for curl: {options.url}"
        path, _, query = re.sub(r"^http://127\.0\.0\.1:8000", "", options.url).partition("?")
        assert all(header.isprintable() for header in options.header), options.header
        headers = [tuple(re.split(r": *", header, maxsplit=1)) for header in options.header]
        if options.get:
            pairs = (item.partition("=") for item in options.data_urlencode)
            encoded = [f"{name}={quote(value, safe='')}" for name, _, value in pairs]
            query, options.data = "&".join(filter(None, [query, *encoded, options.data])), None
        if options.json is not None:
            headers = [("Content-Type", "application/json"), ("Accept", "application/json"), *headers]
        body = options.json if options.json is not None else options.data
        method = options.request or ("GET" if body is None else "POST")
        return options, self.client.open(path, method=method, query_string=query, headers=headers, data=body)

    def _compare(self, options: argparse.Namespace, response: TestResponse, shown: str) -> None:
        if options.write_out:
            written = options.write_out.replace("%{http_code}", str(response.status_code)).replace("\\n", "")
            assert matches(shown, written), response.text
            return
        if options.include:
            head, _, shown = shown.partition("\n\n")
            self._compare_head(response, *head.splitlines())
        else:
            assert response.status_code < HTTPStatus.BAD_REQUEST or "problem" in response.content_type, response.text
        assert (
            same(json.loads(shown), response.json) if shown[:1] in {"{", "["} else matches(shown, response.text.strip())
        ), f"shown is\n{shown}\nbut it answers\n{json.dumps(response.json, indent=2, ensure_ascii=False)}"

    @staticmethod
    def _compare_head(response: TestResponse, status: str, *headers: str) -> None:
        actual = f"HTTP/1.1 {response.status_code} {HTTPStatus(response.status_code).phrase}"
        assert status.lower() == actual.lower(), response.text
        for header in headers:
            name, _, value = header.partition(": ")
            assert matches(value, response.headers[name]), f"{name}: {response.headers[name]}"


def same(shown: Any, actual: Any) -> bool:
    """Whether two JSON values are equal, where `…` in a string is anything."""
    if isinstance(shown, dict) and isinstance(actual, dict):
        return shown.keys() == actual.keys() and all(same(shown[name], actual[name]) for name in shown)
    if isinstance(shown, list) and isinstance(actual, list):
        return len(shown) == len(actual) and all(map(same, shown, actual))
    if isinstance(shown, str) and isinstance(actual, str):
        return matches(shown, actual)
    return type(shown) is type(actual) and shown == actual


def test_the_api_answers_what_its_document_shows(client):
    begin_with_id_1()
    *shown, rows = read("API_DOCUMENTATION.md").sections(2)
    terminal = Terminal(client)
    for section in (rows, *shown):
        terminal.run(section.code("console"))


def test_the_api_document_lists_what_each_resource_allows(app):
    table = read("API_DOCUMENTATION.md").section(2, "Resources").content
    listed = {}
    for row in re.findall(r"^\| `/(\w+)` (.+)\|$", table, re.MULTILINE):
        cells = [set(re.findall(r"`([^`]+)`", cell)) for cell in row[1].split("|")]
        listed[row[0]] = tuple(cells[2:])
    allowed = {
        name: (
            {rule for rule in rules.filters if "." in rule},
            {*(rules.sorts - {"id"}), *(f"{document}.…" for document in rules.sort_documents)},
            set(rules.includes),
        )
        for name, rules in app.extensions[ALLOW_LISTS].items()
    }
    assert listed == allowed


def test_the_api_document_states_the_limits_that_are_set():
    table = read("API_DOCUMENTATION.md").section(2, "Limits").content
    defaults = {name: f"{value:,}" for name, value in settings_of_the_code().items() if isinstance(value, int)}
    for limits, names in re.findall(r"^\| [^|]+ \| ([^|]+) \| (`[^|]+) \|$", table, re.MULTILINE):
        for name in re.findall(r"`(\w+)`", names):
            assert defaults[name].replace(",000", " s" if name.endswith("_MS") else ",000") in limits, name


# -- settings and the first resource ----------------------------------------------------------------------------------


class _Recorder:
    """Stands in for environs: notes which variables are asked for, and answers with their defaults."""

    def __init__(self) -> None:
        self.defaults: dict[str, Any] = {}

    def __getattr__(self, kind: str) -> Any:
        def read_variable(name: str, default: Any, **_: Any) -> Any:
            self.defaults[name] = default
            return default

        return read_variable


def settings_of_the_code() -> dict[str, Any]:
    environment = _Recorder()
    config._read(environment)  # type: ignore[arg-type]
    return environment.defaults | {"INSTANCE_PATH": Path(environment.defaults["INSTANCE_PATH"]).relative_to(PROJECT)}


def test_the_table_of_settings_is_that_of_the_code():
    table = read("GETTING_STARTED.md").section(2, "Settings").content
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*)`)? *\| .+ \|$", table, re.MULTILINE)
    assert dict(rows) == {name: str(default) for name, default in settings_of_the_code().items()}
    assert len(rows) == len(dict(rows))


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    re.findall(r"^\| `(\w+)=(.+?)` \| `(.+)` \|$", read("TROUBLESHOOTING.md").content, re.MULTILINE),
)
def test_a_wrong_setting_is_told_as_described(monkeypatch, tmp_path, variable, value, message):
    monkeypatch.setattr(config, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr(os, "environ", {variable: value})
    with pytest.raises(config.ConfigurationError) as caught:
        config.Settings.from_env()
    assert matches(message, str(caught.value))


def test_the_first_resource_works_as_described(project, migrated_url):
    guide = read("GETTING_STARTED.md").section(2, "Add a Resource")
    for block in guide.blocks("python"):
        path = project / re.fullmatch(r"`(.+)`:", block.before)[1]
        path.parent.mkdir(exist_ok=True)
        path.write_text(block.code, encoding="utf-8")
    python(project, migrated_url, "-c", f"from {__name__} import *; use_the_first_resource()")
    for tool in ("ruff check", "ruff format --check"):
        python(project, "", "-m", *tool.split(), "api/resources/suppliers", "tests/resources/test_suppliers.py")
    python(project, "", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/resources/test_suppliers.py")


def use_the_first_resource() -> None:
    guide = read("GETTING_STARTED.md").section(2, "Add a Resource")
    app = create_app()
    run_flask_commands(app, guide.code("bash") + "flask db check\nflask seed --users 3 --products 2 --orders 1\n")
    Terminal(app.test_client()).run(guide.code("console"))
