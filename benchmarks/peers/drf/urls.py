"""The routes."""

from __future__ import annotations

from django.urls import path

from benchmarks.peers.drf import views

urlpatterns = [
    path("api/v1/products", views.ProductList.as_view()),
    path("api/v1/products/detailed", views.DetailedProductList.as_view()),
    path("api/v1/products/numbered", views.NumberedProductList.as_view()),
    path("api/v1/products/search", views.SearchedProductList.as_view()),
    path("api/v1/products/<int:pk>", views.ProductDetail.as_view()),
    path("api/v1/orders", views.OrderCreate.as_view()),
    path("api/v1/orders/<uuid:pk>", views.OrderDetail.as_view()),
]
