"""The API's role owns nothing, the reader changes nothing, and neither finds what it does not need."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from api.core.database.roles import Roles, grant, provision, url_as
from api.extensions import db
from tests.factories import ProductFactory, UserFactory

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def as_role(settings):
    """`as_role(name)`: a connection of this role, told nothing."""
    engines = []

    def connect(name):
        engines.append(create_engine(url_as(settings.migration_url, name), isolation_level="AUTOCOMMIT"))
        return engines[-1].connect()

    yield connect
    for engine in engines:
        engine.dispose()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "ALTER TABLE products ADD COLUMN mine int",
        "ALTER TABLE products DISABLE TRIGGER ALL",
        "ALTER TABLE orders DISABLE ROW LEVEL SECURITY",
        "DROP POLICY orders_owner ON orders",
        "CREATE INDEX mine ON products (name)",
        "DROP TABLE order_items",
        "TRUNCATE order_items",
        "DROP FUNCTION record_history() CASCADE",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "SET session_replication_role = replica",
        "ALTER ROLE CURRENT_USER BYPASSRLS",
        "SELECT pg_read_file('postgresql.conf')",
        "COPY products TO PROGRAM 'true'",
        "UPDATE history SET actor = 'somebody else'",
        "DELETE FROM history",
        "INSERT INTO history (table_name, row_id, operation, transaction_id) VALUES ('users', '1', 'update', 1)",
        "UPDATE history_default SET actor = 'somebody else'",
        "DELETE FROM history_default",
        "UPDATE alembic_version SET version_num = 'none'",
        "SELECT make_history_partitions(12)",
    ],
)
@pytest.mark.parametrize("role", ["none", "backend_api_all_rows"])
def test_the_api_s_role_may_do_none_of_this(as_role, statement, role):
    with as_role(Roles().api) as connection:
        connection.execute(text(f"SET ROLE {role}"))
        with pytest.raises(DBAPIError, match=r"permission denied|must be (owner|able|superuser)|must have"):
            connection.execute(text(statement))


def test_the_api_s_role_owns_nothing(as_role):
    with as_role(Roles().api) as connection:
        names = f"'{Roles().api}', '{Roles().all_rows}', '{Roles().reader}'"
        for catalog, owner in (("pg_class", "relowner"), ("pg_proc", "proowner"), ("pg_namespace", "nspowner")):
            query = f"SELECT count(*) FROM {catalog} WHERE {owner}::regrole::text IN ({names})"  # noqa: S608 - of ours
            assert connection.scalar(text(query + (" AND relpersistence <> 't'" if catalog == "pg_class" else ""))) == 0


EVIL_CAST = """
CREATE TYPE pg_temp.evil AS ENUM ('a');
CREATE FUNCTION pg_temp.pwn(pg_temp.evil) RETURNS json LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE 'ALTER ROLE backend_api SUPERUSER'; RETURN '1'::json; END $$;
CREATE CAST (pg_temp.evil AS json) WITH FUNCTION pg_temp.pwn(pg_temp.evil);
CREATE TEMP TABLE users (id int, version int, e pg_temp.evil);
"""
FORGED_ROW = "CREATE TEMP TABLE orders (id text, version int, status text);"


@pytest.mark.parametrize("preparation", [EVIL_CAST, FORGED_ROW], ids=["a cast of its own", "a table of its own"])
@pytest.mark.parametrize("role", ["none", "backend_api_all_rows"])
def test_the_api_s_role_puts_no_trigger_of_ours_on_a_table_of_its_own(as_role, preparation, role, owner):
    table = "users" if "users" in preparation else "orders"
    functions = owner.scalars(
        text(
            "SELECT proname FROM pg_proc JOIN pg_namespace space ON space.oid = pronamespace "
            "WHERE prorettype = 'trigger'::regtype AND nspname = 'public'"
        )
    ).all()
    assert "record_history" in functions
    for function in functions:
        with as_role(Roles().api) as connection:
            connection.execute(text(f"SET ROLE {role}"))
            connection.connection.cursor().execute(preparation)
            trigger = f"CREATE TRIGGER t AFTER INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION public.{function}('id')"
            with pytest.raises(DBAPIError, match=rf"permission denied for function (public\.)?{function}"):
                connection.execute(text(trigger))
            connection.rollback()


def test_the_api_s_role_may_make_temporary_tables_as_imports_do(as_role):
    with as_role(Roles().api) as connection:
        connection.execute(text("CREATE TEMPORARY TABLE staged (id int)"))


def test_what_the_api_changes_is_recorded_though_it_may_not_write_the_history(session):
    product = ProductFactory()
    recorded = "SELECT count(*) FROM history WHERE table_name = 'products' AND row_id = :key"
    assert session.scalar(text(recorded), {"key": str(product.id)}) == 1


def test_the_reader_sees_all_rows_but_no_secret(as_role):
    UserFactory()
    with as_role(Roles().reader) as connection:
        assert connection.scalar(text("SELECT count(username) FROM users")) == 1
        for column in ("users.password_hash", "api_keys.hash", "auth_refresh_tokens.hash"):
            table, name = column.split(".")
            with pytest.raises(ProgrammingError, match="permission denied"):
                connection.execute(text(f"SELECT {name} FROM {table}"))  # noqa: S608 - from above


@pytest.mark.parametrize("statement", ["UPDATE products SET name = 'x'", "CREATE TABLE mine (id int)"])
def test_the_reader_changes_nothing_even_when_it_asks_for_a_writing_transaction(as_role, statement):
    with as_role(Roles().reader) as connection:
        with pytest.raises(DBAPIError, match="read-only transaction"):
            connection.execute(text(statement))
        connection.execute(text("SET default_transaction_read_only = off"))
        with pytest.raises(DBAPIError, match="permission denied"):
            connection.execute(text(statement))


def test_to_provision_again_changes_nothing(owner):
    rights = "SELECT relname, relacl::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
    before = owner.execute(text(rights)).all()
    done = provision(owner.connection(), Roles(), {})
    assert done == []
    assert grant(owner.connection(), Roles(), db.metadata)
    assert owner.execute(text(rights)).all() == before


def test_a_new_role_needs_a_password(owner):
    with pytest.raises(LookupError, match="other_api"):
        provision(owner.connection(), Roles("other_api", "other_reader"), {"other_reader": "x"})


def test_a_new_table_is_served_once_rights_are_given(owner):
    owner.execute(text("CREATE TABLE later (id int PRIMARY KEY, name text, token_hash text)"))
    grant(owner.connection(), Roles(), db.metadata)
    privileges = "SELECT has_table_privilege('backend_api', 'later', 'INSERT'), {}"
    shown = "has_column_privilege('backend_reader', 'later', 'name', 'SELECT')"
    hidden = "NOT has_column_privilege('backend_reader', 'later', 'token_hash', 'SELECT')"
    assert all(owner.execute(text(privileges.format(f"{shown}, {hidden}"))).one())


def test_where_there_are_no_roles_nothing_is_given(owner):
    assert not grant(owner.connection(), Roles("other_api", "other_reader"), db.metadata)


def test_an_admin_who_is_no_superuser_can_provision(settings):
    """As on a managed server."""
    superuser = create_engine(settings.migration_url, isolation_level="AUTOCOMMIT")
    connection = superuser.connect()
    connection.execute(text("CREATE ROLE managed LOGIN CREATEROLE PASSWORD 'managed'"))
    connection.execute(text("CREATE DATABASE managed OWNER managed"))
    url = make_url(settings.migration_url).set(username="managed", password="managed", database="managed")
    engine = create_engine(url)
    roles = Roles("managed_api", "managed_reader")
    try:
        with engine.begin() as admin:
            made = provision(admin, roles, {"managed_api": "a", "managed_reader": "b"})
            admin.execute(text("CREATE TABLE secured (id int); ALTER TABLE secured ENABLE ROW LEVEL SECURITY"))
            assert grant(admin, roles, db.metadata)
            policies = "SELECT policyname FROM pg_policies ORDER BY 1"
            assert admin.scalars(text(policies)).all() == ["secured_all_rows", "secured_reader"]
        assert made == ["managed_api", "managed_api_all_rows", "managed_reader"]
        with create_engine(url.set(username="managed_reader", password="b")).connect() as reader:
            assert reader.scalar(text("SELECT current_setting('default_transaction_read_only')")) == "on"
            reader.engine.dispose()
    finally:
        engine.dispose()
        connection.execute(text("DROP DATABASE managed WITH (FORCE)"))
        for name in ("managed_api", "managed_api_all_rows", "managed_reader", "managed"):
            connection.execute(text(f"DROP OWNED BY {name}"))
            connection.execute(text(f"DROP ROLE {name}"))
        connection.close()
        superuser.dispose()


@pytest.mark.parametrize("name", ["pg_api", "api; DROP TABLE users", "Api", "", "a" * 60, "api-role"])
def test_names_that_would_have_to_be_quoted_are_refused(name):
    with pytest.raises(ValueError, match="is no name for a role"):
        Roles(api=name)
