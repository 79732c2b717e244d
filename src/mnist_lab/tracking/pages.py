"""Searches in MLflow that end at the last result, not at the first hundred or thousand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def all_pages(search: Callable[..., Any], *args: Any, **options: Any) -> list[Any]:
    """Return everything that one of ``MlflowClient``'s searches finds, however many pages it fills."""
    found: list[Any] = []
    page: str | None = None
    while True:
        results = search(*args, page_token=page, **options)
        found += results
        page = results.token
        if not page:
            return found
