"""The views: Django REST framework's generic ones, with its paginators and django-filter."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.postgres.search import SearchQuery, SearchRank
from django.db import IntegrityError
from django.db.models import F, Prefetch, Value
from django.utils.cache import get_conditional_response
from django_filters import rest_framework as filters
from rest_framework import generics, serializers
from rest_framework.pagination import CursorPagination, PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response

from benchmarks.peers.drf.models import Order, OrderItem, Product, Tag
from benchmarks.peers.drf.serializers import (
    ConflictError,
    DetailedOrderSerializer,
    DetailedProductSerializer,
    NewOrderSerializer,
    NewProductSerializer,
    ProductSerializer,
)

PAGE_SIZE = 20


class ProductFilter(filters.FilterSet):
    """What a list can be asked for."""

    category_id = filters.NumberFilter(required=True)
    price__gte = filters.NumberFilter(field_name="price", lookup_expr="gte", min_value=0)

    class Meta:
        """Options."""

        model = Product
        fields: ClassVar[list[str]] = []


class KeysetPagination(CursorPagination):
    """A page by cursor."""

    page_size = PAGE_SIZE
    page_size_query_param = "limit"
    max_page_size = 100
    ordering = ("price", "id")

    def get_paginated_response(self, data: Any) -> Response:
        """The page as all contenders write it."""
        return Response({"items": data, "next": self.get_next_link()})


class NumberedPagination(PageNumberPagination):
    """A page by number, with the total."""

    page_size = PAGE_SIZE
    page_size_query_param = "per_page"
    max_page_size = 100

    def get_paginated_response(self, data: Any) -> Response:
        """The page as all contenders write it."""
        return Response({"items": data, "next": self.get_next_link(), "total": self.page.paginator.count})


class SearchPagination(PageNumberPagination):
    """A page by number, without the total: one row more than is shown tells whether there is a next page."""

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:  # noqa: ARG002
        """The rows of the page."""
        self.request = request
        self.number = serializers.IntegerField(min_value=1).run_validation(request.query_params.get("page", "1"))
        start = (self.number - 1) * PAGE_SIZE
        rows = list(queryset[start : start + PAGE_SIZE + 1])
        self.more = len(rows) > PAGE_SIZE
        return rows[:PAGE_SIZE]

    def get_paginated_response(self, data: Any) -> Response:
        """The page as all contenders write it."""
        query = self.request.query_params.copy()
        query["page"] = str(self.number + 1)
        following = f"{self.request.path}?{query.urlencode()}" if self.more else None
        return Response({"items": data, "next": following})


class ProductList(generics.ListCreateAPIView):
    """Products: a page by cursor, and new ones."""

    queryset = Product.objects.all()
    filter_backends: ClassVar[list[Any]] = [filters.DjangoFilterBackend]
    filterset_class = ProductFilter
    pagination_class: type[Any] = KeysetPagination

    def get_serializer_class(self) -> type[serializers.BaseSerializer]:
        """One to read with and one to show."""
        return NewProductSerializer if self.request.method == "POST" else ProductSerializer

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """A new product."""
        try:
            response = super().create(request, *args, **kwargs)
        except IntegrityError as error:
            raise ConflictError("This value is taken.") from error
        response["ETag"] = f'"{response.data["id"]}-{response.data["version"]}"'
        response["Location"] = f"{request.path}/{response.data['id']}"
        return response


class DetailedProductList(generics.ListAPIView):
    """A page by cursor, with category and tags."""

    queryset = Product.objects.select_related("category").prefetch_related(
        Prefetch("tags", queryset=Tag.objects.order_by("id"))
    )
    filter_backends = ProductList.filter_backends
    filterset_class = ProductFilter
    pagination_class = KeysetPagination
    serializer_class = DetailedProductSerializer


class NumberedProductList(generics.ListAPIView):
    """A page by number, with the total."""

    queryset = Product.objects.order_by("price", "id")
    filter_backends = ProductList.filter_backends
    filterset_class = ProductFilter
    pagination_class = NumberedPagination
    serializer_class = ProductSerializer


class SearchedProductList(generics.ListAPIView):
    """A page of what has the words, best first."""

    pagination_class = SearchPagination
    serializer_class = ProductSerializer

    def get_queryset(self) -> Any:
        """What has the words."""
        text = serializers.CharField(max_length=200).run_validation(self.request.query_params.get("q"))
        query = SearchQuery(text, config="english", search_type="websearch")
        rank = SearchRank(F("search_vector"), query, cover_density=True, normalization=Value(1))
        return Product.objects.filter(search_vector=query).order_by(rank.desc(), "-id")


class ProductDetail(generics.RetrieveAPIView):
    """One product; 304 where the client has this version."""

    queryset = Product.objects.all()
    serializer_class = ProductSerializer

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002 - the framework's signature
        """Look at the version before the product is serialized."""
        product = self.get_object()
        etag = f'"{product.pk}-{product.version}"'
        if (unchanged := get_conditional_response(request, etag=etag)) is not None:
            unchanged["ETag"] = etag
            return unchanged
        return Response(self.get_serializer(product).data, headers={"ETag": etag})


class OrderCreate(generics.CreateAPIView):
    """New orders."""

    serializer_class = NewOrderSerializer


class OrderDetail(generics.RetrieveAPIView):
    """One order, with its user, items and their products."""

    queryset = Order.objects.select_related("user").prefetch_related(
        Prefetch("items", queryset=OrderItem.objects.select_related("product").defer("product__search_vector"))
    )
    serializer_class = DetailedOrderSerializer
