"""Rotations as arrays: (w, x, y, z) quaternions, rotation vectors and 3x3 matrices. numpy only.

Every function works on any number of leading axes. Matrices act on column vectors.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Below this angle (radians) the series of sin(x)/x is exact to double precision.
_SMALL_ANGLE = 1e-8

_FEW = 128
"""Numbers up to which calls of NumPy cost more than its arithmetic; what is shown live is a frame at a time."""

_TERMS = np.array([[0, 5, 10, 15], [1, 4, 11, 14], [2, 7, 8, 13], [3, 6, 9, 12]])
_SIGNS = np.array([[1, -1, -1, -1], [1, 1, 1, -1], [1, -1, 1, 1], [1, 1, -1, 1]], np.int8)
"""Which of the sixteen products a_i b_j make up w, x, y and z of a product, in the order of their sum."""


def multiply(a: Array, b: Array) -> Array:
    """Hamilton product of quaternions [..., 4]: the rotation b followed by a."""
    if max(a.size, b.size) <= _FEW:
        products = a[..., :, None] * b[..., None, :]
        terms = products.reshape(*products.shape[:-2], 16).take(_TERMS, axis=-1) * _SIGNS
        return ((terms[..., 0] + terms[..., 1]) + terms[..., 2]) + terms[..., 3]
    aw, ax, ay, az = a[..., 0], a[..., 1], a[..., 2], a[..., 3]
    bw, bx, by, bz = b[..., 0], b[..., 1], b[..., 2], b[..., 3]
    w = aw * bw - ax * bx - ay * by - az * bz
    product = np.empty((*w.shape, 4), w.dtype)
    product[..., 0] = w
    product[..., 1] = aw * bx + ax * bw + ay * bz - az * by
    product[..., 2] = aw * by - ax * bz + ay * bw + az * bx
    product[..., 3] = aw * bz + ax * by - ay * bx + az * bw
    return product


def inverse(quaternion: Array) -> Array:
    """Inverse of unit quaternions [..., 4]."""
    return quaternion * np.array([1.0, -1.0, -1.0, -1.0], dtype=quaternion.dtype)


def rotate(quaternion: Array, vector: Array) -> Array:
    """Turn vectors [..., 3] by unit quaternions [..., 4]."""
    w, xyz = quaternion[..., :1], quaternion[..., 1:]
    twice_cross = 2.0 * np.cross(xyz, vector)
    return vector + w * twice_cross + np.cross(xyz, twice_cross)


def from_rotation_vector(vector: Array) -> Array:
    """Exponential map: rotation vectors [..., 3] in radians to unit quaternions [..., 4]."""
    angle = np.linalg.norm(vector, axis=-1, keepdims=True)
    half = 0.5 * angle
    scale = np.where(angle > _SMALL_ANGLE, np.sin(half) / np.maximum(angle, _SMALL_ANGLE), 0.5)
    return np.concatenate([np.cos(half), scale * vector], axis=-1)


def to_rotation_vector(quaternion: Array) -> Array:
    """Logarithm map: unit quaternions [..., 4] to the shortest rotation vectors [..., 3] in radians."""
    quaternion = np.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    sine = np.linalg.norm(quaternion[..., 1:], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, quaternion[..., :1])
    return quaternion[..., 1:] * np.where(sine > _SMALL_ANGLE, angle / np.maximum(sine, _SMALL_ANGLE), 2.0)


def to_matrix(quaternion: Array) -> Array:
    """Unit quaternions [..., 4] to rotation matrices [..., 3, 3]."""
    w, x, y, z = np.moveaxis(quaternion, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def from_matrix(matrix: Array) -> Array:
    """Rotation matrices [..., 3, 3] to unit quaternions [..., 4] with w >= 0.

    The four products q_i * q are read off the matrix and the longest is taken, which is exact at
    every angle (Shepperd 1978).
    """
    m = matrix
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 2, 0] + m[..., 0, 2], m[..., 2, 1] + m[..., 1, 2]
    candidates = np.stack(
        [
            np.stack([1 + xx + yy + zz, wx, wy, wz], axis=-1),
            np.stack([wx, 1 + xx - yy - zz, xy, xz], axis=-1),
            np.stack([wy, xy, 1 - xx + yy - zz, yz], axis=-1),
            np.stack([wz, xz, yz, 1 - xx - yy + zz], axis=-1),
        ],
        axis=-2,
    )
    diagonal = np.diagonal(candidates, axis1=-2, axis2=-1)
    longest = diagonal.argmax(axis=-1)[..., None, None]
    quaternion = np.take_along_axis(candidates, longest, axis=-2)[..., 0, :]
    quaternion = quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
    return np.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def angle_between(a: Array, b: Array) -> Array:
    """Angle in radians [...] of the rotation from a to b, quaternions [..., 4]."""
    difference = multiply(inverse(a), b)
    return 2.0 * np.arctan2(np.linalg.norm(difference[..., 1:], axis=-1), np.abs(difference[..., 0]))


def slerp(start: Array, end: Array, share: Array) -> Array:
    """Unit quaternions a `share` [...] of the shortest way from `start` to `end` [..., 4] (Shoemake 1985)."""
    step = to_rotation_vector(multiply(inverse(start), end))
    return multiply(start, from_rotation_vector(np.asarray(share)[..., None] * step))


def make_continuous(quaternion: Array) -> Array:
    """Flip signs along the first axis (time) so that neighbours lie on the same half sphere, [T, ..., 4]."""
    if len(quaternion) < 2:
        return quaternion
    flips = np.where(np.sum(quaternion[1:] * quaternion[:-1], axis=-1) < 0, -1.0, 1.0)
    signs = np.concatenate([np.ones_like(quaternion[:1, ..., 0]), np.cumprod(flips, axis=0)])
    return quaternion * signs[..., None].astype(quaternion.dtype)


def nearest_rotation(matrix: Array) -> Array:
    """The rotation closest to matrices [..., 3, 3] in the Frobenius norm (Kabsch 1976)."""
    u, _, vt = np.linalg.svd(matrix)
    sign = np.sign(np.linalg.det(u @ vt))
    u = u.copy()
    u[..., :, 2] *= sign[..., None]
    return u @ vt
