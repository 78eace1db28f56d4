"""Programs in both runtimes: equal answers, from many threads, and clear refusals."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from judged_models import write_mlp
from millrace import errors
from millrace.models.onnx_program import OnnxProgram
from millrace.models.openvino_program import OpenVinoProgram
from millrace.models.package import read_card
from millrace.models.program import Executable, open_program
from millrace_optimization.settings import VariantName
from millrace_optimization.variants import build, source_program


def load(directory: Path, runtime: str) -> Executable:
    card = read_card(write_mlp(directory / "m"))
    name: VariantName = "openvino_fp32" if runtime == "openvino" else "onnx_fp32"
    made = build(name, source_program(card), source_directory=directory / "m", directory=directory)
    return open_program(directory, made, num_threads=1)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_threads_that_share_a_program_get_their_own_answers(tmp_path: Path, runtime: str) -> None:
    program = load(tmp_path, runtime)
    inputs = [np.random.default_rng(i).normal(size=(i % 5 + 1, 8)).astype(np.float32) for i in range(200)]
    alone = [program.run({"features": x})["logits"] for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda x: program.run({"features": x})["logits"], inputs))
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(alone, together, strict=True))


def test_both_runtimes_answer_alike(tmp_path: Path) -> None:
    x = {"features": np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)}
    first, second = (load(tmp_path / r, r).run(x)["logits"] for r in ("onnx", "openvino"))
    assert np.allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_tensors_that_do_not_fit_are_refused_in_words(tmp_path: Path, runtime: str) -> None:
    program = load(tmp_path, runtime)
    with pytest.raises(errors.StageFailed, match="The program failed"):
        program.run({"features": np.zeros((1, 9), dtype=np.float32)})


@pytest.mark.parametrize(("kind", "name"), [(OnnxProgram, "a.onnx"), (OpenVinoProgram, "a.xml")])
def test_bytes_that_are_no_program_are_refused_in_words(
    tmp_path: Path, kind: type[OnnxProgram] | type[OpenVinoProgram], name: str
) -> None:
    (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(errors.InvalidData, match=f"{name} cannot be loaded: (?!Exception from)"):
        kind(tmp_path / name, num_threads=1)
