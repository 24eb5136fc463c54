"""llama.cpp's C interface as it is in the pinned wheel: structures, functions, and a check that both are what we think.

The wheel's one shared object exports all of it. Its structures change between releases without a sign, so before
anything is called with one, `check` compares the defaults that the library fills in with those of the release that
these fields are from. A mismatch is an `EngineUnfit`, and generations go through the wheel's own server instead.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from ctypes import POINTER, Structure, c_bool, c_char_p, c_float, c_int8, c_int32, c_size_t, c_uint8, c_uint32, c_void_p
from pathlib import Path
from typing import Any

from weft.core.errors import EngineUnfit, MissingExtra

VERSION = "2026.10.11549"
"""The release of the wheel that these structures are from."""
SEQUENCES = 256
"""The most sequences that the library can hold in one context."""
SWITCHES = ("embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full", "kv_unified")


class ModelParams(Structure):
    """struct llama_model_params."""

    _fields_ = [
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int32),
        ("load_mode", c_int32),
        ("lazy_mode", c_int32),
        ("main_gpu", c_int32),
        ("tensor_split", c_void_p),
        ("progress_callback", c_void_p),
        ("progress_callback_user_data", c_void_p),
        ("kv_overrides", c_void_p),
        ("vocab_only", c_bool),
        ("check_tensors", c_bool),
        ("use_extra_bufts", c_bool),
        ("no_host", c_bool),
        ("no_alloc", c_bool),
        ("load_mtp", c_bool),
    ]


class ContextParams(Structure):
    """struct llama_context_params."""

    _fields_ = [
        *[(name, c_uint32) for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq")],
        *[(name, c_uint32) for name in ("n_outputs_max", "n_outputs_max_per_seq")],
        *[(name, c_int32) for name in ("n_threads", "n_threads_batch", "ctx_type", "rope_scaling_type")],
        *[(name, c_int32) for name in ("pooling_type", "attention_type", "flash_attn_type")],
        *[(name, c_float) for name in ("rope_freq_base", "rope_freq_scale", "yarn_ext_factor", "yarn_attn_factor")],
        *[(name, c_float) for name in ("yarn_beta_fast", "yarn_beta_slow")],
        ("yarn_orig_ctx", c_uint32),
        ("defrag_thold", c_float),
        ("cb_eval", c_void_p),
        ("cb_eval_user_data", c_void_p),
        ("type_k", c_int32),
        ("type_v", c_int32),
        ("moe_cache_size", c_size_t),
        ("abort_callback", c_void_p),
        ("abort_callback_data", c_void_p),
        *[(name, c_bool) for name in SWITCHES],
        ("samplers", c_void_p),
        ("n_samplers", c_size_t),
        ("ctx_other", c_void_p),
    ]


class Batch(Structure):
    """struct llama_batch."""

    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    ]


LOG = ctypes.CFUNCTYPE(None, c_int32, c_char_p, c_void_p)

UPDATE = "_ZN13llama_context13memory_updateEb"
"""Carries out what was only noted: keys to be turned, sequences to be copied. (A method: C has no name for it.)"""

_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "llama_version": (c_char_p, []),
    UPDATE: (c_bool, [c_void_p, c_bool]),
    "llama_log_set": (None, [LOG, c_void_p]),
    "llama_backend_init": (None, []),
    "llama_model_default_params": (ModelParams, []),
    "llama_context_default_params": (ContextParams, []),
    "llama_model_load_from_file": (c_void_p, [c_char_p, ModelParams]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_model_chat_template": (c_char_p, [c_void_p, c_char_p]),
    "llama_model_desc": (c_int32, [c_void_p, c_char_p, c_size_t]),
    "llama_model_n_ctx_train": (c_int32, [c_void_p]),
    "llama_init_from_model": (c_void_p, [c_void_p, ContextParams]),
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_n_ctx": (c_uint32, [c_void_p]),
    "llama_n_ctx_seq": (c_uint32, [c_void_p]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_vocab_is_eog": (c_bool, [c_void_p, c_int32]),
    "llama_vocab_is_control": (c_bool, [c_void_p, c_int32]),
    "llama_vocab_bos": (c_int32, [c_void_p]),
    "llama_vocab_eos": (c_int32, [c_void_p]),
    "llama_vocab_get_add_bos": (c_bool, [c_void_p]),
    "llama_tokenize": (c_int32, [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool]),
    "llama_token_to_piece": (c_int32, [c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool]),
    "llama_decode": (c_int32, [c_void_p, Batch]),
    "llama_get_logits_ith": (POINTER(c_float), [c_void_p, c_int32]),
    "llama_memory_can_shift": (c_bool, [c_void_p]),
    "llama_memory_seq_rm": (c_bool, [c_void_p, c_int32, c_int32, c_int32]),
    "llama_memory_seq_cp": (None, [c_void_p, c_int32, c_int32, c_int32, c_int32]),
    "llama_memory_seq_add": (None, [c_void_p, c_int32, c_int32, c_int32, c_int32]),
    "llama_memory_seq_pos_max": (c_int32, [c_void_p, c_int32]),
    "llama_state_seq_get_size": (c_size_t, [c_void_p, c_int32]),
    "llama_state_seq_get_data": (c_size_t, [c_void_p, POINTER(c_uint8), c_size_t, c_int32]),
    "llama_state_seq_set_data": (c_size_t, [c_void_p, POINTER(c_uint8), c_size_t, c_int32]),
}

_MODEL_DEFAULTS: dict[str, Any] = {
    "devices": None,
    "n_gpu_layers": -1,
    "split_mode": 1,
    "load_mode": -1,
    "lazy_mode": 1,
    "main_gpu": 0,
    "tensor_split": None,
    "kv_overrides": None,
    "vocab_only": False,
    "check_tensors": False,
    "use_extra_bufts": True,
    "no_host": False,
    "no_alloc": False,
    "load_mtp": False,
}
_CONTEXT_DEFAULTS: dict[str, Any] = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "n_rs_seq": 0,
    "n_outputs_max": 0,
    "n_outputs_max_per_seq": 1,
    "n_threads": 4,
    "n_threads_batch": 4,
    "ctx_type": 0,
    "rope_scaling_type": -1,
    "pooling_type": -1,
    "attention_type": -1,
    "flash_attn_type": -1,
    "rope_freq_base": 0.0,
    "yarn_ext_factor": -1.0,
    "yarn_attn_factor": -1.0,
    "yarn_beta_slow": -1.0,
    "yarn_orig_ctx": 0,
    "defrag_thold": -1.0,
    "cb_eval": None,
    "type_k": 1,
    "type_v": 1,
    "moe_cache_size": 0,
    "abort_callback": None,
    "embeddings": False,
    "offload_kqv": True,
    "no_perf": True,
    "op_offload": True,
    "swa_full": True,
    "kv_unified": False,
    "samplers": None,
    "n_samplers": 0,
    "ctx_other": None,
}


def fits() -> str:
    """Why this engine cannot run here, as far as can be told without loading the library; empty if nothing is known.
    Raises MissingExtra if the wheel is not installed."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingExtra("local models need the extra `local`: pip install 'weft[local]'")
    found = importlib.metadata.version("xllamacpp")
    if found != VERSION:
        return f"xllamacpp is {found}, and its structures are known of {VERSION} only; install that release"
    return ""


def library() -> Any:
    """The library, its functions declared, checked. Raises EngineUnfit if it is not the one we know."""
    unfit = fits()
    if unfit:
        raise EngineUnfit(unfit)
    spec = importlib.util.find_spec("xllamacpp")
    folder = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    objects = sorted(folder.glob("xllamacpp*.so"))
    if not objects:
        raise EngineUnfit(f"no shared object in {folder.name}; install xllamacpp {VERSION} again")
    return check(declared(ctypes.CDLL(str(objects[0]))))


def declared(loaded: Any) -> Any:
    """The library with the types of its functions. Raises EngineUnfit for one that is missing."""
    for name, (result, arguments) in _FUNCTIONS.items():
        try:
            function = getattr(loaded, name)
        except AttributeError:
            raise EngineUnfit(f"the library has no {name}; install xllamacpp {VERSION}") from None
        function.restype, function.argtypes = result, arguments
    return loaded


def check(loaded: Any) -> Any:
    """The library, if it fills in the defaults of the release that we know; else raises EngineUnfit."""
    wrong = [
        *_differences(loaded.llama_model_default_params(), _MODEL_DEFAULTS),
        *_differences(loaded.llama_context_default_params(), _CONTEXT_DEFAULTS),
    ]
    if wrong:
        raise EngineUnfit(
            f"the library's structures are not those of xllamacpp {VERSION} ({'; '.join(wrong[:3])}); install that"
        )
    return loaded


def _differences(filled: Structure, expected: dict[str, Any]) -> Iterator[str]:
    for name, value in expected.items():
        found = getattr(filled, name)
        if found != value:
            yield f"{type(filled).__name__}.{name} is {found}, not {value}"
