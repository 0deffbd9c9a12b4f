"""Refusals of the Hugging Face hub, in words."""

from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

LOGIN = "hf auth login, or set HF_TOKEN"


def refusal(error: BaseException) -> str | None:
    """The reason why the hub refuses a file, and the way out, as the end of a sentence; None: another trouble."""
    if isinstance(error, GatedRepoError):
        page = str(error.response.url).partition("/resolve/")[0]
        return f"wants its licence accepted at {page}, and a login ({LOGIN})"
    if isinstance(error, RepositoryNotFoundError):
        return f"is not on the hub, or not for you: check the name, and for a private repository {LOGIN}"
    if (status := status_of(error)) in (401, 403):
        return f"cannot be read with this token ({status}): {LOGIN} with another, or none for what is public"
    return None


def status_of(error: BaseException | None) -> int | None:
    """The status of the hub's answer; None for another trouble."""
    return getattr(getattr(error, "response", None), "status_code", None)
