"""JSON documents in Python: what is changed in place, anywhere inside, is saved."""

import copy
import pickle

import pytest
from sqlalchemy import select

from api.core.database.documents import Document
from api.resources.products.models import Product
from tests.factories import ProductFactory

START = {"colour": "blue", "size": {"width": 5, "labels": ["S", "M"]}, "parts": [{"name": "lid"}, 3]}


def change(document, expression):
    exec(f"document{expression}", {"document": document})  # noqa: S102 - the change under test, written as one would


CHANGES = [
    "['colour'] = 'red'",
    "['size']['width'] = 6",
    "['size']['depth'] = {'cm': 1}",
    "['size']['labels'].append('L')",
    "['size']['labels'].extend(['L', 'XL'])",
    "['size']['labels'].insert(0, 'XS')",
    "['size']['labels'].remove('S')",
    "['size']['labels'].reverse()",
    "['size']['labels'].sort()",
    "['size']['labels'].clear()",
    "['size']['labels'].pop()",
    "['size']['labels'][0] = 'XS'",
    "['size']['labels'] += ['L']",
    "['size']['labels'] *= 2",
    "['parts'][0]['name'] = 'cap'",
    "['parts'][0].update(name='cap')",
    "['parts'][0].setdefault('weight', []).append(1)",
    "['size'].pop('width')",
    "['size'].popitem()",
    "['size'].clear()",
    "['size'] |= {'depth': 1}",
    ".setdefault('tags', []).append('new')",
    ".update(weight={'g': 5})",
]


@pytest.mark.parametrize("expression", CHANGES)
def test_a_change_in_place_is_saved(session, expression):
    product = ProductFactory(metadata_=copy.deepcopy(START))
    wanted = copy.deepcopy(START)
    change(wanted, expression)
    session.commit()
    session.expire_all()

    change(product.metadata_, expression)
    session.commit()

    session.expire_all()
    assert session.scalar(select(Product.metadata_)) == wanted


@pytest.mark.parametrize("expression", ["['del']", "['size']['labels'][0]"])
def test_a_removal_in_place_is_saved(session, expression):
    product = ProductFactory(metadata_={"del": 1, "size": {"labels": ["S", "M"]}})
    session.commit()

    exec(f"del document{expression}", {"document": product.metadata_})  # noqa: S102 - as above
    session.commit()

    saved = session.scalar(select(Product.metadata_))
    assert saved in ({"size": {"labels": ["S", "M"]}}, {"del": 1, "size": {"labels": ["M"]}})


def test_what_is_put_in_later_is_followed_as_well(session):
    product = ProductFactory(metadata_={})
    product.metadata_["size"] = {"labels": []}
    session.commit()

    product.metadata_["size"]["labels"].append({"name": "S"})
    session.commit()
    product.metadata_["size"]["labels"][0]["name"] = "M"
    session.commit()

    session.expire_all()
    assert product.metadata_ == {"size": {"labels": [{"name": "M"}]}}


def test_a_part_of_one_document_put_into_another_is_a_copy(session):
    first, second = ProductFactory(metadata_={"size": {"cm": 1}}), ProductFactory(metadata_={})
    second.metadata_["size"] = first.metadata_["size"]
    session.commit()

    second.metadata_["size"]["cm"] = 2
    session.commit()

    session.expire_all()
    assert (first.metadata_, second.metadata_) == ({"size": {"cm": 1}}, {"size": {"cm": 2}})


@pytest.mark.parametrize("value", [True, 1.0, "1"])
def test_a_change_of_type_alone_is_a_change(session, value):
    product = ProductFactory(metadata_={"n": [1]})
    session.commit()

    product.metadata_ = {"n": [value]}
    session.commit()

    session.expire_all()
    assert repr(product.metadata_["n"][0]) == repr(value)


def test_setting_an_equal_document_is_no_change(session):
    product = ProductFactory(metadata_={"n": [1], "m": {}})
    session.commit()
    product.metadata_ = {"m": {}, "n": [1]}
    assert not session.is_modified(product)


def test_reading_a_document_changes_nothing(session):
    product = ProductFactory(metadata_=copy.deepcopy(START))
    session.commit()

    product.metadata_.get("size", {}).get("labels", [])[:]
    list(product.metadata_.items())

    assert not session.is_modified(product)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda part: pickle.loads(pickle.dumps(part))])  # noqa: S301 - ours
def test_a_copy_of_a_part_is_an_ordinary_container(copied):
    part = Document(copy.deepcopy(START))["size"]

    assert copied(part) == START["size"]
    assert type(copied(part)) is dict
    assert type(copied(part)["labels"]) is list


def test_a_document_of_another_type_is_refused():
    with pytest.raises(ValueError, match="not accept"):
        Document.coerce("metadata", ["no", "object"])
