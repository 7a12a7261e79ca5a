"""The few errors a user can meet. Each message is one sentence: what, where, what to do."""


class HandCaptureError(Exception):
    """Base of every error that is told to the user as one sentence, without a traceback."""

    exit_code = 2


class FootageError(HandCaptureError):
    """The video or image sequence cannot be read."""


class BatchError(HandCaptureError):
    """Some of many clips could not be captured; the others could, and are."""

    exit_code = 3


class TakeError(HandCaptureError):
    """A Take file is damaged, foreign or cannot be written."""


class HandModelError(HandCaptureError):
    """A hand model file is missing, foreign or not trusted."""


class SettingsError(HandCaptureError):
    """An option has a value that cannot work; the message names the good ones."""


class OutputError(HandCaptureError):
    """A result cannot be written where the user wants it."""


class CheckpointError(HandCaptureError):
    """A file of network weights is missing, damaged, foreign or not trusted."""


class DataSetError(HandCaptureError):
    """A data set is missing, incomplete or laid out in another way."""


class GpuRuntimeError(HandCaptureError):
    """The runtime of the DIR network cannot be set up or used."""


class ExchangeError(HandCaptureError):
    """Results of another program are damaged or laid out in a way that is not known."""


class RendererError(HandCaptureError):
    """Synthetic pictures cannot be drawn on this machine."""
