"""`flask import`: files into tables from the command line."""

from __future__ import annotations

import csv
import gzip
import json

import pytest
from sqlalchemy import func, select

from api.extensions import db
from api.resources.products.models import Product
from tests.factories import CategoryFactory, ProductFactory

HEADER = "sku,name,price,category.name"


@pytest.fixture
def run(database):
    CategoryFactory(name="Kitchen")
    runner = database.test_cli_runner()
    return lambda *arguments: runner.invoke(args=["import", *map(str, arguments)])


@pytest.fixture
def write(tmp_path):
    def file(name, *lines):
        path = tmp_path / name
        content = "\n".join(lines).encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return file


def number_of_products():
    db.session.rollback()
    return db.session.scalar(select(func.count()).select_from(Product))


@pytest.mark.parametrize("name", ["p.csv", "p.csv.gz", "P.CSV"])
def test_a_file_is_imported_and_counted(run, write, name):
    done = run("products", write(name, HEADER, "a,Mug,1,Kitchen", "b,Pot,2,Kitchen"))
    assert done.exit_code == 0, done.output
    assert "2 inserted, 0 updated, 0 unchanged, 0 rejected." in done.stdout
    assert number_of_products() == 2


def test_objects_by_the_line_are_recognised_by_their_name(run, write):
    row = {"sku": "a", "name": "Mug", "price": "1", "category.name": "Kitchen"}
    assert run("products", write("p.ndjson", json.dumps(row))).exit_code == 0
    assert number_of_products() == 1


def test_columns_are_mapped_and_rows_that_are_there_changed(run, write):
    ProductFactory(sku="a")
    path = write("p.csv", "Nummer,name,price,category.name", "a,Mug,1,Kitchen")
    done = run("products", path, "--map", "Nummer:sku", "--upsert", "sku", "--json")
    facts = json.loads(done.stdout)
    assert (facts["read"], facts["updated"], facts["inserted"]) == (1, 1, 0)


def test_rejects_are_told_and_nothing_is_written(run, write, tmp_path):
    path = write("p.csv", HEADER, "a,Mug,x,Kitchen", "b,Mug,1,Kitchen", "b,Mug,1,Kitchen")
    rejects = tmp_path / "rejects.csv"
    done = run("products", path, "--rejects", rejects)
    assert done.exit_code == 1
    assert "line 2, price: Must be an amount" in done.stdout
    assert "Nothing was written, because rows were rejected." in done.stderr
    assert [row[:2] for row in csv.reader(rejects.read_text().splitlines())] == [
        ["line", "column"],
        ["2", "price"],
        ["4", "sku"],
    ]
    assert number_of_products() == 0


def test_the_rest_is_written_where_that_is_wanted(run, write):
    done = run("products", write("p.csv", HEADER, "a,Mug,x,Kitchen", "b,Mug,1,Kitchen"), "--partial")
    assert done.exit_code == 0
    assert "1 inserted, 0 updated, 0 unchanged, 1 rejected." in done.stdout
    assert number_of_products() == 1


def test_a_dry_run_writes_nothing(run, write):
    done = run("products", write("p.csv", HEADER, "a,Mug,1,Kitchen"), "--dry-run")
    assert "1 inserted" in done.stdout
    assert "Nothing was written: this was a dry run." in done.stdout
    assert number_of_products() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["orders", "p.csv"], "orders cannot be imported."),
        (["products", "nowhere.csv"], "does not exist"),
        (["products", "p.txt"], "p.txt ends in neither .csv nor .ndjson; say which."),
        (["products", "p.csv", "--upsert", "name"], "There is no unique key 'name'"),
        (["products", "p.csv", "--map", "x"], "Must be column:field"),
        (["products", "p.csv"], "In the header: There is no field 'nme'; did you mean 'name'?"),
    ],
)
def test_mistakes_are_told_in_a_line(run, write, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    write("p.txt", HEADER)
    write("p.csv", "sku,nme,price,category.name")
    done = run(*arguments)
    assert done.exit_code != 0
    assert message in done.stderr
    assert "Traceback" not in done.output
