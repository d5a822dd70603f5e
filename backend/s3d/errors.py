"""Every error a user can meet: one tree, each with a stable code and an exit code.

A message says what happened, where, with the value, and what to do about it.
"""


class S3DError(Exception):
    """Anything this package raises on purpose. code is stable: clients and logs may rely on it."""

    code = "E_INTERNAL"
    exit_code = 1


class UserError(S3DError):
    """Wrong use or bad input: the person can mend it. Exit code 2."""

    code = "E_INPUT"
    exit_code = 2


class ConfigError(UserError):
    """An option or configuration file is wrong (unknown key, value out of range)."""

    code = "E_CONFIG"


class ImageError(UserError):
    """An image file cannot be read or holds no usable image (truncated, constant, NaN)."""

    code = "E_IMAGE"


class GeometryError(UserError):
    """Two images that must share a grid do not, or a grid is impossible."""

    code = "E_GEOMETRY"


class LabelError(UserError):
    """A label value or name does not fit the dataset or the model."""

    code = "E_LABEL"


class DatasetError(UserError):
    """A dataset folder, catalogue or case store is missing something or empty."""

    code = "E_DATASET"


class BundleError(UserError):
    """A model bundle is damaged, of another schema, or does not fit the request."""

    code = "E_BUNDLE"


class CheckpointError(UserError):
    """A training checkpoint or foreign weight file cannot be used."""

    code = "E_CHECKPOINT"


class DeviceError(UserError):
    """The device or precision asked for is not available here."""

    code = "E_DEVICE"


class OutOfMemoryError(UserError):
    """The work does not fit into memory; the message names what to make smaller."""

    code = "E_MEMORY"


class StorageError(UserError):
    """A file cannot be written: disk full, no permission."""

    code = "E_STORAGE"


class TrainingDivergedError(UserError):
    """Too many steps in a row gave NaN or infinite gradients."""

    code = "E_DIVERGED"


class InterruptedRunError(UserError):
    """Ctrl-C or a polite request stopped the run after a complete checkpoint. Exit code 130, the shell's convention."""

    code = "E_INTERRUPTED"
    exit_code = 130


class DeviationError(S3DError):
    """A self-check found numbers that differ from the reference. Exit code 1: our fault, not the user's."""

    code = "E_DEVIATION"
