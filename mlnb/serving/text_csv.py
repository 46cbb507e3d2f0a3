"""Bodies of ``text/csv`` (RFC 4180): cells to values, by the kind of their field."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Literal

from mlnb.errors import InvalidInputError, MalformedBodyError, TooLargeError, nearest
from mlnb.registry.rows.columns import listed, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mlnb.registry.signature import Field, Signature

__all__ = ["Header", "read_csv"]

Header = Literal["present", "absent"] | None

_BOOLEANS = {"true": True, "false": False}
_MOST_COMMAS = 10**6  # in one line; each is a cell to allocate before its row can be seen to be too long
_SEND = "send UTF-8 text with a line of field names, then a line for each row, cells with commas in double quotes"


def read_csv(body: bytes, signature: Signature, *, header: Header, max_rows: int) -> list[list[Any]]:
    """Return the rows of a CSV body, in the model's order of fields.

    An empty cell is a missing value. A cell of a number, integer or boolean field is read as such (``true`` and
    ``false`` in any case); one that cannot be stays text, for the signature to name. Where the kind of a field is not
    known, a cell that looks like a number or a boolean is one.

    Whether the first line is a header:

    - ``header`` says so, if given: it is the parameter of that name of RFC 4180's media type;
    - a line that names all fields, in any order, is one; where it could be a row as well (fields named ``1``, ``2``),
      that is an error;
    - fields with names of their own need one: by position, two columns would be swapped without a word;
    - numbered fields (``x0``, ``x1``, ..) need none: a line is a row if some cell reads as a number, boolean or time of
      its field. Where all fields are text that cannot be seen, and is an error.

    Parameters
    ----------
    body : bytes
    signature : Signature
    header : {'present', 'absent'} or None
    max_rows : int

    Raises
    ------
    MalformedBodyError
        If it is no CSV.
    TooLargeError
        If it has too many rows, or a cell of more than 131,072 characters.
    InvalidInputError
        If its header does not name the fields, or may be one or not.
    """
    if signature.container == "tensor":
        raise InvalidInputError(
            "This model takes tensors, not a table; send application/x-npy or nested lists in JSON."
        )
    text = _text(body)
    records = _records(text, max_rows)
    first = next(records, None)
    if first is None:
        raise MalformedBodyError(f"The body is empty; {_SEND}.")
    has_header = _has_header(first, signature, header)
    places = _places(first, signature) if has_header and signature.fields else None
    convert = _converter(signature.fields, fast="_" not in text)
    rows = [] if has_header else [convert(first)]
    rows += [
        convert(record if places is None else _ordered(record, places, number)) for number, record in enumerate(records)
    ]
    _check_count(len(rows), max_rows)
    return rows


def _text(body: bytes) -> str:
    if b"\0" in body:
        raise MalformedBodyError(f"The body has a NUL byte at {body.index(0)}, so it is no CSV; {_SEND}.")
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MalformedBodyError(f"The body is no UTF-8 text at byte {error.start}; {_SEND}.") from None


def _records(text: str, max_rows: int) -> Iterator[list[str]]:
    """Yield the records, without blank lines."""
    reader = csv.reader(_lines(text.rstrip("\r\n")), strict=True)
    try:
        for number, record in enumerate(reader):
            _check_count(number, max_rows)  # blank lines are counted too, and one less than there are: the header
            if record:
                yield record
    except csv.Error as error:
        if "limit" in str(error):
            raise TooLargeError(
                f"A cell in line {reader.line_num} has over {csv.field_size_limit():,} characters; send it as JSON."
            ) from None
        raise MalformedBodyError(f"The body is no CSV in line {reader.line_num}: {error}; {_SEND}.") from None


def _check_count(rows: int, max_rows: int) -> None:
    if rows > max_rows:
        raise TooLargeError(f"More than {max_rows:,} rows in one request. Send them in parts.", accepted=max_rows)


def _lines(text: str) -> Iterator[str]:
    for line in io.StringIO(text, newline=""):
        if line.count(",") > _MOST_COMMAS:
            raise TooLargeError(f"A line of the CSV has more than {_MOST_COMMAS:,} commas.", accepted=_MOST_COMMAS)
        yield line


def _has_header(first: list[str], signature: Signature, header: Header) -> bool:
    if header is not None:
        return header == "present"
    if not signature.fields:
        return _needs_no_header(first, [_guess] * len(first))
    if len(first) > 1 and _are_places(first, signature):
        raise _ambiguous(first, "could be the columns' numbers, as pandas writes them, and a row as well")
    valued = [_PARSERS[field.kind] for field in signature.fields if field.kind != "text"]
    if sorted(first) == sorted(signature.names):
        if valued and all(_reads(cell, _guess) for cell in first):
            raise _ambiguous(first, "names the fields, and could be a row as well")
        return True
    if {cell.strip() for cell in first} & set(signature.names) or signature.named:
        return True
    parsers = [_PARSERS[field.kind] for field in signature.fields]
    return _needs_no_header(first, parsers)


def _needs_no_header(first: list[str], parsers: Sequence[Callable[[str], Any]]) -> bool:
    """Return False, for no header, if some cell reads as a value; else it cannot be known."""
    if any(_reads(cell, parse) for cell, parse in zip(first, parsers, strict=False)):
        return False
    raise _ambiguous(first, "names no field, and no cell of it reads as a number")


def _reads(cell: str, parse: Callable[[str], Any]) -> bool:
    return parse is not _as_it_is and (not cell or not isinstance(parse(cell), str))


def _ambiguous(first: list[str], why: str) -> InvalidInputError:
    return InvalidInputError(
        f"The first line of the CSV, {shown(first)}, {why}; say whether it is a header by the content type "
        "'text/csv; header=present' or 'text/csv; header=absent'."
    )


def _are_places(first: list[str], signature: Signature) -> bool:
    """Say whether a line counts the columns of a model that knows no names: 0, 1, 2."""
    return not signature.named and first == [str(place) for place in range(len(signature.fields))]


def _places(header: list[str], signature: Signature) -> list[int]:
    """Return where the columns of the fields are, or say how the header differs from their names."""
    names = signature.names
    if _are_places(header, signature):
        return list(range(len(names)))
    given = header if set(header) == set(names) else [name.strip() for name in header]
    example = f"the fields are: {listed(names)}; or send the rows in that order as 'text/csv; header=absent'"
    for name in given:
        if name not in signature.plan.known:
            hint = nearest(name[:80], names)
            raise InvalidInputError(
                f"The header of the CSV has {shown(name)}, which is no field; {hint}; {example}.", field=name[:80]
            )
    if missing := [name for name in names if name not in given]:
        raise InvalidInputError(f"The header of the CSV lacks {missing[0]!r}; {example}.", field=missing[0])
    if len(given) > len(names):
        raise InvalidInputError(f"The header of the CSV names a field twice; {example}.")
    places = {name: position for position, name in enumerate(given)}
    return [places[name] for name in names]


def _ordered(record: list[str], places: list[int], number: int) -> list[str]:
    if len(record) != len(places):
        raise InvalidInputError(
            f"Row {number} has {len(record)} cells; the header has {len(places)}.",
            row=number, given=len(record), accepted=len(places),
        )  # fmt: skip
    return [record[place] for place in places]


def _converter(fields: Sequence[Field], *, fast: bool) -> Callable[[list[str]], list[Any]]:
    """Return what turns cells into values; ``fast`` where no cell has the underscores that Python reads in numbers."""
    parsers = [_PARSERS[field.kind] for field in fields]

    def convert(record: list[str]) -> list[Any]:
        if len(parsers) != len(record):  # too long or short for the signature, which says so; or nothing is known
            return [_guess(cell) if cell else None for cell in record]
        return [parse(cell) if cell else None for parse, cell in zip(parsers, record, strict=True)]

    def convert_numbers(record: list[str]) -> list[Any]:
        try:
            return list(map(float, record))
        except ValueError:
            return convert(record)

    return convert_numbers if fast and fields and all(field.kind == "number" for field in fields) else convert


def _as_it_is(cell: str) -> Any:
    return cell


def _number(cell: str) -> Any:
    if "_" in cell:  # Python reads 1_000 as a number
        return cell
    try:
        return float(cell)
    except ValueError:
        return _BOOLEANS.get(cell.strip().lower(), cell)


def _whole(cell: str) -> Any:
    if "_" in cell:
        return cell
    try:
        return int(cell)
    except ValueError:
        return _number(cell)


def _guess(cell: str) -> Any:
    """Read a cell of a field of any kind; a name such as Nan or Infinity is text."""
    return _whole(cell) if cell.strip()[:1] in "+-.0123456789" or cell.strip().lower() in _BOOLEANS else cell


_PARSERS: dict[str, Callable[[str], Any]] = {
    "any": _guess,
    "boolean": _whole,
    "datetime": _as_it_is,
    "integer": _whole,
    "number": _number,
    "text": _as_it_is,
}
