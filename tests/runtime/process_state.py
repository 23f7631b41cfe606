"""What a process is set to, before and after codecs are imported, loaded and used; run by a test.

Prints, as JSON, what differs between the two, by step.
"""

from __future__ import annotations

import decimal
import json
import locale
import logging
import os
import pickle
import random
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile


def state() -> dict[str, Any]:
    """Everything that a process or a thread is set to and that a library could change."""
    return {
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "threads": torch.get_num_threads(),
        "threads between operations": torch.get_num_interop_threads(),
        "generator of torch": torch.get_rng_state().tolist(),
        "seeds kept for devices not yet used": len(torch.cuda._queued_calls),
        "generator of numpy": pickle.dumps(np.random.get_state()),
        "generator of random": random.getstate(),
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "anomalies": torch.is_anomaly_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul precision": torch.get_float32_matmul_precision(),
        "mkldnn": torch.backends.mkldnn.enabled,
        "cudnn": (
            torch.backends.cudnn.enabled,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.allow_tf32,
            torch.backends.cuda.matmul.allow_tf32,
        ),
        "denormals": (torch.tensor([1e-310], dtype=torch.float64, device="cpu") * 1.0).tolist(),
        "sharing": torch.multiprocessing.get_sharing_strategy(),
        "numpy's errors": np.geterr(),
        "decimal": repr(decimal.getcontext()),
        # A library's filters for warnings of its own kinds (sympy has one) concern nobody else.
        "warnings": repr([f for f in warnings.filters if f[2].__module__ == "builtins"]),
        "who shows warnings": repr(warnings.showwarning),
        "root logger": (logging.root.level, logging.root.handlers, logging.root.disabled),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "blocked signals": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "pictures": (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES),
        "locale": locale.setlocale(locale.LC_ALL),
        # The one variable is torch's: it notes there where torch.compile keeps its work.
        "environment": {k: v for k, v in os.environ.items() if k != "TORCHINDUCTOR_CACHE_DIR"},
        "folder": Path.cwd(),
        "hooks": (sys.excepthook, sys.unraisablehook, sys.displayhook),
        "recursion": sys.getrecursionlimit(),
    }


def set_otherwise() -> None:
    """Settings that a program has for its own reasons, none of them the default."""
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_num_threads(3)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("medium")
    torch.manual_seed(5)
    np.random.seed(6)
    random.seed(7)
    np.seterr(all="raise")
    warnings.simplefilter("error", ResourceWarning)
    Image.MAX_IMAGE_PIXELS = 10**6
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    logging.root.setLevel(logging.ERROR)
    decimal.getcontext().prec = 7


def main(photo: Path, base: Path, path: Path, otherwise: bool) -> None:
    """Take the state before and after each step."""
    picture = Image.open(photo).convert("RGB").crop((0, 0, 90, 70))
    if otherwise:
        set_otherwise()
    found: dict[str, list[str]] = {}

    def step(name: str, do: Callable[[], Any]) -> Any:
        before = state()
        result = do()
        after = state()
        found[name] = [key for key, value in before.items() if after[key] != value]
        return result

    def imported() -> Any:
        import mpa_core.codec
        import mpa_core.plugins.registry

        mpa_core.plugins.registry.registry()
        return mpa_core.codec.MPACodec

    codec_class = step("import", imported)
    step("random weights", lambda: codec_class.from_preset("mpa-tiny", seed=3))
    codec = step("from_pretrained", lambda: codec_class.from_pretrained(base))
    step("load_path", lambda: codec.load_path(path))
    for profile in ("exact", "float"):
        for reproducible in (False, True):
            data = step(
                f"encode {profile} {reproducible}",
                lambda p=profile, r=reproducible: codec.encode(picture, profile=p, reproducible=r),
            )
        step(f"decode {profile}", lambda d=data: codec.decode(d))
        step(f"decode {profile} by a path", lambda d=data: codec.decode(d, {"cls": 0.5}))
        step(f"conceal {profile}", lambda d=data: codec.decode(d, errors="conceal"))
        coded = step(f"open {profile}", lambda d=data: codec.open(d))
        step(f"latents {profile}", coded.latents)
        step(f"render {profile}", lambda c=coded: c.render("cls", output="array"))
        files = step(
            f"encode many {profile}", lambda p=profile: codec.encode_many([picture] * 2, profile=p)
        )
        step(f"decode many {profile}", lambda f=files: codec.decode_many(f, "cls", output="tensor"))
    step("to", lambda: codec.to("cpu"))
    with_folder = photo.parent / "saved"
    step("save_pretrained", lambda: codec.save_pretrained(with_folder))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*(Path(name) for name in sys.argv[1:4]), otherwise=sys.argv[4] == "otherwise")
