"""Read pickles that hold arrays, such as MANO's, without running anything that is in them. numpy only.

A pickle is a program. This reader knows a short list of names, and each stands for code of this file that
keeps what it is given: not even numpy's own way of rebuilding an array is run on a stranger's data. The
bytes become arrays only afterwards, in `to_array`.
"""

import io
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Entries of the largest sparse matrix that is expanded: a joint regressor has 16 rows.
_LARGEST_MATRIX = 16 * 100_000


class RefusedPickleError(Exception):
    """A pickle asks for something that no file of arrays needs; the message says what."""


def load_arrays(data: bytes) -> Any:
    """The object in a pickle of any protocol, Python 2 included; `to_array` makes its fields arrays.

    Raises:
        RefusedPickleError: the pickle asks for a name or a type that is not on the list.
        Exception: anything, as a damaged pickle can fail anywhere; nothing of it has run.
    """
    return _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()


def to_array(value: Any) -> Array:
    """The array inside a field of a pickle: plain, chumpy or sparse (made dense).

    Raises:
        RefusedPickleError: the array does not hold numbers or letters.
        TypeError, ValueError, IndexError, KeyError, AttributeError, RecursionError: it is damaged.
    """
    if isinstance(value, _Array):
        _version, shape, kind, columns_first, data = value.state
        return _fill(data, kind, shape, columns_first)
    if isinstance(value, _Wrapped):
        return to_array(value.state["x"])
    if isinstance(value, _Selected):
        state = value.state
        chosen = to_array(state["a"]).ravel()[to_array(state["idxs"]).astype(np.int64).ravel()]
        return chosen.reshape(tuple(state["preferred_shape"])) if "preferred_shape" in state else chosen
    if isinstance(value, _SparseColumns | _SparseRows):
        state = value.state
        rows, columns = (int(size) for size in state["_shape" if "_shape" in state else "shape"])
        if rows * columns > _LARGEST_MATRIX:
            raise ValueError("the matrix is too large for a hand")
        starts = to_array(state["indptr"]).astype(np.int64)
        outer = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
        inner = to_array(state["indices"]).astype(np.int64)
        dense = np.zeros((rows, columns))
        place = (inner, outer) if isinstance(value, _SparseColumns) else (outer, inner)
        np.add.at(dense, place, to_array(state["data"]))
        return dense
    return np.asarray(value)


class _Inert:
    """Stands in for a class of a library: keeps the state, does nothing with it."""

    def __new__(cls) -> "_Inert":
        made = object.__new__(cls)
        made.state = None
        return made

    state: Any

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Inert):
    """A numpy array: (version, shape, type, Fortran order, bytes)."""


class _Type(_Inert):
    """A numpy type: `code`, and in its state the byte order."""

    code = ""

    def to_numpy(self) -> Any:
        """The type, if it is one of plain numbers or letters."""
        kind = np.dtype(self.code)
        if kind.kind not in "biufSU":
            raise RefusedPickleError("it holds an array that is not of numbers")
        order: Any = None if self.state is None else self.state[1]
        return kind if order is None else kind.newbyteorder(order)


class _Wrapped(_Inert):
    """A chumpy value: `x` holds the array."""


class _Selected(_Inert):
    """A chumpy selection: entries `idxs` of `a`, in `preferred_shape`."""


class _SparseColumns(_Inert):
    """A compressed sparse column matrix of scipy."""


class _SparseRows(_Inert):
    """A compressed sparse row matrix of scipy."""


def _make_array(subtype: object, *_start: object) -> _Inert:
    """numpy's first step of rebuilding an array: an empty one, filled by its state."""
    if subtype is not _ARRAY:
        raise RefusedPickleError("an array is not built as numpy writes it")
    return _Array()


def _make_type(code: object, *_flags: object) -> _Inert:
    kind = _Type()
    kind.code = str(code)
    kind.to_numpy()
    return kind


def _make_scalar(kind: object, data: object) -> Any:
    return _fill(data, kind, (1,), False)[0]


def _make_filled_array(data: object, kind: object, shape: tuple[int, ...], order: str) -> Array:
    """How numpy rebuilds an array from protocol 5 on."""
    return _fill(data, kind, shape, order == "F")


def _fill(data: Any, kind: object, shape: Any, columns_first: bool) -> Array:
    """An array from its bytes, which a pickle of Python 2 holds as a latin-1 text."""
    if not isinstance(kind, _Type):
        raise RefusedPickleError("it holds an array of unknown type")
    data = data.encode("latin1") if isinstance(data, str) else data
    return np.frombuffer(data, kind.to_numpy()).reshape(shape, order="F" if columns_first else "C")


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in protocol 2."""
    if encoding != "latin1":
        raise RefusedPickleError("it holds bytes in an unknown encoding")
    return text.encode("latin1")


def _make_object(kind: type, *_base: object) -> _Inert:
    if not (isinstance(kind, type) and issubclass(kind, _Inert)):
        raise RefusedPickleError("it holds an object of unknown type")
    return kind()


_ARRAY = object()
_OBJECT = object()
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _make_type,
    ("numpy.core.multiarray", "_reconstruct"): _make_array,
    ("numpy._core.multiarray", "_reconstruct"): _make_array,
    ("numpy.core.numeric", "_frombuffer"): _make_filled_array,
    ("numpy._core.numeric", "_frombuffer"): _make_filled_array,
    ("numpy.core.multiarray", "scalar"): _make_scalar,
    ("numpy._core.multiarray", "scalar"): _make_scalar,
    ("_codecs", "encode"): _encode,
    ("copy_reg", "_reconstructor"): _make_object,
    ("copyreg", "_reconstructor"): _make_object,
    ("__builtin__", "object"): _OBJECT,
    ("builtins", "object"): _OBJECT,
    ("__builtin__", "set"): set,
    ("builtins", "set"): set,
    ("scipy.sparse.csc", "csc_matrix"): _SparseColumns,
    ("scipy.sparse._csc", "csc_matrix"): _SparseColumns,
    ("scipy.sparse.csr", "csr_matrix"): _SparseRows,
    ("scipy.sparse._csr", "csr_matrix"): _SparseRows,
    ("chumpy.ch", "Ch"): _Wrapped,
    ("chumpy", "Ch"): _Wrapped,
    ("chumpy.reordering", "Select"): _Selected,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Finds only the names of `_ALLOWED`, and for each of them only code of this file."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise RefusedPickleError(f"it asks for {module}.{name}, which no hand model needs") from None

    def persistent_load(self, _identity: Any) -> Any:
        raise RefusedPickleError("it refers to data outside the file")
