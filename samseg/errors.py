"""The exceptions that are no defects: wrong input, which the user can mend, and a run that was told to stop."""


class InputError(ValueError):
    """Something the user gave cannot be used: a file, a setting, a checkpoint.

    The message is one line that stands alone: which file or key, what was found, what was expected, how to mend it.
    The command-line tools print it and exit with code 2; library users catch it as a ValueError.
    """


class ConfigError(InputError):
    """A setting is unknown, of the wrong type, or has a value that is not allowed."""


class WeightsError(InputError):
    """A checkpoint cannot be found, read, or does not fit the encoder."""


class Terminated(Exception):
    """The run was asked to stop (SIGTERM), has saved its state, and can be resumed. The tools exit with code 143."""
