"""vLLM's Model Runner V2, which runs on GPUs, run here on CPU tensors and in Triton's interpreter.

On a GPU vLLM uses another model runner than its CPU build, with async scheduling: other prompt log-probabilities, other
sampling kernels, other timing of aborts. `v2.py` starts processes that use it without a GPU; the tests compare every live family,
path and kind of request with transformers in float32. What a CPU cannot show (CUDA graphs, FlashAttention, NCCL) is in `tests/gpu`.

A part runs in `make test`, all of it in `make check-all` or with `pytest -m gpu_runner`.
"""
