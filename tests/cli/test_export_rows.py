"""`flask export`: files of rows from the command line."""

from __future__ import annotations

import gzip
import json

import pytest

from api.core.database.copying import CopyOut
from api.core.errors import UnavailableError
from tests.factories import CategoryFactory, ProductFactory


@pytest.fixture
def run(database):
    runner = database.test_cli_runner()
    return lambda *arguments: runner.invoke(args=["export", *map(str, arguments)])


def test_rows_are_written_to_standard_output(run):
    ProductFactory(sku="a")
    assert run("products", "--fields", "sku").stdout == "sku\na\n"


def test_the_same_filters_sort_and_embeds_as_in_the_api(run):
    for sku in ("a", "b", "c"):
        ProductFactory(sku=sku, category=CategoryFactory(name=f"Shelf {sku}"))
    done = run("products", "sku__in=a,b", "--sort=-sku", "--fields=sku,category.name", "--include=category")
    assert done.stdout == "sku,category.name\nb,Shelf b\na,Shelf a\n"


@pytest.mark.parametrize(
    ("name", "options", "is_packed"),
    [("p.ndjson", (), False), ("p.ndjson.gz", (), True), ("p.txt", ("--format", "ndjson", "--gzip"), True)],
)
def test_format_and_packing_follow_from_the_name_or_are_given(run, tmp_path, name, options, is_packed):
    ProductFactory(sku="a")
    assert run("products", "-o", tmp_path / name, *options).exit_code == 0
    content = (tmp_path / name).read_bytes()
    assert json.loads(gzip.decompress(content) if is_packed else content)["sku"] == "a"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_that_is_not_complete_bears_no_name(run, tmp_path, monkeypatch):
    ProductFactory()
    (tmp_path / "p.csv").write_text("of yesterday")

    def fail(_copy):
        raise UnavailableError

    monkeypatch.setattr(CopyOut, "__next__", fail)
    done = run("products", "-o", tmp_path / "p.csv")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "not available" in done.stderr
    assert [path.read_text() for path in tmp_path.iterdir()] == ["of yesterday"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["product"], "there is no 'product'; possible: categories, orders, products"),
        (["products", "prise=3"], "prise: There is no parameter 'prise'; did you mean 'price'?"),
        (["products", "price"], "'price' is no filter; write field=value."),
        (["products", "--fields", "secret"], "fields: There is no field 'secret'"),
        (["products", "-o", "/nowhere/p.csv"], "/nowhere/p.csv: No such file or directory"),
    ],
)
def test_mistakes_are_told_in_a_line(run, arguments, message):
    done = run(*arguments)
    assert done.exit_code != 0
    assert message in done.stderr
    assert "Traceback" not in done.output
