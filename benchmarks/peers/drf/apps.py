"""The application, as Django knows it."""

from __future__ import annotations

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """A label without dots."""

    name = "benchmarks.peers.drf"
    label = "shop"
