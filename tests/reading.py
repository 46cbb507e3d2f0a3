"""A body read as the server does it, up to the rows that the model is given."""

from __future__ import annotations

from mlnb.registry.signature import Signature
from mlnb.serving.codecs import decode
from mlnb.serving.service import Query


def read(content_type: str, body: bytes, signature: Signature, *, probabilities: bool = False) -> Query:
    """Return the query of a body, its rows coerced."""
    query = decode(content_type, body, signature, probabilities=probabilities)
    return query._replace(rows=signature.coerce(query.rows))
