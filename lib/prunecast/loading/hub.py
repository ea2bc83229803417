"""Checkpoints of the Hugging Face hub: whether one can be served, in one request."""

import re
from typing import Any

from prunecast.errors import UserError

TIMEOUT_S = 10.0  # of the one request
HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def hub_options(checkpoint: str) -> dict[str, Any]:
    """Ask the hub for a checkpoint, so that the library that loads it does not repeat a request that cannot succeed.

    Args:
        checkpoint: Id of the hub.

    Returns:
        Arguments for `from_pretrained`: without a connection, that only files that are on this machine are read.

    Raises:
        UserError: No id of the hub has such a form, or the hub has no such checkpoint or gives no access to it.
    """
    from huggingface_hub import HfApi, constants, errors

    if not HUB_ID.fullmatch(checkpoint):
        raise UserError(f"there is no checkpoint folder {checkpoint}")
    if constants.HF_HUB_OFFLINE:
        return {"local_files_only": True}
    try:
        HfApi().model_info(checkpoint, timeout=TIMEOUT_S)
    except errors.GatedRepoError:
        raise UserError(f"checkpoint {checkpoint!r} is on the hub, but only for those who were given access") from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise UserError(
            f"checkpoint {checkpoint!r} is neither a folder, nor one in PRUNECAST_MODELS, nor on the hub"
        ) from None
    except Exception:  # of whichever library makes the request
        return {"local_files_only": True}
    return {}
