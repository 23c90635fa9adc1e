"""Rotations and poses as robots write them, in float64.

Axes: any leading axes, then the representation. rot6d is the first two **rows** of the matrix (Zhou et al. 2019,
arXiv:1812.07035); a rotation vector is axis times angle in radians; a pose is xyz in metres, then its rotation.

    relative(P, Q) = Q^-1 P:  R_Q^T (p_P - p_Q),  R_Q^T R_P         the pose P seen from the frame of Q
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from svms_gr00t.core.errors import DataError

PoseFormat = Literal["xyz+rot6d", "xyz+rotvec"]
POSE_WIDTH: dict[str, int] = {"xyz+rot6d": 9, "xyz+rotvec": 6}
_TINY = 1e-9


def rot6d_to_matrix(rot6d: Float[np.ndarray, "*n 6"]) -> Float[np.ndarray, "*n 3 3"]:
    """Rotation by Gram-Schmidt: the first row keeps its direction. Raises DataError for parallel or zero rows."""
    if not independent_rows(rot6d).all():
        hint = "Check the column order and the rotation convention of that key"
        raise DataError("rot6d", got="rows that are zero or parallel", want="two independent rows", hint=hint)
    return some_rotation(rot6d)


def independent_rows(rot6d: Float[np.ndarray, "*n 6"]) -> Bool[np.ndarray, "*n"]:
    """Where the two rows span a plane, so that they say which rotation is meant."""
    first, second = rot6d[..., :3], rot6d[..., 3:]
    return np.asarray(~_is_zero(first) & ~_is_zero(_beside(_unit(first), second), second))


def some_rotation(rot6d: Float[np.ndarray, "*n 6"]) -> Float[np.ndarray, "*n 3 3"]:
    """`rot6d_to_matrix` of what a model predicts, which may be clipped to two parallel rows: always a rotation.

    Independent rows give the same bits. A row that says no direction gets that of an axis, the one that the other row
    has least of; two rows of zeros give no turn.
    """
    first, second = rot6d[..., :3], rot6d[..., 3:]
    first = _unit(np.where(_is_zero(first)[..., None], _least_axis(second, otherwise=0), first))
    beside = _beside(first, second)
    lost = _is_zero(beside, second)[..., None]
    second = _unit(np.where(lost, _beside(first, _least_axis(first, otherwise=1)), beside))
    return np.stack([first, second, np.cross(first, second)], axis=-2)


def _beside(unit: Float[np.ndarray, "*n 3"], row: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """What of `row` is perpendicular to a unit vector."""
    return row - (unit * row).sum(axis=-1, keepdims=True) * unit


def _unit(rows: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(length < _TINY, 1.0, length)


def _is_zero(rows: Float[np.ndarray, "*n 3"], of: Float[np.ndarray, "*n 3"] | None = None) -> Bool[np.ndarray, "*n"]:
    """Shorter than rounding leaves of a row of that length, or of one."""
    whole = 1.0 if of is None else np.maximum(1.0, np.linalg.norm(of, axis=-1))
    return np.asarray(np.linalg.norm(rows, axis=-1) < _TINY * whole)


def _least_axis(rows: Float[np.ndarray, "*n 3"], *, otherwise: int) -> Float[np.ndarray, "*n 3"]:
    """The axis that each row has least of; `otherwise` where a row is zero."""
    least = np.where(_is_zero(rows), otherwise, np.abs(rows).argmin(axis=-1))
    return np.eye(3)[least]


def matrix_to_rot6d(matrix: Float[np.ndarray, "*n 3 3"]) -> Float[np.ndarray, "*n 6"]:
    """First two rows, flattened."""
    return matrix[..., :2, :].reshape(*matrix.shape[:-2], 6)


def rotvec_to_matrix(rotvec: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3 3"]:
    """Rodrigues' formula."""
    return Rotation.from_rotvec(rotvec.reshape(-1, 3)).as_matrix().reshape(*rotvec.shape[:-1], 3, 3)


def matrix_to_rotvec(matrix: Float[np.ndarray, "*n 3 3"]) -> Float[np.ndarray, "*n 3"]:
    """Axis times angle, angle in [0, pi]."""
    return Rotation.from_matrix(matrix.reshape(-1, 3, 3)).as_rotvec().reshape(*matrix.shape[:-2], 3)


def split_pose(
    pose: Float[np.ndarray, "*n D"], form: PoseFormat, *, predicted: bool = False
) -> tuple[Float[np.ndarray, "*n 3"], Float[np.ndarray, "*n 3 3"]]:
    """Position and rotation matrix. Raises DataError for another width than the format's, and for what is no rotation
    unless a model `predicted` it."""
    if pose.shape[-1] != POSE_WIDTH[form]:
        hint = "Give relative end-effector actions and their state key the same format"
        raise DataError(f"pose {form}", got=f"{pose.shape[-1]} numbers", want=f"{POSE_WIDTH[form]}", hint=hint)
    pose = pose.astype(np.float64)
    turn = pose[..., 3:]
    if form == "xyz+rotvec":
        return pose[..., :3], rotvec_to_matrix(turn)
    return pose[..., :3], some_rotation(turn) if predicted else rot6d_to_matrix(turn)


def join_pose(
    position: Float[np.ndarray, "*n 3"], matrix: Float[np.ndarray, "*n 3 3"], form: PoseFormat
) -> Float[np.ndarray, "*n D"]:
    """The inverse of `split_pose`."""
    turn = matrix_to_rot6d(matrix) if form == "xyz+rot6d" else matrix_to_rotvec(matrix)
    return np.concatenate([position, turn], axis=-1)


def relative_pose(
    pose: Float[np.ndarray, "*n D"], reference: Float[np.ndarray, "*n D"], form: PoseFormat
) -> Float[np.ndarray, "*n D"]:
    """`pose` in the frame of `reference`."""
    (p, r), (q, s) = split_pose(pose, form), split_pose(reference, form)
    to_reference = np.swapaxes(s, -1, -2)
    return join_pose((to_reference @ (p - q)[..., None])[..., 0], to_reference @ r, form)


def absolute_pose(
    relative: Float[np.ndarray, "*n D"], reference: Float[np.ndarray, "*n D"], form: PoseFormat
) -> Float[np.ndarray, "*n D"]:
    """The inverse of `relative_pose`: back from the frame of `reference`.

    `relative` is a prediction, and always becomes some pose; a measured `reference` that is none raises DataError.
    """
    (p, r), (q, s) = split_pose(relative, form, predicted=True), split_pose(reference, form)
    return join_pose((s @ p[..., None])[..., 0] + q, s @ r, form)
