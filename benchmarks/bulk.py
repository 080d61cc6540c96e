"""What a list saves: `python -m benchmarks.bulk`, on a database of its own.

Products are sent to the application itself, without a web server in between: one by one, and in lists.
"""

from __future__ import annotations

import tempfile
import time
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask_migrate import upgrade
from sqlalchemy import text

from api.app import create_app
from api.config import Settings
from api.extensions import db

if TYPE_CHECKING:
    from flask.testing import FlaskClient

PRODUCTS = 1000
URL = "/api/v1/products"


def product(number: int, **values: Any) -> dict[str, Any]:
    """A body that makes a product."""
    return {"sku": f"S{number}", "name": "Mug", "price": "1.00", "category_id": 1, **values}


def milliseconds(client: FlaskClient, method: str, url: str, *bodies: Any) -> float:
    """How long it takes to send all `bodies`."""
    begin = time.perf_counter()
    for body in bodies:
        response = client.open(url, method=method, json=body)
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            raise SystemExit(response.text)
    return 1000 * (time.perf_counter() - begin)


def main() -> None:
    """Print milliseconds for 1,000 products in each way."""
    with tempfile.TemporaryDirectory() as directory:
        app = create_app(
            Settings(app_env="test", log_level="WARNING", instance_path=Path(directory), rate_limit_address="")
        )
        with app.app_context():
            upgrade()
            with db.transaction() as session:
                session.execute(text("INSERT INTO categories (name) VALUES ('Kitchen')"))
        client, many = app.test_client(), range(PRODUCTS)
        items = [product(number) for number in many]
        print(f"create, one by one  {milliseconds(client, 'POST', URL, *items):7.0f} ms")
        new = [product(PRODUCTS + number) for number in many]
        print(f"create, in a list   {milliseconds(client, 'POST', f'{URL}/bulk', {'items': new}):7.0f} ms")
        priced = [product(number, price="2.00") for number in many]
        print(
            f"upsert, all there   {milliseconds(client, 'POST', f'{URL}/bulk?upsert=sku', {'items': priced}):7.0f} ms"
        )
        by_filter = f"{URL}?price=2.00&max_affected={PRODUCTS}"
        print(f"change, by filter   {milliseconds(client, 'PATCH', by_filter, {'price': '3.00'}):7.0f} ms")
        wrong = [*new[:-1], product(-1, category_id=99)]
        again = [item | {"sku": f"again {item['sku']}"} for item in wrong]
        partial = f"{URL}/bulk?atomic=false"
        print(f"create, one wrong   {milliseconds(client, 'POST', partial, {'items': again}):7.0f} ms")
        db.shutdown()


if __name__ == "__main__":
    main()
