"""Rotations and poses as robots write them, in float64.

Axes: any leading axes, then the representation. rot6d is the first two **rows** of the matrix (Zhou et al. 2019,
arXiv:1812.07035); a rotation vector is axis times angle in radians; a pose is xyz in metres, then its rotation.

    relative(P, Q) = Q^-1 P:  R_Q^T (p_P - p_Q),  R_Q^T R_P         the pose P seen from the frame of Q
"""

from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from svms_gr00t.core.errors import DataError

PoseFormat = Literal["xyz+rot6d", "xyz+rotvec"]
POSE_WIDTH: dict[str, int] = {"xyz+rot6d": 9, "xyz+rotvec": 6}


def rot6d_to_matrix(rot6d: Float[np.ndarray, "*n 6"]) -> Float[np.ndarray, "*n 3 3"]:
    """Rotation by Gram-Schmidt: the first row keeps its direction. Raises DataError for parallel or zero rows."""
    first, second = rot6d[..., :3], rot6d[..., 3:]
    length = np.linalg.norm(first, axis=-1, keepdims=True)
    _refuse_zero(length)
    first = first / length
    second = second - (first * second).sum(axis=-1, keepdims=True) * first
    length = np.linalg.norm(second, axis=-1, keepdims=True)
    _refuse_zero(length)
    second = second / length
    return np.stack([first, second, np.cross(first, second)], axis=-2)


def _refuse_zero(length: np.ndarray) -> None:
    if length.size and length.min() < 1e-9:
        hint = "Check the column order and the rotation convention of that key"
        raise DataError("rot6d", got="rows that are zero or parallel", want="two independent rows", hint=hint)


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
    pose: Float[np.ndarray, "*n D"], form: PoseFormat
) -> tuple[Float[np.ndarray, "*n 3"], Float[np.ndarray, "*n 3 3"]]:
    """Position and rotation matrix. Raises DataError when the width does not fit the format."""
    if pose.shape[-1] != POSE_WIDTH[form]:
        hint = "Give relative end-effector actions and their state key the same format"
        raise DataError(f"pose {form}", got=f"{pose.shape[-1]} numbers", want=f"{POSE_WIDTH[form]}", hint=hint)
    pose = pose.astype(np.float64)
    turn = pose[..., 3:]
    return pose[..., :3], rot6d_to_matrix(turn) if form == "xyz+rot6d" else rotvec_to_matrix(turn)


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
    """The inverse of `relative_pose`: back from the frame of `reference`."""
    (p, r), (q, s) = split_pose(relative, form), split_pose(reference, form)
    return join_pose((s @ p[..., None])[..., 0] + q, s @ r, form)
